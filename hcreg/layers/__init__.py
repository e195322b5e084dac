"""Keras layers that the papers' networks share, or that measure inside a network."""

from hcreg.layers.batch_normalization import BatchNormalization
from hcreg.layers.cam import GradCAM, HiResCAM
from hcreg.layers.ellipse_moments import EllipseMoments
from hcreg.layers.relevance_sums import RelevanceSums, SwapOutside
from hcreg.layers.tapping import BeforeActivation, HeldStatistics

__all__ = [
    "BatchNormalization",
    "BeforeActivation",
    "EllipseMoments",
    "GradCAM",
    "HeldStatistics",
    "HiResCAM",
    "RelevanceSums",
    "SwapOutside",
]
