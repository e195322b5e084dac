"""How far the boundaries of two masks are apart: Hausdorff and average distance, in px and in mm.

The *boundary* of a mask is the set of its foreground pixels with a background pixel among their 4 neighbours (6 in a
volume). What lies outside the image counts as background, so a head cut by the image's border is closed along the
border: every mask that is not empty has a boundary, and nothing changes if an image is padded with zeros. Distances
run between the centres of boundary pixels, from each pixel of the one boundary to the nearest of the other.

Nearest pixels are found with a k-d tree of each boundary: exact in double precision for every spacing, and on an
800x540 image nine times faster than ``cv2.distanceTransform`` (float32, square pixels only).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from hcreg.metrics.segmentation import binary_pair

__all__ = [
    "BoundaryDistances",
    "average_boundary_distance",
    "boundary_distances",
    "hausdorff_distance",
    "point_distances",
]


@dataclass(frozen=True)
class BoundaryDistances:
    """Distances of two boundaries, from :func:`boundary_distances`.

    Attributes
    ----------
    hausdorff_px, average_px : float, px
        As :func:`hausdorff_distance` and :func:`average_boundary_distance` without a spacing. A px is one step of
        the array, along every axis.
    hausdorff_mm, average_mm : float, mm, or None
        The same with the spacing; None where no spacing was given.
    failure : str
        Why the distances are NaN, in words; empty where they are not.

    Examples
    --------
    >>> distances = boundary_distances([[1, 0, 0, 1]], [[1, 0, 0, 0]], spacing_mm=0.5)
    >>> distances.hausdorff_px, distances.average_px, distances.hausdorff_mm, distances.average_mm
    (3.0, 1.0, 1.5, 0.5)
    >>> boundary_distances([[1, 0, 0, 1]], [[0, 0, 0, 0]]).failure
    'the predicted mask is empty'
    """

    hausdorff_px: float
    average_px: float
    hausdorff_mm: float | None = None
    average_mm: float | None = None
    failure: str = ""


def hausdorff_distance(mask_true, mask_pred, spacing_mm=None, percentile=100.0):
    r"""Symmetric Hausdorff distance of two boundaries: how far the worst point lies from the other boundary.

    .. math::
        \mathrm{HD} = \max\Bigl( \max_{t \in \partial T} \min_{p \in \partial P} \lVert t - p \rVert,\;
                                 \max_{p \in \partial P} \min_{t \in \partial T} \lVert t - p \rVert \Bigr)

    Parameters
    ----------
    mask_true, mask_pred : array-like of shape (height, width) or (depth, height, width)
        Reference and predicted mask, as in :func:`dice_score`; boundaries as the module defines them.
    spacing_mm : None, float, (x, y) or (x, y, z), mm
        None: the distance is in px. Otherwise in mm, with this size of a pixel or voxel, given in the order of
        :mod:`hcreg.geometry`, which is the *reverse* of the shape's: (width, height) and (width, height, depth).
    percentile : float
        In (0, 100]. The largest directed distance, 100, is the papers' measure. 95 is known as HD95: the
        larger of the two directed percentiles, interpolated linearly.

    Returns
    -------
    float, px or mm
        In [0, inf); zero is best. Both masks empty: 0, they agree. One empty: NaN, since there is no boundary to
        measure to; count these, and drop none silently.

    Raises
    ------
    ValueError
        As :func:`dice_score`; if a mask is neither 2-D nor 3-D, or is 3-D with an axis of length one; if the
        spacing is not positive or has not one number per axis; if the percentile is not in (0, 100].

    Notes
    -----
    An array read with nibabel has the axes (x, y, z): pass its transpose, ``mask.T``, with the header's zooms as
    they are. SimpleITK's arrays are (z, y, x) and its spacings (x, y, z), as here.

    References
    ----------
    .. [1] zhang2021biometrics, column "HD" of its tables; heuvel2018hc18, measure "HD" of the challenge;
       yang2020has, "Hdb".

    Examples
    --------
    >>> hausdorff_distance([[1, 1, 0, 0, 0]], [[1, 1, 1, 1, 0]])
    2.0
    >>> hausdorff_distance([[1, 1, 0, 0, 0]], [[1, 1, 1, 1, 0]], spacing_mm=(0.25, 3.0))
    0.5
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100. Received: {percentile}.")
    pair = _checked_pair(mask_true, mask_pred)
    spacing = _spacing_of_axes(spacing_mm, pair[0].ndim)
    undefined = _without_boundary(*pair)
    if undefined is not None:
        return undefined[0]
    return _hausdorff(*_directed_distances(*_boundaries(*pair), spacing), percentile)


def average_boundary_distance(mask_true, mask_pred, spacing_mm=None):
    r"""Average symmetric distance of two boundaries, over the boundary pixels of both.

    .. math::
        \mathrm{ABD} = \frac{\sum_{t \in \partial T} \min_{p \in \partial P} \lVert t - p \rVert
                           + \sum_{p \in \partial P} \min_{t \in \partial T} \lVert t - p \rVert}
                            {|\partial T| + |\partial P|}

    Parameters
    ----------
    mask_true, mask_pred, spacing_mm
        As in :func:`hausdorff_distance`.

    Returns
    -------
    float, px or mm
        In [0, inf), never above the Hausdorff distance; zero is best. Both masks empty: 0. One empty: NaN.

    Raises
    ------
    ValueError
        As :func:`hausdorff_distance`.

    Notes
    -----
    Departure from the paper: yang2020has prints the number of voxels of the two *volumes* below the line, which
    would make the distance shrink as the head grows; a mean over the surface, as here, is what the name says.

    References
    ----------
    .. [1] yang2020has, "Adb".

    Examples
    --------
    >>> average_boundary_distance([[1, 0, 0, 1]], [[1, 0, 0, 0]])
    1.0
    """
    pair = _checked_pair(mask_true, mask_pred)
    spacing = _spacing_of_axes(spacing_mm, pair[0].ndim)
    undefined = _without_boundary(*pair)
    if undefined is not None:
        return undefined[0]
    return _average(*_directed_distances(*_boundaries(*pair), spacing))


def boundary_distances(mask_true, mask_pred, spacing_mm=None):
    """Hausdorff and average distance of two boundaries at once, in px and in mm: one row of a table.

    Parameters
    ----------
    mask_true, mask_pred, spacing_mm
        As in :func:`hausdorff_distance`.

    Returns
    -------
    BoundaryDistances
        With one mask empty every distance is NaN, and ``failure`` says which mask it is.

    Raises
    ------
    ValueError
        As :func:`hausdorff_distance`.

    Notes
    -----
    The boundaries are found once, and so are the nearest pixels where the spacing is one number: mm are then px
    times it. Where it differs from axis to axis the nearest pixel in mm may be another one than in px, and they
    are found anew. Two 800x540 images take 1.3 ms, or 2.1 then; two volumes of 388x258x440 0.8 s, or 1.5.

    Examples
    --------
    >>> boundary_distances([[1, 1, 0, 0]], [[1, 1, 1, 1]], spacing_mm=0.5).hausdorff_mm
    1.0
    """
    pair = _checked_pair(mask_true, mask_pred)
    spacing = _spacing_of_axes(spacing_mm, pair[0].ndim)
    undefined = _without_boundary(*pair)
    if undefined is not None:
        value, failure = undefined
        value_mm = None if spacing_mm is None else value
        return BoundaryDistances(value, value, value_mm, value_mm, failure)
    points = _boundaries(*pair)
    steps = np.ones(pair[0].ndim)
    distances = _directed_distances(*points, steps)
    hausdorff_px, average_px = _hausdorff(*distances), _average(*distances)
    if spacing_mm is None:
        return BoundaryDistances(hausdorff_px, average_px)
    if np.all(spacing == spacing[0]):
        factor_mm = float(spacing[0])
        return BoundaryDistances(hausdorff_px, average_px, hausdorff_px * factor_mm, average_px * factor_mm)
    distances = _directed_distances(*points, spacing)
    return BoundaryDistances(hausdorff_px, average_px, _hausdorff(*distances), _average(*distances))


def point_distances(mask_true, mask_pred, spacing_mm=None):
    """Of each point of the predicted boundary, how far it is from the true one: for a picture of where a mask is wrong.

    Parameters
    ----------
    mask_true, mask_pred, spacing_mm
        As in :func:`hausdorff_distance`.

    Returns
    -------
    points : ndarray of int of shape (num_points, ndim)
        Pixels or voxels of the predicted boundary, as the array's axes are ordered.
    distances : ndarray of shape (num_points,), px or mm
        The largest is the directed Hausdorff distance.

    Raises
    ------
    ValueError
        As :func:`hausdorff_distance`, and if a mask is empty.

    References
    ----------
    .. [1] yang2020has, Figures 4 and 5.

    Examples
    --------
    >>> points, distances = point_distances([[1, 1, 0, 0]], [[1, 1, 1, 1]], spacing_mm=0.5)
    >>> points[:, 1].tolist(), distances.tolist()
    ([0, 1, 2, 3], [0.0, 0.0, 0.5, 1.0])
    """
    pair = _checked_pair(mask_true, mask_pred)
    spacing = _spacing_of_axes(spacing_mm, pair[0].ndim)
    empty = [name for name, mask in zip(("true", "predicted"), pair) if not mask.any()]
    if empty:
        raise ValueError(f"Distances run from boundary to boundary; without one: the {' and the '.join(empty)} mask.")
    points_true, points_pred = _boundaries(*pair)
    distances, _ = KDTree(points_true * spacing).query(points_pred * spacing)
    return points_pred, distances


def _checked_pair(mask_true, mask_pred):
    """Both as bool arrays of one shape, images or volumes."""
    mask_true, mask_pred = binary_pair(mask_true, mask_pred)
    shape = mask_true.shape
    # In a volume of one slice every foreground pixel would be boundary, and the distances wrong without a sign of it.
    if len(shape) not in (2, 3) or (len(shape) == 3 and 1 in shape):
        raise ValueError(
            "a boundary needs a mask of shape (height, width) or (depth, height, width), depth above one. "
            f"Received shape: {shape}. Squeeze batch and channel axes first, or pass one mask at a time."
        )
    return mask_true, mask_pred


def _spacing_of_axes(spacing_mm, ndim):
    """Step along each axis of the array, in the array's order; ones without a spacing."""
    if spacing_mm is None:
        return np.ones(ndim)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape not in {(), (1,), (ndim,)}:
        order = "(x, y)" if ndim == 2 else "(x, y, z)"
        raise ValueError(
            f"spacing_mm must be one number or {order} for a mask of {ndim} axes. Received shape: {spacing.shape}."
        )
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing_mm must be positive and finite. Received: {spacing_mm}.")
    return np.broadcast_to(spacing, (ndim,))[::-1]


def _without_boundary(mask_true, mask_pred):
    """Distance and reason where a mask is empty; None where neither is."""
    any_true, any_pred = mask_true.any(), mask_pred.any()
    if any_true and any_pred:
        return None
    if not any_true and not any_pred:
        return 0.0, ""
    return np.nan, f"the {'predicted' if any_true else 'true'} mask is empty"


def _boundaries(mask_true, mask_pred):
    return _boundary_points(mask_true), _boundary_points(mask_pred)


def _boundary_points(mask):
    """Indexes of the boundary's pixels: (num_points, ndim), as the array's axes are ordered."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        # Views with that axis first: writing to `along` writes to `interior`.
        along, source = np.moveaxis(interior, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] &= source[:-1]
        along[:-1] &= source[1:]
        along[0] = along[-1] = False
    # np.argwhere gives the same, ten times slower on a volume.
    boundary = np.flatnonzero(mask ^ interior)
    return np.stack(np.unravel_index(boundary, mask.shape), axis=1)


def _directed_distances(points_true, points_pred, spacing):
    """Distance of each true point to the nearest predicted one, and of each predicted to the nearest true one."""
    points_true, points_pred = points_true * spacing, points_pred * spacing
    to_pred, _ = KDTree(points_pred).query(points_true)
    to_true, _ = KDTree(points_true).query(points_pred)
    return to_pred, to_true


def _hausdorff(to_pred, to_true, percentile=100.0):
    return float(max(np.percentile(to_pred, percentile), np.percentile(to_true, percentile)))


def _average(to_pred, to_true):
    return float((to_pred.sum() + to_true.sum()) / (len(to_pred) + len(to_true)))
