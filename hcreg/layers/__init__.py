"""Keras layers that the papers' networks share, or that measure inside a network."""

from hcreg.layers.batch_normalization import BatchNormalization
from hcreg.layers.ellipse_moments import EllipseMoments

__all__ = ["BatchNormalization", "EllipseMoments"]
