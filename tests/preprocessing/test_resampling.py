"""Resampling by one matrix an axis: rows by hand, symmetries, and volumes that stay what they were."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.preprocessing import resampling
from hcreg.preprocessing.resampling import label_fractions, resample, resampling_matrix

quick = settings(max_examples=15, deadline=None)
spacings = st.floats(0.5, 4.0)
sizes = st.integers(1, 12)


def heart(shape, spacing_mm, radius_mm=40.0, height_mm=45.0, apex=1.0):
    """Label map of nested ellipsoids about the middle: LV cavity, its wall, and an RV that leans on it."""
    row, column, slice_ = (
        (np.arange(size) - (size - 1) / 2) * spacing for size, spacing in zip(shape, spacing_mm, strict=True)
    )
    row, column, slice_ = row[:, None, None], column[None, :, None], slice_[None, None, :] / height_mm
    distance = np.sqrt((row**2 + column**2) / radius_mm**2 + slice_**2)
    rv = np.sqrt((row**2 + (column + radius_mm) ** 2) / radius_mm**2 + slice_**2) < 0.9
    labels = np.where(distance < 0.7, 3, np.where(distance < 1, 2, np.where(rv, 1, 0)))
    labels[:, :, np.broadcast_to(slice_ > apex, labels.shape)[0, 0]] = 0  # cut off, as at the valves
    return labels.astype(np.uint8)


def sizes_ml(shares, spacing_mm):
    return shares[..., 1:].sum((0, 1, 2), dtype=np.float64) * np.prod(spacing_mm) / 1000


# The matrix


@quick
@given(sizes, spacings, sizes, spacings)
def test_weights_of_a_new_sample_sum_to_one(num_in, spacing_in, num_out, spacing_out):
    matrix = resampling_matrix(num_in, spacing_in, num_out, spacing_out)
    assert matrix.shape == (num_out, num_in)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    inside = resampling_matrix(num_in, spacing_in, num_out, spacing_out, "zero")
    assert (inside <= matrix).all()


def test_halving_by_hand():
    """A triangle two samples to either side: 1/8, 3/8, 3/8, 1/8, the first of them outside."""
    edge = [[0.5, 0.375, 0.125, 0.0], [0.0, 0.125, 0.375, 0.5]]
    zero = [[0.375, 0.375, 0.125, 0.0], [0.0, 0.125, 0.375, 0.375]]
    assert resampling_matrix(4, 1.0, 2, 2.0).tolist() == edge
    assert resampling_matrix(4, 1.0, 2, 2.0, "zero").tolist() == zero


def test_doubling_by_hand():
    quarters = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert resampling_matrix(2, 3.0, 4, 1.5).tolist() == quarters
    quarters[0], quarters[3] = [0.75, 0], [0, 0.75]
    assert resampling_matrix(2, 3.0, 4, 1.5, "zero").tolist() == quarters


def test_a_larger_grid_pads_on_both_sides():
    assert resampling_matrix(2, 1.0, 4, 1.0, "edge").tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert resampling_matrix(2, 1.0, 4, 1.0, "zero").tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_a_matrix_shared_between_calls_is_not_written_to():
    with pytest.raises(ValueError, match="read-only"):
        resampling_matrix(4, 1.0, 2, 2.0)[0, 0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 1.0, 4, 1.0), r"one sample or more\. Received: 0 samples, to be resampled to 4"),
        ((4, 1.0, 0, 1.0), r"one sample or more\. Received: 4 samples, to be resampled to 0"),
        ((4, 0.0, 4, 1.0), r"Spacings must be positive numbers\. Received: 0\.0 and 1\.0"),
        ((4, 1.0, 4, float("nan")), r"Spacings must be positive numbers\. Received: 1\.0 and nan"),
        ((4, 1.0, 4, 1.0, "mirror"), r"'edge' or 'zero'\. Received: outside='mirror'"),
    ],
)
def test_what_is_no_grid_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        resampling_matrix(*arguments)


# Arrays


def test_the_same_grid_changes_nothing():
    array = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(resample(array, (1.4, 1.5, 9.9), (5, 4, 3), (1.4, 1.5, 9.9)), array)


@pytest.mark.parametrize("new_spacing_mm", [(0.5, 0.8, 2.5), (4.0, 4.0, 20.0)])
def test_a_slope_stays_a_slope(new_spacing_mm):
    """The value at a place in mm is what it was, but for a border as wide as the kernel."""
    spacing_mm, shape = (2.0, 2.0, 10.0), (40, 44, 30)
    places = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    slope = sum(factor * place * mm for factor, place, mm in zip((1.0, -2.0, 0.3), places, spacing_mm))
    new_shape = (9, 7, 5)
    places = np.indices(new_shape) - (np.array(new_shape)[:, None, None, None] - 1) / 2
    expected = sum(factor * place * mm for factor, place, mm in zip((1.0, -2.0, 0.3), places, new_spacing_mm))
    np.testing.assert_allclose(resample(slope, spacing_mm, new_shape, new_spacing_mm), expected, atol=1e-3)


@quick
@given(
    st.tuples(sizes, sizes, sizes),
    st.tuples(spacings, spacings, spacings),
    st.tuples(sizes, sizes, sizes),
    st.sampled_from(["edge", "zero"]),
)
def test_flips_commute_with_resampling(shape, spacing_mm, new_shape, outside):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    straight = resample(array, spacing_mm, new_shape, (1.0, 2.0, 3.0), outside)
    for axis in range(3):
        flipped = resample(np.flip(array, axis), spacing_mm, new_shape, (1.0, 2.0, 3.0), outside)
        np.testing.assert_allclose(np.flip(flipped, axis), straight, atol=1e-5)


def test_channels_are_resampled_each_by_itself():
    array = np.random.default_rng(1).normal(size=(6, 5, 4, 2)).astype(np.float32)
    grids = (1.0, 1.0, 2.0), (3, 7, 5), (2.0, 0.7, 1.5)
    both = resample(array, *grids)
    assert both.shape == (3, 7, 5, 2)
    assert both.dtype == np.float32
    for channel in range(2):
        np.testing.assert_allclose(both[..., channel], resample(array[..., channel], *grids), atol=1e-6)


def test_a_constant_stays_constant_to_the_border_and_beyond():
    array = np.full((6, 5, 4), 7.0)
    np.testing.assert_allclose(resample(array, (1, 1, 1), (20, 3, 9), (0.7, 1.9, 1.0)), 7.0, rtol=1e-6)
    beyond = resample(array, (1, 1, 1), (20, 5, 4), (1, 1, 1), "zero")
    assert beyond[:7].max() == beyond[13:].max() == 0
    np.testing.assert_array_equal(beyond[7:13], array)


# Labels


@quick
@given(
    st.floats(1.2, 1.95),
    st.floats(1.2, 2.5),
    st.floats(25.0, 45.0),
    st.sampled_from([5.0, 8.0, 10.0]),
    st.sampled_from([0.35, 1.0]),
)
def test_volumes_are_kept_within_one_percent_in_the_plane(pixel_mm, new_pixel_mm, radius_mm, slice_mm, apex):
    spacing_mm, shape = (pixel_mm, pixel_mm * 1.02, slice_mm), (110, 128, round(100 / slice_mm))
    labels = heart(shape, spacing_mm, radius_mm, apex=apex)
    grid = (round(170 / new_pixel_mm), round(220 / new_pixel_mm), shape[2]), (new_pixel_mm, new_pixel_mm, slice_mm)
    counted = np.bincount(labels.ravel(), minlength=4)[1:] * np.prod(spacing_mm) / 1000
    assert counted.min() > 10
    np.testing.assert_allclose(sizes_ml(label_fractions(labels, spacing_mm, *grid), grid[1]), counted, rtol=0.01)


@quick
@given(st.floats(1.2, 1.95), st.floats(5.0, 10.0), st.floats(1.2, 2.5), st.floats(3.0, 10.0), st.floats(25.0, 45.0))
def test_volumes_are_kept_within_one_percent_on_all_axes(pixel_mm, slice_mm, new_pixel_mm, new_slice_mm, radius_mm):
    spacing_mm, shape = (pixel_mm, pixel_mm, slice_mm), (110, 128, round(120 / slice_mm))
    labels = heart(shape, spacing_mm, radius_mm)
    new_spacing_mm = (new_pixel_mm, new_pixel_mm, new_slice_mm)
    new_shape = (round(170 / new_pixel_mm), round(220 / new_pixel_mm), round(140 / new_slice_mm))
    counted = np.bincount(labels.ravel(), minlength=4)[1:] * np.prod(spacing_mm) / 1000
    kept = sizes_ml(label_fractions(labels, spacing_mm, new_shape, new_spacing_mm), new_spacing_mm)
    np.testing.assert_allclose(kept.sum(), counted.sum(), rtol=0.01)
    # a cavity of five slices from 8 to 9 mm: 1.1 %, the worst that was found
    np.testing.assert_allclose(kept, counted, rtol=0.015)


def test_shares_of_a_voxel_sum_to_one_and_outside_is_background():
    labels = heart((60, 70, 9), (1.5, 1.5, 10.0), 30.0)
    shares = label_fractions(labels, (1.5, 1.5, 10.0), (90, 80, 15), (1.3, 1.7, 8.0))
    assert shares.shape == (90, 80, 15, 4)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    assert shares.min() >= 0
    np.testing.assert_array_equal(shares[0, 0, 0], [1, 0, 0, 0])


def test_no_wall_grows_between_two_cavities():
    """The mean of RV (1) and LV (3) is 2, the number of the myocardium: shares do not average numbers."""
    labels = np.ones((4, 4, 1), np.uint8)
    labels[:, 2:] = 3
    shares = label_fractions(labels, (1, 1, 1), (4, 7, 1), (1, 0.5, 1))
    assert shares[..., 2].max() == 0
    np.testing.assert_allclose(shares[0, 3, 0], [0, 0.5, 0, 0.5])


def test_like_grids_give_whole_shares():
    labels = heart((40, 40, 5), (2.0, 2.0, 10.0), 25.0)
    shares = label_fractions(labels, (2.0, 2.0, 10.0), (40, 40, 5), (2.0, 2.0, 10.0))
    np.testing.assert_array_equal(shares, np.eye(4)[labels])


def test_examples():
    result = doctest.testmod(resampling)
    assert (result.failed, result.attempted) == (0, 1)
