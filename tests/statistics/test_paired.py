"""Paired comparisons: all sign flips counted, SciPy's numbers, and Holm's step-down procedure."""

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hcreg import statistics
from hcreg.statistics import compare_paired, holm, paired

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)


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


def test_result_cannot_be_changed_and_is_of_the_public_type():
    result = compare_paired([1.0], [2.0])
    assert isinstance(result, statistics.PairedComparison)
    with pytest.raises(AttributeError, match="cannot assign to field"):
        result.num_pairs = 7


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(paired)
    assert results.attempted >= 2
    assert results.failed == 0
