"""What of a Keras 3 model is handed to iNNvestigate, and what is refused by its name."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg import models
from hcreg.analyzers.innvestigate_architecture import describe
from hcreg.layers import BatchNormalization


def classes(architecture):
    return [layer["class"] for layer in architecture["layers"]]


def test_calls_join_the_layers_by_the_numbers_of_tensors():
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv")(image)
    y = layers.Concatenate(name="both")([x, image])
    architecture, weights = describe(keras.Model(image, layers.Flatten(name="flat")(y)))
    assert architecture["input_shape"] == (4, 4, 2)
    (conv, first, x), (both, second, y), (flat, third, end) = architecture["calls"]
    assert [architecture["layers"][number]["name"] for number in (conv, both, flat)] == [
        "model.conv",
        "model.both",
        "model.flat",
    ]
    assert (first, second, third) == ([architecture["input"]], [x, architecture["input"]], [y])
    assert end == architecture["output"]
    assert [layer["merges"] for layer in architecture["layers"]] == [False, True, False]
    assert [[array.shape for array in arrays] for arrays in weights] == [[(3, 3, 2, 3)], [], []]


def test_settings_are_those_of_the_layer():
    image = keras.Input((9, 9, 2))
    x = layers.Conv2D(4, (3, 2), strides=2, padding="valid", groups=2, activation="relu")(image)
    x = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    conv, pool = describe(keras.Model(image, x))[0]["layers"]
    assert {name: conv["config"][name] for name in ("filters", "groups", "padding", "activation", "use_bias")} == {
        "filters": 4,
        "groups": 2,
        "padding": "valid",
        "activation": "relu",
        "use_bias": True,
    }
    assert (tuple(conv["config"]["kernel_size"]), tuple(conv["config"]["strides"])) == ((3, 2), (2, 2))
    assert (tuple(pool["config"]["pool_size"]), pool["config"]["padding"]) == ((3, 3), "same")


def test_a_plain_relu_layer_becomes_an_activation_and_a_capped_one_stays():
    model = keras.Sequential([keras.Input((3,)), layers.ReLU(), layers.ReLU(max_value=6.0), layers.LeakyReLU(0.25)])
    plain, capped, leaky = describe(model)[0]["layers"]
    assert (plain["class"], plain["config"]) == ("Activation", {"activation": "relu"})
    assert (capped["class"], capped["config"]["max_value"]) == ("ReLU", 6.0)
    assert leaky["config"] == {"alpha": 0.25}


def test_a_subclass_goes_as_the_keras_layer_it_inherits_from():
    model = keras.Sequential([keras.Input((4, 4, 2)), BatchNormalization(epsilon=0.5)])
    (layer,), (arrays,) = describe(model)[0]["layers"], describe(model)[1]
    assert (layer["class"], layer["config"]["epsilon"], len(arrays)) == ("BatchNormalization", 0.5, 4)


def test_an_identity_is_left_out():
    image = keras.Input((3,))
    x = layers.Identity()(layers.Dense(2)(image))
    architecture, _ = describe(keras.Model(image, layers.Identity()(layers.Activation("relu")(x))))
    assert classes(architecture) == ["Dense", "Activation"]
    assert architecture["calls"][1][1] == [architecture["calls"][0][2]]
    assert architecture["output"] == architecture["calls"][1][2]


def test_nested_models_are_taken_apart_and_a_shared_layer_stays_one():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name="inner")
    image = keras.Input((4,))
    architecture, weights = describe(keras.Model(image, layers.Dense(1, name="dense")(inner(inner(image)))))
    assert [layer["name"] for layer in architecture["layers"]] == ["model.inner.dense", "model.dense"]
    assert [call[0] for call in architecture["calls"]] == [0, 0, 1]
    assert len(weights) == 2


def test_names_that_only_differ_in_what_tensorflow_refuses_stay_apart():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="a b"), layers.Dense(2, name="a?b")])
    names = [layer["name"] for layer in describe(model)[0]["layers"]]
    assert names == ["model.a.b", "model.a.b."]


def test_the_size_of_the_images_fills_in_what_the_model_leaves_open():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalMaxPooling2D()])
    assert describe(model)[0]["input_shape"] == (None, None, 1)
    assert describe(model, input_shape=(6, 8, 1))[0]["input_shape"] == (6, 8, 1)


def test_normalization_takes_its_learned_moments_along():
    layer = layers.Normalization()
    layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]], "float32"))
    architecture, weights = describe(keras.Sequential([keras.Input((2,)), layer]))
    (described,) = architecture["layers"]
    assert described["config"]["mean"].tolist() == [2.0, 20.0]
    assert described["config"]["variance"].tolist() == [1.0, 100.0]
    assert weights == [[]]


def test_a_layer_without_a_counterpart_is_refused_by_its_name():
    model = models.unet((32, 32, 1), head="ellipse", filters=1)
    index = sorted(model.output).index("hc_fraction")
    with pytest.raises(ValueError, match=r"model with layer 'ellipse' \(EllipseMoments\): .* has no such layer"):
        describe(model, index)
    architecture, _ = describe(model, 1 - index)  # the mask does not depend on it
    assert architecture["layers"][-1]["name"] == "model.mask"


def test_an_operation_is_refused_by_its_name():
    image = keras.Input((3,))
    model = keras.Model(image, layers.Dense(1)(keras.ops.tanh(image)))
    with pytest.raises(ValueError, match=r"layer 'tanh\w*' \(Tanh\): it is an operation of keras.ops"):
        describe(model)


def test_sums_written_with_a_plus_are_layers():
    image = keras.Input((3,))
    model = keras.Model(image, layers.Dense(3)(image) + image)
    _, added = describe(model)[0]["layers"]
    assert (added["class"], added["merges"]) == ("Add", True)
    with pytest.raises(ValueError, match=r"\(Add\): it is an operation of keras.ops"):
        describe(keras.Model(image, image + 1.0))


@pytest.mark.parametrize("activation", ["hard_sigmoid", keras.ops.square], ids=["other formula", "own function"])
def test_an_activation_without_a_counterpart_is_refused(activation):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation=activation, name="last")])
    with pytest.raises(ValueError, match=r"layer 'last' \(Dense\): its activation .* both versions of Keras"):
        describe(model)


def test_a_layer_called_for_training_is_refused():
    image = keras.Input((3,))
    model = keras.Model(image, layers.Dropout(0.5, name="drop")(image, training=True))
    with pytest.raises(ValueError, match=r"layer 'drop' \(Dropout\): it is called with training=True"):
        describe(model)
