"""The segmentation route: from a slice network's maps to a label map at the image's own size, its volumes, its Dice."""

import numpy as np
from scipy import ndimage

from hcreg import metrics
from hcreg.preprocessing.cardiac import LABELS, STRUCTURES, volumes_ml


def label_map_of(shares, frame, shape, spacing_mm):
    """Turn maps on a frame into a label map on the image's own grid.

    Parameters
    ----------
    shares : ndarray of shape (height_px, width_px, slices, classes), in [0, 1]
        Probabilities on the frame.
    frame : Frame
    shape : tuple of three int
        Of the image.
    spacing_mm : sequence of three float, mm

    Returns
    -------
    ndarray of shape `shape`, uint8
        Of each voxel the likeliest class. Only the largest connected heart is kept: what lies apart from it is another
        organ.
    """
    labels = np.argmax(frame.back(shares, shape, spacing_mm), axis=-1).astype(np.uint8)
    parts, num_parts = ndimage.label(labels > 0, structure=np.ones((3, 3, 3)))
    if num_parts > 1:
        sizes = np.bincount(parts.ravel())[1:]
        labels[parts != 1 + np.argmax(sizes)] = 0
    return labels


def mask_columns(shares, frame, record):
    """Volumes and overlaps of a predicted label map.

    Parameters
    ----------
    shares, frame
        As for `label_map_of`.
    record : ACDCRecord

    Returns
    -------
    dict of str to float
        ``RV_mask_ml`` and so on; ``RV_dice`` over the whole stack, in 3-D, NaN where the truth is not known.
    """
    truth = None if record.label_map_path is None else record.label_map()
    volume = record.image() if truth is None else truth
    labels = label_map_of(shares, frame, volume.array.shape, volume.spacing_mm)
    columns = {f"{name}_mask_ml": value for name, value in volumes_ml(labels, volume.spacing_mm).items()}
    for name in STRUCTURES:
        columns[f"{name}_dice"] = float("nan") if truth is None else _dice(truth.array, labels, LABELS[name])
    return columns


def _dice(truth, labels, label):
    # slices first: as a last axis, few of them would be taken for colour channels
    return metrics.dice_score(*(np.moveaxis(array == label, 2, 0) for array in (truth, labels)))
