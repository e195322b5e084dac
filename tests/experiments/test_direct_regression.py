"""Direct regression runs from images to the network that comes along; whose error is whose is told apart."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from small_hearts import train_without_graphs

from experiments.direct_regression import (
    calibration,
    exact_labels,
    final_model,
    label_noise,
    learning_curve,
    train,
    worst,
)
from hcreg import plotting
from hcreg.datasets import HC18
from hcreg.files import read_json, read_rows, write_rows
from hcreg.head_circumference import grouped_folds
from hcreg.losses import OwnEllipse
from hcreg.measurement import TrainedRegressor

TEXT = ("row", "other_row")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smoke runs of two rows on two folds, reported, and the preset made of the first row's."""
    folder = tmp_path_factory.mktemp("direct_regression")
    with pytest.MonkeyPatch.context() as patch:
        train_without_graphs(patch)
        small = {"filters": (2, 4)}
        rows = [
            replace(row, build_arguments={**row.build_arguments, **small})
            for row in (train.TRIMMED, train.MAIN_PIECE, train.MASK_ONLY)
        ]
        patch.setattr(train, "ROWS", rows)
        common = ["--smoke", "--out", str(folder), "--folds", "0", "1", "--rows", *(row.name for row in rows)]
        assert train.main(["run", *common]) == 0
        assert train.main(["report", *common, "--save", str(folder / "results")]) == 0
    preset = ["write", "--out", str(folder), "--folds", "0", "1", "--save", str(folder / "preset")]
    assert final_model.main(preset) == 0
    return folder


def test_rows_differ_by_what_they_are_trained_on():
    direct, trimmed, main_piece, hc_only, hc_ellipse, hc_main_piece, hc_longer, mask_only, papers = train.ROWS
    assert set(direct.loss) == {"mask", "hc_fraction"}
    assert set(hc_only.loss) == {"hc_fraction"}
    assert isinstance(hc_ellipse.loss["mask"], OwnEllipse)  # which does not look at the label
    assert hc_ellipse.loss["mask"].get_config()["trim"] == trimmed.build_arguments["trim"]
    same = {"loss": direct.loss, "loss_weights": direct.loss_weights, "name": direct.name}
    longer = {"epochs": trimmed.epochs, "patience": trimmed.patience, "build_arguments": {"trim": 1.25}}
    assert replace(direct, name=trimmed.name, **longer) == trimmed
    assert replace(hc_only, **same | {"name": trimmed.name}) == trimmed
    assert replace(hc_ellipse, **same | {"name": trimmed.name}) == trimmed
    assert replace(mask_only, **same, build_arguments={}) == direct
    assert replace(hc_longer, name=hc_ellipse.name, epochs=60, patience=60) == hc_ellipse
    for row, measured_otherwise in ((trimmed, main_piece), (hc_ellipse, hc_main_piece)):
        assert measured_otherwise.build_arguments == {"trim": 1.25, "main_piece": True}
        before = {"name": row.name, "build_arguments": {"trim": 1.25}, "trained_as": None}
        assert (measured_otherwise.trained_as, replace(measured_otherwise, **before)) == (row.name, row)
    assert mask_only.build_arguments == {"head": "mask"}
    assert papers.name == "cnn_1m_mae"


def test_the_papers_runs_are_the_committed_ones_on_all_folds(tmp_path):
    train.adopt_papers_runs(train.ROWS, train.FOLDS, tmp_path)
    copied = read_rows(tmp_path / "cnn_1m_mae" / "fold_4" / "predictions.csv")
    assert copied == read_rows(train.PAPERS_RUNS / "cnn_1m_mae" / "fold_4" / "predictions.csv")
    assert len(list(tmp_path.glob("*/fold_*"))) == 5
    train.adopt_papers_runs(train.ROWS[:1], train.FOLDS, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_report_has_the_table_the_trimesters_and_the_pictures(folder):
    constant, direct, main_piece, mask_only = read_rows(folder / "results" / "train.csv", text=TEXT)
    rows = (direct["row"], main_piece["row"], mask_only["row"])
    assert rows == ("direct_trimmed", "direct_main_piece", "direct_mask_only")
    assert direct["num_subjects"] == constant["num_subjects"] > 4
    lines = read_rows(folder / "results" / "train_by_trimester.csv", text=TEXT)
    of_direct = [line for line in lines if line["row"].startswith("direct_trimmed, trimester ")]
    assert sum(line["num_subjects"] for line in of_direct) == direct["num_subjects"]
    assert {path.stem for path in (folder / "results" / "figures").glob("*_direct_trimmed.png")} == {
        "bland_altman_direct_trimmed",
        "error_by_trimester_direct_trimmed",
        "residuals_direct_trimmed",
    }


def test_a_row_may_measure_with_the_networks_of_another(folder):
    weights = [folder / row / "fold_1" / "checkpoint.weights.h5" for row in ("direct_trimmed", "direct_main_piece")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    record = read_json(folder / "direct_main_piece" / "fold_1" / "run.json")
    assert record["arguments"]["trained_as"] == "direct_trimmed"
    assert record["status"] == "finished"
    before, measured = (
        read_rows(folder / row / "fold_1" / "predictions.csv") for row in ("direct_trimmed", "direct_main_piece")
    )
    assert [row["subject_id"] for row in before] == [row["subject_id"] for row in measured]
    ellipses = [[row["hc_ellipse_mm"] for row in rows] for rows in (before, measured)]
    np.testing.assert_allclose(*ellipses, rtol=1e-4)  # one mask


def test_a_row_without_its_networks_says_which_row_to_run_first(folder, capsys):
    only = ["--rows", train.MAIN_PIECE.name, "--folds", "0"]
    assert train.main(["run", "--smoke", "--out", str(folder / "alone"), *only]) == 1
    assert (
        "direct_main_piece goes on from the networks of direct_trimmed, and there is no run" in capsys.readouterr().err
    )


def test_the_preset_measures_with_the_mean_of_both_folds_and_is_calibrated_out_of_fold(folder):
    regressor = TrainedRegressor(folder / "preset")
    assert regressor.segments
    assert (
        regressor.model.count_params()
        == 2 * TrainedRegressor(folder / "direct_main_piece" / "fold_0").model.count_params()
    )
    record = HC18(folder / "data")[0]
    logits = []
    for run in ("direct_main_piece/fold_0", "direct_main_piece/fold_1", "preset"):
        member = TrainedRegressor(folder / run)
        prepared = member.prepared_or_error(record.image_path, record.pixel_size_mm)
        mask = np.asarray(member.model(prepared.inputs)["mask"]).clip(1e-6, 1 - 1e-6)
        logits.append(np.log(mask / (1 - mask)))
    np.testing.assert_allclose(logits[2], (logits[0] + logits[1]) / 2, atol=5e-2)  # weights of half precision
    predictions = [
        row for fold in (0, 1) for row in read_rows(folder / "direct_main_piece" / f"fold_{fold}" / "predictions.csv")
    ]
    assert len(regressor.scores_px) == len(predictions)
    out_of_fold = read_json(folder / "preset" / "run.json")["out_of_fold"]
    errors = [abs(row["y_pred_mm"] - row["y_true_mm"]) for row in predictions]
    assert out_of_fold["mae_mm"] == pytest.approx(np.mean(errors))


def test_kernels_are_halved_and_nothing_else(folder):
    kinds = {}
    with h5py.File(folder / "preset" / "checkpoint.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                kinds.setdefault(item.ndim > 1, set()).add(str(item.dtype)) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert kinds == {True: {"float16"}, False: {"float32"}}


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.full((2, 2), 1e6, np.float32)
    with pytest.raises(ValueError, match="kernel has weights beyond 65504"):
        final_model.halved(path.read_bytes())


def test_folds_that_are_missing_are_named(folder, capsys):
    assert final_model.main(["write", "--out", str(folder), "--save", str(folder / "none")]) == 1
    assert "lacks 3 run(s): direct_main_piece fold 2 (not run)" in capsys.readouterr().err
    assert label_noise.main(["report", "--out", str(folder), "--rows", "direct_trimmed"]) == 1
    assert "direct_regression.label_noise: " in capsys.readouterr().err


def test_the_calibration_is_counted_by_hand(tmp_path):
    def row(fold, error_mm):
        return {
            **{"fold": fold, "reference_px_per_mm": 1.0, "pixel_size_mm": 1.0, "examination_id": "a"},
            **{"subject_id": f"{fold}_{error_mm}", "trimester": 2, "constant_mm": 100.0, "constant_px": 100.0},
            **{"y_true_mm": 100.0, "y_true_px": 100.0, "y_pred_mm": 100.0 + error_mm, "y_pred_px": 100.0 + error_mm},
        }

    # 19 scores 1 to 19: nominal 50 % is the tenth of them, 10 mm on either side
    for fold in (0, 1):
        write_rows(tmp_path / f"a/fold_{fold}/validation_predictions.csv", [row(fold, score) for score in range(1, 20)])
    rows = [row(0, error) for error in (1, -9.5, 10.5, 30)] + [row(1, error) for error in (2, 3, -4, 11)]
    half = calibration.calibration_lines({"a": rows}, [0, 1], tmp_path)[0]
    assert (half["nominal"], half["coverage"], half["lowest_fold"], half["highest_fold"]) == (0.5, 5 / 8, 0.5, 0.75)
    assert half["mean_interval_width_mm"] == 20


def test_a_report_has_the_calibration(folder):
    kept = read_rows(folder / "results" / "train_calibration.csv", text=("row",))
    assert {line["row"] for line in kept} == {"direct_trimmed", "direct_main_piece", "direct_mask_only"}
    assert [line["nominal"] for line in kept] == 3 * list(calibration.NOMINAL)


def test_parts_of_the_training_images_are_whole_examinations_one_inside_the_other(folder):
    records = HC18(folder / "data")
    examination_of = {record.subject_id: record.examination_id for record in records}
    whole, half, quarter = (
        learning_curve.thinned_folds(grouped_folds, percent, records, seed=0)[1] for percent in (100, 50, 25)
    )
    assert whole == grouped_folds(records, seed=0)[1]
    assert set(quarter["training"]) < set(half["training"]) < set(whole["training"])
    assert (quarter["validation"], quarter["test"]) == (whole["validation"], whole["test"])
    of_half = {examination_of[subject] for subject in half["training"]}
    all_examinations = {examination_of[subject] for subject in whole["training"]}
    assert len(of_half) == round(len(all_examinations) / 2)
    assert sum(examination in of_half for examination in map(examination_of.get, whole["training"])) == len(
        half["training"]
    )


def test_the_learning_curve_has_as_many_steps_on_fewer_images(folder, monkeypatch, capsys):
    for row in learning_curve.ROWS:
        assert row.epochs * learning_curve.SHARES_PERCENT[row.name] == 100 * train.TRIMMED.epochs
        assert replace(row, name=train.TRIMMED.name, epochs=60, patience=60) == train.TRIMMED
    half = replace(learning_curve.ROWS[1], build_arguments={"trim": 1.25, "filters": (2, 4)})
    monkeypatch.setattr(learning_curve, "ROWS", [half])
    train_without_graphs(monkeypatch)
    common = ["--smoke", "--out", str(folder), "--folds", "0"]
    assert learning_curve.main(["run", *common]) == 0
    assert learning_curve.main(["report", *common, "--save", str(folder / "curve")]) == 0
    assert "direct_50_percent" in capsys.readouterr().out
    lines = read_rows(folder / "curve" / "learning_curve.csv", text=("row", "part"))
    assert [line["row"] for line in lines] == 2 * ["direct_50_percent"] + 2 * ["direct_trimmed"]
    assert lines[0]["num_training"] < lines[2]["num_training"]
    rows = read_rows(folder / "direct_50_percent" / "fold_0" / "predictions.csv")
    errors = [abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows]
    assert lines[1]["part"] == "test"
    assert lines[1]["mae_mm"] == pytest.approx(np.nanmean(errors))


def test_the_worst_images_are_drawn_and_listed(folder, capsys):
    data = ["--data", str(folder / "data"), "--out", str(folder), "--save", str(folder / "worst")]
    assert worst.main([*data, "--folds", "1", "--number", "2"]) == 0
    assert (folder / "worst" / "direct_trimmed_fold_1.png").stat().st_size > 10_000
    rows = read_rows(folder / "direct_trimmed" / "fold_1" / "predictions.csv")
    first = plotting.rank_cases(rows, num=1)[0]
    assert f"{first['subject_id']}: {first['y_pred_mm'] - first['y_true_mm']:+.1f} mm of" in capsys.readouterr().out
    assert worst.main([*data, "--folds", "4"]) == 1
    assert "direct_regression.worst: " in capsys.readouterr().err


def test_errors_within_examinations_are_split_by_hand():
    # examination a: annotation 100, 104, prediction 101, 103; deviations -2, 2 and -1, 1. b has one image.
    found = label_noise.error_parts(["a", "a", "b"], [100, 104, 50], [101, 103, 80])
    assert (found.num_examinations, found.num_degrees) == (1, 1)
    assert found.true_variance == 4.0  # 2 + 2
    assert found.annotation_variance == 4.0  # 8 - 4
    assert found.prediction_variance == -2.0  # 2 - 4
    with pytest.raises(ValueError, match="No examination has two images"):
        label_noise.error_parts(["a", "b"], [1, 2], [1, 2])


def test_errors_of_known_size_are_found_again_whatever_the_heads(folder):
    rng = np.random.default_rng(0)
    examinations = np.repeat(np.arange(20_000), rng.integers(1, 5, 20_000))
    true = rng.normal(200, 50, 20_000)[examinations] + rng.normal(0, 5, len(examinations))
    annotated, predicted = true + rng.normal(0, 2, true.shape), true + 3 + rng.normal(0, 1, true.shape)
    found = label_noise.error_parts(examinations, annotated, predicted)
    assert found.true_variance == pytest.approx(25, rel=0.03)
    assert found.annotation_variance == pytest.approx(4, rel=0.08)
    assert found.prediction_variance == pytest.approx(1, rel=0.2)
    assert found.annotation_share == pytest.approx(0.8, abs=0.04)


def test_a_report_of_label_noise_has_intervals_about_its_numbers():
    rng = np.random.default_rng(1)
    rows = [
        {"examination_id": f"{number:03d}", "y_true_mm": mm + rng.normal(0, 2), "y_pred_mm": mm + rng.normal(0, 1)}
        for number in range(60)
        for mm in rng.normal(200, 5, 3)
    ]
    unmeasured = {"examination_id": "000", "y_true_mm": 200.0, "y_pred_mm": float("nan")}
    single = {"examination_id": "999", "y_true_mm": 200.0, "y_pred_mm": 207.0}
    line = label_noise.line_of("row", [*rows, unmeasured, single], num_resamples=200)
    assert line["mae_single_mm"] == 7
    assert line["mae_several_mm"] == pytest.approx(np.mean([abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows]))
    assert np.isnan(label_noise.line_of("row", rows, num_resamples=2)["mae_single_mm"])
    assert line["num_degrees"] == 120
    for name in ("true_sd_mm", "annotation_sd_mm", "prediction_sd_mm", "annotation_share"):
        assert line[f"{name}_low"] < line[name] < line[f"{name}_high"]
    assert line["annotation_sd_mm_low"] < 2 < line["annotation_sd_mm_high"]


RESULTS = train.PAPERS_RUNS.parents[2] / "direct_regression" / "results"
PRINTED = ("mae_mm", "mae_sd_mm", "fold_sd_mm", "median_ae_mm", "bias_mm", "p95_ae_mm", "mae_px", "pmae_percent")


REPORTED = (
    *("direct", "direct_trimmed", "direct_main_piece", "direct_hc_ellipse", "direct_hc_main_piece"),
    *("direct_mask_only", "cnn_1m_mae"),
)
BY_TRIMESTER = ("direct_main_piece", "direct_hc_main_piece")


def test_the_readmes_table_is_that_of_the_committed_predictions(tmp_path):
    arguments = ["report", "--rows", *REPORTED, "--out", str(RESULTS / "runs"), "--save", str(tmp_path)]
    assert train.main(arguments) == 0
    texts = [path.read_text() for path in (RESULTS.parent / "README.rst", RESULTS.parents[2] / "README.rst")]
    for text, rows in zip(texts, (REPORTED, ("direct_main_piece", "direct_hc_main_piece", "direct_mask_only"))):
        lines = [line.split() for line in text.splitlines()]
        for name in ("train.csv", "train_by_trimester.csv"):
            found, kept = (read_rows(folder / name, text=TEXT) for folder in (tmp_path, RESULTS))
            assert [row["row"] for row in found] == [row["row"] for row in kept]
            for row, other in zip(found, kept, strict=True):
                assert row["mae_mm"] == pytest.approx(other["mae_mm"], rel=1e-9)
                of, _, trimester = row["row"].partition(",")
                if (of in rows and not trimester) or (text == texts[0] and trimester and of in BY_TRIMESTER):
                    assert printed(row) in lines


def printed(row):
    digits = dict.fromkeys(PRINTED, 2) | {"mae_px": 1}
    covered = "-" if row["coverage"] != row["coverage"] else f"{row['coverage']:.3f}"
    return [*row["row"].split(), *(f"{row[column]:.{digits[column]}f}" for column in PRINTED), covered]


def rows_of(name):
    return [row for fold in train.FOLDS for row in read_rows(RESULTS / f"runs/{name}/fold_{fold}/predictions.csv")]


def flowing(path):
    """A page's text without line breaks."""
    return " ".join(path.read_text().split())


def test_the_readmes_words_on_errors_are_those_of_the_committed_predictions():
    readme = flowing(RESULTS.parent / "README.rst")
    worst_five = sorted(rows_of("direct"), key=lambda row: -abs(row["y_pred_mm"] - row["y_true_mm"]))[:5]
    specks = {row["subject_id"] for row in worst_five if abs(row["hc_ellipse_mm"] - row["y_true_mm"]) < 4}
    assert specks == {"315_2HC", "146_HC", "082_2HC"}
    rows = rows_of("direct_main_piece")
    of_subject = {row["subject_id"]: row for row in rows}
    for subject, error_mm in (("032_2HC", -29), ("805_HC", 24), ("022_2HC", 11), ("009_HC", -11)):
        assert round(of_subject[subject]["y_pred_mm"] - of_subject[subject]["y_true_mm"]) == error_mm
    one_head = [of_subject[subject] for subject in ("471_HC", "471_2HC")]
    said = [f"{row['y_true_mm']:.1f}" for row in one_head] + [f"{row['y_pred_mm']:.1f}" for row in one_head]
    assert "annotated {} and {} mm, measured {} and {}".format(*said) in readme
    errors_mm = np.sort([abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows])
    assert f"Without the ten largest errors the MAE would be {errors_mm[:-10].mean():.2f} mm" in readme


def test_the_readmes_words_on_what_stops_it_are_those_of_the_results():
    readme = flowing(RESULTS.parent / "README.rst")
    line = label_noise.line_of("direct_main_piece", rows_of("direct_main_piece"))
    kept = {row["row"]: row for row in read_rows(RESULTS / "label_noise.csv", text=("row",))}["direct_main_piece"]
    for name in ("annotation_sd_mm", "annotation_sd_mm_low", "prediction_sd_mm_high"):
        assert line[name] == pytest.approx(kept[name], rel=1e-9)
    low, high = kept["annotation_sd_mm_low"], kept["annotation_sd_mm_high"]
    assert f"{kept['annotation_sd_mm']:.1f} mm SD (95 % interval {low:.1f} to {high:.1f})" in readme
    exact = read_rows(RESULTS / "exact_labels.csv", text=("part",))[0]
    assert f"{exact['mae_mm']:.2f} mm, median {exact['median_ae_mm']:.2f}, though" in readme
    curve = read_rows(RESULTS / "learning_curve.csv", text=("row", "part"))
    for row in curve:
        assert f"{row['mae_mm']:.2f} ± {row['mae_standard_error_mm']:.2f}" in readme
    errors = learning_curve.errors_of(read_rows(RESULTS / "runs/direct_50_percent/fold_0/predictions.csv"))
    assert errors["mae_mm"] == pytest.approx(curve[1]["mae_mm"], rel=1e-9)


def test_the_readmes_words_on_longer_training_are_those_of_the_committed_predictions():
    readme = flowing(RESULTS.parent / "README.rst")
    for part, name in (("validation", "validation_predictions.csv"), ("test", "predictions.csv")):
        before, after = (
            learning_curve.errors_of(read_rows(RESULTS / "runs" / row / "fold_1" / name))["mae_mm"]
            for row in ("direct_hc_ellipse", "direct_hc_longer")
        )
        assert f"{part} {before:.2f} to {after:.2f}" in readme


def test_heads_of_exact_labels_are_measured(folder, capsys):
    preset = ["--model", str(folder / "preset"), "--examinations", "5", "--save", str(folder / "exact")]
    assert exact_labels.main(["run", *preset]) == 0
    lines = read_rows(folder / "exact" / "exact_labels.csv", text=("part",))
    assert lines[0]["part"] == "all"
    assert lines[0]["num_images"] >= sum(line["num_images"] for line in lines[1:])
    assert "all: " in capsys.readouterr().out
    assert exact_labels.main(["run", "--model", str(folder / "none")]) == 1
    assert f"There is no folder {folder / 'none'}" in capsys.readouterr().err
