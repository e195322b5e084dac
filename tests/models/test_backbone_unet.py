"""U-Nets on any backbone: which maps are the skips, weights, seeds, freezing, training, each error in its words."""

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import hcreg
from hcreg import losses
from hcreg.geometry import Ellipse
from hcreg.models import backbone_unet
from hcreg.models.backbone_unet import skips_of

SHAPE = (32, 64, 3)
ELLIPSE = Ellipse(32.0, 16.0, 18.0, 11.0, 0.3)
NARROW = (8, 8, 4, 4, 4)

# Beginning of the name and channels of each skip, deepest first; VGG16 has a test file of its own.
SKIPS = {
    "ResNet50": [
        ("conv4_block6_out", 1024),
        ("conv3_block4_out", 512),
        ("conv2_block3_out", 256),
        ("conv1_relu", 64),
    ],
    "ResNet50V2": [
        ("conv4_block6_1_relu", 256),
        ("conv3_block4_1_relu", 128),
        ("conv2_block3_1_relu", 64),
        ("conv1_conv", 64),
    ],
    "DenseNet121": [("pool4_conv", 512), ("pool3_conv", 256), ("pool2_conv", 128), ("conv1_relu", 64)],
    "MobileNet": [
        ("conv_pw_11_relu", 512),
        ("conv_pw_5_relu", 256),
        ("conv_pw_3_relu", 128),
        ("conv_pw_1_relu", 64),
    ],
    "MobileNetV2": [
        ("block_13_expand_relu", 576),
        ("block_6_expand_relu", 192),
        ("block_3_expand_relu", 144),
        ("block_1_expand_relu", 96),
    ],
    "MobileNetV3Small": [("activation", 288), ("activation", 96), ("re_lu", 72), ("activation", 16)],
    "EfficientNetB0": [
        ("block6a_expand_activation", 672),
        ("block4a_expand_activation", 240),
        ("block3a_expand_activation", 144),
        ("block2a_expand_activation", 96),
    ],
    "EfficientNetV2B0": [
        ("block6a_expand_activation", 672),
        ("block4a_expand_activation", 192),
        ("block2b_add", 32),
        ("block1a_project_activation", 16),
    ],
    "Xception": [
        ("block13_sepconv2_bn", 1024),
        ("block4_sepconv2_bn", 728),
        ("block3_sepconv2_bn", 256),
        ("block2_sepconv2_bn", 128),
    ],
    "InceptionV3": [("mixed7", 768), ("mixed2", 288), ("activation", 192), ("activation", 64)],
    "InceptionResNetV2": [("block17_20_ac", 1088), ("block35_10_ac", 320), ("activation", 192), ("activation", 64)],
    "NASNetMobile": [("adjust_relu", 528), ("adjust_relu", 264), ("adjust_relu", 44), ("adjust_relu", 32)],
    "ConvNeXtTiny": [("add", 384), ("add", 192), ("add", 96), None],
}


def mobilenet(**arguments):
    """A quick encoder: MobileNet at a quarter of its width."""
    usual = {"input_shape": SHAPE, "alpha": 0.25, "decoder_filters": NARROW, "seed": 0}
    return backbone_unet("MobileNet", **{**usual, **arguments})


def bare_mobilenet(shape=SHAPE):
    return keras.applications.MobileNet(include_top=False, weights=None, input_shape=shape, alpha=0.25)


def tapped(model, name, images):
    return np.asarray(keras.Model(model.input, model.get_layer(name).output)(images))


def joined(model, stage):
    """The operation whose maps a stage joins, before any padding, or None."""
    operations = {operation.name: operation for operation in model.operations}
    if f"decoder{stage}_concat" not in operations:
        return None
    made_by = {id(operation.output): operation for operation in model.operations}
    operation = made_by[id(operations[f"decoder{stage}_concat"].input[1])]
    return made_by[id(operation.input)] if operation.name.endswith("_skip_padding") else operation


@pytest.fixture(scope="module")
def seeded():
    return mobilenet()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def targets():
    masks = np.repeat(ELLIPSE.coverage(SHAPE[:2])[None, ..., None], 2, axis=0)
    return {"mask": masks, "hc_fraction": np.full((2, 1), 0.3, "float32")}


# Any backbone


@pytest.mark.parametrize("name", SKIPS)
def test_every_family_has_its_skips_and_runs(name):
    side = 96 if name in {"Xception", "InceptionV3", "InceptionResNetV2"} else 64  # those refuse 64 px
    model = backbone_unet(name, (side, side, 1), decoder_filters=NARROW)
    found = [joined(model, stage) for stage in (1, 2, 3, 4)]
    expected = [None if skip is None else skip[1] for skip in SKIPS[name]]
    assert [operation and operation.output.shape[-1] for operation in found] == expected
    for operation, skip in zip(found, SKIPS[name], strict=True):
        assert operation is None or operation.name.startswith(skip[0])
    sizes = [model.get_layer(f"decoder{stage}_conv1").output.shape[1:3] for stage in (1, 2, 3, 4, 5)]
    assert sizes == [(side // 2**level,) * 2 for level in (4, 3, 2, 1, 0)]
    assert model.name == f"{name.lower()}_unet"
    mask = np.asarray(model(np.random.default_rng(0).uniform(0, 255, (1, side, side, 1)).astype("float32")))
    assert mask.shape == (1, side, side, 1)
    assert np.isfinite(mask).all()


@pytest.mark.parametrize("shape", [(32, 64), (64, 96), (128, 192)], ids=str)
def test_skips_do_not_depend_on_the_size(shape):
    """Padding before a stride makes 7 px out of 4, and squeeze-and-excitation 1 px out of any: neither is the skip."""
    body = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(*shape, 3))
    skips = skips_of(body)
    assert {level: maps.shape[1:3] for level, maps in skips.items()} == {
        level: (shape[0] // 2**level, shape[1] // 2**level) for level in (1, 2, 3, 4)
    }
    assert [skips[level].shape[-1] for level in (4, 3, 2, 1)] == [channels for _, channels in SKIPS["MobileNetV3Small"]]


def test_unpadded_maps_are_padded_on_all_sides():
    model = backbone_unet("Xception", (96, 128, 1), decoder_filters=NARROW)
    padding = model.get_layer("decoder4_skip_padding")
    # an unpadded 3x3 convolution with stride 2 leaves 47 x 63, one without stride 45 x 61; wanted are 48 x 64
    assert padding.input.shape[1:3] == (45, 61)
    assert padding.padding == ((1, 2), (1, 2))
    assert padding.output.shape[1:3] == (48, 64)


def test_structure(seeded):
    model = seeded
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert [layer.name for layer in model.layers if layer.name.startswith("decoder1")] == [
        f"decoder1_{part}" for part in ["upsampling", "concat", "conv1", "bn1", "relu1", "conv2", "bn2", "relu2"]
    ]
    assert [model.get_layer(f"decoder{stage}_conv2").filters for stage in (1, 2, 3, 4, 5)] == list(NARROW)
    assert (model.get_layer("mask_logits").kernel_size, model.layers[-1].name) == ((3, 3), "mask")
    assert not model.compiled


def test_options_reach_the_backbone():
    names = [layer.name for layer in backbone_unet("MobileNetV3Small", (32, 32, 3), include_preprocessing=False).layers]
    assert "rescaling" not in " ".join(names)
    assert "rescaling" in " ".join(layer.name for layer in backbone_unet("MobileNetV3Small", (32, 32, 3)).layers)


def test_softmax_of_several_classes(images):
    mask = np.asarray(mobilenet(classes=3, activation="softmax")(images))
    np.testing.assert_allclose(mask.sum(axis=-1), np.ones((2, 32, 64)), rtol=1e-5)


# Skips by name


def test_named_skips_are_joined():
    names = ("conv_pw_7_relu", "conv_dw_5_relu", None, "conv1_relu")
    model = mobilenet(skips=names)
    assert [operation and operation.name for operation in (joined(model, stage) for stage in (1, 2, 3, 4))] == list(
        names
    )
    assert "decoder3_concat" not in [layer.name for layer in model.layers]


def test_the_automatic_skips_by_name_are_the_same_network(seeded, images):
    names = [name for name, _ in SKIPS["MobileNet"]]
    np.testing.assert_array_equal(mobilenet(skips=names)(images), seeded(images))


@pytest.mark.parametrize(
    ("skips", "words"),
    [
        (("conv1_relu",), r"skips has four entries, deepest first: .*Received: \('conv1_relu',\)"),
        ("conv", r"skips has four entries, deepest first: .*Received: 'conv'"),
        (("conv_pw_11_rel", None, None, None), r"MobileNet has no layer 'conv_pw_11_rel', .*Nearest: conv_pw_11_relu"),
        (
            ("conv_pw_1_relu", None, None, "conv_pw_11_relu"),
            r"skip of 1/16 of the input's size has 2 x 4 px, .*'conv_pw_1_relu', of shape \(None, 16, 32, 16\)",
        ),
        ((None, None, None, "conv_pad_2"), r"skip of 1/2 of the input's size has 16 x 32 px, .*\(None, 17, 33, 16\)"),
    ],
)
def test_unusable_skips_are_refused(skips, words):
    with pytest.raises(ValueError, match=words):
        mobilenet(skips=skips)


# Weights, seeds


@pytest.fixture
def bare_weights(tmp_path):
    bare = bare_mobilenet()
    path = tmp_path / "mobilenet.weights.h5"
    bare.save_weights(path)
    return bare, path


@pytest.mark.parametrize("seed", [None, 5])
def test_weights_of_a_path_survive_the_seed(seed, bare_weights, images):
    bare, path = bare_weights
    model = mobilenet(weights=path, seed=seed)
    np.testing.assert_array_equal(tapped(model, "conv_pw_13_relu", images), bare(images))


def test_the_seed_draws_the_decoder_whatever_the_encoder(seeded, bare_weights):
    _, path = bare_weights
    loaded, other = mobilenet(weights=path), mobilenet(seed=1, weights=path)
    for name in ("decoder1_conv1", "decoder5_conv2", "mask_logits"):
        kernel = seeded.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(loaded.get_layer(name).get_weights()[0], kernel)
        assert not np.array_equal(other.get_layer(name).get_weights()[0], kernel)


def test_equal_seeds_give_equal_weights(seeded):
    again, other = mobilenet(seed=0), mobilenet(seed=1)
    for a, b in zip(again.get_weights(), seeded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("conv1", "conv_pw_13", "decoder1_conv1", "mask_logits"):
        assert not np.array_equal(other.get_layer(name).get_weights()[0], seeded.get_layer(name).get_weights()[0])


@pytest.mark.proof
def test_real_densenet121_weights(densenet121_weights):
    model = backbone_unet("DenseNet121", (32, 32, 3), weights=densenet121_weights, decoder_filters=NARROW, seed=1)
    with h5py.File(densenet121_weights) as file:
        np.testing.assert_array_equal(model.get_layer("conv1_conv").get_weights()[0], file["layers/conv2d/vars/0"])
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    assert np.std(tapped(model, "relu", image)) > 0.1  # trained weights respond; zeros would not
    assert model.get_layer("decoder1_conv1").get_weights()[0].std() > 0


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No weight file at .*absent\.weights\.h5\. weights is None"):
        mobilenet(weights=tmp_path / "absent.weights.h5")


def test_weights_of_another_backbone_are_refused(bare_weights):
    with pytest.raises(ValueError, match=r"mobilenet\.weights\.h5 does not fit ResNet50 without top layers"):
        backbone_unet("ResNet50", SHAPE, weights=bare_weights[1])


# Images of any size


def test_of_any_size_is_of_a_fixed_one(images):
    """The same layers and weights, without the size in them."""
    fixed, free = mobilenet(seed=0), mobilenet(input_shape=(None, None, 3), seed=0)
    assert free.output_shape == (None, None, None, 1)
    assert free.count_params() == fixed.count_params()
    for a, b in zip(free.get_weights(), fixed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(free(images), fixed(images), atol=1e-6)
    assert free(np.zeros((1, 64, 32, 3), np.float32)).shape == (1, 64, 32, 1)


def test_unpadded_backbones_need_their_size():
    with pytest.raises(ValueError, match=r"InceptionV3 does not pad all of its convolutions.*multiples of 32"):
        backbone_unet("InceptionV3", (None, None, 3), decoder_filters=NARROW)


# Freezing


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("trainable", [True, False])
def test_a_frozen_encoder_stays_as_it_is(trainable, seed, images, targets):
    model = mobilenet(trainable_backbone=trainable, seed=seed)
    encoder = [layer for layer in model.layers if layer.weights and not layer.name.startswith(("decoder", "mask"))]
    before = [layer.get_weights() for layer in encoder]
    statistics = model.get_layer("decoder1_bn1").get_weights()[2]
    model.compile(keras.optimizers.SGD(0.1), losses.Dice(), run_eagerly=True)  # tracing takes longer than the step
    model.train_on_batch(images + 2.0, targets["mask"])
    moved = [
        layer.name
        for layer, weights in zip(encoder, before, strict=True)
        if not all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), weights, strict=True))
    ]
    assert len(encoder) == 54  # 27 convolutions and as many normalisations
    assert len(moved) == (54 if trainable else 0)
    assert not np.array_equal(model.get_layer("decoder1_bn1").get_weights()[2], statistics)


# The ellipse


@pytest.mark.parametrize("names", [("mask",), ("hc_fraction",), ("mask", "hc_fraction")], ids="+".join)
def test_each_loss_alone_reaches_the_first_convolution(names, images, targets):
    loss = {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()}
    model = mobilenet(head="ellipse")
    shapes = {name: tensor.shape[1:] for name, tensor in model.output.items()}
    assert shapes == {"mask": (32, 64, 1), "hc_fraction": (1,)}
    kernel = model.get_layer("conv1").get_weights()[0]
    model.compile(keras.optimizers.Adam(1e-3), {name: loss[name] for name in names}, run_eagerly=True)
    history = model.fit(images, {name: targets[name] for name in names}, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    moved = np.abs(model.get_layer("conv1").get_weights()[0] - kernel)
    assert (moved > 0).mean() > 0.9


def test_keras_file_gives_the_same_outputs(images, tmp_path):
    model = mobilenet(head="ellipse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")(images)
    for name, value in model(images).items():
        np.testing.assert_array_equal(loaded[name], value)


def test_a_convnext_comes_back_from_its_keras_file(tmp_path):
    """It has layers of Keras's own that are no built-in ones, and a skip that no layer makes but a plus."""
    model = backbone_unet("ConvNeXtTiny", (32, 32, 1), decoder_filters=NARROW, seed=0)
    model.save(tmp_path / "model.keras")
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(image), model(image))


def test_outputs_are_float32_in_mixed_precision(images, targets):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = mobilenet(head="ellipse")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    output = model(images)
    assert {keras.backend.standardize_dtype(value.dtype) for value in output.values()} == {"float32"}
    assert all(np.isfinite(value).all() for value in output.values())


@pytest.mark.proof
def test_jax_gives_the_same_outputs(images, tmp_path):
    pytest.importorskip("jax")
    model = mobilenet(head="ellipse")
    model.save_weights(tmp_path / "whole.weights.h5")
    np.save(tmp_path / "images.npy", images)
    code = """
import sys
import keras, numpy as np
from hcreg.models import backbone_unet
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
model = backbone_unet("MobileNet", (32, 64, 3), head="ellipse", alpha=0.25, decoder_filters=(8, 8, 4, 4, 4))
model.load_weights(f"{folder}/whole.weights.h5")
np.savez(f"{folder}/jax.npz", **model.predict(np.load(f"{folder}/images.npy"), verbose=0))
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
    )
    expected = model(images)
    with np.load(tmp_path / "jax.npz") as output:
        assert set(output) == {"mask", "hc_fraction"}
        for name in output:
            np.testing.assert_allclose(output[name], expected[name], atol=1e-4)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (48, 100, 3)}, r"mobilenet_unet halves its input 5 times: .*of 32\. .*nearest, 64 x 96\."),
        (
            {"input_shape": (None, 64, 3)},
            r"input_shape is \(height, width, channels\) in whole numbers.*\(None, 64, 3\)",
        ),
        ({"input_shape": (32, 64, 1), "weights": "imagenet"}, r"MobileNet expects 3 channels\. .*numpy\.repeat"),
        ({"decoder_filters": (8, 8, 8)}, r"decoder_filters has five numbers, deepest first\. Received: \(8, 8, 8\)"),
        ({"head": "gap"}, r'ends with head="mask" or head="ellipse"\. Received: \'gap\''),
        ({"classes": 0}, r"mobilenet_unet needs a whole number of classes, 1 or more\. Received: 0"),
        ({"head": "ellipse", "classes": 3}, r'head="ellipse" measures one mask, .*Received: classes=3'),
        ({"activation": "softmax"}, r"a single class is 1 everywhere\. Received: classes=1"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        mobilenet(**arguments)


@pytest.mark.parametrize(("name", "words"), [("densenet12", "Nearest: .*DenseNet121"), (7, "Received: 7. Known: ")])
def test_an_unknown_backbone_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        backbone_unet(name, SHAPE)


def test_wrong_outputs_are_refused_before_anything_is_downloaded(monkeypatch):
    def fetched(*arguments, **keywords):
        pytest.fail("the backbone was built")

    monkeypatch.setattr(keras.applications, "MobileNet", fetched)
    with pytest.raises(ValueError, match="whole number of classes"):
        mobilenet(classes=0, weights="imagenet")


def test_examples():
    # by its path: the builder hides the module of its name
    result = doctest.testmod(importlib.import_module("hcreg.models.backbone_unet"))
    assert (result.failed, result.attempted) == (0, 2)
