"""Small classifier: fingerprint and cost, the map to tap, seeds, saving, learning, mixed precision, errors."""

import keras
import numpy as np
import pytest

from hcreg.models import cnn_classifier

TINY = (16, 20, 1)
# Of the four 3x3 convolutions, channels into and out of each, and cells of its map at 105 x 135.
CONVOLUTIONS = ((1, 12, 53 * 68), (12, 16, 27 * 34), (16, 24, 27 * 34), (24, 24, 27 * 34))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, size=(4, *TINY)).astype("float32")


def test_parameter_fingerprint():
    model = cnn_classifier()
    convolutions = sum((9 * before + 1) * after for before, after, _ in CONVOLUTIONS)
    assert model.count_params() == convolutions + (24 + 1) * 32 + (32 + 1) * 4 == 11_484
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == 11_484
    assert model.input_shape == (None, 105, 135, 1)
    assert model.output_shape == (None, 4)
    assert not model.compiled


def test_cost_of_a_forward_pass():
    model, multiplications = cnn_classifier(), 0
    for number, (before, after, cells) in enumerate(CONVOLUTIONS, start=1):
        layer = model.get_layer(f"conv{number}")
        assert layer.kernel.shape == (3, 3, before, after)
        assert int(np.prod(layer.output.shape[1:3])) == cells
        multiplications += 9 * before * after * cells
    assert multiplications == 9_907_056


def test_the_last_convolution_is_tapped_at_stride_4():
    model = cnn_classifier()
    assert model.get_layer("conv4").output.shape == (None, 27, 34, 24)
    names = [layer.name for layer in model.layers]
    assert names[-5:] == ["conv4", "head_gap", "head_dense", "logits", "probabilities"]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_head_sees_amounts_and_not_places(images):
    model = cnn_classifier(TINY, seed=0)
    tap = keras.Model(model.input, model.get_layer("conv4").output)
    head = keras.Model(model.get_layer("head_gap").input, model.output)
    maps = np.asarray(tap(images))
    np.testing.assert_allclose(head(maps), model(images), atol=1e-6)
    np.testing.assert_allclose(head(maps[:, ::-1, ::-1]), model(images), atol=1e-5)


def test_head_without_biases_scales_with_its_maps(images):
    model = cnn_classifier(TINY, activation=None, seed=0)  # biases start at zero
    head = keras.Model(model.get_layer("head_gap").input, model.output)
    maps = np.asarray(keras.Model(model.input, model.get_layer("conv4").output)(images))
    np.testing.assert_allclose(head(3 * maps), 3 * np.asarray(head(maps)), rtol=1e-4, atol=1e-6)
    assert np.abs(head(maps)).max() > 1e-2


def test_equal_seeds_give_equal_weights(images):
    first, second, other = cnn_classifier(TINY, seed=5), cnn_classifier(TINY, seed=5), cnn_classifier(TINY, seed=6)
    np.testing.assert_array_equal(first(images), second(images))
    for name in ("conv1", "conv4", "head_dense", "logits"):
        assert not np.array_equal(first.get_layer(name).kernel, other.get_layer(name).kernel)


def test_keras_file_gives_the_same_output(images, tmp_path):
    model = cnn_classifier(TINY, seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize(("activation", "last"), [("sigmoid", "probabilities"), (None, "logits")])
def test_other_activations(images, activation, last):
    model = cnn_classifier(TINY, num_classes=1, activation=activation, seed=3)
    logits = keras.Model(model.input, model.get_layer("logits").output)
    expected = np.asarray(logits(images))
    if activation == "sigmoid":
        expected = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    assert model.layers[-1].name == last


def test_mixed_bfloat16_computes_logits_and_probabilities_in_float32(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = cnn_classifier(TINY, seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {name: model.get_layer(name).compute_dtype for name in ("conv4", "head_dense", "logits", "probabilities")}
    assert dtypes == {"conv4": "bfloat16", "head_dense": "bfloat16", "logits": "float32", "probabilities": "float32"}
    output = model(images)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    np.testing.assert_allclose(np.asarray(output).sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(output, cnn_classifier(TINY, seed=1)(images), atol=0.03)


def test_it_learns_the_size_of_a_disc_wherever_it_lies():
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    labels = np.arange(64) % 2
    centres = generator.uniform(11, 21, size=(64, 2))
    radii = np.where(labels, 9.0, 6.0)
    distances = np.hypot(x - centres[:, :1, None], y - centres[:, 1:, None])
    images = np.where(distances < radii[:, None, None], 0.6, -1.0).astype("float32")[..., None]
    model = cnn_classifier((32, 32, 1), num_classes=2, seed=0)
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    for _ in range(60):
        model.train_on_batch(images[:32], labels[:32])
    assert (np.asarray(model(images[32:])).argmax(1) == labels[32:]).mean() > 0.95


def test_jit_compiled_training_steps_match_the_plain_ones(images):
    losses = {}
    for jit_compile in (False, True):
        model = cnn_classifier(TINY, seed=2)
        model.compile(keras.optimizers.SGD(1e-2), "sparse_categorical_crossentropy", jit_compile=jit_compile)
        losses[jit_compile] = [float(model.train_on_batch(images, np.arange(4))) for _ in range(3)]
    assert losses[True][2] != losses[True][0]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


def test_any_image_size(images):
    model = cnn_classifier((None, None, 1), seed=1)
    np.testing.assert_allclose(model(images), cnn_classifier(TINY, seed=1)(images), atol=1e-6)


@pytest.mark.parametrize("shape", [(105, 135), (7, 8, 1), (105, 135, 0), None])
def test_input_shape_is_checked(shape):
    with pytest.raises(ValueError, match=r"at least 8 px.*Received: .*Pass for example \(105, 135, 1\)"):
        cnn_classifier(shape)


def test_a_single_class_has_no_softmax():
    with pytest.raises(ValueError, match=r"at least 2 with activation='softmax'\. Received: 1\. For yes or no"):
        cnn_classifier(num_classes=1)
