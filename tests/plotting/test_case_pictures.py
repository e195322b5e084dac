"""The cases shown are the extreme ones, each with its values, its ellipses and a scale."""

import numpy as np
import pytest

from hcreg import plotting

NAN = float("nan")


@pytest.mark.parametrize(
    ("worst", "num", "expected"),
    [(True, 3, ["005_HC", "004_HC", "003_HC"]), (False, 2, ["000_HC", "001_HC"])],
)
def test_cases_are_the_extreme_errors_in_order(black_image, rows, worst, num, expected):
    asked = []

    def load_image(subject_id):
        asked.append(subject_id)
        return black_image(subject_id)

    figure = plotting.cases(rows[3:] + rows[:3], load_image, worst=worst, num=num)
    assert asked == expected
    titles = [axes.get_title().split(",")[0] for axes in figure.axes if axes.get_title()]
    assert titles == expected


def test_no_prediction_is_the_worst_case_and_never_a_best_one(black_image, head, rows):
    rows[0]["y_pred_mm"] = NAN
    assert [row["subject_id"] for row in plotting.rank_cases(rows, num=2)] == ["000_HC", "005_HC"]
    assert "000_HC" not in [row["subject_id"] for row in plotting.rank_cases(rows, worst=False)]
    figure = plotting.cases(rows, black_image, head, num=1)
    assert "true 80.0 mm, no prediction" in figure.axes[0].get_title()


def test_equal_errors_are_ordered_by_subject(make_row):
    rows = [make_row(number, 100.0, 103.0) for number in (2, 0, 1)]
    assert [row["subject_id"] for row in plotting.rank_cases(rows)] == ["000_HC", "001_HC", "002_HC"]


def test_case_title_holds_both_values_and_whether_the_interval_holds(make_row, black_image):
    rows = [make_row(0, 100.0, 103.0), make_row(1, 100.0, 92.0)]
    titles = [axes.get_title() for axes in plotting.cases(rows, black_image, num=2).axes]
    assert titles[0].split("\n") == [
        "001_HC, trimester 2",
        "true 100.0, predicted 92.0 mm (−8.0)",
        "interval 87 to 97 mm misses the true HC",
    ]
    assert titles[1].endswith("(+3.0)\ninterval 98 to 108 mm holds the true HC")


def test_dashed_ellipse_has_the_predicted_circumference(make_row, black_image, head):
    figure = plotting.cases([make_row(0, 100.0, 125.0)], black_image, head, num=1)
    lines = {line.get_linestyle(): line.get_xydata() for line in figure.axes[0].lines if len(line.get_xdata()) > 100}
    lengths = {style: np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for style, points in lines.items()}
    assert lengths["-"] == pytest.approx(head("").circumference_px, rel=1e-3)
    assert lengths["--"] == pytest.approx(1.25 * lengths["-"])
    np.testing.assert_allclose(lines["--"][:-1].mean(axis=0), [40, 30], atol=1e-6)


def test_scale_bar_is_twenty_mm_long(make_row, black_image):
    figure = plotting.cases([make_row(0, 100.0, 125.0)], black_image, num=1)
    (bar,) = figure.axes[0].lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(20 / 0.5)
