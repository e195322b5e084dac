"""Maps of activations: by hand, by what they sum to, and at which layer."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg.analyzers import create_analyzer


def network(*chain, shape=(8, 8, 2), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(shape), *chain])


def explain(name, model, x, **options):
    return create_analyzer(name, model, **options).analyze(x)


def activations(model, layer, x):
    return np.asarray(keras.Model(model.inputs[0], model.get_layer(layer).output)(x))


def check_close(found, expected, tolerance=1e-5):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture
def pooled(networks):
    """Global average pooling and a linear output behind a convolution "last"."""
    model = network(
        layers.Conv2D(3, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(5, 2, activation="relu", name="last"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1),
    )
    networks.randomised(model)
    model.layers[-1].set_weights([np.array([[2.0], [-2.0], [1.0], [-1.0], [-1.0]]), np.array([0.3])])
    return model


@pytest.fixture
def flattened(networks):
    model = network(
        layers.Conv2D(3, 3, activation="relu", name="first"),
        layers.Conv2D(4, 3, activation="relu", name="last"),
        layers.Flatten(),
        layers.Dense(1),
    )
    return networks.randomised(model)


def test_with_global_pooling_hires_cam_is_cam_and_sums_to_the_prediction_less_its_bias(pooled, networks, eager):
    x = networks.images(pooled)
    maps = activations(pooled, "last", x)
    kernel, bias = pooled.layers[-1].get_weights()
    cam = (maps @ kernel) / np.prod(maps.shape[1:3])  # each pixel's part of the mean
    found = explain("hires_cam", pooled, x, resize=False)
    check_close(found, cam)
    np.testing.assert_allclose(found.sum((1, 2, 3)) + bias, np.asarray(pooled(x)).ravel(), rtol=1e-4)
    assert found.min() < 0 < found.max()  # signed
    check_close(explain("grad_cam", pooled, x, resize=False), np.maximum(cam, 0))


def test_with_flattening_by_hand(flattened, networks, eager):
    x = networks.images(flattened)
    maps = activations(flattened, "last", x)
    kernel, bias = flattened.layers[-1].get_weights()
    gradient = kernel.reshape(maps.shape[1:])
    hires = explain("hires_cam", flattened, x, resize=False)
    check_close(hires, (maps * gradient).sum(-1, keepdims=True))
    np.testing.assert_allclose(hires.sum((1, 2, 3)) + bias, np.asarray(flattened(x)).ravel(), rtol=1e-4)
    grad = explain("grad_cam", flattened, x, resize=False)
    check_close(grad, np.maximum((maps * gradient.mean((0, 1))).sum(-1, keepdims=True), 0))
    assert abs(np.corrcoef(hires.ravel(), grad.ravel())[0, 1]) < 0.9


def test_curved_heads_take_the_gradient_there(networks, eager):
    # y = softplus(w . mean(A) + b): the gradient is that of the linear head times the sigmoid
    head = layers.Dense(1, activation="softplus")
    model = networks.randomised(network(layers.Conv2D(3, 3, name="last"), layers.GlobalAveragePooling2D(), head))
    x = networks.images(model)
    maps = activations(model, "last", x)
    kernel, bias = head.get_weights()
    slope = 1 / (1 + np.exp(-(maps.mean((1, 2)) @ kernel + bias)))
    check_close(explain("hires_cam", model, x, resize=False), maps @ kernel / 36 * slope[:, None, None])


@pytest.mark.parametrize("name", ["resnet", "conv3d"])
def test_the_last_block_is_tapped_and_sums_to_the_prediction(name, networks, eager):
    model = networks.build(name)
    x = networks.images(model)
    found = explain("hires_cam", model, x, resize=False)
    bias = np.asarray(model.layers[-1].bias)
    np.testing.assert_allclose(found.reshape(3, -1).sum(1) + bias, np.asarray(model(x)).ravel(), rtol=1e-4)
    sides = {"resnet": (3, 3), "conv3d": (2, 3, 3)}[name]
    assert found.shape == (3, *sides, 1)
    assert explain("hires_cam", model, x).shape == (3, *model.inputs[0].shape[1:-1], 1)


def test_a_chosen_layer(flattened, networks, eager):
    x = networks.images(flattened)
    first = explain("hires_cam", flattened, x, layer="first", resize=False)
    assert first.shape == (3, 6, 6, 1)
    # "last" and its ReLU are gates: of each image, f less its biases is shared among the maps that are open
    maps, kernel = activations(flattened, "last", x) > 0, flattened.layers[-1].get_weights()[0].reshape(4, 4, 4)
    biases = (maps * kernel).sum((1, 2)) @ flattened.get_layer("last").get_weights()[1] + flattened.layers[-1].bias
    np.testing.assert_allclose(first.sum((1, 2, 3)) + biases, np.asarray(flattened(x)).ravel(), rtol=1e-3)
    last = explain("hires_cam", flattened, x, layer="last", resize=False)
    assert np.array_equal(last, explain("hires_cam", flattened, x, resize=False))


def test_a_layer_in_a_nested_model_and_the_last_call_of_a_shared_one(networks, eager):
    inputs = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same", activation="relu", name="shared")
    encoder = keras.Model(inputs, shared(shared(inputs)), name="encoder")
    inputs = keras.Input((8, 8, 2))
    head = layers.Dense(1)
    model = networks.randomised(keras.Model(inputs, head(layers.GlobalAveragePooling2D()(encoder(inputs)))), seed=3)
    x = networks.images(model)
    kernel, _ = head.get_weights()
    check_close(
        explain("hires_cam", model, x, layer="encoder/shared", resize=False), np.asarray(encoder(x)) @ kernel / 64
    )


def test_pixels_that_global_pooling_keeps_are_none(networks, eager):
    chain = [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(2, 1), layers.Flatten()]
    model = networks.randomised(network(*chain, layers.Dense(1)))
    assert explain("hires_cam", model, networks.images(model), resize=False).shape == (3, 6, 6, 1)


def test_one_pixel_is_taken_where_there_is_no_other(networks, eager):
    model = networks.randomised(network(layers.Conv2D(3, 8), layers.Flatten(), layers.Dense(1)))
    found = explain("hires_cam", model, networks.images(model))
    assert found.shape == (3, 8, 8, 1)
    assert np.ptp(found, axis=(1, 2, 3)).max() < 1e-6


def test_resizing_is_linear_between_the_middles_of_pixels(eager):
    # f = sum of A: HiResCAM is A itself, here 0 and 4 on two pixels, each four image pixels long
    model = network(layers.Conv1D(2, 4, strides=4, use_bias=False), layers.Flatten(), layers.Dense(1), shape=(8, 1))
    kernel = np.zeros((4, 1, 2))
    kernel[0, 0, 0] = 1
    model.set_weights([kernel, np.ones((4, 1)), np.zeros(1)])
    x = np.zeros((1, 8, 1), "float32")
    x[0, 4] = 4
    assert explain("hires_cam", model, x, resize=False).ravel().tolist() == [0, 4]
    np.testing.assert_allclose(explain("hires_cam", model, x).ravel(), [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4], atol=1e-6)


def test_a_u_net_is_tapped_at_its_last_maps_of_several_channels(networks, eager):
    model = networks.build("unet_ellipse")
    x = networks.images(model, 1)
    for name in ("hires_cam", "grad_cam"):
        found = explain(name, model, x)
        assert found.shape == (1, 16, 16, 1)
        assert np.array_equal(found, explain(name, model, x, layer="up1_bn2"))
    # in front of the logits, a 1x1 convolution: their value less the bias, times what the circumference owes them
    kernel, bias = model.get_layer("mask_logits").get_weights()
    linear = activations(model, "up1_bn2", x) @ kernel[0, 0]
    at_logits = explain("hires_cam", model, x, layer="mask_logits")
    check_close(explain("hires_cam", model, x) * (linear + bias), at_logits * linear)


@pytest.mark.parametrize("name", ["hires_cam", "grad_cam"])
def test_layers_that_cannot_be_tapped(name, pooled, flattened):
    with pytest.raises(
        ValueError, match=rf"{name} needs a layer of model .* that gives maps .*layer='lst'\. Did you mean 'last'"
    ):
        create_analyzer(name, pooled, layer="lst")
    with pytest.raises(ValueError, match=r"gives maps and leads to the output\. Received: layer='flatten"):
        create_analyzer(name, flattened, layer=flattened.layers[2].name)
    for model in (
        network(layers.Dense(1), shape=(4,)),
        network(layers.Flatten(), layers.Dense(1)),
        network(layers.Conv2D(1, 3), layers.Flatten(), layers.Dense(1)),
    ):
        with pytest.raises(
            ValueError, match=r"maps of several channels\. The model .* has none between its input and its"
        ):
            create_analyzer(name, model)


def test_a_layer_that_does_not_lead_to_the_output(networks):
    inputs = keras.Input((8, 8, 2))
    aside = layers.Conv2D(2, 3, name="aside")(inputs)
    hc = layers.Dense(1, name="hc")(layers.Flatten()(layers.Conv2D(2, 3, name="way")(inputs)))
    model = keras.Model(inputs, [hc, aside])
    create_analyzer("hires_cam", model, output="hc", layer="way")
    with pytest.raises(ValueError, match="leads to the output"):
        create_analyzer("hires_cam", model, output="hc", layer="aside")
