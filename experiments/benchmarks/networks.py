"""Networks to explain and their bare pass forward and backward, by nothing of hcreg's analyzers."""

from functools import partial

import keras
import numpy as np

from hcreg import backend


def built(name, input_shape):
    """A network of `keras.applications` with one output, its weights random but always the same.

    Parameters
    ----------
    name : {"VGG16", "ResNet50"}
    input_shape : tuple of int

    Returns
    -------
    keras.Model
        Predictions are positive, as deep Taylor decomposition needs them. No weight has a value that hides a mistake,
        such as a bias of 0, and activations keep their scale from layer to layer.
    """
    backbone = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=input_shape
    )
    model = keras.Model(backbone.input, keras.layers.Dense(1, name="prediction")(backbone.output))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                drawn = rng.standard_normal(weight.shape) * np.sqrt(2 / np.prod(weight.shape[:-1]))
                drawn = np.abs(drawn) if layer.name == "prediction" else drawn
            elif weight.name in {"gamma", "moving_variance"}:
                ends_block = weight.name == "gamma" and layer.name.endswith("_3_bn")
                drawn = rng.uniform(0.5, 1.5, weight.shape) * (0.3 if ends_block else 1.0)
            else:
                drawn = rng.uniform(-0.1, 0.1, weight.shape)
            weight.assign(drawn)
    return model


def bare_pass(model):
    """One pass forward and backward, compiled: the gradient, by nothing of hcreg's analyzers.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    callable
        Of images, array in and array out.
    """
    compiled = backend.compile_function(partial(backend.gradient, partial(model, training=False)))
    return lambda images: keras.ops.convert_to_numpy(compiled(images))


def distance(found, wanted):
    """Length of the difference of two arrays over the length of the second."""
    return float(np.linalg.norm(np.subtract(found, wanted, dtype=float)) / np.linalg.norm(wanted))
