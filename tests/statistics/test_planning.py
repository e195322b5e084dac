"""Power and sample sizes: known values, simulation, the noncentral F distribution, and properties."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hcreg.statistics import SampleSizes, planning, power, sample_size

PROPERTIES = settings(deadline=None, derandomize=True, max_examples=50)
EFFECTS = st.floats(0.05, 12)
SIZES = st.integers(2, 3000)


class TestPower:
    def test_is_how_often_the_t_test_rejects(self):
        generator = np.random.default_rng(0)
        a, b = generator.normal(0.7, 1, (4000, 15)), generator.normal(0, 1, (4000, 25))
        rejected = np.mean(stats.ttest_ind(a, b, axis=1).pvalue < 0.05)
        assert power(0.7, 15, 25) == pytest.approx(rejected, abs=0.025)

    def test_is_how_often_the_mann_whitney_test_rejects(self):
        generator = np.random.default_rng(1)
        a, b = generator.normal(0.6, 1, (4000, 40)), generator.normal(0, 1, (4000, 40))
        rejected = np.mean(stats.mannwhitneyu(a, b, axis=1).pvalue < 0.05)
        assert power(0.6, 40, test="mann_whitney") == pytest.approx(rejected, abs=0.025)
        assert power(0.6, 40, test="mann_whitney") < power(0.6, 40)

    @PROPERTIES
    @given(EFFECTS, SIZES, SIZES, st.sampled_from([1e-4, 0.01, 0.05, 0.3]))
    def test_agrees_with_the_noncentral_f_distribution(self, d, num_a, num_b, alpha):
        # T squared has it, and |T| > t is T^2 > t^2.
        degrees = num_a + num_b - 2
        critical = stats.f.isf(alpha, 1, degrees)
        expected = stats.ncf.sf(critical, 1, degrees, d**2 * num_a * num_b / (num_a + num_b))
        assert power(d, num_a, num_b, alpha) == pytest.approx(expected, abs=1e-6)

    @PROPERTIES
    @given(EFFECTS, SIZES, SIZES)
    def test_knows_no_sign_and_no_order_and_grows(self, d, num_a, num_b):
        found = power(d, num_a, num_b)
        assert found == power(-d, num_a, num_b)
        assert found == pytest.approx(power(d, num_b, num_a))
        assert 0.05 <= found <= power(d, num_a + 10, num_b) + 1e-9
        assert found <= power(1.1 * d, num_a, num_b) + 1e-9

    @pytest.mark.parametrize("test", ["t", "mann_whitney"])
    def test_without_an_effect_it_is_the_level(self, test):
        assert power(0.0, 17, 5, alpha=0.03, test=test) == pytest.approx(0.03)

    # SciPy's lower tail is NaN for the third and the fourth, its upper one for the last.
    @pytest.mark.parametrize(
        ("d", "num", "alpha"),
        [(10.777, 23, 0.05), (1e3, 2, 0.05), (3.0, 23, 0.05), (0.5, 1000, 0.05), (1e6, 10**9, 0.01)],
    )
    def test_is_one_for_effects_nobody_misses(self, d, num, alpha):
        assert power(d, num, alpha=alpha) == pytest.approx(1.0, abs=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"effect_size_d": math.nan}, "effect_size_d must be finite. Received: nan"),
            ({"num_a": 1}, "num_a must be a whole number of subjects, 2 or more. Received: 1"),
            ({"num_b": 2.5}, "num_b must be a whole number of subjects, 2 or more. Received: 2.5"),
            ({"alpha": 5}, "alpha must lie between 0 and 1, for instance 0.05 for 5 %. Received: 5"),
            ({"test": "u"}, "test must be one of 't', 'mann_whitney'. Received: 'u'"),
        ],
    )
    def test_refuses_what_has_no_power(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            power(**{"effect_size_d": 0.5, "num_a": 10, **arguments})


class TestSampleSize:
    @pytest.mark.parametrize(
        ("d", "wanted", "alpha", "expected"),
        [
            # The textbook's small, medium and large effects; 393.4 for the small one before rounding.
            (0.2, 0.8, 0.05, 394),
            (0.5, 0.8, 0.05, 64),
            (0.8, 0.8, 0.05, 26),
            (0.5, 0.9, 0.05, 86),
            (1.0, 0.8, 0.05, 17),
            (0.5, 0.8, 0.01, 96),
        ],
    )
    def test_is_that_of_published_tables(self, d, wanted, alpha, expected):
        assert sample_size(d, wanted, alpha) == (expected, expected)

    @PROPERTIES
    @given(
        EFFECTS,
        st.sampled_from([0.5, 0.8, 0.95]),
        st.sampled_from([0.3, 1.0, 2.5]),
        st.sampled_from(["t", "mann_whitney"]),
    )
    def test_is_the_smallest_that_suffices(self, d, wanted, ratio, test):
        found = sample_size(d, wanted, ratio=ratio, test=test)
        assert found.num_b == max(2, math.ceil(round(found.num_a * ratio, 6)))
        assert power(d, *found, test=test) >= wanted
        if found.num_a > 2:
            fewer = found.num_a - 1
            assert power(d, fewer, max(2, math.ceil(round(fewer * ratio, 6))), test=test) < wanted

    def test_a_broken_ratio_is_not_rounded_up_for_a_binary_fraction(self):
        # 100 * 0.55 is 55.00000000000001.
        assert sample_size(0.474, ratio=0.55) == SampleSizes(100, 55)

    def test_the_rank_test_needs_about_5_percent_more(self):
        assert sample_size(0.2, test="mann_whitney").num_a == pytest.approx(394 * math.pi / 3, abs=1)

    def test_a_huge_effect_needs_two(self):
        assert sample_size(1e4) == SampleSizes(num_a=2, num_b=2)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                {"effect_size_d": 0.0},
                "effect_size_d of 0.0 needs more than 1000000000 subjects.*an effect worth finding",
            ),
            ({"effect_size_d": math.inf}, "effect_size_d must be finite"),
            ({"power": 80}, "power must lie between 0 and 1, for instance 0.8 for 80 %. Received: 80"),
            ({"alpha": 0}, "alpha must lie between 0 and 1"),
            ({"ratio": 0}, "ratio must be a positive number, the size of group b over that of a. Received: 0"),
            ({"ratio": math.nan}, "ratio must be a positive number"),
            ({"test": "z"}, "test must be one of 't', 'mann_whitney'"),
        ],
    )
    def test_refuses_what_no_size_suffices_for(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            sample_size(**{"effect_size_d": 0.5, **arguments})


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(planning)
    assert results.attempted >= 2
    assert results.failed == 0
