"""Small networks of every kind that is explained, with weights of both signs, and a way to run them without graphs."""

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def _the_same_weights_in_every_run():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def eager(monkeypatch):
    """Run analyzers without compiling them: the same numbers, and far sooner for small networks."""
    from hcreg import backend

    monkeypatch.setattr(backend, "compile_function", lambda function, **_: function)


@pytest.fixture(scope="session")
def networks():
    """Builders of small networks of one output, by the name of what they are like."""
    import keras

    from hcreg import models

    def convolution(x, filters, size=3, activation=None, **kwargs):
        return keras.layers.Conv2D(filters, size, activation=activation, **{"padding": "same", **kwargs})(x)

    def bn_relu(x):
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

    def vgg(shape=(8, 8, 2), bias=True):
        x = image = keras.Input(shape)
        x = convolution(x, 4, activation="relu", use_bias=bias)
        x = convolution(x, 4, activation="relu", use_bias=bias)
        x = keras.layers.MaxPooling2D(2)(x)
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(6, activation="relu", use_bias=bias)(x)
        return keras.Model(image, keras.layers.Dense(1, use_bias=bias)(x))

    def resnet(shape=(12, 12, 1)):
        x = image = keras.Input(shape)
        x = keras.layers.ZeroPadding2D(1)(x)
        x = bn_relu(convolution(x, 4, strides=2, padding="valid"))
        x = keras.layers.MaxPooling2D(3, strides=2)(keras.layers.ZeroPadding2D(1)(x))
        shortcut = keras.layers.BatchNormalization()(convolution(x, 6, 1))
        x = keras.layers.BatchNormalization()(convolution(bn_relu(convolution(x, 4)), 6))
        x = keras.layers.ReLU()(keras.layers.Add()([shortcut, x]))
        branch = keras.layers.BatchNormalization()(convolution(bn_relu(convolution(x, 4, 1)), 6))
        x = keras.layers.ReLU()(x + branch)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, keras.layers.Dense(1)(x))

    def densenet(shape=(8, 8, 2)):
        x = image = keras.Input(shape)
        x = convolution(x, 4)
        for _ in range(2):
            x = keras.layers.Concatenate()([x, convolution(bn_relu(x), 3)])
        x = keras.layers.AveragePooling2D(2)(convolution(bn_relu(x), 4, 1))
        x = keras.layers.GlobalAveragePooling2D()(bn_relu(x))
        return keras.Model(image, keras.layers.Dense(1)(x))

    def conv3d(shape=(4, 6, 6, 1)):
        x = image = keras.Input(shape)
        x = bn_relu(keras.layers.Conv3D(3, 3, padding="same")(x))
        x = keras.layers.MaxPooling3D(2)(x)
        x = keras.layers.BatchNormalization()(keras.layers.Conv3D(3, 2, padding="same", activation="relu")(x))
        x = keras.layers.GlobalAveragePooling3D()(x)
        return keras.Model(image, keras.layers.Dense(1)(x))

    builders = {
        "vgg": vgg,
        "resnet": resnet,
        "densenet": densenet,
        "conv3d": conv3d,
        "cnn_263k": lambda: models.cnn_263k((8, 8, 1)),
        "unet_ellipse": lambda: models.unet((16, 16, 1), filters=2, head="ellipse"),
    }

    def build(name, seed=0, **kwargs):
        keras.utils.set_random_seed(seed)
        return randomised(builders[name](**kwargs), seed)

    return SimpleNamespace(build=build, randomised=randomised, images=images, names=tuple(builders))


def randomised(model, seed=0):
    """Give a model biases of both signs, and normalisations of both signs, of means and of variances of their own."""
    import numpy as np

    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            shape = tuple(variable.shape)
            if variable.name == "gamma":
                variable.assign(generator.uniform(0.5, 1.5, shape) * generator.choice([-1.0, 1.0], shape))
            elif variable.name == "moving_variance":
                variable.assign(generator.uniform(0.5, 1.5, shape))
            elif variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(generator.normal(0.0, 0.3, shape))
    return model


def images(model, count=3, seed=0):
    """Random images, of both signs, that a model takes."""
    import numpy as np

    shape = tuple(16 if side is None else side for side in model.inputs[0].shape[1:])
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")
