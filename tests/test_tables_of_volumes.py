"""Tables of cardiac volumes, computed from predictions that were written by hand."""

import math
from argparse import Namespace
from dataclasses import replace

import keras
import pytest
from small_hearts import small_regressor, small_segmenter, train_without_graphs, write_cohort

from hcreg import losses, models, tables
from hcreg.cardiac_volumes import SliceRecipe, StackRecipe, patient_folds
from hcreg.cardiac_volumes.summaries import STRUCTURES
from hcreg.datasets import synthetic
from hcreg.datasets.acdc import ACDC
from hcreg.files import plain, read_json, read_rows, write_json, write_rows
from hcreg.tables.volumes import VolumeLayout, compare_volumes, format_lines, report_volumes, run_volumes

TEXT = ("row", "structure", "phase", "route", "other_row")
NUM_PATIENTS = 6
STACKS = StackRecipe("stacks", models.vgg2d, keras.losses.MeanAbsoluteError())
SLICES = SliceRecipe("slices", models.unet, {"mask": keras.losses.MeanSquaredError()})
TOTAL = replace(STACKS, name="total", build_arguments={"variant": "single_label"})


def rows_of(error_ml, mask_error_ml=None, dice=0.9):
    """Six patients at both phases: every volume is off by so many ml, up in one patient and down in the next."""
    rows = []
    for number in range(NUM_PATIENTS):
        for phase, true_ml in (("ED", 100.0 + 20 * number), ("ES", 40.0 + 10 * number)):
            patient, sign = f"patient{number:03d}", 1 if number % 2 else -1
            row = {"subject_id": f"{patient}_{phase}", "patient_id": patient, "phase": phase, "group": "", "fold": 0}
            for name in STRUCTURES:
                row |= {f"{name}_true_ml": true_ml, f"{name}_pred_ml": true_ml + sign * error_ml}
                row[f"{name}_constant_ml"] = 100.0
                if mask_error_ml is not None:
                    row |= {f"{name}_mask_ml": true_ml + sign * mask_error_ml, f"{name}_dice": dice}
            rows.append(row)
    return rows


def write_run(folder, recipe, rows, status="finished", seconds=60.0):
    arguments = {**plain(recipe.arguments()), "fold": 0, "seed": 0, "data": {"synthetic": True}}
    record = {"status": status, "arguments": arguments, "split_checksum": "same", "training_seconds": seconds}
    path = folder / recipe.name / "fold_0"
    write_json(path / "run.json", record)
    write_rows(path / "predictions.csv", rows)
    write_rows(path / "validation_predictions.csv", rows)
    for name in ("split.csv", "history.csv"):
        write_rows(path / name, [{"epoch": 1}])


@pytest.fixture
def runs_folder(tmp_path):
    """Runs of two rows: stacks miss by 8 ml, slices by 2, their label maps by 1."""
    write_run(tmp_path / "runs", STACKS, rows_of(8.0), seconds=60.0)
    write_run(tmp_path / "runs", SLICES, rows_of(2.0, 1.0), seconds=90.0)
    return tmp_path / "runs"


def report(folder, *arguments, recipes=(STACKS, SLICES), layout=None, figures=None):
    return tables.main(
        "paper.table10",
        list(recipes),
        patient_folds,
        default_folds=[0],
        read_dataset=None,
        layout=layout,
        figures=figures,
        arguments=["report", "--out", str(folder), *arguments],
        run=run_volumes,
        report=report_volumes,
    )


def line_of(lines, row, structure, phase):
    return next(item for item in lines if (item["row"], item["structure"], item["phase"]) == (row, structure, phase))


def test_lines_are_of_each_row_route_structure_and_phase(runs_folder, tmp_path, capsys):
    assert report(runs_folder, "--save", str(tmp_path / "saved")) == 0
    lines = read_rows(tmp_path / "saved" / "table10.csv", text=TEXT)
    titles = ["mean of the training part", "stacks", "slices", "slices, label map"]
    assert list(dict.fromkeys(item["row"] for item in lines)) == titles
    assert len(lines) == len(titles) * 3 * 3
    assert [item["phase"] for item in lines[:3]] == ["ED", "ES", "both"]
    assert line_of(lines, "stacks", "LV", "ED")["mae_ml"] == pytest.approx(8)
    assert line_of(lines, "stacks", "LV", "ED")["num_subjects"] == 6
    assert line_of(lines, "stacks", "LV", "both")["num_subjects"] == 12
    assert line_of(lines, "slices", "MYO", "ES")["mae_ml"] == pytest.approx(2)
    assert line_of(lines, "slices, label map", "RV", "ES")["mae_ml"] == pytest.approx(1)
    assert line_of(lines, "slices, label map", "RV", "ES")["dice"] == pytest.approx(0.9)
    assert math.isnan(line_of(lines, "slices", "RV", "ES")["dice"])
    constant = line_of(lines, titles[0], "LV", "ED")  # 100, 120 to 200 ml
    assert constant["mae_ml"] == pytest.approx(50)
    assert math.isnan(constant["training_seconds"])
    assert line_of(lines, "stacks", "LV", "ED")["training_seconds"] == 60
    printed = capsys.readouterr().out
    assert all(title in printed for title in titles)
    assert "ejection fraction" not in printed


def test_saved_table_is_recomputed_from_the_saved_records(runs_folder, tmp_path, capsys):
    saved = tmp_path / "saved"
    layout = VolumeLayout(fractions=True)
    names = ("table10.csv", "table10_fractions.csv", "table10_comparisons.csv")
    assert report(runs_folder, "--save", str(saved), layout=layout) == 0
    first = [(saved / name).read_text() for name in names]
    assert report(saved / "runs", "--save", str(saved), layout=layout) == 0
    assert [(saved / name).read_text() for name in names] == first


def test_ejection_fractions_follow_where_asked(runs_folder, tmp_path, capsys):
    report(runs_folder, "--save", str(tmp_path), layout=VolumeLayout(fractions=True))
    assert "\nejection fraction\n" in capsys.readouterr().out
    lines = read_rows(tmp_path / "table10_fractions.csv", text=TEXT)
    assert {item["structure"] for item in lines} == {"RV", "LV"}  # myocardium ejects nothing
    found = line_of(lines, "slices", "LV", "ED to ES")
    errors = [(100 + 20 * n, 40 + 10 * n, 2 if n % 2 else -2) for n in range(NUM_PATIENTS)]
    points = [100 * ((ed - es) / (ed + e) - (ed - es) / ed) for ed, es, e in errors]
    assert found["mae_points"] == pytest.approx(sum(map(abs, points)) / NUM_PATIENTS)
    assert found["bias_points"] == pytest.approx(sum(points) / NUM_PATIENTS)
    assert found["num_subjects"] == NUM_PATIENTS


def test_rows_are_compared_patient_by_patient_with_holms_correction(runs_folder, tmp_path, capsys):
    report(runs_folder, "--save", str(tmp_path))
    found = read_rows(tmp_path / "table10_comparisons.csv", text=TEXT)
    assert len(found) == 3 * 3  # pairs of stacks, slices and their label map, by structure
    first = found[0]
    assert (first["row"], first["other_row"], first["structure"]) == ("stacks", "slices", "RV")
    assert first["num_patients"] == 6  # not 12: the phases of a heart are one witness
    assert first["mean_difference_ml"] == pytest.approx(6)
    assert first["p_value"] == pytest.approx(2 / 2**6)  # six differences of one sign
    assert first["p_value_holm"] == pytest.approx(9 * 2 / 2**6)
    assert "absolute error of" in capsys.readouterr().out


def test_errors_of_a_patient_are_the_mean_of_both_phases():
    rows, others = rows_of(4.0), rows_of(1.0)
    rows[0]["LV_pred_ml"] = rows[0]["LV_true_ml"] + 10.0  # ED of the first patient; ES stays at 4
    found = {item["structure"]: item for item in compare_volumes({"a": (rows, "pred"), "b": (others, "pred")})}
    assert found["LV"]["mean_difference_ml"] == pytest.approx((6 + 5 * 3) / 6)
    assert found["RV"]["mean_difference_ml"] == pytest.approx(3)
    assert compare_volumes({"a": (rows, "pred")}) == []
    assert compare_volumes({"a": (rows, "pred"), "b": (others[:-2], "pred")}) == []


def test_hearts_measured_as_one_have_a_mean_of_their_own(runs_folder, tmp_path, capsys):
    rows = [
        {name: value for name, value in row.items() if not name.endswith("_ml")}
        | {f"heart_{kind}_ml": row[f"LV_{kind}_ml"] for kind in ("true", "pred", "constant")}
        for row in rows_of(3.0)
    ]
    write_run(runs_folder, TOTAL, rows)
    assert report(runs_folder, "--save", str(tmp_path), recipes=(STACKS, TOTAL)) == 0
    lines = read_rows(tmp_path / "table10.csv", text=TEXT)
    assert line_of(lines, "total", "heart", "both")["mae_ml"] == pytest.approx(3)
    assert line_of(lines, "mean of the training part", "heart", "ED")["mae_ml"] == pytest.approx(50)


def test_missing_and_unfinished_runs_are_all_named(runs_folder, capsys):
    other = replace(STACKS, name="other")
    write_run(runs_folder, replace(STACKS, name="begun"), rows_of(1.0), status="running")
    assert report(runs_folder, recipes=(STACKS, other, replace(STACKS, name="begun"))) == 1
    printed = capsys.readouterr().err
    assert "lacks 2 run(s): other fold 0 (not run), begun fold 0 (not finished)" in printed
    assert report(runs_folder, "--rows", "nothing") == 1
    assert "There is no row nothing. The rows: stacks, slices." in capsys.readouterr().err


def test_a_row_made_otherwise_than_stated_is_noted(runs_folder, capsys):
    assert report(runs_folder, recipes=(replace(STACKS, epochs=7),)) == 0
    assert "note: stacks was made with epochs 100; its row says 7" in capsys.readouterr().out


def test_figures_get_all_predictions_and_are_named(runs_folder, tmp_path, capsys):
    seen = {}

    def figures(folder, predictions, output):
        seen.update(predictions)
        return [output / "chart.png"]

    report(runs_folder, "--save", str(tmp_path), figures=figures)
    assert {name: len(rows) for name, rows in seen.items()} == {"stacks": 12, "slices": 12}
    assert f"figure: {tmp_path / 'figures' / 'chart.png'}" in capsys.readouterr().out


def test_columns_that_no_line_knows_are_not_shown():
    lines = [{"row": "a", "structure": "LV", "phase": "ED", "num_subjects": 3, "mae_ml": 1.25, "dice": math.nan}]
    text = format_lines(lines, {"dice": ("Dice", 3), "mae_ml": ("MAE (ml)", 1)})
    assert [line.split() for line in text.split("\n")] == [
        ["row", "phase", "n", "MAE", "(ml)"],
        ["a", "LV", "ED", "3", "1.2"],
    ]


def test_run_says_what_it_lacks_before_it_reads_anything(tmp_path):
    options = Namespace(data=None, out=tmp_path, weights=None, epochs=None, seed=0, smoke=False, log=[])
    with pytest.raises(ValueError, match="run needs --data, the ACDC folder as downloaded"):
        run_volumes("paper.table10", [STACKS], patient_folds, [0], options, None)
    pretrained = replace(SLICES, build=models.backbone_unet, build_arguments={"backbone": "A", "weights": "imagenet"})
    with pytest.raises(ValueError, match="slices starts from ImageNet weights"):
        run_volumes("paper.table10", [pretrained], patient_folds, [0], options, None)


def test_a_row_with_the_networks_of_another_needs_no_weights(tmp_path):
    options = Namespace(data=None, out=tmp_path, weights=None, epochs=None, seed=0, smoke=False, log=[])
    pretrained = replace(SLICES, build=models.backbone_unet, build_arguments={"backbone": "A", "weights": "imagenet"})
    borrowing = replace(pretrained, name="borrowing", trained_as="slices")
    with pytest.raises(ValueError, match="run needs --data"):  # and nothing else
        run_volumes("paper.table10", [borrowing], patient_folds, [0], options, None)
    with pytest.raises(ValueError, match="slices starts from ImageNet weights"):
        run_volumes("paper.table10", [borrowing, pretrained], patient_folds, [0], options, None)


COUNTING = SliceRecipe(
    "counting",
    small_segmenter,
    {"mask": losses.DiceCrossEntropy(), "areas_cm2": keras.losses.MeanAbsoluteError()},
    build_arguments={"weights": "imagenet"},
    loss_weights={"areas_cm2": 0.02},
)
PIXEL = StackRecipe("pixel", small_regressor, keras.losses.MeanAbsoluteError(), crop="paper", target="pixel")
SMOKE = [
    COUNTING,
    replace(COUNTING, name="views", trained_as="counting", views=((0.0, 1.0), (15.0, 1.1))),
    PIXEL,
    replace(PIXEL, name="masks", target="volume", source="mask"),
]


def test_smoke_trains_counting_borrowing_voxel_and_mask_rows(tmp_path, monkeypatch, capsys):
    train_without_graphs(monkeypatch)
    drawn = []
    monkeypatch.setattr(synthetic, "cardiac_volumes", lambda *given: (drawn.append(given), write_cohort(*given)))

    def command(name, *arguments):
        return tables.main(
            "paper.table10",
            SMOKE,
            patient_folds,
            default_folds=[0, 1],
            read_dataset=ACDC,
            arguments=[name, "--smoke", "--out", str(tmp_path), *arguments],
            run=run_volumes,
            report=report_volumes,
        )

    assert command("run") == 0
    assert drawn == [(tmp_path / "data", 10, 0)]
    printed = capsys.readouterr()
    assert [line.split(",")[0] for line in printed.out.splitlines()] == [recipe.name for recipe in SMOKE]
    assert printed.err.count("preparing 20 stacks") == 3  # both counting rows see the same
    assert command("report", "--save", str(tmp_path / "saved")) == 0
    lines = read_rows(tmp_path / "saved" / "table10.csv", text=TEXT)
    counted = ["counting", "counting, label map", "views", "views, label map"]
    assert list(dict.fromkeys(item["row"] for item in lines))[1:] == [*counted, "pixel", "masks"]
    assert all(math.isfinite(item["mae_ml"]) for item in lines)
    made = {recipe.name: read_json(tmp_path / recipe.name / "fold_0" / "run.json") for recipe in SMOKE}
    arguments = {name: record["arguments"] for name, record in made.items()}
    assert (arguments["pixel"]["target"], arguments["masks"]["source"]) == ("pixel", "mask")
    assert made["pixel"]["target_scale"] == pytest.approx([volume / 0.64 for volume in made["masks"]["target_scale"]])
    assert (arguments["views"]["trained_as"], arguments["views"]["views"]) == ("counting", [[0.0, 1.0], [15.0, 1.1]])
    assert (arguments["counting"]["crop_px"], arguments["counting"]["augmentation"]) == (32, "strong")
    assert all(record["epochs_run"] == 1 for record in made.values())
