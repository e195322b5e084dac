"""Two groups compared: hand numbers, every arrangement counted, simulation, and what each case chooses."""

import doctest
import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hcreg import statistics
from hcreg.statistics import compare_groups, compare_paired, groups

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True, max_examples=60)
# Small integers have ties, and their sums and differences are exact.
GROUP = st.lists(st.integers(-9, 9), min_size=2, max_size=12)
PAIRS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=12)

NORMAL = np.array([-1.6, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.6])
SKEWED = np.array([1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 4.0, 9.0, 30.0])


def mirrored(interval):
    return (-interval[1], -interval[0])


def exact_p_value(a, b):
    """Every choice of group a out of both: how often U is as far from its mean."""
    both = [*a, *b]

    def u(chosen):
        others = [both[i] for i in range(len(both)) if i not in chosen]
        return sum((both[i] > y) + (both[i] == y) / 2 for i in chosen for y in others)

    mean = len(a) * len(b) / 2
    all_u = [u(set(chosen)) for chosen in itertools.combinations(range(len(both)), len(a))]
    observed = abs(u(set(range(len(a)))) - mean)
    return np.mean([abs(found - mean) >= observed for found in all_u])


class TestEffectSizes:
    def test_hand_numbers(self):
        # Means 3 and 7; squared deviations 8 and 8, so the pooled variance is 16 / 4 = 4, and d = -4 / 2.
        found = compare_groups([1, 3, 5], [5, 7, 9])
        assert (found.a.num, found.a.mean, found.a.median, found.a.sd) == (3, 3.0, 3.0, 2.0)
        assert (found.b.num, found.b.mean, found.b.median, found.b.sd) == (3, 7.0, 7.0, 2.0)
        assert found.cohens_d == -2.0
        # Of 9 pairs only 5 and 5 is not lost: U = 0.5.
        assert (found.u, found.common_language_effect_size) == (0.5, 0.5 / 9)
        assert found.differences is None

    def test_hand_numbers_of_pairs(self):
        # Differences -4, 2, 0, 6: mean 1, squared deviations 25 + 1 + 1 + 25 = 52; two up, one equal.
        found = compare_groups([1, 5, 3, 9], [5, 3, 3, 3], paired=True)
        assert found.differences.mean == 1.0
        assert found.differences.median == 1.0
        assert found.cohens_d == pytest.approx(1 / math.sqrt(52 / 3))
        assert found.common_language_effect_size == 2.5 / 4
        assert found.u is None

    def test_groups_of_different_sizes_weigh_by_their_degrees_of_freedom(self):
        # Variances 2 (1 degree) and 1 (2 degrees): pooled (2 + 2) / 3.
        assert compare_groups([0, 2], [1, 2, 3]).cohens_d == pytest.approx(-1 / math.sqrt(4 / 3))

    @PROPERTIES
    @given(GROUP, GROUP)
    def test_common_language_effect_size_is_that_of_all_pairs(self, a, b):
        wins = np.mean([(x > y) + (x == y) / 2 for x in a for y in b])
        found = compare_groups(a, b)
        assert found.common_language_effect_size == pytest.approx(wins, abs=1e-12)
        assert found.u == pytest.approx(wins * len(a) * len(b))

    @pytest.mark.parametrize(
        ("a", "b", "d"), [([1, 1], [2, 2], -math.inf), ([2, 2], [1, 1, 1], math.inf), ([0.1] * 3, [0.1] * 3, 0.0)]
    )
    @pytest.mark.parametrize("paired", [False, True])
    def test_without_spread_d_is_infinite_or_0(self, a, b, d, paired):
        b = b[: len(a)] if paired else b
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = compare_groups(a, b, paired=paired)
        assert found.cohens_d == d

    def test_the_mean_of_equal_values_is_their_value(self):
        # numpy.mean([0.1] * 3) is 0.10000000000000002, and its standard deviation 1.4e-17.
        found = compare_groups([0.1] * 3, [0.2] * 3)
        assert (found.a.mean, found.a.sd, found.b.mean) == (0.1, 0.0, 0.2)


class TestChoice:
    def test_normal_groups_have_a_t_test(self):
        found = compare_groups(NORMAL, NORMAL + 1)
        assert (found.test, found.method) == ("t", "t distribution")
        expected = stats.shapiro(NORMAL)
        assert (found.a.shapiro_w, found.a.shapiro_p) == pytest.approx((expected.statistic, expected.pvalue))
        assert (
            found.reason
            == f"Shapiro-Wilk at 0.05, a: normal (p = {expected.pvalue:.3g}); b: normal (p = {expected.pvalue:.3g})"
        )

    @pytest.mark.parametrize(("a", "b"), [(NORMAL, SKEWED), (SKEWED, NORMAL)])
    def test_one_group_that_is_not_normal_is_enough_for_the_rank_test(self, a, b):
        found = compare_groups(a, b)
        assert found.test == "mann_whitney"
        assert {found.a.normality, found.b.normality} == {"normal", "not normal"}

    def test_alpha_is_the_level_of_the_choice(self):
        p_value = compare_groups(SKEWED, NORMAL).a.shapiro_p
        assert compare_groups(SKEWED, NORMAL, alpha=p_value * 0.9).test == "t"
        assert compare_groups(SKEWED, NORMAL, alpha=p_value * 1.1).test == "mann_whitney"

    def test_pairs_are_judged_by_their_differences(self):
        found = compare_groups(SKEWED + NORMAL, SKEWED, paired=True)
        assert (found.a.normality, found.b.normality, found.differences.normality) == (
            "not normal",
            "not normal",
            "normal",
        )
        assert found.test == "paired_t"
        assert compare_groups(SKEWED + NORMAL, NORMAL, paired=True).test == "wilcoxon"

    @pytest.mark.parametrize(
        ("a", "words"),
        [
            ([0.3, 0.5], "undefined: fewer than 3 values"),
            ([0.3, 0.3, 0.3, 0.3], "undefined: all values are equal"),
            (np.linspace(0, 1, 5001), "not computed: more than 5000 values"),
        ],
    )
    def test_where_shapiro_is_undefined_ranks_decide_without_a_warning(self, a, words):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = compare_groups(a, NORMAL)
        assert (found.a.shapiro_w, found.a.shapiro_p, found.a.normality) == (None, None, words)
        assert found.test == "mann_whitney"
        assert f"a: {words}; b: normal" in found.reason

    def test_5000_values_are_still_judged(self):
        values = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)
        assert compare_groups(values, NORMAL).a.normality == "normal"

    def test_tiny_shares_are_judged_as_others(self):
        # SciPy takes a range below 1e-19 for none, and calls it normal.
        found = compare_groups(SKEWED * 1e-25, NORMAL * 1e-25)
        assert found.a.shapiro_p == pytest.approx(stats.shapiro(SKEWED).pvalue)
        assert found.test == "mann_whitney"

    def test_a_test_fixed_in_advance_is_taken(self):
        assert compare_groups(NORMAL, SKEWED, test="t").test == "t"
        found = compare_groups(NORMAL, NORMAL + 1, test="mann_whitney")
        assert (found.test, found.reason) == ("mann_whitney", "named by the caller")
        assert compare_groups(NORMAL, SKEWED, paired=True, test="paired_t").test == "paired_t"
        shifted = 2 * NORMAL + 1  # differences NORMAL + 1
        assert compare_groups(shifted, NORMAL, paired=True).test == "paired_t"
        assert compare_groups(shifted, NORMAL, paired=True, test="wilcoxon").test == "wilcoxon"

    def test_rounding_of_a_constant_difference_is_no_spread(self):
        # 0.3 - 0.2, 0.2 - 0.1 and 0.4 - 0.3 are three numbers.
        found = compare_groups([0.3, 0.2, 0.4], [0.2, 0.1, 0.3], paired=True)
        assert found.differences.normality == "undefined: all values are equal"
        assert (found.test, found.cohens_d, found.p_value) == ("wilcoxon", math.inf, 0.25)


class TestTTests:
    def test_welch_by_hand(self):
        # Variances 4 and 1 of 3 values each: standard error sqrt(4/3 + 1/3), degrees (5/3)^2 / (16/9/2 + 1/9/2).
        found = compare_groups([1, 3, 5], [5, 6, 7], test="t")
        error, degrees = math.sqrt(5 / 3), (25 / 9) / (17 / 18)
        assert found.statistic == pytest.approx(-3 / error)
        assert found.p_value == pytest.approx(2 * stats.t.sf(3 / error, degrees))
        reach = stats.t.ppf(0.975, degrees) * error
        assert found.difference == -3.0
        assert found.interval == pytest.approx((-3 - reach, -3 + reach))

    def test_student_by_hand(self):
        # Pooled variance 2.5 with 4 degrees of freedom; its quantile is 2.776445.
        found = compare_groups([1, 3, 5], [5, 6, 7], test="t", equal_variances=True)
        error = math.sqrt(2.5 * 2 / 3)
        assert found.statistic == pytest.approx(-3 / error)
        assert found.interval == pytest.approx((-3 - 2.776445 * error, -3 + 2.776445 * error), abs=1e-5)
        assert found.p_value != compare_groups([1, 3, 5], [5, 6, 7], test="t").p_value

    def test_paired_t_by_hand(self):
        # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), 2 degrees of freedom: 4.302653; d = 2.
        found = compare_groups([11, 22, 33], [10, 20, 30], paired=True, alpha=0.05)
        assert (found.test, found.cohens_d, found.difference) == ("paired_t", 2.0, 2.0)
        assert found.statistic == pytest.approx(2 * math.sqrt(3))
        # Student's distribution with 2 degrees in closed form: P(|T| > t) = 1 - t / sqrt(2 + t^2).
        assert found.p_value == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))
        assert found.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)

    @pytest.mark.parametrize(("test", "paired"), [("t", False), ("paired_t", True)])
    def test_interval_ends_at_0_where_alpha_is_the_p_value(self, test, paired):
        p_value = compare_groups(NORMAL * 2 + 1, NORMAL, paired=paired, test=test).p_value
        lower, upper = compare_groups(NORMAL * 2 + 1, NORMAL, paired=paired, test=test, alpha=p_value).interval
        assert (lower, upper) == pytest.approx((0.0, 2.0), abs=1e-9)

    @pytest.mark.parametrize(("test", "paired"), [("t", False), ("paired_t", True)])
    def test_is_refused_where_nothing_varies(self, test, paired):
        with pytest.raises(ValueError, match=r"a t-test needs values that vary.*Leave the test to 'auto'"):
            compare_groups([1, 1, 1], [2, 2, 2], paired=paired, test=test)


class TestMannWhitney:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ([1.0, 4.0, 2.5], [3.0, 5.0, 6.0, 7.0]),
            ([1, 2, 2, 3], [2, 3, 3, 4, 5]),
            ([1, 1, 1], [2, 2, 2]),
            ([0, 0, 0, 7], [0, 0]),
            ([5, 6], [1, 2, 2, 2, 3, 3]),
        ],
    )
    def test_agrees_with_all_arrangements(self, a, b):
        found = compare_groups(a, b, test="mann_whitney")
        assert found.method == "exact"
        assert found.p_value == pytest.approx(exact_p_value(a, b))
        assert found.statistic == found.u

    def test_ties_count_up_to_50_values_and_approximate_beyond(self):
        generator = np.random.default_rng(0)
        a, b = generator.integers(0, 30, 51), generator.integers(1, 31, 50)
        expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
        longer, exact = compare_groups(a, b, test="mann_whitney"), compare_groups(a[:50], b, test="mann_whitney")
        assert (longer.method, longer.p_value) == ("asymptotic", expected)
        approximate = compare_groups(a[:50], b, test="mann_whitney", method="asymptotic")
        assert (exact.method, approximate.method) == ("exact", "asymptotic")
        assert exact.p_value == pytest.approx(approximate.p_value, rel=0.05)

    def test_counting_with_ties_meets_scipy_s_exact_distribution_without_them(self):
        both = np.random.default_rng(1).permutation(45).astype(float)
        expected = stats.mannwhitneyu(both[:20], both[20:], method="exact").pvalue
        assert groups._exact_with_ties(both, 20) == pytest.approx(expected, rel=1e-10)

    def test_all_values_equal_are_no_sign_of_a_difference(self):
        for method in ("auto", "asymptotic"):
            found = compare_groups([2, 2, 2], [2, 2], method=method)
            assert (found.p_value, found.u, found.common_language_effect_size) == (1.0, 3.0, 0.5)
            assert (found.test, found.method, found.difference) == ("mann_whitney", "exact", 0.0)

    def test_false_alarms_are_as_rare_as_promised(self):
        generator = np.random.default_rng(2)
        draws = generator.gamma(1, size=(300, 2, 20))
        p_values = [compare_groups(*draw, test="mann_whitney").p_value for draw in draws]
        assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


class TestWilcoxon:
    @PROPERTIES
    @given(PAIRS)
    def test_is_that_of_compare_paired(self, pairs):
        a, b = np.array(pairs, dtype=float).T
        found, expected = compare_groups(a, b, paired=True, test="wilcoxon"), compare_paired(a, b)
        assert (found.statistic, found.p_value) == (expected.statistic, expected.p_value)
        assert found.method == "exact"

    def test_approximates_where_asked_and_beyond_50_pairs(self):
        a = np.random.default_rng(3).gamma(1, size=51) - 0.5
        zeros = np.zeros(51)
        expected = stats.wilcoxon(a, method="approx")
        for found in (
            compare_groups(a, zeros, paired=True, test="wilcoxon"),
            compare_groups(a, zeros, paired=True, test="wilcoxon", method="asymptotic"),
        ):
            assert (found.method, found.statistic, found.p_value) == ("asymptotic", expected.statistic, expected.pvalue)
        found = compare_groups(a[:50], zeros[:50], paired=True, test="wilcoxon", method="asymptotic")
        assert (found.method, found.p_value) == ("asymptotic", stats.wilcoxon(a[:50], method="approx").pvalue)
        assert compare_groups(a[:50], zeros[:50], paired=True, test="wilcoxon").method == "exact"

    def test_equal_pairs_are_no_sign_of_a_difference(self):
        found = compare_groups([1, 2, 3], [1, 2, 3], paired=True)
        assert (found.test, found.p_value, found.cohens_d, found.common_language_effect_size) == (
            "wilcoxon",
            1.0,
            0.0,
            0.5,
        )


class TestIntervalOfRankTests:
    def test_hand_numbers(self):
        # The 25 differences of 1..5 and 11..15: mean rank 12.5, spread sqrt(25 * 11 / 12) = 4.787; 12.5 - 9.38 = 3.1,
        # so the 3rd from each end. Sorted: -14, -13, -13, ... and ..., -7, -7, -6.
        found = compare_groups([1, 2, 3, 4, 5], [11, 12, 13, 14, 15], test="mann_whitney")
        assert (found.difference, found.interval) == (-10.0, (-13.0, -7.0))

    def test_hand_numbers_of_pairs(self):
        # Differences 1..6: 21 means; 10.5 - 1.96 * sqrt(6 * 7 * 13 / 24) = 1.15: the first and the last.
        found = compare_groups([1, 2, 3, 4, 5, 6], [0] * 6, paired=True, test="wilcoxon")
        assert (found.difference, found.interval) == (3.5, (1.0, 6.0))

    def test_too_few_values_for_alpha_have_no_bounds(self):
        assert compare_groups([1, 2], [3, 4]).interval == (-math.inf, math.inf)

    def test_an_outlier_does_not_move_it(self):
        a, b = np.arange(20.0), np.arange(20.0) + 5
        far = compare_groups(a, np.r_[b[:-1], 1e9], test="mann_whitney")
        near = compare_groups(a, b, test="mann_whitney")
        assert far.interval == near.interval
        assert far.difference == near.difference == -5.0

    @pytest.mark.parametrize("paired", [False, True])
    def test_covers_the_shift_as_often_as_promised(self, paired):
        generator = np.random.default_rng(4)
        test = "wilcoxon" if paired else "mann_whitney"
        covered = 0
        for _ in range(400):
            a, b = generator.laplace([[2.0], [0.0]], size=(2, 18))
            lower, upper = compare_groups(a, b, paired=paired, alpha=0.1, test=test).interval
            covered += lower <= 2.0 <= upper
        assert 0.87 < covered / 400 < 0.95

    def test_is_left_out_where_there_are_too_many_differences(self, monkeypatch):
        monkeypatch.setattr(groups, "_MOST_PAIRS", 80)
        found = compare_groups(NORMAL, SKEWED)
        assert (found.difference, found.interval) == (None, None)
        assert found.p_value < 0.001
        assert compare_groups(NORMAL, SKEWED, paired=True, test="wilcoxon").interval is not None
        monkeypatch.setattr(groups, "_MOST_PAIRS", 44)
        assert compare_groups(NORMAL, SKEWED, paired=True, test="wilcoxon").interval is None


class TestProperties:
    @PROPERTIES
    @given(GROUP, GROUP, st.sampled_from(["auto", "mann_whitney"]))
    def test_swapping_the_groups_mirrors_everything(self, a, b, test):
        found, swapped = compare_groups(a, b, test=test), compare_groups(b, a, test=test)
        assert (swapped.a, swapped.b, swapped.test, swapped.method) == (found.b, found.a, found.test, found.method)
        assert swapped.cohens_d == pytest.approx(-found.cohens_d)
        assert swapped.common_language_effect_size == pytest.approx(1 - found.common_language_effect_size)
        assert swapped.u == len(a) * len(b) - found.u
        assert swapped.p_value == pytest.approx(found.p_value)
        assert swapped.difference == pytest.approx(-found.difference)
        assert swapped.interval == pytest.approx(mirrored(found.interval))

    @PROPERTIES
    @given(PAIRS)
    def test_swapping_pairs_mirrors_everything(self, pairs):
        a, b = np.array(pairs, dtype=float).T
        found, swapped = compare_groups(a, b, paired=True), compare_groups(b, a, paired=True)
        assert (swapped.test, swapped.method) == (found.test, found.method)
        assert swapped.cohens_d == pytest.approx(-found.cohens_d)
        assert swapped.common_language_effect_size == pytest.approx(1 - found.common_language_effect_size)
        assert swapped.p_value == pytest.approx(found.p_value)
        assert swapped.interval == pytest.approx(mirrored(found.interval))

    @PROPERTIES
    @given(GROUP, GROUP, st.integers(-99, 99), st.sampled_from([0.25, 1, 4]))
    def test_shift_and_unit_change_neither_p_value_nor_effect(self, a, b, shift, factor):
        found = compare_groups(a, b)
        moved = compare_groups(np.array(a) * factor + shift, np.array(b) * factor + shift)
        assert (moved.test, moved.method, moved.u) == (found.test, found.method, found.u)
        assert moved.p_value == pytest.approx(found.p_value)
        assert moved.cohens_d == pytest.approx(found.cohens_d, abs=1e-9)
        assert moved.difference == pytest.approx(found.difference * factor, abs=1e-9)

    @PROPERTIES
    @given(GROUP, GROUP, st.booleans())
    def test_nothing_is_nan_and_no_warning_reaches_the_caller(self, a, b, paired):
        if paired:
            a, b = a[: len(b)], b[: len(a)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = compare_groups(a, b, paired=paired)
        assert 0 <= found.p_value <= 1
        assert 0 <= found.common_language_effect_size <= 1
        assert not math.isnan(found.cohens_d)
        assert found.interval[0] <= found.difference <= found.interval[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"a": [1.0, np.nan, 3.0]}, r"a must be finite. NaN or infinite: 1 of 3 subjects, at 1\."),
        ({"b": [1.0, 2.0, -np.inf]}, r"b must be finite. NaN or infinite: 1 of 3 subjects, at 2\."),
        ({"a": [1.0]}, "a needs at least 2 values. Received: 1"),
        ({"b": []}, "b needs at least 2 values. Received: 0"),
        ({"a": [[1.0], [2.0]]}, r"a must be of shape \(num_subjects,\). Received: \(2, 1\)"),
        ({"a": [1.0, 2.0], "paired": True}, "a and b must be pairs, of one length. Received: 2 and 3 values"),
        ({"alpha": 5}, "alpha must lie between 0 and 1, for instance 0.05 for 5 %. Received: 5"),
        ({"test": "wilcoxon"}, "one of 'auto', 't', 'mann_whitney' with paired=False. Received: 'wilcoxon'"),
        ({"test": "t", "paired": True}, "one of 'auto', 'paired_t', 'wilcoxon' with paired=True. Received: 't'"),
        ({"method": "exact"}, "method must be 'auto' or 'asymptotic'. Received: 'exact'"),
    ],
)
def test_refuses_what_cannot_be_compared(arguments, words):
    with pytest.raises(ValueError, match=words):
        compare_groups(**{"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 5.0], **arguments})


def test_result_cannot_be_changed_and_is_of_the_public_type():
    result = compare_groups([1, 2, 3], [1, 2, 4])
    assert isinstance(result, statistics.GroupComparison)
    assert isinstance(result.a, statistics.GroupSummary)
    for part in (result, result.a):
        with pytest.raises(AttributeError, match="cannot assign to field"):
            part.p_value = 0.01


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(groups)
    assert results.attempted >= 3
    assert results.failed == 0
