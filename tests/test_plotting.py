"""What stands on a figure is what the rows hold, with units, and drawing leaves no trace in matplotlib."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hcreg import plotting
from hcreg.geometry import Ellipse
from hcreg.report import FIGURES

NAN = float("nan")


def make_row(number, y_true_mm, y_pred_mm, trimester=2, fold=0, half_width_mm=5.0):
    return {
        "subject_id": f"{number:03d}_HC",
        "examination_id": f"{number:03d}",
        "fold": fold,
        "trimester": trimester,
        "pixel_size_mm": 0.5,
        "y_true_px": y_true_mm / 0.5,
        "y_pred_px": y_pred_mm / 0.5,
        "y_true_mm": y_true_mm,
        "y_pred_mm": y_pred_mm,
        "constant_px": 340.0,
        "constant_mm": 170.0,
        "interval_low_mm": y_pred_mm - half_width_mm,
        "interval_high_mm": y_pred_mm + half_width_mm,
    }


@pytest.fixture
def rows():
    """Errors 1, -2, 3, -4, 5, -6 mm: MAE 3.5, bias -0.5, SD sqrt(17.9) = 4.23 mm."""
    truth = [80.0, 90.0, 160.0, 180.0, 280.0, 300.0]
    errors = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
    return [
        make_row(i, true, true + error, trimester=1 + i // 2, fold=i % 2)
        for i, (true, error) in enumerate(zip(truth, errors))
    ]


@pytest.fixture
def history():
    names = ("epoch", "loss", "val_loss", "mae_px", "val_mae_px", "learning_rate", "seconds")
    lines = [(1, 0.9, 0.8, 90, 80, 1e-3, 1), (2, 0.5, 0.4, 50, 40, 1e-3, 1), (3, 0.2, 0.6, 20, 60, 1e-3, 1)]
    return [dict(zip(names, line)) for line in lines]


def black_image(subject_id):
    return np.zeros((60, 80), np.uint8)


def head(subject_id):
    return Ellipse(40.0, 30.0, 20.0, 10.0, 0.3)


def drawn(figure, label):
    """The points of the line or the points with that label, on the first axes that have it."""
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, found in zip(handles, labels):
            if label in found:
                offsets = handle.get_offsets() if hasattr(handle, "get_offsets") else handle.get_xydata()
                return np.asarray(offsets)
    raise AssertionError(f"nothing is labelled {label!r}")


def test_every_axis_has_a_label_with_its_unit(rows, history):
    error = "error, predicted − true (mm)"
    expected = {
        "actual_against_predicted": [("true HC (mm)", "predicted HC (mm)")],
        "residuals": [("true HC (mm)", error), ("predicted HC (mm)", ""), ("number of images", "")],
        "bland_altman": [("mean of true and predicted HC (mm)", error)],
        "error_by_trimester": [("", "absolute error (mm)")],
        "fold_spread": [("", "absolute error (mm)")],
        "head_circumference_distribution": [("head circumference (mm)", "share of the part's images (%)")],
        "history_curves": [("epoch", "loss (no unit)"), ("epoch", "mean absolute error (px)")],
    }
    figures = plotting.regression_figures(rows, history)
    found = {name: [(a.get_xlabel(), a.get_ylabel()) for a in f.axes] for name, f in figures.items()}
    assert found == expected


def test_the_captions_of_the_report_know_every_figure(rows, history):
    figures = plotting.regression_figures(rows, history, None, black_image, head)
    assert set(figures) == set(FIGURES)


def test_one_fold_has_no_fold_figure(rows):
    assert "fold_spread" not in plotting.regression_figures([row | {"fold": 0} for row in rows])


def test_two_images_have_no_bland_altman_figure(rows):
    assert "bland_altman" not in plotting.regression_figures(rows[:2])


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


def test_bland_altman_draws_bias_and_limits():
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


def test_best_epoch_has_the_lowest_validation_loss(history):
    figure = plotting.history_curves(history)
    np.testing.assert_array_equal(drawn(figure, "best epoch: 2")[:, 0], [2, 2])
    markers = [line.get_xydata().tolist() for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert markers == [[[2, 0.4]], [[2, 40]]]
    np.testing.assert_array_equal(drawn(figure, "training"), [[1, 0.9], [2, 0.5], [3, 0.2]])


def test_history_without_validation_takes_the_training_loss(history):
    for row in history:
        del row["val_loss"], row["val_mae_px"]
    figure = plotting.history_curves(history)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["training", "best epoch: 3"]


def test_history_survives_an_epoch_that_was_not_finite(history):
    history[1]["val_loss"] = NAN
    assert drawn(plotting.history_curves(history), "best epoch: 3").size


@pytest.mark.parametrize(
    ("worst", "num", "expected"),
    [(True, 3, ["005_HC", "004_HC", "003_HC"]), (False, 2, ["000_HC", "001_HC"])],
)
def test_cases_are_the_extreme_errors_in_order(rows, worst, num, expected):
    asked = []

    def load_image(subject_id):
        asked.append(subject_id)
        return black_image(subject_id)

    figure = plotting.cases(rows[3:] + rows[:3], load_image, worst=worst, num=num)
    assert asked == expected
    titles = [axes.get_title().split(",")[0] for axes in figure.axes if axes.get_title()]
    assert titles == expected


def test_no_prediction_is_the_worst_case_and_never_a_best_one(rows):
    rows[0]["y_pred_mm"] = NAN
    assert [row["subject_id"] for row in plotting.rank_cases(rows, num=2)] == ["000_HC", "005_HC"]
    assert "000_HC" not in [row["subject_id"] for row in plotting.rank_cases(rows, worst=False)]
    figure = plotting.cases(rows, black_image, head, num=1)
    assert "true 80.0 mm, no prediction" in figure.axes[0].get_title()


def test_equal_errors_are_ordered_by_subject():
    rows = [make_row(number, 100.0, 103.0) for number in (2, 0, 1)]
    assert [row["subject_id"] for row in plotting.rank_cases(rows)] == ["000_HC", "001_HC", "002_HC"]


def test_case_title_holds_both_values_and_whether_the_interval_holds():
    rows = [make_row(0, 100.0, 103.0), make_row(1, 100.0, 92.0)]
    titles = [axes.get_title() for axes in plotting.cases(rows, black_image, num=2).axes]
    assert titles[0].split("\n") == [
        "001_HC, trimester 2",
        "true 100.0, predicted 92.0 mm (−8.0)",
        "interval 87 to 97 mm misses the true HC",
    ]
    assert titles[1].endswith("(+3.0)\ninterval 98 to 108 mm holds the true HC")


def test_dashed_ellipse_has_the_predicted_circumference():
    figure = plotting.cases([make_row(0, 100.0, 125.0)], black_image, head, num=1)
    lines = {line.get_linestyle(): line.get_xydata() for line in figure.axes[0].lines if len(line.get_xdata()) > 100}
    lengths = {style: np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for style, points in lines.items()}
    assert lengths["-"] == pytest.approx(head("").circumference_px, rel=1e-3)
    assert lengths["--"] == pytest.approx(1.25 * lengths["-"])
    np.testing.assert_allclose(lines["--"][:-1].mean(axis=0), [40, 30], atol=1e-6)


def test_scale_bar_is_twenty_mm_long():
    figure = plotting.cases([make_row(0, 100.0, 125.0)], black_image, num=1)
    (bar,) = figure.axes[0].lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(20 / 0.5)


def test_rows_are_checked(rows):
    with pytest.raises(ValueError, match=r"needs at least one row of the per-subject table\. Received: none"):
        plotting.residuals([])
    del rows[2]["y_pred_mm"]
    with pytest.raises(ValueError, match=r"column 'y_pred_mm' of predictions.csv. The row of subject 002_HC has"):
        plotting.residuals(rows)


def test_save_writes_the_same_png_every_time(rows, tmp_path):
    paths = [plotting.save(plotting.residuals(rows), tmp_path / name / "a.png") for name in ("1", "2")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(io.BytesIO(paths[0].read_bytes())) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 1170
        assert not {"Software", "Creation Time", "date"} & set(picture.info)


def test_save_refuses_other_endings(rows, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a path that ends in \.png, received: .*a\.pdf"):
        plotting.save(plotting.residuals(rows), tmp_path / "a.pdf")


def test_drawing_changes_no_setting_of_matplotlib(rows, history):
    before = dict(matplotlib.rcParams)
    plotting.regression_figures(rows, history, None, black_image, head)
    assert dict(matplotlib.rcParams) == before


def test_drawing_needs_neither_pyplot_nor_a_framework():
    code = (
        "import sys, hcreg.plotting as p\n"
        "row = dict(trimester=1, y_true_mm=1.0, y_pred_mm=2.0, interval_low_mm=0.0, interval_high_mm=3.0)\n"
        "p.actual_against_predicted([row]).canvas.draw()\n"
        "print([m for m in ('matplotlib.pyplot', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
