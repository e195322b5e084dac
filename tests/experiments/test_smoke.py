"""Every table script runs, from images and weight files to its report; committed tables are what their records give."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from small_hearts import train_without_graphs

from experiments.chi2025 import table1 as chi2025_table1
from experiments.zhang2020 import table1 as zhang2020_table1
from experiments.zhang2021 import (
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table10,
    table11,
    table12,
    table13,
    table14,
    volume_protocol,
    volumes,
)
from hcreg.datasets import HC18
from hcreg.files import read_rows
from hcreg.measurement import TrainedRegressor

ZHANG2021 = (table1, table2, table3, table4, table5, table6, table7)
VOLUMES = (table10, table11, table12, table13, table14, volumes)
ENDINGS = ("", "_fractions", "_comparisons")
VOLUME_TEXT = ("row", "other_row", "structure", "phase", "route")
SCRIPTS = {
    script.__name__.removeprefix("experiments."): script for script in (chi2025_table1, zhang2020_table1, *ZHANG2021)
}
FIRST_CONVOLUTION = {"VGG16": "block1_conv1", "ResNet50": "conv1_conv", "DenseNet121": "conv1_conv"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weight files as one has them on disk, here of random weights; and their first kernels, to know them again."""
    folder, pairs, kernels = tmp_path_factory.mktemp("weights"), {}, {}
    for backbone, layer in FIRST_CONVOLUTION.items():
        model = getattr(keras.applications, backbone)(include_top=False, weights=None, input_shape=(64, 64, 3))
        path = folder / f"{backbone.lower()}_notop.weights.h5"
        model.save_weights(path)
        pairs[backbone], kernels[backbone] = f"{backbone}={path}", np.asarray(model.get_layer(layer).kernel)
    return pairs, kernels


def kernel_of(regressor, backbone):
    return np.asarray(regressor.model.get_layer(FIRST_CONVOLUTION[backbone]).kernel)


@pytest.mark.proof
@pytest.mark.slow
def test_zhang2020_trains_from_scratch_and_from_a_weight_file(weights, tmp_path, capsys):
    pairs, kernels = weights
    rows = ["--rows", "cnn_263k_mae", "cnn_1m_huber", "vgg16_mse"]
    common = [*rows, "--smoke", "--out", str(tmp_path)]
    assert zhang2020_table1.main(["run", *common, "--weights", pairs["VGG16"]]) == 0
    assert zhang2020_table1.main(["report", *common]) == 0
    printed = capsys.readouterr().out
    assert "constant median" in printed
    assert "note: vgg16_mse was made with epochs 1; its row says 80" in printed
    folder = tmp_path / "vgg16_mse" / "fold_0"
    record = json.loads((folder / "run.json").read_text())
    assert record["arguments"]["build_arguments"]["weights"] == "vgg16_notop.weights.h5"
    trained = kernel_of(TrainedRegressor(folder), "VGG16")
    moved = np.abs(trained - kernels["VGG16"]).max()
    assert 0 < moved < 1e-3 < kernels["VGG16"].std()  # a few steps of Adam at 1e-4 from the file, not from elsewhere


@pytest.mark.proof
@pytest.mark.slow
def test_chi2025_keeps_the_frozen_weights_and_its_runs_measure_without_the_weight_files(weights, tmp_path, capsys):
    pairs, kernels = weights
    common = ["--smoke", "--out", str(tmp_path)]
    assert chi2025_table1.main(["run", *common, "--weights", pairs["ResNet50"], pairs["DenseNet121"]]) == 0
    assert chi2025_table1.main(["report", *common, "--save", str(tmp_path / "saved")]) == 0
    assert capsys.readouterr().out.count("figure: ") == 8
    records = {record.subject_id: record for record in HC18(tmp_path / "data")}
    for row, backbone in (("resnet50", "ResNet50"), ("densenet121", "DenseNet121")):
        folder = tmp_path / row / "fold_0"
        stored = json.loads((folder / "run.json").read_text())["arguments"]["build_arguments"]["weights"]
        assert not Path(stored).exists()  # only the name is kept, so the path can play no part below
        regressor = TrainedRegressor(folder)
        np.testing.assert_array_equal(kernel_of(regressor, backbone), kernels[backbone])
        predictions = read_rows(folder / "predictions.csv")
        tested = [records[prediction["subject_id"]] for prediction in predictions]
        measured = regressor.measure_many(
            [record.image_path for record in tested], [record.pixel_size_mm for record in tested]
        )
        np.testing.assert_allclose(
            [measurement.hc_mm for measurement in measured], [item["y_pred_mm"] for item in predictions], rtol=1e-4
        )


@pytest.fixture(scope="module")
def zhang2021_folder(tmp_path_factory):
    """One folder for all tables of the paper: what one has trained the next finds there."""
    return tmp_path_factory.mktemp("zhang2021")


@pytest.mark.slow
@pytest.mark.parametrize("script", ZHANG2021, ids=lambda script: script.__name__)
def test_zhang2021_tables_train_and_report(script, zhang2021_folder, tmp_path, capsys):
    common = ["--smoke", "--out", str(zhang2021_folder)]
    assert script.main(["run", *common]) == 0
    assert script.main(["report", *common, "--save", str(tmp_path)]) == 0
    name = script.__name__.rpartition(".")[2]
    constant, *rows = read_rows(tmp_path / f"{name}.csv", text=("row",))
    assert constant["row"].startswith("constant median")
    assert rows
    assert all(row["num_subjects"] > 0 for row in rows)
    if script in (table1, table2, table3):  # masks are compared with the reference
        assert all(0 <= row["dice"] <= 1 for row in rows)
    if script in (table5, table6):
        assert all(", trimester " in row["row"] for row in rows)
    printed = capsys.readouterr().out
    assert "row  " in printed
    assert all(row["row"] in printed for row in rows)


@pytest.mark.slow
def test_volumes_train_report_and_measure_other_patients(tmp_path, capsys, monkeypatch):
    train_without_graphs(monkeypatch)
    common = ["--smoke", "--rows", "vgg2d_frame", "--out", str(tmp_path / "runs")]
    assert volumes.main(["run", *common]) == 0
    assert volumes.main(["report", *common, "--save", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "volumes.csv", text=VOLUME_TEXT)
    assert {row["row"] for row in rows} == {"mean of the training part", "vgg2d_frame"}
    assert (tmp_path / "figures" / "volumes_agreement_vgg2d_frame.png").is_file()
    models, output = tmp_path / "runs" / "vgg2d_frame", tmp_path / "measured.csv"
    predictions = read_rows(models / "fold_0" / "predictions.csv")
    tested = sorted({row["patient_id"] for row in predictions})
    patients = tmp_path / "runs" / "data" / "training"
    seen = sorted(path.name for path in patients.iterdir() if path.name not in tested)
    for name in (*tested, *seen[:1]):  # a new folder: those that were tested, and one that was trained on
        shutil.copytree(patients / name, tmp_path / "ACDC" / "training" / name)
    predict = ["predict", "--data", str(tmp_path / "ACDC"), "--models", str(models), "--output", str(output)]
    capsys.readouterr()
    assert volumes.main(predict) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{len(predictions) + 2} stacks in ")
    assert "note: 2 of them bear the name of a stack" in printed
    assert "ejection fraction" in printed
    assert volumes.main([*predict, "--unseen"]) == 0
    assert "note" not in capsys.readouterr().out
    measured = {row["subject_id"]: row for row in read_rows(output)}
    assert measured.keys() == {row["subject_id"] for row in predictions}
    for row in predictions:
        assert measured[row["subject_id"]]["LV_pred_ml"] == pytest.approx(row["LV_pred_ml"], rel=1e-4)


@pytest.mark.parametrize("script", VOLUMES, ids=lambda script: script.__name__)
def test_tables_of_volumes_name_the_runs_they_lack(script, tmp_path, capsys):
    assert script.main(["report", "--folds", "2", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert all(f"{row} fold 2 (not run)" in printed for row in known_rows(script))


def test_one_run_of_mean_absolute_error_serves_three_tables(tmp_path):
    assert "vgg3d_multi_label_volume" in known_rows(table10) & known_rows(table12) & known_rows(table14)
    assert "vgg2d_multi_label_volume" in known_rows(table10) & known_rows(table13) & known_rows(table14)
    assert len(known_rows(table10)) == 8
    assert len(known_rows(table14)) == 6


def test_predict_says_what_is_missing(tmp_path, capsys):
    assert volumes.main(["predict", "--data", str(tmp_path), "--models", str(tmp_path / "nowhere")]) == 1
    assert f"zhang2021.volumes: There is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.proof
@pytest.mark.slow
def test_table4_takes_any_backbone_by_argument(tmp_path, capsys):
    arguments = ["--backbones", "MobileNet", "--smoke", "--rows", "mobilenet_mse", "--out", str(tmp_path)]
    assert table4.main(["run", *arguments]) == 0
    record = json.loads((tmp_path / "mobilenet_mse" / "fold_0" / "run.json").read_text())
    assert record["arguments"]["build_arguments"]["backbone"] == "MobileNet"
    assert table4.main(["report", *arguments]) == 0
    assert "mobilenet_mse" in capsys.readouterr().out


def committed_tables():
    root = Path(__file__).parents[2] / "experiments"
    return sorted(path for path in root.glob("*/results*/table*.csv") if not path.stem.endswith("_comparisons"))


@pytest.mark.parametrize("table", committed_tables(), ids=lambda path: "/".join(path.parts[-3:]))
def test_committed_table_is_recomputed_from_the_committed_predictions(table, tmp_path, capsys):
    script = SCRIPTS[f"{table.parents[1].name}.{table.stem}"]
    runs = table.parent / "runs"
    committed = read_rows(table, text=("row",))
    rows = [path.name for path in runs.iterdir() if path.name in known_rows(script)]
    folds = sorted(int(path.name[5:]) for path in (runs / rows[0]).glob("fold_*"))
    arguments = ["report", "--out", str(runs), "--save", str(tmp_path), "--rows", *rows]
    assert script.main([*arguments, "--folds", *map(str, folds)]) == 0
    recomputed = read_rows(tmp_path / table.name, text=("row",))
    assert len(recomputed) == len(committed)
    for ours, theirs in zip(recomputed, committed):  # another processor may sum in another order
        assert ours.pop("row") == theirs.pop("row")
        assert ours == pytest.approx(theirs, rel=1e-9, nan_ok=True)


def committed_volumes():
    root = Path(__file__).parents[2] / "experiments" / "zhang2021" / "results"
    tables = (*root.glob("volumes*/table1*.csv"), *root.glob("volumes*/volumes.csv"))
    return sorted(path for path in tables if not path.stem.endswith(("_comparisons", "_fractions")))


@pytest.fixture(scope="module")
def recomputed(tmp_path_factory):
    """Of a committed table of volumes, the folder of what its script makes of the committed predictions."""
    folders = {}

    def folder_of(table):
        if table not in folders:
            script = next(script for script in VOLUMES if script.__name__.endswith(f".{table.stem}"))
            shown = {row["row"].removesuffix(", label map") for row in read_rows(table, text=VOLUME_TEXT)}
            rows = [name for name in known_rows(script) if name in shown]
            folds = sorted(path.name[5:] for path in (table.parent / "runs" / rows[0]).glob("fold_*"))
            runs = ["--out", str(table.parent / "runs"), "--rows", *rows, "--folds", *folds]
            folders[table] = tmp_path_factory.mktemp("recomputed")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(volumes, "figures", lambda *_: [])  # those take long, and are of no table
                assert script.main(["report", *runs, "--save", str(folders[table])]) == 0
        return folders[table]

    return folder_of


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("table", committed_volumes(), ids=lambda path: "/".join(path.parts[-2:]))
def test_committed_table_of_volumes_is_recomputed_from_the_committed_predictions(table, ending, recomputed):
    path = table.with_stem(f"{table.stem}{ending}")
    again = recomputed(table) / path.name
    assert (
        again.is_file() == path.is_file()
    )  # neither has comparisons of one row, nor ejection fractions where not asked
    if not path.is_file():
        return
    ours, theirs = (read_rows(one, text=VOLUME_TEXT) for one in (again, path))
    assert len(ours) == len(theirs)
    for our_row, their_row in zip(ours, theirs):
        assert [our_row.pop(name, None) for name in VOLUME_TEXT] == [their_row.pop(name, None) for name in VOLUME_TEXT]
        assert our_row == pytest.approx(their_row, rel=1e-9, nan_ok=True)


def test_every_committed_file_of_a_table_of_volumes_is_recomputed():
    folders = {table.parent for table in committed_volumes()}
    files = {path for folder in folders for path in folder.glob("*.csv")}
    recomputed = {table.with_stem(f"{table.stem}{end}") for table in committed_volumes() for end in ENDINGS}
    others = {path.name for path in files - recomputed}
    assert others <= {"table9.csv", "slices.csv", "volume_errors.csv"}  # test_table9.py, test_volume_errors.py


@pytest.mark.parametrize("script", VOLUMES, ids=lambda script: script.__name__)
def test_smoke_rows_of_volumes_are_rows_of_their_table(script, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(volume_protocol, "run_volumes", lambda script, recipes, *_: seen.extend(recipes))
    assert script.main(["run", "--smoke", "--out", str(tmp_path)]) == 0
    assert seen
    assert {recipe.name for recipe in seen} <= known_rows(script)


def known_rows(script):
    """Names of a script's rows, as its help lists them."""
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        script.main(["report", "--help"])
    listed = re.search(r"--rows ROW \[ROW \.\.\.\]\s+of (.*?)\s+--folds", shown.getvalue(), re.DOTALL)
    return {name.strip() for name in listed[1].replace("\n", " ").split(",")}
