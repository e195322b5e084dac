import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hcreg import models, tables
from hcreg.files import read_rows
from hcreg.head_circumference import single_split
from hcreg.tables import running


@pytest.fixture(scope="module")
def runs_folder(trained_run, tmp_path_factory):
    """The finished run under two names, as two rows of a table."""
    folder = tmp_path_factory.mktemp("table")
    for name in ("first", "second"):
        shutil.copytree(trained_run["folder"], folder / name / "fold_0")
    return folder


@pytest.fixture
def report(trained_run, runs_folder):
    recipes = [
        replace(trained_run["recipe"], name="first", paper={"mae_px": 10.0}),
        replace(trained_run["recipe"], name="second"),
    ]

    def run(*arguments, folder=runs_folder, recipes=recipes):
        return tables.main(
            "paper.table",
            recipes,
            lambda dataset, seed: [single_split(dataset, seed=seed)],
            default_folds=[0],
            read_dataset=lambda folder: trained_run["dataset"],
            arguments=[*arguments, "--out", str(folder)],
        )

    return run


def test_report_prints_paper_ours_and_difference(report, trained_run, capsys):
    assert report("report") == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0].split()[0] == "row"
    assert lines[1].startswith("constant median")
    errors = [abs(row["y_pred_px"] - row["y_true_px"]) for row in trained_run["rows"]]
    mae_px = sum(errors) / len(errors)
    assert f"{mae_px:.1f}" in lines[2]
    assert "MAE (px) 10" in lines[2]
    assert f"{mae_px - 10:+.1f}" in lines[2]
    assert lines[3].rstrip().endswith("-")


def test_saved_table_is_recomputed_from_the_saved_records(report, tmp_path, capsys):
    assert report("report", "--save", str(tmp_path)) == 0
    first = (tmp_path / "table.csv").read_text()
    assert report("report", "--save", str(tmp_path), folder=tmp_path / "runs") == 0
    assert (tmp_path / "table.csv").read_text() == first
    assert not list(tmp_path.glob("**/*.h5"))


def test_missing_rows_and_folds_stop_the_report_and_are_all_named(report, runs_folder, tmp_path, capsys):
    shutil.copytree(runs_folder / "first", tmp_path / "first")
    assert report("report", folder=tmp_path) == 1
    assert "lacks 1 run(s): second fold 0 (not run)" in capsys.readouterr().err
    assert report("report", "--folds", "0", "1", folder=tmp_path) == 1
    assert "first fold 1 (not run), second fold 0 (not run), second fold 1 (not run)" in capsys.readouterr().err


def test_unfinished_run_stops_the_report(report, runs_folder, tmp_path, capsys):
    shutil.copytree(runs_folder, tmp_path / "runs")
    record = tmp_path / "runs" / "second" / "fold_0" / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    assert report("report", folder=tmp_path / "runs") == 1
    assert "second fold 0 (not finished)" in capsys.readouterr().err


def test_rows_of_other_seeds_do_not_mix(report, runs_folder, tmp_path, capsys):
    shutil.copytree(runs_folder, tmp_path / "runs")
    record = tmp_path / "runs" / "second" / "fold_0" / "run.json"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 5'))
    assert report("report", folder=tmp_path / "runs") == 1
    assert "mixes runs of the seeds [0, 5]" in capsys.readouterr().err


def test_rows_trained_on_other_splits_do_not_mix(report, runs_folder, tmp_path, capsys):
    shutil.copytree(runs_folder, tmp_path / "runs")
    record = tmp_path / "runs" / "second" / "fold_0" / "run.json"
    values = json.loads(record.read_text())
    record.write_text(json.dumps({**values, "split_checksum": "other"}))  # the same test part, another training part
    assert report("report", folder=tmp_path / "runs") == 1
    assert "trained on different splits in fold 0" in capsys.readouterr().err


def test_folds_of_one_row_with_other_arguments_do_not_mix(report, runs_folder, tmp_path, capsys):
    for fold in (0, 1):
        shutil.copytree(runs_folder / "first" / "fold_0", tmp_path / "first" / f"fold_{fold}")
    record = tmp_path / "first" / "fold_1" / "run.json"
    record.write_text(record.read_text().replace('"epochs": 2', '"epochs": 9'))
    assert report("report", "--rows", "first", "--folds", "0", "1", folder=tmp_path) == 1
    assert "mixes runs of different arguments: its folds differ in epochs" in capsys.readouterr().err


def test_a_row_made_otherwise_than_stated_is_noted(report, trained_run, capsys):
    stated = replace(trained_run["recipe"], name="first", epochs=80)
    assert report("report", recipes=[stated]) == 0
    assert "note: first was made with epochs 2; its row says 80" in capsys.readouterr().out
    assert report("report", recipes=[replace(stated, epochs=2)]) == 0
    assert "note" not in capsys.readouterr().out


def test_rows_are_compared_in_pairs_of_images_whatever_their_order():
    def rows(errors_mm):
        return [
            {"subject_id": f"{i:03d}_HC", "y_true_mm": 100.0, "y_pred_mm": 100.0 + error}
            for i, error in enumerate(errors_mm)
        ]

    predictions = {"a": rows([1, 2, 3, 4]), "b": rows([-2, -4, -6, -8])[::-1], "c": rows([1, 2, 3, 4])}
    ab, ac, bc = tables.compare_rows(predictions)
    assert (ab["row"], ab["other_row"], ab["num_pairs"]) == ("a", "b", 4)
    assert ab["mean_difference_mm"] == -2.5  # errors of 1 to 4 mm against 2 to 8 mm, signs apart
    assert ab["p_value"] == 0.125  # all four differences of one sign: 2 / 2 ** 4
    assert ab["p_value_holm"] == 0.375
    assert (ac["p_value"], ac["p_value_holm"]) == (1.0, 1.0)
    assert bc["median_difference_mm"] == 2.5
    assert tables.format_comparisons([ab]).split("\n")[1].split() == [
        *["a", "b", "-2.50", "-2.50", "0.12", "0.38"],
        "-1.00",  # signed errors of opposite signs, in proportion
    ]
    assert [pair["error_correlation"] for pair in (ab, ac)] == pytest.approx([-1.0, 1.0])
    constant = tables.compare_rows({"a": predictions["a"], "b": rows([1, 1, 1, 1])})
    assert math.isnan(constant[0]["error_correlation"])
    assert tables.compare_rows({"a": predictions["a"]}) == []


def test_rows_tested_on_other_images_do_not_mix(report, runs_folder, tmp_path, capsys):
    shutil.copytree(runs_folder, tmp_path / "runs")
    predictions = tmp_path / "runs" / "second" / "fold_0" / "predictions.csv"
    lines = predictions.read_text().split("\n")
    predictions.write_text("\n".join([lines[0], *lines[2:]]))
    assert report("report", folder=tmp_path / "runs") == 1
    assert "tested on different images" in capsys.readouterr().err


def test_unknown_row_is_refused_with_the_known(report, capsys):
    assert report("report", "--rows", "third") == 1
    assert "There is no row third. The rows: first, second." in capsys.readouterr().err


def test_run_without_data_says_what_to_pass(report, capsys):
    assert report("run") == 1
    assert "run needs --data" in capsys.readouterr().err


def test_fold_that_does_not_exist(report, capsys, tmp_path):
    assert report("run", "--data", str(tmp_path), "--folds", "7") == 1
    assert "has the folds 0 to 0. Received: [7]" in capsys.readouterr().err


def test_weights_are_named_by_backbone(trained_run):
    assert running._weights(["VGG16=a.h5", "ResNet50=none"]) == {"vgg16": "a.h5", "resnet50": "none"}
    with pytest.raises(ValueError, match="takes BACKBONE=PATH"):
        running._weights(["a.h5"])


@pytest.fixture
def run_backbone(trained_run, tmp_path):
    """Runs a table of one row on a backbone; nothing must get as far as reading data."""

    def nothing_is_read(folder):
        raise AssertionError("the data were read before the arguments were checked")

    def run(*arguments, smoke=False):
        recipe = replace(
            trained_run["recipe"],
            name="row",
            build=models.backbone_regressor,
            build_arguments={"backbone": "MobileNet", "weights": "imagenet"},
        )
        return tables.main(
            "paper.table",
            [recipe],
            lambda dataset, seed: [],
            default_folds=[0],
            read_dataset=nothing_is_read,
            arguments=["run", "--data", "unused", "--out", str(tmp_path), *arguments],
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "row starts from ImageNet weights, and nothing is downloaded unless asked. Pass --weights mobilenet=PATH"),
        (["--weights", "MobileNet=nowhere.h5"], "there is no file nowhere.h5 for mobilenet (row)"),
        (
            ["--weights", "VGG16=none"],
            "--weights names vgg16, which no row is built on. The backbones of this table: m",
        ),
        (["--weights", "MobileNet=none", "--epochs", "0"], "--epochs takes a whole number of at least 1. Received: 0"),
    ],
)
def test_arguments_are_checked_before_anything_is_read_or_trained(run_backbone, capsys, arguments, message):
    assert run_backbone(*arguments) == 1
    assert message in capsys.readouterr().err


def test_weights_reach_the_builder_as_asked(trained_run):
    recipe = replace(trained_run["recipe"], build=models.vgg16_regressor, build_arguments={"weights": "imagenet"})

    def adapted(*pairs, recipe=recipe):
        return running.adapted(recipe, SimpleNamespace(epochs=None, weights=pairs)).build_arguments["weights"]

    assert adapted("vgg16=a.h5") == "a.h5"
    assert adapted("VGG16=imagenet") == "imagenet"
    assert adapted("VGG16=none") is None
    assert adapted(recipe=replace(recipe, build_arguments={"weights": None})) is None
    assert adapted(recipe=replace(recipe, build_arguments={"weights": "own.h5"})) == "own.h5"


def test_smoke_runs_lie_apart_from_results_and_take_the_rows_meant_for_them(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipes = [replace(trained_run["recipe"], name=name) for name in ("long", "short")]
    keywords = {"default_folds": [0, 1], "read_dataset": None, "smoke_recipes": ["short"]}
    assert tables.main("paper.table", recipes, None, **keywords, arguments=["report", "--smoke"]) == 1
    assert "runs/paper/table_smoke lacks 1 run(s): short fold 0 (not run)" in capsys.readouterr().err
    assert tables.main("paper.table", recipes, None, **keywords, arguments=["report"]) == 1
    assert "runs/paper/table lacks 4 run(s)" in capsys.readouterr().err


def test_run_trains_for_the_epochs_asked_and_saves(trained_run, tmp_path, capsys):
    recipe = replace(trained_run["recipe"], name="only", epochs=7, patience=7)
    arguments = ["run", "--data", "unused", "--out", str(tmp_path)]

    def run(*more):
        return tables.main(
            "paper.table",
            [recipe],
            lambda dataset, seed: [trained_run["split"]],
            default_folds=[0],
            read_dataset=lambda folder: trained_run["dataset"],
            arguments=[*arguments, *more],
        )

    assert run("--epochs", "1", "--log", "tensorboard") == 0
    assert "only, fold 0: MAE" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "only" / "fold_0" / "history.csv")) == 1
    assert list((tmp_path / "only" / "fold_0" / "tensorboard").rglob("events.out.tfevents.*"))
    assert len(read_rows(tmp_path / "only" / "fold_0" / "predictions.csv")) == len(trained_run["split"]["test"])
