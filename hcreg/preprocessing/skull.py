"""The region of the skull around an annotated head: where a network that measures a circumference should look."""

from dataclasses import replace

import numpy as np

__all__ = ["skull_mask"]


def skull_mask(ellipse, shape, inner=0.85, outer=1.15):
    """Share of each pixel in the ring around an ellipse.

    Parameters
    ----------
    ellipse : hcreg.geometry.Ellipse
        The annotated head, px of the frame.
    shape : (height_px, width_px)
    inner, outer : float
        Where the ring begins and ends, in semi-axes of the ellipse.

    Returns
    -------
    ndarray of float32, shape (height_px, width_px, 1)
        In [0, 1]; for `hcreg.models.with_attention`.

    Raises
    ------
    ValueError
        If `inner` and `outer` are not in order, or no part of the ring lies within the frame.

    Examples
    --------
    >>> from hcreg.geometry import Ellipse
    >>> ring = skull_mask(Ellipse(20.0, 20.0, 10.0, 8.0, 0.0), (40, 40), inner=0.5, outer=1.0)
    >>> round(float(ring.sum() / (np.pi * 10 * 8)), 2)  # three quarters of the ellipse
    0.75
    """
    if not 0 <= inner < outer:
        raise ValueError(f"A ring lies between inner and outer, 0 <= inner < outer. Received: {inner} and {outer}.")
    larger = _scaled(ellipse, outer).coverage(shape)
    smaller = _scaled(ellipse, inner).coverage(shape) if inner else np.zeros_like(larger)
    ring = np.clip(larger - smaller, 0.0, 1.0).astype(np.float32)
    if not ring.any():
        raise ValueError(
            f"No part of the ring around {ellipse} lies within a frame of {tuple(shape)} pixels. Bring the ellipse to "
            "the frame's pixels first (Ellipse.transformed)."
        )
    return ring[..., None]


def _scaled(ellipse, factor):
    a, b = ellipse.semi_axis_a_px * factor, ellipse.semi_axis_b_px * factor
    return replace(ellipse, semi_axis_a_px=a, semi_axis_b_px=b)
