"""Errors of counted volumes by what of the truth is known, worked by hand; each stack by its own fold's network."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from acdc_files import write_info, write_volume

from experiments.zhang2021 import volume_errors
from hcreg.datasets.acdc import ACDC
from hcreg.datasets.splits import write_split
from hcreg.datasets.volume_cache import FramePreparation
from hcreg.files import read_rows, write_json, write_rows
from hcreg.preprocessing.volumes import Frame

RESULTS = Path(volume_errors.__file__).parent / "results"
TEXT = ("subject_id", "patient_id", "structure", "phase", "known")


def rows_of(subject, phase, true, pred, slice_mm=10.0):
    """A stack whose RV has such areas in cm², base first; the others are right everywhere."""
    return [
        {
            **{"subject_id": subject, "patient_id": subject[:10], "phase": phase, "fold": 0},
            **{"slice": number, "slice_mm": slice_mm, "RV_true_cm2": of_true, "RV_pred_cm2": of_pred},
            **{f"{name}_{kind}_cm2": 1.0 for name in ("MYO", "LV") for kind in ("true", "pred")},
        }
        for number, (of_true, of_pred) in enumerate(zip(true, pred, strict=True))
    ]


def errors_of(rows, phase="both", structure="RV"):
    table = volume_errors.error_table(rows)
    found = [row for row in table if (row["structure"], row["phase"]) == (structure, phase)]
    return {row["known"]: (row["mae_ml"], row["bias_ml"]) for row in found}


# 0, 20, 30 and 10 cm² in slices of 10 mm are 60 ml. Predicted are 7 above the base, 5 of the base's 20, 33, 8, and 4
# below the apex: 57 ml.
TRUE, PRED = (0, 20, 30, 10, 0), (7, 5, 33, 8, 4)


@pytest.mark.parametrize(
    ("known", "error_ml"),
    [
        ("nothing", -3),
        ("base", 12),  # 20 for 5
        ("extent", -14),  # less 7 and 4
        ("both", 1),  # 33 and 8 for 30 and 10
    ],
)
def test_errors_by_what_is_known_by_hand(known, error_ml):
    rows = rows_of("patient001_ED", "ED", TRUE, PRED)
    assert errors_of(rows)[known] == pytest.approx((abs(error_ml), error_ml))
    assert errors_of(rows, structure="LV")[known] == (0, 0)


def test_slices_are_taken_base_first_whatever_their_order():
    rows = rows_of("patient001_ED", "ED", TRUE, PRED)
    assert errors_of(rows[::-1]) == errors_of(rows)


def test_thinner_slices_hold_less_and_a_heart_without_the_structure_has_no_base():
    assert errors_of(rows_of("patient001_ED", "ED", TRUE, PRED, 5.0))["base"] == pytest.approx((6, 6))
    found = errors_of(rows_of("patient001_ED", "ED", (0, 0), (1, 2)))
    assert found == {"nothing": (3, 3), "base": (3, 3), "extent": (0, 0), "both": (0, 0)}


def test_errors_are_averaged_over_the_stacks_of_a_phase():
    rows = rows_of("patient001_ED", "ED", TRUE, PRED) + rows_of("patient001_ES", "ES", (10, 0), (10, 5))
    assert errors_of(rows, "ED")["nothing"] == pytest.approx((3, -3))
    assert errors_of(rows, "ES")["nothing"] == pytest.approx((5, 5))
    assert errors_of(rows)["nothing"] == pytest.approx((4, 1))
    table = volume_errors.error_table(rows)
    assert [row["num_stacks"] for row in table if row["known"] == "both"] == [1, 1, 2] * 3
    alone = volume_errors.error_table(rows[:5])
    assert list(dict.fromkeys(row["phase"] for row in alone)) == ["ED", "both"]  # nothing is said of no stack
    text = volume_errors.format_table(table)
    assert all(meaning in text for meaning in volume_errors.KNOWN.values())
    assert [line.split() for line in text.split("\n") if line.startswith("RV   both")] == [
        ["RV", "both", "2", "4.0", "(+1.0)", "8.5", "(+8.5)", "7.0", "(-7.0)", "0.5", "(+0.5)"]
    ]


class Networks:
    """The networks of folds 7 and 3, in folders that sort the other way; each says its fold's number for every area."""

    def __init__(self, folder, recipes):
        self.folders, self.networks = [folder / "a", folder / "b"], [("network", 7.0), ("network", 3.0)]
        self.recipe = SimpleNamespace(preparation=FramePreparation(Frame(8, 9, 2.0)), look=self.look)
        assert recipes == [volume_errors.COUNTING]

    def look(self, networks, cache, indices):
        ((_, answer),) = networks
        for index in indices:
            yield index, np.full((cache.stacks[index]["image"].shape[2], 3), answer), None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two folds that tested a patient each, of two patients whose slices hold a counted number of voxels."""
    rng = np.random.default_rng(0)
    for patient in ("patient001", "patient002"):
        path = tmp_path / "ACDC" / "training" / patient
        path.mkdir(parents=True)
        write_info(path)
        for frame, num_voxels in ((1, 6), (12, 4)):
            labels = np.zeros((8, 9, 3), np.uint8)
            labels[2, 1:3, 0] = 1  # two voxels of RV at the base
            labels[3, 1 : 1 + num_voxels, 1] = 3
            labels[4, 1 : 1 + num_voxels, 1:] = 2
            for ending, array in (("", rng.integers(0, 99, labels.shape).astype(np.int16)), ("_gt", labels)):
                write_volume(path / f"{patient}_frame{frame:02d}{ending}.nii.gz", array, (2.0, 2.0, 10.0))
    for name, fold, tested in (("a", 7, "patient002"), ("b", 3, "patient001")):
        run = tmp_path / "runs" / name
        arguments = {"fold": fold, "row": "any"}
        write_json(run / "run.json", {"status": "finished", "arguments": arguments, "split_checksum": "any"})
        other = {"patient001": "patient002", "patient002": "patient001"}[tested]
        parts = {"training": [f"{other}_ED"], "validation": [f"{other}_ES"]}
        write_split(run / "split.csv", {**parts, "test": [f"{tested}_ED", f"{tested}_ES"]})
    monkeypatch.setattr(volume_errors, "FoldNetworks", Networks)
    return tmp_path


def test_each_stack_is_measured_by_the_network_that_was_tested_on_it(folder):
    rows = volume_errors.slice_rows(folder / "runs", ACDC(folder / "ACDC"))
    assert len(rows) == 4 * 3
    folds = {row["subject_id"]: row["fold"] for row in rows}
    assert folds == {"patient002_ED": 7, "patient002_ES": 7, "patient001_ED": 3, "patient001_ES": 3}
    assert all(row["RV_pred_cm2"] == row["fold"] for row in rows)  # as the network of that fold says
    assert [row["slice"] for row in rows[:3]] == [0, 1, 2]
    assert {row["slice_mm"] for row in rows} == {10.0}
    areas = {name: [row[f"{name}_true_cm2"] for row in rows[:6]] for name in ("RV", "MYO", "LV")}
    assert areas["RV"] == pytest.approx([0.08, 0, 0] * 2)  # a voxel has 4 square mm
    assert areas["LV"] == pytest.approx([0, 0.24, 0, 0, 0.16, 0])
    assert areas["MYO"] == pytest.approx([0, 0.24, 0.24, 0, 0.16, 0.16])


def test_slices_are_kept_and_reported_from_where_they_were_kept(folder, capsys):
    runs, saved = folder / "runs", folder / "saved"
    assert volume_errors.main(["run", "--data", str(folder / "ACDC"), "--runs", str(runs)]) == 0
    assert volume_errors.main(["report", "--runs", str(runs), "--save", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert volume_errors.main(["report", "--runs", str(saved)]) == 0
    assert capsys.readouterr().out == printed
    table = read_rows(saved / "volume_errors.csv", text=TEXT)
    (found,) = (row for row in table if [row[name] for name in TEXT[2:]] == ["RV", "both", "nothing"])
    assert found["bias_ml"] == pytest.approx((2 * 3 * 7 + 2 * 3 * 3) / 4 - 0.08)  # 7 or 3 cm² in three slices of 1 cm


def test_what_is_missing_is_said(tmp_path, capsys):
    assert volume_errors.main(["report", "--runs", str(tmp_path)]) == 1
    assert f"zhang2021.volume_errors: [Errno 2] No such file or directory: '{tmp_path}" in capsys.readouterr().err


@pytest.fixture(params=sorted(RESULTS.glob("volumes*/slices.csv")), ids=lambda path: path.parent.name)
def slices(request):
    """Areas of slices that were committed."""
    return request.param


def test_committed_errors_are_those_of_the_committed_slices(slices, tmp_path):
    write_rows(tmp_path / "errors.csv", volume_errors.error_table(read_rows(slices)))
    recomputed = read_rows(tmp_path / "errors.csv", text=TEXT)
    committed = read_rows(slices.parent / "volume_errors.csv", text=TEXT)
    assert len(recomputed) == len(committed)
    for ours, theirs in zip(recomputed, committed):
        assert [ours.pop(name) for name in TEXT[2:]] == [theirs.pop(name) for name in TEXT[2:]]
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_committed_slices_add_up_to_the_committed_predictions(slices):
    """They were measured later than the volumes, by the same networks."""
    volumes = {}
    for row in read_rows(slices):
        of_stack = volumes.setdefault(row["subject_id"], {"fold": row["fold"], "RV": 0.0, "MYO": 0.0, "LV": 0.0})
        for name in ("RV", "MYO", "LV"):
            of_stack[name] += row[f"{name}_pred_cm2"] * row["slice_mm"] / 10
    predicted = {}
    for path in (slices.parent / "runs" / volume_errors.COUNTING.name).glob("fold_*/predictions.csv"):
        for row in read_rows(path):
            predicted[row["subject_id"]] = {
                "fold": row["fold"],
                **{n: row[f"{n}_pred_ml"] for n in ("RV", "MYO", "LV")},
            }
    assert volumes.keys() == predicted.keys()
    for subject, of_stack in volumes.items():
        assert of_stack == pytest.approx(predicted[subject], rel=1e-3, abs=0.05)
