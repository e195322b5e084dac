"""The walk with plain derivatives is the framework's gradient; where relevance begins, and which layers stop it."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg import backend
from hcreg.analyzers import create_analyzer, rules
from hcreg.analyzers.base import select_target
from hcreg.analyzers.canonization import canonize, keep
from hcreg.analyzers.parts import read_parts
from hcreg.analyzers.walk import Composite, Walk, bounds_of, derivative, first_layers, unchanged

GRADIENT = Composite(*[rules.Derivative()] * 5, activation=derivative, times_value=False, opaque=True)


def functional(shape, *chain, seed=0):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input(shape)
    for link in chain:
        x = link(x)
    return keras.Model(inputs, x)


def prepare(model, composite, linearised_end=True, read=canonize, neuron=None):
    target = select_target(model, neuron=neuron)
    return Walk(read(read_parts(model, target.index)), target, composite, "method", linearised_end=linearised_end)


def explain(model, x, composite, **kwargs):
    walk = prepare(model, composite, **kwargs)
    return np.asarray(walk.backward(walk.forward(x)))


def check_gradient(model, x, neuron=None):
    target = select_target(model, neuron=neuron)
    expected = np.asarray(backend.gradient(lambda images: target.take(model(images, training=False)), x))
    assert np.abs(expected).max() > 0
    for linearised_end in (True, False):
        found = explain(model, x, GRADIENT, linearised_end=linearised_end, read=keep, neuron=neuron)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["vgg", "resnet", "densenet", "conv3d", "cnn_263k", "unet_ellipse"])
def test_walk_with_derivatives_is_the_frameworks_gradient(name, networks):
    model = networks.build(name, seed=1)
    check_gradient(model, networks.images(model, 2))


def test_so_it_is_through_layers_for_which_no_rule_is_known(networks):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="softmax")(inputs)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalMaxPooling2D(keepdims=True)(x))
    x = layers.LayerNormalization()(layers.Multiply()([x, gate]))
    x = layers.Concatenate(axis=1)([x, x, keras.ops.tanh(2.0 - x)])
    halves = keras.ops.split(layers.Flatten()(x), 2, axis=-1)
    x = layers.Subtract()([layers.Maximum()(halves), layers.Average()([halves[0], halves[0]])])
    model = networks.randomised(keras.Model(inputs, layers.Dense(3, activation="gelu")(x)))
    check_gradient(model, networks.images(model), neuron=2)


def test_so_it_is_through_activations_and_pools_of_every_kind(networks):
    inputs = keras.Input((8, 8, 2))
    x = layers.DepthwiseConv2D(3, activation="elu", depth_multiplier=2)(inputs)
    x = layers.SeparableConv2D(4, 2, activation=layers.LeakyReLU(0.1))(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.PReLU()(layers.AveragePooling2D(2)(x)))
    x = layers.Conv2DTranspose(3, 2, strides=2, activation="silu")(layers.Cropping2D(1)(layers.ZeroPadding2D(2)(x)))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.Permute((2, 1, 3))(x))
    x = layers.Reshape((-1,))(layers.Dropout(0.5)(layers.ReLU(max_value=1.0)(x)))
    model = networks.randomised(keras.Model(inputs, layers.Rescaling(3.0, 1.0)(layers.Dense(1)(x))))
    check_gradient(model, networks.images(model))


def test_a_layer_called_twice_and_a_tensor_read_twice(networks):
    inputs = keras.Input((4,))
    twice = layers.Dense(4, activation="relu")
    x = twice(twice(inputs))
    model = networks.randomised(keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([x, x, inputs, x + x]))))
    x = networks.images(model)
    check_gradient(model, x)
    expected = create_analyzer("input_t_gradient", model).analyze(x)
    found = explain(model, x, Composite(*[rules.Z()] * 5, activation=unchanged))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# Where relevance begins

Z = Composite(*[rules.Z()] * 5, activation=unchanged)


def test_relevance_begins_with_the_number_itself(networks):
    model = functional((3,), layers.Dense(2, use_bias=False), layers.ReLU(), layers.Dense(1, use_bias=False))
    x = networks.images(model, 4)
    np.testing.assert_allclose(explain(model, x, Z).sum(1), np.asarray(model(x)).ravel(), rtol=1e-4, atol=1e-6)


def test_a_curved_end_is_linearised(networks):
    # f = sigmoid(z): relevance begins in front of it, with z sigmoid'(z)
    model = functional((3,), layers.Dense(1, activation="sigmoid"))
    networks.randomised(model)
    kernel, bias = model.get_weights()
    x = networks.images(model)
    z = x @ kernel + bias
    f = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(explain(model, x, Z), x * kernel.T * f * (1 - f), rtol=1e-4, atol=1e-6)
    # as an activation passed unchanged, it would begin with f itself
    np.testing.assert_allclose(explain(model, x, Z, linearised_end=False), x * kernel.T * f / z, rtol=1e-4, atol=1e-6)


def test_an_end_of_several_numbers_begins_at_each(networks):
    # f = a b of two dense layers: a b from each side
    inputs = keras.Input((3,))
    a, b = layers.Dense(1, use_bias=False), layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, layers.Multiply()([a(inputs), b(inputs)]))
    x = networks.images(model)
    u, v = np.asarray(a.kernel).T, np.asarray(b.kernel).T
    f = (x * u).sum(1, keepdims=True) * (x * v).sum(1, keepdims=True)
    expected = x * u * (x * v).sum(1, keepdims=True) + x * v * (x * u).sum(1, keepdims=True)
    np.testing.assert_allclose(explain(model, x, Z), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explain(model, x, Z).sum(1), 2 * f[:, 0], rtol=1e-4, atol=1e-6)


def test_a_number_that_both_the_end_and_a_layer_read(networks):
    # z -> sigmoid -> sum <- dense <- z
    inputs = keras.Input((3,))
    z = layers.Dense(2, use_bias=False)
    curved = keras.ops.sum(layers.Activation("sigmoid")(z(inputs)), axis=-1, keepdims=True)
    last = layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, layers.Add()([curved, last(z(inputs))]))
    x = networks.images(model)
    numbers = x @ np.asarray(z.kernel)
    gate = 1 / (1 + np.exp(-numbers))
    slope = gate * (1 - gate) + np.asarray(last.kernel).T  # everything linear but for the sigmoid
    np.testing.assert_allclose(explain(model, x, Z), x * (slope @ np.asarray(z.kernel).T), rtol=1e-4, atol=1e-6)


def test_a_network_that_measures_a_mask_is_explained_through_its_logits(networks):
    # relevance of the logits: their value times what the circumference owes them
    model = networks.build("unet_ellipse")
    x = networks.images(model, 1)
    logits = keras.Model(model.input, model.get_layer("mask_logits").output)
    tail = keras.Input((16, 16, 1))
    y = model.get_layer("mask")(tail)
    tail = keras.Model(tail, model.get_layer("ellipse")(y)["circumference"])
    z = np.asarray(logits(x))
    start = z * np.asarray(backend.gradient(tail, z))
    walk = prepare(model, Composite(*[rules.Flat()] * 5, activation=unchanged))
    found = np.asarray(walk.backward(walk.forward(x)))
    assert np.abs(start).sum() > 0
    np.testing.assert_allclose(walk.prediction(walk.forward(x)), np.asarray(model(x)["hc_fraction"]).ravel(), rtol=1e-5)
    # the flat rule on convolutions and nothing lost elsewhere: the sum arrives
    np.testing.assert_allclose(found.sum(), start.sum(), rtol=1e-3, atol=1e-5)


def test_which_neuron_is_explained(networks):
    model = networks.randomised(functional((3,), layers.Dense(4), layers.Reshape((2, 2))))
    kernel = model.get_weights()[0]
    x = networks.images(model)
    for neuron in range(4):
        np.testing.assert_allclose(
            explain(model, x, GRADIENT, read=keep, neuron=neuron), np.tile(kernel[:, neuron], (3, 1))
        )


def test_relevance_of_nothing_but_the_input():
    model = keras.Model(*[keras.Input((1,))] * 2)
    assert explain(model, np.array([[3.0], [-2.0]], "float32"), Z).tolist() == [[3.0], [-2.0]]


# Layers at the input, and their bounds


def named(parts):
    return {part.name for part in parts}


def at_input(part):
    return not part.inputs or type(part).__name__ in ("Affine", "Pass")


def test_first_layers():
    inputs = keras.Input((8, 8, 1))
    x = layers.ZeroPadding2D()(layers.Rescaling(2.0)(inputs))
    a, b = layers.Conv2D(2, 3, name="a")(x), layers.Conv2D(2, 3, name="b")(layers.ReLU()(x))
    both = layers.Conv2D(1, 3, name="c")(layers.Concatenate()([a, b]))
    aside = layers.Dense(1, name="d")(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Add()([layers.GlobalMaxPooling2D()(both), aside]))
    assert named(first_layers(read_parts(model), at_input)) == {"a", "d"}
    assert named(first_layers(read_parts(model), lambda part: False)) == set()


def test_bounds_go_through_what_stands_in_front():
    # -2 x + 1 of [0, 3] is [-5, 1], and a padding is 0 in both
    model = functional((2, 2, 1), layers.Rescaling(-2.0, offset=1.0), layers.ZeroPadding2D(1), layers.Conv2D(1, 3))
    parts = read_parts(model)
    zeros = np.zeros((1, 2, 2, 1), "float32")
    low, high = bounds_of(parts, zeros, zeros + 3)[parts.parts[1].outputs[0]]
    assert np.asarray(low)[0, 1:-1, 1:-1, 0].tolist() == [[-5, -5]] * 2
    assert np.asarray(high)[0, 1:-1, 1:-1, 0].tolist() == [[1, 1]] * 2
    assert np.asarray(low).sum() == -20
    assert np.asarray(high).sum() == 4


# What stops it


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (layers.LayerNormalization(name="odd"), "LayerNormalization"),
        (layers.Softmax(name="odd"), "Softmax"),
        (layers.Dense(4, activation="softmax", name="odd"), "softmax"),
        (layers.Activation("log_softmax", name="odd"), "log_softmax"),
        (layers.UnitNormalization(name="odd"), "UnitNormalization"),
    ],
)
def test_a_layer_without_a_rule_is_named_with_the_reason(layer, kind):
    model = functional((4,), layer, layers.Dense(1))
    with pytest.raises(
        ValueError, match=rf"method is not defined for layer 'odd' \({kind}\): its output is neither a w"
    ):
        prepare(model, Z)
    with pytest.raises(ValueError, match=r"layers with weights follow it\. Use \"gradient\", \"input_t_gradient\""):
        prepare(model, Z)
    prepare(functional((4,), layers.Dense(4), layer), Z, neuron=0)  # behind the last weights it is differentiated


def test_a_product_in_the_middle_is_named():
    inputs = keras.Input((4,))
    x = layers.Multiply(name="gate")([inputs, layers.Dense(4)(inputs)])
    with pytest.raises(ValueError, match=r"layer 'gate' \(Multiply\).* nor a pick among them"):
        prepare(keras.Model(inputs, layers.Dense(1)(x)), Z)


def test_layers_that_the_output_does_not_need_stop_nothing():
    inputs = keras.Input((4,))
    odd = layers.Dense(3)(layers.LayerNormalization()(inputs))
    model = keras.Model(inputs, [layers.Dense(1, name="hc")(inputs), odd])
    assert prepare(model, Z) is not None


def relu_only():
    return Composite(*[rules.Derivative()] * 5, activation=derivative, times_value=False, needs_relu=True, opaque=True)


@pytest.mark.parametrize(
    ("layer", "label"),
    [
        (layers.Dense(4, activation="sigmoid", name="odd"), "sigmoid"),
        (layers.Activation("tanh", name="odd"), "tanh"),
        (layers.LeakyReLU(name="odd"), "LeakyReLU"),
        (layers.ReLU(negative_slope=0.1, name="odd"), "ReLU"),
        (layers.Dense(4, activation="softmax", name="odd"), "softmax"),
        (layers.Softmax(name="odd"), "Softmax"),
    ],
)
def test_activations_other_than_relu_stop_methods_of_relu_networks(layer, label):
    model = functional((4,), layer, layers.Dense(1))
    with pytest.raises(ValueError, match=rf"networks of ReLU activations\. Layer 'odd' has the activation '{label}'"):
        prepare(model, relu_only())
    prepare(functional((4,), layers.Dense(4), layer), relu_only(), neuron=0)
    with pytest.raises(ValueError, match=r"Use \"gradient\", \"input_t_gradient\", \"smoothgrad\" or"):
        prepare(model, relu_only())
