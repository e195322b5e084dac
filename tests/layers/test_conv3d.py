"""Conv3D: by hand, against Keras's own forwards and backwards, where it falls back, files."""

import doctest
import importlib

import keras
import numpy as np
import pytest
from keras import ops

from hcreg import backend
from hcreg.layers import Conv3D

CLASSES = (Conv3D, keras.layers.Conv3D)
SHAPE = (2, 6, 5, 3, 4)
only_on_a_cpu = pytest.mark.skipif(
    backend.name() != "tensorflow" or backend.has_accelerator(), reason="it folds slices for TensorFlow on a CPU"
)


def stack(shape=SHAPE):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def pair(shape=SHAPE, kernel_size=3, padding="same", **arguments):
    """A layer of each class with the same weights."""
    layers = [cls(5, kernel_size, padding=padding, **arguments) for cls in CLASSES]
    for layer in layers:
        layer.build(shape)
    layers[0].bias.assign(np.arange(5.0))
    layers[1].set_weights(layers[0].get_weights())
    return layers


def values_and_gradients(layer, x):
    """Output of a layer, the sum of its convolution's squares, and that sum's gradients by input and kernel."""
    inputs, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(layer.kernel)
    value, pull_back = backend.vjp(lambda *given: ops.sum(layer.convolution_op(*given) ** 2), inputs, kernel)
    return [layer(x), value, *pull_back(ops.ones_like(value))]


@pytest.fixture
def planes(monkeypatch):
    """Shapes that were convolved in two dimensions."""
    found, convolve = [], ops.conv

    def spy(inputs, kernel, **arguments):
        found.append(tuple(inputs.shape))
        return convolve(inputs, kernel, **arguments)

    monkeypatch.setattr("hcreg.layers.conv3d.ops.conv", spy)
    return found


@only_on_a_cpu
def test_one_pixel_of_three_slices_by_hand(planes):
    """Kernel 1 2 3 across the slices 4 5 6: 2*4 + 3*5, 1*4 + 2*5 + 3*6, 1*5 + 2*6."""
    layer = Conv3D(1, (1, 1, 3), padding="same", use_bias=False)
    layer.build((1, 1, 1, 3, 1))
    layer.set_weights([np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1, 1)])
    outputs = layer(np.array([4.0, 5.0, 6.0], "float32").reshape(1, 1, 1, 3, 1))
    assert np.ravel(outputs).tolist() == [23.0, 32.0, 17.0]
    assert planes == [(1, 1, 1, 3)]


@only_on_a_cpu
@pytest.mark.parametrize(
    ("slices", "kernel_size"), [(3, 3), (2, 3), (2, (3, 2, 2)), (2, (1, 1, 5)), (4, (3, 3, 4)), (5, (2, 3, 5))], ids=str
)
def test_output_and_gradients_are_those_of_keras(slices, kernel_size, planes):
    shape = (*SHAPE[:3], slices, 4)
    x, layers = stack(shape), pair(shape, kernel_size, activation="relu")
    found = [values_and_gradients(layer, x) for layer in layers]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(np.asarray(theirs)).max())
    assert set(planes) == {(2, 6, 5, 4 * slices)}


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 6, 5, 4, 4), {}),  # more slices than the kernel is deep
        ((2, 6, 5, 1, 4), {}),
        (SHAPE, {"padding": "valid"}),
        (SHAPE, {"strides": 2}),
        (SHAPE, {"strides": (2, 1, 1), "kernel_size": (2, 3, 3)}),
        (SHAPE, {"strides": (1, 1, 2), "padding": "valid", "activation": "relu"}),
        (SHAPE, {"dilation_rate": 2}),
        ((2, 6, 5, 3, 5), {"groups": 5}),
    ],
    ids=str,
)
def test_falls_back_forwards_and_backwards(shape, arguments, planes):
    found = [values_and_gradients(layer, stack(shape)) for layer in pair(shape, **arguments)]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.abs(np.asarray(theirs)).max() > 0
    assert planes == []


@only_on_a_cpu
def test_falls_back_on_an_accelerator(monkeypatch, planes):
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    found = [values_and_gradients(layer, stack()) for layer in pair()]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert planes == []


def test_an_unknown_number_of_slices_falls_back(planes):
    ours, theirs = pair()
    model = keras.Sequential([keras.Input((None, None, None, 4)), ours])
    assert model.output_shape == (None, None, None, None, 5)
    assert planes == []
    np.testing.assert_allclose(model(stack()), theirs(stack()), atol=1e-5)  # the number is known here


@only_on_a_cpu
def test_unknown_height_and_width_do_not_matter(planes):
    ours, theirs = pair()
    model = keras.Sequential([keras.Input((None, None, 3, 4)), ours])
    assert model.output_shape == (None, None, None, 3, 5)
    np.testing.assert_allclose(model(stack()), theirs(stack()), atol=1e-5)
    assert planes


def test_a_file_of_one_class_serves_the_other(tmp_path):
    models = [keras.Sequential([keras.Input(SHAPE[1:]), layer]) for layer in pair()]
    models[1].save_weights(tmp_path / "theirs.weights.h5")
    models[0].layers[0].kernel.assign(ops.zeros_like(models[0].layers[0].kernel))
    models[0].load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(models[0](stack()), models[1](stack()), atol=1e-5)
    models[0].save(tmp_path / "ours.keras")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    assert isinstance(loaded.layers[0], Conv3D)
    np.testing.assert_array_equal(loaded(stack()), models[0](stack()))


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.layers.conv3d"))
    assert (result.failed, result.attempted) == (0, 5)
