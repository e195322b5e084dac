"""What a segmented head is worth: its circumference and its agreement with the reference, at the image's own size."""

import numpy as np

from hcreg import metrics
from hcreg.geometry import Ellipse, measure_mask
from hcreg.preprocessing.maps import map_to_image

_ELLIPSE_COLUMNS = {
    "ellipse_center_x_px": "center_x_px",
    "ellipse_center_y_px": "center_y_px",
    "ellipse_semi_axis_a_px": "semi_axis_a_px",
    "ellipse_semi_axis_b_px": "semi_axis_b_px",
    "ellipse_angle_rad": "angle_rad",
}


def mask_columns(probabilities, reference, image_shape, pixel_size_mm):
    """One image's columns of ``predictions.csv`` that a mask gives.

    Parameters
    ----------
    probabilities : ndarray of shape (height, width, 1)
        The network's map over the padded frame.
    reference : Ellipse
        The annotated head, in pixels of the image.
    image_shape : tuple of int (height_px, width_px)
    pixel_size_mm : float

    Returns
    -------
    dict
        Twice, for the mask as it is (``..._original``: every component counts) and after post-processing
        (``..._ellipse``: the ellipse of the largest component, filled): hc_..._mm, dice_..., jaccard_...,
        hausdorff_..._px and _mm, boundary_distance_..._px and _mm (average). The ellipse, in pixels of the image.
        ``failure`` and ``failure_original``: why the mask has no usable outline, empty where it has one; its lengths
        are then NaN and the overlap of a missing ellipse is 0.

    References
    ----------
    .. [1] zhang2021biometrics, Tables 1 to 3.
    """
    at_image = map_to_image(probabilities, image_shape)
    true_mask = reference.mask(image_shape)
    original = measure_mask(at_image, pixel_size_mm, postprocess=False)
    fitted = measure_mask(at_image, pixel_size_mm)
    # without an ellipse nothing is segmented: an overlap of 0, and no distance
    filled = np.zeros(image_shape, bool) if fitted.ellipse is None else fitted.ellipse.mask(image_shape)
    columns = {"failure": fitted.failure, "failure_original": original.failure}
    for name, mask, hc_mm in (("original", at_image > 0.5, original.hc_mm), ("ellipse", filled, fitted.hc_mm)):
        distances = metrics.boundary_distances(true_mask, mask, pixel_size_mm)
        columns.update(
            {
                f"hc_{name}_mm": hc_mm,
                f"dice_{name}": metrics.dice_score(true_mask, mask),
                f"jaccard_{name}": metrics.jaccard_score(true_mask, mask),
                f"hausdorff_{name}_px": distances.hausdorff_px,
                f"hausdorff_{name}_mm": distances.hausdorff_mm,
                f"boundary_distance_{name}_px": distances.average_px,
                f"boundary_distance_{name}_mm": distances.average_mm,
            }
        )
    for column, attribute in _ELLIPSE_COLUMNS.items():
        columns[column] = float("nan") if fitted.ellipse is None else getattr(fitted.ellipse, attribute)
    return columns


def predicted_length(own, fitted, failure):
    """What a segmentation network is said to measure.

    Parameters
    ----------
    own : float or None, any unit
        The circumference of the network's own (``head="ellipse"``); None where it gives none.
    fitted : float, the unit of `own`
        That of the ellipse fitted to its mask.
    failure : str
        Why the mask has no usable outline; empty where it has one.

    Returns
    -------
    float
        Its own where it gives one. NaN with a failure: moments give an empty mask 3.5 px, a small number that would
        pass for a head.

    Examples
    --------
    >>> predicted_length(100.0, 101.0, ""), predicted_length(None, 101.0, ""), predicted_length(3.5, 0.0, "empty")
    (100.0, 101.0, nan)
    """
    if failure:
        return float("nan")
    return fitted if own is None else own


def ellipse_of_row(row):
    """The fitted ellipse that a row of ``predictions.csv`` holds.

    Parameters
    ----------
    row : dict

    Returns
    -------
    Ellipse or None
        In pixels of the image; None where the mask had no usable outline, or the row is of a direct regressor.
    """
    numbers = [row.get(column, float("nan")) for column in _ELLIPSE_COLUMNS]
    return None if any(number != number for number in numbers) else Ellipse(*numbers)
