import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from hcreg import evaluation, head_circumference, runs, training
from hcreg.files import read_rows


def test_run_folder_holds_what_the_design_says(trained_run):
    folder = trained_run["folder"]
    names = {path.name for path in folder.iterdir()}
    assert {
        "run.json",
        "split.csv",
        "history.csv",
        "checkpoint.weights.h5",
        "predictions.csv",
        "validation_predictions.csv",
    } <= names
    assert "training_state.npz" not in names
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["arguments"]["seed"] == 0
    assert record["peak_memory_mb"] > 0
    assert record["training_seconds"] > 0
    assert record["versions"]["keras"]


def test_target_scale_is_the_training_parts_maximum(trained_run):
    record = json.loads((trained_run["folder"] / "run.json").read_text())
    training = trained_run["cache"].index_of(trained_run["split"]["training"])
    assert record["target_scale_px"] == trained_run["cache"].hc_px[training].max()
    assert record["constant_mm"] == np.median([trained_run["dataset"][i].hc_mm for i in training])


def test_rows_are_the_test_part_with_the_csvs_truth(trained_run):
    rows = trained_run["rows"]
    assert [row["subject_id"] for row in rows] == trained_run["split"]["test"]
    truth = {record.subject_id: record.hc_mm for record in trained_run["dataset"]}
    assert all(row["y_true_mm"] == truth[row["subject_id"]] for row in rows)
    assert read_rows(trained_run["folder"] / "predictions.csv") == rows


def test_finished_run_is_read_not_repeated(trained_run):
    before = (trained_run["folder"] / "predictions.csv").stat().st_mtime_ns
    again = head_circumference.run(
        trained_run["recipe"],
        trained_run["cache"],
        trained_run["split"],
        trained_run["folder"],
        progress=False,
    )
    assert again == trained_run["rows"]
    assert (trained_run["folder"] / "predictions.csv").stat().st_mtime_ns == before


def test_stops_after_training_cost_nothing_and_the_same_seed_gives_the_same_predictions(
    trained_run, tmp_path, monkeypatch
):
    arguments = [trained_run[name] for name in ("recipe", "cache", "split")]

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "predict_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(*arguments, tmp_path, progress=False)
    assert not (tmp_path / "predictions.csv").exists()
    assert (tmp_path / "training_state.npz").exists()
    monkeypatch.setattr(keras.Model, "fit", stop)  # from here on nothing is trained
    with monkeypatch.context() as patch:
        patch.setattr(runs, "close_run", stop)
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(*arguments, tmp_path, progress=False)
    assert (tmp_path / "predictions.csv").exists()
    assert runs.read_run(tmp_path)["status"] == "running"
    with monkeypatch.context() as patch:
        patch.setattr(training, "discard_state", lambda folder: None)
        assert head_circumference.run(*arguments, tmp_path, progress=False) == trained_run["rows"]
    record = runs.read_run(tmp_path)
    assert record["status"] == "finished"
    assert record["epochs_run"] == 2
    assert (tmp_path / "training_state.npz").exists()  # as a kill right after the run was closed leaves it
    assert head_circumference.run(*arguments, tmp_path, progress=False) == trained_run["rows"]
    assert not (tmp_path / "training_state.npz").exists()


def test_a_run_leaves_the_precision_as_its_user_set_it(trained_run, tmp_path, monkeypatch):
    seen = []

    def stop(model, *arguments, **keywords):
        seen.append(model.layers[1].compute_dtype)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stop)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(*(trained_run[name] for name in ("recipe", "cache", "split")), tmp_path)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    assert seen == ["bfloat16"]


def test_unknown_augmentation_is_refused_with_the_known(trained_run, tmp_path):
    recipe = replace(trained_run["recipe"], augmentation="mirror")
    with pytest.raises(ValueError, match=r"one of none, zhang2021, default, strong\. Received: 'mirror'"):
        head_circumference.run(recipe, trained_run["cache"], trained_run["split"], tmp_path)


def test_other_seed_other_predictions(trained_run, tmp_path):
    other = head_circumference.run(
        trained_run["recipe"], trained_run["cache"], trained_run["split"], tmp_path, seed=1, progress=False
    )
    assert [row["y_pred_mm"] for row in other] != [row["y_pred_mm"] for row in trained_run["rows"]]


def test_folder_of_another_split_is_refused(trained_run):
    split = dict(trained_run["split"])
    split["training"], split["test"] = split["test"], split["training"]
    with pytest.raises(ValueError, match="holds a run on another split"):
        head_circumference.run(trained_run["recipe"], trained_run["cache"], split, trained_run["folder"])


def test_folder_of_other_arguments_is_refused_with_the_difference(trained_run):
    recipe = replace(trained_run["recipe"], learning_rate=0.5)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.001 and is now 0\.5"):
        head_circumference.run(recipe, trained_run["cache"], trained_run["split"], trained_run["folder"])


def test_grouped_folds_share_no_examination(trained_run):
    dataset = trained_run["dataset"]
    examination = {record.subject_id: record.examination_id for record in dataset}
    folds = head_circumference.grouped_folds(dataset, k=3)
    tested = sorted(subject for split in folds for subject in split["test"])
    assert tested == sorted(examination)
    for split in folds:
        parts = [{examination[subject] for subject in split[part]} for part in ("training", "validation", "test")]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert sum(len(split[part]) for part in split) == len(dataset)


@pytest.mark.data
def test_single_split_of_hc18_keeps_the_proportions(hc18_root):
    from hcreg.datasets import HC18

    dataset = HC18(hc18_root)
    split = head_circumference.single_split(dataset)
    assert [len(split[part]) for part in ("training", "validation", "test")] == [484, 161, 161]


def test_weights_path_is_not_part_of_the_identity():
    from keras.losses import MeanAbsoluteError

    from hcreg import models

    recipe = head_circumference.Recipe(
        "d",
        models.backbone_regressor,
        MeanAbsoluteError(),
        build_arguments={"backbone": "DenseNet121", "weights": "/a/w.h5"},
    )
    moved = replace(recipe, build_arguments={"backbone": "DenseNet121", "weights": "/b/w.h5"})
    assert recipe.arguments() == moved.arguments()
    assert recipe.arguments()["build_arguments"]["weights"] == "w.h5"
