"""Gradients, averaged gradients and gradients with other ReLUs: by hand, by loops, and by what they must sum to."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from hcreg import backend
from hcreg.analyzers import create_analyzer
from hcreg.analyzers.gradient import check_count


def network(*chain, shape=(4, 3, 1), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(shape), *chain])


def squares(shape=(4, 3, 1)):
    """f = sum of x^2, of gradient 2 x."""
    model = network(
        layers.Activation(ops.square), layers.Flatten(), layers.Dense(1, kernel_initializer="ones"), shape=shape
    )
    assert np.asarray(model(np.full((1, *shape), 2.0))).item() == pytest.approx(4 * np.prod(shape))
    return model


def smooth():
    """A network without kinks."""
    return network(
        layers.Conv2D(4, 2, activation="tanh"),
        layers.Flatten(),
        layers.Dense(4, activation="softplus"),
        layers.Dense(1),
    )


def explain(name, model, x, batch_size=8, **options):
    return create_analyzer(name, model, **options).analyze(x, batch_size=batch_size)


def images(count=3, shape=(4, 3, 1), seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def check_close(found, expected, tolerance=1e-5):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# Plain


def test_gradient_by_hand(eager):
    x = images()
    check_close(explain("gradient", squares(), x), 2 * x)
    check_close(explain("gradient", squares(), x, postprocess="abs"), np.abs(2 * x))
    check_close(explain("gradient", squares(), x, postprocess="square"), 4 * x**2)
    check_close(explain("input_t_gradient", squares(), x), 2 * x**2)
    check_close(explain("input_t_gradient", squares(), -x, postprocess="abs"), -x * np.abs(2 * x))


def test_gradient_agrees_with_finite_differences(networks, eager):
    model, x = smooth(), images(1)
    moves = 1e-2 * np.eye(12, dtype="float32").reshape(12, 4, 3, 1)
    slopes = np.asarray(model(x + moves) - model(x - moves)).reshape(x.shape) / 2e-2
    check_close(explain("gradient", model, x), slopes, 1e-2)


def test_on_a_linear_model_all_are_weight_times_input(networks, eager):
    model = network(
        layers.Conv2D(3, 2, padding="same"), layers.BatchNormalization(), layers.AveragePooling2D(2), layers.Flatten(),
        layers.Dense(2), layers.Dense(1),
    )  # fmt: skip
    networks.randomised(model)
    x, zero = images(), np.zeros((1, 4, 3, 1), "float32")
    weights = np.asarray([model(unit[None]) - model(zero) for unit in np.eye(12, dtype="float32").reshape(12, 4, 3, 1)])
    expected = x * weights.reshape(4, 3, 1)
    for name, options in (("input_t_gradient", {}), ("integrated_gradients", {"steps": 3}), ("lrp.z", {})):
        check_close(explain(name, model, x, **options), expected, 1e-4)


# Averaged over noise


@pytest.mark.parametrize("postprocess", [None, "abs", "square"])
def test_smoothgrad_by_hand(postprocess, eager):
    # of x^2 at x + s n the gradient is 2 x + 2 s n; s is a fraction of each image's own range
    x, noise = images(), images(5, seed=1)
    x[1] *= 10
    s = 0.3 * (x.max((1, 2, 3)) - x.min((1, 2, 3))).reshape(-1, 1, 1, 1, 1)
    gradients = 2 * x[:, None] + 2 * s * noise
    change = {None: lambda g: g, "abs": np.abs, "square": np.square}[postprocess]
    found = explain("smoothgrad", squares(), x, augment_by_n=5, noise_scale=0.3, noise=noise, postprocess=postprocess)
    check_close(found, change(gradients).mean(1))
    # and with the noise of iNNvestigate, which ignores the scale and the range
    options = {"augment_by_n": 5, "noise_scale": 0.3, "noise": noise, "postprocess": postprocess}
    check_close(
        explain("smoothgrad", squares(), x, compat="innvestigate", **options),
        change(2 * x[:, None] + 2 * noise).mean(1),
    )


def test_smoothgrad_without_noise_is_the_gradient(networks, eager):
    model = networks.build("vgg")
    x = networks.images(model)
    check_close(explain("smoothgrad", model, x, noise_scale=0.0, augment_by_n=3), explain("gradient", model, x))
    check_close(
        explain("smoothgrad", model, x, noise_scale=0.0, augment_by_n=3, postprocess="square"),
        explain("gradient", model, x, postprocess="square"),
    )


def test_smoothgrad_depends_on_its_noise_scale_and_seed(networks, eager):
    model = networks.build("vgg")
    x = networks.images(model, 1)
    maps = {
        scale: explain("smoothgrad", model, x, noise_scale=scale, augment_by_n=8) for scale in (0.0, 0.05, 0.2, 1.0)
    }
    distance = {scale: np.linalg.norm(found - maps[0.0]) for scale, found in maps.items()}
    assert 0 < distance[0.05] < distance[0.2]
    assert np.linalg.norm(maps[1.0] - maps[0.2]) > 0.1 * np.linalg.norm(maps[0.2])
    again = {seed: explain("smoothgrad", model, x, augment_by_n=8, seed=seed) for seed in (0, 0, 1)}
    assert np.array_equal(again[0], maps[0.2])
    assert not np.allclose(again[1], maps[0.2])


def test_drawn_noise_is_standard_normal(eager):
    # of the square, the map less 2 x is the mean noise; squared and averaged, its variance
    x = np.zeros((1, 32, 32, 1), "float32")
    x[0, 0, 0, 0] = 1.0  # a range of 1
    model, options = squares((32, 32, 1)), {"augment_by_n": 4, "noise_scale": 1.0}
    mean = (explain("smoothgrad", model, x, **options) - 2 * x) / 2
    assert abs(mean.mean()) < 0.1
    assert mean.std() == pytest.approx(0.5, rel=0.1)
    square = explain("smoothgrad", model, x * 0 + x, postprocess="square", **options)[0, 1:] / 4
    assert square.mean() == pytest.approx(1.0, rel=0.1)


def test_noise_of_one_value_images_is_none(eager):
    x = np.full((1, 4, 3, 1), 3.0, "float32")
    check_close(explain("smoothgrad", squares(), x, augment_by_n=2), 2 * x)


@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients"])
def test_how_points_are_batched_changes_nothing(name, eager):
    model, x = smooth(), images(5)
    options = {"augment_by_n": 7} if name == "smoothgrad" else {"steps": 7}
    expected = explain(name, model, x, batch_size=100, **options)
    for batch_size in (2, 4, 12):
        check_close(explain(name, model, x, batch_size=batch_size, **options), expected)


def test_smoothgrad_is_the_mean_of_gradients(networks, eager):
    model = networks.build("vgg")
    x, noise = networks.images(model, 2), np.random.default_rng(1).normal(size=(3, 8, 8, 2)).astype("float32")
    sigma = 0.2 * (x.max((1, 2, 3), keepdims=True) - x.min((1, 2, 3), keepdims=True))
    gradients = [np.asarray(backend.gradient(model, x + sigma * n)) for n in noise]
    check_close(explain("smoothgrad", model, x, augment_by_n=3, noise=noise), np.mean(gradients, 0))


# Averaged over a path


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_integrated_gradients_by_hand(steps, eager):
    # the gradient of x^2 is linear on the path: its middle is its mean, and the map is x^2 - r^2
    x = images()
    check_close(explain("integrated_gradients", squares(), x, steps=steps), x**2)
    check_close(explain("integrated_gradients", squares(), x, steps=steps, reference_inputs=-1), x**2 - 1)
    reference = images(1, seed=2)[0]
    check_close(
        explain("integrated_gradients", squares(), x, steps=steps, reference_inputs=reference), x**2 - reference**2
    )
    # from the left, as iNNvestigate: 2 (x - r) (r + (x - r) (n - 1) / 2n)
    found = explain(
        "integrated_gradients", squares(), x, steps=steps, reference_inputs=reference, compat="innvestigate"
    )
    way = x - reference
    check_close(found, 2 * way * (reference + way * (steps - 1) / (2 * steps)))


def test_integrated_gradients_after_postprocessing(eager):
    x = images()  # mean of |2 x t| over the middles, times x
    check_close(explain("integrated_gradients", squares(), x, steps=4, postprocess="abs"), x * np.abs(x))


def errors_of_completeness(model, x, compat=None):
    difference = np.asarray(model(x) - model(np.full_like(x, -0.5))).ravel()
    found = []
    for steps in (4, 8, 16):
        maps = explain("integrated_gradients", model, x, steps=steps, reference_inputs=-0.5, compat=compat)
        found.append(np.abs(maps.reshape(len(x), -1).sum(1) - difference).max())
    return np.array(found)


def test_completeness_error_falls_with_the_square_of_the_number_of_steps(eager):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = smooth()
    finally:
        keras.config.set_dtype_policy(policy)
    x = 2 * images().astype("float64")
    middle, left = errors_of_completeness(model, x), errors_of_completeness(model, x, compat="innvestigate")
    np.testing.assert_allclose(middle[:-1] / middle[1:], 4, rtol=0.2)
    np.testing.assert_allclose(left[:-1] / left[1:], 2, rtol=0.2)
    assert (middle < left / 5).all()


def test_completeness_on_a_network_of_relu(networks, eager):
    model = networks.build("resnet")
    x = networks.images(model, 2)
    difference = np.asarray(model(x) - model(0 * x)).ravel()
    few, many = (
        np.abs(explain("integrated_gradients", model, x, 256, steps=n).reshape(2, -1).sum(1) - difference).max()
        for n in (4, 128)
    )
    assert many < 0.02 * np.abs(difference).max()
    assert many < few / 5


# Other ReLUs


def small_network():
    """h = relu(W x), f = relu(2 h0 - 3 h1 + 1 h2) times 5."""
    model = network(
        layers.Dense(3, activation="relu", use_bias=False),
        layers.Dense(1, use_bias=False),
        layers.ReLU(),
        layers.Dense(1, use_bias=False),
        shape=(2,),
    )
    w, v = np.array([[1.0, 1.0, -1.0], [1.0, -2.0, -1.0]]), np.array([[2.0], [-3.0], [1.0]])
    model.set_weights([w, v, np.array([[5.0]])])
    return model


def test_guided_backprop_and_deconvnet_by_hand(eager):
    model = small_network()
    x = np.array([[3.0, 1.0]], "float32")  # W x = (4, 1, -4), h = (4, 1, 0), 8 - 3 = 5, f = 25
    assert np.asarray(model(x)).item() == 25
    # back: 5, 5; (10, -15, 5); the gradient lets h0 and h1 pass, guided only h0, deconvnet h0 and h2
    expected = {
        "gradient": [10 - 15, 10 + 30],
        "guided_backprop": [10, 10],
        "deconvnet": [10 - 5, 10 - 5],
    }
    for name, numbers in expected.items():
        assert explain(name, model, x).tolist() == [numbers], name
    for name in ("guided_backprop", "deconvnet"):  # iNNvestigate begins with the prediction
        assert explain(name, model, x, compat="innvestigate").tolist() == [[25 * n for n in expected[name]]], name


def test_a_shut_relu_at_the_end(eager):
    model = small_network()
    x = np.array([[1.0, -1.0]], "float32")  # W x = (0, 3, 0), -9, f = 0
    assert np.asarray(model(x)).item() == 0
    assert not explain("gradient", model, x).any()
    assert not explain("guided_backprop", model, x).any()
    # through the shut ReLU: 5 (2, -3, 1), positive parts (10, 0, 5)
    assert explain("deconvnet", model, x).tolist() == [[5.0, 5.0]]


def test_max_pooling_keeps_its_switches(eager):
    model = network(
        layers.Conv1D(1, 1, activation="relu"), layers.MaxPooling1D(2), layers.Flatten(), layers.Dense(1), shape=(4, 1)
    )
    model.set_weights([np.ones((1, 1, 1)), np.zeros(1), np.array([[2.0], [3.0]]), np.zeros(1)])
    x = np.array([[[1.0], [5.0], [4.0], [2.0]]], "float32")
    for name in ("guided_backprop", "deconvnet"):
        assert explain(name, model, x).ravel().tolist() == [0.0, 2.0, 3.0, 0.0]


def test_on_a_network_that_only_adds_both_are_the_gradient(networks, eager):
    model = networks.build("vgg")
    for layer in model.layers:
        if layer.weights:
            layer.kernel.assign(ops.abs(layer.kernel))
            layer.bias.assign(ops.abs(layer.bias))
    x = np.abs(networks.images(model))
    expected = explain("gradient", model, x)
    for name in ("guided_backprop", "deconvnet"):
        check_close(explain(name, model, x), expected)


def test_neither_is_the_gradient_otherwise(networks, eager):
    for network_name in ("vgg", "resnet", "densenet", "conv3d", "cnn_263k"):
        model = networks.build(network_name)
        x = networks.images(model, 1)
        maps = [explain(name, model, x) for name in ("gradient", "guided_backprop", "deconvnet")]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.linalg.norm(maps[a] - maps[b]) > 0.01 * np.linalg.norm(maps[a]), network_name


# Options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradient", {"postprocess": "relu"}, r'postprocess is None, "abs" or "square"\. Received: \'relu\''),
        ("smoothgrad", {"postprocess": "mean"}, "postprocess is None"),
        ("smoothgrad", {"augment_by_n": 0}, r"augment_by_n is a whole number, 1 or more\. Received: 0"),
        ("smoothgrad", {"augment_by_n": 2.0}, r"augment_by_n is a whole number, 1 or more\. Received: 2\.0"),
        ("smoothgrad", {"noise_scale": -0.1}, r"fraction of the image's range, 0 or more\. Received: -0\.1"),
        ("smoothgrad", {"noise_scale": float("nan")}, "noise_scale is a fraction"),
        ("smoothgrad", {"seed": -1}, r"seed is a whole number, 0 or more\. Received: -1"),
        ("integrated_gradients", {"steps": True}, r"steps is a whole number, 1 or more\. Received: True"),
        ("integrated_gradients", {"reference_inputs": float("inf")}, r"finite numbers\. Received: NaN or infinity"),
    ],
)
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_analyzer(name, smooth(), **options)


def test_arrays_that_do_not_fit_an_image(eager):
    for shape in ((3, 3), (1, 4, 3, 2), (2, 4, 3, 1)):
        with pytest.raises(ValueError, match=r"broadcast to an image of shape \(4, 3, 1\)\. Received: shape \(\d, "):
            explain("integrated_gradients", smooth(), images(), reference_inputs=np.zeros(shape))
    for shape in ((2, 4, 3, 1), (3, 1, 1, 1), (3,)):
        with pytest.raises(
            ValueError, match=r"augment_by_n=3 copies: an array of shape \(3, 4, 3, 1\)\. Received: shape"
        ):
            explain("smoothgrad", smooth(), images(), augment_by_n=3, noise=np.zeros(shape))


def test_a_count_comes_back_as_an_int():
    assert check_count("steps", np.int64(3)) == 3
    assert type(check_count("steps", np.int64(3))) is int
