"""Every table script runs, from images and weight files to its report; committed tables are what their records give."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from experiments.chi2025 import table1 as chi2025_table1
from experiments.zhang2020 import table1 as zhang2020_table1
from hcreg.datasets import HC18
from hcreg.files import read_rows
from hcreg.measurement import TrainedRegressor

SCRIPTS = {"zhang2020": zhang2020_table1, "chi2025": chi2025_table1}
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


@pytest.mark.parametrize("results", sorted(Path(__file__).parents[2].glob("experiments/*/results*/table1.csv")), ids=str)
def test_committed_table_is_recomputed_from_the_committed_predictions(results, tmp_path, capsys):
    script = SCRIPTS[results.parents[1].name]
    committed = read_rows(results, text=("row",))
    rows = [row["row"] for row in committed][1:]
    folds = sorted(int(path.name[5:]) for path in (results.parent / "runs" / rows[0]).glob("fold_*"))
    arguments = ["report", "--out", str(results.parent / "runs"), "--save", str(tmp_path), "--rows", *rows]
    assert script.main([*arguments, "--folds", *map(str, folds)]) == 0
    recomputed = read_rows(tmp_path / "table1.csv", text=("row",))
    assert len(recomputed) == len(committed)
    for ours, theirs in zip(recomputed, committed):  # another processor may sum in another order
        assert ours.pop("row") == theirs.pop("row")
        assert ours == pytest.approx(theirs, rel=1e-9, nan_ok=True)
