"""Every layer computes, part by part, what Keras computes, and is of the kind that its mathematics says."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from hcreg.analyzers import create_analyzer
from hcreg.analyzers.parts import (
    Activation,
    Affine,
    Convolution,
    DepthwiseConvolution,
    FullyConnected,
    Linear,
    Mean,
    Opaque,
    Parts,
    Pass,
    PointwiseConvolution,
    Sum,
    TransposedConvolution,
    read_parts,
)
from hcreg.layers import BatchNormalization

VECTOR, LINE, IMAGE, VOLUME = (5,), (7, 2), (7, 6, 2), (4, 5, 4, 2)
STATISTICS = {"mean": [0.5, -1.0], "variance": [2.0, 0.3]}

# (layer, shape of its input, kinds of its parts)
LINEAR = [
    (lambda: layers.Dense(3), VECTOR, FullyConnected),
    (lambda: layers.Dense(3, use_bias=False), IMAGE, FullyConnected),
    (lambda: layers.Conv1D(3, 3, strides=2), LINE, Convolution),
    (lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2), LINE, Convolution),
    (lambda: layers.Conv2D(3, 3, strides=2), IMAGE, Convolution),
    (lambda: layers.Conv2D(3, (3, 2), strides=2, padding="same"), IMAGE, Convolution),
    (lambda: layers.Conv2D(3, 3, dilation_rate=2, padding="same"), IMAGE, Convolution),
    (lambda: layers.Conv2D(4, 3, groups=2), IMAGE, Convolution),
    (lambda: layers.Conv2D(2, 1, use_bias=False), IMAGE, Convolution),
    (lambda: layers.Conv3D(2, 2, strides=2, padding="same"), VOLUME, Convolution),
    (lambda: layers.Conv1DTranspose(3, 3, strides=2), LINE, TransposedConvolution),
    (lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same"), IMAGE, TransposedConvolution),
    (lambda: layers.Conv2DTranspose(3, 3, strides=3, output_padding=2), IMAGE, TransposedConvolution),
    (lambda: layers.Conv2DTranspose(3, 2, dilation_rate=2), IMAGE, TransposedConvolution),
    (lambda: layers.Conv3DTranspose(2, 2, strides=2), VOLUME, TransposedConvolution),
    (lambda: layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2), LINE, DepthwiseConvolution),
    (lambda: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2), IMAGE, DepthwiseConvolution),
    (lambda: layers.DepthwiseConv2D(2, dilation_rate=2, padding="same"), IMAGE, DepthwiseConvolution),
    (lambda: layers.BatchNormalization(), IMAGE, Affine),
    (lambda: layers.BatchNormalization(axis=1, scale=False), IMAGE, Affine),
    (lambda: layers.BatchNormalization(center=False), VECTOR, Affine),
    (lambda: BatchNormalization(), IMAGE, Affine),
    (lambda: BatchNormalization(epsilon=0.1), VOLUME, Affine),
    (lambda: layers.Rescaling(1 / 3, offset=-0.5), IMAGE, Affine),
    (lambda: layers.Rescaling([2.0, -3.0], offset=[1.0, 0.0]), IMAGE, Affine),
    (lambda: layers.Normalization(**STATISTICS), IMAGE, Affine),
    (lambda: layers.Normalization(axis=None, mean=1.0, variance=4.0), IMAGE, Affine),
    (lambda: layers.AveragePooling1D(2), LINE, Mean),
    (lambda: layers.AveragePooling2D(3, strides=2, padding="same"), IMAGE, Mean),
    (lambda: layers.AveragePooling3D(2), VOLUME, Mean),
    (lambda: layers.GlobalAveragePooling1D(), LINE, Mean),
    (lambda: layers.GlobalAveragePooling2D(keepdims=True), IMAGE, Mean),
    (lambda: layers.GlobalAveragePooling3D(), VOLUME, Mean),
]
PASSING = [
    (lambda: layers.ZeroPadding2D(((1, 0), (2, 1))), IMAGE),
    (lambda: layers.Cropping2D(1), IMAGE),
    (lambda: layers.UpSampling2D(2), IMAGE),
    (lambda: layers.UpSampling3D(2), VOLUME),
    (lambda: layers.Flatten(), IMAGE),
    (lambda: layers.Permute((3, 1, 2)), IMAGE),
    (lambda: layers.Reshape((-1, 2)), IMAGE),
    (lambda: layers.RepeatVector(3), VECTOR),
    (lambda: layers.Dropout(0.5), IMAGE),
    (lambda: layers.SpatialDropout2D(0.5), IMAGE),
    (lambda: layers.GaussianNoise(0.5), IMAGE),
    (lambda: layers.ActivityRegularization(0.1), IMAGE),
    (lambda: layers.Activation("linear"), IMAGE),
    (lambda: layers.MaxPooling1D(2), LINE),
    (lambda: layers.MaxPooling2D(3, strides=2, padding="same"), IMAGE),
    (lambda: layers.GlobalMaxPooling3D(), VOLUME),
]
ACTIVATIONS = [  # (layer, "relu" or not, never below zero)
    (lambda: layers.ReLU(), True, True),
    (lambda: layers.ReLU(max_value=0.5), True, True),
    (lambda: layers.ReLU(negative_slope=0.1), False, False),
    (lambda: layers.ReLU(threshold=0.5), False, False),
    (lambda: layers.Activation("relu"), True, True),
    (lambda: layers.Activation("relu6"), True, True),
    (lambda: layers.Activation(ops.relu), True, True),
    (lambda: layers.LeakyReLU(0.2), False, False),
    (lambda: layers.PReLU(), False, False),
    (lambda: layers.ELU(), False, False),
    (lambda: layers.Activation("sigmoid"), False, True),
    (lambda: layers.Activation("softplus"), False, True),
    (lambda: layers.Activation("tanh"), False, False),
    (lambda: layers.Activation("silu"), False, False),
]


def sequential(shape, *chain, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(shape), *chain])


def compute(parts, images):
    values = {parts.input: images}
    for part in parts.parts:
        outputs = part.forward([values[number] for number in part.inputs])
        values.update(zip(part.outputs, outputs, strict=True))
    return np.asarray(values[parts.output])


def images(shape, count=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def check_parts(model, shape, kinds, networks):
    networks.randomised(model)
    parts = read_parts(model)
    assert [type(part) for part in parts.parts] == list(kinds)
    x = images(shape)
    np.testing.assert_allclose(compute(parts, x), model(x), rtol=1e-4, atol=1e-5)
    return parts


@pytest.mark.parametrize(("make", "shape", "kind"), LINEAR)
def test_linear_layers(make, shape, kind, networks):
    (part,) = check_parts(sequential(shape, make()), shape, [kind], networks).parts
    assert isinstance(part, Linear)
    x = images(shape)
    z = part.apply([x], part.weights())
    np.testing.assert_allclose(part.apply([3 * x], part.weights()), 3 * np.asarray(z), rtol=1e-4, atol=1e-5)
    bias = 0 if part.bias() is None else np.asarray(part.bias())
    np.testing.assert_allclose(np.asarray(z) + bias, part.forward([x])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make", "shape", "kind"), LINEAR)
def test_relevance_of_a_linear_layer_is_weight_times_input(make, shape, kind, networks, eager):
    model = networks.randomised(sequential(shape, make(), layers.Flatten(), layers.Dense(1)))
    x = images(shape)
    # of f = w x + b the derivative along x is f(x) - f(0)
    w_x = create_analyzer("input_t_gradient", model).analyze(x)
    expected = np.asarray(model(x) - model(np.zeros_like(x))).ravel()
    np.testing.assert_allclose(w_x.reshape(2, -1).sum(1), expected, rtol=1e-3, atol=1e-5)
    for name, options in (("lrp.z", {}), ("integrated_gradients", {"steps": 1})):
        relevance = create_analyzer(name, model, **options).analyze(x)
        np.testing.assert_allclose(relevance, w_x, atol=2e-5 * np.abs(w_x).max())


def test_separable_convolutions_are_two_parts(networks):
    kinds = [DepthwiseConvolution, PointwiseConvolution]
    for layer, shape in (
        (layers.SeparableConv1D(3, 3, padding="same", depth_multiplier=2), LINE),
        (layers.SeparableConv2D(3, 3, strides=2), IMAGE),
    ):
        depthwise, _ = check_parts(sequential(shape, layer), shape, kinds, networks).parts
        assert depthwise.bias() is None
    layer = layers.SeparableConv2D(3, 3, activation="relu")
    check_parts(sequential(IMAGE, layer), IMAGE, [*kinds, Activation], networks)


def test_a_layer_with_an_activation_is_two_parts(networks):
    for activation, form in (("relu", "relu"), (layers.ReLU(), "relu"), (ops.relu, "relu"), ("tanh", "other")):
        layer = layers.Conv2D(3, 3, activation=activation)
        parts = check_parts(sequential(IMAGE, layer), IMAGE, [Convolution, Activation], networks)
        convolution, after = parts.parts
        assert after.kind == form
        assert not after.separate
        assert convolution.name == after.name == layer.name
        assert parts.shapes[convolution.outputs[0]] == (None, 5, 4, 3)
        assert np.asarray(convolution.forward([images(IMAGE)])[0]).min() < 0  # z, not its ReLU
    check_parts(sequential(VECTOR, layers.Dense(3, activation="linear")), VECTOR, [FullyConnected], networks)


@pytest.mark.parametrize(("make", "is_relu", "nonnegative"), ACTIVATIONS)
def test_activation_layers(make, is_relu, nonnegative, networks):
    (part,) = check_parts(sequential(IMAGE, make()), IMAGE, [Activation], networks).parts
    assert (part.kind == "relu") == is_relu
    assert part.separate
    assert part.nonnegative == nonnegative
    if nonnegative:
        assert np.asarray(part.forward([100 * images(IMAGE)])[0]).min() >= 0


def test_a_function_that_happens_to_be_called_relu_is_none(networks):
    def relu(x):
        return ops.maximum(x, -x / 2)

    _, part = check_parts(
        sequential(IMAGE, layers.Conv2D(3, 3, activation=relu)), IMAGE, [Convolution, Activation], networks
    ).parts
    assert part.kind == "other"
    assert not part.nonnegative


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "glu"])
def test_activations_that_mix_numbers_are_no_activations(activation, networks):
    for chain in ([layers.Conv2D(4, 3, activation=activation)], [layers.Conv2D(4, 3), layers.Activation(activation)]):
        if activation == "glu" and len(chain) == 1:
            continue  # Keras takes the shape of its output to be that of its input
        _, part = check_parts(sequential(IMAGE, *chain), IMAGE, [Convolution, Opaque], networks).parts
        assert part.is_activation
        assert part.label == activation


@pytest.mark.parametrize(("make", "shape"), PASSING)
def test_layers_that_move_numbers(make, shape, networks):
    (part,) = check_parts(sequential(shape, make()), shape, [Pass], networks).parts
    assert part.picks == ("max" in type(part.node.layer).__name__.lower())
    # a constant stays a constant, or what pads it
    out = np.asarray(part.forward([np.full((1, *shape), 3.0, "float32")])[0])
    assert set(np.unique(out)) <= {0.0, 3.0}


def test_layers_without_a_rule_are_opaque(networks):
    for layer in (
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.Softmax(),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Normalization(invert=True, **STATISTICS),
        layers.EinsumDense("abcd,de->abce", (None, None, 3)),
    ):
        (part,) = check_parts(sequential(IMAGE, layer), IMAGE, [Opaque], networks).parts
        assert part.label == type(layer).__name__


def test_a_subclass_that_computes_otherwise_is_opaque(networks):
    class Standardised(layers.Conv2D):
        def call(self, inputs):
            return super().call(inputs) ** 2

    class Renamed(layers.Conv2D):
        pass

    check_parts(sequential(IMAGE, Standardised(3, 3)), IMAGE, [Opaque], networks)
    check_parts(sequential(IMAGE, Renamed(3, 3)), IMAGE, [Convolution], networks)


@pytest.mark.parametrize(
    ("join", "factors"),
    [
        (lambda a, b: layers.Add()([a, b, a]), (1, 1, 1)),
        (lambda a, b: layers.Average()([a, b]), (0.5, 0.5)),
        (lambda a, b: layers.Subtract()([a, b]), (1, -1)),
        (lambda a, b: a + b, (1, 1)),
        (lambda a, b: a - b, (1, -1)),
        (lambda a, b: b - a, (1, -1)),
    ],
)
def test_sums_of_branches(join, factors, networks, eager):
    inputs = keras.Input(IMAGE)
    a, b = layers.Conv2D(3, 3)(inputs), layers.Conv2D(3, 3)(inputs)
    model = networks.randomised(keras.Model(inputs, join(a, b)))
    part = check_parts(model, IMAGE, [Convolution, Convolution, Sum], networks).parts[-1]
    assert part.factors == factors
    head = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(model(inputs))))
    x = images(IMAGE)
    expected = create_analyzer("input_t_gradient", head).analyze(x)
    found = create_analyzer("lrp.z", head).analyze(x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_sum_of_unlike_shapes_is_carried_back_to_each(networks, eager):
    inputs = keras.Input(IMAGE)
    gate = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=True)(inputs))
    summed = layers.Add()([layers.Conv2D(3, 1)(inputs), gate])
    model = networks.randomised(keras.Model(inputs, layers.Dense(1)(layers.Flatten()(summed))))
    x = images(IMAGE)
    expected = create_analyzer("input_t_gradient", model).analyze(x)
    found = create_analyzer("lrp.z", model).analyze(x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_products_and_functions_of_one_tensor_are_no_sums():
    inputs = keras.Input(IMAGE)
    for outputs in (layers.Multiply()([inputs, inputs]), inputs * inputs, inputs + 1.0, ops.exp(inputs)):
        assert [type(part) for part in read_parts(keras.Model(inputs, outputs)).parts] == [Opaque]


def test_consumers_and_producers():
    inputs = keras.Input(VECTOR)
    a = layers.Dense(5, name="a")(inputs)
    parts = read_parts(keras.Model(inputs, layers.Add(name="sum")([a, inputs, a])))
    first, last = parts.parts
    assert parts.producers() == {first.outputs[0]: first, last.outputs[0]: last}
    assert parts.consumers() == {parts.input: [first, last], first.outputs[0]: [last, last]}
    assert isinstance(parts, Parts)


def test_weights_are_read_at_each_use():
    model = sequential(VECTOR, layers.Dense(2))
    (part,) = read_parts(model).parts
    kernel = np.arange(10.0).reshape(5, 2)
    model.set_weights([kernel, np.array([1.0, 2.0])])
    assert np.array_equal(part.weights()[0], kernel)
    assert np.array_equal(part.bias(), [1.0, 2.0])
