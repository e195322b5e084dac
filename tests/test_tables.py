import shutil
from dataclasses import replace

import pytest

from hcreg import tables
from hcreg.files import read_rows
from hcreg.head_circumference import single_split


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
    assert tables._weights(["VGG16=a.h5", "ResNet50=none"]) == {"vgg16": "a.h5", "resnet50": "none"}
    with pytest.raises(ValueError, match="takes BACKBONE=PATH"):
        tables._weights(["a.h5"])


def test_run_trains_and_saves(trained_run, tmp_path, capsys):
    recipe = replace(trained_run["recipe"], name="only", epochs=1, patience=1)
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

    assert run() == 0
    assert "only, fold 0: MAE" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "only" / "fold_0" / "predictions.csv")) == len(trained_run["split"]["test"])
