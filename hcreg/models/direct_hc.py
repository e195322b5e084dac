"""A light network that measures the head circumference in one pass, through the moments of a mask of its own."""

import keras

from hcreg.layers import BatchNormalization, EllipseMoments, MainPiece
from hcreg.models import weights_file
from hcreg.models.backbone import check_input_shape, with_seed
from hcreg.models.mask_output import check_multiple, check_output, mask_from_logits

STEM_STRIDES = (1, 2, 4)


def direct_hc(
    input_shape=(128, 192, 1),
    filters=(16, 32, 64, 128),
    stem_stride=2,
    head="ellipse",
    num_members=1,
    trim=None,
    main_piece=False,
    weights=None,
    seed=None,
) -> keras.Model:
    """Head circumference from one image in one pass; the mask that it is measured on comes as well.

    Input ``(batch, height, width, channels)``, float32, each image standardised to mean 0 and standard deviation 1;
    outputs "mask" ``(batch, height, width, 1)``, the probability that a pixel is head, and "hc_fraction" ``(batch,
    1)``, the circumference as a fraction of the frame's width; both float32.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``; height and width are multiples of ``stem_stride * 2 ** (len(filters) - 1)``.
    filters : sequence of int
        Of each level, from the largest maps to the smallest; two or more.
    stem_stride : {1, 2, 4}
        By how much the first convolutions shrink the image. Everything then happens on maps so much smaller; the mask's
        logits are enlarged again at the end.
    head : {"ellipse", "mask"}
        "mask" gives the mask alone, as `hcreg.models.unet` does.
    num_members : int
        So many networks side by side, whose logits are averaged before the mask is measured: an ensemble in one model,
        see `direct_hc_ensemble`.
    trim : float from 1.1 to 4, optional
        The circumference leaves out what lies farther out than so many semi-axes, specks beside the head; see
        `hcreg.layers.EllipseMoments`.
    main_piece : bool
        The circumference is that of the largest connected piece of the mask; see `hcreg.layers.MainPiece`.
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled; 454,225 parameters at the defaults.

    Raises
    ------
    ValueError
        For sides that are no such multiples, fewer than two levels, other strides, unknown heads, no members, and
        weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    A U-Net of two 3x3 convolutions a level, each followed by batch normalisation and ReLU. Deep maps are made as narrow
    as the level above by a 1x1 convolution before they are enlarged. The circumference comes from the zeroth, first
    and second moments of the soft mask (`hcreg.layers.EllipseMoments`), which know where an edge lies to a fraction of
    a pixel; so the maps may be coarse.

    Examples
    --------
    >>> model = direct_hc(seed=0)
    >>> {name: output.shape for name, output in model.output.items()}
    {'mask': (None, 128, 192, 1), 'hc_fraction': (None, 1)}
    """
    filters = tuple(filters)
    if len(filters) < 2:
        raise ValueError(f"direct_hc needs two levels or more. Received: filters={filters}.")
    if stem_stride not in STEM_STRIDES:
        raise ValueError(f"stem_stride is 1, 2 or 4. Received: {stem_stride!r}.")
    if num_members < 1:
        raise ValueError(f"direct_hc needs one member or more. Received: num_members={num_members!r}.")
    shape = check_input_shape(input_shape, example=(128, 192, 1))
    check_multiple(shape, stem_stride * 2 ** (len(filters) - 1), "direct_hc")
    check_output(shape, 1, head, "sigmoid", "direct_hc")
    image = keras.Input(shape, name="image")
    prefixes = [""] if num_members == 1 else [f"member{number}_" for number in range(1, num_members + 1)]
    logits = [_logits(image, filters, stem_stride, prefix) for prefix in prefixes]
    if num_members > 1:
        logits = [keras.layers.Average(name="mask_logits")(logits)]
    model = keras.Model(image, mask_from_logits(logits[0], head, "sigmoid", trim, main_piece), name="direct_hc")
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model


def direct_hc_ensemble(members) -> keras.Model:
    """One model of several networks of `direct_hc`, with their weights.

    Parameters
    ----------
    members : sequence of keras.Model
        Two or more, built by `direct_hc` with the same arguments.

    Returns
    -------
    keras.Model
        ``direct_hc(..., num_members=len(members))``: the mask of the members' mean logits, and its circumference.

    Raises
    ------
    ValueError
        If there are fewer than two members, or they are not alike.
    """
    members = list(members)
    if len(members) < 2:
        raise ValueError(f"An ensemble needs two members or more. Received: {len(members)}.")
    shapes = [[(weight.path.split("/", 1)[-1], tuple(weight.shape)) for weight in member.weights] for member in members]
    kinds = {(member.input_shape, *_how_measured(member)) for member in members}
    if any(found != shapes[0] for found in shapes[1:]) or len(kinds) > 1:
        raise ValueError("The members of an ensemble are built by direct_hc with the same arguments; these are not.")
    first = members[0]
    levels = [name for name in (layer.name for layer in first.layers) if _of_first_convolution(name)]
    filters = tuple(first.get_layer(name).filters for name in levels)
    strides = [layer for layer in first.layers if layer.name.startswith("stem") and layer.name.endswith("_conv")]
    ensemble = direct_hc(
        first.input_shape[1:],
        filters,
        2 ** len(strides),
        "ellipse" if isinstance(first.output, dict) else "mask",
        len(members),
        *_how_measured(first),
    )
    for number, member in enumerate(members, start=1):
        for layer in member.layers:
            if layer.weights:
                ensemble.get_layer(f"member{number}_{layer.name}").set_weights(layer.get_weights())
    return ensemble


def _how_measured(model):
    """The arguments trim and main_piece of `direct_hc`."""
    trim = next((layer.trim for layer in model.layers if isinstance(layer, EllipseMoments)), None)
    return trim, any(isinstance(layer, MainPiece) for layer in model.layers)


def _of_first_convolution(name):
    return name.startswith("level") and name.endswith("_1_conv")


def _logits(image, filters, stem_stride, prefix):
    x, stride = image, 1
    while stride < stem_stride:
        stride *= 2
        # the first, on the largest maps, has few filters; the last those of the first level
        x = _convolution(x, filters[0] * stride // stem_stride, f"{prefix}stem{stride}", kernel_size=5, strides=2)
    skips = []
    for level, width in enumerate(filters, start=1):
        if level > 1:
            x = keras.layers.MaxPooling2D(name=f"{prefix}level{level}_pool")(x)
        x = _block(x, width, f"{prefix}level{level}")
        skips.append(x)
    for level in range(len(filters) - 1, 0, -1):
        name, width = f"{prefix}up{level}", filters[level - 1]
        x = keras.layers.Conv2D(width, 1, name=f"{name}_narrow")(x)
        x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_enlarge")(x)
        x = keras.layers.Concatenate(name=f"{name}_concat")([skips[level - 1], x])
        x = _block(x, width, name)
    name = f"{prefix}mask_logits"
    if stem_stride == 1:
        return keras.layers.Conv2D(1, 1, name=name)(x)
    x = keras.layers.Conv2D(1, 1, name=f"{prefix}small_mask_logits")(x)
    return keras.layers.UpSampling2D(stem_stride, interpolation="bilinear", name=name)(x)


def _convolution(x, filters, name, kernel_size=3, strides=1):
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _block(x, filters, name):
    for number in (1, 2):
        x = _convolution(x, filters, f"{name}_{number}")
    return x
