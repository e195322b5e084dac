"""The two small convolutional regressors: 263 thousand and one million parameters."""

import keras

from hcreg.models.backbone import check_input_shape, regression_output, with_seed


def cnn_263k(input_shape=(128, 128, 1), dropout_rate=0.5, seed=None) -> keras.Model:
    """Head circumference from one image, with 263,713 parameters.

    Two blocks of 8 and 16 filters, then dense layers of 16, 8 and 1 units. Input ``(batch, height, width,
    channels)``, float32, each image standardised to mean 0 and standard deviation 1; output ``(batch, 1)``,
    float32, linear: the head circumference as a fraction of the largest one (in pixels) of the training fold.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``, at least 4 x 4.
    dropout_rate : float in [0, 1)
        After the first dense layer.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled; total 263,713 parameters at the default shape, of them 263,633 trainable.

    Raises
    ------
    ValueError
        If `input_shape` is not three whole numbers or is too small for the pooling.

    Notes
    -----
    Follows the network "CNN 263K" of [1]_. Each block is a 3x3 convolution with bias and same padding, ReLU,
    batch normalisation *after* it, and 2x2 max-pooling. For want of another statement these
    are Keras's defaults: the initialiser (Glorot uniform), the momentum (0.99) and epsilon (0.001) of the
    batch normalisation.

    References
    ----------
    .. [1] zhang2020slides.

    Examples
    --------
    >>> cnn_263k().count_params()
    263713
    """
    return _cnn("cnn_263k", input_shape, (8, 16), (16, 8), dropout_rate, seed)


def cnn_1m(input_shape=(128, 128, 1), dropout_rate=0.5, seed=None) -> keras.Model:
    """Head circumference from one image, with 1,075,265 parameters.

    Three blocks of 16, 32 and 64 filters, then dense layers of 64, 32, 16 and 1 units. Input and output as of
    `cnn_263k`: standardised images ``(batch, height, width, channels)`` in, ``(batch, 1)`` fractions out.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``, at least 8 x 8.
    dropout_rate, seed
        As in `cnn_263k`.

    Returns
    -------
    keras.Model
        Uncompiled; total 1,075,265 parameters at the default shape, of them 1,074,913 trainable.

    Raises
    ------
    ValueError
        As `cnn_263k`.

    Notes
    -----
    Follows the network "CNN 1M" of [1]_ but for the dense widths: the slide prints 16, 32 and 8, which give
    286,785 parameters; 64, 32 and 16 give the million in its name. The rest as in `cnn_263k`.

    References
    ----------
    .. [1] zhang2020slides.

    Examples
    --------
    >>> cnn_1m().count_params()
    1075265
    """
    return _cnn("cnn_1m", input_shape, (16, 32, 64), (64, 32, 16), dropout_rate, seed)


def _cnn(name, input_shape, filters, units, dropout_rate, seed):
    """Convolution blocks, one dense layer with dropout, further dense layers, one linear unit."""
    shape = check_input_shape(input_shape, smallest=2 ** len(filters))
    x = image = keras.Input(shape, name="image")
    for block, num_filters in enumerate(filters, start=1):
        x = keras.layers.Conv2D(num_filters, 3, padding="same", activation="relu", name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(units[0], activation="relu", name="dense1")(x)
    x = keras.layers.BatchNormalization(name="dense1_bn")(x)
    x = keras.layers.Dropout(dropout_rate, name="dense1_dropout")(x)
    for number, num_units in enumerate(units[1:], start=2):
        x = keras.layers.Dense(num_units, activation="relu", name=f"dense{number}")(x)
    model = keras.Model(image, regression_output(x), name=name)
    return model if seed is None else with_seed(model, seed)
