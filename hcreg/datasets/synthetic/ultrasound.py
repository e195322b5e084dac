"""How a convex probe turns tissue into a picture: beams, speckle, shadows, log compression, scan conversion.

Everything is computed where a scanner computes it, on a grid of samples along beams, and turned into a
rectangular picture last. All lengths are in pixels of that picture; depth grows along axis 0, beams lie
along axis 1.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

NUM_SAMPLES = 440
NUM_BEAMS = 352

# The lateral width of the beam is interpolated between this many constant-width copies.
_NUM_FOCAL_ZONES = 3


@dataclass(frozen=True)
class Sector:
    """Fan of a convex probe in a picture: the part of an annulus between two beams.

    Parameters
    ----------
    apex_x_px, apex_y_px : float, px
        Where all beams would meet, usually above the picture (negative y).
    radius_min_px, radius_max_px : float, px
        First and last sample of each beam, measured from the apex.
    angle_min_rad, angle_max_rad : float, radians
        Leftmost and rightmost beam, from the downward vertical, positive to the right.
    """

    apex_x_px: float
    apex_y_px: float
    radius_min_px: float
    radius_max_px: float
    angle_min_rad: float
    angle_max_rad: float

    @property
    def step_px(self):
        """Distance of two samples along a beam, px."""
        return (self.radius_max_px - self.radius_min_px) / (NUM_SAMPLES - 1)

    @cached_property
    def radii_px(self):
        """Distance of each sample from the apex, float32 array of shape (num_samples, 1), px."""
        return np.linspace(self.radius_min_px, self.radius_max_px, NUM_SAMPLES, dtype=np.float32)[:, None]

    @cached_property
    def directions(self):
        """Unit vector (x, y) of each beam, two float32 arrays of shape (1, num_beams)."""
        angles = np.linspace(self.angle_min_rad, self.angle_max_rad, NUM_BEAMS, dtype=np.float32)[None]
        return np.sin(angles), np.cos(angles)

    @cached_property
    def grid(self):
        """Picture coordinates x, y of every sample, two float32 arrays (num_samples, num_beams), px."""
        sine, cosine = self.directions
        return self.apex_x_px + self.radii_px * sine, self.apex_y_px + self.radii_px * cosine

    def contains(self, points):
        """Which points, an array of shape (n, 2) in px, the fan covers: bool array of shape (n,)."""
        dx, dy = points[:, 0] - self.apex_x_px, points[:, 1] - self.apex_y_px
        radius, angle = np.hypot(dx, dy), np.arctan2(dx, dy)
        inside = (radius >= self.radius_min_px) & (radius <= self.radius_max_px)
        return inside & (angle >= self.angle_min_rad) & (angle <= self.angle_max_rad)

    def scan_convert(self, samples, shape):
        """Picture of shape (height, width) from samples (num_samples, num_beams); 0 outside the fan."""
        height, width = shape
        dx = np.arange(width, dtype=np.float32)[None] - np.float32(self.apex_x_px)
        dy = np.arange(height, dtype=np.float32)[:, None] - np.float32(self.apex_y_px)
        radius, angle = cv2.cartToPolar(*np.broadcast_arrays(dy, dx))
        angle[angle > np.pi] -= np.float32(2 * np.pi)
        angle -= np.float32(self.angle_min_rad)
        angle *= np.float32((NUM_BEAMS - 1) / (self.angle_max_rad - self.angle_min_rad))
        radius -= np.float32(self.radius_min_px)
        radius *= np.float32(1 / self.step_px)
        return cv2.remap(samples, angle, radius, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def smooth_noise(rng, shape, knots):
    """Smooth random field of zero mean and roughly unit deviation.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape, knots : tuple of two int
        Shape of the field, and of the coarse grid of independent normal values it passes through.

    Returns
    -------
    float32 array of shape `shape`
    """
    # The margin lets the cubic spline run past the border instead of flattening there.
    coarse = rng.standard_normal((knots[0] + 2, knots[1] + 2), dtype=np.float32)
    rows = np.linspace(1, knots[0], shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(1, knots[1], shape[1], dtype=np.float32)[None]
    return 1.25 * cv2.remap(coarse, *np.broadcast_arrays(columns, rows), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def received_echo(rng, scatter, mirror, axial_sigma, lateral_sigmas):
    r"""Magnitude of the echo of random scatterers and smooth reflectors, blurred as by the probe.

    Each sample holds very many scatterers of random phase, so its echo is a complex normal number; the
    point spread function adds neighbours. Without reflectors the magnitude :math:`m` therefore follows
    Rayleigh's law :math:`p(m) = 2 m e^{-m^2 / s^2} / s^2` where `scatter` is constantly :math:`s`, and
    Rice's law with them.

    Parameters
    ----------
    rng : numpy.random.Generator
    scatter : float32 array of shape (num_samples, num_beams)
        Root mean square magnitude of the speckle.
    mirror : float32 array of shape (num_samples, num_beams)
        Magnitude of the in-phase echo of smooth surfaces.
    axial_sigma : float, samples
        Width of the pulse (standard deviation of a Gaussian).
    lateral_sigmas : float array of shape (num_samples,), beams
        Width of the beam at each depth.

    Returns
    -------
    float32 array of shape (num_samples, num_beams)
    """
    widths = np.linspace(np.min(lateral_sigmas), np.max(lateral_sigmas) + 1e-3, _NUM_FOCAL_ZONES)
    # Position of each depth between the copies, and the weights of the two copies it lies between.
    position = np.interp(lateral_sigmas, widths, np.arange(_NUM_FOCAL_ZONES))
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(_NUM_FOCAL_ZONES)))
    # Two blurred copies of one noise field are correlated: the sum has unit power only after this division.
    overlap = np.sqrt(2 * np.outer(widths, widths) / np.add.outer(widths**2, widths**2))
    speckle_weights = weights / np.sqrt(np.einsum("di,ij,dj->d", weights, overlap, weights))[:, None]
    scale = scatter * np.float32(np.sqrt(0.5))
    parts = [rng.standard_normal(scatter.shape, dtype=np.float32) * scale for _ in range(2)]
    # Along a beam the pulse is the same everywhere, so that blur is done once.
    columns = cv2.getGaussianKernel(2 * int(np.ceil(3 * axial_sigma)) + 1, axial_sigma, cv2.CV_32F)
    mirror = cv2.sepFilter2D(mirror, -1, np.ones(1, np.float32), columns)
    parts = [cv2.sepFilter2D(part, -1, np.ones(1, np.float32), columns / np.linalg.norm(columns)) for part in parts]
    real, imaginary = np.zeros_like(scatter), np.zeros_like(scatter)
    for zone, width in enumerate(widths):
        depths = np.flatnonzero(weights[:, zone])
        if not depths.size:
            continue
        rows = slice(depths[0], depths[-1] + 1)
        kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * width)) + 1, width, cv2.CV_32F)
        norm = np.float32(np.linalg.norm(kernel))
        unit, single = kernel / norm, np.ones(1, np.float32)
        weight = weights[rows, zone, None].astype(np.float32)
        speckle_weight = speckle_weights[rows, zone, None].astype(np.float32)
        real[rows] += speckle_weight * cv2.sepFilter2D(parts[0][rows], -1, unit, single)
        imaginary[rows] += speckle_weight * cv2.sepFilter2D(parts[1][rows], -1, unit, single)
        real[rows] += weight * cv2.sepFilter2D(mirror[rows], -1, kernel, single)
    return cv2.magnitude(real, imaginary)


def beam_widths(focus_depth, waist, far_width):
    """Lateral width of a focused beam at each depth, float array of shape (num_samples,), in beams.

    Parameters
    ----------
    focus_depth : float in [0, 1]
        Depth of the focus as a part of the fan's depth.
    waist, far_width : float, beams
        Width at the focus, and at the depth furthest from it.
    """
    depth = np.linspace(0, 1, NUM_SAMPLES)
    away = np.abs(depth - focus_depth) / max(focus_depth, 1 - focus_depth)
    return np.sqrt(waist**2 + (far_width**2 - waist**2) * away**2)


def transmitted_db(attenuation_db_per_px, step_px, floor_db=-30.0):
    """Loss on the way to each sample and back, float32 array in dB (negative where echoes are weakened).

    Negative attenuation stands for less than the scanner's own depth correction assumes: behind fluid, echoes
    are stronger than elsewhere.
    """
    loss = np.cumsum(attenuation_db_per_px, axis=0, dtype=np.float32)
    return np.maximum(-2 * np.float32(step_px) * loss, np.float32(floor_db))


def log_compress(magnitude, gain_db, dynamic_range_db, gamma):
    """Grey levels 0 to 255 (float32) of echo magnitudes in the top `dynamic_range_db` below -`gain_db`."""
    decibel = np.float32(20 / np.log(10)) * cv2.log(np.maximum(magnitude, np.float32(1e-7)))
    level = np.clip((decibel + np.float32(gain_db)) / np.float32(dynamic_range_db) + 1, 0, 1)
    return 255 * cv2.pow(level, gamma)
