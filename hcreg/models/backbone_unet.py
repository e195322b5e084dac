"""A U-Net whose way down is any backbone of `keras.applications`."""

import difflib
import math

import keras

from hcreg.models.backbone import (
    backbone_body,
    check_input_shape,
    restore_body,
    with_seed,
)
from hcreg.models.mask_output import check_multiple, check_output, mask_output

DECODER_FILTERS = (256, 128, 64, 32, 16)
SKIP_LEVELS = (4, 3, 2, 1)  # of the stages one after the other: the input's size was halved so many times


def backbone_unet(
    backbone,
    input_shape=(224, 224, 3),
    classes=1,
    head="mask",
    weights=None,
    decoder_filters=DECODER_FILTERS,
    trainable_backbone=True,
    seed=None,
    name=None,
    activation="sigmoid",
    skips=None,
    **backbone_options,
) -> keras.Model:
    """Mask of the fetal head from one image, by a U-Net on a backbone of `keras.applications`.

    Input ``(batch, height, width, channels)``, float32; output "mask" ``(batch, height, width, classes)``, float32: the
    probability that a pixel is head, or of each class.

    Parameters
    ----------
    backbone : str
        A name of `hcreg.models.backbone_names`, such as "DenseNet121".
    input_shape : tuple of int
        ``(height, width, channels)``; height and width are multiples of 32, or both None where the size varies, with
        backbones that pad their convolutions. ImageNet weights need three channels.
    classes, head, activation
        As in `hcreg.models.unet`.
    weights : {None, "imagenet"} or path
        Of the backbone, as in `hcreg.models.backbone_regressor`; the decoder's are drawn at random.
    decoder_filters : tuple of int
        Of the five stages, deepest first.
    trainable_backbone : bool
        If False, the backbone's weights stay as they are, and its batch normalisation stays in inference mode.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`. Loaded weights stay as
        loaded.
    name : str, optional
        Name of the model; by default the backbone's in lower case and ``_unet``.
    skips : sequence of str or None, optional
        Names of four of the backbone's layers, deepest first: those whose maps, of 1/16, 1/8, 1/4 and 1/2 of the
        input's size, join the decoder. None in a name's place leaves that stage without. By default they are chosen
        as the notes say.
    **backbone_options
        Handed to the backbone, as ``include_preprocessing=False``.

    Returns
    -------
    keras.Model
        Uncompiled, with the backbone's layers under Keras's own names, ``decoder1_upsampling`` to ``decoder5_bn2``,
        "mask_logits" and "mask".

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `hcreg.models.backbone_regressor`; and for sides that are no multiples of 32, unknown heads or activations,
        and skips of another size or name than the backbone has.

    Notes
    -----
    Each of the five stages doubles the size by nearest-neighbour upsampling, concatenates [upsampled, skip], and twice
    convolves (3x3, no bias), normalises the batch and applies ReLU: the decoder of the VGG16 U-Net of [1]_. The skip
    of a stage is the map that the backbone halves at that size: for VGG16 ``block5_conv3``, ``block4_conv3``,
    ``block3_conv3`` and ``block2_conv2``. Where it halves several side by side, as Inception does, the one of most
    channels joins. The last stage, of the full size, has no skip. A backbone with unpadded convolutions (InceptionV3,
    Xception) has maps a few pixels smaller than a power of two: they are padded with zeros on all sides. ConvNeXt
    quarters its input at once: its stage of half the size has no skip.

    What intensities a backbone expects is said under `hcreg.models.backbone_regressor`.

    References
    ----------
    .. [1] zhang2021biometrics, section on segmentation.

    Examples
    --------
    >>> model = backbone_unet("MobileNet", input_shape=(64, 96, 1), alpha=0.25, seed=0)
    >>> model.output_shape
    (None, 64, 96, 1)
    """
    # both or neither: a width alone says nothing of what fits
    may_vary = isinstance(input_shape, (tuple, list)) and tuple(input_shape[:2]) == (None, None)
    shape = check_input_shape(input_shape, may_vary=may_vary, example=(224, 224, 3))
    name = name or f"{str(backbone).lower()}_unet"
    check_multiple(shape, 32, name)
    check_output(shape, classes, head, activation, name)
    if len(decoder_filters) != len(DECODER_FILTERS):
        raise ValueError(f"decoder_filters has five numbers, deepest first. Received: {decoder_filters!r}.")
    body = backbone_body(backbone, shape, weights, backbone_options)
    body.trainable = trainable_backbone
    maps_of = skips_of(body) if skips is None else _named_skips(body, skips, backbone)
    if None in shape:
        _check_padded(body, maps_of, backbone)
    x = _fitted(body.output, _side(shape, 5), "bottom")
    for stage, filters in enumerate(decoder_filters, start=1):
        level = len(decoder_filters) - stage  # the size is the input's over 2 ** level
        x = keras.layers.UpSampling2D(2, name=f"decoder{stage}_upsampling")(x)
        if level in maps_of:
            skip = _fitted(maps_of[level], _side(shape, level), f"decoder{stage}_skip")
            x = keras.layers.Concatenate(name=f"decoder{stage}_concat")([x, skip])
        for number in (1, 2):
            part = f"decoder{stage}"
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{part}_conv{number}")(x)
            x = keras.layers.BatchNormalization(name=f"{part}_bn{number}")(x)
            x = keras.layers.Activation("relu", name=f"{part}_relu{number}")(x)
    model = keras.Model(body.inputs[0], mask_output(x, classes, head, 3, activation), name=name)
    if seed is None:
        return model
    seeded = with_seed(model, seed)
    if weights is not None:
        restore_body(seeded, body)
    return seeded


def skips_of(body):
    """The feature maps that a backbone halves.

    Parameters
    ----------
    body : keras.Model
        A backbone without top layers, of fixed input size.

    Returns
    -------
    dict of int to tensor
        Maps by their level, 1 to 4: the input's size was halved so many times. Where several maps of a level are
        halved side by side, the one of most channels.
    """
    levels = _levels(body)
    unpadded = {}
    found = {}
    for operation in body.operations:
        inputs = keras.tree.flatten(operation.input)
        if isinstance(operation, (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)):
            unpadded[id(operation.output)] = unpadded.get(id(inputs[0]), inputs[0])
        if _stride(operation) == 1 or _is_shortcut(operation):
            continue
        maps = unpadded.get(id(inputs[0]), inputs[0])
        level = levels[id(maps)]
        if level in SKIP_LEVELS and (level not in found or maps.shape[-1] >= found[level].shape[-1]):
            found[level] = maps
    return found


def _named_skips(body, names, backbone):
    """Maps by their level, of the layers that the caller named."""
    if not isinstance(names, (list, tuple)) or len(names) != len(SKIP_LEVELS):
        raise ValueError(
            "skips has four entries, deepest first: layers of 1/16, 1/8, 1/4 and 1/2 of the input's size, None for a "
            f"stage without. Received: {names!r}."
        )
    levels = _levels(body)
    operations = {operation.name: operation for operation in body.operations}
    found = {}
    for level, name in zip(SKIP_LEVELS, names):
        if name is None:
            continue
        if name not in operations:
            near = difflib.get_close_matches(str(name), operations, n=3, cutoff=0.0)
            raise ValueError(f"{backbone} has no layer {name!r}, named in skips. Nearest: {', '.join(near)}.")
        maps = operations[name].output
        sides = _side(body.inputs[0].shape[1:], level)
        if levels[id(maps)] != level or not all(
            side / 2 < size <= side for size, side in zip(maps.shape[1:-1], sides, strict=True)
        ):
            raise ValueError(
                f"The skip of 1/{2**level} of the input's size has {sides[0]} x {sides[1]} px, or a little less where "
                f"convolutions are unpadded. Received: skips with {name!r}, of shape {maps.shape}. The order is "
                "deepest first."
            )
        found[level] = maps
    return found


def _levels(body):
    """How many times the input was halved on the way to each tensor, by the tensor's id.

    Counted from the strides: sizes alone mislead, where unpadded convolutions lose pixels and padding adds some.
    Operations and not layers alone, because ConvNeXt adds its branches by ``+``.
    """
    levels = {}
    for operation in body.operations:
        inputs = keras.tree.flatten(operation.input)
        level = max((levels[id(tensor)] for tensor in inputs), default=0) + round(math.log2(_stride(operation)))
        levels.update((id(tensor), level) for tensor in keras.tree.flatten(operation.output))
    return levels


def _stride(operation):
    if isinstance(operation, keras.Model):  # ConvNeXt nests its stem and its downsampling
        return math.prod(_stride(layer) for layer in operation.layers)
    return getattr(operation, "strides", (1,))[0]


def _is_shortcut(operation):
    """Whether it hands on a residual block's input: ResNetV2's is a sum, normalised only in the block itself."""
    return isinstance(operation, keras.layers.MaxPooling2D) and operation.pool_size == (1, 1)


def _side(shape, level):
    return tuple(None if side is None else side // 2**level for side in shape[:2])


def _check_padded(body, maps_of, backbone):
    """Refuse a varying size where unpadded convolutions lose pixels, for how many would depend on the size."""
    side = 256
    levels, maps = [*maps_of, 5], [*maps_of.values(), body.output]
    shapes = keras.Model(body.inputs[0], maps).compute_output_shape((1, side, side, body.inputs[0].shape[-1]))
    if any(shape[1] != side // 2**level for level, shape in zip(levels, shapes, strict=True)):
        raise ValueError(
            f"{backbone} does not pad all of its convolutions, so that its maps fit together at a fixed size only. "
            "Pass the height and width of the images in input_shape, multiples of 32."
        )


def _fitted(maps, size, name):
    """The maps, padded with zeros to a size where unpadded convolutions made them smaller."""
    missing = [wanted - side for wanted, side in zip(size, maps.shape[1:3]) if wanted is not None]
    if not any(missing):
        return maps
    padding = [(lack // 2, lack - lack // 2) for lack in missing]
    return keras.layers.ZeroPadding2D(padding, name=f"{name}_padding")(maps)
