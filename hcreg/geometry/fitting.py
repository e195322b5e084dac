"""Ellipses fitted to a filled mask, to a drawn outline, or to points."""

import math

import cv2
import numpy as np

from hcreg.geometry.ellipse import Ellipse, spacing_xy
from hcreg.geometry.masks import boundary_points, checked_mask, largest_component

FIT_METHODS = ("boundary", "moments")

# Points spread less than this part of their length across it count as lying on one line.
_COLLINEAR = 1e-3

# Pixels of a drawn outline may lie this far from the fitted ellipse (root mean square, as a part of the minor
# semi-axis). A stroke as thick as 40 % of the radius stays below; a filled ellipse has 0.34.
_OUTLINE_SPREAD = 0.15
# Length of outline averaged to one point of its centre line: a few pixels, so that each point has several.
_SECTOR_PX = 4.0


def fit_ellipse(mask, method="boundary", spacing_mm=1.0):
    """Fit an ellipse to a filled mask.

    The connected component of the largest area is kept, its holes filled. For a drawn outline use
    :func:`fit_ellipse_outline`: here it would count as filled, up to the pen's outer edge.

    Parameters
    ----------
    mask : array-like of shape (height, width)
        bool, 0/1, 0/255 or probabilities in [0, 1], which are thresholded at 0.5.
    method : {"boundary", "moments"}
        "boundary": least squares on the points where the boundary crosses the pixel grid. Points on the
        image's border are left out, so a head cut by the border is completed.
        "moments": closed form from centroid and covariance, whose eigenvalues are a²/4 and b²/4. As accurate
        on whole heads and twice as fast; wrong on heads cut by the border, and blind to probabilities.
    spacing_mm : float or (x, y), mm
        Size of a pixel. Only the ratio of x to y matters: least squares is done in mm, where distances mean
        something if a resize has changed the two differently. The result is in pixels all the same.

    Returns
    -------
    Ellipse
        In the mask's pixels.

    Raises
    ------
    ValueError
        If the mask is not 2-D, is empty, holds NaN or values that are no mask, has a component too small, or
        too much cut by the border, to determine an ellipse.

    Notes
    -----
    ``cv2.findContours`` gives centres of the *inside* boundary pixels; fitting those makes every ellipse
    half a pixel too small (-2 mm of head circumference at 128x128). Here each pair of neighbours, one in,
    one out, gives one point between them: half way, or, for probabilities, where their linear interpolation
    is 0.5.

    On perfect masks of random heads at 0.135 mm/px the head circumference errs by 0.006 mm on average (0.02
    at most) at 800x540. At 128x128 there is no bias either (mean error 0.003 mm), but a single binary mask errs by
    0.08 mm (0.3 at most): some 250 boundary points, each known to within a pixel of 0.6 to 0.8 mm, that is with an
    SD of 0.2 mm, leave the mean radius an SD of 0.013 mm. Probabilities, which say more, err by 0.016 mm.

    Departure from the paper's code: it keeps the contour with most points; the paper says largest area, as
    here.

    References
    ----------
    .. [1] zhang2021biometrics, section on post-processing.
    """
    if method not in FIT_METHODS:
        raise ValueError(f"method must be one of {FIT_METHODS}. Received: {method!r}.")
    scale = np.array(spacing_xy(spacing_mm))
    values, level = checked_mask(mask)
    inside, offset = largest_component(values > level)
    if method == "moments":
        return _not_too_thin(_ellipse_of_moments(inside, offset))
    points = boundary_points(values, level, inside, offset)
    if len(points) < 5:
        raise ValueError(
            f"the mask's largest component has {len(points)} boundary points inside the image; an ellipse "
            "needs 5. It is too small, or it fills the image: check the segmentation."
        )
    return _not_too_thin(fit_ellipse_points(points, spacing_mm=scale))


def fit_ellipse_outline(outline, spacing_mm=1.0):
    """Fit an ellipse to a drawn outline, such as an HC18 annotation.

    Parameters
    ----------
    outline : array-like of shape (height, width)
        bool, 0/1 or 0/255: an ellipse drawn with a pen some pixels thick; the image's border may cut it.
    spacing_mm : float or (x, y), mm
        As in :func:`fit_ellipse`.

    Returns
    -------
    Ellipse
        The pen's centre line, in pixels.

    Raises
    ------
    ValueError
        If the outline is not 2-D, is empty, or is no outline of one ellipse (a filled mask, other marks).

    Notes
    -----
    Fitting all pixels of the pen gives too large an ellipse (0.5 mm of head circumference for a pen of 3 px
    at 128x128), since a curved stroke has more pixels outside its centre line than inside. So the pixels of
    each short piece are averaged to one point of the centre line first. On the HC18 annotations the
    circumference agrees with the CSV file within 0.006 mm on average, 0.04 mm at most.

    ``cv2.ellipse`` draws a polygon of 72 sides: rings drawn with it are 0.1 px too small, and are measured
    so.
    """
    values, level = checked_mask(outline)
    rows, columns = np.nonzero(values > level)
    if len(rows) == 0:
        raise ValueError("the outline is empty: no pixel of it is set.")
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    ellipse = fit_ellipse_points(points, spacing_mm=spacing_mm)
    on_circle = (points - (ellipse.center_x_px, ellipse.center_y_px)) @ np.linalg.inv(ellipse._matrix).T
    radii = np.linalg.norm(on_circle, axis=1)
    spread = float(np.sqrt(np.mean((radii - 1.0) ** 2)))
    if spread > _OUTLINE_SPREAD:
        raise ValueError(
            "the set pixels do not lie along one ellipse: their distance from the best one is "
            f"{100 * spread:.0f} % of its radius (root mean square), at most {100 * _OUTLINE_SPREAD:.0f} % "
            "was expected. If the mask is filled, use fit_ellipse; if it holds other marks, remove them."
        )
    # One point per sector, its pixels' mean angle and harmonic mean radius: outer pixels outnumber inner
    # ones in proportion to the radius, and the weights 1/r undo that.
    angles = np.arctan2(on_circle[:, 1], on_circle[:, 0])
    num_sectors = max(math.ceil(ellipse.circumference_px / _SECTOR_PX), 12)
    sectors = np.minimum((angles + np.pi) * (num_sectors / (2 * np.pi)), num_sectors - 1).astype(int)
    counts = np.bincount(sectors)
    # Where the image's border cuts the stroke along its length, what is left lies to one side of the line.
    border = (rows == 0) | (columns == 0) | (rows == values.shape[0] - 1) | (columns == values.shape[1] - 1)
    used = (counts > 0) & (np.bincount(sectors, border) == 0)
    counts = counts[used]
    radii = counts / np.bincount(sectors, 1.0 / np.maximum(radii, 0.1))[used]
    angles = np.bincount(sectors, angles)[used] / counts
    center = np.array([ellipse.center_x_px, ellipse.center_y_px])
    line = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ ellipse._matrix.T
    return fit_ellipse_points(line, spacing_mm=spacing_mm)


def fit_ellipse_points(points, spacing_mm=1.0):
    """Least-squares ellipse through points.

    Parameters
    ----------
    points : array-like of shape (num_points, 2), px
        (x, y) each, at least five, not on one line.
    spacing_mm : float or (x, y), mm
        As in :func:`fit_ellipse`.

    Returns
    -------
    Ellipse
        In pixels.

    Raises
    ------
    ValueError
        If the points are not (num_points, 2), are fewer than five, not finite, or lie on one line.

    Notes
    -----
    The approximate-mean-square fit (Taubin 1991, ``cv2.fitEllipseAMS``). Over 150 random heads cut by the
    border, with noise of 5 px on each point (0.135 mm/px), it erred by 0.24 mm on average,
    ``cv2.fitEllipse`` by 0.37 and ``cv2.fitEllipseDirect`` by 0.50; on whole, clean heads the three agree
    within 0.01 mm. Least squares finds *some* ellipse for any points off a line; :func:`fit_ellipse_outline`
    checks that they lie along it.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be of shape (num_points, 2). Received: {points.shape}.")
    if len(points) < 5:
        raise ValueError(f"an ellipse needs at least 5 points. Received: {len(points)}.")
    if not np.isfinite(points).all():
        raise ValueError("points must be finite. Received: NaN or infinity among them.")
    scale = np.array(spacing_xy(spacing_mm))
    # OpenCV computes in float32: centred points of size one keep all its digits.
    middle = points.mean(axis=0)
    centered = (points - middle) * scale
    spreads = np.linalg.svd(np.cov(centered.T), compute_uv=False) ** 0.5
    if spreads[1] <= _COLLINEAR * spreads[0]:
        raise ValueError(f"the {len(points)} points are collinear, they lie on one line: no ellipse fits.")
    size = spreads[0]
    unit = (centered / size).astype(np.float32).reshape(-1, 1, 2)
    (x, y), (axis_1, axis_2), degrees = cv2.fitEllipseAMS(unit)
    if not (math.isfinite(x + y + degrees) and min(axis_1, axis_2) > 0 and math.isfinite(axis_1 + axis_2)):
        raise ValueError(f"no ellipse fits the {len(points)} points: they do not lie round one.")
    fitted = Ellipse.from_axes(x * size, y * size, axis_1 * size / 2, axis_2 * size / 2, math.radians(degrees))
    to_pixels = [[1 / scale[0], 0.0, middle[0]], [0.0, 1 / scale[1], middle[1]]]
    return fitted.transformed(to_pixels)


def _not_too_thin(ellipse):
    """The ellipse of a mask, refused where it is no wider than the pixels it is made of."""
    if ellipse.semi_axis_b_px < 1.0:
        raise ValueError(
            f"the mask's largest component is too thin: its ellipse has the semi-axes "
            f"{ellipse.semi_axis_a_px:.2f} and {ellipse.semi_axis_b_px:.2f} px, at least 1 px was expected. "
            "Check the segmentation."
        )
    return ellipse


def _ellipse_of_moments(inside, offset):
    moments = cv2.moments(inside, binaryImage=True)
    area = moments["m00"]
    xx, xy, yy = (moments[name] / area for name in ("mu20", "mu11", "mu02"))
    variances, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    if variances[0] <= 1e-9 * variances[1]:
        raise ValueError(f"the mask's {int(area)} pixels are collinear, they lie on one line: no ellipse fits.")
    return Ellipse.from_axes(
        offset[0] + moments["m10"] / area,
        offset[1] + moments["m01"] / area,
        2 * math.sqrt(variances[1]),
        2 * math.sqrt(variances[0]),
        math.atan2(vectors[1, 1], vectors[0, 1]),
    )
