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


def outlines(axes):
    """The lines of a panel with many points, by their colour."""
    return {line.get_color(): line for line in axes.lines if len(line.get_xdata()) > 20}


def test_a_segmented_case_shows_where_the_network_saw_the_head(make_row, segmented, black_image, head, load_mask):
    rows = [segmented(make_row(0, 100.0, 103.0))]
    figure = plotting.cases(rows, black_image, head, load_mask=load_mask)
    drawn = outlines(figure.axes[0])
    true, fitted, mask = (drawn[colour] for colour in (plotting.GREEN, plotting.ORANGE, "#56B4E9"))
    assert (true.get_linestyle(), fitted.get_linestyle()) == ("--", "-")
    np.testing.assert_allclose(true.get_xydata()[:-1].mean(axis=0), [40, 30], atol=1e-6)
    np.testing.assert_allclose(fitted.get_xydata()[:-1].mean(axis=0), [45, 30], atol=1e-6)
    inside = load_mask("")
    assert all(inside[int(y), int(x)] for x, y in mask.get_xydata())  # its outermost pixels
    assert (
        figure.axes[0].get_title().startswith("000_HC, trimester 2, Dice 0.900\ntrue 100.0, predicted 103.0 mm (+3.0)")
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["predicted mask", "ellipse fitted to the mask", "annotated ellipse"]


def test_without_weights_a_segmented_case_shows_its_ellipse(make_row, segmented, black_image, head):
    figure = plotting.cases([segmented(make_row(0, 100.0, 103.0))], black_image, head)
    assert set(outlines(figure.axes[0])) == {plotting.GREEN, plotting.ORANGE}


def test_a_case_that_failed_says_why_in_red(make_row, failed, segmented, black_image, head):
    rows = [segmented(make_row(0, 100.0, 103.0)), failed(make_row(1, 100.0, 103.0))]
    figure = plotting.cases(rows, black_image, head, num=2)
    titles = [axes.title for axes in figure.axes]
    text = " ".join(titles[0].get_text().split())
    assert text.startswith("001_HC, trimester 2, Dice 0.000 true 100.0 mm, no prediction the mask is empty: no pixel")
    assert [title.get_color() for title in titles[:2]] == ["#B00000", "black"]
    assert set(outlines(figure.axes[0])) == {plotting.GREEN}


def test_a_mask_of_another_size_is_refused(make_row, segmented, black_image):
    with pytest.raises(
        ValueError, match=r"image's size, \(height, width\) = \(60, 80\)\. Received: \(30, 40\)\. .*map_to"
    ):
        plotting.cases([segmented(make_row(0, 100.0, 103.0))], black_image, load_mask=lambda _: np.ones((30, 40), bool))


def test_a_small_error_has_no_negative_zero(make_row, black_image):
    title = plotting.cases([make_row(0, 100.0, 99.97)], black_image).axes[0].get_title()
    assert "predicted 100.0 mm (+0.0)" in title
