"""Bring a network's maps over the padded frame, of probabilities or of relevance, back to the original image."""

import cv2
import numpy as np

from hcreg.preprocessing.frames import place


def map_to_image(probabilities, image_shape):
    """Enlarge a map over the padded frame to the image it was made from, and cut the padding off.

    Parameters
    ----------
    probabilities : array-like of shape (height, width) or (height, width, 1), in [0, 1]
        One class of one image, at the network's input size; the whole frame of `place(image_shape)`.
    image_shape : (height_px, width_px)
        Of the original image.

    Returns
    -------
    ndarray of float32 in [0, 1], shape `image_shape`
        NaN where and next to where the map is NaN.

    Raises
    ------
    ValueError
        If the map holds several classes or images, no pixels, or values outside [0, 1]; if the shape is none.

    Notes
    -----
    Pixels are squares about their centres, in both sizes: p is mapped to (p + 0.5) s - 0.5.

    Cubic interpolation, where the papers' linear one is a blur that moves the edge of a round head inwards: over
    masks of HC18's head sizes, the share of each pixel at 96x128, the head circumference comes out 0.024 mm too
    small with linear interpolation (SD 0.023, at most 0.16) and 0.013 mm with cubic (SD 0.017, at most 0.09); at
    224x224 0.006 and 0.004 mm. Cubic interpolation overshoots beside an edge: the result is clipped to [0, 1].

    References
    ----------
    .. [1] zhang2021biometrics, section on post-processing.

    Examples
    --------
    >>> frame = np.zeros((54, 80, 1), np.float32)
    >>> frame[:, :40] = 1.0
    >>> image_map = map_to_image(frame, (540, 400))  # padded to 540 x 800, by 200 columns on each side
    >>> image_map.shape, image_map[0, [0, -1]].round(3).tolist()
    ((540, 400), [1.0, 0.0])
    """
    placement = place(image_shape)
    probabilities = np.asarray(probabilities)
    shape = probabilities.shape
    if probabilities.ndim == 3 and shape[2] == 1:
        probabilities = probabilities[:, :, 0]
    if probabilities.ndim != 2 or probabilities.size == 0:
        raise ValueError(
            "Expected the map of one class of one image, of shape (height, width) or (height, width, 1). "
            f"Received: shape {shape}. Take one image of a batch, and one class: maps[i, :, :, k]."
        )
    probabilities = probabilities.astype(np.float32)
    low, high = np.fmin.reduce(probabilities, axis=None), np.fmax.reduce(probabilities, axis=None)
    if low < 0 or high > 1:
        raise ValueError(
            f"Expected probabilities in [0, 1]. Received: values from {low:g} to {high:g}. "
            "Apply the sigmoid to logits, and divide a 0/255 mask by 255, first."
        )
    image_map = _enlarged(probabilities, placement, cv2.INTER_CUBIC)
    return np.clip(image_map, 0.0, 1.0, out=image_map)


def relevance_to_image(relevance, square_shape, image_shape=None):
    """Enlarge a map of relevance over the padded frame to the image it was made from, and cut the padding off.

    Parameters
    ----------
    relevance : array-like of shape (height, width)
        Of any sign and unit, at the network's input size.
    square_shape : (height_px, width_px)
        Of the image, if its pixels are square, or of the image resampled to square pixels.
    image_shape : (height_px, width_px), optional
        Of the image with its own pixels, where they are not square.

    Returns
    -------
    ndarray of float32, of the image's shape
        For looking at: values are still those of a pixel of the network's input, several of which, or parts of one, now
        make a pixel, so sums over regions are not kept.

    Raises
    ------
    ValueError
        If the map is not of one image, or the shape is none.

    Notes
    -----
    Linear interpolation, in which no number lies beyond its neighbours: cubic interpolation would put a rim of the
    other sign round every spot.

    Examples
    --------
    >>> frame = np.zeros((54, 80), np.float32)
    >>> frame[:, :40] = -3.0
    >>> image_map = relevance_to_image(frame, (540, 400))  # padded to 540 x 800, by 200 columns on each side
    >>> image_map.shape, image_map[0, [0, -1]].tolist()
    ((540, 400), [-3.0, 0.0])
    """
    relevance = np.asarray(relevance, np.float32)
    if relevance.ndim != 2 or relevance.size == 0:
        raise ValueError(
            "Expected the relevance of the pixels of one image, of shape (height, width). "
            f"Received: shape {relevance.shape}. Sum over channels, and take one image of a batch, first."
        )
    image_map = _enlarged(relevance, place(square_shape), cv2.INTER_LINEAR)
    if image_shape is None or tuple(image_shape) == image_map.shape:
        return image_map
    return cv2.resize(image_map, tuple(image_shape)[::-1], interpolation=cv2.INTER_LINEAR)


def _enlarged(frame_map, placement, interpolation):
    height, width = placement.padded_shape
    frame = cv2.resize(frame_map, (width, height), interpolation=interpolation)
    top, left = placement.top_px, placement.left_px
    return frame[top : top + placement.image_shape[0], left : left + placement.image_shape[1]]
