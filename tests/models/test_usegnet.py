"""USegNet: parameters, every ablation's wiring, normalisations, memory, sizes, files, training, errors."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg import losses
from hcreg.layers import AttentionModule, BatchNormalization, BatchStatistics
from hcreg.models import usegnet
from hcreg.models.usegnet import ABLATIONS
from hcreg.preprocessing.label_pyramids import pyramid_targets

SMALL = (16, 8, 24, 1)
LEVEL_OF = {"mask": 1, "mask_half": 2, "mask_quarter": 3}


def small(**arguments):
    return usegnet(**{"input_shape": SMALL, "filters": 2, "seed": 0, **arguments})


def num_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def origin(model, name):
    """Name of the layer whose output a layer takes."""
    return model.get_layer(name).input._keras_history.operation.name


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).uniform(size=(1, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def targets():
    label_map = np.zeros(SMALL[:3], np.uint8)
    label_map[4:12, 2:6, 4:16] = 1
    return {name: target[None] for name, target in pyramid_targets(label_map).items()}


@pytest.fixture(scope="module")
def network():
    return small()


# What it is made of


def test_parameters_are_the_papers():
    model = usegnet()
    assert num_trainable(model) == 6_142_918
    assert {name: mask.shape for name, mask in model.output.items()} == dict.fromkeys(LEVEL_OF, (*[None] * 4, 2))
    assert (model.name, model.compiled) == ("usegnet", False)
    assert model.count_params() == 6_142_918  # batch statistics have no moving ones


def test_parameters_with_the_text_kernels():
    assert num_trainable(usegnet(attention_kernel="paper")) == 4_336_582


def parameters(filters, skip_attention, upsample_attention, deep_supervision):
    """Counted from the paper's table."""

    def convolution(size, inputs, outputs):
        return size**3 * inputs * outputs + outputs

    def attention(size, inputs):
        return convolution(1, inputs, f) + 2 * convolution(size, f, f) + convolution(size, 2 * f, 2 * f)

    f, norm = filters, 2
    total = 0
    for size, a, b, c in ((3, 1, f, f), (3, f, 2 * f, 2 * f), (5, 2 * f, 2 * f, 2 * f), (5, 2 * f, 2 * f, 2 * f)):
        total += convolution(size, a, b) + convolution(size, b, c) + norm * (b + c)
    x = 2 * f
    for level, up_size, skip_size, up, skip in ((3, 5, 5, 2 * f, 2 * f), (2, 5, 3, 2 * f, 2 * f), (1, 3, 3, f, f)):
        total += convolution(up_size, x, up) + norm * up
        if level in skip_attention:
            total += attention(skip_size, skip)
            skip = 2 * f
        x = up + skip
        if level in upsample_attention:
            total += attention(up_size, x)
            x = 2 * f
        if deep_supervision or level == 1:
            total += convolution(1, x, 2)
    return total


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_have_their_modules_outputs_and_parameters(name):
    model = usegnet(filters=2, **ABLATIONS[name])
    everything = {"deep_supervision": True, "skip_attention": (1, 2, 3), "upsample_attention": (1, 2, 3)}
    arguments = {**everything, **ABLATIONS[name]}
    assert num_trainable(model) == parameters(2, **arguments)
    modules = {layer.name for layer in model.layers if isinstance(layer, AttentionModule)}
    expected = {f"skip{level}_attention" for level in arguments["skip_attention"]}
    expected |= {f"up{level}_attention" for level in arguments["upsample_attention"]}
    assert modules == expected
    for level in (1, 2, 3):
        skip = f"skip{level}_attention" if level in arguments["skip_attention"] else f"down{level}_relu2"
        up, aside = model.get_layer(f"up{level}_concat").input
        assert up is model.get_layer(f"up{level}_relu").output
        assert aside is model.get_layer(skip).output
        assert origin(model, f"down{level}_pool") == f"down{level}_relu2"  # never the attended maps
    branches = LEVEL_OF if arguments["deep_supervision"] else {"mask": 1}
    assert model.output_names == list(branches)
    for output, level in branches.items():  # from attention where there is some, else from the concatenation
        attended = level in arguments["upsample_attention"]
        assert origin(model, f"{output}_logits") == (f"up{level}_attention" if attended else f"up{level}_concat")
        if level > 1:
            assert origin(model, f"up{level - 1}_upconv") == origin(model, f"{output}_logits")


def test_rows_of_the_paper_by_name():
    assert ABLATIONS["USegNet-DS-HAS"] == {}
    assert list(ABLATIONS)[-4:] == ["SAM-1", "SAM-12", "UAM-1", "UAM-12"]


def test_kernel_sizes_and_widths(network):
    def kernels(*names):
        return [network.get_layer(name).kernel_size[0] for name in names]

    assert kernels("down1_conv1", "down2_conv2", "down3_conv1", "bottom_conv2") == [3, 3, 5, 5]
    assert kernels("up3_upconv", "up2_upconv", "up1_upconv", "mask_logits", "mask_half_logits") == [5, 5, 3, 1, 1]
    modules = {layer.name: layer.kernel_size for layer in network.layers if isinstance(layer, AttentionModule)}
    assert [modules[f"skip{level}_attention"] for level in (1, 2, 3)] == [3, 3, 5]
    assert [modules[f"up{level}_attention"] for level in (1, 2, 3)] == [3, 5, 5]
    widths = [network.get_layer(name).filters for name in ("down1_conv2", "down2_conv2", "bottom_conv2", "up1_upconv")]
    assert widths == [2, 4, 4, 2]


# What it computes


def test_classes_of_a_voxel_sum_to_one_at_every_size(network, volume):
    outputs = network(volume)
    assert list(outputs) == list(LEVEL_OF)
    for name, level in LEVEL_OF.items():
        mask = np.asarray(outputs[name])
        assert mask.shape == (1, *(side // 2 ** (level - 1) for side in SMALL[:3]), 2)
        np.testing.assert_allclose(mask.sum(axis=-1), 1.0, rtol=1e-5)


def test_any_size_of_multiples_of_eight(network, volume, tmp_path):
    network.save_weights(tmp_path / "fixed.weights.h5")
    model = small(input_shape=(None, None, None, 1), weights=tmp_path / "fixed.weights.h5")
    np.testing.assert_allclose(model(volume)["mask"], network(volume)["mask"], atol=1e-5)
    with pytest.raises(ValueError, match=r"every side is a multiple of 8\. .*padding\. Received: sides of 16, 8, 20"):
        model(volume[:, :, :, :20])


def test_what_a_mask_depends_on_in_its_batch(volume):
    other = np.concatenate([volume, 1 - 3 * volume])
    for normalization, alone in (("batch_statistics", False), ("instance", True), ("group", True)):
        model = small(normalization=normalization, deep_supervision=False, skip_attention=(), upsample_attention=())
        found = [np.asarray(model(x))[0] for x in (volume, other)]
        assert np.allclose(*found, atol=1e-4) == alone, normalization
        if normalization != "batch_statistics":
            continue
        np.testing.assert_allclose(model(volume, training=True), model(volume, training=False), atol=1e-6)


def test_normalisations_are_of_their_layers(network):
    kinds = {"batch_statistics": BatchStatistics, "batch": BatchNormalization}
    plain = {"deep_supervision": False, "skip_attention": (), "upsample_attention": (), "filters": 8}
    for normalization in ("batch_statistics", "batch", "instance", "group"):
        model = usegnet(normalization=normalization, **plain)
        layer = model.get_layer("down2_norm1")
        assert isinstance(layer, kinds.get(normalization, keras.layers.GroupNormalization))
        if normalization in ("instance", "group"):
            assert layer.groups == (16 if normalization == "instance" else 8)
    assert usegnet(normalization="batch", momentum=0.7, **plain).get_layer("up1_norm").momentum == 0.7


def test_mixed_bfloat16_gives_masks_in_float32(volume):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(rematerialise=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("bottom_conv2").compute_dtype == "bfloat16"
    for mask in model(volume).values():
        assert keras.backend.standardize_dtype(mask.dtype) == "float32"
        np.testing.assert_allclose(np.asarray(mask).sum(axis=-1), 1.0, atol=1e-5)


# Initial weights and files


def test_equal_seeds_give_equal_weights(network):
    for same, seed in ((True, 0), (False, 1)):
        found = [
            np.array_equal(ours, theirs) for ours, theirs in zip(small(seed=seed).get_weights(), network.get_weights())
        ]
        assert all(found) == same
    module = network.get_layer("up1_attention")
    assert not np.array_equal(module.attention1.kernel, module.attention2.kernel)


def test_initial_weights_of_the_paper():
    model = small(initializer="paper", filters=8)
    for weight in model.trainable_weights:
        values = np.asarray(weight)
        if weight.name == "kernel" and values.size > 1000:
            assert values.std() == pytest.approx(0.001 * 0.88, rel=0.1)  # Keras keeps two sigma of a normal one
            assert np.abs(values).max() <= 0.00201
        elif weight.name == "bias":
            np.testing.assert_allclose(values, 0.01)


def test_l2_is_of_all_kernels_and_of_nothing_else():
    model = small(l2=0.5)
    kernels = [np.asarray(weight) for weight in model.trainable_weights if weight.name == "kernel"]
    assert len(kernels) == 8 + 3 + 3 + 6 * 4
    expected = 0.5 * sum(float((kernel**2).sum()) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


def test_keras_file_gives_the_same_output(network, volume, tmp_path):
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, mask in network(volume).items():
        np.testing.assert_array_equal(loaded(volume)[name], mask)


def test_a_weights_file_of_another_network_is_refused(tmp_path):
    plain = ABLATIONS["USegNet"]
    small(**plain, seed=None).save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(ValueError, match=r"small\.weights\.h5 does not fit the model 'usegnet' of [\d,]+ parameters"):
        small(**plain, seed=None, filters=3, weights=tmp_path / "small.weights.h5")


# Training


def test_training_rematerialised_lowers_the_loss_and_moves_every_weight(volume, targets):
    model = small(rematerialise=True)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.05), **losses.deep_supervision(), run_eagerly=True)
    numbers = [float(model.train_on_batch(volume, targets, return_dict=True)["loss"]) for _ in range(3)]
    assert numbers[-1] < numbers[0]
    unmoved = {
        weight.path
        for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
        if np.array_equal(old, new)
    }
    # a bias before normalisation is without effect, but for rounding
    assert all("conv" in path and path.endswith("bias") for path in unmoved)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (16, 20, 24, 1)}, r"usegnet halves its input .*: width a multiple of 8\. .*16 x 16 x 24"),
        ({"input_shape": (16, 8, 4, 1)}, r"usegnet pools its input until too little is left .*slices at least 8"),
        ({"input_shape": (16, 8, 24)}, r"input_shape of usegnet is \(height, width, slices, channels\)"),
        ({"classes": 1}, r"a single class is 1 everywhere\. Received: classes=1"),
        ({"filters": 0}, r"filters of usegnet is a whole number, 1 or more\. Received: 0"),
        ({"skip_attention": (0,)}, r"skip_attention of usegnet names the levels .*Received: \(0,\)"),
        ({"skip_attention": 1}, r"skip_attention of usegnet names the levels .*Received: 1"),
        ({"upsample_attention": (1, 1)}, r"upsample_attention .*each once: .*Received: \(1, 1\)"),
        ({"attention_kernel": 3}, r"attention_kernel of usegnet is one of 'code', 'paper'\. Received: 3"),
        ({"normalization": "layer"}, r"normalization of usegnet is one of 'batch_statistics', .*Received: 'layer'"),
        ({"initializer": "ones"}, r"initializer of usegnet is one of 'he_normal', 'paper'\. Received: 'ones'"),
        ({"momentum": 0.9}, r'momentum is of normalization="batch"; .*Received: momentum=0\.9'),
        ({"momentum": 1, "normalization": "batch"}, r"momentum is the share .*below 1\. Received: 1"),
        ({"l2": -1}, r"l2 of usegnet is a finite number from 0 on\. Received: -1"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.models.usegnet"))
    assert (result.failed, result.attempted) == (0, 3)
