"""Networks to compare analyzers on: small ones of every style, those of the papers, and trained ones."""

from functools import partial
from pathlib import Path

import keras
import numpy as np

from hcreg import models, runs
from hcreg.measurement import TrainedRegressor
from hcreg.training import BEST_WEIGHTS

TRAINED = ("cnn_1m_mae", "densenet121_mae")
NUM_IMAGES = 3


def vgg_flatten(shape=(16, 16, 2)):
    """Convolutions, maximum pooling, flattening, dense layers."""
    x = image = keras.Input(shape)
    for filters in (4, 6):
        x = _convolution(x, filters, activation="relu")
        x = _convolution(x, filters, activation="relu")
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(x)))


def vgg_pooled(shape=(16, 16, 2)):
    """The same with global average pooling and a stack of linear layers, as the regressor on VGG16."""
    x = image = keras.Input(shape)
    for filters in (4, 6):
        x = _convolution(x, filters, activation="relu")
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(8)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Dense(4)(x)))


def resnet(shape=(24, 24, 2), pad=True):
    """A padded first convolution, batch normalisation, activation layers, a projected and a plain shortcut.

    Parameters
    ----------
    shape : tuple of int
    pad : bool
        Whether a ZeroPadding2D stands in front of the first convolution, as in ResNet50.
    """
    relu = partial(keras.layers.Activation, "relu")
    x = image = keras.Input(shape)
    x = keras.layers.ZeroPadding2D(1)(x) if pad else x
    x = relu()(_normalised(x, 4, strides=2, padding="valid" if pad else "same"))
    x = keras.layers.MaxPooling2D(3, strides=2)(keras.layers.ZeroPadding2D(1)(x))
    for shortcut in (lambda y: _normalised(y, 6, 1), lambda y: y):
        branch = _normalised(relu()(_normalised(relu()(_normalised(x, 4, 1)), 4)), 6, 1)
        x = relu()(keras.layers.Add()([shortcut(x), branch]))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x)))


def densenet(shape=(16, 16, 2)):
    """Normalisation before each convolution, concatenation, average pooling."""
    x = _convolution(image := keras.Input(shape), 4)
    for _ in range(2):
        new = _convolution(_normalised_relu(x), 3)
        x = keras.layers.Concatenate()([x, new])
    x = keras.layers.AveragePooling2D(2)(_convolution(_normalised_relu(x), 4, 1))
    x = keras.layers.GlobalAveragePooling2D()(_normalised_relu(x))
    return keras.Model(image, keras.layers.Dense(1)(x))


def conv3d(shape=(8, 12, 12, 1)):
    """Convolutions, normalisation and average pooling in three dimensions; of maximum pooling there is no float64."""
    x = _normalised_relu(keras.layers.Conv3D(4, 3, padding="same")(image := keras.Input(shape)))
    x = keras.layers.Conv3D(4, 3, padding="same", activation="relu")(keras.layers.AveragePooling3D(2)(x))
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Dense(12, activation="relu")(x)))


SMALL = {
    "vgg_flatten": vgg_flatten,
    "vgg_pooled": vgg_pooled,
    "resnet": resnet,
    "densenet": densenet,
    "conv3d": conv3d,
    "cnn_1m": partial(models.cnn_1m, (32, 32, 1)),
}
LARGE = {
    "VGG16": partial(models.vgg16_regressor, (64, 64, 3)),
    "ResNet50": partial(models.resnet50_regressor, (64, 64, 3)),
}


def build(name, models_root=()):
    """A network and images for it.

    Parameters
    ----------
    name : str
        Of `SMALL`, `LARGE` or `TRAINED`.
    models_root : sequence of path-like
        Folders of trained runs, ``<root>/<name>/fold_0``.

    Returns
    -------
    model : keras.Model
    images : ndarray of float32, shape (NUM_IMAGES, *spatial, channels)
        For random weights, random numbers of both signs, and the output's bias is such that the prediction for one of
        them is negative. For trained ones, discs on noise, standardised.

    Raises
    ------
    FileNotFoundError
        If there is no such trained run.
    """
    if name in TRAINED:
        model = TrainedRegressor(find_run(models_root, name)).model
        return model, discs(model.input_shape[1:])
    keras.utils.set_random_seed(0)
    model = randomised({**SMALL, **LARGE}[name]())
    images = np.random.default_rng(1).normal(size=(NUM_IMAGES, *model.input_shape[1:])).astype("float32")
    return with_a_negative_prediction(model, images), images


def find_run(roots, name):
    """Folder of a trained run with its weights.

    Parameters
    ----------
    roots : sequence of path-like
    name : str

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
    """
    for root in roots:
        folder = Path(root) / name / "fold_0"
        if (folder / runs.RUN_FILE).is_file() and (folder / BEST_WEIGHTS).is_file():
            return folder
    raise FileNotFoundError(
        f"There is no trained {name}: expected {name}/fold_0/{BEST_WEIGHTS} in "
        f"{', '.join(map(str, roots)) or 'a folder of --models-root'}. Train it with "
        "experiments.zhang2020.table1, or name other --models."
    )


def randomised(model, seed=0):
    """Give a network weights of which none hides a mistake: no bias is 0, no normalisation does nothing.

    Parameters
    ----------
    model : keras.Model
    seed : int

    Returns
    -------
    keras.Model
        The same. Numbers keep their size from layer to layer.
    """
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if weight.name in {"kernel", "depthwise_kernel", "pointwise_kernel"}:
                inputs = np.prod(shape[:2] if "depthwise" in weight.name else shape[:-1])
                weight.assign(generator.normal(0.0, np.sqrt(2 / inputs), shape))
            elif weight.name in {"gamma", "moving_variance"}:
                weight.assign(generator.uniform(0.5, 1.5, shape))
            elif weight.name in {"bias", "beta", "moving_mean"}:
                weight.assign(generator.normal(0.0, 0.1, shape))
    last = model.layers[-1].kernel
    signs = np.where(np.arange(last.shape[0]) % 2, -1.0, 1.0)[:, None]
    last.assign(signs * np.abs(last))  # were all that is active to subtract, rules of what adds would give 0
    return model


def with_a_negative_prediction(model, images):
    """Move the output's bias so that one of the predictions is negative and the others are positive."""
    lowest, second = np.sort(model.predict_on_batch(images)[:, 0].astype(float))[:2]
    bias = model.layers[-1].bias
    bias.assign(bias - np.float32(lowest + (second - lowest) / 3))
    return model


def discs(shape):
    """Noisy discs of several sizes, standardised, as a stand-in for heads.

    Parameters
    ----------
    shape : tuple of int
        (height, width, channels)

    Returns
    -------
    ndarray of float32, shape (NUM_IMAGES, height, width, channels)
    """
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    generator, found = np.random.default_rng(0), []
    for number in range(NUM_IMAGES):
        image = np.where(abs(distance - 0.15 - 0.08 * number) < 0.02, 3.0, 0.5) + generator.gamma(
            1.0, 0.5, (height, width)
        )
        found.append((image - image.mean()) / image.std())
    return np.repeat(np.stack(found)[..., None], channels, axis=-1).astype("float32")


def in_float64(model):
    """A copy that computes in float64.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    keras.Model
        Of the same weights.
    """

    def copied(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")  # of the copy as a whole, which no layer says
    try:
        copy = keras.models.clone_model(
            model, input_tensors=keras.Input(model.input_shape[1:], dtype="float64"), clone_function=copied
        )
    finally:
        keras.config.set_dtype_policy(before)
    copy.set_weights(model.get_weights())
    return copy


def _convolution(x, filters, size=3, **options):
    return keras.layers.Conv2D(filters, size, **{"padding": "same", **options})(x)


def _normalised(x, filters, size=3, **options):
    return keras.layers.BatchNormalization()(_convolution(x, filters, size, **options))


def _normalised_relu(x):
    return keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
