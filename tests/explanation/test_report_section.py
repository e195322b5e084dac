"""The explanation part of a run's report: which images, which numbers, and what it says of the maps."""

import numpy as np
import pytest

from hcreg import plotting
from hcreg.analyzers.perturbation import aopc
from hcreg.explanation import explanation_section, report_section
from hcreg.report import write_report


@pytest.fixture
def few(monkeypatch):
    """Two analyzers on four images, so that the test is quick."""
    monkeypatch.setattr(report_section, "SHOWN", ("gradient", "lrp.epsilon"))
    monkeypatch.setattr(report_section, "RANKED", ("gradient", "lrp.epsilon"))
    monkeypatch.setattr(report_section, "NUM_RANKED", 4)


def test_a_run_is_explained_with_maps_curves_and_a_table(few, trained_run, tmp_path):
    tested = [r for r in trained_run["dataset"] if r.subject_id in trained_run["split"]["test"]]
    section = explanation_section(trained_run["folder"], tested, trained_run["rows"], save_to=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"explanation_maps.png", "explanation_aopc.png"}
    assert len(section.pictures) == 2
    (table,) = section.tables
    assert [row[0] for row in table.rows] == ["gradient", "lrp.epsilon", "random order"]
    assert all(np.isfinite(row[1].value) for row in table.rows)
    assert any("hardly depends on the network" in point for point in section.points)
    again = explanation_section(trained_run["folder"], tested, trained_run["rows"])
    assert [row[1].value for row in again.tables[0].rows] == [row[1].value for row in table.rows]
    assert write_report(tmp_path / "report.html", "A run", [section]).stat().st_size > 10_000


def test_nothing_measured_is_said(few, trained_run, monkeypatch):
    def fails(self, images, sizes):
        yield from [ValueError("the mask is empty")] * len(images)

    monkeypatch.setattr(report_section.Explainer, "explain_each", fails)
    section = explanation_section(trained_run["folder"], trained_run["dataset"], trained_run["rows"])
    assert section.pictures == section.tables == ()
    assert "No map could be tested" in section.paragraphs[1]


def row(subject_id, trimester, true_mm, pred_mm):
    return {"subject_id": subject_id, "trimester": trimester, "y_true_mm": true_mm, "y_pred_mm": pred_mm}


def test_shown_is_the_median_error_of_each_trimester():
    rows = [row("a", 1, 80.0, 81.0), row("b", 1, 90.0, 70.0), row("c", 1, 70.0, 65.0), row("d", 3, 300.0, float("nan"))]
    rows += [row("e", 2, 200.0, 201.0)]
    assert [r["subject_id"] for r in report_section._typical(rows)] == ["c", "e"]


def test_ranked_are_spread_over_the_circumferences(monkeypatch):
    monkeypatch.setattr(report_section, "NUM_RANKED", 3)
    rows = [row(str(hc), 1, float(hc), 0.0) for hc in (50, 10, 40, 20, 30)]
    assert report_section._spread(rows) == ["10", "30", "50"]
    assert report_section._spread(rows[:2]) == ["10", "50"]


def results_of(planted):
    """AOPC on a network that sees the top left region only, of a map that knows it, or of one that knows nothing."""
    import keras

    inputs = keras.Input((16, 16, 1))
    seen = keras.layers.Cropping2D(((0, 12), (0, 12)))(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(seen))
    generator = np.random.default_rng(0)
    images = generator.normal(size=(16, 16, 16, 1)).astype("float32")
    images[:, :4, :4] += 8.0
    known = np.zeros_like(images)
    known[:, :4, :4] = 1.0
    maps = {"knows": known, "guesses": generator.random(images.shape)}
    return {
        name: aopc(model, maps[name], images, steps=4, regions=(4, 4), unit="mm", draws=1, random_orders=1, name=name)
        for name in planted
    }


def test_the_verdict_names_who_passed_and_who_did_not():
    results = results_of(["knows", "guesses"])
    assert report_section._verdict(results) == (
        "On 16 test images knows passed this test; for guesses nothing could be shown.",
    )
    table = report_section._aopc_table(results)
    by_name = {r[0]: r for r in table.rows}
    assert by_name["knows"][4].value < 0
    assert by_name["knows"][5].value < 0.01 < by_name["guesses"][5].value
    assert by_name["random order"][4].value is None
    assert plotting.perturbation_curves(results) is not None


def test_the_verdict_of_one_kind():
    assert report_section._verdict(results_of(["knows"])) == ("On 16 test images knows passed this test.",)
    (text,) = report_section._verdict(results_of(["guesses"]))
    assert text == "On 16 test images none of guesses passed this test: take the maps with caution."
