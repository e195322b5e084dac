"""Learning curves show what a run's history holds, the epoch that was kept, and no more runs than there are colours."""

import numpy as np
import pytest

from hcreg import plotting

NAN = float("nan")


def curve(axes, label):
    """The points of the one line with that label."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return line.get_xydata().tolist()


def dots(figure):
    return [line.get_xydata().tolist() for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]


@pytest.fixture
def mask_history():
    """Of a network that predicts a mask; the best epoch is the first."""
    names = ("epoch", "loss", "val_loss", "dice_score", "val_dice_score", "learning_rate", "seconds")
    return [dict(zip(names, line)) for line in [(1, 0.3, 0.2, 0.7, 0.8, 1e-3, 9), (2, 0.1, 0.25, 0.9, 0.75, 0.0, 9)]]


@pytest.fixture
def ellipse_history(history):
    """Of a network that predicts a mask and a circumference."""
    return [row | {"dice_score": 0.9, "val_dice_score": 0.8} for row in history]


def test_best_epoch_has_the_lowest_validation_loss(history):
    figure = plotting.history_curves(history)
    assert [point[0] for point in curve(figure.axes[0], "best epoch: 2")] == [2, 2]
    assert dots(figure) == [[[2, 0.4]], [[2, 40]]]
    assert curve(figure.axes[0], "training") == [[1, 0.9], [2, 0.5], [3, 0.2]]


def test_history_without_validation_takes_the_training_loss(history):
    for row in history:
        del row["val_loss"], row["val_mae_px"]
    figure = plotting.history_curves(history)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["training", "best epoch: 3"]


def test_history_survives_an_epoch_that_was_not_finite(history):
    history[1]["val_loss"] = NAN
    assert curve(plotting.history_curves(history).axes[0], "best epoch: 3")


def test_history_of_a_mask_has_loss_and_dice_but_no_length(mask_history):
    figure = plotting.history_curves(mask_history)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (no unit)", "Dice score (no unit)"]
    assert curve(figure.axes[1], "validation") == [[1, 0.8], [2, 0.75]]
    assert dots(figure)[1] == [[1, 0.8]]


def test_history_of_a_mask_and_its_ellipse_has_all_three(ellipse_history):
    labels = [axes.get_ylabel() for axes in plotting.history_curves(ellipse_history).axes]
    assert labels == ["loss (no unit)", "Dice score (no unit)", "mean absolute error (px)"]


def test_a_wide_range_is_logarithmic_and_a_dice_score_never_is(ellipse_history):
    ellipse_history[0] |= {"loss": 20.0, "dice_score": 0.01}
    figure = plotting.history_curves(ellipse_history)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]


def test_dice_of_a_network_that_learned_is_not_flattened_by_its_first_epochs(ellipse_history):
    ellipse_history[0]["dice_score"] = 0.01
    low, high = plotting.history_curves(ellipse_history).axes[1].get_ylim()
    assert 0.5 < low < 0.6 < 1.0 <= high
    for row in ellipse_history:
        row |= {"dice_score": 0.2, "val_dice_score": 0.1}
    low, high = plotting.history_curves(ellipse_history).axes[1].get_ylim()
    assert low < 0.1 < 0.2 < high


def test_runs_share_their_panels_each_in_its_colour(mask_history, ellipse_history):
    figure = plotting.learning_curves({"dice": mask_history, "ellipse": ellipse_history})
    assert curve(figure.axes[1], "dice, val_dice_score") == [[1, 0.8], [2, 0.75]]
    assert curve(figure.axes[2], "ellipse, mae_px") == [[1, 90], [2, 50], [3, 20]]
    assert [line.get_label() for line in figure.axes[2].lines if "dice," in line.get_label()] == []
    assert dots(figure) == [[[1, 0.2]], [[2, 0.4]], [[1, 0.8]], [[2, 0.8]], [[2, 40]]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["dice (best epoch: 1)", "ellipse (best epoch: 2)"]
    colours = {
        name: {line.get_color() for a in figure.axes for line in a.lines if line.get_label().startswith(name)}
        for name in ("dice,", "ellipse,")
    }
    assert [len(found) for found in colours.values()] == [1, 1]
    assert colours["dice,"] != colours["ellipse,"]


def test_training_is_solid_and_validation_dashed_as_the_legend_says(mask_history):
    figure = plotting.learning_curves({"dice": mask_history})
    styles = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert (styles["dice, loss"], styles["dice, val_loss"]) == ("-", "--")
    legend = figure.axes[0].get_legend()
    named = {text.get_text(): line.get_linestyle() for text, line in zip(legend.get_texts(), legend.get_lines())}
    assert named == {"training": "-", "validation": "--"}


@pytest.mark.parametrize("number", [0, 7])
def test_too_many_runs_or_none_are_refused(mask_history, number):
    with pytest.raises(ValueError, match=rf"1 to 6 runs fit one figure\. Received: {number}\. Draw them in groups"):
        plotting.learning_curves({str(run): mask_history for run in range(number)})


def test_runs_of_unlike_length_are_drawn_whole(history):
    figure = plotting.learning_curves({"long": history, "short": history[:1]})
    assert np.shape(curve(figure.axes[0], "short, loss")) == (1, 2)
    assert np.shape(curve(figure.axes[0], "long, loss")) == (3, 2)
