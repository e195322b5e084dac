"""The graph holds each call once, in an order that can be computed, nested models taken apart."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg.graph import is_graph, read_graph


def compute(graph, images):
    """Run a graph node by node."""
    values = {graph.input: images}
    for node in graph.nodes:
        values.update(zip(node.outputs, node.call([values[number] for number in node.inputs]), strict=True))
    return np.asarray(values[graph.output])


def dense(units, seed, **kwargs):
    return layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(seed), **kwargs)


class Doubling(keras.Model):
    """A model written as a class."""

    def call(self, inputs):
        return 2 * inputs


def nested():
    """A model in a model in a model, the innermost one called twice, with another name on each level."""
    innermost = keras.Sequential([keras.Input((3,)), dense(3, 1, activation="tanh", name="dense")], name="innermost")
    x = inputs = keras.Input((3,))
    x = innermost(innermost(x))
    middle = keras.Model(inputs, [x, dense(2, 2, name="side")(x)], name="middle")
    x = inputs = keras.Input((3,))
    first, second = middle(dense(3, 3, name="before")(x))
    outputs = dense(1, 4, name="after")(layers.Concatenate(name="joined")([second, first]))
    return keras.Model(inputs, outputs)


X = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")


def test_nested_and_shared_models_are_taken_apart():
    model = nested()
    graph = read_graph(model)
    assert [node.name for node in graph.nodes] == [
        "before",
        "middle/innermost/dense",
        "middle/innermost/dense",
        "middle/side",
        "joined",
        "after",
    ]
    assert graph.nodes[1].layer is graph.nodes[2].layer
    assert graph.shapes[graph.input] == (None, 3)
    assert graph.shapes[graph.output] == (None, 1)
    np.testing.assert_allclose(compute(graph, X), model(X), rtol=1e-6)


def test_the_order_of_joined_tensors_is_kept():
    # x - 2x and not 2x - x, and a concatenation of a tensor with itself
    x = inputs = keras.Input((3,))
    doubled = layers.Rescaling(2.0)(x)
    outputs = layers.Concatenate()([layers.Subtract()([x, doubled]), x, x])
    np.testing.assert_allclose(
        compute(read_graph(keras.Model(inputs, outputs)), X), np.concatenate([-X, X, X], 1), rtol=1e-6
    )


def test_numbers_among_the_arguments_are_kept():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.clip(3.0 - inputs * 2.0, -1.0, x_max=4.0))
    np.testing.assert_allclose(compute(read_graph(model), X), np.clip(3 - X * 2, -1, 4), rtol=1e-6)


def test_only_what_leads_to_the_output_is_kept():
    inputs = keras.Input((3,))
    shared = dense(3, 0, name="shared")(inputs)
    model = keras.Model(inputs, [dense(1, 1, name="first")(shared), dense(1, 2, name="second")(shared)])
    for index, name in enumerate(["first", "second"]):
        graph = read_graph(model, index)
        assert [node.name for node in graph.nodes] == ["shared", name]
        np.testing.assert_allclose(compute(graph, X), model(X)[index], rtol=1e-6)


def test_a_layer_of_several_outputs_gives_the_one_that_is_read():
    inputs = keras.Input((6,))
    halves = keras.ops.split(inputs, 2, axis=-1)
    graph = read_graph(keras.Model(inputs, dense(1, 0)(halves[1])))
    x = np.random.default_rng(1).normal(size=(2, 6)).astype("float32")
    kernel = np.asarray(graph.nodes[-1].layer.kernel)
    np.testing.assert_allclose(compute(graph, x), x[:, 3:] @ kernel, rtol=1e-6)


def test_a_model_that_is_nothing_but_its_input():
    inputs = keras.Input((3,))
    graph = read_graph(keras.Model(inputs, inputs))
    assert graph.nodes == ()
    assert graph.input == graph.output


def test_a_layer_of_another_model_is_left_out():
    # the same layer serves two models: its other call does not belong to this one
    layer, inputs, other = dense(3, 0), keras.Input((3,)), keras.Input((3,))
    keras.Model(other, layer(layers.ReLU()(other)))
    model = keras.Model(inputs, layer(inputs))
    assert len(read_graph(model).nodes) == 1


def test_every_model_of_the_package_is_read(networks):
    for name in networks.names:
        model = networks.build(name)
        images, index = networks.images(model, 2), len(model.outputs) - 1 if name != "unet_ellipse" else 0
        expected = keras.tree.flatten(model(images))[index]
        np.testing.assert_allclose(compute(read_graph(model, index), images), expected, rtol=1e-4, atol=1e-6)


def test_reading_leaves_no_trace():
    model = nested()
    before = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    compute(read_graph(model), X)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == before


def test_a_model_of_a_class_of_its_own_is_refused():
    inputs = keras.Input((3,))
    own = Doubling(name="own")
    model = keras.Model(inputs, own(inputs))
    assert is_graph(model)
    assert not is_graph(own)
    with pytest.raises(ValueError, match=r"layers of model 'own' are not known: it is a class of its own \(Doubling\)"):
        read_graph(model)
    with pytest.raises(ValueError, match=r"use an analyzer that needs no graph: \"gradient\""):
        read_graph(model)


def test_a_functional_model_with_a_training_step_of_its_own_is_read():
    class Trained(keras.Model):
        def train_step(self, data):
            return {}

    inputs = keras.Input((3,))
    model = Trained(inputs, dense(1, 0)(inputs))
    assert is_graph(model)
    np.testing.assert_allclose(compute(read_graph(model), X), model(X), rtol=1e-6)


def test_several_inputs_are_refused():
    a, b = keras.Input((3,)), keras.Input((3,))
    with pytest.raises(ValueError, match=r"Models of one input .* Received: model 'two' with 2 inputs"):
        read_graph(keras.Model([a, b], a + b, name="two"))
