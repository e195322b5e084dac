"""A fetal head as a solid: cranium, face and ears, the bones and brain within, the neck below, and its exact volume.

Everything is in the head's own axes, in lengths of half its cranium (half of the occipito-frontal diameter): x to one
side, y to the front, z to the vertex. The origin is the centre of the cranium.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

# How softly two parts of the head run into each other.
_BLEND = 0.09
_VOLUME_STEP = 0.045  # of the grid that the volume is counted on: halving it changes the volume by less than 0.05 %
_NUM_DIRECTIONS = 600


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the axes.

    Attributes
    ----------
    center, semi_axes : (float, float, float)
    """

    center: tuple[float, float, float]
    semi_axes: tuple[float, float, float]

    def distance(self, points):
        """Roughly the distance to the surface, negative inside: array of the points' shape.

        Parameters
        ----------
        points : sequence of three float32 arrays that broadcast
            x, y, z.

        Notes
        -----
        Exact on the surface itself; its gradient is 1 there.
        """
        scaled = [(p - np.float32(c)) / np.float32(s) for p, c, s in zip(points, self.center, self.semi_axes)]
        level = np.sqrt(sum(q * q for q in scaled)) + np.float32(1e-6)
        slope = np.sqrt(sum((q / np.float32(s)) ** 2 for q, s in zip(scaled, self.semi_axes))) + np.float32(1e-6)
        return level * (level - 1) / slope

    def facing(self, points, direction):
        """How squarely a surface of this form meets a beam at each point: 0 along it, 1 square to it.

        Parameters
        ----------
        points, direction : sequence of three float32 arrays that broadcast
            The direction is of unit length.
        """
        normal = [(p - np.float32(c)) / np.float32(s * s) for p, c, s in zip(points, self.center, self.semi_axes)]
        length = np.sqrt(sum(n * n for n in normal)) + np.float32(1e-6)
        return np.abs(sum(n * d for n, d in zip(normal, direction))) / length

    def on_both_sides(self):
        """The ellipsoid and its mirror image on the other side of the head."""
        x, y, z = self.center
        return self, replace(self, center=(-x, y, z))


@dataclass(frozen=True)
class Head:
    """One fetus's head.

    Attributes
    ----------
    cranium : Ellipsoid
    bulge : float
        By which part the cranium is wider at the back than in its middle.
    features : tuple of Ellipsoid
        Face, jaw, nose, lips, brow, cheeks and ears.
    neck_tilt : float
        How far to the front the neck comes down, per length; negative to the back.
    neck_radius : float
    scale_mm : float, mm
        Length of half the cranium.
    """

    cranium: Ellipsoid
    bulge: float
    features: tuple
    neck_tilt: float
    neck_radius: float
    scale_mm: float

    def cranium_distance(self, points):
        """Roughly the distance to the cranium's surface, negative inside, in lengths of half the cranium."""
        x, y, z = points
        return self.cranium.distance((x / (1 - np.float32(self.bulge) * y.clip(-1.3, 1.3)), y, z))

    def distance(self, points, cranium=None):
        """Roughly the distance to the head's surface, negative inside, in lengths of half the cranium.

        Parameters
        ----------
        points : sequence of three float32 arrays that broadcast
        cranium : array, optional
            What `cranium_distance` gives for them, where it is known already.
        """
        found = self.cranium_distance(points) if cranium is None else cranium
        for feature in self.features:
            found = _smooth_minimum(found, feature.distance(points))
        return found

    def neck_distance(self, points):
        """Roughly the distance to the surface of neck and shoulders, negative inside."""
        x, y, z = points
        below = np.float32(-0.55) - z
        across = np.sqrt(x * x + (y + np.float32(0.18) - np.float32(self.neck_tilt) * below) ** 2)
        neck = np.maximum(across - np.float32(self.neck_radius), -below)
        shoulders = Ellipsoid((0.0, -0.2 + 1.6 * self.neck_tilt, -2.2), (1.45, 0.75, 0.62)).distance(points)
        return _smooth_minimum(neck, shoulders, 0.3)

    def of_scale(self, scale_mm):
        """The same head of another size."""
        return replace(self, scale_mm=float(scale_mm))

    @cached_property
    def surface(self):
        """Points all over the surface: array of shape (num_points, 3)."""
        index = np.arange(_NUM_DIRECTIONS) + 0.5
        height, turn = 1 - 2 * index / _NUM_DIRECTIONS, np.pi * (1 + 5**0.5) * index
        flat = np.sqrt(1 - height**2)
        directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1).astype(np.float32)
        # From the middle of the head every direction meets the surface once, or nearly so: the outermost crossing.
        radii = np.arange(0.6, 1.7, 0.02, dtype=np.float32)
        inside = self.distance(directions.T[:, :, None] * radii) < 0
        outermost = radii[len(radii) - 1 - inside[:, ::-1].argmax(axis=1)]
        return directions * outermost[:, None]

    @cached_property
    def volume_ml(self):
        """Volume of the head, ml: of its shape, before it is cut into voxels."""
        low, high = self.surface.min(axis=0) - 0.1, self.surface.max(axis=0) + 0.1
        axes = [np.arange(a, b, _VOLUME_STEP, dtype=np.float32) for a, b in zip(low, high)]
        points = np.meshgrid(*axes, indexing="ij", sparse=True)
        # A cell that the surface cuts counts for the part of it that lies inside.
        parts = np.clip(np.float32(0.5) - self.distance(points) / np.float32(_VOLUME_STEP), 0, 1)
        return float(parts.sum(dtype=np.float64)) * (_VOLUME_STEP * self.scale_mm) ** 3 / 1000


def draw_head(rng):
    """Draw a head of 20 to 30 weeks.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    Head
    """
    width, height = rng.uniform(0.73, 0.84), rng.uniform(0.78, 0.87)
    width_of_face, length_of_face = rng.uniform(0.52, 0.66) * width, rng.uniform(0.50, 0.58)
    nose, chin, lips, ears = rng.uniform(0.7, 1.3, 4)
    face_y = rng.uniform(0.44, 0.54)
    front = face_y + 0.44  # of the face, where nose, lips and chin sit
    features = (
        Ellipsoid((0.0, face_y, -0.60), (width_of_face, 0.44, length_of_face)),
        Ellipsoid((0.0, front - 0.22, -0.58 - 0.82 * length_of_face), (0.24 * chin**0.5, 0.19, 0.15 * chin**0.5)),
        Ellipsoid((0.0, front + 0.02, -0.50), (0.09, 0.15 * nose, 0.13)),
        Ellipsoid((0.0, front - 0.05, -0.76), (0.17, 0.12 * lips, 0.09)),
        Ellipsoid((0.0, 0.76, -0.06), (0.5 * width, 0.20, 0.24)),
        *Ellipsoid((0.62 * width_of_face, front - 0.26, -0.66), (0.2, 0.2, 0.2)).on_both_sides(),
        *Ellipsoid((0.96 * width, -0.12, -0.34), (0.07 * ears, 0.15, 0.21)).on_both_sides(),
    )
    return Head(
        cranium=Ellipsoid((0.0, 0.0, 0.0), (width, 1.0, height)),
        bulge=rng.uniform(0.04, 0.13),
        features=features,
        neck_tilt=rng.uniform(-0.22, 0.06),
        neck_radius=rng.uniform(0.36, 0.46),
        scale_mm=rng.uniform(29.0, 43.0),
    )


def _smooth_minimum(one, other, blend=_BLEND):
    """The smaller of two distances, with a soft crease where they are alike."""
    near = np.maximum(np.float32(blend) - np.abs(one - other), 0)
    return np.minimum(one, other) - near * near * np.float32(0.25 / blend)
