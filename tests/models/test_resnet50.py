"""ResNet50 regressors: fingerprints of both heads, what is frozen, tapping, saving."""

import keras
import numpy as np
import pytest

from hcreg.models import resnet50_regressor

TINY = (32, 32, 3)


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("head", "total", "trainable"),
    [("zhang2021", 23_688_065, 23_634_945), ("chi2025hc", 24_768_385, 1_180_673)],
)
def test_parameter_fingerprint(head, total, trainable):
    model = resnet50_regressor(head=head)
    assert (model.count_params(), trainable_count(model)) == (total, trainable)
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1)
    assert not model.compiled


def test_default_head_is_zhang2021():
    model = resnet50_regressor(TINY)
    assert [layer.name for layer in model.layers[-3:]] == ["head_flatten", "head_dropout", "hc_fraction"]
    assert model.get_layer("head_dropout").rate == 0.3
    assert model.get_layer("hc_fraction").kernel.shape == (2048, 1)  # 1 x 1 x 2048 features at 32 px
    assert model.get_layer("hc_fraction").activation is keras.activations.linear


def test_chi2025hc_head():
    model = resnet50_regressor(TINY, head="chi2025hc")
    relu, linear = keras.activations.relu, keras.activations.linear
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [(layer.units, layer.activation) for layer in dense] == [(512, relu), (256, relu), (1, linear)]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.3, 0.3]
    assert isinstance(model.get_layer("head_gap"), keras.layers.GlobalAveragePooling2D)


def test_the_last_block_can_be_tapped():
    model = resnet50_regressor((64, 64, 3))
    assert model.get_layer("conv5_block3_out").output.shape == (None, 2, 2, 2048)


def test_a_training_step_leaves_the_frozen_backbone_as_it_is():
    rng = np.random.default_rng(0)
    images, targets = rng.normal(3.0, 2.0, (4, *TINY)).astype("float32"), rng.random((4, 1)).astype("float32")
    model = resnet50_regressor(TINY, head="chi2025hc", seed=0)
    features = keras.Model(model.input, model.get_layer("head_gap").output)
    np.testing.assert_array_equal(features(images, training=True), features(images))  # not the batch's statistics
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(images, targets)
    moved = {
        layer.name
        for layer in model.layers
        if any(not np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert moved == {"head_dense_512", "head_dense_256", "hc_fraction"}


def test_trainable_backbone_overrides_the_head():
    assert trainable_count(resnet50_regressor(TINY, head="chi2025hc", trainable_backbone=True)) == 24_768_385 - 53_120
    assert trainable_count(resnet50_regressor(TINY, trainable_backbone=False)) == 2048 + 1


def test_keras_file_gives_the_same_output_and_stays_frozen(tmp_path):
    images = np.random.default_rng(0).normal(size=(2, *TINY)).astype("float32")
    model = resnet50_regressor(TINY, head="chi2025hc", seed=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert trainable_count(loaded) == trainable_count(model) == 1_180_673


def test_unknown_head_lists_the_known():
    with pytest.raises(ValueError, match=r"one of 'zhang2021', 'chi2025hc'\. Received: 'chi2025'.*backbone_regressor"):
        resnet50_regressor(head="chi2025")
