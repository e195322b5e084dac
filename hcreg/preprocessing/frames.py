"""Bring ultrasound images of any size to a network's input, and keep track of what that does to a length.

Nearly every HC18 image is 800 x 540 pixels, and the papers resize it to a square without more ado. An image
of another shape would be stretched differently, and a network that predicts pixels could not know. Here
every image is first padded with black to the proportions of the reference frame, so that all are stretched
alike and a length in reference pixels turns into millimetres by one known factor.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.geometry import resize_matrix

REFERENCE_SHAPE = (540, 800)
OVERSAMPLING = 2  # images are kept at twice the input size: averaging 2 x 2 then equals resizing in one go
NORMALISATIONS = ("standardise", "caffe", "tf", "torch")


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the reference frame.

    Attributes
    ----------
    image_shape : tuple of int (height_px, width_px)
    padded_shape : tuple of int (height_px, width_px)
        The image's shape after padding to the reference proportions (to the nearest pixel).
    top_px, left_px : int
        Rows and columns of padding above and to the left.
    """

    image_shape: tuple
    padded_shape: tuple
    top_px: int
    left_px: int

    @property
    def reference_px_per_image_px(self):
        """Factor from a length in image pixels to one in reference pixels; 1 for an 800 x 540 image."""
        padded, reference = np.prod(self.padded_shape, dtype=float), np.prod(REFERENCE_SHAPE, dtype=float)
        return float(np.sqrt(reference / padded))

    def matrix_to(self, shape):
        """Affine map from image pixels to the pixels of the whole frame resized to `shape`.

        Parameters
        ----------
        shape : tuple of int (height_px, width_px)

        Returns
        -------
        ndarray of shape (2, 3)
            Pixel-centre rule: (0, 0) is the centre of the top-left pixel.
        """
        matrix = resize_matrix(self.padded_shape, shape).copy()
        matrix[:, 2] += matrix[:, :2] @ (self.left_px, self.top_px)
        return matrix


def place(image_shape):
    """Place an image in the reference frame: the least black border that gives it the frame's proportions.

    Parameters
    ----------
    image_shape : tuple of int (height_px, width_px)

    Returns
    -------
    Placement

    Raises
    ------
    ValueError
        If the shape is not two positive numbers.

    Notes
    -----
    A border is a whole number of pixels, so the proportions are met to half a pixel: over the shapes of
    HC18 the two axes differ by at most 0.061 %, and the one factor for lengths is off by half of that at
    most.

    Examples
    --------
    >>> place((540, 800)).reference_px_per_image_px
    1.0
    >>> place((540, 400)).left_px
    200
    """
    if len(image_shape) != 2 or min(image_shape) < 1:
        raise ValueError(
            "A grey image has the shape (height_px, width_px), with at least one row and one column. "
            f"Received: shape {tuple(image_shape)}."
        )
    height, width = image_shape
    reference_height, reference_width = REFERENCE_SHAPE
    padded_height = max(height, round(width * reference_height / reference_width))
    padded_width = max(width, round(height * reference_width / reference_height))
    return Placement(
        (int(height), int(width)),
        (int(padded_height), int(padded_width)),
        (padded_height - height) // 2,
        (padded_width - width) // 2,
    )


def resize_in_frame(image, shape):
    """Pad an image to the reference proportions and resize it by area interpolation.

    Parameters
    ----------
    image : ndarray of shape (height_px, width_px)
        Grey values, uint8 or float32.
    shape : tuple of int (height_px, width_px)
        Of the result.

    Returns
    -------
    ndarray of `shape`, dtype of `image`

    Notes
    -----
    Area interpolation as in zhang2021biometrics. Along an axis that is *enlarged*, OpenCV's area mode would
    repeat pixels, so linear interpolation is used there, after the other axis has shrunk.

    Raises
    ------
    ValueError
        If the image has channels, or no pixels.
    """
    if image.ndim != 2:
        raise ValueError(
            f"Expected one grey image of shape (height_px, width_px). Received: shape {image.shape}. "
            "Take one channel, or average them, first."
        )
    placement = place(image.shape)
    height, width = placement.padded_shape
    if placement.padded_shape != placement.image_shape:
        bottom = height - placement.image_shape[0] - placement.top_px
        right = width - placement.image_shape[1] - placement.left_px
        border = cv2.BORDER_CONSTANT
        image = cv2.copyMakeBorder(image, placement.top_px, bottom, placement.left_px, right, border, value=0)
    smaller = min(shape[0], height), min(shape[1], width)
    image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller == tuple(shape):
        return image
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def working_image(image, input_shape):
    """The image as it is kept in memory: the whole frame at twice the network's input size.

    Parameters
    ----------
    image : ndarray of shape (height_px, width_px)
    input_shape : tuple of int (height_px, width_px)
        The network's input.

    Returns
    -------
    ndarray of shape (2 height_px, 2 width_px), dtype of `image`
    """
    return resize_in_frame(image, tuple(OVERSAMPLING * side for side in input_shape))


def input_image(working, input_shape):
    """Halve a working image by area interpolation: the last step before `normalise`.

    Parameters
    ----------
    working : ndarray of shape (2 height_px, 2 width_px)
        From `working_image`, warped or not.
    input_shape : tuple of int (height_px, width_px)

    Returns
    -------
    ndarray of shape (height_px, width_px), dtype of `working`
    """
    return cv2.resize(working, (input_shape[1], input_shape[0]), interpolation=cv2.INTER_AREA)


def normalise(images, how, num_channels=1):
    """Turn a batch of grey images into a network's input.

    Parameters
    ----------
    images : ndarray of shape (batch, height_px, width_px)
        Grey values 0 to 255.
    how : {"standardise", "caffe", "tf", "torch"}
        ``"standardise"``: each image minus its mean over its standard deviation (zhang2021biometrics). The
        others are `keras.applications`' input scalings of the same names, for backbones trained on
        ImageNet: ``"caffe"`` is ResNet50's and VGG16's (chi2025hc), ``"torch"`` DenseNet's.
    num_channels : {1, 3}
        Three channels repeat the grey values.

    Returns
    -------
    ndarray of shape (batch, height_px, width_px, num_channels), float32

    Raises
    ------
    ValueError
        If an image is constant or not finite, so that standardising it would divide by zero; if `images`
        are no batch of grey images; if the normalisation is unknown or does not go with the number of
        channels.
    """
    if how not in NORMALISATIONS:
        raise ValueError(f"Normalisation is one of {', '.join(NORMALISATIONS)}. Received: {how!r}.")
    if num_channels not in (1, 3):
        raise ValueError(f"A network takes 1 or 3 channels of grey values. Received: {num_channels}.")
    images = np.asarray(images, np.float32)
    if images.ndim != 3:
        raise ValueError(
            "Expected a batch of grey images of shape (batch, height_px, width_px). "
            f"Received: shape {images.shape}. Add or squeeze axes first; the channel axis is made here."
        )
    if how == "standardise":
        # a constant image's standard deviation may round to a little more than zero; its range does not
        contrast = np.ptp(images, axis=(1, 2))
        usable = np.isfinite(contrast) & (contrast > 0)
        if not np.all(usable):
            constant = np.flatnonzero(~usable)[:5].tolist()
            raise ValueError(
                f"Every image needs some contrast. Constant or not finite: image(s) {constant} of this "
                "batch. Run `hcreg check` on the folder to name the files."
            )
        mean = images.mean(axis=(1, 2), keepdims=True)
        sd = images.std(axis=(1, 2), keepdims=True)
        return np.repeat(((images - mean) / sd)[..., None], num_channels, axis=-1)
    if num_channels != 3:
        raise ValueError(f"Normalisation {how!r} is for networks with 3 input channels. Received: {num_channels}.")
    from keras.applications.imagenet_utils import preprocess_input

    colour = np.repeat(images[..., None], 3, axis=-1)  # a fresh array: preprocess_input writes into it
    return preprocess_input(colour, data_format="channels_last", mode=how)
