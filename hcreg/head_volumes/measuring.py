"""What a predicted label map is worth: overlap, distances of the surfaces, volumes."""

import numpy as np

from hcreg import metrics
from hcreg.preprocessing.cardiac import voxel_volume_ml

OVERLAPS = {
    "dice": metrics.dice_score,
    "conformity": metrics.conformity_score,
    "jaccard": metrics.jaccard_score,
}


def measure(truth, predicted, spacing_mm):
    """The measures of yang2020has for one volume.

    Parameters
    ----------
    truth, predicted : ndarray of shape (d1, d2, d3)
        The head: where it is not zero.
    spacing_mm : sequence of three float, mm
        From voxel to voxel along each axis, in the arrays' order.

    Returns
    -------
    dict
        ``dice``, ``conformity``, ``jaccard``; ``adb_mm``, the mean distance of the surfaces, and ``hdb_mm``, the
        greatest (Hausdorff), both symmetric; ``volume_true_ml``, ``volume_pred_ml``; ``failure``, in words why the
        distances are NaN: a predicted head without a voxel.

    Raises
    ------
    ValueError
        If the shapes differ, or one is not of three axes.

    References
    ----------
    .. [1] yang2020has, its evaluation: DSC, Conformity, Jaccard, Adb, Hdb.

    Examples
    --------
    >>> truth = np.zeros((4, 4, 4), int)
    >>> truth[1:3, 1:3, 1:3] = 1
    >>> found = measure(truth, np.roll(truth, 1, axis=0), (2.0, 1.0, 1.0))
    >>> found["dice"], found["hdb_mm"], found["adb_mm"], found["volume_true_ml"]
    (0.5, 2.0, 1.0, 0.016)
    """
    truth, predicted = np.asarray(truth) != 0, np.asarray(predicted) != 0
    found = {name: score(truth, predicted) for name, score in OVERLAPS.items()}
    # the metrics take the spacing as (x, y, z), the reverse of the array's axes
    distances = metrics.surface.boundary_distances(truth, predicted, tuple(spacing_mm)[::-1])
    voxel_ml = voxel_volume_ml(spacing_mm)
    return {
        **found,
        "adb_mm": distances.average_mm,
        "hdb_mm": distances.hausdorff_mm,
        "volume_true_ml": float(np.count_nonzero(truth) * voxel_ml),
        "volume_pred_ml": float(np.count_nonzero(predicted) * voxel_ml),
        "failure": distances.failure,
    }
