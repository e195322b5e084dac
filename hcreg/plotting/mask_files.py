"""A predicted mask as a picture of its image's size, and the image with its outline drawn in."""

import cv2
import numpy as np
from PIL import Image

from hcreg.files import written_whole
from hcreg.plotting.canvas import ORANGE

_SKY_BLUE = "#56B4E9"  # of the same palette; the darker blue is lost on black
_SUBPIXEL_BITS = 4  # OpenCV draws between pixels in steps of 1/16


def write_mask(path, mask):
    """Write a mask as a PNG of 0 and 255.

    Parameters
    ----------
    path : path-like
        Missing folders are made.
    mask : ndarray of bool, shape (height, width)
    """
    _write(path, np.where(mask, 255, 0).astype(np.uint8))


def write_overlay(path, image, mask, ellipse=None):
    """Write an image with the border of a mask (light blue) and the ellipse fitted to it (orange) as a PNG.

    Parameters
    ----------
    path : path-like
        Missing folders are made.
    image : ndarray of uint8, shape (height, width)
    mask : ndarray of bool, shape (height, width)
    ellipse : hcreg.geometry.Ellipse, optional
        In pixels of the image.
    """
    picture = np.repeat(image[..., None], 3, axis=-1)
    borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, borders, -1, _rgb(_SKY_BLUE))
    if ellipse is not None:
        # OpenCV's integer coordinates are pixel centres, as the ellipse's are
        points = np.round(ellipse.contour() * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(picture, [points], True, _rgb(ORANGE), 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    _write(path, picture)


def _rgb(colour):
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def _write(path, picture):
    with written_whole(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")
