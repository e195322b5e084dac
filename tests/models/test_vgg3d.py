"""The 3-D VGG of cardiac volumes: fingerprints, each fact of its architecture, variants, seeds, files, errors."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import hcreg
from hcreg import backend
from hcreg.models import vgg3d

SMALL = (16, 24, 5, 1)
WIDTHS, COUNTS = (8, 16, 32, 64, 64), (2, 2, 3, 3, 3)
VARIANTS = ("multi_label", "multi_output", "single_label")


def small(**arguments):
    return vgg3d(**{"input_shape": SMALL, "filters": (2, 3, 4, 5, 6), "seed": 0, **arguments})


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def default():
    return vgg3d(variant="single_label")


# Architecture


@pytest.mark.parametrize(("depth", "trainable", "total"), [(3, 791_625, 792_681), (2, 561_729, 562_785)])
def test_parameter_fingerprint(depth, trainable, total):
    """Of [1]'s network of one number, and counted by hand."""
    model = vgg3d(variant="single_label", kernel_size=(3, 3, depth))
    assert (trainable_count(model), model.count_params()) == (trainable, total)
    channels = [1, *(width for width, count in zip(WIDTHS, COUNTS) for _ in range(count))]
    convolutions = sum((9 * depth * before + 1) * after for before, after in pairwise(channels))
    normalisations = 2 * sum(channels[1:])
    flattened = 28 * 28 * 2 * 64  # 224 halved three times; 9 slices become 5, 3, 2
    assert trainable == convolutions + normalisations + flattened + 1
    assert total == trainable + normalisations


def test_input_output_and_name(default):
    assert default.name == "vgg3d"
    assert default.input_shape == (None, 224, 224, 9, 1)
    assert default.output_shape == (None, 1)
    assert default.layers[-1].name == "volumes"
    assert not default.compiled
    assert not any(isinstance(layer, keras.Model) for layer in default.layers)


def test_thirteen_convolutions_each_before_its_normalisation_and_relu(default):
    names = [f"block{block}_conv{n}" for block, count in enumerate(COUNTS, 1) for n in range(1, count + 1)]
    assert [layer.name for layer in default.layers if isinstance(layer, keras.layers.Conv3D)] == names
    widths = [width for width, count in zip(WIDTHS, COUNTS) for _ in range(count)]
    for name, width in zip(names, widths, strict=True):
        convolution = default.get_layer(name)
        assert (convolution.filters, convolution.kernel_size, convolution.padding) == (width, (3, 3, 3), "same")
        assert convolution.use_bias
        assert convolution.activation is keras.activations.linear
        normalisation = default.get_layer(name.replace("conv", "bn"))
        assert normalisation.input is convolution.output
        assert isinstance(default.get_layer(name.replace("conv", "relu")), keras.layers.ReLU)
        assert default.get_layer(name.replace("conv", "relu")).input is normalisation.output


def test_pooling_after_blocks_1_2_and_5_alone(default):
    pools = {layer.name: layer for layer in default.layers if isinstance(layer, keras.layers.MaxPooling3D)}
    assert list(pools) == ["block1_pool", "block2_pool", "block5_pool"]
    shapes = [(112, 112, 5), (56, 56, 3), (28, 28, 2)]
    for (name, pool), shape in zip(pools.items(), shapes, strict=True):
        assert (pool.pool_size, pool.strides, pool.padding) == ((3, 3, 3), (2, 2, 2), "same")
        assert pool.output.shape[1:4] == shape, name
    dropout, flatten, dense = default.layers[-3:]
    assert dropout.rate == 0.5
    assert dropout.input is pools["block5_pool"].output
    assert (flatten.input, dense.input) == (dropout.output, flatten.output)
    assert dense.activation is keras.activations.linear


# Variants


def test_numbers_of_each_variant(stacks):
    assert {variant: small(variant=variant)(stacks).shape for variant in VARIANTS} == {
        "multi_label": (2, 3),
        "multi_output": (2, 3),
        "single_label": (2, 1),
    }
    assert small(outputs=["LV"], variant="multi_output").layers[-1].name == "volumes"
    assert small(outputs=("LV", "RV")).output_shape == (None, 2)


def test_branches_share_no_weights_and_are_three_networks_of_one_number(stacks):
    branches = small(variant="multi_output")
    assert branches.count_params() == 3 * small(variant="single_label").count_params()
    assert branches.layers[-1].name == "volumes"
    whole = np.asarray(branches(stacks))
    for column, name in enumerate(("RV", "MYO", "LV")):
        alone = small(outputs=(name,))
        for layer in alone.layers:
            if layer.weights:
                there = f"{name}_volume" if layer.name == "volumes" else f"{name}_{layer.name}"
                layer.set_weights(branches.get_layer(there).get_weights())
        np.testing.assert_allclose(alone(stacks)[:, 0], whole[:, column], rtol=1e-5, atol=1e-6)
    kernels = [np.asarray(branches.get_layer(f"{name}_block1_conv1").kernel) for name in ("RV", "MYO", "LV")]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_moving_statistics_have_the_momentum(variant, stacks):
    """After one step from 0 and 1: the momentum of what was there, the rest of the batch's."""
    model = small(variant=variant, momentum=0.7)
    prefix = "RV_" if variant == "multi_output" else ""
    name = f"{prefix}block1_conv1"
    maps = np.asarray(keras.Model(model.input, model.get_layer(name).output)(stacks), "float64")
    model(stacks, training=True)
    normalisation = model.get_layer(f"{prefix}block1_bn1")
    np.testing.assert_allclose(normalisation.moving_mean, 0.3 * maps.mean(axis=(0, 1, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(normalisation.moving_variance, 0.7 + 0.3 * maps.var(axis=(0, 1, 2, 3)), rtol=1e-4)
    assert momenta(model) == {0.7}
    assert momenta(small(variant=variant)) == {0.99}


def momenta(model):
    return {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}


# Seeds, files, ways to compute


def test_equal_seeds_give_equal_weights_and_dropout(stacks):
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first(stacks, training=True), second(stacks, training=True))
    for name in ("block1_conv1", "block5_conv3", "volumes"):
        assert not np.array_equal(first.get_layer(name).kernel, other.get_layer(name).kernel)


@pytest.mark.parametrize("variant", VARIANTS)
def test_keras_file_gives_the_same_output(variant, stacks, tmp_path):
    model = small(variant=variant)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(stacks), model(stacks))


def test_a_weights_file_overrules_the_seed_and_others_are_refused(stacks, tmp_path):
    model = small(seed=1)
    model.save_weights(tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(small(seed=2, weights=tmp_path / "whole.weights.h5")(stacks), model(stacks))
    with pytest.raises(ValueError, match=r"whole\.weights\.h5 does not fit the model 'vgg3d' of [\d,]+ parameters"):
        small(variant="single_label", weights=tmp_path / "whole.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.weights\.h5 for the model 'vgg3d'"):
        small(weights=tmp_path / "absent.weights.h5")


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_weight(variant, stacks):
    """But for biases before a normalisation, which takes them away in training; so normalisation is as in inference."""
    model = small(variant=variant)
    weights = [np.asarray(weight) for weight in model.trainable_variables]
    # The model as a function of one weight after the other, by the first derivative of a mean square.
    gradients = _gradients(model, stacks)
    assert len(gradients) == len(weights)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


def _gradients(model, stacks):
    keys = model.trainable_variables

    def loss(*values):
        with_values = model.stateless_call(list(values), model.non_trainable_variables, stacks, training=False)[0]
        return ops.mean(ops.square(with_values - 1.0))

    values = [ops.convert_to_tensor(weight) for weight in keys]
    value, pull_back = backend.vjp(loss, *values)
    return [np.asarray(gradient) for gradient in pull_back(ops.ones_like(value))]


def test_learns_a_number(stacks):
    model = small(dropout_rate=0.0, variant="single_label")
    model.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)
    losses = [float(model.train_on_batch(stacks, np.array([[0.2], [0.8]], "float32"))) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_mixed_bfloat16_gives_volumes_in_float32(stacks):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(variant="multi_output")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("RV_block1_conv1").compute_dtype == "bfloat16"
    output = model(stacks)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    np.testing.assert_allclose(output, small(variant="multi_output")(stacks), atol=0.1)


def test_jax_gives_the_same_output(stacks, tmp_path):
    """Of all the networks of cardiac volumes, in one process."""
    pytest.importorskip("jax")
    from hcreg import models

    builders = {
        "vgg3d": {"input_shape": SMALL, "filters": (2, 2, 2, 2, 2), "variant": "single_label"},
        "vgg2d": {"input_shape": SMALL[:3], "filters": (2, 2, 2, 2, 2)},
        "unet3d": {"input_shape": (8, 8, 3, 1), "filters": 2, "num_levels": 1, "flat_levels": 1},
        "unet3d_classifier": {"input_shape": (8, 8, 3, 1), "filters": 2, "num_levels": 1, "flat_levels": 1},
    }
    expected = {}
    for name, arguments in builders.items():
        model = getattr(models, name)(**arguments, seed=0)
        model.save_weights(tmp_path / f"{name}.weights.h5")
        inputs = stacks[(slice(None), *(slice(size) for size in arguments["input_shape"][:3]))]
        inputs = inputs.reshape(2, *arguments["input_shape"])
        np.save(tmp_path / f"{name}.npy", inputs)
        expected[name] = np.asarray(model(inputs))
    code = f"""
import sys
import keras, numpy as np
from hcreg import models
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
for name, arguments in {builders!r}.items():
    model = getattr(models, name)(**arguments, weights=f"{{folder}}/{{name}}.weights.h5")
    np.save(f"{{folder}}/{{name}}_jax.npy", np.asarray(model(np.load(f"{{folder}}/{{name}}.npy"))))
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
    )
    for name, output in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}_jax.npy"), output, atol=1e-4, err_msg=name)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variant": "multilabel"}, r'variant="multi_label", one trunk .*"single_label".*Received: \'multilabel\''),
        ({"outputs": ()}, r"outputs names the structures that are measured, one or more.*Received: \(\)"),
        ({"outputs": "LV"}, r"outputs names the structures .*\('RV', 'MYO', 'LV'\)\. Received: 'LV'"),
        ({"outputs": ("LV", "left atrium")}, r"without spaces.*Received: \('LV', 'left atrium'\)"),
        ({"outputs": ("LV", "LV")}, r"each structure once\. Received: \('LV', 'LV'\)"),
        (
            {"input_shape": (224, 224, 9)},
            r"input_shape of vgg3d is \(height, width, slices, channels\).*\(224, 224, 9\)\.",
        ),
        (
            {"input_shape": (224, None, 9, 1)},
            r"in whole numbers\. Received: \(224, None, 9, 1\)\. Pass .*\(224, 224, 9, 1\)",
        ),
        ({"input_shape": (224, 224, 9, 0)}, r"in whole numbers\. Received: \(224, 224, 9, 0\)"),
        (
            {"input_shape": (7, 224, 9, 1)},
            r"pools its input until too little is left of it: height at least 8\. Received",
        ),
        ({"kernel_size": (3, 3)}, r"kernel_size is 3 whole numbers above 0, such as \(3, 3, 3\)\. Received: \(3, 3\)"),
        (
            {"filters": (8, 16)},
            r"filters is 5 whole numbers above 0, such as \(8, 16, 32, 64, 64\)\. Received: \(8, 16\)",
        ),
        ({"dropout_rate": 1.0}, r"dropout_rate is at least 0 and below 1\. Received: 1\.0"),
        ({"seed": -1}, r"A seed is a whole number, 0 or more, or None\. Received: -1"),
        ({"momentum": 1}, r"momentum is the share .*, at least 0 and below 1\. Received: 1\."),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)
