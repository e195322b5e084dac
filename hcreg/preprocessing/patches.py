"""Patches of a volume: drawn for training, and laid over it as overlapping tiles whose predictions are stitched.

A tile's prediction counts by a window, highest in its middle where the network sees most. Along each axis the windows
of all tiles are scaled to sum to one in every voxel, so their products do too: the stitched value is a weighted mean,
a partition of unity, with no division afterwards. A volume smaller than the patch is padded
with zeros about its middle.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

WINDOWS = ("gaussian", "uniform")
FOREGROUND_PROBABILITY = 1 / 3  # nnU-Net's: every third patch certainly shows foreground
_SD_OF_PATCH = 1 / 8  # of the Gaussian window, nnU-Net's too


def draw_patch(rng, label_map, patch_shape, foreground_probability=FOREGROUND_PROBABILITY):
    """Draw where a training patch begins, as nnU-Net does: anywhere, or about a voxel of the foreground.

    Parameters
    ----------
    rng : numpy.random.Generator
    label_map : ndarray of shape (d1, d2, d3)
        Background is 0. Without any foreground every place is as likely.
    patch_shape : tuple of three int
    foreground_probability : float, 0 to 1
        How often the patch is laid about a foreground voxel, drawn evenly among them all.

    Returns
    -------
    tuple of three int
        First voxel of the patch. Patches lie within the volume; along an axis that is shorter than the patch, the
        volume lies in the patch's middle, and this is negative.

    Raises
    ------
    ValueError
        If the patch is not of three positive sides, or the probability out of range.

    Examples
    --------
    >>> labels = np.zeros((8, 8, 4), int)
    >>> labels[7, 7, 0] = 1
    >>> draw_patch(np.random.default_rng(0), labels, (4, 4, 8), foreground_probability=1.0)
    (4, 4, -2)
    """
    shape, patch_shape = np.array(label_map.shape), np.array(_checked_patch(patch_shape))
    if not 0 <= foreground_probability <= 1:
        raise ValueError(f"foreground_probability is 0 to 1. Received: {foreground_probability!r}.")
    about_foreground = rng.random() < foreground_probability
    last = shape - patch_shape
    start = rng.integers(0, np.maximum(last, 0) + 1)
    if about_foreground:
        foreground = np.flatnonzero(label_map)
        if len(foreground):
            voxel = np.array(np.unravel_index(foreground[rng.integers(len(foreground))], label_map.shape))
            start = np.clip(voxel - patch_shape // 2, 0, np.maximum(last, 0))
    return tuple(int(side) for side in np.where(last < 0, last // 2, start))


def cut_patch(array, start, patch_shape):
    """Cut a patch out; outside the volume it is 0.

    Parameters
    ----------
    array : ndarray of shape (d1, d2, d3, ...)
    start : tuple of three int
    patch_shape : tuple of three int

    Returns
    -------
    ndarray of shape (*patch_shape, ...)
        A view where the patch lies inside.

    Examples
    --------
    >>> cut_patch(np.arange(1, 4).reshape(1, 1, 3), (0, 0, -1), (1, 1, 3)).tolist()
    [[[0, 1, 2]]]
    """
    inside, place = [], []
    for first, side, size in zip(start, patch_shape, array.shape):
        low, high = max(first, 0), min(first + side, size)
        inside.append(slice(low, max(low, high)))
        place.append(slice(low - first, max(low, high) - first))
    cut = array[tuple(inside)]
    if cut.shape[:3] == tuple(patch_shape):
        return cut
    patch = np.zeros((*patch_shape, *array.shape[3:]), array.dtype)
    patch[tuple(place)] = cut
    return patch


@dataclass(frozen=True)
class Tiles:
    """Overlapping patches that cover a volume, and what each counts in each of its voxels.

    Attributes
    ----------
    shape : tuple of three int
        Of the volume.
    patch_shape : tuple of three int
    overlap : float, 0 to below 1
        Least share of a patch that its neighbour covers too. Patches are spread evenly from one end to the other.
    window : {"gaussian", "uniform"}
        How a patch's voxels count against those of its neighbours.

    Raises
    ------
    ValueError
        If an attribute is out of range.

    Examples
    --------
    >>> tiles = Tiles((8, 4, 3), (4, 4, 4), overlap=0.5)
    >>> tiles.starts
    [(0, 0, -1), (2, 0, -1), (4, 0, -1)]
    >>> stitched = tiles.stitch(np.ones((8, 4, 3, 1), "float32"), lambda patches: 2 * patches)
    >>> stitched.shape, float(stitched.min()), float(stitched.max())
    ((8, 4, 3, 1), 2.0, 2.0)
    """

    shape: tuple
    patch_shape: tuple
    overlap: float = 0.5
    window: str = "gaussian"

    def __post_init__(self):
        object.__setattr__(self, "patch_shape", _checked_patch(self.patch_shape))
        shape = tuple(int(side) for side in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"Tiles cover a volume of three positive sides. Received: shape={self.shape!r}.")
        object.__setattr__(self, "shape", shape)
        if not 0 <= self.overlap < 1:
            raise ValueError(f"Tiles overlap by a share from 0 to below 1. Received: overlap={self.overlap!r}.")
        if self.window not in WINDOWS:
            raise ValueError(f"A window is one of {', '.join(WINDOWS)}. Received: {self.window!r}.")

    def __len__(self):
        return len(self.starts)

    @cached_property
    def starts(self):
        """First voxel of each patch: list of tuple of three int."""
        return list(product(*(starts for starts, _ in self._axes)))

    @cached_property
    def _axes(self):
        return [_axis_tiles(size, side, self.overlap, self.window) for size, side in zip(self.shape, self.patch_shape)]

    @cached_property
    def _windows(self):
        return list(product(*(windows for _, windows in self._axes)))

    def weights(self, number):
        """What a patch counts.

        Parameters
        ----------
        number : int
            Of the patch, in the order of `starts`.

        Returns
        -------
        ndarray of shape `patch_shape`, float32
            Those of all patches sum to 1 in each voxel of the volume; 0 outside it.
        """
        first, second, third = self._windows[number]
        return first[:, None, None] * second[:, None] * third

    def stitch(self, volume, predict, batch_size=1):
        """Predict patch by patch, and put the predictions together.

        Parameters
        ----------
        volume : ndarray of shape (*shape, channels)
        predict : callable
            Of an array (batch, *patch_shape, channels), gives one (batch, *patch_shape, classes).
        batch_size : int
            Patches at once. A last batch is filled up with the last patch, since another size would be traced anew.

        Returns
        -------
        ndarray of shape (*shape, classes), float32

        Raises
        ------
        ValueError
            If the volume or a prediction is of another shape.
        """
        if volume.shape[:3] != self.shape:
            raise ValueError(f"These tiles cover a volume of {self.shape}. Received: {volume.shape}.")
        if batch_size < 1:
            raise ValueError(f"A batch holds one patch or more. Received: batch_size={batch_size!r}.")
        stitched = None
        for first in range(0, len(self), batch_size):
            starts = self.starts[first : first + batch_size]
            filled = starts + [starts[-1]] * (batch_size - len(starts))
            found = np.asarray(predict(np.stack([cut_patch(volume, start, self.patch_shape) for start in filled])))
            if found.ndim != 5 or found.shape[:4] != (len(filled), *self.patch_shape):
                raise ValueError(
                    f"A prediction of patches is of the shape {(len(filled), *self.patch_shape)} and classes. "
                    f"Received: {found.shape}."
                )
            if stitched is None:
                stitched = np.zeros((*self.shape, found.shape[-1]), np.float32)
            for start, rows, patch in zip(starts, self._windows[first:], found):
                self._add(stitched, start, rows, patch)
        return stitched

    def _add(self, stitched, start, rows, patch):
        inside = tuple(slice(max(first, 0), first + side) for first, side in zip(start, self.patch_shape))
        target = stitched[inside]
        place = tuple(
            slice(max(-first, 0), max(-first, 0) + size) for first, size in zip(start, target.shape)
        )  # of the patch, what lies in the volume
        first, second, third = (row[part] for row, part in zip(rows, place))
        target += patch[place] * (first[:, None, None] * second[:, None] * third)[..., None]


def _checked_patch(patch_shape):
    sides = tuple(patch_shape)
    if len(sides) != 3 or any(int(side) != side or side < 1 for side in sides):
        raise ValueError(f"A patch has three sides of 1 voxel or more. Received: patch_shape={patch_shape!r}.")
    return tuple(int(side) for side in sides)


def _axis_tiles(size, side, overlap, window):
    """Along one axis: the first voxel of each patch, and the windows, which sum to 1 in each voxel of the volume."""
    if size <= side:
        starts = [(size - side) // 2]
    else:
        step = max(1, int(side * (1 - overlap)))
        num_steps = -(-(size - side) // step)
        starts = [round(number * (size - side) / num_steps) for number in range(num_steps + 1)]
    shape = np.ones(side)
    if window == "gaussian":
        shape = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (_SD_OF_PATCH * side)) ** 2)
    total = np.zeros(size)
    parts = []
    for start in starts:
        low, high = max(start, 0), min(start + side, size)
        parts.append((low, high, slice(low - start, high - start)))
        total[low:high] += shape[parts[-1][2]]
    windows = []
    for low, high, place in parts:
        row = np.zeros(side, np.float32)
        row[place] = shape[place] / total[low:high]
        windows.append(row)
    return starts, windows
