"""Spread of repeated measurements: hand numbers, properties, and every error by its words."""

import doctest
import math

import numpy as np
import pytest

from hcreg import statistics
from hcreg.statistics import repeated
from hcreg.statistics.repeated import reproducibility


def test_mean_of_the_deviations_of_three_heads_by_hand():
    # 100 102 104: deviation 2. 200 203 203: mean 202, squares 4 + 1 + 1 over 2, root of 3. 50 50 50: 0.
    values = [100, 102, 104, 200, 203, 203, 50, 50, 50]
    found = reproducibility(values, ["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    assert found.sd_of_subject == pytest.approx({"a": 2.0, "b": math.sqrt(3), "c": 0.0})
    assert found.mean_sd == pytest.approx((2 + math.sqrt(3)) / 3)
    assert found.within_subject_sd == pytest.approx(math.sqrt((4 + 3 + 0) / 3))
    assert (found.num_measurements, found.left_out) == (9, ())


def test_subjects_of_other_numbers_of_scans_weigh_by_their_freedom():
    # a: 0 2, variance 2, one degree of freedom; b: 0 3 6, variance 9, two; c was measured once.
    found = reproducibility([0, 0, 2, 3, 7, 6], ["a", "b", "a", "b", "c", "b"])
    assert found.mean_sd == pytest.approx((math.sqrt(2) + 3) / 2)
    assert found.within_subject_sd == pytest.approx(math.sqrt((2 + 2 * 9) / 3))
    assert (found.num_measurements, found.left_out) == (5, ("c",))


def test_it_is_of_the_unit_and_knows_nothing_of_the_subjects_sizes():
    rng = np.random.default_rng(0)
    subjects = np.repeat(list("abcd"), 3)
    values = rng.normal(size=12)
    found = reproducibility(values, subjects)
    moved = reproducibility(values + np.repeat(rng.normal(0, 100, 4), 3), subjects)
    scaled = reproducibility(1000 * values, subjects)
    assert moved.mean_sd == pytest.approx(found.mean_sd)
    assert scaled.mean_sd == pytest.approx(1000 * found.mean_sd)
    assert scaled.within_subject_sd == pytest.approx(1000 * found.within_subject_sd)


def test_many_scans_find_the_deviation_they_were_drawn_with():
    values = np.random.default_rng(1).normal(0, 5, (4000, 3))
    found = reproducibility(values.ravel(), np.repeat(np.arange(4000), 3))
    assert found.within_subject_sd == pytest.approx(5, rel=0.03)
    # Known: a standard deviation of three falls short by the factor sqrt(pi) / 2 on average.
    assert found.mean_sd == pytest.approx(5 * math.sqrt(math.pi) / 2, rel=0.03)


@pytest.mark.parametrize(
    ("values", "subjects", "words"),
    [
        ([1, 2, 3], ["a", "a"], r"must be of one length\. Received: 3 values and 2 subjects"),
        ([1, 2, 3], ["a", "b", "c"], r"no subject was measured twice: 3 subjects, one value each\. Give the same"),
        ([1, np.nan, 3], ["a"] * 3, r"values must be finite\. NaN or infinite: 1 of 3 subjects, at 1"),
        ([1], ["a"], r"values needs at least 2 values\. Received: 1"),
    ],
)
def test_what_cannot_be_told_is_refused(values, subjects, words):
    with pytest.raises(ValueError, match=words):
        reproducibility(values, subjects)


def test_it_is_exported_and_its_example_runs():
    for name in repeated.__all__:
        assert getattr(statistics, name) is getattr(repeated, name)
        assert name in statistics.__all__
    results = doctest.testmod(repeated)
    assert (results.attempted, results.failed) == (2, 0)
