"""Keras layers that the papers' networks share, or that measure inside a network."""

from hcreg.layers.attention_module import AttentionModule
from hcreg.layers.batch_normalization import BatchNormalization
from hcreg.layers.batch_statistics import BatchStatistics
from hcreg.layers.cam import GradCAM, HiResCAM
from hcreg.layers.conv3d import Conv3D
from hcreg.layers.ellipse_moments import EllipseMoments
from hcreg.layers.main_piece import MainPiece
from hcreg.layers.relevance_sums import RelevanceSums, SwapOutside
from hcreg.layers.side_check import SideCheck
from hcreg.layers.soft_voxel_count import SoftVoxelCount
from hcreg.layers.tapping import BeforeActivation, HeldStatistics

__all__ = [
    "AttentionModule",
    "BatchNormalization",
    "BatchStatistics",
    "BeforeActivation",
    "Conv3D",
    "EllipseMoments",
    "GradCAM",
    "HeldStatistics",
    "HiResCAM",
    "MainPiece",
    "RelevanceSums",
    "SideCheck",
    "SoftVoxelCount",
    "SwapOutside",
]
