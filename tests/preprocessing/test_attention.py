"""Masks made from label maps, and everything that does not fit refused by its words."""

import doctest

import numpy as np
import pytest

import hcreg.preprocessing.attention as module
from hcreg.preprocessing.attention import attention_inputs, region_mask

IMAGES = np.random.default_rng(0).normal(size=(3, 4, 6, 1))


def masks(channels=None):
    shape = (3, 4, 6) if channels is None else (3, 4, 6, channels)
    return np.ones(shape, np.uint8)


def test_region_mask_by_hand():
    label_maps = np.array([[[0, 11, 15], [16, 12, 0]], [[14, 14, 14], [0, 0, 13]]])
    found = region_mask(label_maps, (11, 12, 13, 14))
    assert found.dtype == np.uint8
    assert found[..., 0].tolist() == [[[0, 1, 0], [0, 1, 0]], [[1, 1, 1], [0, 0, 1]]]
    assert region_mask(label_maps[:1], 16)[0, ..., 0].tolist() == [[0, 0, 0], [1, 0, 0]]


def test_region_mask_refuses_images_without_the_structure():
    label_maps = np.zeros((8, 2, 2), int)
    label_maps[3] = 11
    with pytest.raises(
        ValueError, match=r"pixel of the structures \[11\]\. 7 of 8 images \(0, 1, 2, 4, 5, \.\.\.\) have none\. Leave"
    ):
        region_mask(label_maps, 11)


@pytest.mark.parametrize("label_maps", [np.ones((2, 3, 3)), np.ones((3, 3), int), np.ones((2, 3, 3), bool)])
def test_region_mask_takes_whole_numbers_per_image(label_maps):
    with pytest.raises(ValueError, match=r"whole numbers of shape \(num_images, height, width\)\. Received: "):
        region_mask(label_maps, 1)


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_masks_with_and_without_a_channel(channels):
    given = masks(channels)
    given[1, 0] = 0
    x, y = attention_inputs(IMAGES, given, [0, 3, 1], num_classes=4)
    assert x["image"].dtype == np.float32
    assert x["mask"].dtype == np.uint8
    assert x["mask"].shape == (3, 4, 6, channels or 1)
    np.testing.assert_array_equal(x["mask"].reshape(given.shape), given)
    np.testing.assert_allclose(x["image"], IMAGES, rtol=1e-6)
    assert y.tolist() == [0, 3, 1]


def test_boolean_masks_become_small_and_fractions_stay():
    assert attention_inputs(IMAGES, masks().astype(bool))[0]["mask"].dtype == np.uint8
    x, y = attention_inputs(IMAGES, 0.25 * masks())
    assert x["mask"].dtype == np.float32
    assert np.unique(x["mask"]).tolist() == [0.25]
    assert y is None


@pytest.mark.parametrize("as_objects", [False, True])
def test_none_restricts_nothing(as_objects):
    half = np.zeros((4, 6), np.uint8)
    half[:2] = 1
    given = [half, None, half]
    if as_objects:
        given = np.empty(3, object)
        given[0] = given[2] = half
    x, _ = attention_inputs(IMAGES, given)
    assert x["mask"].sum(axis=(1, 2, 3)).tolist() == [12, 24, 12]
    assert attention_inputs(IMAGES, [None] * 3)[0]["mask"].min() == 1


def test_one_hot_labels_and_numbers_pass():
    one_hot = np.eye(4)[[0, 2, 3]]
    np.testing.assert_array_equal(attention_inputs(IMAGES, masks(), one_hot, 4)[1], one_hot)
    np.testing.assert_array_equal(attention_inputs(IMAGES, masks(), [[1], [2], [0]], 3)[1], [[1], [2], [0]])
    np.testing.assert_array_equal(attention_inputs(IMAGES, masks(), [0.4, 170.5, -3.0])[1], [0.4, 170.5, -3.0])


def zeroed(channels, *where):
    given = masks(channels)
    for place in where:
        given[place] = 0
    return given


def with_value(array, value):
    array = np.array(array, float)
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((3, 4, 5)), r"size of its image, \(4, 6\), and 1 channels\. Received: \(4, 5\)\. Resize masks with"),
        (np.ones((3, 6, 4, 1)), r"size of its image, \(4, 6\).*Received: \(6, 4, 1\)\. Resize"),
        (np.ones((3, 4, 6, 2)), r"and 1 channels\. Received: \(4, 6, 2\)"),
        (np.ones((2, 4, 6)), r"one mask for each image\. Received: 3 images, 2 masks\."),
        ([np.ones((4, 6)), None, np.ones((4, 5))], r"Masks are of one shape\. Received: \[\(4, 5\), \(4, 6\)\]\."),
        (255 * masks(), r"in \[0, 1\]\. 3 of 3 images \(0, 1, 2\) hold values from 255 to 255, or NaN\. Divide a"),
        (with_value(masks(), -1), r"1 of 3 images \(1\) hold values from -1 to 1"),
        (with_value(masks(), np.nan), r"Masks lie in \[0, 1\]\. 1 of 3 images \(1\) hold values from 1 to 1, or NaN"),
        (zeroed(None, 0, 2), r"forbids the whole image\. 2 of 3 images \(0, 2\) have one\. Pass None, or ones"),
    ],
)
def test_masks_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        attention_inputs(IMAGES, given)


def test_a_class_without_a_mask_is_named():
    given = zeroed(4, (0, ..., 1), (2, ..., 3), (2, ..., 1))
    with pytest.raises(ValueError, match=r"2 of 3 images \(0, 2\) have one for class \[1, 3\]\. Pass None"):
        attention_inputs(IMAGES, given, num_classes=4)
    with pytest.raises(ValueError, match=r"and 1 or 5 channels\. Received: \(4, 6, 4\)"):
        attention_inputs(IMAGES, masks(4), num_classes=5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_must_be_finite(value):
    with pytest.raises(ValueError, match=r"Images must be finite\. 1 of 3 images \(1\) hold NaN or infinity\."):
        attention_inputs(with_value(IMAGES, value), masks())


def test_images_need_their_channels():
    with pytest.raises(ValueError, match=r"Received: \(3, 4, 6\)\. Give grey images their last axis: images\["):
        attention_inputs(IMAGES[..., 0], masks())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 4, 1], r"classes from 0 to 3\. 1 of 3 images \(1\) have others: \[4\]\."),
        ([-1, 0, -1], r"2 of 3 images \(0, 2\) have others: \[-1\]\."),
        ([0.5, 0, 1], r"others: \[0\.5\]"),
        ([0, 1], r"one label for each image\. Received: 3 images, 2 labels\."),
        ([0, np.nan, 1], r"Labels must be finite\. Received: NaN or infinity"),
        (np.eye(5)[:3], r"one-hot \(3, 4\)\. Received: shape \(3, 5\)\."),
    ],
)
def test_labels_that_are_no_class_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        attention_inputs(IMAGES, masks(), labels, num_classes=4)


def test_examples():
    failed, attempted = doctest.testmod(module)
    assert (failed, attempted) == (0, 3)
