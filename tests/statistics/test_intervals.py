"""Conformal and bootstrap intervals: exact ranks, whole groups, and coverage by simulation."""

import doctest
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hcreg import statistics
from hcreg.statistics import bootstrap_interval, conformal_quantile, intervals

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)


class TestConformalQuantile:
    @pytest.mark.parametrize(("coverage", "expected"), [(0.9, 9.0), (0.5, 5.0), (0.1, 1.0), (0.85, 9.0)])
    def test_is_the_score_of_rank_ceil_n_plus_1_times_coverage(self, coverage, expected):
        assert conformal_quantile([9, 2, 7, 4, 5, 6, 3, 8, 1], coverage) == expected

    @pytest.mark.parametrize(("num", "coverage"), [(8, 0.9), (18, 0.95), (98, 0.99)])
    def test_is_infinite_one_score_below_the_least_number(self, num, coverage):
        assert conformal_quantile(np.arange(num), coverage) == math.inf
        assert conformal_quantile(np.arange(num + 1), coverage) == num

    @PROPERTIES
    @given(st.integers(1, 400), st.integers(1, 99))
    @example(49, 14)  # 50 * 0.14 is 7.000000000000001
    def test_rank_is_exact_in_spite_of_binary_fractions(self, num, percent):
        rank = math.ceil(Fraction(percent, 100) * (num + 1))
        expected = rank if rank <= num else math.inf
        assert conformal_quantile(np.arange(1, num + 1), percent / 100) == expected

    @settings(PROPERTIES, max_examples=10)
    @given(st.integers(9, 60), st.sampled_from([0.5, 0.8, 0.9]), st.integers(0, 5))
    def test_covers_a_new_subject_as_often_as_promised(self, num, coverage, seed):
        generator = np.random.default_rng(seed)
        draws = generator.gamma(1.5, size=(4000, num + 1))
        quantiles = [conformal_quantile(row[:-1], coverage) for row in draws]
        covered = np.mean(draws[:, -1] <= quantiles)
        # For continuous scores the coverage is between the wanted one and 1 / (n + 1) above it.
        assert coverage - 0.03 < covered < coverage + 1 / (num + 1) + 0.03

    def test_a_subject_in_whom_nothing_was_measured_ranks_last(self):
        # 19 scores: 90 % of 20 ranks is the 18th smallest.
        finite = list(range(1, 20))
        for num_failed, expected in ((0, 18.0), (1, 18.0), (2, math.inf), (19, math.inf)):
            scores = [math.inf] * num_failed + finite[: 19 - num_failed]
            assert conformal_quantile(scores, 0.9) == expected
        assert conformal_quantile([math.inf, 3.0, math.inf, 1.0, 2.0], 0.5) == 3.0

    @pytest.mark.parametrize(
        ("scores", "coverage", "words"),
        [
            ([], 0.9, "scores needs at least 1 values"),
            ([1.0, np.nan], 0.9, "scores must be finite"),
            ([math.inf, np.nan], 0.9, "NaN or infinite: 1 of 2 subjects, at 1"),
            ([1.0, -math.inf], 0.9, "scores must be finite"),
            ([[1.0]], 0.9, r"scores must be of shape \(num_subjects,\)"),
            ([1.0], 1.0, "coverage must lie between 0 and 1, for instance 0.9 for 90 %. Received: 1.0"),
            ([1.0], 90, "Received: 90"),
        ],
    )
    def test_refuses_what_has_no_quantile(self, scores, coverage, words):
        with pytest.raises(ValueError, match=words):
            conformal_quantile(scores, coverage)


class TestBootstrapInterval:
    def test_standard_error_of_a_mean_is_the_textbook_s(self):
        values = np.random.default_rng(4).normal(5, 2, 200)
        found = bootstrap_interval(values, np.mean)
        assert found.estimate == pytest.approx(values.mean())
        assert found.standard_error == pytest.approx(values.std() / 200**0.5, rel=0.06)
        assert (found.lower, found.upper) == pytest.approx(
            (values.mean() - 1.96 * found.standard_error, values.mean() + 1.96 * found.standard_error),
            abs=0.03,
        )

    def test_copies_of_one_image_add_nothing_when_grouped(self):
        values = np.random.default_rng(5).normal(5, 2, 50)
        alone = bootstrap_interval(values, np.mean)
        copied, groups = np.repeat(values, 4), np.repeat(np.arange(50), 4)
        grouped = bootstrap_interval(copied, np.mean, groups)
        assert (grouped.lower, grouped.upper) == pytest.approx((alone.lower, alone.upper), rel=1e-12)
        assert grouped.num_groups == 50
        ungrouped = bootstrap_interval(copied, np.mean)
        assert ungrouped.standard_error == pytest.approx(alone.standard_error / 2, rel=0.1)

    def test_a_group_comes_whole(self):
        values = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
        groups = ["b", "a", "b", "c", "a"]
        wholes = {"a": [10.0, 10000.0], "b": [1.0, 100.0], "c": [1000.0]}
        allowed = {
            tuple(sorted(value for name in drawn for value in wholes[name]))
            for drawn in itertools.product("abc", repeat=3)
        }
        seen = set()

        def record(sample):
            seen.add(tuple(sorted(sample)))
            return sample.mean()

        bootstrap_interval(values, record, groups, num_resamples=500)
        assert seen == allowed

    def test_rows_of_two_columns_stay_together(self):
        y_true = np.random.default_rng(6).uniform(50, 350, 80)
        rows = np.column_stack([y_true, y_true + 3.0])
        found = bootstrap_interval(rows, lambda sample: np.mean(sample[:, 1] - sample[:, 0]))
        assert (found.lower, found.upper) == pytest.approx((3.0, 3.0))

    def test_covers_the_truth(self):
        generator = np.random.default_rng(7)
        covered = 0
        for repeat in range(200):
            centers = generator.normal(0, 1, 40)
            sizes = generator.integers(1, 4, 40)
            groups = np.repeat(np.arange(40), sizes)
            values = centers[groups] + generator.normal(0, 0.2, groups.size)
            found = bootstrap_interval(values, np.mean, groups, confidence=0.9, num_resamples=200, seed=repeat)
            covered += found.lower <= 0 <= found.upper
        assert 0.82 < covered / 200 < 0.96

    def test_equal_seeds_give_equal_intervals(self):
        values = np.arange(30.0)
        assert bootstrap_interval(values, np.median, seed=3) == bootstrap_interval(values, np.median, seed=3)
        assert bootstrap_interval(values, np.mean, seed=3) != bootstrap_interval(values, np.mean, seed=4)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"values": []}, "must have one row per subject"),
            ({"values": [1.0, np.nan]}, "values must be finite. NaN or infinite: 1 of 2 subjects, at 1"),
            ({"groups": ["a"]}, r"a group for each of the 3 values. Received shape: \(1,\)"),
            ({"groups": ["a", "a", "a"]}, "at least two groups"),
            ({"confidence": 1.5}, "confidence must lie between 0 and 1"),
            ({"num_resamples": 10}, "num_resamples must be at least 100. Received: 10"),
            ({"statistic": lambda values: values}, "must return one finite number"),
            ({"statistic": lambda values: np.nan}, r"must return one finite number. Received: nan"),
        ],
    )
    def test_refuses_what_it_cannot_resample(self, arguments, words):
        arguments = {"values": [1.0, 2.0, 3.0], "statistic": np.mean, **arguments}
        with pytest.raises(ValueError, match=words):
            bootstrap_interval(**arguments)


def test_result_cannot_be_changed_and_is_of_the_public_type():
    result = bootstrap_interval([1.0, 2.0], np.mean)
    assert isinstance(result, statistics.BootstrapInterval)
    with pytest.raises(AttributeError, match="cannot assign to field"):
        result.num_pairs = 7


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(intervals)
    assert results.attempted >= 3
    assert results.failed == 0
