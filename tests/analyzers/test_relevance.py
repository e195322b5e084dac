"""Relevance of whole networks: by matrix algebra, by what must be kept, and by what equals what."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from hcreg.analyzers import create_analyzer

BY_MATRICES = (
    "lrp.z",
    "lrp.epsilon",
    "lrp.flat",
    "lrp.w_square",
    "lrp.alpha_2_beta_1",
    "lrp.alpha_1_beta_0",
    "lrp.z_plus",
    "lrp.sequential_preset_a",
    "lrp.sequential_preset_b_flat",
    "deep_taylor",
)


def network(*chain, shape=(8, 8, 2), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(shape), *chain])


def explain(name, model, x, **options):
    return create_analyzer(name, model, **options).analyze(x)


def check_close(found, expected, tolerance=1e-4, **kwargs):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max(), rtol=0, **kwargs)


# By matrix algebra


class Matrices:
    """Two convolutions and two dense layers, each of them a matrix."""

    def __init__(self, networks):
        self.model = networks.randomised(
            network(
                layers.Conv1D(3, 3, activation="relu"),
                layers.Conv1D(2, 2, padding="same", activation="relu"),
                layers.Flatten(),
                layers.Dense(4, activation="relu"),
                layers.Dense(1),
                shape=(6, 2),
            ),
            seed=4,
        )
        self.x = np.random.default_rng(1).normal(size=(3, 6, 2)).astype("float32")
        self.layers, shapes = [], [(6, 2), (4, 3), (8,), (4,)]
        weighted = [layer for layer in self.model.layers if layer.weights]
        for layer, shape in zip(weighted, shapes, strict=True):
            activation, layer.activation = layer.activation, None
            inputs = keras.Input(shape)
            linear = keras.Model(inputs, layer(inputs))
            unit = np.eye(int(np.prod(shape)), dtype="float32").reshape(-1, *shape)
            b = np.asarray(linear(np.zeros((1, *shape), "float32"))).ravel()
            self.layers.append((np.asarray(linear(unit)).reshape(len(unit), -1) - b, b))
            layer.activation = activation

    def relevance(self, rules):
        """Walk back through the matrices by rules: functions of x (n, 1), W, b, R."""
        maps = []
        for image in self.x:
            values = [image.ravel().astype("float64")]
            for number, (w, b) in enumerate(self.layers):
                z = values[-1] @ w + b
                values.append(np.maximum(z, 0) if number < 3 else z)
            r = values[-1]
            for rule, x, (w, b) in zip(rules[::-1], values[-2::-1], self.layers[::-1], strict=True):
                r = rule(x[:, None], w, b, r)
            maps.append(r.reshape(self.x.shape[1:]))
        return np.stack(maps)


def ratio(r, z):
    return r / np.where(z == 0, 1e-7, z)


def rule_z(x, w, b, r):
    return (x * w) @ ratio(r, (x * w).sum(0) + b)


def rule_epsilon(epsilon):
    def rule(x, w, b, r):
        z = (x * w).sum(0) + b
        return (x * w) @ (r / (z + epsilon * np.where(z >= 0, 1, -1)))

    return rule


def rule_alpha_beta(alpha, beta, bias=True):
    def rule(x, w, b, r):
        up, down = np.maximum(x * w, 0), np.minimum(x * w, 0)
        b_up, b_down = (np.maximum(b, 0), np.minimum(b, 0)) if bias else (0, 0)
        return alpha * up @ ratio(r, up.sum(0) + b_up) - beta * down @ ratio(r, down.sum(0) + b_down)

    return rule


def rule_of_weights(change):
    return lambda x, w, b, r: change(w) @ ratio(r, change(w).sum(0))


def rule_bounded(low, high):
    def rule(x, w, b, r):
        shares = x * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
        return shares @ ratio(r, shares.sum(0))

    return rule


rule_flat = rule_of_weights(lambda w: (w != 0).astype(float))
rule_w_square = rule_of_weights(np.square)
z_plus = rule_alpha_beta(1, 0, bias=False)


def preset(alpha, beta):
    return [rule_alpha_beta(alpha, beta)] * 2 + [rule_epsilon(0.1)] * 2


@pytest.mark.parametrize(
    ("name", "options", "rules"),
    [
        ("lrp.z", {}, [rule_z] * 4),
        ("lrp.epsilon", {"epsilon": 0.25}, [rule_epsilon(0.25)] * 4),
        ("lrp.alpha_beta", {"alpha": 3.0}, [rule_alpha_beta(3, 2)] * 4),
        ("lrp.alpha_beta", {"beta": 0.5, "bias": False}, [rule_alpha_beta(1.5, 0.5, bias=False)] * 4),
        ("lrp.alpha_2_beta_1", {}, [rule_alpha_beta(2, 1)] * 4),
        ("lrp.alpha_1_beta_0", {}, [rule_alpha_beta(1, 0)] * 4),
        ("lrp.z_plus", {}, [z_plus] * 4),
        ("lrp.flat", {}, [rule_flat] * 4),
        ("lrp.w_square", {}, [rule_w_square] * 4),
        ("lrp.sequential_preset_a", {}, preset(1, 0)),
        ("lrp.sequential_preset_b", {}, preset(2, 1)),
        ("lrp.sequential_preset_a", {"epsilon": 0.5}, [*preset(1, 0)[:2], *[rule_epsilon(0.5)] * 2]),
        ("lrp.sequential_preset_a_flat", {}, [rule_flat, *preset(1, 0)[1:]]),
        ("lrp.sequential_preset_b_flat", {}, [rule_flat, *preset(2, 1)[1:]]),
        ("lrp.z", {"input_layer_rule": "WSquare"}, [rule_w_square, *[rule_z] * 3]),
        ("lrp.z", {"input_layer_rule": "ZPlus"}, [z_plus, *[rule_z] * 3]),
        ("lrp.z", {"input_layer_rule": "Alpha2Beta1"}, [rule_alpha_beta(2, 1), *[rule_z] * 3]),
        ("lrp.z", {"input_layer_rule": (-4, 5)}, [rule_bounded(-4, 5), *[rule_z] * 3]),
        ("lrp.sequential_preset_a", {"input_layer_rule": "Z"}, [rule_z, *preset(1, 0)[1:]]),
    ],
)
def test_by_matrix_algebra(name, options, rules, networks, eager):
    net = Matrices(networks)
    check_close(explain(name, net.model, net.x, **options), net.relevance(rules))


def test_deep_taylor_by_matrix_algebra(networks, eager):
    net = Matrices(networks)
    f = np.asarray(net.model(net.x)).ravel()
    lowest = float(f.min()) - 1
    above = ((f - lowest) / f)[:, None, None]
    check_close(explain("deep_taylor", net.model, net.x, lowest_output=lowest), above * net.relevance([z_plus] * 4))
    found = explain("deep_taylor.bounded", net.model, net.x, lowest_output=lowest, low=-4, high=5)
    check_close(found, above * net.relevance([rule_bounded(-4, 5), *[z_plus] * 3]))
    # bounds left out are each image's own
    own = [
        explain("deep_taylor.bounded", net.model, x[None], lowest_output=lowest, low=x.min(), high=x.max())
        for x in net.x
    ]
    check_close(explain("deep_taylor.bounded", net.model, net.x, lowest_output=lowest), np.concatenate(own))


# What equals what


@pytest.mark.parametrize("name", ["vgg", "resnet", "densenet", "conv3d", "cnn_263k", "unet_ellipse"])
def test_lrp_z_is_input_times_gradient_on_networks_of_relu(name, networks, eager):
    model = networks.build(name, seed=2)
    x = networks.images(model, 2)
    expected = explain("input_t_gradient", model, x)
    check_close(explain("lrp.z", model, x), expected, 1e-3)
    check_close(explain("lrp.epsilon", model, x, epsilon=1e-9), expected, 1e-3)


def without_biases(model, gamma):
    """All biases, and all offsets of normalisations, 0; the factors of either sign, or positive."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.beta.assign(layer.gamma * layer.moving_mean / keras.ops.sqrt(layer.moving_variance + layer.epsilon))
            if gamma == "positive":
                layer.beta.assign(layer.beta * keras.ops.sign(layer.gamma))
                layer.gamma.assign(keras.ops.abs(layer.gamma))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(keras.ops.zeros_like(layer.bias))
    return model


@pytest.mark.parametrize(
    # a mean of numbers below zero, times a negative factor, adds while nothing in it does: DenseNets have that
    ("name", "gamma"),
    [("vgg", "both"), ("resnet", "both"), ("conv3d", "both"), ("cnn_263k", "both"), ("densenet", "positive")],
)
def test_z_plus_keeps_the_prediction(name, gamma, networks, eager):
    # Without biases, a sum above 0 has a part above 0 that takes its relevance: nothing can be lost.
    model = without_biases(networks.build(name, seed=3), gamma)
    x = networks.images(model, 6)
    f = np.asarray(model(x)).ravel()
    if f.mean() < 0:
        last = model.layers[-1]
        last.kernel.assign(-last.kernel)
        f = -f
    x, f = x[f > 0], f[f > 0]
    assert len(f) > 1
    for analyzer in ("lrp.z_plus", "lrp.alpha_1_beta_0", "deep_taylor"):
        found = explain(analyzer, model, x)
        assert found.min() >= 0
        np.testing.assert_allclose(found.reshape(len(x), -1).sum(1), f, rtol=1e-4, err_msg=analyzer)
    bounded = explain("deep_taylor.bounded", model, x)
    assert bounded.min() >= -1e-6 * bounded.max()
    np.testing.assert_allclose(bounded.reshape(len(x), -1).sum(1), f, rtol=1e-3)


def test_z_plus_never_gives_more_than_the_prediction(networks, eager):
    # what is lost, biases have won: there may be less, of no other sign
    for name in ("vgg", "resnet", "densenet", "cnn_263k"):
        model = networks.build(name, seed=5)
        x = networks.images(model, 4)
        f = np.asarray(model(x)).ravel()
        share = explain("lrp.z_plus", model, x).reshape(4, -1).sum(1) / f
        assert (share >= 0).all()
        assert (share <= 1 + 1e-4).all()


def test_flat_and_squared_weights_keep_the_prediction_whatever_the_biases(networks, eager):
    model = networks.build("vgg", seed=6)
    x = networks.images(model)
    for name in ("lrp.flat", "lrp.w_square"):
        found = explain(name, model, x).reshape(3, -1).sum(1)
        np.testing.assert_allclose(found, np.asarray(model(x)).ravel(), rtol=1e-4, err_msg=name)


def test_names_that_are_special_cases(networks, eager):
    model = networks.build("resnet")
    x = networks.images(model)
    for name, general in (
        ("lrp.alpha_1_beta_0", ("lrp.alpha_beta", {"alpha": 1})),
        ("lrp.alpha_2_beta_1", ("lrp.alpha_beta", {"beta": 1})),
        ("lrp.z_plus", ("lrp.alpha_beta", {"alpha": 1, "bias": False})),
        ("lrp.sequential_preset_a_flat", ("lrp.sequential_preset_a", {"input_layer_rule": "Flat"})),
        ("deep_taylor", ("lrp.z_plus", {})),
    ):
        assert np.array_equal(explain(name, model, x), explain(general[0], model, x, **general[1])), name


# The layer at the input


def behind(*front):
    """A network with something between its input and its first weights."""
    return network(*front, layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(1))


@pytest.mark.parametrize(
    "front",
    [
        [],
        [layers.ZeroPadding2D(1)],
        [layers.Rescaling(1 / 127.5, offset=-1.0)],
        [layers.Normalization(mean=[0.5, 0.1], variance=[2.0, 0.3])],
        [layers.Rescaling(2.0), layers.ZeroPadding2D(2), layers.BatchNormalization(), layers.Dropout(0.1)],
    ],
    ids=["nothing", "padding", "rescaling", "normalisation", "all"],
)
def test_the_rule_of_the_input_is_found_behind_padding_and_scaling(front, networks, eager):
    model = networks.randomised(behind(*front))
    x, options = networks.images(model), {"lowest_output": -100.0}
    plain = explain("deep_taylor", model, x, **options)
    bounded = explain("deep_taylor.bounded", model, x, low=-6, high=6, **options)
    assert np.abs(bounded - plain).max() > 0.1 * np.abs(plain).max()
    flat = explain("lrp.sequential_preset_a_flat", model, x)
    assert np.abs(flat - explain("lrp.sequential_preset_a", model, x)).max() > 0.1 * np.abs(flat).max()


@pytest.mark.parametrize("name", ["vgg", "resnet", "densenet", "cnn_263k"])
def test_bounded_differs_from_unbounded_on_every_kind_of_network(name, networks, eager):
    model = networks.build(name)
    x, options = networks.images(model), {"lowest_output": -100.0}
    plain, bounded = (explain(f"deep_taylor{suffix}", model, x, **options) for suffix in ("", ".bounded"))
    assert np.abs(bounded - plain).max() > 0.1 * np.abs(plain).max()


def test_bounds_by_hand_behind_a_scaling(eager):
    # y = x / 2 - 1 and f = y0 - y1 + 3; z^B shares x w - low w+ - high w- in units of y: low -1, high 1
    model = network(layers.Rescaling(0.5, offset=-1.0), layers.Dense(1), shape=(2,))
    model.set_weights([np.array([[1.0], [-1.0]]), np.array([3.0])])
    x = np.array([[3.0, 1.0]], "float32")  # y = 0.5, -0.5; f = 4; shares 0.5 + 1 and 0.5 + 1
    found = explain("deep_taylor.bounded", model, x, low=0, high=4)
    np.testing.assert_allclose(found, [[2.0, 2.0]], rtol=1e-5)
    found = explain("deep_taylor.bounded", model, x, low=[0, 0], high=[4, 8])  # y1 up to 3: 1.5 of 5, 3.5 of 5
    np.testing.assert_allclose(found, [[1.2, 2.8]], rtol=1e-5)


def test_there_must_be_a_layer_at_the_input():
    model = network(layers.ReLU(), layers.Flatten(), layers.Dense(1))
    with pytest.raises(
        ValueError, match=r"deep_taylor\.bounded needs a layer with weights at the model's input, behind n"
    ):
        create_analyzer("deep_taylor.bounded", model)
    with pytest.raises(
        ValueError, match=r"lrp\.sequential_preset_a_flat needs .* Use the method without a rule for the"
    ):
        create_analyzer("lrp.sequential_preset_a_flat", model)


def test_images_beyond_the_bounds_are_warned_of_once(networks, eager):
    model = networks.build("vgg")
    x = networks.images(model)
    analyzer = create_analyzer("deep_taylor.bounded", model, low=-1, high=100, lowest_output=-100.0)
    with pytest.warns(
        UserWarning, match=r"lie between low=-1.* and high=100.*\. Received: numbers from -\d.*each image's own"
    ):
        analyzer.analyze(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analyzer.analyze(x)
        explain("deep_taylor.bounded", model, x, low=x.min(), high=x.max(), lowest_output=-100.0)
        explain("deep_taylor.bounded", model, x, lowest_output=-100.0)
        explain("deep_taylor.bounded", model, x, high=10, lowest_output=-100.0)


# Predictions that are not positive


def negative_for(images):
    model = network(layers.Flatten(), layers.Dense(1), shape=(2, 2, 1))
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    return model, np.stack([np.full((2, 2, 1), value, "float32") for value in images])


@pytest.mark.parametrize("name", ["deep_taylor", "deep_taylor.bounded"])
def test_deep_taylor_of_a_negative_prediction_is_refused_and_never_all_zero(name, eager):
    model, x = negative_for([1.0, 2.0, -0.5, -3.0])
    with pytest.raises(
        ValueError, match=r"above lowest_output=0\. Received: -2 for image number 2\. Pass a lowest_output"
    ):
        create_analyzer(name, model).analyze(x, batch_size=2)
    with pytest.raises(ValueError, match="distributes a positive number"):
        create_analyzer(name, model).analyze(x * 0)
    with pytest.raises(ValueError, match=r"above lowest_output=-3\. Received: -12 for image number 3"):
        create_analyzer(name, model, lowest_output=-3.0).analyze(x)


def test_what_lies_above_the_lowest_output_is_distributed(networks, eager):
    model = without_biases(networks.build("vgg"), "both")
    x = networks.images(model, 4)
    f = np.asarray(model(x)).ravel()
    assert f.min() < 0 < f.max() or f.max() < 0
    found = explain("deep_taylor", model, x, lowest_output=-10.0)
    np.testing.assert_allclose(found.reshape(4, -1).sum(1), f + 10, rtol=1e-4)


def test_a_prediction_of_exactly_0_lies_above_a_negative_lowest_output(eager):
    # relu(x0 - x1) = 0: all of 0 - (-2) belongs to x0, the only one that adds
    model = network(layers.Dense(1, activation="relu", use_bias=False), shape=(2,))
    model.set_weights([np.array([[1.0], [-1.0]])])
    for x in ([[1.0, 3.0]], [[1.0, 1.0]]):
        found = explain("deep_taylor", model, np.array(x, "float32"), lowest_output=-2.0)
        np.testing.assert_allclose(found, [[2.0, 0.0]])


def test_innvestigates_numbers_are_all_zero_there(eager):
    model, x = negative_for([1.0, -0.5])
    found = explain("deep_taylor", model, x, compat="innvestigate")
    assert found[0].sum() == pytest.approx(4)
    assert not found[1].any()


# Options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "lrp.epsilon",
            {"epsilon": 0},
            r"epsilon is a number above 0\. Received: 0\. Without a stabiliser, use lrp\.z",
        ),
        ("lrp.epsilon", {"epsilon": -1e-3}, "epsilon is a number above 0"),
        ("lrp.epsilon", {"epsilon": float("nan")}, "epsilon is a number above 0"),
        ("lrp.sequential_preset_b", {"epsilon": 0.0}, "epsilon is a number above 0"),
        ("lrp.alpha_beta", {}, r"needs alpha, beta or both, with alpha - beta = 1\. Received: neither"),
        ("lrp.alpha_beta", {"alpha": 2, "beta": 2}, r"alpha - beta must be 1, .*Received: alpha=2, beta=2"),
        ("lrp.alpha_beta", {"alpha": 0.5}, r"beta 0 or more\. Received: alpha=0\.5, beta=-0\.5"),
        ("lrp.z", {"input_layer_rule": "flat"}, r"one of 'Z', .*'Flat'.*pair \(low, high\).*Received: 'flat'"),
        ("lrp.z", {"input_layer_rule": (1, -1)}, r"low must be below high\. Received: low=1, high=-1"),
        ("deep_taylor.bounded", {"low": 1.0, "high": 1.0}, "low must be below high"),
        ("deep_taylor.bounded", {"low": float("nan")}, r"low is a finite number, .*shape \(8, 8, 2\)\. Received: nan"),
        ("deep_taylor.bounded", {"high": [1.0, 2.0, 3.0]}, r"high is a finite number, or an array .*Received: \[1"),
        ("deep_taylor.bounded", {"low": np.zeros((4, 8, 8, 2))}, r"low is .* Received: shape \(4, 8, 8, 2\)"),
    ],
)
def test_options_that_make_no_sense(name, options, message, networks):
    with pytest.raises(ValueError, match=message):
        create_analyzer(name, networks.build("vgg"), **options)
