"""From a network's map to the original image: where things lie, how long they are, and what is refused."""

import doctest
import math

import cv2
import numpy as np
import pytest

from hcreg.geometry import Ellipse, measure_mask, resize_matrix
from hcreg.preprocessing import maps
from hcreg.preprocessing.frames import place
from hcreg.preprocessing.maps import map_to_image, relevance_to_image

# Smallest, 5 %, middle, 95 % and largest head circumference of HC18, in pixels, with the pixel size of its middle.
HC_PX = (439.0, 743.0, 1307.0, 1636.0, 1782.0)
PIXEL_SIZE_MM = 0.135


def heads(image_shape=(540, 800)):
    """Heads of HC18's sizes and proportions that lie wholly inside the image."""
    generator = np.random.default_rng(0)
    height, width = image_shape
    for hc_px in HC_PX * 3:
        while True:
            ratio = generator.uniform(0.66, 0.96)
            unit = Ellipse.from_axes(0, 0, 1, ratio, generator.uniform(0, math.pi))
            a = hc_px / unit.circumference_px
            head = unit.transformed([[a, 0, generator.uniform(0, width)], [0, a, generator.uniform(0, height)]])
            x_min, y_min, x_max, y_max = head.bounding_box()
            if min(x_min, y_min) > 2 and x_max < width - 3 and y_max < height - 3:
                break
        yield head


def errors_mm(to_image, shape, image_shape=(540, 800)):
    matrix = place(image_shape).matrix_to(shape)
    return np.array(
        [
            measure_mask(to_image(head.transformed(matrix).coverage(shape)), PIXEL_SIZE_MM).hc_mm
            - head.circumference_mm(PIXEL_SIZE_MM)
            for head in heads(image_shape)
        ]
    )


@pytest.mark.parametrize(("shape", "mean", "largest"), [((96, 128), 0.02, 0.1), ((224, 224), 0.007, 0.04)])
def test_a_perfect_map_measures_the_head(shape, mean, largest):
    errors = errors_mm(lambda coverage: map_to_image(coverage, (540, 800)), shape)
    assert abs(errors.mean()) < mean
    assert np.abs(errors).max() < largest
    # Linear interpolation blurs the edge: a round head becomes smaller.
    linear = errors_mm(lambda coverage: cv2.resize(coverage, (800, 540), interpolation=cv2.INTER_LINEAR), shape)
    assert linear.mean() < 1.5 * errors.mean() < 0


@pytest.mark.parametrize("image_shape", [(541, 738), (563, 799), (700, 800), (540, 600)])
def test_the_padding_of_images_of_other_shapes_is_cut_off(image_shape):
    head = Ellipse.from_axes(290.0, 250.0, 200.0, 150.0, 0.5)
    shape = (128, 192)
    found = map_to_image(head.transformed(place(image_shape).matrix_to(shape)).coverage(shape), image_shape)
    assert found.shape == image_shape
    ellipse = measure_mask(found, PIXEL_SIZE_MM, image_shape=image_shape).ellipse
    assert ellipse.center_x_px == pytest.approx(290.0, abs=0.05)
    assert ellipse.center_y_px == pytest.approx(250.0, abs=0.05)
    assert ellipse.semi_axis_a_px == pytest.approx(200.0, abs=0.1)
    assert ellipse.semi_axis_b_px == pytest.approx(150.0, abs=0.1)
    assert ellipse.angle_rad == pytest.approx(0.5, abs=1e-3)


def test_a_map_finer_than_the_image_is_reduced():
    head = Ellipse(40.0, 25.0, 20.0, 15.0, 0.5)
    found = map_to_image(head.transformed(resize_matrix((54, 80), (216, 320))).coverage((216, 320)), (54, 80))
    assert measure_mask(found).hc_px == pytest.approx(head.circumference_px, rel=2e-3)


def test_a_map_of_the_images_own_size_is_returned_as_it_is():
    coverage = Ellipse(400.0, 270.0, 200.0, 150.0, 0.5).coverage((540, 800))
    np.testing.assert_array_equal(map_to_image(coverage, (540, 800)), coverage)


def test_the_channel_axis_may_be_there_and_the_result_stays_in_range():
    sharp = (Ellipse(64.0, 48.0, 30.0, 20.0, 0.5).mask((96, 128))).astype(np.float16)
    found = map_to_image(sharp[..., None], (540, 800))
    np.testing.assert_array_equal(found, map_to_image(sharp, (540, 800)))
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_stays_one(value):
    np.testing.assert_allclose(map_to_image(np.full((96, 128), value), (541, 738)), value, atol=1e-6)


def test_nan_stays_nan_and_is_named_by_the_measurement():
    probabilities = np.full((96, 128), np.nan)
    assert np.isnan(map_to_image(probabilities, (540, 800))).all()
    probabilities = Ellipse(64.0, 48.0, 30.0, 20.0, 0.5).coverage((96, 128))
    probabilities[3, 3] = np.nan
    found = map_to_image(probabilities, (540, 800))
    assert np.isnan(found[3 * 5, 3 * 6])
    assert "NaN or infinite" in measure_mask(found).failure


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        (np.zeros((96, 128, 3)), r"one class of one image.*Received: shape \(96, 128, 3\).*maps\[i, :, :, k\]"),
        (np.zeros((2, 96, 128, 1)), r"Received: shape \(2, 96, 128, 1\)"),
        (np.zeros((0, 128)), r"Received: shape \(0, 128\)"),
        (np.linspace(-6, 6, 96 * 128).reshape(96, 128), "values from -6 to 6. Apply the sigmoid to logits"),
        (np.full((96, 128), 255, np.uint8), "values from 255 to 255.*divide a 0/255 mask by 255"),
    ],
)
def test_what_is_no_probability_map_is_refused(probabilities, words):
    with pytest.raises(ValueError, match=words):
        map_to_image(probabilities, (540, 800))


def test_an_image_shape_with_channels_is_refused():
    with pytest.raises(ValueError, match="A grey image has the shape"):
        map_to_image(np.zeros((96, 128)), (540, 800, 3))


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(maps)
    assert results.attempted >= 3
    assert results.failed == 0


# Relevance


def test_relevance_keeps_its_sign_and_never_exceeds_its_neighbours():
    relevance = np.zeros((54, 80), np.float32)
    relevance[20, 30], relevance[20, 31] = 5.0, -4.0
    at_image = relevance_to_image(relevance, (540, 800))
    assert (at_image.max(), at_image.min()) == pytest.approx((5.0, -4.0), rel=0.15)
    assert at_image.max() <= 5.0
    assert at_image.min() >= -4.0
    assert at_image[204, 304] > 4  # the middle of the pixel (20, 30)
    assert at_image[204, 315] < -3
    assert not at_image[:180].any()


def test_relevance_on_the_border_is_cut_off():
    relevance = np.ones((54, 80), np.float32)
    relevance[:, :20] = relevance[:, 60:] = 7.0
    at_image = relevance_to_image(relevance, (540, 400))
    assert at_image.shape == (540, 400)
    np.testing.assert_array_equal(at_image[:, 6:-6], 1.0)


def test_relevance_of_oblong_pixels_has_the_images_own_shape():
    relevance = np.repeat(np.linspace(-1, 1, 80, dtype=np.float32)[None], 54, axis=0)
    at_image = relevance_to_image(relevance, (540, 800), (270, 800))
    assert at_image.shape == (270, 800)
    np.testing.assert_allclose(at_image[100], relevance_to_image(relevance, (540, 800))[200], atol=1e-6)


@pytest.mark.parametrize("shape", [(54, 80, 1), (0, 80), (80,)])
def test_relevance_is_of_the_pixels_of_one_image(shape):
    with pytest.raises(ValueError, match=r"of shape \(height, width\)\. Received: shape .*Sum over channels"):
        relevance_to_image(np.zeros(shape), (540, 800))
