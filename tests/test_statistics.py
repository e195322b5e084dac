"""Statistics: hand numbers, independent derivations, and coverage by simulation."""

import doctest
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from hcreg import statistics
from hcreg.statistics import bland_altman, bootstrap_interval, compare_paired, conformal_quantile, holm

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)


class TestBlandAltman:
    def test_hand_numbers(self):
        # Differences 1, 2, 3: mean 2, standard deviation 1; Student's quantile for 2 degrees is 4.3027.
        found = bland_altman([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
        assert (found.bias, found.sd, found.num_pairs) == (2.0, 1.0, 3)
        assert (found.lower, found.upper) == pytest.approx((2 - 1.959964, 2 + 1.959964), abs=1e-6)
        assert found.bias_interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
        # Standard error of a limit: sqrt(1/3 + 3.841459 / 4) = sqrt(1.293698) = 1.137408.
        assert found.upper_interval == pytest.approx(
            (found.upper - 4.302653 * 1.137408, found.upper + 4.302653 * 1.137408), abs=1e-4
        )

    def test_bias_is_a_minus_b_and_swapping_mirrors_everything(self):
        generator = np.random.default_rng(0)
        a, b = generator.normal(size=(2, 40))
        found, swapped = bland_altman(a, b), bland_altman(b, a)
        assert found.bias == pytest.approx(np.mean(a) - np.mean(b))
        assert swapped.lower == pytest.approx(-found.upper)
        assert swapped.lower_interval == pytest.approx(tuple(-end for end in reversed(found.upper_interval)))

    def test_intervals_hold_what_they_promise(self):
        generator = np.random.default_rng(1)
        differences = generator.normal(2.0, 3.0, size=(2000, 30))
        found = [bland_altman(row, np.zeros(30), confidence=0.9) for row in differences]
        for name, truth in (("bias", 2.0), ("lower", 2 - 1.959964 * 3), ("upper", 2 + 1.959964 * 3)):
            ends = np.array([getattr(result, f"{name}_interval") for result in found])
            covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
            assert covered == pytest.approx(0.9, abs=0.03), name

    def test_equal_measurements_have_no_spread(self):
        found = bland_altman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        assert (found.bias, found.sd, found.lower, found.upper) == (0.0, 0.0, 0.0, 0.0)

    @pytest.mark.parametrize(
        ("a", "b", "words"),
        [
            ([1, 2, 3], [1, 2, 3, 4], "a and b must be pairs, of one length. Received: 3 and 4 values"),
            ([1, 2], [1, 2], "a needs at least 3 values. Received: 2"),
            ([1, 2, 3], [1, np.nan, 3], r"b must be finite. NaN or infinite: 1 of 3 subjects, at 1\."),
            ([[1], [2], [3]], [1, 2, 3], r"a must be of shape \(num_subjects,\). Received: \(3, 1\)"),
        ],
    )
    def test_refuses_what_is_not_paired(self, a, b, words):
        with pytest.raises(ValueError, match=words):
            bland_altman(a, b)

    def test_refuses_a_confidence_outside_0_to_1(self):
        with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1.*Received: 95"):
            bland_altman([1, 2, 3], [1, 2, 3], confidence=95)


class TestHolm:
    def test_example_of_the_paper_s_procedure(self):
        # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04 -> the last is raised to .06.
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])

    @PROPERTIES
    @given(
        st.lists(st.floats(0, 1), min_size=1, max_size=8),
        st.sampled_from([0.01, 0.05, 0.2]),
    )
    def test_rejects_what_the_step_down_procedure_rejects(self, p_values, level):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[index] * (len(p_values) - step) > level:
                break
            rejected.add(index)
        assert set(np.flatnonzero(holm(p_values) <= level)) == rejected

    @PROPERTIES
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
    def test_follows_the_order_given(self, p_values, random):
        order = list(range(len(p_values)))
        random.shuffle(order)
        np.testing.assert_array_equal(holm([p_values[i] for i in order]), holm(p_values)[order])

    @pytest.mark.parametrize(
        ("p_values", "words"),
        [
            ([], "not empty"),
            (0.05, r"shape \(num_tests,\)"),
            ([0.1, np.nan], r"must lie in \[0, 1\]"),
            ([0.1, 1.1], r"must lie in \[0, 1\]. Received: \[0.1, 1.1\]"),
        ],
    )
    def test_refuses_what_is_no_p_value(self, p_values, words):
        with pytest.raises(ValueError, match=words):
            holm(p_values)


class TestComparePaired:
    @pytest.mark.parametrize(
        "differences",
        [
            [0.5, -1.25, 2.0, 3.5, 4.25, -0.75, 6.0],
            [1.0, -1.0, 2.0, 2.0, 2.0, -1.0, 4.0],
            [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0],
        ],
    )
    def test_agrees_with_all_sign_flips(self, differences):
        differences = np.array(differences)
        ranks = stats.rankdata(np.abs(differences))
        observed = ranks[differences > 0].sum()
        middle = ranks.sum() / 2
        sums = [sum(r for r, up in zip(ranks, flips) if up) for flips in itertools.product([0, 1], repeat=7)]
        exact = np.mean([abs(total - middle) >= abs(observed - middle) for total in sums])
        found = compare_paired(differences + 10, np.full(7, 10.0))
        assert found.p_value == pytest.approx(exact)
        assert found.statistic == min(observed, ranks.sum() - observed)
        assert found.mean_difference == pytest.approx(differences.mean())
        assert found.median_difference == np.median(differences)

    @pytest.mark.parametrize("num", [3, 20, 50])
    def test_agrees_with_scipy_where_there_are_no_ties(self, num):
        differences = np.random.default_rng(num).normal(0.3, 1.0, num)
        expected = stats.wilcoxon(differences, method="exact")
        found = compare_paired(differences, np.zeros(num))
        assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))

    def test_exact_and_approximate_p_values_meet_at_50_pairs(self):
        differences = np.random.default_rng(8).integers(-4, 6, 80).astype(float)
        differences = differences[differences != 0]
        exact = compare_paired(differences[:50], np.zeros(50)).p_value
        assert exact == pytest.approx(stats.wilcoxon(differences[:50], method="approx").pvalue, abs=0.01)
        longer = compare_paired(differences, np.zeros(differences.size)).p_value
        assert longer == stats.wilcoxon(differences, method="approx").pvalue

    def test_method_a_with_smaller_errors_has_a_negative_difference(self):
        found = compare_paired([1.0, 1.0, 2.0], [3.0, 4.0, 6.0])
        assert found.median_difference == -3.0

    def test_equal_errors_are_no_sign_of_a_difference(self):
        found = compare_paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        assert (found.p_value, found.statistic, found.num_equal, found.num_pairs) == (1.0, 0.0, 3, 3)

    def test_equal_pairs_are_left_out(self):
        generator = np.random.default_rng(2)
        a, b = generator.gamma(2, size=(2, 25))
        padded = compare_paired(np.r_[a, [1.0] * 5], np.r_[b, [1.0] * 5])
        assert padded.p_value == compare_paired(a, b).p_value
        assert padded.num_equal == 5

    @PROPERTIES
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
    def test_is_symmetric_and_never_nan(self, pairs):
        a, b = np.array(pairs, dtype=float).T
        found, swapped = compare_paired(a, b), compare_paired(b, a)
        assert 0 <= found.p_value <= 1
        assert found.p_value == pytest.approx(swapped.p_value)
        assert found.mean_difference == -swapped.mean_difference

    def test_false_alarms_are_as_rare_as_promised(self):
        generator = np.random.default_rng(3)
        p_values = [compare_paired(*generator.gamma(2, size=(2, 40))).p_value for _ in range(600)]
        assert np.mean(np.array(p_values) <= 0.05) < 0.08

    @pytest.mark.parametrize(
        ("a", "b", "words"),
        [
            ([1.0, np.nan], [1.0, 2.0], "errors_a must be finite. NaN or infinite: 1 of 2 subjects, at 1"),
            ([1.0], [1.0, 2.0], r"errors_a and errors_b must be pairs.*Use the subjects that both"),
            ([], [], "errors_a needs at least 1 values"),
        ],
    )
    def test_refuses_nan_and_what_is_not_paired(self, a, b, words):
        with pytest.raises(ValueError, match=words):
            compare_paired(a, b)


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


def test_results_cannot_be_changed():
    for result in (
        bland_altman([1, 2, 3], [1, 2, 4]),
        compare_paired([1.0], [2.0]),
        bootstrap_interval([1.0, 2.0], np.mean),
    ):
        with pytest.raises(AttributeError, match="cannot assign to field"):
            result.num_pairs = 7


def test_result_types_are_the_public_ones():
    assert isinstance(bland_altman([1, 2, 3], [1, 2, 4]), statistics.BlandAltman)
    assert isinstance(compare_paired([1.0], [2.0]), statistics.PairedComparison)
    assert isinstance(bootstrap_interval([1.0, 2.0], np.mean), statistics.BootstrapInterval)


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(statistics)
    assert results.attempted >= 7
    assert results.failed == 0
