"""Class of a heart from a stack of slices: the encoder of the 3-D U-Net with two dense layers."""

import keras

from hcreg.models import weights_file
from hcreg.models.backbone import with_seed
from hcreg.models.class_output import class_output
from hcreg.models.unet3d import FLAT_LEVELS, NUM_LEVELS, check_encoder, encoder
from hcreg.models.volume_output import MOMENTUM, check_stack_shape, is_whole

EXAMPLE = (128, 128, 9, 1)
HEADS = {"gap": keras.layers.GlobalAveragePooling3D, "flatten": keras.layers.Flatten}


def unet3d_classifier(
    input_shape=EXAMPLE,
    classes=1,
    filters=16,
    hidden_units=100,
    head="gap",
    num_levels=NUM_LEVELS,
    flat_levels=FLAT_LEVELS,
    normalization="batch",
    momentum=MOMENTUM,
    dropout_rate=0.0,
    activation="default",
    weights=None,
    seed=None,
) -> keras.Model:
    """Class of one heart, such as healthy (0) or diseased (1), from a stack of short-axis slices.

    Input ``(batch, height, width, slices, channels)``, float32, each stack standardised to mean 0 and standard
    deviation 1; output ``(batch, classes)``, float32: the probability of class 1, or of each class.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, slices, channels)``; height and width are multiples of ``2 ** num_levels``, slices any
        number. Each of the three may be None with the head "gap"; a heatmap loss needs them fixed.
    classes : int
        1 for yes or no, by a sigmoid; 2 or more by a softmax.
    filters, num_levels, flat_levels
        Of the encoder, as of `hcreg.models.unet3d`.
    normalization : {"batch", "group"}
        After each convolution of the encoder, as of `hcreg.models.unet3d`; another default, see Notes.
    momentum : float in [0, 1)
        Of the moving statistics with ``normalization="batch"``, as of `hcreg.models.unet3d`.
    hidden_units : int
        Of the dense layer before the logits.
    head : {"gap", "flatten"}
        What stands between the last maps and the dense layers: global average pooling or flattening.
    dropout_rate : float in [0, 1)
        After the hidden dense layer.
    activation : {"default", "sigmoid", "softmax", None}
        Of the layer "probabilities"; None leaves that layer out and the network ends in the layer "logits".
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled. "bottom_relu2" is the last block's output, to be tapped for attribution maps: 8 x 8 x 9 cells at
        the default size.

    Raises
    ------
    ValueError
        For shapes, sides that are no multiples, numbers of classes, units, filters or levels, heads, normalisations,
        rates or activations that are none, a momentum without batch normalisation, a shape that varies before
        flattening, and weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    After [1]_, which tells healthy hearts of ACDC from diseased ones by the encoder of a 3-D U-Net, two dense layers
    and a sigmoid. Everything beyond these words is a choice of this package and no replica: the encoder is that of
    `hcreg.models.unet3d`, the same layers by the same names, which halves height and width alone; the dense layers have
    100 units and one, ReLU between them.

    The default head averages, which takes stacks of any size and has few weights to learn from a hundred patients.
    Averages are why the default normalisation is another than `unet3d`'s: a group of channels that every stack
    normalises by itself has the mean 0 before its scale, offset and ReLU, whatever the heart looks like, and what is
    left of the averages is the maps' shape alone. With batch normalisation they differ from stack to stack. It asks
    for batches of some stacks, and in a short training for a lower `momentum`.

    References
    ----------
    .. [1] callanan2022heatmap.

    Examples
    --------
    >>> model = unet3d_classifier()
    >>> model.output_shape, model.get_layer("bottom_relu2").output.shape
    ((None, 1), (None, 8, 8, 9, 256))
    """
    check_encoder("unet3d_classifier", filters, num_levels, flat_levels, normalization, momentum, dropout_rate)
    multiple = 2**num_levels
    if head not in HEADS:
        raise ValueError(f'unet3d_classifier has head="gap" or head="flatten". Received: {head!r}.')
    shape = check_stack_shape(
        input_shape,
        "unet3d_classifier",
        multiples=(multiple, multiple, 1),
        may_vary=head == "gap",
        example=EXAMPLE,
    )
    if not is_whole(classes) or classes < 1:
        raise ValueError(
            "unet3d_classifier has a whole number of classes: 1 for yes or no, or 2 or more that exclude each other. "
            f"Received: {classes!r}."
        )
    if not is_whole(hidden_units) or hidden_units < 1:
        raise ValueError(f"hidden_units is a whole number, 1 or more. Received: {hidden_units!r}.")
    if activation == "default":
        activation = "sigmoid" if classes == 1 else "softmax"
    image = keras.Input(shape, name="image")
    x, _ = encoder(image, filters, num_levels, flat_levels, normalization, momentum)
    x = HEADS[head](name=f"head_{head}")(x)
    x = keras.layers.Dense(hidden_units, activation="relu", kernel_initializer="he_uniform", name="head_dense")(x)
    x = keras.layers.Dropout(dropout_rate, name="head_dropout")(x)
    model = keras.Model(image, class_output(x, classes, activation), name="unet3d_classifier")
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model
