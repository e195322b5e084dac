"""Regression metrics: hand numbers, scikit-learn's formulas, properties, and every error by its words."""

import doctest

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hcreg import metrics
from hcreg.metrics import regression

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)

ALL = [getattr(regression, name) for name in regression.__all__]

lengths = st.lists(
    st.tuples(st.floats(40, 350), st.floats(0, 400)),
    min_size=2,
    max_size=30,
)


def columns(pairs):
    return np.array(pairs).T


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # Truths 100, 200, 400; errors +10, -10, +100: absolute 10, 10, 100; percent 10, 5, 25.
        (metrics.mean_absolute_error, 40.0),
        (metrics.percentage_mean_absolute_error, 40.0 / 3),
        (metrics.root_mean_squared_error, 3400.0**0.5),
        (metrics.median_absolute_error, 10.0),
        (metrics.mean_error, 100.0 / 3),
        # Mean truth 700/3; squares about it 160000/9 + 10000/9 + 250000/9 = 420000/9; squared errors 10200.
        (metrics.r2_score, 1 - 10200 / (420000 / 9)),
    ],
)
def test_hand_numbers(metric, expected):
    found = metric([100, 200, 400], [110, 190, 500])
    assert type(found) is float
    assert found == pytest.approx(expected, rel=1e-12)


def test_rmse_has_one_root_over_the_set():
    assert metrics.root_mean_squared_error([0.0, 0.0], [3.0, 4.0]) == pytest.approx(12.5**0.5)


def test_percentage_error_is_in_percent():
    assert metrics.percentage_mean_absolute_error([4.0], [5.0]) == 25.0


def test_mean_error_is_prediction_minus_truth():
    assert metrics.mean_error([10.0], [12.0]) == 2.0


@PROPERTIES
@given(lengths)
def test_agree_with_scikit_learn(pairs):
    y_true, y_pred = columns(pairs)
    assert metrics.mean_absolute_error(y_true, y_pred) == pytest.approx(
        sklearn.metrics.mean_absolute_error(y_true, y_pred)
    )
    assert metrics.percentage_mean_absolute_error(y_true, y_pred) == pytest.approx(
        100 * sklearn.metrics.mean_absolute_percentage_error(y_true, y_pred)
    )
    assert metrics.median_absolute_error(y_true, y_pred) == pytest.approx(
        sklearn.metrics.median_absolute_error(y_true, y_pred)
    )
    assume(np.ptp(y_true) > 1e-3)
    assert metrics.r2_score(y_true, y_pred) == pytest.approx(sklearn.metrics.r2_score(y_true, y_pred))


@PROPERTIES
@given(lengths, st.floats(0.05, 0.4))
def test_change_of_unit(pairs, pixel_size_mm):
    y_true, y_pred = columns(pairs)
    in_mm = (y_true * pixel_size_mm, y_pred * pixel_size_mm)
    for metric in (
        metrics.mean_absolute_error,
        metrics.root_mean_squared_error,
        metrics.median_absolute_error,
        metrics.mean_error,
    ):
        assert metric(*in_mm) == pytest.approx(pixel_size_mm * metric(y_true, y_pred), rel=1e-9, abs=1e-9)
    assert metrics.percentage_mean_absolute_error(*in_mm) == pytest.approx(
        metrics.percentage_mean_absolute_error(y_true, y_pred), rel=1e-9, abs=1e-9
    )


@PROPERTIES
@given(lengths)
def test_bias_mae_and_rmse_are_ordered(pairs):
    y_true, y_pred = columns(pairs)
    bias = abs(metrics.mean_error(y_true, y_pred))
    mae = metrics.mean_absolute_error(y_true, y_pred)
    rmse = metrics.root_mean_squared_error(y_true, y_pred)
    assert bias <= mae + 1e-9
    assert mae <= rmse + 1e-9
    # Squared RMSE is squared bias plus the variance of the errors.
    assert rmse**2 == pytest.approx(bias**2 + np.var(y_pred - y_true), rel=1e-9, abs=1e-9)


def test_r2_of_the_mean_is_zero_and_of_the_truth_one():
    y_true = np.array([50.0, 120.0, 300.0])
    assert metrics.r2_score(y_true, np.full(3, y_true.mean())) == pytest.approx(0.0, abs=1e-12)
    assert metrics.r2_score(y_true, y_true) == 1.0


def test_float32_input_is_summed_in_float64():
    y_true = np.full(100_000, 100.0, dtype=np.float32)
    y_pred = y_true + np.float32(0.125)
    assert metrics.mean_absolute_error(y_true, y_pred) == 0.125


@pytest.mark.parametrize("metric", ALL)
class TestErrors:
    def test_a_network_output_is_to_be_squeezed(self, metric):
        with pytest.raises(ValueError, match=r"Received: \(2,\) and \(2, 1\)\. Squeeze a \(num_subjects, 1\)"):
            metric([1.0, 2.0], [[1.0], [2.0]])

    def test_lengths_differ(self, metric):
        with pytest.raises(ValueError, match=r"of one shape \(num_subjects,\)\. Received: \(2,\) and \(3,\)"):
            metric([1.0, 2.0], [1.0, 2.0, 3.0])

    def test_both_two_dimensional(self, metric):
        with pytest.raises(ValueError, match=r"Received: \(2, 1\) and \(2, 1\)"):
            metric([[1.0], [2.0]], [[1.0], [2.0]])

    def test_empty(self, metric):
        with pytest.raises(ValueError, match="are empty: an error needs at least one subject"):
            metric([], [])

    def test_nan_is_named(self, metric):
        with pytest.raises(ValueError, match=r"`y_pred` must be finite. It is NaN or infinite at indexes 1, 3"):
            metric([1.0, 2.0, 3.0, 4.0], [1.0, np.nan, 3.0, np.inf])
        with pytest.raises(ValueError, match=r"`y_true` must be finite. It is NaN or infinite at index 0"):
            metric([np.nan, 2.0], [1.0, 2.0])


def test_many_nan_are_counted():
    with pytest.raises(ValueError, match=r"indexes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(12 in all\)"):
        metrics.mean_error(np.full(12, np.nan), np.zeros(12))


@pytest.mark.parametrize("truth", [0.0, -3.0])
def test_percentage_error_refuses_a_truth_that_is_not_positive(truth):
    with pytest.raises(ValueError, match=r"needs positive true values.*zero or negative at index 1"):
        metrics.percentage_mean_absolute_error([5.0, truth], [5.0, 1.0])


def test_r2_refuses_a_constant_truth():
    with pytest.raises(ValueError, match=r"at least two different true values\. Received: 3, all 7"):
        metrics.r2_score([7.0, 7.0, 7.0], [1.0, 2.0, 3.0])


def test_every_metric_is_exported():
    assert {name for name in regression.__all__ if getattr(metrics, name) is getattr(regression, name)} == set(
        regression.__all__
    )


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(regression)
    assert results.attempted == len(ALL)
    assert results.failed == 0
