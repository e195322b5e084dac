"""The thesis's search runs from images to its report; the committed tables are what README.rst says."""

from pathlib import Path

import pytest

from experiments.callanan2022 import search
from experiments.callanan2022.protocol import ACCEPTED_ACCURACY
from hcreg.files import read_rows

FOLDER = Path(search.__file__).parent
TEXT = ("state", "started_at", "finished_at", "device", "commit", "model_sha256")
INTEGERS = ("number", "num_epochs", "attempts")
ARMS = ("cross_entropy", "heatmap_default")


@pytest.mark.proof
@pytest.mark.postgres
def test_a_search_runs_to_its_report_and_is_not_repeated(tmp_path, capsys):
    common = ["--out", str(tmp_path), "--smoke", "--arms", "heatmap_default"]
    assert search.main(["run", *common]) == 0
    assert search.main(["report", *common]) == 0
    assert "heatmap_default        3 trials, 0 diverged" in capsys.readouterr().out
    rows = read_rows(tmp_path / "search2_heatmap_default.csv", text=TEXT, integers=INTEGERS)
    assert [row["number"] for row in rows] == [0, 1, 2]
    low, high = search.SMALL_RANGE
    for row in rows:
        assert low <= row["hp_learning_rate"] <= high
        assert 0 <= row["metric_test_accuracy"] <= 1
        assert row["metric_train_accuracy"] == pytest.approx(round(row["metric_train_accuracy"] * 64) / 64)
        assert row["attempts"] == 1
    assert (tmp_path / "search2_heatmap_default.png").stat().st_size > 10_000
    assert search.main(["run", *common]) == 0  # all are finished: nothing is trained
    assert search.main(["report", *common, "--save", str(tmp_path / "again")]) == 0
    again = read_rows(tmp_path / "again" / "search2_heatmap_default.csv", text=TEXT, integers=INTEGERS)
    assert [row["finished_at"] for row in again] == [row["finished_at"] for row in rows]


def test_the_thesis_has_a_range_for_each_loss():
    assert search._range_of("vgg16", "cross_entropy") == (5e-6, 1e-3)
    assert search._range_of("vgg16", "thesis_heatmap") == (5e-7, 5e-5)
    assert search._range_of("small", "heatmap") == search.SMALL_RANGE


@pytest.mark.parametrize("arm", ARMS)
def test_readme_has_the_committed_search(arm):
    rows = read_rows(FOLDER / "results" / f"search2_{arm}.csv", text=TEXT, integers=INTEGERS)
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert len({row["hp_learning_rate"] for row in rows}) == len(rows)
    accepted = [row for row in rows if row["state"] == "completed" and row["objective"] > ACCEPTED_ACCURACY]
    assert search.summary_line(arm, rows, accepted) in (FOLDER / "README.rst").read_text()
