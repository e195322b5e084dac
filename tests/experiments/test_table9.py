"""Table 9 of zhang2021: the six patients' voxels and volumes, and whether they stand out of their cohort."""

from pathlib import Path

import acdc_files
import pytest

from experiments.zhang2021 import table9
from hcreg.datasets.acdc import ABNORMAL_PATIENTS
from hcreg.files import read_rows

PAPER = {  # an independent copy of Table 9: voxels, ml
    "patient019": (32269, 673.8),
    "patient078": (25813, 482.4),
    "patient079": (18667, 348.8),
    "patient080": (9173, 283.5),
    "patient093": (23491, 401.7),
    "patient099": (27180, 433.5),
}
COMMITTED = Path(table9.__file__).parent / "results" / "volumes" / table9.NAME


@pytest.fixture
def root(tmp_path):
    """The six and four others, all of 36 voxels of 50 cubic mm: 1.8 ml. One of the six has slices twice as thick."""
    for number in (1, 2, 3, 4):
        acdc_files.write_patient(tmp_path / "training", f"patient{number:03d}")
    for name in ABNORMAL_PATIENTS:
        spacing_mm = (2.5, 2.0, 20.0 if name == "patient080" else 10.0)
        acdc_files.write_patient(tmp_path / "training", name, spacing_mm=spacing_mm)
    return tmp_path


def test_the_papers_figures_are_the_papers():
    assert {row.patient_id: (row.paper_voxels, row.paper_volume_ml) for row in table9.ROWS} == PAPER
    assert set(ABNORMAL_PATIENTS) == set(PAPER)


def test_rows_and_fences_by_hand(root, tmp_path, capsys):
    assert table9.main(["report", "--data", str(root), "--save", str(tmp_path / "saved")]) == 0
    rows = {row["patient_id"]: row for row in read_rows(tmp_path / "saved" / table9.NAME)}
    assert tuple(rows) == ABNORMAL_PATIENTS
    assert {row["voxels"] for row in rows.values()} == {36}
    assert rows["patient078"]["volume_ml"] == pytest.approx(1.8)
    assert rows["patient078"]["difference_ml"] == pytest.approx(1.8 - PAPER["patient078"][1])
    assert rows["patient078"]["difference_voxels"] == 36 - PAPER["patient078"][0]
    assert rows["patient078"]["beyond_fences"] == 0
    assert rows["patient080"]["volume_ml"] == pytest.approx(3.6)
    assert rows["patient080"]["smaller_percent"] == 100.0
    assert rows["patient080"]["beyond_fences"] == 1
    assert rows["patient080"]["fence_low_ml"] == rows["patient080"]["fence_high_ml"] == pytest.approx(1.8)
    printed = capsys.readouterr().out
    assert "of all 10 patients, by their own headers: Tukey's fences are 1.8 and 1.8 ml" in printed
    assert "Beyond them: 1 of the six, and of the others none." in printed
    assert "none of the six is abnormal" not in printed


def test_data_without_one_of_the_six_are_refused(root, capsys):
    for name in ("patient078", "patient099"):
        (root / "training" / name).rename(root / name)
    assert table9.main(["report", "--data", str(root)]) == 1
    assert "lacks patient078, patient099 of the table. Take the whole training set" in capsys.readouterr().err


@pytest.mark.data
def test_the_papers_counts_exactly_and_volumes_within_half_a_ml(acdc_root, capsys):
    assert table9.main(["report", "--data", str(acdc_root)]) == 0
    assert "Beyond them: 0 of the six" in capsys.readouterr().out
    rows, cohort = table9.table(table9.ACDC(acdc_root))
    assert {row["patient_id"]: row["voxels"] for row in rows} == {name: voxels for name, (voxels, _) in PAPER.items()}
    for row in rows:
        assert row["volume_ml"] == pytest.approx(PAPER[row["patient_id"]][1], abs=0.5)
    if len(cohort.volumes_ml) == read_rows(COMMITTED)[0]["cohort_patients"]:
        assert rows == read_rows(COMMITTED)


def test_the_committed_rows_are_the_papers_patients():
    rows = read_rows(COMMITTED)
    assert [row["patient_id"] for row in rows] == [row.patient_id for row in table9.ROWS]
    for row in rows:
        assert row["difference_voxels"] == row["voxels"] - row["paper_voxels"] == 0
        assert abs(row["volume_ml"] - row["paper_volume_ml"]) < 0.5
