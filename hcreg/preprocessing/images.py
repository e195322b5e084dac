"""Images before a network: read from a file without guessing, resize, standardise."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# What Pillow raises over damaged files: SyntaxError for a PNG's chunks, TypeError for a TIFF's tags, ...
_DAMAGED = (OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, OverflowError, struct.error)


def read_image(path):
    """Read one 8-bit grey image, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, BMP or TIFF file.

    Returns
    -------
    ndarray of shape (height, width), uint8
        Intensities 0 to 255, as stored: a 1-bit image gives 0 and 255.

    Raises
    ------
    FileNotFoundError
        If no file has this path.
    ValueError
        If the file is a folder, is empty, is no image of these formats, is truncated or damaged, has more
        than 8 bits a channel, or holds more than one frame. Each has its own message, which names the file.

    Notes
    -----
    *Colour.* Many ultrasound machines store grey pictures in colour: where the channels agree, that channel
    is taken exactly. A picture with coloured calipers or text is converted by luminance (ITU-R BT.601,
    0.299 R + 0.587 G + 0.114 B), which leaves its grey pixels as they are. Transparency is ignored.

    *More than 8 bits* are refused: a scanner writes 10 or 12 bits into 16, which ones the file does not say,
    and dividing by the wrong maximum gives an almost black picture without a word.

    Pixels come in the order of the file; an EXIF orientation is not applied, for an annotation has none.
    Pillow decodes, because OpenCV returns half a picture for a truncated file with no more than a warning.
    """
    path = Path(path)
    content = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            refusal = _refusal(image)
            grey = None if refusal else _to_grey(image)
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a PNG, JPEG, BMP or TIFF image, whatever its name says. "
            "Export it from its own program as an 8-bit PNG."
        ) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} claims more than {2 * Image.MAX_IMAGE_PIXELS} pixels, which no ultrasound image has: "
            "its header is damaged, or it is another kind of file. Replace it."
        ) from None
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}). Copy or download it again; no part of it was used."
        ) from error
    if refusal:
        raise ValueError(f"{path} {refusal}")
    return grey


def read_shape(path):
    """Read the shape of an image from its header, without decoding it.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    tuple of int (height_px, width_px)

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_image`, if there is no header to read; damage beyond the header goes unseen.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.height, image.width
    except (*_DAMAGED, UnidentifiedImageError, Image.DecompressionBombError):
        return read_image(path).shape  # it has words for whatever is wrong


def _read_bytes(path):
    if not path.exists():
        raise FileNotFoundError(f"There is no image file {path}. Check its spelling, upper and lower case too.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the path of one image file inside it.")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"{path} is empty (0 bytes). Copy or download it again.")
    return content


def _refusal(image):
    """Say why a sound image is not one 8-bit frame, or None."""
    num_frames = getattr(image, "n_frames", 1)
    if num_frames > 1:
        return f"holds {num_frames} frames; expected one. Save the one to measure by itself."
    shown = image.mode in _GREY_MODES + _COLOUR_MODES
    if not shown or any("16" in _raw_mode(tile) for tile in image.tile):
        return (
            f"has more than 8 bits a channel, or no intensities (Pillow's mode {image.mode!r}). "
            "Expected 8 bits. Map its intensities to 0-255 and save it as an 8-bit PNG."
        )
    return None


def _raw_mode(tile):
    """Give the stored layout: of 16-bit colour, Pillow drops the low byte and only this still tells."""
    arguments = tile[-1]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _to_grey(image):
    if image.mode in _GREY_MODES:
        return np.array(image.convert("L"))
    colour = image.convert("RGB")
    channels = np.asarray(colour)
    if np.all(channels == channels[..., :1]):
        return channels[..., 0].copy()
    return np.array(colour.convert("L"))
