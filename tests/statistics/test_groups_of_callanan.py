"""Figures of callanan2022heatmap: which sizes, which of SciPy's options and which outliers they come from."""

import math

import numpy as np
import pytest
from scipy import stats

from hcreg.statistics import compare_groups, tukey_fences, without_outliers

NUM_CROSS_ENTROPY = 23
NUM_HEATMAP = 25


def scores(num, mean, sd):
    """Normal scores with the mean and the standard deviation given."""
    values = stats.norm.ppf((np.arange(num) + 0.5) / num)
    return mean + sd * values / values.std(ddof=1)


def approximate_p_value(u, num_a, num_b, correction=0.5):
    """From the definition: U is about normal, with mean n m / 2 and variance n m (n + m + 1) / 12."""
    distance = abs(u - num_a * num_b / 2) - correction
    return math.erfc(distance / math.sqrt(num_a * num_b * (num_a + num_b + 1) / 12) / math.sqrt(2))


class TestOverlapWithTheHeart:
    def test_p_value_of_separated_groups_is_that_of_23_and_25_models_alone(self):
        fitting = [
            (small, large)
            for small in range(2, 71)
            for large in range(small, 71)
            if f"{approximate_p_value(0, small, large):.2e}" == "3.16e-09"
        ]
        assert fitting == [(NUM_CROSS_ENTROPY, NUM_HEATMAP)]
        uncorrected = approximate_p_value(0, NUM_CROSS_ENTROPY, NUM_HEATMAP, correction=0)
        assert f"{uncorrected:.2e}" != "3.16e-09"

    @pytest.mark.parametrize(
        ("mean_cross_entropy", "mean_heatmap", "d"), [(0.2597, 0.7957, -10.777), (0.2548, 0.7961, -11.877)]
    )
    def test_published_means_and_d(self, mean_cross_entropy, mean_heatmap, d):
        # The pooled deviation they imply, .0497 and .0456, from groups that differ in spread: 22 and 24 degrees of
        # freedom share 46 times its square.
        pooled = (mean_cross_entropy - mean_heatmap) / d
        sd_cross_entropy = 0.5 * pooled
        sd_heatmap = math.sqrt((46 * pooled**2 - 22 * sd_cross_entropy**2) / 24)
        cross_entropy = scores(NUM_CROSS_ENTROPY, mean_cross_entropy, sd_cross_entropy)
        heatmap = scores(NUM_HEATMAP, mean_heatmap, sd_heatmap)
        found = compare_groups(cross_entropy, heatmap, test="mann_whitney", method="asymptotic")
        assert (found.a.mean, found.b.mean) == pytest.approx((mean_cross_entropy, mean_heatmap), abs=1e-12)
        assert found.cohens_d == pytest.approx(d, abs=5e-4)
        assert (found.u, found.common_language_effect_size) == (0.0, 0.0)
        assert f"{found.p_value:.2e}" == "3.16e-09"
        # SciPy's defaults, as the thesis calls it.
        assert found.p_value == stats.mannwhitneyu(cross_entropy, heatmap).pvalue

    def test_exact_p_value_is_far_smaller(self):
        found = compare_groups(np.arange(23), np.arange(23, 48), test="mann_whitney")
        assert found.p_value == pytest.approx(2 / math.comb(48, 23))
        assert f"{found.p_value:.0e}" == "6e-14"


class TestOverlapWithTheSexLabel:
    # In units of 1e-5. Cross-entropy: 19 values, two between the fences of 1.5 and 5 interquartile ranges, two beyond.
    CROSS_ENTROPY = np.r_[
        [0.6, 1.06, 1.52, 1.98, 2.44, 2.9, 3.36, 3.82, 4.28, 4.74, 5.2, 5.7, 6.33, 8.13, 9.93, 11.72, 13.52, 15.32],
        [17.12, 35.5, 39.05, 87.91, 131.87],
    ]
    # Heatmap: 21 values about 6e-10, and the one outlier.
    HEATMAP = np.r_[6e-5 + 5e-6 * np.arange(-10, 11), 1870.0]

    def test_u_and_effect_size_are_those_of_22_and_23_models(self):
        fitting = [
            (small, large)
            for small in range(2, 71)
            for large in range(small, 484)
            if f"{483 / (small * large):.4f}" == "0.9545"
            and f"{approximate_p_value(483, small, large):.2e}" == "1.88e-07"
        ]
        assert fitting == [(22, 23)]
        assert f"{approximate_p_value(483, 22, 23, correction=0):.2e}" == "1.77e-07"

    def test_one_outlier_above_all_others_has_the_published_u_and_p_value(self):
        found = compare_groups(self.CROSS_ENTROPY, self.HEATMAP, method="asymptotic")
        assert (found.test, found.a.num, found.b.num) == ("mann_whitney", 23, 22)
        assert found.u == 483.0 == 23 * 22 - 23
        assert f"{found.common_language_effect_size:.4f}" == "0.9545"
        assert f"{found.p_value:.2e}" == "1.88e-07"
        exact = compare_groups(self.CROSS_ENTROPY, self.HEATMAP)
        assert (exact.method, f"{exact.p_value:.1e}") == ("exact", "2.8e-09")

    def test_medians_and_raw_means_point_opposite_ways(self):
        found = compare_groups(self.CROSS_ENTROPY, self.HEATMAP)
        assert (found.a.median, found.b.median) == pytest.approx((5.7, 6e-5), rel=0.05)  # 5.7e-5 and 6e-10
        assert (found.a.mean, found.b.mean) == pytest.approx((18, 85), rel=0.001)  # 1.8e-4 and 8.5e-4
        assert found.cohens_d < 0 < found.difference

    @pytest.mark.parametrize(("k", "num_cross_entropy", "d"), [(1.5, 19, 1.836), (5, 21, 1.250)])
    def test_d_depends_on_the_fences(self, k, num_cross_entropy, d):
        cross_entropy, heatmap = without_outliers(self.CROSS_ENTROPY, k), without_outliers(self.HEATMAP, k)
        assert (cross_entropy.size, heatmap.size) == (num_cross_entropy, 21)
        assert compare_groups(cross_entropy, heatmap).cohens_d == pytest.approx(d, abs=5e-4)
        lower, upper = tukey_fences(self.CROSS_ENTROPY, k)
        # By hand: ranks 6.5 and 17.5 of 23 are the quartiles 3.13 and 14.42, 11.29 apart.
        assert (lower, upper) == pytest.approx((3.13 - 11.29 * k, 14.42 + 11.29 * k))
