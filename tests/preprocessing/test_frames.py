"""The reference frame: proportions, factors and positions of any image in it, and a network's input from it."""

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcreg.preprocessing.frames import (
    NORMALISATIONS,
    REFERENCE_SHAPE,
    input_image,
    normalise,
    place,
    resize_in_frame,
    working_image,
)

HC18_SHAPES = [(541, 738), (544, 791), (539, 780), (542, 800), (563, 799), (545, 789)]  # height, width


def speckle(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blob(shape, x, y, sd=12.0):
    """A smooth bright spot whose centroid is (x, y)."""
    column, row = np.arange(shape[1]), np.arange(shape[0])[:, None]
    return (200 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sd**2))).astype(np.float32)


def centroid(image):
    rows, columns = np.indices(image.shape)
    total = image.sum(dtype=float)
    return float((image * columns).sum(dtype=float) / total), float((image * rows).sum(dtype=float) / total)


def test_nothing_happens_to_an_image_of_the_reference_shape():
    placement = place((540, 800))
    assert (placement.padded_shape, placement.top_px, placement.left_px) == ((540, 800), 0, 0)
    assert placement.reference_px_per_image_px == 1.0
    assert np.array_equal(placement.matrix_to(REFERENCE_SHAPE), [[1, 0, 0], [0, 1, 0]])
    image = speckle(REFERENCE_SHAPE)
    assert np.array_equal(resize_in_frame(image, REFERENCE_SHAPE), image)


@pytest.mark.parametrize(
    ("shape", "padded", "top", "left"),
    [
        ((541, 738), (541, 801), 0, 31),  # 541 x 800 / 540 = 801.48; (801 - 738) // 2
        ((542, 800), (542, 803), 0, 1),  # 802.96
        ((400, 600), (405, 600), 2, 0),  # 600 x 540 / 800 = 405 exactly
        ((540, 400), (540, 800), 0, 200),
        ((1080, 1600), (1080, 1600), 0, 0),
    ],
)
def test_border_by_hand(shape, padded, top, left):
    placement = place(shape)
    assert (placement.padded_shape, placement.top_px, placement.left_px) == (padded, top, left)
    assert placement.reference_px_per_image_px == pytest.approx(math.sqrt(540 * 800 / (padded[0] * padded[1])), 1e-12)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_border_is_the_least_that_gives_the_proportions(height, width):
    padded_height, padded_width = place((height, width)).padded_shape
    assert padded_height >= height
    assert padded_width >= width
    assert padded_height == height or padded_width == width  # one side needs no border
    if padded_height == height:  # the other is as the proportions say, to half a pixel
        assert abs(padded_width - max(width, height * 800 / 540)) <= 0.5
    else:
        assert abs(padded_height - width * 540 / 800) <= 0.5


@pytest.mark.parametrize("shape", [REFERENCE_SHAPE, *HC18_SHAPES])
def test_one_factor_serves_both_axes_of_hc18_images(shape):
    placement = place(shape)
    matrix = placement.matrix_to(REFERENCE_SHAPE)
    assert matrix[0, 0] == pytest.approx(placement.reference_px_per_image_px, rel=3.1e-4)
    assert matrix[1, 1] == pytest.approx(placement.reference_px_per_image_px, rel=3.1e-4)


def test_factor_of_a_smaller_and_a_larger_image():
    assert place((270, 400)).reference_px_per_image_px == pytest.approx(2.0)
    assert place((1080, 1600)).reference_px_per_image_px == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(540, 800), (541, 738), (300, 500), (700, 600)])
@pytest.mark.parametrize("size", [(540, 800), (256, 256), (448, 448), (90, 200)])
def test_matrix_says_where_a_point_lands(shape, size):
    x, y = 0.37 * shape[1], 0.61 * shape[0] + 0.3
    drawn = blob(shape, x, y)
    drawn[drawn < 1e-3] = 0.0
    expected = place(shape).matrix_to(size) @ (x, y, 1.0)
    assert centroid(resize_in_frame(drawn, size)) == pytest.approx(tuple(expected), abs=0.02)


def test_border_is_black_and_the_image_whole():
    white = np.full((540, 400), 255, np.uint8)
    framed = resize_in_frame(white, (54, 80))
    assert np.all(framed[:, 20:60] == 255)
    assert not framed[:, :20].any()
    assert not framed[:, 60:].any()


@pytest.mark.parametrize("shape", [(540, 800), (541, 738), (700, 1000)])
@pytest.mark.parametrize("size", [(128, 128), (224, 224), (64, 96)])
def test_halving_the_working_image_is_resizing_in_one_go(shape, size):
    image = speckle(shape)
    working = working_image(image, size)
    assert working.shape == (2 * size[0], 2 * size[1])
    halved = input_image(working, size)
    assert halved.dtype == np.uint8
    in_one_go = resize_in_frame(image, size)
    assert np.abs(halved.astype(int) - in_one_go).max() <= 1


def test_area_interpolation_averages_blocks():
    image = speckle(REFERENCE_SHAPE)
    blocks = image.reshape(90, 6, 100, 8).mean(axis=(1, 3))
    assert np.abs(resize_in_frame(image, (90, 100)) - blocks).max() <= 0.5 + 1e-4


def test_an_axis_that_shrinks_is_averaged_though_the_other_grows():
    # 540 -> 598 rows, 800 -> 598 columns, as for an input of 299: thin stripes must not alias
    stripes = np.zeros(REFERENCE_SHAPE, np.float32)
    stripes[:, ::2] = 200
    resized = resize_in_frame(stripes, (598, 598))
    averaged = cv2.resize(stripes, (598, 540), interpolation=cv2.INTER_AREA)
    assert np.allclose(resized, averaged[:1], atol=0.01)


def test_enlarging_repeats_no_pixel():
    ramp = np.repeat(np.linspace(0, 200, 400, dtype=np.float32)[None], 270, axis=0)
    inner = resize_in_frame(ramp, (600, 1100))[300, 5:-5]
    assert np.all(np.diff(inner) > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_dtype_stays(dtype):
    image = speckle((541, 738)).astype(dtype)
    assert working_image(image, (64, 64)).dtype == dtype
    assert input_image(working_image(image, (64, 64)), (64, 64)).dtype == dtype


def test_image_itself_is_not_written_to():
    image = speckle((541, 738))
    before = image.copy()
    working_image(image, (64, 64))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(0, 800), (540, 0), (540, 800, 3), (540,)])
def test_shapes_that_are_no_grey_image(shape):
    with pytest.raises(ValueError, match=r"has the shape \(height_px, width_px\).*Received: shape \("):
        place(shape)


def test_image_with_channels_is_refused():
    with pytest.raises(ValueError, match=r"one grey image.*\(540, 800, 3\).*Take one channel"):
        resize_in_frame(np.zeros((540, 800, 3), np.uint8), (64, 64))


def test_standardising_by_hand():
    # 0, 0, 0, 4: mean 1, standard deviation sqrt((3 x 1 + 9) / 4) = sqrt(3)
    one, root = -1 / math.sqrt(3), math.sqrt(3)
    result = normalise([[[0, 0], [0, 4]], [[9, 5], [5, 5]]], "standardise")
    assert result.dtype == np.float32
    assert result.shape == (2, 2, 2, 1)
    assert result[0, ..., 0] == pytest.approx(np.array([[one, one], [one, root]]), abs=1e-6)
    assert result[1, ..., 0] == pytest.approx(np.array([[root, one], [one, one]]), abs=1e-6)


def test_standardising_is_per_image_and_repeats_channels():
    images = np.stack([speckle((40, 60)), speckle((40, 60), 1) // 4 + 30])
    result = normalise(images, "standardise", num_channels=3)
    assert result.shape == (2, 40, 60, 3)
    assert np.allclose(result.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.allclose(result.std(axis=(1, 2)), 1, atol=1e-5)
    assert np.array_equal(result[..., 0], result[..., 2])


@pytest.mark.parametrize("value", [0, 255, 200.3])  # float32 gives 448 x 448 of 200.3 a deviation above 0
def test_constant_image_is_refused_by_its_place_in_the_batch(value):
    images = np.stack([speckle((448, 448)), np.full((448, 448), value)])
    with pytest.raises(ValueError, match=r"needs some contrast.*image\(s\) \[1\] of this batch.*hcreg check"):
        normalise(images, "standardise")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_image_that_is_not_finite_is_refused(value):
    images = speckle((1, 8, 8)).astype(float)
    images[0, 3, 3] = value
    with pytest.raises(ValueError, match=r"not finite: image\(s\) \[0\]"):
        normalise(images, "standardise")


@pytest.mark.parametrize("how", ["caffe", "tf", "torch"])
def test_scalings_are_those_of_keras_applications(how):
    from keras.applications.imagenet_utils import preprocess_input

    images = speckle((2, 16, 24))
    before = images.copy()
    colour = np.repeat(images[..., None], 3, axis=-1).astype(np.float32)
    expected = preprocess_input(colour, data_format="channels_last", mode=how)
    result = normalise(images, how, num_channels=3)
    assert result.dtype == np.float32
    assert np.array_equal(result, expected)
    assert np.array_equal(images, before)


def test_scalings_belong_to_the_backbones_they_are_named_for():
    from keras.applications import densenet, mobilenet_v2, resnet, vgg16

    images = speckle((1, 16, 24))
    colour = np.repeat(images[..., None], 3, axis=-1).astype(np.float32)
    for how, module in (("caffe", resnet), ("caffe", vgg16), ("torch", densenet), ("tf", mobilenet_v2)):
        assert np.allclose(normalise(images, how, 3), module.preprocess_input(colour.copy()), atol=1e-6)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("caffe", (102 - 103.939, 102 - 116.779, 102 - 123.68)),  # blue, green, red means of ImageNet
        ("tf", (-0.2, -0.2, -0.2)),
        ("torch", ((0.4 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.4 - 0.406) / 0.225)),
    ],
)
def test_scalings_by_hand(how, expected):
    image = np.full((1, 2, 2), 102, np.uint8)  # 0.4 of 255
    assert normalise(image, how, num_channels=3)[0, 1, 1] == pytest.approx(np.array(expected), abs=1e-5)


def test_unknown_normalisation_lists_the_known():
    with pytest.raises(ValueError, match=r"one of standardise, caffe, tf, torch\. Received: 'minmax'"):
        normalise(speckle((1, 4, 4)), "minmax")


@pytest.mark.parametrize("how", [name for name in NORMALISATIONS if name != "standardise"])
def test_imagenet_scalings_need_three_channels(how):
    with pytest.raises(ValueError, match=rf"'{how}' is for networks with 3 input channels. Received: 1"):
        normalise(speckle((1, 4, 4)), how)


def test_number_of_channels():
    with pytest.raises(ValueError, match=r"1 or 3 channels.*Received: 2"):
        normalise(speckle((1, 4, 4)), "standardise", num_channels=2)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 1)])
def test_normalise_takes_a_batch_without_channels(shape):
    with pytest.raises(ValueError, match=r"batch of grey images.*Received: shape \("):
        normalise(speckle(shape), "standardise")


def test_frames_and_augmentation_come_without_keras():
    code = "import sys, hcreg.preprocessing.frames, hcreg.augmentation; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
