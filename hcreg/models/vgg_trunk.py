"""The convolutions of zhang2021biometrics's two networks of cardiac volumes, in two or three dimensions."""

import keras

from hcreg.layers import BatchNormalization, Conv3D

FILTERS = (8, 16, 32, 64, 64)
CONVOLUTIONS = (2, 2, 3, 3, 3)
POOLED_BLOCKS = (1, 2, 5)
POOL_SIZE, POOL_STRIDE = 3, 2
SMALLEST_SIDE = POOL_STRIDE ** len(POOLED_BLOCKS)
_CONVOLUTION = {2: keras.layers.Conv2D, 3: Conv3D}
_POOLING = {2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D}


def vgg_trunk(x, filters, kernel_size, dropout_rate, momentum, prefix=""):
    """Features of a stack of slices: blocks of convolutions, three poolings, dropout, flattening.

    Parameters
    ----------
    x : KerasTensor of shape (batch, height, width, [slices,] channels)
    filters : tuple of five int
        Of each block.
    kernel_size : tuple of int
        As many numbers as `x` has spatial axes.
    dropout_rate : float
    momentum : float
        Of the normalisation's moving statistics.
    prefix : str
        Of the layers' names.

    Returns
    -------
    KerasTensor of shape (batch, units)
    """
    ndim = len(kernel_size)
    for block, (width, count) in enumerate(zip(filters, CONVOLUTIONS, strict=True), start=1):
        for number in range(1, count + 1):
            name = f"{prefix}block{block}_"
            x = _CONVOLUTION[ndim](width, kernel_size, padding="same", name=f"{name}conv{number}")(x)
            x = BatchNormalization(momentum=momentum, name=f"{name}bn{number}")(x)
            x = keras.layers.ReLU(name=f"{name}relu{number}")(x)
        if block in POOLED_BLOCKS:
            pool = _POOLING[ndim](POOL_SIZE, POOL_STRIDE, padding="same", name=f"{prefix}block{block}_pool")
            x = pool(x)
    x = keras.layers.Dropout(dropout_rate, name=f"{prefix}dropout")(x)
    return keras.layers.Flatten(name=f"{prefix}flatten")(x)
