"""The losses of deep supervision: by hand, against Keras's cross-entropy, in training, errors."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg import losses

SHAPES = {"mask": (4, 4, 4), "mask_half": (2, 2, 2), "mask_quarter": (1, 1, 1)}


def pair(shape, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.eye(classes, dtype="float32")[rng.integers(classes, size=(3, *shape))]
    y_pred = rng.dirichlet(np.ones(classes), size=(3, *shape)).astype("float32")
    return y_true, y_pred


def test_one_voxel_by_hand():
    """Probability 1/4 of the true class: log 4; Dice of class 0 is 1 - 0.5 / 1.25, of class 1 is 0.75 / 0.75."""
    y_true, y_pred = (np.array(values, "float32").reshape(1, 1, 1, 1, 2) for values in ([1, 0], [0.25, 0.75]))
    cross_entropy = losses.deep_supervision()["loss"]["mask"](y_true, y_pred)
    assert float(cross_entropy) == pytest.approx(np.log(4), rel=1e-5)
    both = losses.deep_supervision(dice_weight=0.5)["loss"]["mask_half"](y_true, y_pred)
    # the second class's denominator, 0.75, is held at one voxel
    assert float(both) == pytest.approx(0.5 * np.log(4) + 0.5 * (0.6 + 0.75) / 2, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_cross_entropy_is_keras_own(classes):
    y_true, y_pred = pair((3, 4, 2), classes)
    expected = keras.losses.CategoricalCrossentropy()(y_true, y_pred)
    for loss in losses.deep_supervision()["loss"].values():
        assert float(loss(y_true, y_pred)) == pytest.approx(float(expected), rel=1e-4)


def test_of_two_classes_binary_and_categorical_are_the_same():
    y_true, y_pred = pair((3, 4, 2))
    found = [
        float(losses.DiceCrossEntropy(0.3, cross_entropy=kind)(y_true, y_pred)) for kind in ("binary", "categorical")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    y_true, y_pred = pair((3, 4, 2), 3)
    found = [
        float(losses.DiceCrossEntropy(0.3, cross_entropy=kind)(y_true, y_pred)) for kind in ("binary", "categorical")
    ]
    assert found[0] != pytest.approx(found[1], rel=1e-2)


def test_weights_are_by_output_and_those_left_out_have_no_loss():
    arguments = losses.deep_supervision()
    assert arguments["loss_weights"] == dict.fromkeys(SHAPES, 1.0)
    assert list(arguments["loss"]) == list(SHAPES)
    arguments = losses.deep_supervision((1, 0.5))
    assert arguments["loss_weights"] == {"mask": 1.0, "mask_half": 0.5}
    assert list(arguments["loss"]) == ["mask", "mask_half"]


def test_a_network_is_trained_on_the_weighted_sum():
    image = keras.Input((4, 4, 4, 1))
    outputs, x = {}, image
    for name in SHAPES:
        x = keras.layers.Conv3D(2, 1)(x)
        outputs[name] = keras.layers.Activation("softmax", name=name)(x)
        if name != "mask_quarter":
            x = keras.layers.AveragePooling3D(2)(x)
    model = keras.Model(image, outputs)
    weights = (1.0, 0.5, 0.25)
    model.compile(keras.optimizers.SGD(0.1), **losses.deep_supervision(weights))
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 4, 1)).astype("float32")
    y_true = {name: pair(shape)[0] for name, shape in SHAPES.items()}
    y_pred = model.predict_on_batch(x)
    categorical = keras.losses.CategoricalCrossentropy()
    expected = sum(weight * float(categorical(y_true[name], y_pred[name])) for name, weight in zip(SHAPES, weights))
    first = float(model.train_on_batch(x, y_true, return_dict=True)["loss"])
    assert first == pytest.approx(expected, rel=1e-4)
    assert float(model.train_on_batch(x, y_true, return_dict=True)["loss"]) < first


def test_the_kind_is_kept_in_files():
    loss = losses.DiceCrossEntropy(0.0, cross_entropy="categorical")
    assert type(loss).from_config(loss.get_config()).cross_entropy == "categorical"
    assert losses.DiceCrossEntropy().cross_entropy == "binary"


@pytest.mark.parametrize("weights", [(), (1, 1, 1, 1), (1, 0)], ids=str)
def test_weights_are_one_to_three_and_positive(weights):
    with pytest.raises(
        ValueError, match=r"a weight above 0 for each of the first of .*mask_quarter\. Received: weights="
    ):
        losses.deep_supervision(weights)


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf])
def test_weights_are_finite_numbers(weight):
    with pytest.raises(ValueError, match=r"`weights` of deep_supervision is a finite number from 0 on"):
        losses.deep_supervision((1, weight))


def test_an_unknown_cross_entropy():
    with pytest.raises(ValueError, match=r"cross_entropy .*is 'binary', .*'categorical', .*Received: 'sparse'"):
        losses.DiceCrossEntropy(cross_entropy="sparse")


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.losses.deep_supervision"))
    assert (result.failed, result.attempted) == (0, 2)
