"""Where a three-dimensional probe stands before a fetal head, its beams, and the way from them to a volume.

Volumes have the axes depth (away from the probe), across, and the direction of the sweep. All samples of a number lie
in one plane across the depth and beams stand at equal tangents, so that a volume is made of samples by a change of
scale, plane by plane.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

# Rows: depth, across, sweep; columns: x, y, z of the head. The beam comes from a side, the sweep ends at the face.
_FROM_SIDE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_POINTS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Scan:
    """How a head lies before the probe, and what the probe sees.

    Attributes
    ----------
    to_head : ndarray of shape (3, 3)
        Takes a direction (depth, across, sweep) to the head's axes.
    center_mm : ndarray of shape (3,), mm
        Of the cranium, from the first voxel's centre.
    apex_mm : ndarray of shape (3,), mm
        Where all beams would meet, in front of the volume.
    openings : (float, float)
        Tangent of half the angle of the fan, across and in the direction of the sweep.
    first_mm, last_mm : float, mm
        First and last echo, from the apex.
    """

    to_head: np.ndarray
    center_mm: np.ndarray
    apex_mm: np.ndarray
    openings: tuple[float, float]
    first_mm: float
    last_mm: float

    def in_head(self, head, places_mm):
        """Places in the head's own axes and lengths: three float32 arrays.

        Parameters
        ----------
        head : Head
        places_mm : sequence of three float32 arrays that broadcast, mm
            Depth, across, sweep, from the first voxel's centre.
        """
        away = [(place - np.float32(c)) / np.float32(head.scale_mm) for place, c in zip(places_mm, self.center_mm)]
        return self.direction_in_head(away)

    def direction_in_head(self, direction):
        """A direction (depth, across, sweep) along the head's axes: three float32 arrays."""
        return [sum(np.float32(m) * part for m, part in zip(row, direction)) for row in self.to_head]


def draw_rotations(rng, num_scans):
    """Draw from where a head is scanned: from either side and from above in turns, each a little askew.

    Parameters
    ----------
    rng : numpy.random.Generator
    num_scans : int

    Returns
    -------
    list of ndarray of shape (3, 3)
        See `Scan.to_head`.
    """
    first, order = rng.uniform(-25, 25), rng.permutation(3)
    rotations = []
    for number in range(num_scans):
        roll = np.clip(first + 90 * order[number % 3] + rng.normal(0, 9), -35, 215)
        tilt, turn = rng.normal(0, 7), rng.normal(0, 8) + 180 * rng.integers(2)
        rotations.append((_turned(0, turn) @ _turned(2, tilt) @ _FROM_SIDE @ _turned(1, roll)).T)
    return rotations


def extents(head, rotation):
    """Reach of a head from the centre of its cranium along depth, across and sweep.

    Parameters
    ----------
    head : Head
    rotation : ndarray of shape (3, 3)

    Returns
    -------
    lowest, highest : ndarray of shape (3,)
        In lengths of half the cranium.
    """
    surface = head.surface @ rotation
    return surface.min(axis=0), surface.max(axis=0)


def draw_scan(rng, head, rotation, field_mm, margin_mm):
    """Draw the place of head and probe: the whole head lies in the volume, nearly all of it within the fan.

    Parameters
    ----------
    rng : numpy.random.Generator
    head : Head
    rotation : ndarray of shape (3, 3)
    field_mm : ndarray of shape (3,), mm
        From the first to the last voxel's centre.
    margin_mm : float, mm
        Least distance of the head from the volume's border.

    Returns
    -------
    Scan
    """
    lowest, highest = (head.scale_mm * reach for reach in extents(head, rotation))
    low, high = margin_mm - lowest, field_mm - margin_mm - highest
    center_mm = low + np.clip(rng.normal((0.55, 0.5, 0.5), 0.18, 3), 0, 1) * np.maximum(high - low, 0)
    apex_mm = np.array([-rng.uniform(0.30, 0.45) * field_mm[0], *(field_mm[1:] * rng.normal(0.5, 0.03, 2))])
    away = head.scale_mm * (head.surface @ rotation) + center_mm - apex_mm
    tangents = np.abs(away[:, 1:] / away[:, :1])
    openings = np.clip(np.percentile(tangents, 99, axis=0) * rng.uniform(1.02, 1.3, 2), 0.5, 1.4)
    distances = np.linalg.norm(away, axis=1)
    first_mm = min(-apex_mm[0] + rng.uniform(0.02, 0.08) * field_mm[0], 0.97 * distances.min())
    last_mm = max(field_mm[0] - apex_mm[0] + rng.uniform(-0.05, 0.05) * field_mm[0], 1.02 * distances.max())
    return Scan(rotation, center_mm, apex_mm, tuple(openings.tolist()), float(first_mm), float(last_mm))


@dataclass(frozen=True, eq=False)
class Beams:
    """The samples of a scan: as many planes across the depth as the volume has, and as many beams.

    Attributes
    ----------
    scan : Scan
    shape : (int, int, int)
        Depth, across, sweep: of the samples, and of the volume.
    spacing_mm : float, mm
        Of the volume's voxels, and of the planes.
    """

    scan: Scan
    shape: tuple[int, int, int]
    spacing_mm: float

    @cached_property
    def depth_mm(self):
        """Distance of each plane from the apex, float32 (num_planes, 1, 1)."""
        planes = np.arange(self.shape[0], dtype=np.float32)[:, None, None]
        return planes * np.float32(self.spacing_mm) - np.float32(self.scan.apex_mm[0])

    @cached_property
    def tangents(self):
        """Of each beam: across, (num_across, 1), and in the direction of the sweep, (num_sweep,)."""
        across, sweep = (
            np.linspace(-opening, opening, size, dtype=np.float32)
            for opening, size in zip(self.scan.openings, self.shape[1:])
        )
        return across[:, None], sweep

    @cached_property
    def slant(self):
        """Length along each beam from one plane to the next, in depths: (num_across, num_sweep)."""
        return np.sqrt(sum(tangent**2 for tangent in self.tangents) + 1)

    @cached_property
    def directions(self):
        """Unit vectors along the beams: depth, across, sweep, each (num_across, num_sweep)."""
        return [part / self.slant for part in (np.float32(1), *self.tangents)]

    def places_mm(self, planes):
        """Places of the samples of some planes, from the first voxel's centre: depth, across, sweep, to broadcast."""
        depth, apex = self.depth_mm[planes], self.scan.apex_mm.astype(np.float32)
        return depth + apex[0], depth * self.tangents[0] + apex[1], depth * self.tangents[1] + apex[2]

    def scan_convert(self, level):
        """Volume of uint8 from samples of grey levels (float32 of `shape`); 0 outside the fan."""
        _, height, width = self.shape
        volume = np.zeros(self.shape, np.uint8)
        places = [
            np.arange(size, dtype=np.float32) * np.float32(self.spacing_mm) - np.float32(apex)
            for size, apex in zip((height, width), self.scan.apex_mm[1:])
        ]
        aside = places[0][:, None] ** 2 + places[1] ** 2
        for plane, depth in enumerate(self.depth_mm.ravel()):
            # Position among the beams of every row and column of the plane.
            across, sweep = (
                (place / depth + np.float32(opening)) * np.float32((size - 1) / (2 * opening))
                for place, opening, size in zip(places, self.scan.openings, (height, width))
            )
            matrix = np.array([[sweep[1] - sweep[0], 0, sweep[0]], [0, across[1] - across[0], across[0]]])
            scaled = cv2.warpAffine(
                level[plane], matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            radius = np.sqrt(aside + depth**2)
            seen = (radius >= self.scan.first_mm) & (radius <= self.scan.last_mm)
            seen &= ((across >= 0) & (across <= height - 1))[:, None] & (sweep >= 0) & (sweep <= width - 1)
            volume[plane] = np.rint(scaled) * seen
        return volume


class SmoothField:
    """Smooth random field of zero mean and about unit deviation, computed plane by plane.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int, int)
    knots : (int, int, int)
        How many independent values stand along each axis; a cubic spline runs between them.
    """

    def __init__(self, rng, shape, knots):
        coarse = rng.standard_normal([knot + 3 for knot in knots], dtype=np.float32)
        self._weights, across, sweep = (_spline_weights(size, knot) for size, knot in zip(shape, knots))
        self._planes = np.einsum("ipq,jp,kq->ijk", coarse, across, sweep, optimize=True)

    def __getitem__(self, planes):
        return np.tensordot(self._weights[planes], self._planes, 1)


def chunks_of_planes(shape):
    """Slices of the first axis whose points fit into memory many times over."""
    step = max(1, _POINTS_AT_ONCE // (shape[1] * shape[2]))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _spline_weights(size, num_knots):
    """Weights of all knots at each place, (size, num_knots + 3), of unit length on average."""
    position = np.linspace(1, num_knots + 1, size, dtype=np.float32)[:, None]
    away = np.abs(position - np.arange(num_knots + 3, dtype=np.float32))
    weights = np.where(away < 1, 4 - 6 * away**2 + 3 * away**3, np.maximum(2 - away, 0) ** 3)
    return (weights / np.sqrt((weights**2).sum(axis=1).mean())).astype(np.float32)


def _turned(axis, degrees):
    """Matrix of a turn about an axis."""
    one, other = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix
