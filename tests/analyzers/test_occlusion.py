"""Occlusion: by hand, and on models that add up, where it must agree with every exact method."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg.analyzers import create_analyzer


def additive(shape, seed=0):
    """f = sum of w x."""
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(1)])
    w = np.random.default_rng(seed).normal(size=shape).astype("float32")
    model.set_weights([w.reshape(-1, 1), np.array([7.0])])
    return model, w


def images(count, shape, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def explain(name, model, x, batch_size=8, **options):
    return create_analyzer(name, model, **options).analyze(x, batch_size=batch_size)


@pytest.mark.parametrize("shape", [(5, 1), (4, 5, 2), (3, 4, 2, 1)])
def test_single_pixels_of_an_additive_model(shape, eager):
    model, w = additive(shape)
    x = images(3, shape)
    found = explain("occlusion", model, x, patch_size=1, strides=1, fill=0.0)
    exact = (w * x).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, exact, atol=1e-5)
    for name in ("input_t_gradient", "lrp.z"):
        np.testing.assert_allclose(explain(name, model, x).sum(-1, keepdims=True), exact, atol=1e-5)
    mean = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True)  # of each channel of each image
    found = explain("occlusion", model, x, patch_size=1, strides=1)
    np.testing.assert_allclose(found, (w * (x - mean)).sum(-1, keepdims=True), atol=1e-5)
    found = explain("occlusion", model, x, patch_size=1, fill=np.float32(-2))
    np.testing.assert_allclose(found, (w * (x + 2)).sum(-1, keepdims=True), atol=1e-5)


def test_patches_by_hand(eager):
    # f = sum of x; patches of 2 in steps of 2 over 5 pixels begin at 0, 2 and, to end at the border, 3
    model, _ = additive((5, 1))
    model.set_weights([np.ones((5, 1)), np.zeros(1)])
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0], "float32").reshape(1, 5, 1)
    found = explain("occlusion", model, x, patch_size=2, strides=2, fill=0.0).ravel()
    np.testing.assert_allclose(found, [3, 3, 12, (12 + 24) / 2, 24])
    np.testing.assert_allclose(explain("occlusion", model, x, patch_size=5, fill=1.0).ravel(), [31 - 5] * 5)


def test_patches_of_unlike_sides(eager):
    model, w = additive((4, 6, 1))
    x = images(1, (4, 6, 1))
    found = explain("occlusion", model, x, patch_size=(2, 3), strides=(2, 3), fill=0)[0, ..., 0]
    parts = (w * x[0])[..., 0].reshape(2, 2, 2, 3).sum((1, 3))  # patches that do not overlap
    np.testing.assert_allclose(found, parts.repeat(2, 0).repeat(3, 1), atol=1e-5)


def test_defaults_are_an_eighth_and_half_of_that(eager):
    model, _ = additive((16, 8, 1))
    x = images(1, (16, 8, 1))
    expected = explain("occlusion", model, x, patch_size=(2, 1), strides=(1, 1))
    assert np.array_equal(explain("occlusion", model, x), expected)


def test_what_the_batch_size_is_changes_nothing(networks, eager):
    model = networks.build("vgg")
    x = networks.images(model, 5)
    expected = explain("occlusion", model, x, batch_size=64, patch_size=4)
    assert np.abs(expected).max() > 0
    for batch_size in (1, 2, 5, 11):
        np.testing.assert_allclose(explain("occlusion", model, x, batch_size, patch_size=4), expected, atol=1e-5)


def test_images_are_not_changed(eager):
    model, _ = additive((4, 4, 1))
    x = images(2, (4, 4, 1))
    before = x.copy()
    explain("occlusion", model, x)
    assert np.array_equal(x, before)


def test_where_the_prediction_grows_when_covered_it_is_negative(eager):
    model, _ = additive((4, 4, 1))
    model.set_weights([-np.ones((16, 1)), np.zeros(1)])
    assert explain("occlusion", model, np.ones((1, 4, 4, 1)), fill=0.0).max() < 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill": "black"}, r'fill is "mean" or a number\. Received: \'black\''),
        ({"fill": float("nan")}, 'fill is "mean" or a number'),
        ({"fill": True}, 'fill is "mean" or a number'),
        ({"fill": None}, 'fill is "mean" or a number'),
        ({"patch_size": 5}, r"within the image of \(4, 6\) pixels\. Received: patch_size=\(5, 5\)"),
        (
            {"patch_size": 2, "strides": 3},
            r"at most the patch's size, \(2, 2\), .* covered\. Received: strides=\(3, 3\)",
        ),
        ({"patch_size": (2, 2, 2)}, r"one number of pixels, or one for each of 2 sides\. Received: \(2, 2, 2\)"),
        ({"patch_size": 0}, r"patch_size is a whole number, 1 or more\. Received: 0"),
        ({"strides": (1, 1.5)}, r"strides is a whole number, 1 or more\. Received: 1\.5"),
    ],
)
def test_options_that_make_no_sense(options, message):
    model, _ = additive((4, 6, 1))
    with pytest.raises(ValueError, match=message):
        explain("occlusion", model, images(1, (4, 6, 1)), **options)


def test_inputs_without_pixels_are_refused():
    model, _ = additive((4,))
    with pytest.raises(
        ValueError, match=r"covers patches of images\. The model .* shape \(4,\), without pixels\. Use \"i"
    ):
        create_analyzer("occlusion", model)
