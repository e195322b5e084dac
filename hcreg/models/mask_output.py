"""What all segmentation networks end with: a mask, and on request the head circumference that its moments give."""

import keras

from hcreg.layers import EllipseMoments, MainPiece
from hcreg.preprocessing.frames import REFERENCE_SHAPE

HEADS = ("mask", "ellipse")
ACTIVATIONS = ("sigmoid", "softmax")
SHARPNESS = 2.0  # a background of 0.01 everywhere lengthens a small head by 0.6 %, and by 37 % without


def check_output(shape, classes, head, activation, name):
    """Refuse what a segmentation network cannot end with, before anything is built or downloaded.

    Parameters
    ----------
    shape : tuple (height, width, channels)
    classes, head, activation
        As in `mask_output`.
    name : str
        Of the network, for messages.

    Raises
    ------
    ValueError
    """
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"{name} needs a whole number of classes, 1 or more. Received: {classes!r}.")
    if activation not in ACTIVATIONS:
        raise ValueError(
            'A mask ends with activation="sigmoid", each class by itself, or "softmax", classes that exclude each '
            f'other. Received: {activation!r}. For logits tap model.get_layer("mask_logits").output.'
        )
    if activation == "softmax" and classes == 1:
        raise ValueError(
            'activation="softmax" makes the classes of a pixel sum to 1, so that a single class is 1 everywhere. '
            'Received: classes=1. Pass classes=2 or more, the background among them, or activation="sigmoid".'
        )
    if head not in HEADS:
        raise ValueError(f'A segmentation network ends with head="mask" or head="ellipse". Received: {head!r}.')
    if head == "mask":
        return
    if classes != 1:
        raise ValueError(f'head="ellipse" measures one mask, the head\'s: classes=1. Received: classes={classes}.')
    if None in shape[:2]:
        raise ValueError(
            'head="ellipse" needs a fixed height and width: the size of a pixel follows from them. '
            f"Received: input_shape={tuple(shape)}."
        )


def mask_output(features, classes, head, kernel_size, activation="sigmoid"):
    """Last layers of a segmentation network.

    Parameters
    ----------
    features : tensor (batch, height, width, channels)
    classes : int
    head : {"mask", "ellipse"}
    kernel_size : int
        Of the last convolution.
    activation : {"sigmoid", "softmax"}
        Sigmoid for masks that know nothing of each other, softmax for classes of which a pixel has exactly one.

    Returns
    -------
    tensor, or dict of tensors
        The mask (batch, height, width, classes), float32; with the head "ellipse" a dict of "mask" and "hc_fraction"
        (batch, 1), the circumference as a fraction of the frame's width.

    Notes
    -----
    The mask is float32 under mixed precision as well: near 1, bfloat16 numbers are 0.004 apart.

    Arguments are not checked here: `check_output` does that before the network is built.
    """
    logits = keras.layers.Conv2D(classes, kernel_size, padding="same", name="mask_logits")(features)
    return mask_from_logits(logits, head, activation)


def mask_from_logits(logits, head, activation, trim=None, main_piece=False):
    """The mask of given logits, and its circumference on request; see `mask_output`.

    Parameters
    ----------
    logits : tensor (batch, height, width, classes)
    head, activation
        As in `mask_output`.
    trim : float, optional
        Of the circumference's `hcreg.layers.EllipseMoments`.
    main_piece : bool
        Whether the circumference is that of the mask's `hcreg.layers.MainPiece`; the mask itself stays as it is.

    Returns
    -------
    tensor, or dict of tensors
    """
    mask = keras.layers.Activation(activation, dtype="float32", name="mask")(logits)
    if head == "mask":
        return mask
    return _with_circumference(mask, trim, main_piece)


def with_ellipse(model) -> keras.Model:
    """A segmentation network of one mask that gives the circumference of its mask too.

    Parameters
    ----------
    model : keras.Model
        Built by `unet`, `vgg16_unet` or `backbone_unet` with one class and sigmoid, of a fixed height and width.

    Returns
    -------
    keras.Model
        The same layers, and so the same weights, with the outputs "mask" and "hc_fraction" of `mask_output`; the model
        itself where it has them already.

    Raises
    ------
    ValueError
        If the model does not end with one mask of a fixed size.

    Examples
    --------
    >>> from hcreg import models
    >>> measuring = models.with_ellipse(models.unet(input_shape=(32, 48, 1), filters=4))
    >>> {name: output.shape for name, output in measuring.output.items()}
    {'mask': (None, 32, 48, 1), 'hc_fraction': (None, 1)}
    """
    outputs = model.output
    if isinstance(outputs, dict) and {"mask", "hc_fraction"} <= set(outputs):
        return model
    shape = getattr(outputs, "shape", ())
    if "mask" not in {layer.name for layer in model.layers} or len(shape) != 4 or shape[-1] != 1 or None in shape[1:]:
        raise ValueError(
            "A circumference is taken from one mask of a fixed size, the output of a segmentation network with "
            f"classes=1. Received: the model {model.name!r}, which gives {model.output_shape}."
        )
    return keras.Model(model.inputs, _with_circumference(outputs), name=model.name)


def _with_circumference(mask, trim=None, main_piece=False):
    height, width = mask.shape[1:3]
    frame_height, frame_width = REFERENCE_SHAPE
    pixel_size = (1 / width, frame_height / frame_width / height)
    measured = MainPiece(name="main_piece")(mask) if main_piece else mask
    moments = EllipseMoments(pixel_size, sharpness=SHARPNESS, trim=trim, name="ellipse")(measured)
    # a layer of its own, so that the output and its loss go by the name of the regressors' output
    circumference = keras.layers.Identity(dtype="float32", name="hc_fraction")(moments["circumference"])
    return {"mask": mask, "hc_fraction": circumference}


def check_multiple(shape, multiple, name):
    """Refuse a height or width that pooling cannot halve without a remainder.

    Parameters
    ----------
    shape : tuple (height, width, channels)
        Height and width may be None.
    multiple : int
    name : str
        Of the network, for the message.
    """
    sides = [side for side in shape[:2] if side is not None]
    if all(side % multiple == 0 for side in sides):
        return
    nearest = tuple(side if side is None else max(1, round(side / multiple)) * multiple for side in shape[:2])
    raise ValueError(
        f"{name} halves its input {multiple.bit_length() - 1} times: height and width must be multiples of {multiple}. "
        f"Received: input_shape={tuple(shape)}. Resize the images to the nearest, {nearest[0]} x {nearest[1]}."
    )
