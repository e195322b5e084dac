"""What stands on a chart is what the rows hold, with units."""

import numpy as np
import pytest

from hcreg import plotting

NAN = float("nan")


def drawn(figure, label):
    """The points of the line or the points with that label, on the first axes that have it."""
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, found in zip(handles, labels):
            if label in found:
                offsets = handle.get_offsets() if hasattr(handle, "get_offsets") else handle.get_xydata()
                return np.asarray(offsets)
    raise AssertionError(f"nothing is labelled {label!r}")


def test_predicted_stands_against_true_with_identity_line(rows):
    figure = plotting.actual_against_predicted(rows)
    np.testing.assert_array_equal(drawn(figure, "second trimester"), [[160, 163], [180, 176]])
    identity = drawn(figure, "perfect")
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    assert figure.axes[0].get_title() == "6 images, MAE 3.5 mm"


def test_trimesters_differ_in_colour_and_marker(rows):
    figure = plotting.actual_against_predicted(rows)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    points = [handle for handle, label in zip(handles, labels) if "trimester" in label]
    assert len({tuple(handle.get_facecolor()[0]) for handle in points}) == 3
    assert len({handle.get_paths()[0].vertices.tobytes() for handle in points}) == 3


def test_infinite_intervals_are_not_drawn(rows):
    unbounded = [row | {"interval_low_mm": 0.0, "interval_high_mm": float("inf")} for row in rows]
    labels = plotting.actual_against_predicted(unbounded).axes[0].get_legend_handles_labels()[1]
    assert not any("interval" in label for label in labels)


def test_residuals_are_predicted_minus_true_with_their_sd(rows):
    figure = plotting.residuals(rows)
    np.testing.assert_allclose(drawn(figure, "third trimester"), [[280, 5], [300, -6]])
    labels = figure.axes[2].get_legend_handles_labels()[1]
    assert labels == ["mean −0.5 mm", "mean ± SD (4.2 mm)"]


def test_rows_without_prediction_are_counted_on_the_figure(rows):
    rows[0]["y_pred_mm"] = NAN
    for draw in (plotting.actual_against_predicted, plotting.bland_altman, plotting.error_by_trimester):
        assert "(1 of 6 without a prediction, not drawn)" in draw(rows).axes[0].get_title()
    assert "(1 of 6 without a prediction" in plotting.residuals(rows).get_suptitle()


def test_no_prediction_at_all_is_an_error(rows):
    with pytest.raises(ValueError, match="No row has a finite y_true_mm and y_pred_mm"):
        plotting.residuals([row | {"y_pred_mm": NAN} for row in rows])


def test_bland_altman_draws_bias_and_limits(make_row):
    rows = [make_row(i, 100.0, 100.0 + error) for i, error in enumerate((1.0, 2.0, 3.0))]
    figure = plotting.bland_altman(rows)
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(sorted(levels), [0, 2 - 1.959964, 2, 2 + 1.959964], atol=1e-6)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        " upper limit\n +4.0 mm",
        " bias\n +2.0 mm",
        " lower limit\n +0.0 mm",
    ]
    assert len(figure.axes[0].patches) == 3  # a confidence band for each line


def test_bland_altman_of_several_runs_has_one_scale_and_its_numbers_above(make_row):
    runs = {
        "close": [make_row(i, 100.0, 100.0 + error) for i, error in enumerate((1.0, 2.0, 3.0))],
        "far": [make_row(i, 200.0, 200.0 + error) for i, error in enumerate((-30.0, -20.0, -10.0, NAN))],
    }
    figure = plotting.bland_altman(runs)
    titles = [axes.get_title().split("\n") for axes in figure.axes]
    assert titles[0] == ["close", "bias +2.0, limits +0.0 to +4.0 mm"]
    assert titles[1][:2] == ["far", "bias −20.0, limits −39.6 to −0.4 mm"]
    assert titles[1][2] == "(1 of 4 without a prediction, not drawn)"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert not figure.axes[0].texts  # beside the panels they would lie over each other


def test_trimester_labels_hold_count_mae_and_constant_guess(rows):
    labels = [label.get_text() for label in plotting.error_by_trimester(rows).axes[0].get_xticklabels()]
    assert labels == [
        "first trimester (n = 2)\nMAE 1.5 mm\nconstant guess 85.0 mm",
        "second trimester (n = 2)\nMAE 3.5 mm\nconstant guess 10.0 mm",
        "third trimester (n = 2)\nMAE 5.5 mm\nconstant guess 120.0 mm",
    ]


def test_fold_spread_has_each_fold_and_the_mean_over_all(rows):
    figure = plotting.fold_spread(rows)
    labels = [label.get_text().split("\n")[:2] for label in figure.axes[0].get_xticklabels()]
    assert labels == [["fold 0 (n = 3)", "MAE 3.0 mm"], ["fold 1 (n = 3)", "MAE 4.0 mm"]]
    np.testing.assert_allclose(drawn(figure, "all folds: MAE 3.5 mm")[:, 1], 3.5)


def test_distribution_shows_the_share_of_each_part():
    parts = {"training": [100, 150, 200, 210], "test": [120, NAN, 190]}
    axes = plotting.head_circumference_distribution(parts).axes[0]
    handles, labels = axes.get_legend_handles_labels()
    assert labels == ["training (n = 4, median 175 mm)", "test (n = 2, median 155 mm)"]
    bars = [container for container in axes.containers if hasattr(container, "patches")]
    for bar in bars:
        if len(bar.patches) > 1:
            assert sum(patch.get_height() for patch in bar.patches) == pytest.approx(100)
    assert len(handles) == 2


def test_distribution_of_rows_compares_true_and_predicted(rows):
    labels = plotting.head_circumference_distribution(rows).axes[0].get_legend_handles_labels()[1]
    assert [label.split()[0] for label in labels] == ["true", "predicted"]


def test_distribution_names_the_empty_part():
    with pytest.raises(ValueError, match=r"Without one: \['test'\]"):
        plotting.head_circumference_distribution({"training": [100.0], "test": [NAN]})
