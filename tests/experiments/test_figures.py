"""The figures of zhang2021 are drawn from run folders; what cannot be drawn is named, and nothing else is left out."""

import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.zhang2021 import figures
from hcreg.files import read_json, read_rows, write_json, write_rows

NAN = float("nan")
CHARTS = {
    "figure07_post_processing_errors",
    "figure08_learning_curves_unet",
    "figure09_learning_curves_cnn_263k",
    "figure11_agreement",
}


@pytest.fixture(scope="module")
def runs(trained_run, trained_segmentation_run, trained_ellipse_run, tmp_path_factory):
    """A regressor and two segmentation networks, trained on the same part of the small cohort."""
    folder = tmp_path_factory.mktemp("figures")
    for run in (trained_run, trained_segmentation_run, trained_ellipse_run):
        shutil.copytree(run["folder"], folder / run["recipe"].name / "fold_0")
    return folder


@pytest.fixture
def own_runs(runs, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(runs, tmp_path / "runs")


def names(folder):
    return {path.stem for path in folder.glob("*.png")}


def test_every_figure_is_drawn_where_all_is_there(runs, cohort, tmp_path, capsys):
    assert figures.main(["--out", str(runs), "--data", str(cohort), "--save", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    best = figures.best_network(
        [figures.TrainedRow(name, "unet") for name in ("unet_mask", "unet_ellipse")],
        {n: read_rows(runs / n / "fold_0" / "validation_predictions.csv") for n in ("unet_mask", "unet_ellipse")},
    )[0]
    cases = {f"figure10_{kind}_cases_{best}" for kind in ("good", "bad")}
    cases |= {f"figure11_{kind}_cases_small" for kind in ("good", "bad")}
    assert names(tmp_path) == CHARTS | cases | {"figure06_overlays_unet", "figure07_post_processing"}
    assert printed.out.count("figure: ") == len(names(tmp_path))
    assert "left out" not in printed.err
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width == 1170
        assert path.stat().st_size < 400_000


def test_without_images_the_charts_are_drawn_and_the_rest_is_named(runs, tmp_path, capsys):
    assert figures.main(["--out", str(runs), "--save", str(tmp_path)]) == 0
    assert names(tmp_path) == CHARTS
    left_out = capsys.readouterr().err
    assert left_out.count("no --data, so no image can be shown") == 4
    assert "left out: figure 6, overlays" in left_out


def test_without_weights_ellipses_are_drawn_but_no_masks(own_runs, cohort, tmp_path, capsys):
    for path in own_runs.glob("*/fold_0/checkpoint.weights.h5"):
        path.unlink()
    assert figures.main(["--out", str(own_runs), "--data", str(cohort), "--save", str(tmp_path / "drawn")]) == 0
    drawn = names(tmp_path / "drawn")
    assert "figure06_overlays_unet" in drawn
    assert "figure07_post_processing" not in drawn
    errors = capsys.readouterr().err
    assert "fold_0 (it has no checkpoint.weights.h5; its fitted ellipses are drawn)" in errors
    assert "keeps no checkpoint.weights.h5, so its masks are lost" in errors


def test_without_a_regressor_its_figures_are_named(runs, tmp_path, capsys):
    assert figures.main(["--out", str(runs), "--save", str(tmp_path), "--rows", "unet_mask"]) == 0
    assert names(tmp_path) == CHARTS - {"figure09_learning_curves_cnn_263k"}
    assert "left out: figure 9, learning curves (no regression row is trained)" in capsys.readouterr().err


def test_a_row_that_still_trains_is_left_out_unless_it_is_asked_for(own_runs, tmp_path, capsys):
    path = own_runs / "unet_mask" / "fold_0" / "run.json"
    write_json(path, read_json(path) | {"status": "running"})
    common = ["--out", str(own_runs), "--save", str(tmp_path / "drawn")]
    assert figures.main(common) == 0
    assert "left out: unet_mask (not finished in fold 0)" in capsys.readouterr().err
    assert figures.main([*common, "--rows", "unet_mask"]) == 1
    message = capsys.readouterr().err
    assert "unet_mask is not finished in fold 0 of" in message
    assert "There are: unet_ellipse, small, unet_mask." in message


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert figures.main(["--out", str(tmp_path), "--folds", "0", "3"]) == 1
    assert "has no row that is finished in fold 0, 3. Train some first: python -m" in capsys.readouterr().err


def test_data_of_another_cohort_are_refused(own_runs, cohort, tmp_path, capsys):
    for path in own_runs.glob("*/fold_0/predictions.csv"):
        rows = read_rows(path)
        rows[0]["y_true_mm"] += 1.0
        write_rows(path, rows)
    assert figures.main(["--out", str(own_runs), "--data", str(cohort), "--save", str(tmp_path / "drawn")]) == 1
    message = capsys.readouterr().err
    assert "were not tested on" in message
    assert "Name the folder they were made with in --data" in message


def test_the_mask_is_the_one_the_predictions_were_measured_on(runs, trained_segmentation_run, cohort):
    rows = read_rows(runs / "unet_mask" / "fold_0" / "predictions.csv")
    material = figures.Material(runs, cohort, rows)
    row = rows[0]
    mask = material.mask("unet_mask", row["subject_id"])
    truth = material.ellipse(row["subject_id"]).mask(mask.shape)
    assert mask.shape == material.image(row["subject_id"]).shape
    assert 2 * np.sum(mask & truth) / (mask.sum() + truth.sum()) == pytest.approx(row["dice_original"], abs=2e-3)
    assert material.mask("unet_mask", row["subject_id"]) is mask  # the network is not run twice


def prediction(subject_id, trimester, y_pred_mm):
    return {"subject_id": subject_id, "trimester": trimester, "y_true_mm": 100.0, "y_pred_mm": y_pred_mm}


def test_images_of_figure_6_are_those_of_median_and_of_largest_error():
    errors = {"a": (1, 1.0), "b": (1, -3.0), "c": (1, 2.0), "d": (2, 4.0), "e": (2, 5.0)}
    rows = [prediction(subject, trimester, 100.0 + error) for subject, (trimester, error) in errors.items()]
    assert figures.typical_and_worst({"one": rows}) == {
        "c": "trimester 1, median error",
        "d": "trimester 2, median error",
        "e": "trimester 2, largest error",
    }


def test_an_image_that_a_network_cannot_measure_counts_with_its_whole_head():
    one = [prediction("a", 1, 101.0), prediction("b", 1, 140.0), prediction("c", 1, 102.0)]
    other = [prediction("a", 1, NAN), prediction("b", 1, 140.0), prediction("c", 1, 102.0)]
    assert figures.typical_and_worst({"one": one})["b"] == "trimester 1, largest error"
    assert figures.typical_and_worst({"one": one, "other": other})["a"] == "trimester 1, largest error"  # 50.5 > 40


@pytest.mark.slow
def test_smoke_trains_what_it_draws(tmp_path, capsys):
    assert figures.main(["--smoke", "--rows", "unet_dice", "--out", str(tmp_path)]) == 0
    assert "figure08_learning_curves_unet" in names(tmp_path / "figures")
    assert capsys.readouterr().out.count("figure: ") == len(names(tmp_path / "figures")) >= 5
