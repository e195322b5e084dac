"""The three structures of a short-axis cardiac MRI: their labels, their volumes, and what a cavity ejects."""

import math
from collections.abc import Mapping

import numpy as np

STRUCTURES = ("RV", "MYO", "LV")
LABELS: Mapping[str, int] = {"RV": 1, "MYO": 2, "LV": 3}  # 0 is background
NUM_CLASSES = 1 + len(STRUCTURES)
PHASES = ("ED", "ES")


def voxel_counts(label_map):
    """Count the voxels of each structure.

    Parameters
    ----------
    label_map : ndarray of int
        Of any shape, with ACDC's labels: 0 background, 1 RV cavity, 2 myocardium, 3 LV cavity.

    Returns
    -------
    dict of str to int
        By `STRUCTURES`.

    Examples
    --------
    >>> import numpy as np
    >>> voxel_counts(np.array([[0, 1, 1], [2, 3, 3]]))
    {'RV': 2, 'MYO': 1, 'LV': 2}
    """
    counts = np.bincount(np.ravel(label_map), minlength=NUM_CLASSES)
    return {name: int(counts[LABELS[name]]) for name in STRUCTURES}


def voxel_volume_ml(spacing_mm):
    """Volume of one voxel.

    Parameters
    ----------
    spacing_mm : sequence of three float, mm

    Returns
    -------
    float, ml

    Examples
    --------
    >>> voxel_volume_ml((2.0, 2.0, 10.0))
    0.04
    """
    return math.prod(float(side) for side in spacing_mm) / 1000


def volumes_ml(label_map, spacing_mm):
    """Volume of each structure.

    Parameters
    ----------
    label_map : ndarray of int
        As for `voxel_counts`.
    spacing_mm : sequence of three float, mm
        Of the label map's own header.

    Returns
    -------
    dict of str to float, ml

    Examples
    --------
    >>> import numpy as np
    >>> volumes_ml(np.array([[[0, 1, 1], [2, 3, 3]]]), (10.0, 10.0, 10.0))
    {'RV': 2.0, 'MYO': 1.0, 'LV': 2.0}
    """
    voxel_ml = voxel_volume_ml(spacing_mm)
    return {name: count * voxel_ml for name, count in voxel_counts(label_map).items()}


def ejection_fraction_percent(ed_ml, es_ml):
    r"""Share of a cavity's end-diastolic volume that the heart ejects.

    .. math:: \mathrm{EF} = 100 \, \frac{V_{ED} - V_{ES}}{V_{ED}}

    Parameters
    ----------
    ed_ml, es_ml : float, ml

    Returns
    -------
    float, percent
        Negative where the cavity is larger at end-systole; NaN where the end-diastolic volume is not positive.

    Examples
    --------
    >>> ejection_fraction_percent(120.0, 48.0)
    60.0
    """
    return 100 * (ed_ml - es_ml) / ed_ml if ed_ml > 0 else math.nan
