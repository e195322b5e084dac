"""Each rule as plain matrix algebra: every layer as an explicit matrix W, every contribution as x_i W_ij."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from hcreg.analyzers import rules
from hcreg.analyzers.parts import read_parts

VECTOR, LINE, IMAGE, VOLUME = (5,), (6, 2), (5, 4, 2), (3, 4, 3, 2)
LAYERS = {
    "dense": (lambda: layers.Dense(3), VECTOR),
    "dense on maps": (lambda: layers.Dense(2), LINE),
    "strides": (lambda: layers.Conv2D(3, 3, strides=2), IMAGE),
    "same padding": (lambda: layers.Conv2D(3, (3, 2), strides=2, padding="same"), IMAGE),
    "dilation": (lambda: layers.Conv2D(2, 2, dilation_rate=2, padding="same"), IMAGE),
    "1D causal": (lambda: layers.Conv1D(2, 2, padding="causal", dilation_rate=2), LINE),
    "3D": (lambda: layers.Conv3D(2, 2, padding="same"), VOLUME),
    "transposed": (lambda: layers.Conv2DTranspose(2, 3, strides=2, padding="same"), IMAGE),
    "1D transposed": (lambda: layers.Conv1DTranspose(2, 3, strides=2), LINE),
    "depthwise": (lambda: layers.DepthwiseConv2D(2, depth_multiplier=2), IMAGE),
    "normalisation": (lambda: layers.BatchNormalization(), IMAGE),
    "rescaling": (lambda: layers.Rescaling(-0.5, offset=0.25), IMAGE),
    "mean": (lambda: layers.AveragePooling2D(2, strides=1, padding="same"), IMAGE),
    "global mean": (lambda: layers.GlobalAveragePooling2D(), IMAGE),
}
GROUPS = "groups", (lambda: layers.Conv2D(4, 2, groups=2), IMAGE)  # apart, since they take seconds on a CPU
BATCH = 2


def divide(a, b):
    """sd(a, b) of the definitions."""
    return a / np.where(b == 0, 1e-7, b)


def matrices(model, shape):
    """W (inputs, outputs) and b (outputs,) from the model's own answers to images of a single 1."""
    unit = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    b = np.asarray(model(np.zeros((1, *shape)))).reshape(-1)
    w = np.asarray(model(unit)).reshape(len(unit), -1) - b
    return w, b


class Case:
    """A layer in float64 with random weights, inputs and relevances; rules in both forms."""

    def __init__(self, name, networks, nonnegative=False):
        make, self.shape = {**LAYERS, **dict([GROUPS])}[name]
        keras.utils.set_random_seed(len(name))
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float64")
        try:
            model = keras.Sequential([keras.Input(self.shape), make()])
        finally:
            keras.config.set_dtype_policy(policy)
        networks.randomised(model)
        generator = np.random.default_rng(len(name))
        self.images = generator.normal(size=(BATCH, *self.shape))
        if nonnegative:
            self.images = np.abs(self.images)
        (self.part,) = read_parts(model).parts
        output = self.part.forward([keras.ops.convert_to_tensor(self.images)])[0]
        self.call = rules.Call(
            self.part, [keras.ops.convert_to_tensor(self.images)], output, self.part.bias(), nonnegative
        )
        self.relevance = generator.normal(size=output.shape)
        self.x, self.r = self.images.reshape(BATCH, -1), self.relevance.reshape(BATCH, -1)
        self.w, self.b = matrices(model, self.shape)
        self.contributions = self.x[:, :, None] * self.w  # x_i W_ij: (batch, inputs, outputs)
        self.z = self.contributions.sum(1) + self.b

    def found(self, rule, **changes):
        call = rules.Call(**{**self.call.__dict__, **changes})
        (relevance,) = rule.propagate(call, keras.ops.convert_to_tensor(self.relevance))
        return np.asarray(relevance).reshape(BATCH, -1)

    def shares(self, contributions, total):
        return (contributions * divide(self.r, total)[:, None]).sum(2)


@pytest.fixture(scope="module", params=LAYERS)
def case(request, networks):
    return Case(request.param, networks)


def check_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * max(1.0, np.abs(expected).max()))


def test_the_matrix_of_a_convolution_by_hand():
    # the explicit Toeplitz matrix of a kernel (2, 1) along lines: out_j = x_j k_0 + x_{j+1} k_1
    model = keras.Sequential([keras.Input((3, 1)), layers.Conv1D(1, 2)])
    model.set_weights([np.array([2.0, -1.0]).reshape(2, 1, 1), np.array([0.5])])
    w, b = matrices(model, (3, 1))
    assert w.tolist() == [[2, 0], [-1, 2], [0, -1]]
    assert b.tolist() == [0.5, 0.5]
    part = read_parts(model).parts[0]
    x = np.array([[[1.0], [3.0], [4.0]]], "float32")
    # contributions 2 -3 | 6 -4, z = -0.5 and 2.5; relevance 1 each
    call = rules.Call(part, [x], part.forward([x])[0], part.bias(), False)
    found = {
        rule: np.asarray(rule.propagate(call, np.ones((1, 2, 1), "float32"))[0]).ravel().tolist()
        for rule in (rules.Z(), rules.AlphaBeta(2.0, 1.0), rules.Flat(), rules.WSquare())
    }
    assert found[rules.Z()] == pytest.approx([-4, 6 + 2.4, -1.6])
    # helping 2 / 2.5 and 6 / 6.5; hindering 1 and 1
    assert found[rules.AlphaBeta(2.0, 1.0)] == pytest.approx([1.6, -1 + 12 / 6.5, -1])
    assert found[rules.Flat()] == pytest.approx([0.5, 1, 0.5])
    assert found[rules.WSquare()] == pytest.approx([0.8, 1, 0.2])


def test_z(case):
    check_close(case.found(rules.Z()), case.shares(case.contributions, case.z))
    check_close(case.found(rules.Z(bias=False)), case.shares(case.contributions, case.z - case.b))


def test_z_of_groups(networks):
    case = Case(GROUPS[0], networks)
    assert (case.w == 0).mean() > 0.5  # each output sees one group
    check_close(case.found(rules.Z()), case.shares(case.contributions, case.z))


@pytest.mark.parametrize("epsilon", [0.25, 2.0**-20])
def test_epsilon(case, epsilon):
    for bias, z in ((True, case.z), (False, case.z - case.b)):
        stabilised = z + epsilon * np.where(z >= 0, 1, -1)
        check_close(case.found(rules.Epsilon(epsilon, bias)), case.shares(case.contributions, stabilised))


def alpha_beta(case, alpha, beta, helping_bias, hindering_bias):
    helping, hindering = np.maximum(case.contributions, 0), np.minimum(case.contributions, 0)
    return alpha * case.shares(helping, helping.sum(1) + helping_bias) - beta * case.shares(
        hindering, hindering.sum(1) + hindering_bias
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, 1.0), (1.5, 0.5)])
def test_alpha_beta(case, alpha, beta):
    up, down = np.maximum(case.b, 0), np.minimum(case.b, 0)
    check_close(case.found(rules.AlphaBeta(alpha, beta)), alpha_beta(case, alpha, beta, up, down))
    check_close(case.found(rules.AlphaBeta(alpha, beta, bias=False)), alpha_beta(case, alpha, beta, 0, 0))
    whole = rules.AlphaBeta(alpha, beta, whole_bias=True)
    check_close(case.found(whole), alpha_beta(case, alpha, beta, case.b, case.b))


@pytest.mark.parametrize("name", ["dense", "same padding", "depthwise", "normalisation"])
def test_alpha_beta_of_inputs_known_to_be_nonnegative(name, networks):
    case = Case(name, networks, nonnegative=True)
    for rule in (rules.AlphaBeta(2.0, 1.0), rules.z_plus(), rules.AlphaBeta(1.0, 0.0)):
        check_close(case.found(rule), case.found(rule, nonnegative=False))


def test_z_plus_is_alpha_1_beta_0_without_a_bias(case):
    check_close(case.found(rules.z_plus()), alpha_beta(case, 1, 0, 0, 0))


def test_squared_weights(case):
    squares = np.broadcast_to(case.w**2, case.contributions.shape)
    check_close(case.found(rules.WSquare()), case.shares(squares, squares.sum(1)))


def test_flat(case):
    # random weights are nowhere 0: what is 0 in W is not connected; a transposed kernel may meet a pixel once only
    seen = np.broadcast_to(case.w != 0, case.contributions.shape).astype(float)
    check_close(case.found(rules.Flat()), case.shares(seen, seen.sum(1)))


def test_bounded(case):
    generator = np.random.default_rng(3)
    low = -3 - generator.uniform(size=case.x.shape)
    high = 3 + generator.uniform(size=case.x.shape)
    up, down = np.maximum(case.w, 0), np.minimum(case.w, 0)
    shares = case.contributions - low[:, :, None] * up - high[:, :, None] * down
    assert shares.min() >= 0  # x is between the bounds: what z^B is for
    tensors = [[keras.ops.convert_to_tensor(bound.reshape(case.images.shape))] for bound in (low, high)]
    check_close(case.found(rules.Bounded(), bounds=tuple(tensors)), case.shares(shares, shares.sum(1)))


def test_alpha_beta_of_positive_inputs(case):
    x, up, down = np.maximum(case.x, 0)[:, :, None], np.maximum(case.w, 0), np.minimum(case.w, 0)
    expected = 2 * case.shares(x * up, (x * up).sum(1) + np.maximum(case.b, 0)) - case.shares(
        x * down, (x * down).sum(1) + np.minimum(case.b, 0)
    )
    check_close(case.found(rules.AlphaBetaOfPositiveInputs()), expected)


def test_derivative_and_unchanged(case):
    check_close(case.found(rules.Derivative()), case.r @ case.w.T)
    assert rules.Unchanged().propagate(case.call, "relevance") == ["relevance"]


def test_a_separable_convolution_is_two_matrices(networks):
    keras.utils.set_random_seed(0)
    layer = layers.SeparableConv2D(3, 2, depth_multiplier=2, padding="same", strides=2)
    model = networks.randomised(keras.Sequential([keras.Input(IMAGE), layer]))
    x = np.random.default_rng(0).normal(size=(1, *IMAGE)).astype("float32")
    first, second = read_parts(model).parts
    middle = first.forward([x])[0]
    depthwise = layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same", strides=2, use_bias=False)
    pointwise = layers.Conv2D(3, 1)
    halves = [
        keras.Sequential([keras.Input(shape), half])
        for shape, half in ((IMAGE, depthwise), (middle.shape[1:], pointwise))
    ]
    halves[0].set_weights([layer.depthwise_kernel])
    halves[1].set_weights([layer.pointwise_kernel, layer.bias])
    np.testing.assert_allclose(second.forward([middle])[0], model(x), atol=1e-6)
    relevance = np.random.default_rng(1).normal(size=model(x).shape).astype("float32")
    rule = rules.AlphaBeta(2.0, 1.0)
    found = relevance
    for part, inputs in ((second, middle), (first, x)):
        (found,) = rule.propagate(rules.Call(part, [inputs], part.forward([inputs])[0], part.bias(), False), found)
    expected = relevance
    for half, inputs in ((halves[1], middle), (halves[0], x)):
        w, b = matrices(half, inputs.shape[1:])
        contributions = np.asarray(inputs).reshape(-1)[:, None] * w
        flat, expected = expected.reshape(-1), 0
        for factor, sign in ((2, np.maximum), (-1, np.minimum)):
            part = sign(contributions, 0)
            expected = expected + factor * (part * divide(flat, part.sum(0) + sign(b, 0))).sum(1)
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", [rules.Z(), rules.AlphaBeta(2.0, 1.0), rules.z_plus()])
def test_sums_of_branches_are_shared_like_any_sum(rule):
    a, b = keras.Input((3,)), None
    model = keras.Model(a, layers.Subtract()([a, layers.ReLU()(a)]))
    part = read_parts(model).parts[-1]
    generator = np.random.default_rng(0)
    a, b, relevance = (generator.normal(size=(2, 3)).astype("float32") for _ in range(3))
    found = rule.propagate(rules.Call(part, [a, b], part.forward([a, b])[0], None, False), relevance)
    contributions = np.stack([a, -b])
    if isinstance(rule, rules.Z):
        expected = contributions * relevance / contributions.sum(0)
    else:
        helping, hindering = np.maximum(contributions, 0), np.minimum(contributions, 0)
        expected = rule.alpha * helping * divide(relevance, helping.sum(0)) - rule.beta * hindering * divide(
            relevance, hindering.sum(0)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_exact_zero_is_replaced_and_nothing_else():
    divided = rules.STABILISER.divide(np.array([1.0, 1.0, 0.0, 1.0, -2.0]), np.array([0.0, 1e-9, 0.0, -1e-9, 4.0]))
    np.testing.assert_allclose(divided, [1e7, 1e9, 0.0, -1e9, -0.5])
    np.testing.assert_allclose(rules.Stabiliser(0.5).divide(np.array([1.0]), np.array([0.0])), [2.0])


def test_epsilon_counts_an_exact_zero_as_positive():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]])])
    part, x = read_parts(model).parts[0], np.array([[1.0, 1.0]], "float32")
    call = rules.Call(part, [x], part.forward([x])[0], None, False)
    assert np.asarray(rules.Epsilon(0.5).propagate(call, np.ones((1, 1), "float32"))[0]).tolist() == [[2.0, -2.0]]


# What holds for any numbers

NUMBERS = st.floats(-3, 3, width=32).map(lambda number: round(number, 2))


@st.composite
def dense_layers(draw):
    inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    numbers = [draw(st.lists(NUMBERS, min_size=n, max_size=n)) for n in (inputs * outputs, inputs, outputs, outputs)]
    w, x, b, r = (np.array(values, "float32") for values in numbers)
    return w.reshape(inputs, outputs), x[None], b, np.abs(r)[None]


class Matrix:
    """A linear part without a layer."""

    def __init__(self, w):
        self.w = w

    def weights(self):
        return [keras.ops.convert_to_tensor(self.w)]

    def apply(self, inputs, weights):
        return keras.ops.matmul(inputs[0], weights[0])


def call_of(w, x, b):
    z = keras.ops.matmul(x, w) + b
    return rules.Call(Matrix(w), [keras.ops.convert_to_tensor(x)], z, keras.ops.convert_to_tensor(b), False)


@settings(max_examples=25, deadline=None)
@given(dense_layers())
def test_z_plus_takes_from_no_one_and_keeps_what_can_be_kept(layer):
    w, x, b, r = layer
    found = np.asarray(rules.z_plus().propagate(call_of(w, x, b), r)[0])
    helped = (x.T * w > 0).any(0)  # outputs that something helps
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(), (r[0] * helped).sum(), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(dense_layers())
def test_flat_and_squared_weights_keep_the_sum_where_there_are_weights(layer):
    w, x, b, r = layer
    call = call_of(w, x, b)
    np.testing.assert_allclose(np.asarray(rules.Flat().propagate(call, r)[0]).sum(), r.sum(), rtol=1e-4, atol=1e-4)
    weighed = (w**2 > 0).any(0)
    found = np.asarray(rules.WSquare().propagate(call, r)[0]).sum()
    np.testing.assert_allclose(found, (r[0] * weighed).sum(), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(dense_layers())
def test_bounded_takes_from_no_one_between_the_bounds(layer):
    w, x, b, r = layer
    call = call_of(w, x, b)
    bounds = tuple([keras.ops.full((1, len(w)), bound)] for bound in (-4.0, 4.0))
    found = np.asarray(rules.Bounded().propagate(rules.Call(**{**call.__dict__, "bounds": bounds}), r)[0])
    assert found.min() >= -1e-6
    np.testing.assert_allclose(found.sum(), (r[0] * (w != 0).any(0)).sum(), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(dense_layers(), st.floats(0.0625, 8.0, width=32))
def test_rules_are_linear_in_relevance_and_blind_to_the_unit_of_the_weights(layer, factor):
    w, x, b, r = layer
    for rule in (rules.Z(), rules.AlphaBeta(2.0, 1.0), rules.z_plus(), rules.WSquare(), rules.Flat()):
        found = np.asarray(rule.propagate(call_of(w, x, b), r)[0])
        scale = max(1.0, np.abs(found).max())
        for call, relevance, expected in (
            (call_of(w, x, b), factor * r, factor * found),
            (call_of(2 * w, x, 2 * b), r, found),
        ):
            again = np.asarray(rule.propagate(call, relevance)[0])
            np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-3 * scale * max(1, factor))
