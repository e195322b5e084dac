"""A 3-D U-Net for stacks of thick slices: it halves height and width, and never the slices."""

import keras

from hcreg.layers import BatchNormalization
from hcreg.models import weights_file
from hcreg.models.backbone import with_seed
from hcreg.models.mask_output import check_output
from hcreg.models.volume_output import MOMENTUM, check_momentum, check_rate, check_stack_shape, is_whole
from hcreg.preprocessing.cardiac import NUM_CLASSES

NORMALIZATIONS = ("group", "batch")
NUM_LEVELS = 4
# At 1.4 mm in-plane and slices 10 mm apart, a voxel of the third level is 5.6 x 5.6 x 10 mm, near enough to a cube.
FLAT_LEVELS = 2
NUM_GROUPS = 8
EXAMPLE = (224, 224, 9, 1)
_POOL = (2, 2, 1)


def unet3d(
    input_shape=(None, None, None, 1),
    classes=NUM_CLASSES,
    activation="softmax",
    filters=16,
    num_levels=NUM_LEVELS,
    flat_levels=FLAT_LEVELS,
    normalization="group",
    momentum=MOMENTUM,
    dropout_rate=0.0,
    weights=None,
    seed=None,
) -> keras.Model:
    """Label map of a stack of slices, by a U-Net of three-dimensional convolutions.

    Input ``(batch, height, width, slices, channels)``, float32, each stack standardised to mean 0 and standard
    deviation 1; output "mask" ``(batch, height, width, slices, classes)``, float32: the probability of each class in a
    voxel, in the order of ACDC's labels at the defaults (background, RV, MYO, LV).

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, slices, channels)``; height and width are multiples of ``2 ** num_levels``, slices any
        number. Each of the three may be None.
    classes : int
        Channels of the mask.
    activation : {"softmax", "sigmoid"}
        As of `hcreg.models.unet`. The logits are the output of the layer "mask_logits".
    filters : int
        Of the first level; each level doubles them.
    num_levels : int
        How often height and width are halved.
    flat_levels : int
        So many of the first levels convolve within slices (3 x 3 x 1), the others across them too (3 x 3 x 3).
    normalization : {"group", "batch"}
        After each convolution. "group" normalises each stack by itself, in groups of channels, and so does not mind how
        few stacks there are in a batch; "batch" is batch normalisation.
    momentum : float in [0, 1)
        Of the moving statistics with ``normalization="batch"``: the share that they keep of themselves at each step of
        training. At 0.99, Keras's default, some hundred steps go by until they suit inference; at 0.9 some tens.
    dropout_rate : float in [0, 1)
        After the bottom.
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled.

    Raises
    ------
    ValueError
        For shapes, sides that are no multiples, numbers of classes, filters or levels, activations, normalisations or
        rates that are none, a momentum without batch normalisation, and weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    No paper's network: what `hcreg.models.unet` is in two dimensions, for the stacks of [1]_. They have 6 to 18 slices
    5 to 10 mm apart, pixels of 0.7 to 1.9 mm. Pooling is 2 x 2 within the slices at every level, so that no number of
    slices is too few or has to be a multiple; across slices the kernels alone look, by default ten of them, each one
    slice further. Each level is two convolutions without bias, normalisation, ReLU; upwards nearest-neighbour
    upsampling, a 2 x 2 x 1 convolution, concatenation of [skip, up]. He-normal initial weights.

    References
    ----------
    .. [1] bernard2018acdc.

    Examples
    --------
    >>> unet3d().output_shape
    (None, None, None, None, 4)
    """
    check_encoder("unet3d", filters, num_levels, flat_levels, normalization, momentum, dropout_rate)
    multiple = 2**num_levels
    shape = check_stack_shape(input_shape, "unet3d", multiples=(multiple, multiple, 1), may_vary=True, example=EXAMPLE)
    check_output(shape, classes, "mask", activation, "unet3d")
    image = keras.Input(shape, name="image")
    x, skips = encoder(image, filters, num_levels, flat_levels, normalization, momentum)
    x = keras.layers.Dropout(dropout_rate, name="bottom_dropout")(x)
    for level in range(num_levels, 0, -1):
        width = filters * 2 ** (level - 1)
        x = keras.layers.UpSampling3D(_POOL, name=f"up{level}_upsampling")(x)
        x = _convolution(x, width, _POOL, normalization, momentum, f"up{level}_up")
        x = keras.layers.Concatenate(name=f"up{level}_concat")([skips[level - 1], x])
        x = _block(x, width, level <= flat_levels, normalization, momentum, f"up{level}")
    logits = keras.layers.Conv3D(classes, 1, name="mask_logits")(x)
    # float32 under mixed precision too, see `hcreg.models.mask_output`
    mask = keras.layers.Activation(activation, dtype="float32", name="mask")(logits)
    model = keras.Model(image, mask, name="unet3d")
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model


def check_encoder(name, filters, num_levels, flat_levels, normalization, momentum, dropout_rate):
    """Refuse arguments that `encoder` cannot take.

    Parameters
    ----------
    name : str
        Of the network, for messages.
    filters, num_levels, flat_levels, normalization, momentum, dropout_rate
        As of `unet3d`.

    Raises
    ------
    ValueError
    """
    for argument, value, least in (
        ("filters", filters, 1),
        ("num_levels", num_levels, 1),
        ("flat_levels", flat_levels, 0),
    ):
        if not is_whole(value) or value < least:
            raise ValueError(f"{argument} of {name} is a whole number, {least} or more. Received: {value!r}.")
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f'{name} normalises by normalization="group", each stack by itself, or "batch". '
            f"Received: {normalization!r}."
        )
    check_momentum(momentum)
    if normalization == "group" and momentum != MOMENTUM:
        raise ValueError(
            'momentum is of normalization="batch"; groups of channels have no moving statistics. '
            f"Received: momentum={momentum!r}."
        )
    check_rate(dropout_rate)


def encoder(x, filters, num_levels, flat_levels, normalization, momentum):
    """The way down of a 3-D U-Net, to the bottom.

    Parameters
    ----------
    x : KerasTensor of shape (batch, height, width, slices, channels)
    filters, num_levels, flat_levels, normalization, momentum
        As of `unet3d`.

    Returns
    -------
    bottom : KerasTensor of shape (batch, height / 2 ** num_levels, width / 2 ** num_levels, slices, channels)
        Output of the layer "bottom_relu2".
    skips : list of KerasTensor
        Maps of each level before its pooling, from the first.
    """
    skips = []
    for level in range(1, num_levels + 1):
        x = _block(x, filters * 2 ** (level - 1), level <= flat_levels, normalization, momentum, f"down{level}")
        skips.append(x)
        x = keras.layers.MaxPooling3D(_POOL, name=f"down{level}_pool")(x)
    return _block(x, filters * 2**num_levels, num_levels < flat_levels, normalization, momentum, "bottom"), skips


def _block(x, filters, is_flat, normalization, momentum, name):
    kernel_size = (3, 3, 1) if is_flat else (3, 3, 3)
    for number in (1, 2):
        x = _convolution(x, filters, kernel_size, normalization, momentum, name, number)
    return x


def _convolution(x, filters, kernel_size, normalization, momentum, name, number=""):
    x = keras.layers.Conv3D(
        filters,
        kernel_size,
        padding="same",
        use_bias=False,  # the normalisation has an offset of its own
        kernel_initializer="he_normal",
        name=f"{name}_conv{number}",
    )(x)
    if normalization == "group":
        groups = next(groups for groups in range(min(NUM_GROUPS, filters), 0, -1) if filters % groups == 0)
        x = keras.layers.GroupNormalization(groups, name=f"{name}_norm{number}")(x)
    else:
        x = BatchNormalization(momentum=momentum, name=f"{name}_norm{number}")(x)
    return keras.layers.ReLU(name=f"{name}_relu{number}")(x)
