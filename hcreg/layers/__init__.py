"""Keras layers that the papers' networks share, or that measure inside a network."""

from hcreg.layers.ellipse_moments import EllipseMoments

__all__ = ["EllipseMoments"]
