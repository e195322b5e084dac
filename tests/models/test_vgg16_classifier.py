"""VGG16 classifier: fingerprint, head, tapping, weights, seeds, saving, mixed precision, and every error."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from hcreg.models import vgg16_classifier

TINY = (32, 32, 3)
VGG16_PARAMETERS = 14_714_688


@pytest.fixture(scope="module")
def tiny():
    return vgg16_classifier(TINY, seed=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, size=(2, *TINY)).astype("float32")


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_parameter_fingerprint():
    model = vgg16_classifier()
    widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    channels = [3, *(width for block in widths for width in block)]
    backbone = sum((9 * before + 1) * after for before, after in pairwise(channels))
    assert backbone == VGG16_PARAMETERS
    features = (105 // 32) * (135 // 32) * 512  # five halvings, rounded down each time
    assert features == 6144
    assert model.count_params() == backbone + (features + 1) * 100 + (100 + 1) * 4 == 15_329_592
    assert trainable_count(model) == 15_329_592
    assert model.input_shape == (None, 105, 135, 3)
    assert model.output_shape == (None, 4)
    assert model.get_layer("head_flatten").output.shape == (None, 6144)
    assert model.get_layer("block5_conv3").output.shape == (None, 6, 8, 512)
    assert not model.compiled


def test_no_layer_hides_others_and_the_head_is_as_named(tiny):
    assert not any(isinstance(layer, keras.Model) for layer in tiny.layers)
    assert [layer.name for layer in tiny.layers[-5:]] == [
        "block5_pool",
        "head_flatten",
        "head_dense",
        "logits",
        "probabilities",
    ]
    dense, logits, probabilities = tiny.layers[-3:]
    assert dense.units == 100
    assert dense.activation is keras.activations.relu
    assert isinstance(dense.kernel_initializer, keras.initializers.HeUniform)
    assert logits.activation is keras.activations.linear
    assert probabilities.activation is keras.activations.softmax


def test_hidden_kernel_spreads_as_he_uniform(tiny):
    kernel = tiny.get_layer("head_dense").kernel.numpy()
    limit = np.sqrt(6 / 512)  # uniform in +- sqrt(6 / inputs), 1 x 1 x 512 of them here
    assert 0.99 * limit < abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)


def test_probabilities_follow_from_logits(images):
    softmax = vgg16_classifier(TINY, num_classes=3, seed=2)
    sigmoid = vgg16_classifier(TINY, num_classes=3, activation="sigmoid", seed=2)
    plain = vgg16_classifier(TINY, num_classes=3, activation=None, seed=2)
    assert plain.layers[-1].name == "logits"
    logits = np.asarray(plain(images), "float64")
    exponentials = np.exp(logits)
    np.testing.assert_allclose(softmax(images), exponentials / exponentials.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(sigmoid(images), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_frozen_backbone_leaves_the_head_to_train(images):
    model = vgg16_classifier(TINY, trainable_backbone=False, seed=1)
    assert trainable_count(model) == model.count_params() - VGG16_PARAMETERS == 513 * 100 + 404


def test_equal_seeds_give_equal_weights(tiny, images):
    again, other = vgg16_classifier(TINY, seed=1), vgg16_classifier(TINY, seed=2)
    np.testing.assert_array_equal(again(images), tiny(images))
    for name in ("block1_conv1", "head_dense", "logits"):
        assert not np.array_equal(other.get_layer(name).kernel, tiny.get_layer(name).kernel)


def test_backbone_weights_from_a_file_stay_as_loaded(tiny, images, tmp_path):
    path = tmp_path / "vgg16.weights.h5"
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=TINY)
    backbone.save_weights(path)
    for seed in (None, 1):
        model = vgg16_classifier(TINY, weights=path, seed=seed)
        tap = keras.Model(model.input, model.get_layer("block5_pool").output)
        np.testing.assert_allclose(tap(images), backbone(images), atol=1e-6)
    # The head is drawn from the seed as without a file.
    np.testing.assert_array_equal(model.get_layer("head_dense").kernel, tiny.get_layer("head_dense").kernel)


def test_keras_file_gives_the_same_output(tiny, images, tmp_path):
    tiny.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), tiny(images))


def test_mixed_bfloat16_computes_logits_and_probabilities_in_float32(tiny, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = vgg16_classifier(TINY, seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {name: model.get_layer(name).compute_dtype for name in ("block5_conv3", "head_dense", "logits")}
    assert dtypes == {"block5_conv3": "bfloat16", "head_dense": "bfloat16", "logits": "float32"}
    output = model(images)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    np.testing.assert_allclose(np.asarray(output).sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(output, tiny(images), atol=0.02)


def test_image_too_small_or_of_varying_size():
    for shape in ((31, 32, 3), (None, None, 3)):
        with pytest.raises(ValueError, match=r"at least 32 px\. Received: .*Pass for example \(105, 135, 3\)"):
            vgg16_classifier(shape)


@pytest.mark.parametrize("units", [0, 2.5, True, None])
def test_hidden_units_are_a_whole_number(units):
    with pytest.raises(ValueError, match=r"hidden_units is a whole number, 1 or more\. Received: "):
        vgg16_classifier(TINY, hidden_units=units)


def test_grey_images_do_not_fit_imagenet():
    with pytest.raises(ValueError, match=r"expects 3 channels\. Received: input_shape=\(32, 32, 1\)"):
        vgg16_classifier((32, 32, 1), weights="imagenet")


def test_no_file_at_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weight file at"):
        vgg16_classifier(TINY, weights=tmp_path / "none.h5")
