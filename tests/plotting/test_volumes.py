"""Charts of volumes show what the rows hold, each phase in its colour."""

import math

import numpy as np
import pytest

from hcreg import plotting
from hcreg.plotting.canvas import BLUE, RED

NAN = float("nan")
STRUCTURES = ("RV", "MYO", "LV")


@pytest.fixture
def hearts():
    """Errors of the LV at ED: 1, 2 and 3 ml; at ES -1, -1 and 2; of the others ten times as large."""
    rows = []
    for phase, errors_ml in (("ED", (1, 2, 3)), ("ES", (-1, -1, 2))):
        for number, error_ml in enumerate(errors_ml):
            true_ml = 100.0 + 50 * number
            row = {"subject_id": f"{number}_{phase}", "phase": phase}
            for name in STRUCTURES:
                row[f"{name}_true_ml"] = true_ml
                row[f"{name}_pred_ml"] = true_ml + error_ml * (1 if name == "LV" else 10)
            rows.append(row)
    return rows


def points(axes):
    return [np.asarray(part.get_offsets()) for part in axes.collections]


def test_agreement_has_a_panel_for_each_structure_and_difference_against_mean(hearts):
    figure = plotting.volume_agreement(hearts, title="row")
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == list(STRUCTURES)
    ed, es = points(figure.axes[2])
    np.testing.assert_allclose(ed, [[100.5, 1], [151, 2], [201.5, 3]])
    np.testing.assert_allclose(es[:, 1], [-1, -1, 2])
    assert figure.get_suptitle() == "row"
    assert figure.axes[0].get_ylabel() == "predicted − true (ml)"


def test_bias_and_limits_are_of_each_phase_in_its_colour(hearts):
    axes = plotting.volume_agreement(hearts).axes[2]
    levels = {}
    for line in axes.lines[1:]:  # the first is zero
        levels.setdefault(line.get_color(), []).append(line.get_ydata()[0])
    np.testing.assert_allclose(levels[BLUE], [2 + 1.959964, 2, 2 - 1.959964], atol=1e-6)
    np.testing.assert_allclose(levels[RED], [1.959964 * math.sqrt(3), 0, -1.959964 * math.sqrt(3)], atol=1e-5)
    assert axes.get_title().split("\n")[1:] == ["ED: +2.0 (+0.0 to +4.0)", "ES: +0.0 (−3.4 to +3.4)"]


def test_scatter_has_the_identity_line_and_the_errors(hearts):
    axes = plotting.volume_scatter(hearts).axes[2]
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(points(axes)[0], [[100, 101], [150, 152], [200, 203]])
    assert axes.get_title().split("\n") == ["LV", "ED: MAE 2.0 ml", "ES: MAE 1.3 ml"]


def test_legend_tells_the_phases_apart_by_marker_too(hearts):
    figure = plotting.volume_scatter(hearts)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ED", "ES"]
    markers = {part.get_paths()[0].vertices.tobytes() for part in figure.axes[0].collections}
    assert len(markers) == 2


def test_other_routes_and_the_heart_as_one(hearts):
    rows = [{"phase": row["phase"], "heart_true_ml": 300.0, "heart_mask_ml": 310.0} for row in hearts]
    (axes,) = plotting.volume_agreement(rows, "mask").axes
    assert axes.get_title().split("\n")[0] == "heart"
    np.testing.assert_allclose(points(axes)[0], [[305, 10]] * 3)


def test_two_hearts_have_points_and_no_limits(hearts):
    axes = plotting.volume_agreement(hearts[:2]).axes[0]
    assert axes.get_title().split("\n")[1:] == ["ED: 2 hearts, no limits"]
    assert len(axes.lines) == 1


def test_hearts_of_unknown_volume_are_left_out(hearts):
    hearts[0] |= {f"{name}_true_ml": NAN for name in STRUCTURES}
    assert len(points(plotting.volume_scatter(hearts).axes[0])[0]) == 2


def test_what_cannot_be_drawn_says_why(hearts):
    with pytest.raises(ValueError, match=r"no volumes of the route 'mask': no column such as 'LV_mask_ml'"):
        plotting.volume_agreement(hearts, "mask")
    with pytest.raises(ValueError, match="No row has both a true and a predicted volume of RV"):
        plotting.volume_scatter([row | {"RV_true_ml": NAN} for row in hearts])
