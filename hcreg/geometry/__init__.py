"""Ellipses: fitted to a mask, an outline or points, mapped by affine maps, and measured in pixels or
millimetres.

Every coordinate is a *pixel-centre* coordinate: x to the right, y down, and the centre of the top-left pixel
is (0, 0). A resize by the factor s therefore maps p to (p + 0.5) s - 0.5 (:func:`resize_matrix`).

A spacing is one number, or ``(x, y)``, the size of a pixel in mm along x and along y. Note the order: an
array's shape is (height, width), a spacing is (x, y).

Only NumPy and OpenCV are used here.
"""

from hcreg.geometry.ellipse import Ellipse, ellipse_circumference, resize_matrix
from hcreg.geometry.fitting import FIT_METHODS, fit_ellipse, fit_ellipse_outline, fit_ellipse_points
from hcreg.geometry.head import gestational_age_weeks, head_circumference_mm
from hcreg.geometry.outline import HeadOutline, measure_mask, require_mask_of

__all__ = [
    "FIT_METHODS",
    "Ellipse",
    "HeadOutline",
    "ellipse_circumference",
    "fit_ellipse",
    "fit_ellipse_outline",
    "fit_ellipse_points",
    "gestational_age_weeks",
    "head_circumference_mm",
    "measure_mask",
    "require_mask_of",
    "resize_matrix",
]
