"""Volumes from slices as channels: the 2-D VGG and any backbone, their variants, weights, seeds, files, errors."""

import inspect
from functools import partial
from itertools import pairwise

import keras
import numpy as np
import pytest

from hcreg.models import vgg2d
from hcreg.models.vgg2d import PartsOfSlices

SMALL = (32, 40, 9)
VARIANTS = ("multi_label", "multi_output", "single_label")


def small(**arguments):
    return vgg2d(**{"input_shape": SMALL, "filters": (2, 3, 4, 5, 6), "seed": 0, **arguments})


def mobile(**arguments):
    return vgg2d(**{"input_shape": SMALL, "backbone": "MobileNet", "alpha": 0.25, "seed": 0, **arguments})


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(*SMALL[:2], 3), alpha=0.25).save_weights(
        path
    )
    return path


# The paper's network


def test_parameters_counted_by_hand():
    channels = [9, 8, 8, 16, 16, 32, 32, 32, *[64] * 6]
    convolutions = sum((9 * before + 1) * after for before, after in pairwise(channels))
    model = vgg2d()
    assert model.count_params() == convolutions + 4 * sum(channels[1:]) + (28 * 28 * 64 + 1) * 3
    assert model.input_shape == (None, 224, 224, 9)
    assert model.name == "vgg2d"
    assert not model.compiled


def test_pooling_is_that_of_the_3d_network():
    pools = {layer.name: layer.output.shape for layer in small().layers if isinstance(layer, keras.layers.MaxPooling2D)}
    assert pools == {
        "block1_pool": (None, 16, 20, 2),
        "block2_pool": (None, 8, 10, 3),
        "block5_pool": (None, 4, 5, 6),
    }


def test_numbers_of_each_variant(stacks):
    shapes = {variant: small(variant=variant)(stacks).shape for variant in VARIANTS}
    assert shapes == {"multi_label": (2, 3), "multi_output": (2, 3), "single_label": (2, 1)}


@pytest.mark.parametrize("build", [small, mobile])
def test_a_branch_for_each_output(build):
    one, two = build(variant="single_label"), build(variant="multi_output", outputs=("RV", "LV"))
    assert two.count_params() == 2 * one.count_params()
    assert two.output_shape == (None, 2)
    assert two.layers[-1].name == one.layers[-1].name == "volumes"


@pytest.mark.parametrize("build", [small, mobile])
def test_equal_seeds_give_equal_weights(build, stacks):
    first, second, other = build(seed=1), build(seed=1), build(seed=2)
    np.testing.assert_array_equal(first(stacks), second(stacks))
    assert not np.array_equal(first(stacks), other(stacks))


@pytest.mark.parametrize(("build", "variant"), [(small, "multi_output"), (mobile, "multi_label")])
def test_keras_file_gives_the_same_output(build, variant, stacks, tmp_path):
    model = build(variant=variant)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(stacks), model(stacks))


def test_a_training_step_moves_every_weight(stacks):
    model = small(dropout_rate=0.0)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(stacks, np.full((2, 3), 0.5, "float32"))
    for path, old, new in zip([weight.path for weight in model.weights], before, model.get_weights(), strict=True):
        if not path.endswith("bias") or "volumes" in path:  # before a normalisation, which takes them away
            assert not np.array_equal(old, new), path


def test_a_weights_file_of_the_whole_network(stacks, tmp_path):
    model = small(seed=1)
    model.save_weights(tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(small(seed=2, weights=tmp_path / "whole.weights.h5")(stacks), model(stacks))
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.weights\.h5 for the model 'vgg2d'"):
        small(weights=tmp_path / "absent.weights.h5")


def test_moving_statistics_have_the_momentum():
    for momentum in (0.7, 0.99):
        layers = small(**({} if momentum == 0.99 else {"momentum": momentum})).layers
        found = [layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert found == [momentum] * 13


# Backbones


def test_nine_slices_start_as_the_means_of_three_thirds():
    kernel = np.asarray(mobile().get_layer("slices_to_channels").kernel)[0, 0]
    expected = np.zeros((9, 3), "float32")
    expected[:3, 0] = expected[3:6, 1] = expected[6:, 2] = 1 / 3
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)


@pytest.mark.parametrize("slices", [1, 2, 4, 10])
def test_parts_of_any_number_of_slices_are_means(slices):
    kernel = np.asarray(PartsOfSlices()((1, 1, slices, 3)))[0, 0]
    np.testing.assert_allclose(kernel.sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(kernel.sum(axis=1), 3 / slices, rtol=1e-6)  # each slice counts alike


@pytest.mark.parametrize(("variant", "seed"), [("multi_label", None), ("multi_output", 1)])
def test_backbone_weights_from_a_file_stay_as_loaded(variant, seed, backbone_file, stacks):
    reference = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(*SMALL[:2], 3), alpha=0.25)
    reference.load_weights(backbone_file)
    thirds = stacks.reshape(2, *SMALL[:2], 3, 3).mean(axis=-1)
    expected = np.asarray(reference(thirds)).mean(axis=(1, 2))
    model = mobile(outputs=("RV", "LV"), variant=variant, seed=seed, weights=backbone_file)
    prefixes = [""] if variant == "multi_label" else ["RV_", "LV_"]
    for prefix in prefixes:
        tap = keras.Model(model.input, model.get_layer(f"{prefix}gap").output)
        np.testing.assert_allclose(tap(stacks), expected, atol=1e-5)


def small_family(monkeypatch, name, builder, **sizes):
    """Put a small network of that family in the place of its smallest member, which takes seconds to build."""
    build = partial(getattr(inspect.getmodule(getattr(keras.applications, name)), builder), **sizes)
    monkeypatch.setattr(keras.applications, name, lambda **arguments: build(**arguments))


@pytest.fixture
def convnext(monkeypatch):
    """Builds networks on a backbone with nested models, sums that are no layers, and preprocessing."""
    small_family(monkeypatch, "ConvNeXtTiny", "ConvNeXt", depths=[1, 1, 1, 1], projection_dims=[4, 6, 8, 10])
    return partial(vgg2d, SMALL, backbone="ConvNeXtTiny")


@pytest.mark.parametrize("variant", ["multi_label", "multi_output"])
def test_convnext_is_drawn_from_the_seed_and_comes_back_from_its_file(variant, convnext, stacks, tmp_path):
    first, second, other = (convnext(outputs=("RV", "LV"), variant=variant, seed=seed) for seed in (1, 1, 2))
    for one, same in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    second.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(stacks), first(stacks))
    kernels = [
        [np.asarray(weight) for weight in model.weights if "kernel" in weight.path and "slices_to" not in weight.path]
        for model in (first, other)
    ]
    assert len(kernels[0]) == (2 if variant == "multi_output" else 1) * (4 + 4 * 3 + 1)
    assert not any(np.array_equal(*pair) for pair in zip(*kernels, strict=True))


@pytest.mark.parametrize("seed", [None, 1])
def test_convnexts_of_two_outputs_have_names_and_loaded_weights_of_their_own(seed, convnext, stacks, tmp_path):
    """Also those of the layers that it nests, whose names are the same in every one."""
    reference = keras.applications.ConvNeXtTiny(include_top=False, weights=None, input_shape=(*SMALL[:2], 3))
    reference.save_weights(tmp_path / "body.weights.h5")
    names = ("RV", "LV")
    two = convnext(variant="multi_output", outputs=names, seed=seed, weights=tmp_path / "body.weights.h5")
    assert {layer.name[:3] for layer in two.layers if layer.name not in ("image", "volumes")} == {"RV_", "LV_"}
    assert not any(isinstance(layer, keras.Model) for layer in two.layers)
    stems = [two.get_layer(f"{name}_{reference.name}_stem_conv") for name in names]
    assert stems[0].kernel is not stems[1].kernel
    images = 255 * stacks
    expected = np.asarray(reference(images.reshape(2, *SMALL[:2], 3, 3).mean(axis=-1))).mean(axis=(1, 2))
    for found in keras.Model(two.input, [two.get_layer(f"{name}_gap").output for name in names])(images):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_normalisation_within_a_backbone_computes_with_its_loaded_numbers(monkeypatch, tmp_path):
    """EfficientNet's has weights and, beside them, what it computes with."""
    sizes = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "default_size": 32}
    small_family(monkeypatch, "EfficientNetB0", "EfficientNet", **sizes)
    body = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(*SMALL[:2], 3))
    (layer,) = (layer for layer in body.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([np.full(3, 0.5), np.full(3, 0.25), np.array(1)])
    body.save_weights(tmp_path / "body.weights.h5")
    weights = {"backbone": "EfficientNetB0", "weights": tmp_path / "body.weights.h5"}
    model = vgg2d(SMALL, outputs=("RV", "LV"), variant="multi_output", seed=0, **weights)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    assert len(layers) == 2
    for layer in layers:
        np.testing.assert_allclose(layer(np.full((1, 1, 1, 3), 2.0, "float32")), np.full((1, 1, 1, 3), 3.0), rtol=1e-5)


def test_a_backbone_is_laid_out_to_be_tapped():
    model = vgg2d((64, 64, 9), backbone="DenseNet121")
    assert model.name == "densenet121_volumes"
    assert model.get_layer("conv5_block16_concat").output.shape == (None, 2, 2, 1024)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.get_layer("dropout").rate == 0.0
    assert small().get_layer("dropout").rate == 0.5


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"filters": (2, 3, 4, 5, 6)}, r"filters=\(2, 3, 4, 5, 6\) and backbone='MobileNet'"),
        ({"kernel_size": (5, 5)}, r"kernel_size=\(5, 5\) and backbone='MobileNet'"),
        ({"momentum": 0.9}, r"momentum is of the network without a backbone\. Received: momentum=0\.9 and backbone="),
    ],
    ids=str,
)
def test_a_backbone_has_its_own(arguments, words):
    with pytest.raises(ValueError, match=words):
        mobile(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variant": "one"}, r'"single_label", their sum alone\. Received: \'one\''),
        ({"outputs": []}, r"outputs names the structures that are measured, one or more.*Received: \[\]"),
        (
            {"input_shape": (224, 224, 9, 1)},
            r"input_shape is \(height, width, channels\).*Received: \(224, 224, 9, 1\)",
        ),
        ({"input_shape": (224, 7, 9)}, r"height and width at least 8 px\. Received: \(224, 7, 9\)"),
        ({"kernel_size": 3}, r"kernel_size is 2 whole numbers above 0, such as \(3, 3\)\. Received: 3"),
        ({"dropout_rate": -0.1}, r"dropout_rate is at least 0 and below 1\. Received: -0\.1"),
        ({"momentum": 1}, r"momentum is the share .*, at least 0 and below 1\. Received: 1\."),
        ({"alpha": 0.5}, r"Options are a backbone's; there is none here\. Received: alpha"),
        (
            {"backbone": "DenseNet", "filters": (8, 16, 32, 64, 64)},
            r"A backbone is a name of keras\.applications\. Received: 'DenseNet'",
        ),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)
