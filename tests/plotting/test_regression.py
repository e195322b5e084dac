"""All figures of a run: each has its labels and its caption, and drawing leaves no trace in matplotlib."""

import subprocess
import sys

import matplotlib

from hcreg import plotting
from hcreg.report import FIGURES


def test_every_axis_has_a_label_with_its_unit(head, rows, history):
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


def test_the_captions_of_the_report_know_every_figure(black_image, head, rows, history):
    figures = plotting.regression_figures(rows, history, None, black_image, head)
    assert set(figures) == set(FIGURES)


def test_one_fold_has_no_fold_figure(rows):
    assert "fold_spread" not in plotting.regression_figures([row | {"fold": 0} for row in rows])


def test_two_images_have_no_bland_altman_figure(rows):
    assert "bland_altman" not in plotting.regression_figures(rows[:2])


def test_drawing_changes_no_setting_of_matplotlib(black_image, head, rows, history):
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
