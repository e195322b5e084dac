"""The VGG16 U-Net: fingerprints, each fact of its architecture, and that it is the backbone U-Net on VGG16."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg.models import backbone_unet, vgg16_unet

SMALL = (32, 64, 3)


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.fixture(scope="module")
def small():
    return vgg16_unet(SMALL, seed=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


def test_parameter_fingerprint_of_one_class():
    model = vgg16_unet()
    assert trainable_count(model) == 19_027_601
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 224, 224, 1))
    assert model.name == "vgg16_unet"
    assert not model.compiled


def test_parameter_fingerprint_of_the_papers_three_classes():
    model = vgg16_unet(SMALL, classes=3)
    assert trainable_count(model) == 19_027_891
    assert model.output_shape == (None, 32, 64, 3)


def test_parameters_counted_by_hand(small):
    vgg16 = 14_714_688  # as Keras documents it, without its top
    inputs = (512 + 512, 256 + 512, 128 + 256, 64 + 128, 32)
    stages = zip(inputs, (256, 128, 64, 32, 16), strict=True)
    decoder = [(9 * (before + filters) * filters, 4 * 2 * filters) for before, filters in stages]
    head = 9 * 16 + 1
    assert small.count_params() == vgg16 + sum(map(sum, decoder)) + head
    assert trainable_count(small) == small.count_params() - sum(normalisation for _, normalisation in decoder) // 2


def test_encoder_is_all_of_vgg16_without_a_block_at_the_bottom(small):
    bare = keras.applications.VGG16(include_top=False, weights=None, input_shape=SMALL)
    names = [layer.name for layer in small.layers]
    assert names[1 : len(bare.layers)] == [layer.name for layer in bare.layers[1:]]
    assert names[len(bare.layers)] == "decoder1_upsampling"
    assert small.get_layer("decoder1_upsampling").input is small.get_layer("block5_pool").output


@pytest.mark.parametrize(
    ("stage", "skip"), enumerate(["block5_conv3", "block4_conv3", "block3_conv3", "block2_conv2"], start=1)
)
def test_skips_deepest_first(small, stage, skip):
    upwards, joined = small.get_layer(f"decoder{stage}_concat").input
    assert upwards is small.get_layer(f"decoder{stage}_upsampling").output
    assert joined is small.get_layer(skip).output


def test_the_last_stage_has_no_skip(small):
    assert "decoder5_concat" not in [layer.name for layer in small.layers]
    assert small.get_layer("decoder5_conv1").input is small.get_layer("decoder5_upsampling").output


@pytest.mark.parametrize(("stage", "filters"), enumerate((256, 128, 64, 32, 16), start=1))
def test_a_stage_is_twice_convolution_without_bias_normalisation_relu(small, stage, filters):
    for number in (1, 2):
        convolution, normalisation, relu = (
            small.get_layer(f"decoder{stage}_{kind}{number}") for kind in ("conv", "bn", "relu")
        )
        assert (convolution.filters, convolution.kernel_size, convolution.padding) == (filters, (3, 3), "same")
        assert not convolution.use_bias
        assert convolution.activation is keras.activations.linear
        assert isinstance(normalisation, keras.layers.BatchNormalization)
        assert normalisation.input is convolution.output
        assert relu.activation is keras.activations.relu
        assert relu.input is normalisation.output
    upsampling = small.get_layer(f"decoder{stage}_upsampling")
    assert (upsampling.interpolation, upsampling.size) == ("nearest", (2, 2))
    normalisations = [layer for layer in small.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(normalisations) == 10


def test_head_is_a_3x3_convolution_with_bias_and_a_sigmoid(small):
    logits = small.get_layer("mask_logits")
    assert (logits.kernel_size, logits.use_bias, logits.filters) == ((3, 3), True, 1)
    assert logits.input is small.get_layer("decoder5_relu2").output
    assert small.get_layer("mask").activation is keras.activations.sigmoid
    assert small.layers[-1].name == "mask"


def test_it_is_the_backbone_unet_on_vgg16(small, images):
    other = backbone_unet("VGG16", SMALL, seed=1, name="another")
    assert other.name == "another"
    np.testing.assert_array_equal(other(images), small(images))


def test_all_arguments_reach_the_backbone_unet(images):
    model = vgg16_unet(SMALL, classes=2, activation="softmax", trainable_backbone=False, seed=0)
    np.testing.assert_allclose(np.asarray(model(images)).sum(axis=-1), 1.0, rtol=1e-5)
    assert trainable_count(model) == model.count_params() - 14_714_688 - 2 * 2 * (256 + 128 + 64 + 32 + 16)
    assert set(vgg16_unet(SMALL, head="ellipse").output) == {"mask", "hc_fraction"}


def test_weights_by_path_are_vgg16s(images, tmp_path):
    bare = keras.applications.VGG16(include_top=False, weights=None, input_shape=SMALL)
    bare.save_weights(tmp_path / "vgg16.weights.h5")
    model = vgg16_unet(SMALL, weights=tmp_path / "vgg16.weights.h5", seed=3)
    tap = keras.Model(model.input, model.get_layer("block5_pool").output)
    np.testing.assert_allclose(tap(images), bare(images), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (112, 112, 3)}, r"vgg16_unet halves its input 5 times: .*of 32\. .*to the nearest, 128 x 128"),
        ({"input_shape": (None, 64, 3)}, r"input_shape is \(height, width, channels\) in whole numbers"),
        ({"input_shape": (32, 64, 1), "weights": "imagenet"}, r"of VGG16 expects 3 channels\. .*numpy\.repeat"),
        ({"classes": 0}, r"vgg16_unet needs a whole number of classes, 1 or more\. Received: 0"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        vgg16_unet(**{"input_shape": SMALL, **arguments})


def test_examples():
    # by its path: the builder hides the module of its name
    result = doctest.testmod(importlib.import_module("hcreg.models.vgg16_unet"))
    assert (result.failed, result.attempted) == (0, 1)
