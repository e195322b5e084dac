"""Deep Dream climbs where it should, loses no detail, leaves the network alone, and says what it cannot do."""

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hcreg
from hcreg import models
from hcreg.analyzers.deep_dream import deep_dream
from hcreg.layers import EllipseMoments

GROUPS = {
    "encoder_shallow": ["down1_conv2", "down2_conv2"],
    "encoder_deep": ["down4_conv2", "bottom_conv2"],
    "encoder": ["down1_conv2", "down2_conv2", "down3_conv2", "down4_conv2", "bottom_conv2"],
    "decoder_shallow": ["up2_conv2", "up1_conv2"],
    "decoder_deep": ["up4_conv2", "up3_conv2"],
    "decoder": ["up4_conv2", "up3_conv2", "up2_conv2", "up1_conv2"],
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def linear(kernel, height=4, width=5, name="linear"):
    """A network of one convolution without bias, of a kernel (height, width, channels)."""
    kernel = np.asarray(kernel, np.float32)[..., None]
    layer = keras.layers.Conv2D(1, kernel.shape[:2], padding="same", use_bias=False, name=name)
    model = keras.Sequential([keras.Input((height, width, kernel.shape[2])), layer])
    layer.set_weights([kernel])
    return model


@pytest.fixture(scope="module")
def network():
    """Convolutions, pooling and a dense head: built for 24 x 32 px and for no other size."""
    keras.utils.set_random_seed(3)
    x = image = keras.Input((24, 32, 1))
    for number in (1, 2):
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(4, activation="tanh", name="dense1")(x)
    return keras.Model(image, keras.layers.Dense(1, name="hc_fraction")(x), name="small_cnn")


@pytest.fixture(scope="module")
def unet():
    return models.unet((32, 48, 1), filters=2, head="ellipse", seed=0)


# Where it goes


def test_a_step_follows_the_kernel():
    # of mean(3 x0 - x1) the gradient is (3, -1) over the number of pixels, of mean absolute value 2 and rms sqrt(5)
    model, image = linear([[[3.0, -1.0]]]), noise(4, 5, 2)
    one = {"octaves": 1, "steps": 1, "step_size": 0.1}
    moved = deep_dream(model, image, "linear", **one) - image
    np.testing.assert_allclose(moved, np.broadcast_to([0.15, -0.05], (4, 5, 2)), atol=1e-6)
    moved = deep_dream(model, image, "linear", normalization="rms", **one) - image
    np.testing.assert_allclose(moved, np.broadcast_to([0.3, -0.1], (4, 5, 2)) / 5**0.5, atol=1e-6)


def test_a_pixel_moves_by_the_number_of_windows_it_is_in():
    # 3x3 ones over 3 x 3 px: a corner is in 4 windows, an edge in 6, the middle in 9; on average 49 / 9
    moved = deep_dream(
        linear(np.ones((3, 3, 1)), 3, 3), np.zeros((3, 3, 1)), ["linear"], octaves=1, steps=1, step_size=1
    )
    np.testing.assert_allclose(moved[..., 0], np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) * 9 / 49, rtol=1e-6)


def test_l2_grows_what_is_there_whatever_its_sign():
    # of mean(x^2) the gradient is along x
    image = np.array([[1.0, -2.0], [3.0, 0.0]], np.float32)[..., None]
    dreamt = deep_dream(linear([[[1.0]]], 2, 2), image, "linear", octaves=1, steps=1, step_size=0.3, objective="l2")
    np.testing.assert_allclose(dreamt, image * 1.2, rtol=1e-6)  # mean absolute value 1.5: x + 0.3 x / 1.5


def test_layers_are_weighted_and_a_negative_weight_lowers():
    image = keras.Input((4, 5, 2))
    first = keras.layers.Conv2D(1, 1, use_bias=False, name="first")
    second = keras.layers.Conv2D(1, 1, use_bias=False, name="second")
    model = keras.Model(image, [first(image), second(image)])
    first.set_weights([np.reshape([1.0, 0.0], (1, 1, 2, 1))])
    second.set_weights([np.reshape([0.0, 1.0], (1, 1, 2, 1))])
    one = {"octaves": 1, "steps": 1, "step_size": 0.1}
    moved = deep_dream(model, np.zeros((4, 5, 2)), {"first": 3, "second": -1}, **one)
    np.testing.assert_allclose(moved, np.broadcast_to([0.15, -0.05], (4, 5, 2)), atol=1e-6)
    np.testing.assert_allclose(deep_dream(model, np.zeros((4, 5, 2)), ["second", "first"], **one), 0.1, atol=1e-6)


def test_a_step_follows_the_differences_of_the_predictions():
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(3, 3, activation="tanh", name="conv")
    model = keras.Sequential([keras.Input((6, 7, 1)), layer, keras.layers.GlobalAveragePooling2D()])
    image, small = 0.5 * noise(6, 7, 1), 1e-2
    around = image + small * np.eye(42).reshape(42, 6, 7, 1), image - small * np.eye(42).reshape(42, 6, 7, 1)
    higher, lower = (model.predict(images, verbose=0).mean(axis=1) for images in around)
    slopes = (higher - lower).reshape(6, 7, 1)
    moved = deep_dream(model, image, "conv", octaves=1, steps=1) - image
    np.testing.assert_allclose(moved, 0.01 * slopes / np.abs(slopes).mean(), atol=1e-4)


@pytest.mark.parametrize("objective", ["mean", "l2"])
def test_the_activation_rises_in_every_octave(network, objective):
    image = noise(24, 32, 1)
    dreamt, octaves = deep_dream(network, image, "conv2", objective=objective, return_octaves=True)
    assert [octave.image.shape for octave in octaves] == [(12, 16, 1), (17, 23, 1), (24, 32, 1)]
    for octave in octaves:
        assert octave.activation.shape == (21,)
        assert octave.activation[-1] > 1.2 * octave.activation[0]
        assert np.mean(np.diff(octave.activation) > 0) > 0.9
    np.testing.assert_array_equal(octaves[-1].image, dreamt)
    maps = keras.Model(network.inputs, network.get_layer("conv2").output).predict(dreamt[None], verbose=0)
    expected = (maps**2).mean() if objective == "l2" else maps.mean()
    assert octaves[-1].activation[-1] == pytest.approx(expected, rel=1e-5)


def test_smaller_steps_change_less(network):
    image = noise(24, 32, 1)
    changes = [np.abs(deep_dream(network, image, "conv1", steps=5, step_size=size) - image).mean() for size in (1, 4)]
    assert 0 < changes[0] < changes[1]


# What stays


def test_without_steps_the_image_comes_back_exactly(network):
    images = noise(2, 24, 32, 1)
    np.testing.assert_array_equal(deep_dream(network, images, "conv1", steps=0), images)
    assert deep_dream(network, images[0], "conv1", steps=0).dtype == np.float32


def test_no_detail_is_lost_by_the_way_through_the_octaves():
    # a uniform gradient adds 3 octaves x 4 steps x 0.01, whatever the size; the finest pixels stand below it
    image = noise(30, 40, 6)
    dreamt = deep_dream(linear(np.ones((1, 1, 6)), 30, 40), image, "linear", steps=4)
    np.testing.assert_allclose(dreamt - image, 0.12, atol=1e-5)


def test_coarse_octaves_dream_coarse_patterns(network):
    image = noise(24, 32, 1)
    one, three = (deep_dream(network, image, "conv1", octaves=octaves) - image for octaves in (1, 3))

    def roughness(change):
        return np.abs(np.diff(change, axis=0)).mean() / np.abs(change).mean()

    assert roughness(three) < 0.9 * roughness(one)


def test_the_network_stays_as_it_was(network):
    weights = [weight.copy() for weight in network.get_weights()]
    nodes = [len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in network.layers]
    image = noise(24, 32, 1)
    expected = network.predict(image[None], verbose=0)
    first = deep_dream(network, image, ["conv1", "conv2"], steps=2)
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert nodes == [len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in network.layers]
    np.testing.assert_array_equal(network.predict(image[None], verbose=0), expected)
    np.testing.assert_array_equal(deep_dream(network, image, ["conv1", "conv2"], steps=2), first)


def test_images_of_a_batch_are_dreamt_apart(network):
    images = noise(2, 24, 32, 1)
    settings = {"steps": 2, "jitter_px": 3, "clip": "image", "octaves": 2, "return_octaves": True}
    together, octaves = deep_dream(network, images, "conv2", **settings)
    alone, own_octaves = deep_dream(network, images[1], "conv2", **settings)
    np.testing.assert_array_equal(together[1], alone)
    assert octaves[0].image.shape == (2, 17, 23, 1)
    np.testing.assert_array_equal(octaves[0].activation[1], own_octaves[0].activation)


def test_chance_is_in_the_seed_alone(network):
    image = noise(24, 32, 1)
    dreams = [deep_dream(network, image, "conv2", steps=2, jitter_px=4, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(dreams[0], dreams[1])
    assert not np.array_equal(dreams[0], dreams[2])


def test_jitter_moves_the_network_over_the_image_and_back():
    # only the corner pixel is seen; rolled by up to 1 px either way, it is one of nine
    corner = keras.layers.Cropping2D(((0, 4), (0, 5)), name="corner")
    model = keras.Sequential([keras.Input((5, 6, 1)), corner])
    still = deep_dream(model, np.zeros((5, 6, 1)), "corner", octaves=1, steps=10)[..., 0]
    assert np.argwhere(still).tolist() == [[0, 0]]
    assert still[0, 0] == pytest.approx(10 * 0.01 * 30)  # all the change that 30 pixels may have on average
    moved = deep_dream(model, np.zeros((5, 6, 1)), "corner", octaves=1, steps=10, jitter_px=1)[..., 0]
    assert moved.sum() == pytest.approx(3.0)
    where = np.argwhere(moved)
    assert len(where) > 2
    assert set(where[:, 0]) <= {4, 0, 1}
    assert set(where[:, 1]) <= {5, 0, 1}


def test_jitter_rolls_the_gradient_back_to_its_pixels():
    # of mean(x^2) every pixel's gradient is its own value, wherever the image is rolled to
    image, square = noise(5, 6, 1), linear([[[1.0]]], 5, 6)
    still, moved = (
        deep_dream(square, image, "linear", octaves=1, steps=5, objective="l2", jitter_px=jitter) for jitter in (0, 3)
    )
    np.testing.assert_allclose(moved, still, atol=1e-6)


def test_a_grey_image_in_several_channels_stays_grey():
    # the mean of the gradients (3, -1) is (1, 1), whose mean absolute value is 1
    moved = deep_dream(linear([[[3.0, -1.0]]]), np.zeros((4, 5, 2)), "linear", octaves=1, steps=1, equal_channels=True)
    np.testing.assert_allclose(moved, 0.01, rtol=1e-6)
    image = np.repeat(noise(12, 15, 1), 2, axis=-1)
    colourful, grey = (
        deep_dream(linear(noise(3, 3, 2), 12, 15), image, "linear", steps=2, equal_channels=equal)
        for equal in (False, True)
    )
    assert np.ptp(colourful, axis=-1).max() > 0.01
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])


def test_clipping_keeps_the_intensities_within(network):
    image = noise(24, 32, 1)
    settings = {"steps": 5, "step_size": 0.5}
    free = deep_dream(network, image, "conv2", **settings)
    assert free.max() > image.max()
    kept = deep_dream(network, image, "conv2", clip="image", **settings)
    assert (kept.min(), kept.max()) == (image.min(), image.max())
    kept = deep_dream(network, image, "conv2", clip=(-1, 0.5), **settings)
    assert (kept.min(), kept.max()) == (-1, 0.5)


# Networks and sizes


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_the_six_pictures_of_a_unet(unet, group):
    image = noise(32, 48, 1)
    settings = {"octaves": 2, "octave_scale": 1.6, "steps": 3, "step_size": 0.05}
    dreamt, (small, whole) = deep_dream(unet, image, GROUPS[group], return_octaves=True, **settings)
    assert small.image.shape == ((20, 30, 1) if group.startswith("encoder") else (16, 32, 1))
    assert whole.image.shape == image.shape
    assert whole.activation[-1] > whole.activation[0]
    assert 0.01 < np.abs(dreamt - image).mean() < 0.5


def test_sizes_are_multiples_of_what_is_asked(unet):
    dreamt, octaves = deep_dream(
        unet, noise(32, 48, 1), "down2_conv2", multiple_of=8, steps=1, octaves=3, return_octaves=True
    )
    assert [octave.image.shape[:2] for octave in octaves] == [(16, 24), (24, 32), (32, 48)]
    assert dreamt.shape == (32, 48, 1)


def test_the_measured_circumference_can_be_dreamt_too(unet):
    _, octaves = deep_dream(unet, noise(32, 48, 1), "hc_fraction", steps=4, octaves=2, return_octaves=True)
    assert octaves[-1].activation[-1] > octaves[-1].activation[0]


def test_layers_of_nested_networks_are_named_with_them():
    encoder = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Conv2D(2, 3, name="conv1")], name="encoder")
    image = keras.Input((16, 16, 1))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(encoder(image)))
    assert deep_dream(model, noise(16, 16, 1), "encoder/conv1", steps=1, octaves=2).shape == (16, 16, 1)


def test_a_network_in_mixed_precision_dreams_in_float32(network):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = keras.models.clone_model(network, clone_function=lambda layer: _in_half(layer))
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(network.get_weights())
    assert mixed.get_layer("conv2").compute_dtype == "bfloat16"
    dreams = [deep_dream(model, noise(24, 32, 1), "conv2", steps=3) for model in (network, mixed)]
    np.testing.assert_allclose(dreams[0], dreams[1], atol=1e-6)


def _in_half(layer):
    return type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})


def test_dense_layers_dream_at_the_size_they_were_built_for(network):
    image = noise(24, 32, 1)
    _, (octave,) = deep_dream(network, image, "hc_fraction", octaves=1, steps=4, return_octaves=True)
    assert octave.activation[-1] > octave.activation[0]
    words = r"small_cnn cannot run at 17 x 23 px: its layer 'dense1' \(Dense\) .* built for 24 x 32 px\. .*octaves=1"
    with pytest.raises(ValueError, match=words):
        deep_dream(network, image, "hc_fraction", octaves=2)


def test_a_way_up_that_does_not_meet_its_skip_is_named(unet):
    with pytest.raises(ValueError, match=r"unet cannot run at 23 x 34 px: its layer 'up3_concat' \(Concatenate\)"):
        deep_dream(unet, noise(32, 48, 1), "up1_conv2", octaves=2, multiple_of=1)


_ON_JAX = """
import sys
import keras, numpy as np
from hcreg.analyzers.deep_dream import deep_dream
from hcreg.layers import EllipseMoments
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
model = keras.models.load_model(f"{folder}/small.keras")
image = np.load(f"{folder}/image.npy")
layers = {"down": 1, "up": 0.5}
np.save(f"{folder}/dreamt.npy", deep_dream(model, image, layers, steps=3, octaves=2, jitter_px=2))
try:
    deep_dream(model, image, "up", octaves=2, multiple_of=1)
except ValueError as error:
    assert "cannot run at 17 x 23 px: its layer 'joined' (Concatenate)" in str(error), error
else:
    raise AssertionError("not refused")
"""


def test_jax_dreams_the_same(tmp_path):
    pytest.importorskip("jax")
    keras.utils.set_random_seed(1)
    image = keras.Input((24, 32, 1))
    down = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="down")(image)
    up = keras.layers.UpSampling2D()(keras.layers.MaxPooling2D()(down))
    joined = keras.layers.Concatenate(name="joined")([down, up])
    up = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="up")(joined)
    model = keras.Model(image, EllipseMoments(name="ellipse")(up), name="small_unet")
    model.save(tmp_path / "small.keras")
    image = noise(24, 32, 1)
    np.save(tmp_path / "image.npy", image)
    subprocess.run(
        [sys.executable, "-c", _ON_JAX, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
    )
    expected = deep_dream(model, image, {"down": 1, "up": 0.5}, steps=3, octaves=2, jitter_px=2)
    dreamt = np.load(tmp_path / "dreamt.npy")
    assert np.abs(dreamt - image).mean() > 0.01
    np.testing.assert_allclose(dreamt, expected, atol=1e-4)


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layers": "conv_2"}, r"small_cnn has no layer 'conv_2'\. Did you mean 'conv2'"),
        ({"layers": ["conv1", "poool2"]}, r"has no layer 'poool2'\. Did you mean 'pool2'"),
        ({"layers": []}, r"the name of at least one layer\. Received: none"),
        ({"layers": {"conv1": 0}}, r"weight of the layer 'conv1' must be a finite number, not 0\. Received: 0"),
        ({"layers": {"conv1": float("nan")}}, r"weight of the layer 'conv1' must be .*Received: nan"),
        ({"image": np.zeros((24, 31, 1))}, r"small_cnn takes images of shape \(24, 32, 1\), one or .*\(24, 31, 1\)"),
        ({"image": np.zeros((24, 32))}, r"takes images of shape \(24, 32, 1\), .*Received: \(24, 32\)"),
        ({"image": np.zeros((0, 24, 32, 1))}, r"takes images of shape .*Received: \(0, 24, 32, 1\)"),
        ({"image": np.full((24, 32, 1), np.nan)}, r"must be finite\. Received: 768 NaN or infinite values"),
        ({"octaves": 0}, r"octaves must be a whole number, 1 or more\. Received: 0"),
        ({"steps": -1}, r"steps must be a whole number, 0 or more\. Received: -1"),
        ({"steps": 2.5}, r"steps must be a whole number, 0 or more\. Received: 2\.5"),
        ({"jitter_px": -2}, r"jitter_px must be a whole number, 0 or more\. Received: -2"),
        ({"multiple_of": 0}, r"multiple_of must be a whole number, 1 or more\. Received: 0"),
        ({"octave_scale": 1.0}, r"octave_scale must be above 1, .*Received: 1\.0"),
        ({"step_size": -0.1}, r"step_size must be above 0\. Received: -0\.1\. To lower .* negative weight"),
        ({"objective": "max"}, r"objective is one of mean, l2 and .*Received: 'max' and 'mean_absolute'"),
        ({"normalization": "sd"}, r"normalization one of mean_absolute, rms\. Received: 'mean' and 'sd'"),
        ({"clip": (1, 0)}, r'clip is None, "image", or \(low, high\) with low < high\. Received: \(1, 0\)'),
        ({"clip": "range"}, r"clip is None, .*Received: 'range'"),
        ({"clip": 5}, r"clip is None, .*Received: 5"),
        (
            {"octaves": 13},
            r"Octave 1 of 13 would be of 0 x 1 px, too small .* multiples of 1\. Take at most octaves=12, or",
        ),
    ],
)
def test_wrong_arguments(network, arguments, words):
    arguments = {"image": noise(24, 32, 1), "layers": "conv1"} | arguments
    with pytest.raises(ValueError, match=words):
        deep_dream(network, **arguments)


def test_octaves_too_small_for_the_network_are_refused(unet, network):
    words = r"Octave 1 of 6 would be of 6 x 9 px, too small .* multiples of 16\. Take at most octaves=5"
    with pytest.raises(ValueError, match=words):
        deep_dream(unet, noise(32, 48, 1), "up4_conv2", octaves=6)
    with pytest.raises(ValueError, match=r"small_cnn cannot run at 1 x 1 px: its layer 'pool1' \(MaxPooling2D\)"):
        deep_dream(network, noise(24, 32, 1), "conv2", octaves=2, octave_scale=24)


def test_a_layer_that_no_pixel_moves_is_refused():
    model = linear([[[1.0]]])
    model.add(keras.layers.ReLU(name="relu"))
    images = np.stack([np.ones((4, 5, 1)), -np.ones((4, 5, 1))])
    assert deep_dream(model, images[:1], "relu", octaves=1).mean() == pytest.approx(1.2)
    with pytest.raises(ValueError, match=r"No pixel of image 1 moves the activation of 'relu': its gradient is 0"):
        deep_dream(model, images, "relu", octaves=1)


def test_networks_it_cannot_take_are_refused():
    with pytest.raises(TypeError, match=r"explains a keras\.Model\. Received: function"):
        deep_dream(noise, noise(4, 5, 1), "linear")
    volume = keras.Sequential([keras.Input((8, 8, 8, 1)), keras.layers.Conv3D(1, 3, name="conv")], name="vgg3d")
    with pytest.raises(ValueError, match=r"network of two-dimensional images .*vgg3d takes \(None, 8, 8, 8, 1\)"):
        deep_dream(volume, noise(8, 8, 8, 1), "conv")
    one, other = keras.Input((4, 4, 1)), keras.Input((4, 4, 1))
    with pytest.raises(ValueError, match=r"models of one input\. Received: .* with 2 inputs"):
        deep_dream(keras.Model([one, other], one + other), noise(4, 4, 1), "add")
    shared = keras.layers.Conv2D(1, 1, name="shared")
    with pytest.raises(ValueError, match=r"layer 'shared' is called 2 times\. Take one that is called once"):
        deep_dream(keras.Model(one, shared(shared(one))), noise(4, 4, 1), "shared")


def test_a_layer_with_several_tensors_is_refused(unet):
    with pytest.raises(ValueError, match=r"layer 'ellipse' gives 4 tensors\. Take one that .* gives a single tensor"):
        deep_dream(unet, noise(32, 48, 1), "ellipse")


def test_a_network_without_finite_answers_is_refused():
    model = linear([[[np.nan]]])
    with pytest.raises(ValueError, match=r"activation of 'linear' or its gradient is not finite at 4 x 5 px\. Check"):
        deep_dream(model, noise(4, 5, 1), "linear", octaves=1)


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.analyzers.deep_dream"))
    assert (result.failed, result.attempted) == (0, 4)
