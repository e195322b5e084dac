"""How far two masks overlap; NumPy only.

Every function takes one pair of masks, of one image or one volume, in the order truth, prediction, and looks at
every pixel of both at once. A test set's score is the mean of its images' scores: pooling the pixels of all images
instead would let the large heads decide.

What a mask may be is the same here and in :mod:`hcreg.metrics.surface`: bool, 0/1 or 0/255 of any dtype, each of the
two by itself, so that a 0/1 prediction may meet a 0/255 annotation.
"""

import numpy as np

__all__ = ["conformity_score", "dice_score", "jaccard_score"]


def dice_score(mask_true, mask_pred):
    r"""Dice similarity coefficient (DSC) of two masks.

    .. math:: \mathrm{DSC} = \frac{2 |T \cap P|}{|T| + |P|}

    Parameters
    ----------
    mask_true, mask_pred : array-like of shape (height, width) or (depth, height, width); any number of axes
        Reference and predicted mask: bool, 0/1 or 0/255, of one shape.

    Returns
    -------
    float
        In [0, 1]; one is best. Both masks empty: 1, they agree. One empty: 0.

    Raises
    ------
    ValueError
        If the shapes differ, a mask has no pixels, its last axis looks like colour channels or classes, or it holds
        anything but 0/1 or 0/255: NaN, probabilities, logits, a label map.

    Notes
    -----
    A fraction; the papers' tables print it in percent. It has no unit and does not depend on the spacing.

    References
    ----------
    .. [1] zhang2021biometrics, column "Dice" of its tables; heuvel2018hc18, measure "DSC" of the challenge;
       yang2020has, "DSC".

    Examples
    --------
    >>> dice_score([[1, 1, 0, 0]], [[0, 1, 1, 0]])
    0.5
    """
    both, num_true, num_pred = _pixel_counts(mask_true, mask_pred)
    if num_true + num_pred == 0:
        return 1.0
    return 2.0 * both / (num_true + num_pred)


def jaccard_score(mask_true, mask_pred):
    r"""Jaccard index of two masks: intersection over union.

    .. math:: J = \frac{|T \cap P|}{|T \cup P|} = \frac{\mathrm{DSC}}{2 - \mathrm{DSC}}

    Parameters
    ----------
    mask_true, mask_pred : array-like of shape (height, width) or (depth, height, width); any number of axes
        As in :func:`dice_score`.

    Returns
    -------
    float
        In [0, 1], never above the Dice score; one is best. Both masks empty: 1. One empty: 0.

    Raises
    ------
    ValueError
        As :func:`dice_score`.

    References
    ----------
    .. [1] yang2020has, "Jaccard".

    Examples
    --------
    >>> jaccard_score([[1, 1, 1, 0]], [[0, 1, 1, 1]])
    0.5
    """
    both, num_true, num_pred = _pixel_counts(mask_true, mask_pred)
    union = num_true + num_pred - both
    if union == 0:
        return 1.0
    return both / union


def conformity_score(mask_true, mask_pred):
    r"""Conformity coefficient of two masks: one minus the wrong pixels per right foreground pixel.

    .. math::
        C = \frac{3\,\mathrm{DSC} - 2}{\mathrm{DSC}}
          = 1 - \frac{|T \setminus P| + |P \setminus T|}{|T \cap P|}

    Parameters
    ----------
    mask_true, mask_pred : array-like of shape (height, width) or (depth, height, width); any number of axes
        As in :func:`dice_score`.

    Returns
    -------
    float
        In [-inf, 1]; one is best, zero where Dice is 2/3: as many pixels wrong as right. ``-inf`` where the masks
        have no pixel in common, one empty mask included: the limit of the formula. Both empty: 1.

    Raises
    ------
    ValueError
        As :func:`dice_score`.

    Notes
    -----
    It spreads what Dice presses together near one (Dice 0.97 and 0.98 are 0.938 and 0.959). One image without
    overlap makes a mean over the test set ``-inf``: count such images, and report the median beside it.

    References
    ----------
    .. [1] yang2020has, "Conformity".

    Examples
    --------
    >>> conformity_score([[1, 1, 1, 1]], [[1, 1, 0, 0]])
    0.0
    """
    both, num_true, num_pred = _pixel_counts(mask_true, mask_pred)
    if num_true + num_pred == 0:
        return 1.0
    if both == 0:
        return -np.inf
    # The second form, on whole numbers: exact where the first would subtract rounded ones.
    return 1.0 - (num_true + num_pred - 2 * both) / both


def binary_pair(mask_true, mask_pred):
    """Both masks as bool arrays of one shape, after the checks every metric of masks shares.

    A bool mask is returned as it is, without a copy.
    """
    mask_true = _binary("mask_true", mask_true)
    mask_pred = _binary("mask_pred", mask_pred)
    if mask_true.shape != mask_pred.shape:
        raise ValueError(
            "`mask_true` and `mask_pred` must be of one shape. "
            f"Received: {mask_true.shape} and {mask_pred.shape}. "
            "Resize the prediction to the size of the original image and squeeze batch and channel axes first."
        )
    return mask_true, mask_pred


def _pixel_counts(mask_true, mask_pred):
    """Foreground pixels of both, of the truth, of the prediction, as Python integers."""
    mask_true, mask_pred = binary_pair(mask_true, mask_pred)
    return tuple(int(np.count_nonzero(part)) for part in (mask_true & mask_pred, mask_true, mask_pred))


def _binary(name, mask):
    """One mask as a bool array."""
    mask = np.asarray(mask)
    if mask.size == 0 or mask.ndim == 0:
        raise ValueError(f"`{name}` has no pixels. Received shape: {mask.shape}.")
    # 2 to 4 columns and more rows and slices than columns: softmax classes, RGB or RGBA, or slices stored last.
    if mask.ndim >= 3 and 2 <= mask.shape[-1] <= 4 and min(mask.shape[-3:-1]) > mask.shape[-1]:
        raise ValueError(
            f"`{name}` must be one mask, (height, width) or (depth, height, width). "
            f"Received shape: {mask.shape}, whose last axis looks like {mask.shape[-1]} channels or classes. "
            "Pass one of them, such as `mask[..., 0]`; if they are slices, `np.moveaxis(mask, -1, 0)`."
        )
    if mask.dtype == bool:
        return mask
    if mask.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must be bool or hold numbers. Received dtype: {mask.dtype}. Convert it first.")
    # Two passes over the pixels settle the good case; which value is wrong is looked for only if one is.
    top = 255 if mask.max() == 255 else 1
    inside = mask != 0
    if np.count_nonzero(mask == top) != np.count_nonzero(inside):
        _refuse_values(name, mask, inside & (mask != top))
    return inside


def _refuse_values(name, mask, wrong):
    """Raise, saying what the mask holds instead of 0/1 or 0/255."""
    num_nan = int(np.count_nonzero(np.isnan(mask))) if mask.dtype.kind == "f" else 0
    if num_nan:
        raise ValueError(f"`{name}` holds NaN in {num_nan} of {mask.size} pixels. Find out why before scoring it.")
    raise ValueError(
        f"`{name}` must hold 0/1 or 0/255. "
        f"Received values from {mask.min():g} to {mask.max():g}, among them {mask[wrong][0]:g}. "
        "For probabilities pass `probabilities >= 0.5`, for logits `logits >= 0`, for a label map `label_map == label`."
    )
