"""The classifier on the 3-D U-Net's encoder: parts, heads, classes, maps of its last block, heatmap loss, errors."""

import keras
import numpy as np
import pytest

from hcreg import losses, models
from hcreg.attention import channel
from hcreg.layers import HiResCAM
from hcreg.models import unet3d, unet3d_classifier

SMALL = (16, 24, 3, 1)
TAP = "bottom_relu2"


def small(**arguments):
    return unet3d_classifier(
        **{"input_shape": SMALL, "filters": 2, "num_levels": 2, "hidden_units": 5, "seed": 0, **arguments}
    )


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def masks():
    """Of the left half of the second slice."""
    masks = np.zeros((2, *SMALL), "float32")
    masks[:, :, :12, 1] = 1.0
    return masks


def test_encoder_is_that_of_the_unet():
    classifier, unet = unet3d_classifier(), unet3d((128, 128, 9, 1), normalization="batch")
    encoder = [layer.name for layer in classifier.layers if layer.name.startswith(("down", "bottom"))]
    there = [layer.name for layer in unet.layers if layer.name.startswith(("down", "bottom"))]
    assert encoder == [name for name in there if name != "bottom_dropout"]
    for name in encoder:
        shapes = [[weight.shape for weight in model.get_layer(name).weights] for model in (classifier, unet)]
        assert shapes[0] == shapes[1], name
    inside = sum(unet.get_layer(name).count_params() for name in encoder)
    assert classifier.count_params() == inside + (256 + 1) * 100 + 101
    assert classifier.get_layer(TAP).output.shape == (None, 8, 8, 9, 256)
    assert classifier.input_shape == (None, 128, 128, 9, 1)
    assert classifier.output_shape == (None, 1)
    assert not classifier.compiled


def test_two_dense_layers_and_a_sigmoid(stacks):
    model = small()
    dense = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert dense == ["head_dense", "logits"]
    assert model.layers[-1].name == "probabilities"
    maps, logits = keras.Model(model.input, [model.get_layer(TAP).output, model.get_layer("logits").output])(stacks)
    hidden, bias = model.get_layer("head_dense").get_weights()
    out, offset = model.get_layer("logits").get_weights()
    by_hand = np.maximum(np.asarray(maps).mean(axis=(1, 2, 3)) @ hidden + bias, 0) @ out + offset
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)
    np.testing.assert_allclose(model(stacks), 1 / (1 + np.exp(-by_hand)), atol=1e-5)


def test_flattening_and_several_classes(stacks):
    model = small(head="flatten", classes=3)
    assert model.get_layer("head_dense").kernel.shape == (4 * 6 * 3 * 8, 5)
    np.testing.assert_allclose(np.asarray(model(stacks)).sum(axis=-1), 1.0, rtol=1e-5)
    assert small(classes=3, activation="sigmoid").layers[-1].activation is keras.activations.sigmoid
    assert small(activation=None).layers[-1].name == "logits"


def test_any_size_with_pooling(stacks):
    model = small(input_shape=(None, None, None, 1))
    np.testing.assert_allclose(model(stacks), small()(stacks), atol=1e-5)


def test_equal_seeds_give_equal_weights_and_files_the_same_output(stacks, tmp_path):
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    np.testing.assert_array_equal(first(stacks), second(stacks))
    assert not np.array_equal(first(stacks), other(stacks))
    first.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(stacks), first(stacks))
    first.save_weights(tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(small(seed=2, weights=tmp_path / "whole.weights.h5")(stacks), first(stacks))
    with pytest.raises(FileNotFoundError, match=r"no weights file .* for the model 'unet3d_classifier'"):
        small(weights=tmp_path / "absent.weights.h5")


def test_moving_statistics_have_the_momentum():
    for arguments, momentum in (({"momentum": 0.7}, 0.7), ({}, 0.99)):
        layers = small(normalization="batch", **arguments).layers
        found = [layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert found == [momentum] * 6


def features(normalization, stacks):
    """What the dense layers are given, in training: averages over the maps that the last normalisation leaves."""
    model = small(normalization=normalization)
    tap = keras.Model(model.input, keras.ops.mean(model.get_layer("bottom_norm2").output, axis=(1, 2, 3)))
    return np.asarray(tap(stacks, training=True))


def test_batch_normalisation_by_default_for_groups_level_what_is_averaged(stacks):
    """Two stacks, of which one has a bright half: their averages differ, unless each is normalised by itself."""
    stacks = stacks.copy()
    stacks[1, :, :12] += 5.0
    assert isinstance(small().get_layer("bottom_norm2"), keras.layers.BatchNormalization)
    assert np.abs(np.diff(features("batch", stacks), axis=0)).max() > 0.1
    grouped = features("group", stacks)  # eight channels, a group for each
    np.testing.assert_allclose(grouped, np.zeros_like(grouped), atol=1e-4)


# Where it looks


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_a_map_is_of_the_logit_and_has_the_last_blocks_cells(head, stacks):
    """With hidden units all alive the head is linear: the map sums to the logit less what the biases make."""
    model = small(head=head)
    hidden, bias = model.get_layer("head_dense").get_weights()
    model.get_layer("head_dense").set_weights([hidden, bias + 100.0])
    parts = HiResCAM.tap(model, TAP)(stacks)
    assert parts["maps"].shape == (2, 4, 6, 3, 1)
    logits = np.asarray(keras.Model(model.input, model.get_layer("logits").output)(stacks))
    np.testing.assert_allclose(parts["logits"], logits, atol=1e-4)
    out, offset = model.get_layer("logits").get_weights()
    of_biases = (bias + 100.0) @ out + offset
    np.testing.assert_allclose(np.asarray(parts["maps"]).sum(axis=(1, 2, 3)), logits - of_biases, atol=1e-3)


def test_relevance_inside_the_mask_of_a_stack(stacks, masks):
    model = small()
    guided = models.with_attention(model, tap=TAP)
    assert guided.input["mask"].shape == (None, *SMALL)
    found = guided({"image": stacks, "mask": masks})
    maps = np.abs(np.asarray(HiResCAM.tap(model, TAP)(stacks)["maps"]))[..., 0]
    np.testing.assert_allclose(channel(found, "total")[:, 0], maps.sum(axis=(1, 2, 3)), rtol=1e-4)
    inside = maps[:, :, :3, 1].sum(axis=(1, 2))  # 12 of 24 px are 3 of 6 cells
    np.testing.assert_allclose(channel(found, "outside")[:, 0], maps.sum(axis=(1, 2, 3)) - inside, rtol=1e-4)


@pytest.mark.parametrize("classes", [1, 3])
def test_trains_with_the_heatmap_loss(classes, stacks, masks):
    model = small(classes=classes)
    guided = models.with_attention(model, tap=TAP)
    guided.compile(keras.optimizers.Adam(1e-2), losses.Heatmap(weight=1.0, ramp_steps=0, tied=False), run_eagerly=True)
    before = np.asarray(model.get_layer("down1_conv1").kernel).copy()
    found = [float(guided.train_on_batch({"image": stacks, "mask": masks}, np.array([0, 1]))) for _ in range(5)]
    assert np.isfinite(found).all()
    assert found[-1] < found[0]
    assert not np.array_equal(np.asarray(model.get_layer("down1_conv1").kernel), before)


def test_data_loss_of_one_class_is_that_of_its_probability(stacks, masks):
    """Scores are logits: of probabilities taken for logits the loss would be another."""
    model = small()
    predictions = models.with_attention(model, tap=TAP)({"image": stacks, "mask": np.ones_like(masks)})
    loss = losses.Heatmap(weight=1.0, ramp_steps=0, tied=False)(np.array([0, 1]), predictions)
    probabilities = np.asarray(model(stacks), "float64")[:, 0]
    expected = -(np.log(1 - probabilities[0]) + np.log(probabilities[1])) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-4)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 0}, r"unet3d_classifier has a whole number of classes: 1 for yes or no, .*Received: 0"),
        ({"classes": 2.0}, r"whole number of classes.*Received: 2\.0"),
        ({"head": "max"}, r'unet3d_classifier has head="gap" or head="flatten"\. Received: \'max\''),
        ({"hidden_units": 0}, r"hidden_units is a whole number, 1 or more\. Received: 0"),
        ({"activation": "relu"}, r'An activation of a classifier is "softmax", "sigmoid" or None.*\'relu\''),
        ({"input_shape": (16, 24, 1)}, r"input_shape of unet3d_classifier is .*Pass for example \(128, 128, 9, 1\)"),
        ({"input_shape": (None, 24, 3, 1), "head": "flatten"}, r"in whole numbers\. Received: \(None, 24, 3, 1\)"),
        ({"input_shape": (2, 24, 3, 1)}, r"height a multiple of 4\. .*nearest, 4 x 24 x 3\."),
        ({"normalization": None}, r'unet3d_classifier normalises by normalization="group".*Received: None'),
        ({"dropout_rate": -1}, r"dropout_rate is at least 0 and below 1\. Received: -1"),
        ({"normalization": "batch", "momentum": 1}, r"momentum is the share .*, at least 0 and below 1\. Received"),
        (
            {"normalization": "group", "momentum": 0.9},
            r'momentum is of normalization="batch"; groups .*Received: momentum=0\.9',
        ),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)
