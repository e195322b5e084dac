"""EllipseMoments: known ellipses, NumPy's own eigenvalues, symmetries, degenerate masks, gradients, Keras, JAX."""

import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hcreg
from hcreg import backend
from hcreg.geometry import Ellipse, ellipse_circumference, resize_matrix
from hcreg.layers import EllipseMoments

ROOT = os.path.dirname(os.path.dirname(hcreg.__file__))
OUTPUTS = {"center": 2, "semi_axes": 2, "angle": 1, "circumference": 1}
ONE_PIXEL_DISC = {"semi_axes": 1 / math.sqrt(math.pi), "circumference": 2 * math.sqrt(math.pi)}


def coverage(ellipse, shape, num_samples=12):
    """Share of each pixel inside the ellipse, from num_samples x num_samples points in it."""
    fine = tuple(size * num_samples for size in shape)
    mask = ellipse.transformed(resize_matrix(shape, fine)).mask(fine)
    return mask.reshape(shape[0], num_samples, shape[1], num_samples).mean(axis=(1, 3), dtype=np.float32)


def binary(ellipse, shape):
    return ellipse.mask(shape).astype(np.float32)


def random_ellipses(number, smallest_px, largest_px, shape=(128, 128), seed=0):
    """Ellipses wholly within the frame, no semi-axis below smallest_px, every fourth one a disc."""
    rng = np.random.default_rng(seed)
    ellipses = []
    for index in range(number):
        a = rng.uniform(smallest_px, largest_px)
        b = a if index % 4 == 0 else max(a * rng.uniform(0.66, 1.0), smallest_px)
        x, y = (rng.uniform(a + 1, size - a - 2) for size in shape[::-1])
        ellipses.append(Ellipse.from_axes(x, y, a, b, rng.uniform(0, math.pi)))
    return ellipses


def measure(masks, pixel_size=None, **options):
    masks = np.asarray(masks)
    layer = EllipseMoments(**options)
    measured = layer(masks) if pixel_size is None else layer(masks, pixel_size=pixel_size)
    return {name: keras.ops.convert_to_numpy(value) for name, value in measured.items()}


def gradient(mask, name, layer=None):
    layer = layer or EllipseMoments()
    return np.asarray(backend.gradient(lambda x: layer(x)[name], np.asarray(mask, np.float32)[None]))[0]


def errors_percent(measured, ellipses):
    """Relative errors of circumference and semi-axes, in percent."""
    circumference = np.array([[e.circumference_px] for e in ellipses])
    axes = np.array([[e.semi_axis_a_px, e.semi_axis_b_px] for e in ellipses])
    return 100 * (measured["circumference"] / circumference - 1), 100 * (measured["semi_axes"] / axes - 1)


# Known ellipses


def test_four_points_by_hand():
    mask = np.zeros((1, 5, 9), np.float32)
    mask[0, [2, 2, 0, 4], [0, 8, 4, 4]] = 1.0  # variances (16 + 16) / 4 and (4 + 4) / 4
    measured = measure(mask, antialiased=False)
    assert measured["center"][0] == pytest.approx([4.0, 2.0])
    assert measured["semi_axes"][0] == pytest.approx([2 * math.sqrt(8), 2 * math.sqrt(2)])
    assert measured["angle"][0] == 0.0
    # h = 1/9: pi sqrt(72) (1 + (1/3) / (10 + sqrt(11/3)))
    assert measured["circumference"][0, 0] == pytest.approx(27.403, abs=1e-3)
    corrected = measure(mask)["semi_axes"][0]
    assert corrected == pytest.approx([2 * math.sqrt(8 - 1 / 12), 2 * math.sqrt(2 - 1 / 12)])


@pytest.mark.parametrize(("smallest_px", "largest_px", "tolerance_percent"), [(12, 14, 0.06), (20, 60, 0.02)])
def test_antialiased_ellipses_within_a_tenth_of_a_percent(smallest_px, largest_px, tolerance_percent):
    ellipses = random_ellipses(24, smallest_px, largest_px)
    measured = measure([coverage(e, (128, 128)) for e in ellipses])
    circumference, axes = errors_percent(measured, ellipses)
    assert np.abs(circumference).max() < tolerance_percent < 0.1
    assert np.abs(axes).max() < tolerance_percent
    assert abs(circumference.mean()) < tolerance_percent / 6  # no bias: without the correction it is 0.10 % at 12 px
    assert measured["center"] == pytest.approx(np.array([[e.center_x_px, e.center_y_px] for e in ellipses]), abs=0.01)
    for ellipse, angle in zip(ellipses, measured["angle"][:, 0], strict=True):
        if ellipse.semi_axis_a_px > 1.05 * ellipse.semi_axis_b_px:
            off = (angle - ellipse.angle_rad + math.pi / 2) % math.pi - math.pi / 2
            assert abs(off) < 0.01


@pytest.mark.parametrize(
    ("smallest_px", "largest_px", "rms_percent", "largest_percent"),
    [(12, 14, 0.4, 1.0), (20, 40, 0.13, 0.4), (40, 60, 0.06, 0.15)],
)
def test_binary_masks_are_unbiased_and_as_good_as_their_border(smallest_px, largest_px, rms_percent, largest_percent):
    ellipses = random_ellipses(200, smallest_px, largest_px, seed=1)
    masks = np.stack([binary(e, (128, 128)) for e in ellipses])
    circumference, _ = errors_percent(measure(masks, antialiased=False), ellipses)
    assert np.sqrt(np.mean(circumference**2)) < rms_percent
    assert np.abs(circumference).max() < largest_percent
    assert abs(circumference.mean()) < 3 * rms_percent / math.sqrt(200)


def test_correction_of_an_antialiased_mask_is_a_twelfth_of_a_square_pixel():
    ellipses = random_ellipses(40, 12, 14, seed=2)
    bias, _ = errors_percent(measure([coverage(e, (128, 128)) for e in ellipses], antialiased=False), ellipses)
    mean_radius_squared = np.mean([e.semi_axis_a_px * e.semi_axis_b_px for e in ellipses])
    assert bias.mean() == pytest.approx(100 / 2 * (1 / 12) / (mean_radius_squared / 4), rel=0.15)


def test_axes_and_angle_are_those_of_numpys_eigenvectors():
    rng = np.random.default_rng(3)
    masks = rng.random((6, 20, 30)) ** 3
    sizes = rng.uniform(0.3, 4.0, (6, 2))
    measured = measure(masks.astype(np.float32), sizes.astype(np.float32), antialiased=False)
    y, x = np.mgrid[:20, :30]
    for index, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        points = np.stack([x.ravel() * size[0], y.ravel() * size[1]])
        center = np.average(points, axis=1, weights=mask.ravel())
        covariance = np.cov(points, aweights=mask.ravel(), ddof=0)
        values, vectors = np.linalg.eigh(covariance)
        a, b = 2 * np.sqrt(values[::-1])
        assert measured["center"][index] == pytest.approx(center, rel=1e-5)
        assert measured["semi_axes"][index] == pytest.approx([a, b], rel=1e-5)
        angle = measured["angle"][index, 0]
        assert abs(np.dot(vectors[:, 1], [math.cos(angle), math.sin(angle)])) == pytest.approx(1.0, abs=1e-6)
        assert measured["circumference"][index, 0] == pytest.approx(ellipse_circumference(a, b), rel=1e-6)


def test_small_head_in_the_corner_of_a_large_frame_keeps_its_digits():
    ellipse = Ellipse(770.0, 20.0, 14.0, 13.0, 0.4)
    mask = binary(ellipse, (540, 800))
    y, x = np.nonzero(mask)
    expected = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(np.stack([x, y]).astype(float), ddof=0))[::-1])
    assert measure(mask[None], antialiased=False)["semi_axes"][0] == pytest.approx(expected, rel=1e-5)


# Pixel size


def test_pixels_of_unequal_sides():
    size = (6.25, 5.625)  # a frame of 800x540 seen at 128x96
    ellipses = random_ellipses(12, 14, 40, shape=(96, 128), seed=4)
    measured = measure([coverage(e, (96, 128)) for e in ellipses], pixel_size=None)
    in_frame = [e.transformed([[size[0], 0.0, 0.0], [0.0, size[1], 0.0]]) for e in ellipses]
    layer = EllipseMoments(pixel_size=size)
    measured = {k: np.asarray(v) for k, v in layer(np.stack([coverage(e, (96, 128)) for e in ellipses])).items()}
    circumference, axes = errors_percent(measured, in_frame)
    assert np.abs(circumference).max() < 0.05
    assert np.abs(axes).max() < 0.05
    assert measured["center"] == pytest.approx(np.array([[e.center_x_px, e.center_y_px] for e in in_frame]), abs=0.05)


def test_pixel_size_of_each_image_overrides_the_constant_one():
    mask = coverage(Ellipse(30.0, 20.0, 16.0, 12.0, 0.3), (48, 64))
    sizes = np.array([[1.0, 1.0], [2.0, 0.5], [0.1, 0.1]], np.float32)
    together = measure(np.stack([mask] * 3), sizes)
    for index, size in enumerate(sizes):
        layer = EllipseMoments(pixel_size=tuple(float(side) for side in size))
        for name, value in layer(mask[None]).items():
            assert together[name][index] == pytest.approx(np.asarray(value)[0], rel=1e-6), name


def test_one_number_is_a_square_pixel_and_the_top_left_pixel_has_its_centre_at_zero():
    mask = np.zeros((1, 4, 6), np.float32)
    mask[0, 0, 0] = 1.0
    assert measure(mask)["center"] == pytest.approx(np.zeros((1, 2)), abs=1e-6)
    mask = np.roll(mask, (1, 3), axis=(1, 2))
    layer = EllipseMoments(pixel_size=0.5)
    assert layer.pixel_size == (0.5, 0.5)
    assert np.asarray(layer(mask)["center"])[0] == pytest.approx([1.5, 0.5])


def test_pixel_size_that_is_not_positive_in_a_tensor_shows_as_nan():
    mask = np.ones((1, 8, 8), np.float32)
    for size in ((0.0, 1.0), (1.0, -1.0)):
        assert np.isnan(measure(mask, np.array([size], np.float32))["circumference"]).all()


heads = st.builds(
    Ellipse.from_axes,
    st.floats(16.0, 23.0),
    st.floats(16.0, 23.0),
    st.floats(6.0, 14.0),
    st.floats(6.0, 14.0),
    st.floats(0.0, 3.14),
)
LENGTHS = ("semi_axes", "circumference")


@given(heads, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_turning_flipping_and_transposing_leave_the_lengths(head, seed):
    noise = np.random.default_rng(seed).uniform(0.0, 0.2, (40, 40))
    mask = np.clip(binary(head, (40, 40)) * 0.8 + noise, 0.0, 1.0).astype(np.float32)
    turned = [np.rot90(mask), np.rot90(mask, 2), mask[::-1], mask[:, ::-1], mask.T]
    measured = measure(np.stack([mask, *turned]))
    for name in LENGTHS:
        assert measured[name] == pytest.approx(np.broadcast_to(measured[name][:1], measured[name].shape), rel=2e-5)


@given(heads, st.floats(1e-6, 1e6), st.floats(0.3, 3.0))
@settings(max_examples=25, deadline=None)
def test_pixels_k_times_as_large_make_lengths_k_times_as_long(head, k, width):
    mask = np.stack([binary(head, (40, 40))] * 2)
    measured = measure(mask, np.array([[width, 1.0], [k * width, k]], np.float32))
    for name in (*LENGTHS, "center"):
        assert measured[name][1] == pytest.approx(k * measured[name][0], rel=1e-5), name
    assert measured["angle"][1] == pytest.approx(measured["angle"][0], abs=1e-4)


@given(heads)
@settings(max_examples=25, deadline=None)
def test_axes_are_in_order_the_angle_in_its_range_and_circumference_theirs(head):
    measured = measure(binary(head, (40, 40))[None])
    a, b = measured["semi_axes"][0].astype(float)
    assert a >= b > 0
    assert 0 <= float(measured["angle"][0, 0]) < math.pi
    assert measured["circumference"][0, 0] == pytest.approx(ellipse_circumference(a, b), rel=1e-5)
    Ellipse(*measured["center"][0].tolist(), a, b, float(measured["angle"][0, 0]))  # refuses what is no ellipse


# Degenerate masks


def degenerate_masks():
    shape = (48, 64)
    names = ("empty", "pixel", "row", "column", "diagonal", "two pixels", "cross")
    masks = {name: np.zeros(shape, np.float32) for name in names}
    masks["pixel"][3, 5] = 1.0
    masks["row"][20, 5:50] = 1.0
    masks["column"][5:40, 20] = 1.0
    masks["diagonal"][np.arange(40), np.arange(40)] = 1.0
    masks["two pixels"][[0, 47], [0, 63]] = 1.0
    masks["cross"][[20, 20, 16, 24], [26, 34, 30, 30]] = 1.0  # exactly equal variances, no rounding
    masks["full"] = np.ones(shape, np.float32)
    masks["nearly full"] = np.full(shape, 1.0 - 1e-6, np.float32)
    masks["nearly empty"] = np.full(shape, 1e-8, np.float32)
    masks["smallest numbers"] = np.full(shape, 1e-42, np.float32)
    masks["disc"] = binary(Ellipse(32.0, 24.0, 15.0, 15.0, 0.0), shape)
    masks["square"] = np.pad(np.ones((20, 20), np.float32), ((14, 14), (22, 22)))
    masks["cut by a border"] = coverage(Ellipse(0.0, 24.0, 20.0, 16.0, 0.3), shape)
    masks["cut by a corner"] = coverage(Ellipse(63.0, 47.0, 20.0, 16.0, 0.3), shape)
    return masks


@pytest.mark.parametrize(("sharpness", "trim"), [(None, None), (1.5, None), (3.0, None), (None, 1.25)])
@pytest.mark.parametrize("name", degenerate_masks())
def test_every_mask_gives_finite_numbers_and_bounded_gradients(name, sharpness, trim):
    mask = degenerate_masks()[name]
    layer = EllipseMoments(sharpness=sharpness, trim=trim)
    for output, value in layer(mask[None]).items():
        assert np.isfinite(value).all(), output
        steepest = np.abs(gradient(mask, output, layer)).max()  # px, or rad, per unit of one pixel's probability
        assert steepest < (100 if mask.sum() > 10 else 2e4), output
    assert np.asarray(layer(mask[None])["semi_axes"]).min() > 0.56


@pytest.mark.parametrize("name", ["empty", "pixel"])
def test_empty_mask_and_single_pixel_measure_a_disc_of_one_pixels_area(name):
    mask = degenerate_masks()[name]
    measured = measure(mask[None])
    for output, expected in ONE_PIXEL_DISC.items():
        assert measured[output][0] == pytest.approx(expected, rel=1e-6)
    assert measured["center"][0] == pytest.approx([31.5, 23.5] if name == "empty" else [5.0, 3.0])
    assert not gradient(mask, "circumference").any()


def test_line_is_as_wide_as_the_floor_and_as_long_as_it_is():
    mask = degenerate_masks()["row"]
    measured = measure(mask[None])
    variance = (45**2 - 1) / 12 - 1 / 12
    assert measured["semi_axes"][0] == pytest.approx([2 * math.sqrt(variance - 1 / (4 * math.pi)), 0.5642], rel=1e-4)
    assert measured["circumference"][0, 0] == pytest.approx(ellipse_circumference(*measured["semi_axes"][0]), rel=1e-5)


def test_angle_just_below_a_half_turn_stays_below_it():
    mask = degenerate_masks()["row"]
    mask[10, 40] = 2e-6  # above the right half: a turn by less than what float32 resolves near pi
    angle = float(measure(mask[None])["angle"][0, 0])
    assert 3.14159 < angle < math.pi


def test_angle_of_what_is_a_circle_but_for_noise_is_zero():
    almost, elongated = (coverage(Ellipse(32.0, 24.0, a, 15.0, 0.7), (48, 64)) for a in (15.005, 15.2))
    assert measure(almost[None])["angle"][0, 0] == 0
    assert not gradient(almost, "angle").any()
    assert measure(elongated[None])["angle"][0, 0] == pytest.approx(0.7, abs=0.02)


def test_full_mask_is_the_ellipse_of_the_frame():
    a, b = measure(degenerate_masks()["full"][None], antialiased=False)["semi_axes"][0]
    assert (a, b) == pytest.approx((2 * math.sqrt((64**2 - 1) / 12), 2 * math.sqrt((48**2 - 1) / 12)))


@pytest.mark.parametrize(("center_x_px", "angle_rad", "short_percent"), [(26.98, 0.0, 5.4), (21.49, math.pi / 2, 2.9)])
def test_head_with_a_tenth_cut_off_is_as_much_too_small_as_the_notes_say(center_x_px, angle_rad, short_percent):
    head = Ellipse(center_x_px, 64.0, 40.0, 32.0, angle_rad)
    mask = coverage(head, (128, 128))
    assert mask.sum() / (math.pi * 40 * 32) == pytest.approx(0.9, abs=0.002)
    ratio = measure(mask[None])["circumference"][0, 0] / head.circumference_px
    assert 100 * (1 - ratio) == pytest.approx(short_percent, abs=0.1)


# Gradients


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_gradient_is_the_one_of_finite_differences(name, sharpness):
    rng = np.random.default_rng(5)
    mask = coverage(Ellipse(17.0, 12.0, 9.0, 6.0, 0.7), (24, 32)) * 0.8 + 0.1
    mask = np.clip(mask + rng.uniform(-0.05, 0.05, mask.shape), 0.01, 0.99).astype(np.float32)
    layer = EllipseMoments(pixel_size=(1.5, 0.7), sharpness=sharpness)
    analytic = gradient(mask, name, layer)
    for _ in range(4):
        direction = rng.choice([-1.0, 1.0], mask.shape) * (0.5 + analytic / np.abs(analytic).max())
        direction = (0.002 * direction).astype(np.float32)
        after, before = (float(np.sum(layer((mask + s * direction)[None])[name])) for s in (1.0, -1.0))
        assert (after - before) / 2 == pytest.approx(float(np.sum(analytic * direction)), rel=0.01, abs=2e-4)


def test_gradient_of_a_discs_circumference_is_that_of_its_radius():
    # C = 2 pi sqrt(2 T) for a circle, T the trace of the covariance: dC/dp = (2 pi / radius) (r^2 - T) / mass.
    disc = Ellipse(31.5, 31.5, 20.0, 20.0, 0.0)
    mask = coverage(disc, (64, 64), num_samples=16)
    y, x = np.mgrid[:64, :64] - 31.5
    r_squared = x**2 + y**2
    trace = np.sum(mask * r_squared) / mask.sum()
    expected = 2 * math.pi / 20.0 * (r_squared - trace) / mask.sum()
    assert gradient(mask, "circumference") == pytest.approx(expected, rel=2e-3, abs=1e-5)
    assert not gradient(mask, "angle").any()
    assert np.abs(gradient(mask, "semi_axes")).max() < 0.2


def test_circumferences_gradient_passes_smoothly_through_the_circle():
    stretches_px = (-0.1, -0.01, 0.0, 0.01, 0.1)
    masks = [coverage(Ellipse.from_axes(32, 32, 15 + s, 15 - s, 0.2), (64, 64), num_samples=64) for s in stretches_px]
    gradients = [gradient(mask, "circumference") for mask in masks]
    steepest = np.abs(gradients[2]).max()
    for stretch_px, other in zip(stretches_px, gradients, strict=True):
        assert np.abs(other - gradients[2]).max() < (0.25 * abs(stretch_px) + 1e-5) * steepest


def test_loss_on_the_circumference_alone_draws_a_soft_disc_to_it():
    y, x = np.mgrid[:32, :32].astype(np.float32) - 15.5
    distance = np.hypot(x, y)[None]
    layer = EllipseMoments()

    def loss(radius):
        mask = keras.ops.sigmoid(radius - distance)
        return keras.ops.square(layer(mask)["circumference"] - 2 * math.pi * 10.0)

    radius = np.float32(7.0)
    for _ in range(60):
        radius = radius - np.float32(0.008) * np.asarray(backend.gradient(loss, radius))
    assert float(np.asarray(loss(radius))[0, 0]) < 1e-3


# Background and sharpness


def test_background_lengthens_the_circumference_and_sharpness_takes_it_back():
    head = Ellipse(63.5, 47.5, 20.0, 20.0, 0.0)
    mask = 0.01 + 0.98 * coverage(head, (96, 128))
    excess = {s: errors_percent(measure(mask[None], sharpness=s), [head])[0][0, 0] for s in (None, 2, 3)}
    assert excess == pytest.approx({None: 36.8, 2: 0.58, 3: 0.18}, abs=0.05)


@pytest.mark.parametrize(("sharpness", "tolerance_percent"), [(1.0, 0.06), (2.0, 0.25), (3.0, 0.4)])
def test_sharpness_costs_little_on_clean_masks(sharpness, tolerance_percent):
    ellipses = random_ellipses(24, 12, 14)
    masks = np.stack([coverage(e, (128, 128)) for e in ellipses])
    circumference, _ = errors_percent(measure(masks, sharpness=sharpness), ellipses)
    assert np.abs(circumference).max() < tolerance_percent
    assert abs(circumference.mean()) < 0.08
    if sharpness == 1.0:
        assert measure(masks, sharpness=1.0)["semi_axes"] == pytest.approx(measure(masks)["semi_axes"], rel=1e-5)


def test_sharpness_bears_probabilities_that_rounding_put_outside_their_range():
    mask = binary(Ellipse(31.5, 23.5, 15.0, 12.0, 0.0), (48, 64))
    off = mask + np.where(mask > 0, 1e-6, -1e-6).astype(np.float32)
    assert measure(off[None], sharpness=1.5)["circumference"] == pytest.approx(
        measure(mask[None], sharpness=1.5)["circumference"], rel=1e-5
    )


# Specks


def test_specks_lengthen_the_circumference_and_trimming_leaves_nothing_of_it():
    head, speck = Ellipse(80.0, 64.0, 40.0, 30.0, 0.3), Ellipse(170.0, 64.0, 5.0, 5.0, 0.0)
    clean = coverage(head, (128, 192))
    both = np.maximum(clean, coverage(speck, (128, 192)))
    excess = {trim: errors_percent(measure(both[None], trim=trim), [head])[0][0, 0] for trim in (None, 1.25, 1.5)}
    assert excess == pytest.approx({None: 10.64, 1.25: -0.03, 1.5: 0.0}, abs=0.01)
    assert measure(both[None], trim=1.5)["center"][0] == pytest.approx([80.0, 64.0], abs=0.01)
    far = gradient(both, "circumference", EllipseMoments(trim=1.25))[:, 160:]
    assert np.abs(far).max() < 1e-3 * np.abs(gradient(both, "circumference")[:, 160:]).max()


@pytest.mark.parametrize(("size_px", "percent"), [(12, -0.025), (20, -0.029), (60, -0.027)])
def test_trimming_costs_a_clean_head_what_the_notes_say(size_px, percent):
    head = Ellipse(96.3, 64.2, size_px, 0.75 * size_px, 0.7)
    mask = coverage(head, (128, 192))
    assert errors_percent(measure(mask[None], trim=1.25), [head])[0][0, 0] == pytest.approx(percent, abs=0.01)


@pytest.mark.parametrize("trim", [1.0, 5, float("nan")])
def test_a_trim_that_would_cut_the_head_or_nothing_is_refused(trim):
    with pytest.raises(ValueError, match=r"trim must be from 1\.1 to 4 semi-axes"):
        EllipseMoments(trim=trim)


# Keras


def test_masks_of_other_scales_types_and_ranks_measure_the_same():
    mask = Ellipse(30.0, 20.0, 16.0, 12.0, 0.3).mask((48, 64))[None]
    expected = measure(mask.astype(np.float32))
    for other in (mask, mask.astype(np.uint8) * 255, mask.astype(np.float64), mask[..., None].astype(np.float16)):
        for name, value in measure(other).items():
            assert value == pytest.approx(expected[name], rel=1e-6), (name, other.dtype)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_arithmetic_is_float32_under_every_policy(policy):
    mask = coverage(Ellipse(60.0, 45.0, 30.0, 22.0, 1.0), (96, 128))[None]
    expected = measure(mask)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        for layer in (EllipseMoments(), EllipseMoments(dtype=policy)):
            for name, value in layer(mask).items():
                assert keras.backend.standardize_dtype(value.dtype) == "float32"
                assert np.array_equal(value, expected[name])
        assert EllipseMoments().compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_lives_in_a_functional_model_of_unknown_size_and_in_its_file(tmp_path):
    masks = np.stack([coverage(Ellipse(20.0, 14.0, 9.0, 7.0, 0.4), (28, 40))] * 2)[..., None]
    sizes = np.array([[1.0, 2.0], [0.5, 0.5]], np.float32)
    probabilities, pixel_size = keras.Input((None, None, 1)), keras.Input((2,))
    layer = EllipseMoments(pixel_size=(6.25, 5.625), antialiased=False, sharpness=2, trim=3, name="ellipse")
    constant = layer(probabilities)
    assert {name: (value.shape, value.dtype) for name, value in constant.items()} == {
        name: ((None, size), "float32") for name, size in OUTPUTS.items()
    }
    each = layer(probabilities, pixel_size=pixel_size)
    model = keras.Model([probabilities, pixel_size], {"constant": constant, "each": each})
    answer = model.predict([masks, sizes], verbose=0)
    options = {"antialiased": False, "sharpness": 2, "trim": 3}
    for name in OUTPUTS:
        assert answer["each"][name] == pytest.approx(measure(masks, sizes, **options)[name], rel=1e-5)
        assert answer["constant"][name] == pytest.approx(np.asarray(layer(masks)[name]), rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("ellipse").get_config() == layer.get_config()
    again = loaded.predict([masks, sizes], verbose=0)
    for part in answer:
        assert all(np.array_equal(again[part][name], answer[part][name]) for name in OUTPUTS)


def test_configuration_round_trips():
    layer = EllipseMoments((0.1, 0.2), antialiased=False, sharpness=3, trim=2, name="moments")
    config = layer.get_config()
    assert config["trim"] == 2.0
    assert (config["pixel_size"], config["antialiased"], config["sharpness"]) == ([0.1, 0.2], False, 3.0)
    assert EllipseMoments.from_config(config).get_config() == config


def test_jit_compiled_training_steps_match_the_plain_ones():
    masks = np.stack([coverage(e, (32, 32)) for e in random_ellipses(4, 6, 12, shape=(32, 32))])[..., None]
    lengths = 3.0 * measure(masks)["circumference"] / 32
    losses = {}
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        image = keras.Input((32, 32, 1))
        mask = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(image)
        model = keras.Model(image, EllipseMoments(pixel_size=1 / 32)(mask)["circumference"])
        model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
        losses[jit_compile] = [float(model.train_on_batch(masks, lengths)) for _ in range(3)]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses[True][-1] < losses[True][0]


ON_JAX = """
import sys, keras, numpy as np
from hcreg import backend
from hcreg.layers import EllipseMoments
assert backend.name() == "jax"
data = np.load(sys.argv[1])
answer = {}
for sharpness in (None, 2.0):
    layer = EllipseMoments((1.5, 0.7), sharpness=sharpness)
    image = keras.Input((None, None))
    for name, value in keras.Model(image, layer(image)).predict(data["masks"], verbose=0).items():
        answer[f"{name} {sharpness}"] = value
    for name in ("center", "semi_axes", "angle", "circumference"):
        answer[f"{name} {sharpness} gradient"] = backend.gradient(lambda x: layer(x)[name], data["masks"])
np.savez(sys.argv[2], **answer)
"""


@pytest.mark.skipif(backend.name() != "tensorflow", reason="started by this very test")
def test_jax_gives_the_same_numbers_and_gradients(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    masks = np.stack([*degenerate_masks().values(), coverage(Ellipse(30.0, 20.0, 16.0, 12.0, 0.3), (48, 64))])
    np.savez(tmp_path / "in.npz", masks=masks)
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = np.load(tmp_path / "out.npz")
    for sharpness in (None, 2.0):
        layer = EllipseMoments((1.5, 0.7), sharpness=sharpness)
        for name, value in layer(masks).items():
            assert answer[f"{name} {sharpness}"] == pytest.approx(np.asarray(value), rel=1e-4, abs=1e-4), name
            ours = np.asarray(backend.gradient(lambda x, layer=layer, name=name: layer(x)[name], masks))
            theirs = answer[f"{name} {sharpness} gradient"]
            assert np.isfinite(theirs).all()
            for index in (0, -3, -2, -1):  # on the very edge of a floor the two take the one or the other side of it
                scale = float(np.abs(ours[index]).max())
                assert theirs[index] == pytest.approx(ours[index], abs=1e-4 * scale + 1e-6), (name, index)


# Errors by their words


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5, 6, 1)])
def test_wrong_rank_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be of shape \(batch, height, width\) or \(batch, height, width, 1\)"):
        EllipseMoments()(np.ones(shape, np.float32))


def test_several_channels_are_refused_in_graph_and_out():
    for probabilities in (np.ones((1, 4, 5, 3), np.float32), keras.Input((4, 5, 3))):
        with pytest.raises(ValueError, match=r"measures one class.*4, 5, 3\)\. Pass the channels one by one, as prob"):
            EllipseMoments()(probabilities)


@pytest.mark.parametrize("pixel_size", [np.ones(2, np.float32), np.ones((1, 3), np.float32), [[1.0, 1.0]]])
def test_pixel_size_input_of_another_shape_is_refused(pixel_size):
    with pytest.raises(ValueError, match=r"pixel_size of EllipseMoments must be a tensor of shape \(batch, 2\).*Recei"):
        EllipseMoments()(np.ones((1, 4, 5), np.float32), pixel_size=pixel_size)


@pytest.mark.parametrize("pixel_size", [0.0, (1.0, -1.0), (1.0, math.nan), math.inf])
def test_pixel_size_must_be_positive(pixel_size):
    with pytest.raises(ValueError, match=r"pixel_size must be positive and finite\. Received"):
        EllipseMoments(pixel_size)


def test_pixel_size_must_be_one_number_or_two():
    with pytest.raises(ValueError, match=r"pixel_size must be one number or \(x, y\)\. Received: \(1\.0, 1\.0, 1\.0\)"):
        EllipseMoments((1.0, 1.0, 1.0))


@pytest.mark.parametrize("sharpness", [0.5, -1, 17, math.nan])
def test_sharpness_out_of_range_is_refused(sharpness):
    with pytest.raises(ValueError, match=r"sharpness must be from 1 to 16, or None for no sharpening\. Received"):
        EllipseMoments(sharpness=sharpness)
