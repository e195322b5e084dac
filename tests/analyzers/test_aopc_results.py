"""Scores and intervals by hand and against hcreg.statistics; analyzers compared in pairs."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from hcreg import statistics
from hcreg.analyzers import aopc_results
from hcreg.analyzers.aopc_regions import RegionGrid
from hcreg.analyzers.aopc_results import AOPC, ErrorCurves, aopc_scores, bootstrap_means, compare_analyzers, curves_of
from hcreg.analyzers.aopc_stream import Perturbation

PROPERTIES = settings(deadline=None, derandomize=True)


def result_of(errors, name="a", random=None, **changes):
    errors = np.asarray(errors, float)
    groups = changes.pop("groups", None)

    def curves(values):
        return curves_of(np.asarray(values, float), "samek", groups, 0.95, 0)

    values = {
        **curves(errors),
        "name": name,
        "order": "most_relevant_first",
        "region_scores": None,
        "region_order": np.zeros((len(errors), 4), int),
        "baselines": {} if random is None else {"random": ErrorCurves(**curves(random))},
        "predictions": errors,
        "noise_sd": 0.0,
        "unit": "mm",
        "normalization": "samek",
        "confidence": 0.95,
        "perturbation": Perturbation(RegionGrid((8, 8), (2, 2)), 0.3, "image", "all", 1, 0),
        "draws": 2,
        "groups": groups,
    }
    return AOPC(**{**values, **changes})


def random_errors(num_images=12, slope=1.0, seed=0):
    clean = np.arange(num_images, dtype=float)[:, None]
    growth = np.random.default_rng(seed).uniform(0.5, 1.5, (num_images, 1)) * slope * np.arange(4)
    return clean + growth


def test_examples():
    assert doctest.testmod(aopc_results).attempted > 0
    assert doctest.testmod(aopc_results).failed == 0


class TestScores:
    def test_by_hand(self):
        # E0 - E_k: 0, -2, -3, 1; sum -4; 4 curve points, 3 steps.
        errors = [[2.0, 4.0, 5.0, 1.0]]
        assert aopc_scores(errors).tolist() == [-1.0]
        assert aopc_scores(errors, "paper")[0] == pytest.approx(-4 / 3)

    @PROPERTIES
    @given(arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 9)), elements=st.floats(0, 1e3)))
    def test_samek_is_the_clean_error_minus_the_mean_and_paper_differs_by_a_factor(self, errors):
        scores = aopc_scores(errors)
        np.testing.assert_allclose(scores, errors[:, 0] - errors.mean(axis=1), atol=1e-9)
        num_steps = errors.shape[1] - 1
        np.testing.assert_allclose(aopc_scores(errors, "paper"), scores * (num_steps + 1) / num_steps, atol=1e-9)

    @PROPERTIES
    @given(arrays(float, (3, 5), elements=st.floats(0, 1e3)), st.floats(0.1, 10), st.floats(-5, 5))
    def test_scale_with_the_unit_and_ignore_an_offset(self, errors, factor, offset):
        np.testing.assert_allclose(aopc_scores(factor * errors + offset), factor * aopc_scores(errors), atol=1e-8)


class TestIntervals:
    def test_agree_with_the_bootstrap_of_one_statistic(self):
        values = np.random.default_rng(0).exponential(size=(40, 2))
        lower, upper = bootstrap_means(values, num_resamples=20_000)
        for column in range(2):
            expected = statistics.bootstrap_interval(values[:, column], np.mean, num_resamples=5_000)
            assert lower[column] == pytest.approx(expected.lower, abs=0.02)
            assert upper[column] == pytest.approx(expected.upper, abs=0.02)

    def test_groups_are_drawn_whole(self):
        # Two groups: a resample is one of them twice or both, so means are 1, 3 or that of all six values.
        values = np.array([1.0, 1.0, 3.0, 3.0, 3.0, 3.0])[:, None]
        lower, upper = bootstrap_means(values, groups=["a", "a", "b", "b", "b", "b"])
        assert (lower[0], upper[0]) == (1.0, 3.0)
        expected = statistics.bootstrap_interval(values[:, 0], np.mean, groups=["a", "a", "b", "b", "b", "b"])
        assert (expected.lower, expected.upper) == (1.0, 3.0)

    def test_wide_tables_are_resampled_in_parts_with_one_result(self, monkeypatch):
        values = np.random.default_rng(0).normal(size=(30, 3))
        whole = bootstrap_means(values)
        monkeypatch.setattr(aopc_results, "_VALUES_AT_ONCE", 900)
        np.testing.assert_allclose(bootstrap_means(values), whole)

    def test_one_image_has_no_interval(self):
        found = result_of([[1.0, 2.0, 3.0]])
        assert np.isnan(found.errors_interval).all()
        assert np.isnan(found.score_interval).all()
        assert found.mean_score == -1.0

    def test_hold_the_mean_as_often_as_they_promise(self):
        generator = np.random.default_rng(1)
        covered = []
        for _ in range(120):
            errors = generator.gamma(2.0, size=(60, 2)) * [0.0, 1.0]
            lower, upper = curves_of(errors, "samek", None, 0.9, 0)["errors_interval"]
            covered.append(lower[1] <= 2.0 <= upper[1])
        assert np.mean(covered) == pytest.approx(0.9, abs=0.07)

    def test_mean_and_interval_of_the_score_belong_together(self):
        found = result_of(random_errors())
        assert found.mean_score == pytest.approx(found.scores.mean())
        assert found.score_interval[0] < found.mean_score < found.score_interval[1]
        np.testing.assert_allclose(found.mean_errors, found.errors.mean(axis=0))
        assert (found.errors_interval[0] <= found.mean_errors).all()
        assert (found.mean_errors <= found.errors_interval[1]).all()


class TestCompare:
    def test_wilcoxon_and_holm_of_every_pair(self):
        results = [result_of(random_errors(slope=s, seed=n), name) for n, (name, s) in enumerate(zip("abc", (3, 2, 1)))]
        rows = compare_analyzers(results)
        assert [(row["analyzer"], row["other_analyzer"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
        expected = [stats.wilcoxon(results[i].scores, results[j].scores).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
        np.testing.assert_allclose([row["p_value"] for row in rows], expected, rtol=1e-9)
        np.testing.assert_allclose([row["p_value_holm"] for row in rows], statistics.holm(expected), rtol=1e-9)
        for row, (i, j) in zip(rows, ((0, 1), (0, 2), (1, 2))):
            difference = results[i].scores - results[j].scores
            assert row["num_pairs"] == 12
            assert row["mean_difference"] == pytest.approx(difference.mean())
            assert row["median_difference"] == pytest.approx(np.median(difference))
            assert row["difference_lower"] < row["mean_difference"] < row["difference_upper"]
        assert rows[1]["mean_difference"] < 0  # "a" raises the error more: it is better

    def test_equal_results_do_not_differ(self):
        (row,) = compare_analyzers({"one": result_of(random_errors()), "two": result_of(random_errors())})
        assert (row["p_value"], row["p_value_holm"], row["mean_difference"]) == (1.0, 1.0, 0.0)

    def test_a_baseline_can_be_one_of_the_compared(self):
        result = result_of(random_errors(slope=3), random=random_errors(seed=5))
        (row,) = compare_analyzers([result], baselines=["random"])
        assert (row["analyzer"], row["other_analyzer"]) == ("a", "random")
        assert row["mean_difference"] < 0
        assert row["p_value"] < 0.01

    def test_images_of_one_examination_count_once(self):
        groups = np.repeat(["x", "y", "z", "w", "v", "u"], 2)
        first, second = (result_of(random_errors(seed=n), name, groups=groups) for n, name in enumerate("ab"))
        (row,) = compare_analyzers([first, second])
        assert row["num_pairs"] == 6
        means = [[r.scores[groups == group].mean() for group in np.unique(groups)] for r in (first, second)]
        assert row["p_value"] == pytest.approx(stats.wilcoxon(*means).pvalue)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"unit": "px"}, "must have one unit. Received: 'mm' for 'a' and 'px' for 'b'"),
            ({"draws": 3}, "must have one draws. Received: 2 for 'a' and 3 for 'b'"),
            ({"groups": np.arange(12)}, "must have the same groups; 'a' and 'b' do not"),
        ],
    )
    def test_refuses_results_of_other_settings(self, change, words):
        with pytest.raises(ValueError, match=words):
            compare_analyzers([result_of(random_errors()), result_of(random_errors(), "b", **change)])

    def test_refuses_another_perturbation(self):
        first = result_of(random_errors())
        other = result_of(random_errors(), "b", perturbation=replace(first.perturbation, noise=1.0))
        with pytest.raises(ValueError, match=r"must be perturbed alike. Received: .*noise=0.3.* and .*noise=1.0"):
            compare_analyzers([first, other])

    def test_refuses_other_images(self):
        with pytest.raises(
            ValueError, match="same images, targets and model: clean image 0 has the error 0 for 'a' and 5"
        ):
            compare_analyzers([result_of(random_errors()), result_of(random_errors() + 5, "b")])
        with pytest.raises(ValueError, match=r"same images and steps. Received errors of shape \(12, 4\) .* \(9, 4\)"):
            compare_analyzers([result_of(random_errors()), result_of(random_errors(9), "b")])

    def test_refuses_too_little(self):
        with pytest.raises(ValueError, match=r"needs at least two results. Received: 1"):
            compare_analyzers([result_of(random_errors())])
        with pytest.raises(ValueError, match=r"needs at least two results. Received: 0"):
            compare_analyzers([])
        with pytest.raises(ValueError, match=r"a name of its own. Received: \['a', 'a'\]. Pass a dict"):
            compare_analyzers([result_of(random_errors())] * 2)
        with pytest.raises(ValueError, match=r"baseline 'random' must be one of the first result's.*has: \[\]"):
            compare_analyzers([result_of(random_errors())], baselines=("random",))
