"""The U-Net of zhang2021biometrics: 16 to 256 filters, trained from scratch."""

import keras

from hcreg.layers import BatchNormalization
from hcreg.models import weights_file
from hcreg.models.backbone import check_input_shape, with_seed
from hcreg.models.mask_output import check_multiple, check_output, mask_output

NUM_LEVELS = 4


def unet(
    input_shape=(224, 224, 1),
    classes=1,
    head="mask",
    filters=16,
    dropout_rate=0.5,
    weights=None,
    seed=None,
    activation="sigmoid",
) -> keras.Model:
    """Mask of the fetal head from one image, by a U-Net of 1.9 million parameters.

    Input ``(batch, height, width, channels)``, float32, each image standardised to mean 0 and standard deviation 1;
    output "mask" ``(batch, height, width, classes)``, float32: the probability that a pixel is head, or of each class.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``; height and width are multiples of 16, or None.
    classes : int
        Channels of the mask.
    head : {"mask", "ellipse"}
        "ellipse" gives a dict of "mask" and "hc_fraction" ``(batch, 1)``: the head circumference that the mask's
        moments have (`hcreg.layers.EllipseMoments`), as a fraction of the frame's width, with gradients. It can be
        trained with a loss on the mask, on the circumference, or on both.
    filters : int
        Of the first level; each level doubles them.
    dropout_rate : float in [0, 1)
        After the fourth level and after the bottom.
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.
    activation : {"sigmoid", "softmax"}
        "sigmoid" gives each class a mask of its own; with "softmax" a pixel's classes sum to 1, and the background is
        one of them. The logits are the output of the layer "mask_logits".

    Returns
    -------
    keras.Model
        Uncompiled; 1,946,705 parameters at the defaults, of them 1,943,761 trainable.

    Raises
    ------
    ValueError
        For sides that are no multiples of 16, unknown heads or activations, and weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    Follows the U-Net of [1]_ as its code has it: four levels and a bottom of two 3x3 convolutions with bias each, ReLU
    inside the convolution and batch normalisation *after* it, 2x2 max-pooling; upwards nearest-neighbour upsampling, a
    2x2 convolution with bias and ReLU, concatenation of [skip, up]; He-normal initial weights. The fourth level's
    dropped-out maps are both pooled and used as its skip.

    The ellipse's pixel size follows from the frame of `hcreg.preprocessing.frames`, of proportions 800 to 540, whatever
    the input's own proportions. The mask is sharpened before its moments are taken (``sharpness=2`` of
    `hcreg.layers.EllipseMoments`), the output "mask" is not.

    References
    ----------
    .. [1] zhang2021biometrics, section on segmentation.

    Examples
    --------
    >>> unet().count_params()
    1946705
    >>> model = unet(input_shape=(96, 128, 1), head="ellipse")
    >>> {name: tensor.shape for name, tensor in model.output.items()}
    {'mask': (None, 96, 128, 1), 'hc_fraction': (None, 1)}
    """
    shape = check_input_shape(input_shape, may_vary=True, example=(224, 224, 1))
    check_multiple(shape, 2**NUM_LEVELS, "unet")
    check_output(shape, classes, head, activation, "unet")
    x = image = keras.Input(shape, name="image")
    skips = []
    for level in range(1, NUM_LEVELS + 1):
        x = _block(x, filters * 2 ** (level - 1), f"down{level}")
        if level == NUM_LEVELS:
            x = keras.layers.Dropout(dropout_rate, name=f"down{level}_dropout")(x)
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = _block(x, filters * 2**NUM_LEVELS, "bottom")
    x = keras.layers.Dropout(dropout_rate, name="bottom_dropout")(x)
    for level in range(NUM_LEVELS, 0, -1):
        num_filters = filters * 2 ** (level - 1)
        x = keras.layers.UpSampling2D(2, name=f"up{level}_upsampling")(x)
        x = _convolution(x, num_filters, 2, f"up{level}_upconv")
        x = keras.layers.Concatenate(name=f"up{level}_concat")([skips[level - 1], x])
        x = _block(x, num_filters, f"up{level}")
    model = keras.Model(image, mask_output(x, classes, head, 1, activation), name="unet")
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model


def _convolution(x, filters, kernel_size, name):
    return keras.layers.Conv2D(
        filters, kernel_size, padding="same", activation="relu", kernel_initializer="he_normal", name=name
    )(x)


def _block(x, filters, name):
    for number in (1, 2):
        x = _convolution(x, filters, 3, f"{name}_conv{number}")
        x = BatchNormalization(name=f"{name}_bn{number}")(x)
    return x
