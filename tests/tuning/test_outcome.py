"""Best epochs, means over executions, and what counts as diverged, against numbers worked by hand."""

import doctest
import math
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.tuning import outcome
from hcreg.tuning.outcome import outcome_of

LOSS = keras_tuner.Objective("val_loss", "min")
ACCURACY = keras_tuner.Objective("val_accuracy", "max")
NAN, INF = float("nan"), float("inf")


def test_doctests():
    assert doctest.testmod(outcome).failed == 0


def test_the_metrics_are_those_of_the_best_epoch():
    history = {"loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [4.0, 2.5, 2.25, 9.0]}
    assert outcome_of([history], LOSS) == ({"loss": 2.0, "val_loss": 2.25}, 2, "")


def test_a_score_is_best_where_it_is_highest():
    history = {"loss": [4.0, 3.0, 2.0], "val_accuracy": [0.25, 0.75, 0.5]}
    assert outcome_of([history], ACCURACY) == ({"loss": 3.0, "val_accuracy": 0.75}, 1, "")


def test_executions_are_averaged_and_their_best_epochs_rounded_down():
    first = {"val_loss": [4.0, 1.0, 2.0, 3.0]}
    second = {"val_loss": [5.0, 4.0, 3.5, 3.0]}
    assert outcome_of([first, second], LOSS) == ({"val_loss": 2.0}, 2, "")  # (1 + 3) / 2, epochs (1 + 3) / 2


@pytest.mark.parametrize(
    "result", [2.5, np.float32(2.5), {"val_loss": 2.5}, SimpleNamespace(history={"val_loss": [2.5]})]
)
def test_every_form_of_result_is_read(result):
    assert outcome_of([result], LOSS) == ({"val_loss": 2.5}, 0, "")


@pytest.mark.parametrize(
    ("values", "divergence", "best"),
    [
        ([NAN], "val_loss is nan", 0),
        ([NAN, NAN], "val_loss is nan in epoch 2", 1),
        ([2.0, 1.0, NAN], "val_loss is nan in epoch 3", 1),
        ([2.0, INF], "val_loss is inf in epoch 2", 0),
        ([2.0, -INF], "val_loss is -inf in epoch 2", 0),  # better than all, were it a number
        ([NAN, 2.0, 1.0], "", 2),
    ],
)
def test_a_trial_diverged_where_its_objective_ends_not_finite(values, divergence, best):
    _, step, found = outcome_of([{"val_loss": values}], LOSS)
    assert (found, step) == (divergence, best)


def test_one_diverged_execution_makes_the_trial_diverged():
    assert outcome_of([{"val_loss": [1.0]}, {"val_loss": [1.0, INF]}, {"val_loss": [2.0]}], LOSS)[2] == (
        "val_loss is inf in epoch 2"
    )


def test_epochs_without_validation_do_not_count():
    # validation_freq=2 over 5 epochs, as the recorder notes it: gaps before a value, none after the last
    history = {"loss": [5.0, 4.0, 3.0, 2.0, 1.0], "val_loss": [NAN, 3.0, NAN, 3.5]}
    assert outcome_of([history], LOSS) == ({"loss": 4.0, "val_loss": 3.0}, 1, "")


def test_several_objectives_are_one_number():
    objective = keras_tuner.src.engine.objective.create_objective([LOSS, ACCURACY])
    metrics, step, _ = outcome_of([{"val_loss": [1.0, 0.5], "val_accuracy": [0.9, 0.1]}], objective)
    assert step == 0  # 1 - 0.9 is less than 0.5 - 0.1
    assert metrics[objective.name] == pytest.approx(0.1)


@pytest.mark.parametrize("history", [{"loss": [1.0], "val_mae": [2.0]}, {}])
def test_an_objective_that_is_not_there_is_an_error_that_names_what_is(history):
    there = "loss, val_mae" if history else "none"
    with pytest.raises(ValueError, match=f"objective 'val_loss' is not among the metrics of training: {there}"):
        outcome_of([history], LOSS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.sampled_from(["min", "max"]))
def test_finite_histories_give_the_extreme_and_where_it_first_was(values, direction):
    metrics, step, divergence = outcome_of([{"v": values}], keras_tuner.Objective("v", direction))
    extreme = min(values) if direction == "min" else max(values)
    assert (metrics["v"], step, divergence) == (extreme, values.index(extreme), "")
    assert not math.isnan(metrics["v"])
