"""Tables of whole heads, computed from predictions that were written by hand."""

import math
from functools import partial

import pytest
from small_heads import small_network

from hcreg import losses, tables
from hcreg.files import plain, read_rows, write_json, write_rows
from hcreg.head_volumes import HeadRecipe, Patches, repeated_split
from hcreg.tables.head_volumes import (
    COLUMNS,
    HeadLayout,
    compare_heads,
    format_lines,
    made_small,
    report_heads,
    run_heads,
)

TEXT = ("row", "other_row")
PLAIN = HeadRecipe("plain", small_network, **losses.deep_supervision())
BETTER = HeadRecipe("better", small_network, **losses.deep_supervision())
LAYOUT = HeadLayout(draw=None)


def rows_of(fold, dice):
    """Six heads of one scan: one has so much Dice, each next a hundredth less; volumes off by 2 ml."""
    return [
        {
            "subject_id": f"head{number}_scan1",
            "patient_id": f"head{number}",
            "fold": fold,
            "dice": dice - number / 100,
            "conformity": 0.9,
            "jaccard": 0.8,
            "adb_mm": 1.0,
            "hdb_mm": 6.0,
            "volume_true_ml": 400.0 + number,
            "volume_pred_ml": 402.0 + number,
            "failure": "",
            "seconds": 0.5,
            "dice_constant": 0.7,
            "volume_constant_ml": 410.0,
        }
        for number in range(6)
    ]


def write_run(folder, recipe, fold, rows):
    arguments = {**plain(recipe.arguments()), "fold": fold, "seed": 0, "data": {"synthetic": True}}
    path = folder / recipe.name / f"fold_{fold}"
    facts = {"training_seconds": 60.0, "num_parameters": 100}
    write_json(path / "run.json", {"status": "finished", "arguments": arguments, "split_checksum": "same", **facts})
    write_rows(path / "predictions.csv", rows)
    write_rows(path / "validation_predictions.csv", rows)
    for name in ("split.csv", "history.csv"):
        write_rows(path / name, [{"epoch": 1}])


@pytest.fixture
def runs_folder(tmp_path):
    """Two rows, two seeds each: of one 0.90 and 0.92 for the best head, of the other 0.95 and 0.95."""
    for recipe, found in ((PLAIN, (0.90, 0.92)), (BETTER, (0.95, 0.95))):
        for fold, dice in enumerate(found):
            write_run(tmp_path / "runs", recipe, fold, rows_of(fold, dice))
    return tmp_path / "runs"


def report(folder, *arguments):
    return tables.main(
        "paper.table1",
        [PLAIN, BETTER],
        partial(repeated_split, num_seeds=2),
        default_folds=[0, 1],
        read_dataset=None,
        layout=LAYOUT,
        arguments=["report", "--out", str(folder), *arguments],
        run=partial(run_heads, LAYOUT),
        report=report_heads,
    )


def test_a_line_for_the_constant_and_for_each_row(runs_folder, tmp_path, capsys):
    assert report(runs_folder, "--save", str(tmp_path / "saved")) == 0
    constant, plain_line, better = read_rows(tmp_path / "saved" / "table1.csv", text=TEXT)
    assert constant["row"] == "where most training heads are"
    assert constant["dice"] == pytest.approx(0.7)
    assert math.isnan(constant["hdb_mm"])
    assert plain_line["dice"] == pytest.approx(0.91 - 0.025)
    assert plain_line["dice_fold_sd"] == pytest.approx(0.02 / math.sqrt(2))
    assert (better["dice_fold_sd"], better["num_subjects"], better["num_folds"]) == (0, 6, 2)
    assert better["bias_ml"] == pytest.approx(2)
    assert (better["training_seconds"], better["num_parameters"], better["seconds"]) == (60, 100, 0.5)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("DSC", "Adb (mm)", "s a volume", "better", "in SE over seeds"))


def test_saved_table_is_recomputed_from_the_saved_records(runs_folder, tmp_path, capsys):
    saved, names = tmp_path / "saved", ("table1.csv", "table1_comparisons.csv")
    assert report(runs_folder, "--save", str(saved)) == 0
    first = [(saved / name).read_text() for name in names]
    assert report(saved / "runs", "--save", str(saved)) == 0
    assert [(saved / name).read_text() for name in names] == first


def test_rows_are_compared_head_by_head_and_with_what_seeds_do(runs_folder, tmp_path, capsys):
    report(runs_folder, "--save", str(tmp_path))
    (found,) = read_rows(tmp_path / "table1_comparisons.csv", text=TEXT)
    assert (found["row"], found["other_row"]) == ("plain", "better")
    assert found["num_patients"] == 6
    assert found["mean_difference"] == pytest.approx(-0.04)
    assert found["p_value"] == pytest.approx(2 / 2**6)  # six differences of one sign
    # means 0.875 and 0.895, of the other 0.925 twice: an SD of 0.02 / sqrt(2) over two seeds is an error of 0.01
    assert found["seeds_z"] == pytest.approx(-4)


def test_one_seed_tells_nothing_of_seeds():
    (found,) = compare_heads({"a": rows_of(0, 0.9), "b": rows_of(0, 0.8)})
    assert math.isnan(found["seeds_z"])
    assert compare_heads({"a": rows_of(0, 0.9), "b": rows_of(0, 0.8)[:-1]}) == []


def test_what_was_not_found_is_noted(runs_folder, capsys):
    rows = rows_of(1, 0.92)
    rows[2] |= {"dice": 0.0, "adb_mm": math.nan, "hdb_mm": math.nan, "failure": "the predicted mask is empty"}
    write_run(runs_folder, PLAIN, 1, rows)
    assert report(runs_folder) == 0
    assert "note: plain found no head in 1 prediction(s)" in capsys.readouterr().out


def test_missing_seeds_are_named(runs_folder, capsys):
    assert report(runs_folder, "--folds", "0", "1", "2") == 1
    assert "lacks 2 run(s): plain fold 2 (not run), better fold 2 (not run)" in capsys.readouterr().err


def test_smoke_rows_are_small_and_of_their_kind():
    small = made_small(HeadRecipe("patches", small_network, losses.Dice(), view=Patches((64, 64, 64), per_volume=3)))
    assert (small.epochs, small.patience, small.build_arguments) == (1, 1, {"filters": 2})
    assert small.view == Patches((16, 16, 16), per_volume=1)


def test_numbers_that_are_not_known_are_dashes():
    line = {"row": "a", "num_subjects": 3, "num_folds": 0, **dict.fromkeys(COLUMNS, math.nan), "dice": 0.5}
    cells = format_lines([line], COLUMNS).splitlines()[1].split()
    assert cells == ["a", "-", "-", "0.5000", *["-"] * (len(COLUMNS) - 1)]
