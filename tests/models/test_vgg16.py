"""VGG16 regressor: fingerprint, the linear penalised head, tapping, saving."""

import keras
import numpy as np
import pytest

from hcreg.models import vgg16, vgg16_regressor
from hcreg.models.vgg16 import ActivityL1

TINY = (32, 32, 3)


@pytest.fixture(scope="module")
def tiny():
    return vgg16_regressor(TINY, seed=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, *TINY)).astype("float32")


def test_parameter_fingerprint():
    model = vgg16_regressor()
    assert model.count_params() == 15_151_937
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 15_151_937
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1)
    assert not model.compiled


def test_the_last_convolution_can_be_tapped(tiny):
    assert tiny.get_layer("block5_conv3").output.shape == (None, 2, 2, 512)
    assert not any(isinstance(layer, keras.Model) for layer in tiny.layers)


def test_head_is_linear(tiny):
    dense = [layer for layer in tiny.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [512, 256, 128, 64, 32, 1]
    assert all(layer.activation is keras.activations.linear for layer in dense)
    assert tiny.get_layer("head_dropout").rate == 0.7

    # Six dense layers without activation are one affine map of the pooled features.
    matrix, offset = np.eye(512), np.zeros(512)
    for layer in dense:
        kernel, bias = layer.get_weights()
        matrix, offset = matrix @ kernel, offset @ kernel + bias
    head = keras.Model(tiny.get_layer("head_gap").output, tiny.output)
    features = np.random.default_rng(1).normal(size=(3, 512)).astype("float32")
    np.testing.assert_allclose(head(features), features @ matrix + offset, atol=1e-5)


def test_penalties_are_a_hundredth_of_squares_and_of_the_mean_absolute_outputs(tiny, images):
    names = [f"head_dense_{units}" for units in (512, 256, 128, 64, 32)]
    tap = keras.Model(tiny.input, [tiny.get_layer(name).output for name in names])
    outputs = [np.asarray(output, "float64") for output in tap(images)]
    kernels = [tiny.get_layer(name).kernel.numpy().astype("float64") for name in names]
    activity = sum(0.01 * np.abs(output).sum(axis=1).mean() for output in outputs)
    squares = sum(0.01 * (kernel**2).sum() for kernel in kernels)

    tiny(images)
    assert float(sum(tiny.losses)) == pytest.approx(activity + squares, rel=1e-5)
    assert len(tiny.losses) == 10


def test_activity_penalty_does_not_grow_with_the_batch(tiny, images):
    def penalty(batch):
        tiny(batch)
        return float(sum(tiny.losses))

    assert penalty(np.repeat(images, 4, axis=0)) == pytest.approx(penalty(images), rel=1e-5)


@pytest.mark.parametrize(
    ("version", "handed_over"), [("3.10.0", 5.0), ("3.13.2", 5.0), ("3.14.0", 10.0), ("4.0", 10.0)]
)
def test_activity_penalty_suits_the_keras_version(version, handed_over, monkeypatch):
    monkeypatch.setattr(vgg16.keras, "__version__", version)
    outputs = np.array([[1.0, -2.0], [3.0, -4.0]], "float32")  # absolute sum 10, per image 5
    assert float(ActivityL1(1.0)(outputs)) == handed_over


def test_keras_file_gives_the_same_output_and_penalties(tiny, images, tmp_path):
    tiny.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), tiny(images))
    assert float(sum(loaded.losses)) == pytest.approx(float(sum(tiny.losses)))


def test_equal_seeds_give_equal_outputs(tiny, images):
    again = vgg16_regressor(TINY, seed=1)
    np.testing.assert_array_equal(again(images), tiny(images))
    assert again.get_layer("head_dropout").seed == tiny.get_layer("head_dropout").seed


def test_frozen_backbone_leaves_the_head_to_train():
    model = vgg16_regressor(TINY, trainable_backbone=False)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 15_151_937 - 14_714_688


def test_any_image_size():
    assert vgg16_regressor((None, None, 3)).get_layer("head_gap").output.shape == (None, 512)
