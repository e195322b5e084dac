"""Any size into a network that wants multiples, and back: pad on both sides, crop the same away.

>>> import numpy as np
>>> volume = np.ones((155, 103, 176))
>>> padding = padding_of(volume.shape, 8)
>>> padding
((2, 3), (0, 1), (0, 0))
>>> pad(volume, padding).shape, crop(pad(volume, padding), padding).shape
((160, 104, 176), (155, 103, 176))
"""

import numpy as np

MODES = ("edge", "constant")


def padding_of(shape, multiple, smallest=None):
    """How much is missing to the next multiples, half of it before and half after.

    Parameters
    ----------
    shape : sequence of int
        The sides of an image or volume, without channels.
    multiple : int
        1 or more.
    smallest : int, optional
        Least side to pad, `multiple` by default: less would be mostly padding.

    Returns
    -------
    tuple of tuple of two int
        Before and after, of each axis; where the number is odd, one more after.

    Raises
    ------
    ValueError
        For a side below `smallest`, and a multiple below 1.
    """
    if isinstance(multiple, bool) or not isinstance(multiple, (int, np.integer)) or multiple < 1:
        raise ValueError(f"Sides are padded to multiples of a whole number, 1 or more. Received: {multiple!r}.")
    sides = [int(side) for side in shape]
    least = max(1, multiple if smallest is None else smallest)
    if not sides or min(sides) < least:
        raise ValueError(
            f"A volume of {' x '.join(map(str, sides))} is smaller than the network's pooling allows: every side needs "
            f"at least {least} voxels. Resample it to smaller voxels, or pass a larger part of it."
        )
    missing = [-side % int(multiple) for side in sides]
    return tuple((number // 2, number - number // 2) for number in missing)


def pad(array, padding, mode="constant", value=0):
    """Pad the first axes of an array.

    Parameters
    ----------
    array : ndarray of shape (height, width, [slices,] ...)
        Further axes, such as channels, stay.
    padding : sequence of tuple of two int
        As of `padding_of`.
    mode : {"constant", "edge"}
        What the new voxels are: `value`, or the border's own again.
    value : number
        With ``mode="constant"``; a number of the array's type.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        For an unknown mode, or more axes than the array has.

    Notes
    -----
    Labels are padded with 0, the background. An ultrasound volume is 0 outside the cone, so 0 goes on with that.
    """
    if mode not in MODES:
        raise ValueError(f"Padding is by mode='constant' or 'edge'. Received: mode={mode!r}.")
    array = np.asarray(array)
    widths = _of_all_axes(array, padding)
    return np.pad(array, widths, mode, **({"constant_values": value} if mode == "constant" else {}))


def crop(array, padding):
    """Take away what `pad` added.

    Parameters
    ----------
    array : ndarray of shape (height, width, [slices,] ...)
    padding : sequence of tuple of two int

    Returns
    -------
    ndarray
        A view.

    Raises
    ------
    ValueError
        If the array has fewer axes or smaller ones than the padding.
    """
    array = np.asarray(array)
    widths = _of_all_axes(array, padding)
    if any(before + after >= side for (before, after), side in zip(widths, array.shape)):
        raise ValueError(
            f"There is nothing left of an array of shape {array.shape} without the padding {tuple(padding)}: it is not "
            "the array that was padded."
        )
    return array[tuple(slice(before, side - after) for (before, after), side in zip(widths, array.shape))]


def _of_all_axes(array, padding):
    if len(padding) > array.ndim:
        raise ValueError(
            f"The padding {tuple(padding)} is for {len(padding)} axes or more. Received: an array of shape "
            f"{array.shape}."
        )
    return [*padding, *[(0, 0)] * (array.ndim - len(padding))]
