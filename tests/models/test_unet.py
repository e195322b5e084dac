"""The U-Net from scratch: fingerprint, each fact of its architecture, seeds, files, training, ways to compute."""

import doctest
import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hcreg
from hcreg import backend, losses
from hcreg.geometry import Ellipse
from hcreg.models import unet

SMALL = (32, 48, 1)
ELLIPSE = Ellipse(24.0, 16.0, 15.0, 10.0, 0.4)


def small(**arguments):
    return unet(**{"input_shape": SMALL, "filters": 2, "seed": 0, **arguments})


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def numpy_of(tensors):
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def default():
    return unet()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def targets():
    """Anti-aliased masks and their circumferences over the width of 48 px, of 2 equal images."""
    masks = np.repeat(ELLIPSE.coverage(SMALL[:2])[None, ..., None], 2, axis=0)
    return {"mask": masks, "hc_fraction": np.full((2, 1), 0.3, "float32")}


# Architecture


def test_parameter_fingerprint(default):
    assert (default.count_params(), trainable_count(default)) == (1_946_705, 1_943_761)
    assert default.input_shape == (None, 224, 224, 1)
    assert default.output_shape == (None, 224, 224, 1)
    assert default.name == "unet"
    assert not default.compiled


def test_parameters_counted_by_hand(default):
    def block(inputs, filters):  # two convolutions with bias, two normalisations of four numbers a channel
        return (9 * inputs + 1) * filters + (9 * filters + 1) * filters + 2 * 4 * filters

    widths = (1, 16, 32, 64, 128, 256)
    down = sum(block(inputs, filters) for inputs, filters in itertools.pairwise(widths))
    up = sum((4 * 2 * filters + 1) * filters + block(2 * filters, filters) for filters in widths[1:5])
    assert default.count_params() == down + up + (16 + 1)


def test_eighteen_normalisations_each_after_a_relu_convolution(default):
    normalisations = [layer for layer in default.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(normalisations) == 18
    for layer in normalisations:
        convolution = default.get_layer(layer.name.replace("bn", "conv"))
        assert layer.input is convolution.output
        assert convolution.activation is keras.activations.relu
    assert not any(isinstance(layer, keras.layers.ReLU) for layer in default.layers)


def test_convolutions(default):
    convolutions = {layer.name: layer for layer in default.layers if isinstance(layer, keras.layers.Conv2D)}
    kernels = {name: (layer.filters, *layer.kernel_size) for name, layer in convolutions.items()}
    expected = {f"bottom_conv{number}": (256, 3, 3) for number in (1, 2)} | {"mask_logits": (1, 1, 1)}
    for level, filters in enumerate((16, 32, 64, 128), start=1):
        expected |= {f"{way}{level}_conv{number}": (filters, 3, 3) for way in ("down", "up") for number in (1, 2)}
        expected[f"up{level}_upconv"] = (filters, 2, 2)
    assert kernels == expected
    for name, layer in convolutions.items():
        assert (layer.use_bias, layer.padding, layer.strides) == (True, "same", (1, 1)), name
        if name != "mask_logits":
            assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal), name
            assert layer.activation is keras.activations.relu, name
    assert default.get_layer("mask").activation is keras.activations.sigmoid


def test_dropout_of_a_half_after_the_fourth_level_and_the_bottom(default):
    dropouts = {layer.name: layer for layer in default.layers if isinstance(layer, keras.layers.Dropout)}
    assert {name: layer.rate for name, layer in dropouts.items()} == {"down4_dropout": 0.5, "bottom_dropout": 0.5}
    assert dropouts["down4_dropout"].input is default.get_layer("down4_bn2").output
    assert dropouts["bottom_dropout"].input is default.get_layer("bottom_bn2").output
    assert default.get_layer("up4_upsampling").input is dropouts["bottom_dropout"].output


@pytest.mark.parametrize(
    ("level", "last"), [(1, "down1_bn2"), (2, "down2_bn2"), (3, "down3_bn2"), (4, "down4_dropout")]
)
def test_what_is_pooled_is_the_skip_and_comes_first(default, level, last):
    maps = default.get_layer(last).output
    pool = default.get_layer(f"down{level}_pool")
    assert pool.input is maps
    assert pool.pool_size == (2, 2)
    skip, upwards = default.get_layer(f"up{level}_concat").input
    assert skip is maps
    assert upwards is default.get_layer(f"up{level}_upconv").output  # no normalisation between
    upsampling = default.get_layer(f"up{level}_upsampling")
    assert default.get_layer(f"up{level}_upconv").input is upsampling.output
    assert (upsampling.interpolation, upsampling.size) == ("nearest", (2, 2))


def convolved(maps, layer):
    """Same-padded correlation as sums of shifted products; an even kernel is padded at the end."""
    kernel, bias = (weight.astype("float64") for weight in layer.get_weights())
    height, width = maps.shape[:2]
    rows, columns = kernel.shape[:2]
    before = (rows - 1) // 2, (columns - 1) // 2
    padded = np.pad(maps, [(side, size - 1 - side) for side, size in zip(before, (rows, columns))] + [(0, 0)])
    shifts = [(row, column) for row in range(rows) for column in range(columns)]
    return bias + sum(padded[r : r + height, c : c + width] @ kernel[r, c] for r, c in shifts)


def test_output_is_that_of_the_papers_figure_in_plain_numpy(images):
    """A second derivation, image by image: convolve, cut at zero, normalise; pool, double, join."""
    model = small()
    rng = np.random.default_rng(1)
    vectors_too = [w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()]
    model.set_weights(vectors_too)

    def block(x, name):
        for number in (1, 2):
            x = np.maximum(convolved(x, model.get_layer(f"{name}_conv{number}")), 0)
            gamma, beta, mean, variance = model.get_layer(f"{name}_bn{number}").get_weights()
            x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return x

    x, skips = images[0].astype("float64"), []
    for level in (1, 2, 3, 4):
        x = block(x, f"down{level}")
        skips.append(x)
        x = np.max([x[row::2, column::2] for row in (0, 1) for column in (0, 1)], axis=0)
    x = block(x, "bottom")
    for level in (4, 3, 2, 1):
        x = np.maximum(convolved(np.kron(x, np.ones((2, 2, 1))), model.get_layer(f"up{level}_upconv")), 0)
        x = block(np.concatenate([skips[level - 1], x], axis=-1), f"up{level}")
    logits = convolved(x, model.get_layer("mask_logits"))
    tap = keras.Model(model.input, model.get_layer("mask_logits").output)
    assert np.std(logits) > 0.1
    np.testing.assert_allclose(tap(images[:1])[0], logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    np.testing.assert_allclose(model(images[:1])[0], 1 / (1 + np.exp(-logits)), atol=2e-3)


def test_size_may_vary():
    model = small(input_shape=(None, None, 3))
    assert model(np.zeros((1, 32, 80, 3), "float32")).shape == (1, 32, 80, 1)


def test_softmax_of_several_classes(images):
    mask = np.asarray(small(classes=3, activation="softmax")(images))
    assert mask.shape == (2, 32, 48, 3)
    np.testing.assert_allclose(mask.sum(axis=-1), 1.0, rtol=1e-5)
    assert not np.allclose(np.asarray(small(classes=3)(images)).sum(axis=-1), 1.0, rtol=1e-2)


def test_ellipse_head_adds_no_parameters_and_leaves_the_mask(images):
    mask, both = small(), small(head="ellipse")
    assert both.count_params() == mask.count_params()
    output = numpy_of(both(images))
    np.testing.assert_array_equal(output["mask"], mask(images))
    assert output["hc_fraction"].shape == (2, 1)


# Seeds


def test_equal_seeds_give_equal_weights_and_dropout(images):
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first(images, training=True), second(images, training=True))
    for name in ("down1_conv1", "bottom_conv2", "mask_logits"):
        assert not np.array_equal(first.get_layer(name).get_weights()[0], other.get_layer(name).get_weights()[0])


def test_he_normal_weights():
    """Standard deviation sqrt(2 / inputs): of 9 x 128 inputs 0.0417."""
    kernel = unet((16, 16, 1), seed=0).get_layer("bottom_conv1").get_weights()[0]
    assert kernel.shape == (3, 3, 128, 256)
    assert kernel.std() == pytest.approx(0.0417, rel=0.02)


# Files


def test_a_weights_file_of_the_whole_network_overrules_the_seed(images, tmp_path):
    model = small(seed=1)
    model.save_weights(tmp_path / "whole.weights.h5")
    loaded = small(seed=2, weights=str(tmp_path / "whole.weights.h5"))
    np.testing.assert_array_equal(loaded(images), model(images))


def test_mask_weights_serve_the_ellipse_head(images, tmp_path):
    model = small(seed=1)
    model.save_weights(tmp_path / "whole.weights.h5")
    loaded = small(head="ellipse", weights=tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(loaded(images)["mask"], model(images))


@pytest.mark.parametrize("other", [{"filters": 3}, {"classes": 2}, {"input_shape": (32, 48, 3)}], ids=str)
def test_a_file_of_another_architecture_is_refused(other, tmp_path):
    small(**other).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match=r"other\.weights\.h5 does not fit the model 'unet' of [\d,]+ parameters"):
        small(weights=tmp_path / "other.weights.h5")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.weights\.h5 for the model 'unet'"):
        small(weights=tmp_path / "absent.weights.h5")


@pytest.mark.parametrize("head", ["mask", "ellipse"])
def test_keras_file_gives_the_same_output(head, images, tmp_path):
    model = small(head=head)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    outputs = [np.concatenate([np.ravel(part) for part in keras.tree.flatten(net(images))]) for net in (loaded, model)]
    np.testing.assert_array_equal(*outputs)


# Training


def test_gradient_of_the_circumference_reaches_the_first_convolution(images):
    model = small(head="ellipse")
    first = model.get_layer("down1_conv1")
    rest = keras.Model(first.output, model.output)
    maps = np.asarray(keras.Model(model.input, first.output)(images))
    gradient = np.asarray(backend.gradient(lambda x: rest(x)["hc_fraction"], maps))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    assert (np.abs(gradient) > 0).mean() > 0.5


@pytest.mark.parametrize("names", [("mask",), ("hc_fraction",), ("mask", "hc_fraction")], ids="+".join)
def test_trains_on_the_mask_on_the_circumference_or_on_both(names, images, targets):
    loss = {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()}
    model = small(head="ellipse", dropout_rate=0.0)
    # tracing takes longer than the steps
    model.compile(keras.optimizers.Adam(1e-2), {name: loss[name] for name in names}, run_eagerly=True)
    kernel = model.get_layer("down1_conv1").get_weights()[0]
    history = model.fit(images, {name: targets[name] for name in names}, epochs=5, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    assert not np.array_equal(model.get_layer("down1_conv1").get_weights()[0], kernel)


def test_compiled_training_step_in_mixed_precision(images, targets):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(head="ellipse")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("down1_conv1").compute_dtype == "bfloat16"
    loss = {"mask": losses.Dice(), "hc_fraction": losses.RelativeError()}
    model.compile("sgd", loss, jit_compile=True)
    kernel = model.get_layer("down1_conv1").get_weights()[0]
    assert np.isfinite(model.train_on_batch(images, targets)).all()
    assert not np.array_equal(model.get_layer("down1_conv1").get_weights()[0], kernel)
    output = numpy_of(model(images))
    assert output["mask"].dtype == output["hc_fraction"].dtype == "float32"
    assert all(np.isfinite(value).all() for value in output.values())


@pytest.mark.proof
def test_jax_gives_the_same_output(images, tmp_path):
    pytest.importorskip("jax")
    model = small(head="ellipse")
    model.save_weights(tmp_path / "whole.weights.h5")
    np.save(tmp_path / "images.npy", images)
    code = """
import sys
import keras, numpy as np
from hcreg.models import unet
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
model = unet((32, 48, 1), filters=2, head="ellipse", weights=f"{folder}/whole.weights.h5")
np.savez(f"{folder}/jax.npz", **model.predict(np.load(f"{folder}/images.npy"), verbose=0))
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
    )
    expected = numpy_of(model(images))
    with np.load(tmp_path / "jax.npz") as output:
        assert set(output) == {"mask", "hc_fraction"}
        for name in output:
            np.testing.assert_allclose(output[name], expected[name], atol=1e-4)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (100, 150, 1)}, r"unet halves its input 4 times: .*of 16\. .*to the nearest, 96 x 144\."),
        ({"input_shape": (32, 48)}, r"input_shape is \(height, width, channels\).*Received: \(32, 48\)"),
        ({"head": "hc"}, r'ends with head="mask" or head="ellipse"\. Received: \'hc\''),
        ({"classes": 0}, r"unet needs a whole number of classes, 1 or more\. Received: 0"),
        ({"head": "ellipse", "classes": 3}, r'head="ellipse" measures one mask, .*Received: classes=3'),
        ({"head": "ellipse", "input_shape": (None, None, 1)}, r"needs a fixed height and width: .*\(None, None, 1\)"),
        ({"activation": "softmax"}, r"a single class is 1 everywhere\. Received: classes=1"),
        ({"activation": "relu"}, r'ends with activation="sigmoid", .*Received: \'relu\''),
        ({"seed": -1}, r"A seed is a whole number, 0 or more, or None\. Received: -1"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)


def test_examples():
    # by its path: the builder hides the module of its name
    result = doctest.testmod(importlib.import_module("hcreg.models.unet"))
    assert (result.failed, result.attempted) == (0, 3)
