"""Bland-Altman: hand numbers, and coverage by simulation."""

import doctest

import numpy as np
import pytest

from hcreg import statistics
from hcreg.statistics import agreement, bland_altman


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


def test_result_cannot_be_changed_and_is_of_the_public_type():
    result = bland_altman([1, 2, 3], [1, 2, 4])
    assert isinstance(result, statistics.BlandAltman)
    with pytest.raises(AttributeError, match="cannot assign to field"):
        result.num_pairs = 7


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(agreement)
    assert results.attempted >= 2
    assert results.failed == 0
