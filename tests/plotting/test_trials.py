"""A study's figures show each trial where it lies, the best one by its direction, and what has no place on the axis."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg import plotting

NAN = float("nan")


def trial(number, learning_rate, objective=None, state=None, **more):
    state = state or ("completed" if objective is not None else "diverged")
    return {"number": number, "state": state, "objective": objective, "hp_learning_rate": learning_rate} | more


def epochs_of(number, values, **more):
    return [{"number": number, "epoch": epoch, "val_loss": value} | more for epoch, value in enumerate(values, 1)]


def drawn(figure, label):
    """The points of the one collection whose label begins so."""
    (found,) = (group for group in figure.axes[0].collections if str(group.get_label()).startswith(label))
    return np.asarray(found.get_offsets()).tolist()


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def study():
    """Best is trial 2 with 4 at 1e-3; two diverged, one failed, one is running."""
    return [
        trial(0, 1e-5, 9.0),
        trial(1, 1e-2, 7.0),
        trial(2, 1e-3, 4.0),
        trial(3, 5e-2),
        trial(4, 1e-1),
        trial(5, 3e-4, state="failed"),
        trial(6, 2e-3, state="running"),
    ]


@pytest.fixture
def histories():
    return [*epochs_of(0, [9.0, 5.0, 6.0]), *epochs_of(1, [8.0, 7.0]), *epochs_of(2, [8.5, NAN, math.inf])]


def test_completed_trials_lie_at_their_learning_rate_and_objective(study):
    figure = plotting.learning_rate_curve(study)
    assert drawn(figure, "completed") == [[1e-5, 9.0], [1e-2, 7.0], [1e-3, 4.0]]
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "objective")
    assert axes.get_title() == "7 trials: 3 completed, 2 diverged, 1 failed, 1 running"


def test_best_is_ringed_and_named_with_its_value(study):
    figure = plotting.learning_rate_curve(study, label="val_mae_px (px)", title="night")
    assert drawn(figure, "best") == [[1e-3, 4.0]]
    assert "best: 4 at 0.001 (trial 2)" in legend_of(figure)
    assert figure.axes[0].get_ylabel() == "val_mae_px (px)"
    assert figure.axes[0].get_title().startswith("night, 7 trials: ")


def test_diverged_trials_are_crosses_at_the_edge_of_the_worst_values(study):
    for direction, is_worst in (("min", lambda y: y > 0.9), ("max", lambda y: y < 0.1)):
        figure = plotting.learning_rate_curve(study, direction=direction)
        (crosses,) = (c for c in figure.axes[0].collections if str(c.get_label()).startswith("diverged"))
        assert crosses.get_transform() != figure.axes[0].transData  # a height of the axes, not of the objective
        assert crosses.get_offset_transform() == figure.axes[0].get_xaxis_transform()
        places = np.asarray(crosses.get_offsets())
        assert places[:, 0].tolist() == [5e-2, 1e-1]
        assert all(is_worst(y) for y in places[:, 1])
        assert "diverged (n = 2)" in legend_of(figure)
        low, high = figure.axes[0].get_xlim()
        assert low < 1e-5 < 1e-1 < high


def test_of_a_score_the_highest_is_best_and_no_logarithm_is_taken(study):
    study[2]["objective"] = 0.01
    figure = plotting.learning_rate_curve(study, direction="max")
    assert drawn(figure, "best") == [[1e-5, 9.0]]
    assert figure.axes[0].get_yscale() == "linear"
    assert plotting.learning_rate_curve(study).axes[0].get_yscale() == "log"


def test_dots_are_coloured_by_the_order_of_the_trials(study):
    figure = plotting.learning_rate_curve(study)
    (dots,) = (group for group in figure.axes[0].collections if str(group.get_label()).startswith("completed"))
    assert dots.get_array().tolist() == [0, 1, 2]
    assert figure.axes[1].get_ylabel() == "number of the trial"


@pytest.mark.parametrize(
    ("direction", "common", "far", "label"),
    [
        ("min", [2.0, 3.0, 30.0], 1e20, "log"),  # a logarithmic axis: beyond 10,000 times the best
        ("min", [-2.0, 3.0, 1.0], 1e20, "linear"),
        ("max", [0.7, 0.8, 0.9], -1e6, "linear"),
    ],
)
def test_a_value_far_off_does_not_flatten_the_others(direction, common, far, label):
    rows = [trial(number, 10.0**-number, value) for number, value in enumerate([*common, far], 1)]
    figure = plotting.learning_rate_curve(rows, direction=direction)
    assert figure.axes[0].get_yscale() == label
    assert [y for _, y in drawn(figure, "completed")] == common
    assert [x for x, _ in drawn(figure, "beyond the axis")] == [1e-4]
    assert "beyond the axis (n = 1)" in legend_of(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < min(common) < max(common) < high < 1e3
    assert low > -1e3


@pytest.mark.parametrize("rows", [[], [trial(0, 1e-3, state="running"), trial(1, 1e-2, state="failed")]])
def test_a_study_without_results_says_so(rows):
    (axes,) = plotting.learning_rate_curve(rows).axes
    assert [text.get_text() for text in axes.texts] == ["no trial has finished yet"]
    assert axes.get_title() == ("2 trials: 1 failed, 1 running" if rows else "0 trials")


def test_only_diverged_trials_are_drawn_without_an_objective():
    figure = plotting.learning_rate_curve([trial(0, 1e-2), trial(1, 1e-1)])
    assert [x for x, _ in drawn(figure, "diverged")] == [1e-2, 1e-1]
    assert len(figure.axes[0].get_yticks()) == 0


def test_another_hyperparameter_is_logarithmic_only_over_a_decade():
    rows = [trial(number, 1e-3, 1.0 + number, hp_units=8 * (1 + number)) for number in range(3)]
    assert plotting.learning_rate_curve(rows, hyperparameter="hp_units").axes[0].get_xscale() == "linear"
    rows[0]["hp_units"] = 1
    assert plotting.learning_rate_curve(rows, hyperparameter="hp_units").axes[0].get_xscale() == "log"


def test_a_trial_that_lacks_the_hyperparameter_is_left_out(study):
    study[0]["hp_learning_rate"] = None
    assert drawn(plotting.learning_rate_curve(study), "completed") == [[1e-2, 7.0], [1e-3, 4.0]]


def test_another_metric_is_drawn(study):
    rows = [row | {"metric_val_mae": 2 * (row["objective"] or 0)} for row in study]
    figure = plotting.learning_rate_curve(rows, objective="metric_val_mae")
    assert drawn(figure, "best") == [[1e-3, 8.0]]
    assert figure.axes[0].get_ylabel() == "metric_val_mae"


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-8, 1.0), st.floats(-1e300, 1e300)), min_size=1, max_size=6))
def test_every_completed_trial_is_drawn_once(pairs):
    rows = [trial(number, rate, value) for number, (rate, value) in enumerate(pairs)]
    for direction, choose in (("min", min), ("max", max)):
        figure = plotting.learning_rate_curve(rows, direction=direction)
        groups = [str(group.get_label()) for group in figure.axes[0].collections]
        beyond = drawn(figure, "beyond") if any(label.startswith("beyond") for label in groups) else []
        assert sorted([x for x, _ in drawn(figure, "completed")] + [x for x, _ in beyond]) == sorted(
            rate for rate, _ in pairs
        )
        assert drawn(figure, "best")[0][1] == choose(value for _, value in pairs)
        figure.canvas.draw()


def test_errors_of_the_curve(study):
    with pytest.raises(ValueError, match=r"direction is 'min' \(lower is better\) or 'max'\. Received: 'minimise'"):
        plotting.learning_rate_curve(study, direction="minimise")
    with pytest.raises(ValueError, match=r"must have the column 'hp_lr'\. Trial 0 has: hp_learning_rate, number,"):
        plotting.learning_rate_curve(study, hyperparameter="hp_lr")
    study[1]["hp_learning_rate"] = "high"
    with pytest.raises(ValueError, match=r"hp_learning_rate must be a number .* Trial 1 has: 'high'"):
        plotting.learning_rate_curve(study)


def test_histories_bring_out_the_trial_with_the_best_epoch(histories):
    figure = plotting.trial_histories(histories, "val_loss")
    (axes,) = figure.axes
    thick = [line for line in axes.lines if line.get_linewidth() > 2 and len(line.get_xdata()) == 3]
    assert [line.get_xydata().tolist() for line in thick] == [[[1, 9.0], [2, 5.0], [3, 6.0]]]
    assert legend_of(figure) == ["best: 5 in epoch 2 (trial 0)", "2 other trials", "NaN or infinite (in 1 trial)"]
    assert [x for x, _ in drawn(figure, "NaN or infinite")] == [2, 3]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "val_loss")


def test_histories_of_a_score_and_of_a_chosen_trial(histories):
    assert legend_of(plotting.trial_histories(histories, "val_loss", direction="max"))[0] == (
        "best: 9 in epoch 1 (trial 0)"
    )
    assert legend_of(plotting.trial_histories(histories, "val_loss", best=1))[0] == "best: 7 in epoch 2 (trial 1)"


def test_executions_of_a_trial_are_curves_of_their_own():
    rows = [*epochs_of(4, [3.0, 2.0], execution=0), *epochs_of(4, [3.5, 1.0], execution=1)]
    figure = plotting.trial_histories(rows, "val_loss")
    assert legend_of(figure) == ["best: 1 in epoch 2 (trial 4)"]
    curves = [line.get_ydata().tolist() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert curves == [[3.0, 2.0], [3.5, 1.0]]


def test_epochs_are_drawn_in_their_order_and_those_without_the_metric_not_at_all():
    rows = [*reversed(epochs_of(0, [4.0, 3.0, 2.0])), {"number": 1, "epoch": 1, "val_loss": None, "loss": 3.0}]
    figure = plotting.trial_histories(rows, "val_loss")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 4.0], [2, 3.0], [3, 2.0]]
    assert legend_of(figure) == ["best: 2 in epoch 3 (trial 0)"]


@pytest.mark.parametrize("num_trials", [1, 2, 500])
def test_any_number_of_trials_fits(num_trials):
    rows = [row for number in range(num_trials) for row in epochs_of(number, [1.0 + number, 0.5 + number])]
    figure = plotting.trial_histories(rows, "val_loss")
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(curves) == num_trials
    assert legend_of(figure)[0] == "best: 0.5 in epoch 2 (trial 0)"


def test_a_single_epoch_is_seen():
    (line, dot) = plotting.trial_histories(epochs_of(0, [2.0]), "val_loss").axes[0].lines
    assert line.get_marker() == dot.get_marker() == "o"


def test_histories_without_a_finite_value_have_crosses_only():
    figure = plotting.trial_histories(epochs_of(0, [NAN, NAN]), "val_loss")
    assert legend_of(figure) == ["1 trial", "NaN or infinite (in 1 trial)"]


def test_histories_without_rows_say_so():
    (axes,) = plotting.trial_histories([], "val_loss").axes
    assert [text.get_text() for text in axes.texts] == ["no trial has finished an epoch yet"]


def test_errors_of_the_histories(histories):
    with pytest.raises(ValueError, match=r"No epoch has the metric 'val_mae'; they have: val_loss\."):
        plotting.trial_histories(histories, "val_mae")
    with pytest.raises(ValueError, match=r"No trial 7 has epochs with 'val_loss'; the trials that have: 0, 1, 2\."):
        plotting.trial_histories(histories, "val_loss", best=7)
    with pytest.raises(ValueError, match="Received: 'up'"):
        plotting.trial_histories(histories, "val_loss", direction="up")
