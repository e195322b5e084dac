"""BatchStatistics: by hand, against batch normalisation in training, precision, files."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg import backend
from hcreg.layers import BatchNormalization, BatchStatistics

SHAPES = ((3, 4, 5, 2), (2, 3, 4, 5, 2), (6, 2))


def maps(shape):
    return np.random.default_rng(0).normal(2.0, 3.0, shape).astype("float32")


def built(shape, **arguments):
    layer = BatchStatistics(**arguments)
    layer.build((None, *shape[1:]))
    layer.set_weights([np.array([0.5, 2.0]), np.array([-1.0, 1.0])])
    return layer


def test_two_voxels_by_hand():
    """1 and 5: mean 3, mean squared deviation 4; (x - 3) / sqrt(4 + 0) * 10 + 1 = -9 and 11."""
    layer = BatchStatistics(epsilon=2e-5)
    layer.build((None, 1, 2, 1))
    layer.set_weights([np.array([10.0]), np.array([1.0])])
    x = np.array([1.0, 5.0], "float32").reshape(1, 1, 2, 1)
    assert np.ravel(layer(x)) == pytest.approx([-9, 11], rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradient_are_those_of_batch_normalisation_in_training(shape):
    ours, theirs = built(shape), BatchNormalization()
    theirs.build((None, *shape[1:]))
    theirs.set_weights([*ours.get_weights(), np.zeros(2), np.ones(2)])
    weights = np.cos(np.arange(np.prod(shape))).reshape(shape).astype("float32")
    found = [
        backend.value_and_vjp(function, maps(shape), weights) for function in (ours, lambda x: theirs(x, training=True))
    ]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_inference_is_as_training_and_nothing_moves():
    model = keras.Sequential([keras.Input((4, 4, 4, 2)), built((1, 4, 4, 4, 2))])
    x = maps((1, 4, 4, 4, 2))
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-6)
    assert model.non_trainable_weights == []


def test_a_single_voxel_is_its_own_mean():
    assert np.ravel(built((1, 1, 1, 1, 2))(maps((1, 1, 1, 1, 2)))).tolist() == [-1.0, 1.0]


def test_of_one_image_it_is_instance_normalisation():
    x = maps((1, 3, 4, 5, 2))
    instance = keras.layers.GroupNormalization(groups=-1)
    instance.build(x.shape)
    instance.set_weights(built(x.shape).get_weights())
    np.testing.assert_allclose(built(x.shape)(x), instance(x), atol=1e-5)


def test_half_precision_is_summed_in_float32():
    x = maps((2, 16, 16, 16, 2)) + 100.0  # bfloat16 has steps of 0.5 there
    coarse = keras.ops.cast(x, "bfloat16")
    output = built(x.shape, dtype="mixed_bfloat16")(coarse)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    expected = built(x.shape)(keras.ops.cast(coarse, "float32"))
    np.testing.assert_allclose(keras.ops.cast(output, "float32"), expected, rtol=2**-7, atol=2**-7)


def test_keras_file_gives_the_same_output(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), built((1, 4, 4, 2), epsilon=0.5)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].epsilon == 0.5
    np.testing.assert_array_equal(loaded(maps((1, 4, 4, 2))), model(maps((1, 4, 4, 2))))


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.layers.batch_statistics"))
    assert (result.failed, result.attempted) == (0, 2)
