"""Tukey's fences: hand numbers, what they keep, and what they refuse."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.statistics import outliers, tukey_fences, without_outliers

PROPERTIES = settings(deadline=None, derandomize=True)
VALUES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=30)


@pytest.mark.parametrize(("k", "expected"), [(0, (3.0, 7.0)), (1.5, (-3.0, 13.0)), (5, (-17.0, 27.0))])
def test_fences_stand_k_ranges_from_the_quartiles(k, expected):
    # Nine values: the quartiles are the 3rd and the 7th, 4 apart.
    assert tukey_fences([9, 2, 7, 4, 5, 6, 3, 8, 1], k) == expected


def test_quartiles_are_interpolated_linearly():
    # Four values: first quartile at rank 1.75, third at 3.25: 1.75 and 3.25, 1.5 apart.
    assert tukey_fences([1, 2, 3, 4], 1) == (0.25, 4.75)


def test_a_value_on_the_fence_is_kept_and_one_beyond_is_not():
    # Quartiles 2 and 4 in both, fences -1 and 7.
    np.testing.assert_array_equal(without_outliers([7, 1, 2, 3, 4]), [7, 1, 2, 3, 4])
    np.testing.assert_array_equal(without_outliers([7.01, 1, 2, 3, 4]), [1, 2, 3, 4])
    np.testing.assert_array_equal(without_outliers([7.01, 1, 2, 3, 4], k=5), [7.01, 1, 2, 3, 4])


def test_half_equal_values_shut_out_all_others():
    np.testing.assert_array_equal(without_outliers([0.1, 0.1, 0.1, 0.1, 0.2]), [0.1] * 4)
    np.testing.assert_array_equal(without_outliers([0.1, 0.1, 0.1]), [0.1] * 3)


@PROPERTIES
@given(VALUES, st.sampled_from([0.5, 1.5, 3, 5]), st.integers(-50, 50), st.integers(1, 9))
def test_fences_move_and_stretch_with_the_values(values, k, shift, factor):
    lower, upper = tukey_fences(values, k)
    moved = tukey_fences(factor * np.array(values) + shift, k)
    assert moved == pytest.approx((factor * lower + shift, factor * upper + shift))
    mirrored = tukey_fences(-np.array(values), k)
    assert mirrored == pytest.approx((-upper, -lower))


@PROPERTIES
@given(VALUES)
def test_wider_fences_keep_more_and_half_is_always_kept(values):
    kept = [without_outliers(values, k).size for k in (1.5, 3, 5)]
    assert kept == sorted(kept)
    assert kept[0] >= len(values) / 2


@pytest.mark.parametrize(
    ("values", "k", "words"),
    [
        ([], 1.5, "values needs at least 1 values"),
        ([1.0, np.nan], 1.5, r"values must be finite. NaN or infinite: 1 of 2 subjects, at 1\."),
        ([[1.0]], 1.5, r"values must be of shape \(num_subjects,\)"),
        ([1.0], -1, "k must be a finite number of interquartile ranges, 0 or more. Received: -1"),
        ([1.0], np.inf, "Received: inf"),
        ([1.0], np.nan, "Received: nan"),
    ],
)
@pytest.mark.parametrize("function", [tukey_fences, without_outliers])
def test_refuses_what_has_no_fences(function, values, k, words):
    with pytest.raises(ValueError, match=words):
        function(values, k)


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(outliers)
    assert results.attempted >= 2
    assert results.failed == 0
