"""Ellipses: fitted to a mask, an outline or points, mapped by affine maps, and measured in pixels or
millimetres.

Every coordinate is a *pixel-centre* coordinate: x to the right, y down, and the centre of the top-left pixel
is (0, 0). A resize by the factor s therefore maps p to (p + 0.5) s - 0.5 (:func:`resize_matrix`).

A spacing is one number, or ``(x, y)``, the size of a pixel in mm along x and along y. Note the order: an
array's shape is (height, width), a spacing is (x, y).

Only NumPy and OpenCV are used here.
"""

import math
import warnings
from dataclasses import astuple, dataclass

import cv2
import numpy as np

__all__ = [
    "Ellipse",
    "ellipse_circumference",
    "fit_ellipse",
    "fit_ellipse_outline",
    "fit_ellipse_points",
    "gestational_age_weeks",
    "head_circumference_mm",
    "resize_matrix",
]

FIT_METHODS = ("boundary", "moments")

# Points spread less than this part of their length across it count as lying on one line.
_COLLINEAR = 1e-3

# Pixels of a drawn outline may lie this far from the fitted ellipse (root mean square, as a part of the minor
# semi-axis). A stroke as thick as 40 % of the radius stays below; a filled ellipse has 0.34.
_OUTLINE_SPREAD = 0.15
# Length of outline averaged to one point of its centre line: a few pixels, so that each point has several.
_SECTOR_PX = 4.0

# Hadlock 1984: the regression and the menstrual ages, in weeks, of the fetuses it was made from.
_HADLOCK_COEFFICIENTS = (8.96, 0.540, 0.0003)
_HADLOCK_WEEKS = (14.0, 42.0)


def ellipse_circumference(a, b):
    r"""Circumference of an ellipse by Ramanujan's second approximation.

    .. math:: \pi (a + b) \left(1 + \frac{3h}{10 + \sqrt{4 - 3h}}\right), \qquad
              h = \frac{(a - b)^2}{(a + b)^2}

    Parameters
    ----------
    a, b : float or array-like, any unit of length
        *Semi*-axes, in either order. Note that ``cv2.fitEllipse`` returns full axes.

    Returns
    -------
    float or ndarray, the unit of ``a`` and ``b``
        A float for two numbers, else an array of their broadcast shape.

    Raises
    ------
    ValueError
        If a semi-axis is negative, infinite or NaN.

    Notes
    -----
    The relative error is below 1e-9 for an axis ratio b/a of 0.48 or more (5e-10 at 0.5, 1.2e-5 at 0.1, 4e-4
    at 0). HC18's heads have 0.66 to 0.96.

    Departure from the paper: its text prints "b = (a-b)²/(a+b)²", a misprint for h, and calls a and b axes.

    References
    ----------
    .. [1] zhang2021biometrics, section on post-processing (circumference of the fitted ellipse).

    Examples
    --------
    >>> round(ellipse_circumference(3.0, 2.0), 6)
    15.86544
    >>> ellipse_circumference([1.0, 2.0], [1.0, 2.0]) / np.pi
    array([2., 4.])
    """
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    if not (np.all(np.isfinite(a) & (a >= 0)) and np.all(np.isfinite(b) & (b >= 0))):
        raise ValueError(f"semi-axes must be finite and not negative. Received: a={a}, b={b}.")
    total = a + b
    h = ((a - b) / np.where(total > 0, total, 1.0)) ** 2
    circumference = np.pi * total * (1.0 + 3.0 * h / (10.0 + np.sqrt(4.0 - 3.0 * h)))
    return float(circumference) if circumference.ndim == 0 else circumference


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in pixel-centre coordinates.

    Parameters
    ----------
    center_x_px, center_y_px : float, px
        Centre; (0, 0) is the centre of the top-left pixel.
    semi_axis_a_px, semi_axis_b_px : float, px
        Major and minor semi-axis, a >= b > 0.
    angle_rad : float in [0, pi)
        From the x axis to the major axis, in image coordinates (y down).

    Raises
    ------
    ValueError
        If a number is not finite, the axes are not a >= b > 0, or the angle is outside [0, pi).
        :meth:`from_axes` accepts the axes in either order and any angle.
    """

    center_x_px: float
    center_y_px: float
    semi_axis_a_px: float
    semi_axis_b_px: float
    angle_rad: float

    def __post_init__(self):
        if not all(math.isfinite(value) for value in astuple(self)):
            raise ValueError(f"an ellipse's numbers must be finite. Received: {self}.")
        if not self.semi_axis_a_px >= self.semi_axis_b_px > 0:
            raise ValueError(
                f"an ellipse needs semi_axis_a_px >= semi_axis_b_px > 0. Received: {self.semi_axis_a_px} "
                f"and {self.semi_axis_b_px}. Ellipse.from_axes takes them in either order."
            )
        if not 0 <= self.angle_rad < math.pi:
            raise ValueError(
                f"angle_rad must lie in [0, pi). Received: {self.angle_rad}. Ellipse.from_axes takes any angle."
            )

    @classmethod
    def from_axes(cls, center_x_px, center_y_px, semi_axis_1_px, semi_axis_2_px, angle_rad):
        """Ellipse from its semi-axes in either order; ``angle_rad``, any, is that of the first one."""
        a, b, angle = float(semi_axis_1_px), float(semi_axis_2_px), float(angle_rad)
        if a < b:
            a, b, angle = b, a, angle + math.pi / 2
        return cls(float(center_x_px), float(center_y_px), a, b, _half_turn(angle))

    @classmethod
    def _from_matrix(cls, center, matrix):
        """Ellipse ``center + matrix @ (cos t, sin t)``: its axes are the matrix's singular values."""
        vectors, axes, _ = np.linalg.svd(matrix)
        if axes[1] <= 0:
            raise ValueError(f"the map is singular, it squeezes the ellipse to a line: {matrix.tolist()}.")
        angle = math.atan2(vectors[1, 0], vectors[0, 0])
        return cls(float(center[0]), float(center[1]), float(axes[0]), float(axes[1]), _half_turn(angle))

    @property
    def _matrix(self):
        """(2, 2) matrix that maps the unit circle to the ellipse, centre apart."""
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        a, b = self.semi_axis_a_px, self.semi_axis_b_px
        return np.array([[a * cos, -b * sin], [a * sin, b * cos]])

    @property
    def circumference_px(self):
        """Circumference by Ramanujan II, px; see :func:`ellipse_circumference`."""
        return ellipse_circumference(self.semi_axis_a_px, self.semi_axis_b_px)

    def circumference_mm(self, spacing_mm):
        """Circumference in mm.

        Parameters
        ----------
        spacing_mm : float or (x, y), mm
            Size of a pixel. With two numbers the ellipse is scaled along x and y *first* and then measured:
            no single factor turns px into mm there.

        Returns
        -------
        float, mm
        """
        scale_x, scale_y = _spacing_xy(spacing_mm)
        if scale_x == scale_y:
            return self.circumference_px * scale_x
        return self.transformed([[scale_x, 0.0, 0.0], [0.0, scale_y, 0.0]]).circumference_px

    def transformed(self, matrix):
        """Exact image of the ellipse under an affine map.

        Parameters
        ----------
        matrix : array-like of shape (2, 3)
            Maps (x, y) to ``matrix[:, :2] @ (x, y) + matrix[:, 2]``, as in ``cv2.warpAffine`` with
            WARP_INVERSE_MAP *off*. For a resize use :func:`resize_matrix`.

        Returns
        -------
        Ellipse
        """
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.shape != (2, 3):
            raise ValueError(f"an affine map must be of shape (2, 3). Received: {matrix.shape}.")
        if not np.isfinite(matrix).all():
            raise ValueError(f"an affine map must be finite. Received: {matrix.tolist()}.")
        center = matrix[:, :2] @ (self.center_x_px, self.center_y_px) + matrix[:, 2]
        return self._from_matrix(center, matrix[:, :2] @ self._matrix)

    def bounding_box(self):
        """Analytic bounding box ``(x_min, y_min, x_max, y_max)``, px, in pixel-centre coordinates."""
        half_x, half_y = np.linalg.norm(self._matrix, axis=1)
        return (
            float(self.center_x_px - half_x),
            float(self.center_y_px - half_y),
            float(self.center_x_px + half_x),
            float(self.center_y_px + half_y),
        )

    def contour(self, num_points=360):
        """Points once round the ellipse from the end of its major axis: (num_points, 2) of (x, y), px."""
        if num_points < 1:
            raise ValueError(f"num_points must be at least 1. Received: {num_points}.")
        t = np.arange(num_points) * (2 * np.pi / num_points)
        unit_circle = np.stack([np.cos(t), np.sin(t)], axis=1)
        return unit_circle @ self._matrix.T + (self.center_x_px, self.center_y_px)

    def mask(self, shape):
        """Filled mask: True where a pixel's centre lies inside the ellipse or on it.

        Parameters
        ----------
        shape : (height, width)
            What lies outside is cut off.

        Returns
        -------
        ndarray of bool, shape (height, width)
        """
        height, width = (int(size) for size in shape)
        x_min, y_min, x_max, y_max = self.bounding_box()
        left, top = max(math.floor(x_min), 0), max(math.floor(y_min), 0)
        right, bottom = min(math.ceil(x_max) + 1, width), min(math.ceil(y_max) + 1, height)
        mask = np.zeros((height, width), dtype=bool)
        if left >= right or top >= bottom:
            return mask
        (xx, xy), (yx, yy) = np.linalg.inv(self._matrix)
        x = np.arange(left, right) - self.center_x_px
        y = np.arange(top, bottom)[:, None] - self.center_y_px
        mask[top:bottom, left:right] = (xx * x + xy * y) ** 2 + (yx * x + yy * y) ** 2 <= 1.0
        return mask


def resize_matrix(from_shape, to_shape):
    """Affine map of pixel-centre coordinates under a resize, p -> (p + 0.5) s - 0.5 along each axis.

    Parameters
    ----------
    from_shape, to_shape : (height, width)
        Shapes of the image before and after, as ``array.shape[:2]``.

    Returns
    -------
    ndarray of shape (2, 3)
        For :meth:`Ellipse.transformed`.

    Examples
    --------
    >>> resize_matrix((100, 200), (50, 50))
    array([[ 0.25 ,  0.   , -0.375],
           [ 0.   ,  0.5  , -0.25 ]])
    """
    for name, shape in (("from_shape", from_shape), ("to_shape", to_shape)):
        if len(shape) != 2 or min(shape) <= 0:
            raise ValueError(f"{name} must be (height, width), both positive. Received: {tuple(shape)}.")
    scale_y, scale_x = to_shape[0] / from_shape[0], to_shape[1] / from_shape[1]
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5]])


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
    scale = np.array(_spacing_xy(spacing_mm))
    values, level = _checked_mask(mask)
    inside, offset = _largest_component(values > level)
    if method == "moments":
        return _not_too_thin(_ellipse_of_moments(inside, offset))
    points = _boundary_points(values, level, inside, offset)
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
    values, level = _checked_mask(outline)
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
    scale = np.array(_spacing_xy(spacing_mm))
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


def head_circumference_mm(mask, spacing_mm, method="boundary"):
    """Head circumference of a filled mask: largest component, ellipse, Ramanujan II.

    Parameters
    ----------
    mask : array-like of shape (height, width)
        As in :func:`fit_ellipse`.
    spacing_mm : float or (x, y), mm
        Size of the *mask's* pixels. For a mask of 128x128 of a 800x540 image at 0.135 mm that is
        ``(0.135 * 800 / 128, 0.135 * 540 / 128)``.
    method : {"boundary", "moments"}
        As in :func:`fit_ellipse`.

    Returns
    -------
    float, mm

    Raises
    ------
    ValueError
        As :func:`fit_ellipse`; and if the spacing is not positive.

    Examples
    --------
    >>> disc = Ellipse(60.0, 60.0, 50.0, 50.0, 0.0).mask((121, 121))
    >>> abs(head_circumference_mm(disc, 0.2) - 2 * np.pi * 50 * 0.2) < 0.1
    True
    """
    return fit_ellipse(mask, method=method, spacing_mm=spacing_mm).circumference_mm(spacing_mm)


def gestational_age_weeks(hc_mm):
    r"""Gestational age from the head circumference, by Hadlock's regression of 1984.

    .. math:: \mathrm{GA} = 8.96 + 0.540\,\mathrm{HC} + 0.0003\,\mathrm{HC}^3 \qquad (\text{HC in cm})

    Parameters
    ----------
    hc_mm : float or array-like, mm

    Returns
    -------
    float or ndarray, weeks
        Menstrual weeks. NaN outside 89.4 to 357.7 mm, the values that map to the 14 to 42 weeks the study
        covered; NaN for NaN.

    Warns
    -----
    UserWarning
        If a value lies outside that range. Smaller heads are dated by crown-rump length instead.

    References
    ----------
    .. [1] hadlock1984age: Hadlock, Deter, Harrist, Park: Estimating fetal age: computer-assisted analysis of
       multiple fetal growth parameters. Radiology 152, 497-501 (1984); the regression on HC alone.

    Examples
    --------
    >>> round(gestational_age_weeks(200.0), 2)
    22.16
    """
    hc_cm = np.asarray(hc_mm, dtype=np.float64) / 10.0
    constant, linear, cubic = _HADLOCK_COEFFICIENTS
    weeks = constant + linear * hc_cm + cubic * hc_cm**3
    # The regression grows with HC, so a range of weeks is a range of HC.
    outside = (weeks < _HADLOCK_WEEKS[0]) | (weeks > _HADLOCK_WEEKS[1])
    if outside.any():
        low_mm, high_mm = _hadlock_range_mm()
        warnings.warn(
            f"gestational age is NaN for {int(outside.sum())} of {outside.size} head circumferences outside "
            f"{low_mm:.1f} to {high_mm:.1f} mm, the 14 to 42 weeks that Hadlock 1984 covers.",
            UserWarning,
            stacklevel=2,
        )
    weeks = np.where(outside, np.nan, weeks)
    return float(weeks) if weeks.ndim == 0 else weeks


def _hadlock_range_mm():
    """Head circumferences, mm, that the regression maps to the ends of its range of weeks."""
    constant, linear, cubic = _HADLOCK_COEFFICIENTS
    ends_mm = []
    for weeks in _HADLOCK_WEEKS:
        roots = np.roots([cubic, 0.0, linear, constant - weeks])
        ends_mm.append(10.0 * float(roots[np.abs(roots.imag) < 1e-9].real[0]))
    return tuple(ends_mm)


def _half_turn(angle_rad):
    """The same direction in [0, pi); the remainder of a tiny negative angle rounds to pi itself."""
    angle = math.fmod(angle_rad, math.pi)
    angle = angle + math.pi if angle < 0 else angle
    return 0.0 if angle >= math.pi else angle


def _spacing_xy(spacing_mm):
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape not in {(), (1,), (2,)}:
        raise ValueError(f"spacing_mm must be one number or (x, y). Received shape: {spacing.shape}.")
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing_mm must be positive and finite. Received: {spacing_mm}.")
    x, y = np.broadcast_to(spacing, (2,))
    return float(x), float(y)


def _checked_mask(mask):
    """The mask as an array, and the level above which a pixel is inside."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(
            f"a mask must be 2-D, (height, width). Received shape: {mask.shape}. "
            "Squeeze batch and channel axes first, or pass one mask at a time."
        )
    if mask.size == 0:
        raise ValueError(f"the mask is empty: its shape is {mask.shape}.")
    if mask.dtype == bool:
        return mask.view(np.uint8), 0.5
    low, high = float(mask.min()), float(mask.max())
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"the mask holds NaN in {int(np.isnan(mask).sum())} of {mask.size} pixels.")
    # Cubic and Lanczos resizing take probabilities a little outside [0, 1].
    if low >= -0.25 and high <= 1.25:
        return mask, 0.5
    if low >= 0 and high == 255:
        return mask, 127.5
    raise ValueError(
        "a mask must hold 0/1, 0/255 or probabilities in [0, 1]. "
        f"Received values from {low:g} to {high:g}. "
        "For a label map pass `label_map == label`, for logits their sigmoid."
    )


def _largest_component(inside):
    """Component of the largest area, holes filled, cut to its bounding box; and the box's (x, y) offset."""
    inside = inside.view(np.uint8)
    left, top, width, height = cv2.boundingRect(inside)
    if width == 0:
        raise ValueError("the mask is empty: no pixel of it lies above the threshold.")
    window = inside[top : top + height, left : left + width]
    contours, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Pick's theorem: the number of pixels enclosed, the boundary's included.
    areas = [cv2.contourArea(contour) + len(contour) / 2 + 1 for contour in contours]
    contour = contours[int(np.argmax(areas))]
    x, y, width, height = cv2.boundingRect(contour)
    component = np.zeros((height, width), dtype=np.uint8)
    cv2.drawContours(component, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
    return component, (left + x, top + y)


def _boundary_points(values, level, inside, offset):
    """Where the component's boundary crosses the lines through pixel centres: (n, 2) of (x, y), px."""
    image_height, image_width = values.shape
    left, top = offset
    # One pixel more on each side, where the image has one: what touches the image's border is no boundary.
    before_x, before_y = min(left, 1), min(top, 1)
    after_x = min(image_width - left - inside.shape[1], 1)
    after_y = min(image_height - top - inside.shape[0], 1)
    inside = np.pad(inside, ((before_y, after_y), (before_x, after_x)))
    left, top = left - before_x, top - before_y
    window = values[top : top + inside.shape[0], left : left + inside.shape[1]]
    points = []
    for step_x, step_y in ((1, 0), (0, 1)):
        first = inside[: inside.shape[0] - step_y, : inside.shape[1] - step_x]
        second = inside[step_y:, step_x:]
        if first.size == 0:  # a window one pixel wide has no neighbours that way, and OpenCV refuses it
            continue
        changes = cv2.findNonZero(cv2.bitwise_xor(np.ascontiguousarray(first), np.ascontiguousarray(second)))
        if changes is None:
            continue
        x, y = changes.reshape(-1, 2).T
        here = window[y, x].astype(np.float64)
        there = window[y + step_y, x + step_x].astype(np.float64)
        fraction = (here - level) / (here - there)
        points.append(np.stack([left + x + step_x * fraction, top + y + step_y * fraction], axis=1))
    return np.concatenate(points) if points else np.zeros((0, 2))


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
