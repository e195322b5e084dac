"""Gestational age by Hadlock's regression, by hand and at the ends of its range."""

import doctest
import math

import numpy as np
import pytest

from hcreg.geometry import gestational_age_weeks, head


class TestGestationalAge:
    def test_hand_number(self):
        # 8.96 + 0.540 x 30 + 0.0003 x 27000
        assert gestational_age_weeks(300.0) == pytest.approx(33.26, abs=1e-9)

    def test_is_nan_with_a_warning_that_says_the_range(self):
        with pytest.warns(UserWarning, match=r"NaN for 2 of 4 .* 89\.4 to 357\.7 mm, the 14 to 42 weeks"):
            weeks = gestational_age_weeks([60.0, 100.0, 350.0, 360.0])
        np.testing.assert_array_equal(np.isnan(weeks), [True, False, False, True])

    @pytest.mark.parametrize(("hc_mm", "weeks"), [(89.3681, 14.0), (357.6642, 42.0)])
    def test_the_ends_of_the_range_are_14_and_42_weeks(self, hc_mm, weeks):
        inward = math.copysign(1e-3, 200 - hc_mm)
        assert gestational_age_weeks(hc_mm + inward) == pytest.approx(weeks, abs=1e-3)
        with pytest.warns(UserWarning, match="gestational age is NaN"):
            assert math.isnan(gestational_age_weeks(hc_mm - inward))

    def test_grows_and_keeps_the_shape(self, recwarn):
        weeks = gestational_age_weeks(np.linspace(90, 357, 12).reshape(3, 4))
        assert weeks.shape == (3, 4)
        assert (np.diff(weeks.ravel()) > 0).all()
        assert not recwarn.list

    def test_nan_stays_nan_without_a_warning(self, recwarn):
        assert math.isnan(gestational_age_weeks(float("nan")))
        assert not recwarn.list


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(head)
    assert results.attempted >= 3
    assert results.failed == 0
