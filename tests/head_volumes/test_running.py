"""Runs on small heads: what they leave, two levels one after the other, stops and what goes on from them."""

import json
import shutil
from dataclasses import replace

import keras
import nibabel as nib
import numpy as np
import pytest
from small_heads import SHAPE, HeadRecord, heads, small_network

from hcreg import losses, metrics, runs, training
from hcreg.files import read_rows
from hcreg.head_volumes import (
    HeadPreparation,
    HeadRecipe,
    Patches,
    Slices,
    as_run,
    load_network,
    predict,
    repeated_split,
    run,
    running,
    segment,
    write_label_map,
)
from hcreg.models import AutoContext
from hcreg.preprocessing.nifti import read_volume

COLUMNS = {
    *("subject_id", "patient_id", "fold", "failure", "seconds", "dice_constant", "volume_constant_ml"),
    *("dice", "conformity", "jaccard", "adb_mm", "hdb_mm", "volume_true_ml", "volume_pred_ml"),
}


def test_rows_are_the_test_part_measured_at_full_resolution(whole_run):
    rows = whole_run["rows"]
    assert [row["subject_id"] for row in rows] == whole_run["split"]["test"]
    assert read_rows(whole_run["folder"] / "predictions.csv") == rows
    model = load_network(whole_run["recipe"], whole_run["folder"])
    for row in rows:
        assert set(row) == COLUMNS
        assert row["subject_id"].startswith(row["patient_id"] + "_scan")
        record = whole_run["cache"].records[whole_run["cache"].index_of([row["subject_id"]])[0]]
        truth = record.label_map()
        assert row["volume_true_ml"] == pytest.approx(truth.array.sum() * np.prod(truth.spacing_mm) / 1000)
        labels = segment(record.image(), model, preparation=whole_run["recipe"].preparation)
        assert labels.array.shape == SHAPE
        assert row["dice"] == pytest.approx(metrics.dice_score(truth.array, labels.array), abs=1e-3)
        assert row["fold"] == 1


def test_the_history_shows_the_dice_of_the_head_alone(whole_run):
    history = read_rows(whole_run["folder"] / "history.csv")
    best = min(history, key=lambda row: row["val_loss"])
    cache, model = whole_run["cache"], load_network(whole_run["recipe"], whole_run["folder"])
    found = []
    for index in cache.index_of(whole_run["split"]["validation"]):
        foreground = whole_run["recipe"].view.foreground(model, cache.padded(index, "image"))
        found.append(metrics.dice_score(cache.padded(index, "labels"), foreground > 0.5))
    assert best["val_dice_score"] == pytest.approx(np.mean(found), abs=2e-3)


def test_run_folder_holds_record_history_and_both_predictions(whole_run):
    record = json.loads((whole_run["folder"] / "run.json").read_text())
    assert (record["status"], record["epochs_run"]) == ("finished", 2)
    assert record["volume_shape"] == [16, 16, 16]
    assert record["num_volumes"] == {"training": 6, "validation": 3, "test": 3}
    assert record["arguments"]["view"] == {"kind": "Whole"}
    assert record["arguments"]["preparation"]["scale"] == 0.5
    history = read_rows(whole_run["folder"] / "history.csv")
    assert len(history) == 2
    assert {"dice_score", "val_dice_score"} < set(history[0])
    validation = read_rows(whole_run["folder"] / "validation_predictions.csv")
    assert [row["subject_id"] for row in validation] == whole_run["split"]["validation"]
    assert not list(whole_run["folder"].glob("**/training_state.npz"))


def test_constant_is_where_most_training_heads_are(whole_run):
    cache, parts = whole_run["cache"], whole_run["split"]
    training_part = cache.index_of(parts["training"])
    often = sum(cache.padded(index, "labels").astype(int) for index in training_part) >= 3  # of six
    for row in whole_run["rows"]:
        truth = cache.padded(cache.index_of([row["subject_id"]])[0], "labels")
        assert row["dice_constant"] == pytest.approx(metrics.dice_score(truth, often))
        assert row["volume_constant_ml"] == pytest.approx(cache.volumes_ml[training_part].mean())


def test_a_finished_run_is_read_and_another_is_refused(whole_run, monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    arguments = [whole_run[name] for name in ("cache", "split", "folder")]
    assert run(whole_run["recipe"], *arguments, fold=1, progress=False) == whole_run["rows"]
    with pytest.raises(ValueError, match=r"preparation.scale was 0.5 and is now 0.6"):
        run(replace(whole_run["recipe"], preparation=HeadPreparation(scale=0.6)), *arguments, fold=1)


def test_splits_keep_the_scans_of_a_head_together_and_are_one_for_all_seeds():
    records = heads(30)
    first, *others = repeated_split(records, num_seeds=3, seed=4)
    assert others == [first, first]
    assert first != repeated_split(records, seed=5)[0]
    parts = [{subject.partition("_")[0] for subject in first[part]} for part in ("training", "validation", "test")]
    assert sum(map(len, parts)) == 10 == len(set.union(*parts))
    assert [len(part) for part in parts] == [5, 2, 3]


def stopped_in_the_second_epoch(monkeypatch):
    """Let training end as by Ctrl-C when its second epoch begins."""
    usual = keras.Model.fit

    def begin(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    def fit(model, *arguments, callbacks, **keywords):
        callback = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        return usual(model, *arguments, callbacks=[*callbacks, callback], **keywords)

    monkeypatch.setattr(keras.Model, "fit", fit)


def test_a_second_level_goes_on_from_the_first_of_another_row_and_after_a_stop(whole_run, tmp_path, monkeypatch):
    recipe = replace(whole_run["recipe"], name="context", context=True, first_of="whole")
    arguments = [recipe, whole_run["cache"], whole_run["split"]]
    folder = whole_run["folder"].parent.parent / "context" / "fold_1"
    rows = run(*arguments, folder, fold=1, progress=False)
    first, both = load_network(whole_run["recipe"], whole_run["folder"]), load_network(recipe, folder)
    assert isinstance(both, AutoContext)
    for ours, theirs in zip(both.first.variables, first.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(not np.array_equal(a, b) for a, b in zip(both.second.variables, first.variables))
    record, before = runs.read_run(folder), runs.read_run(whole_run["folder"])
    assert record["training_seconds"] > before["training_seconds"]
    assert record["num_parameters"] == 2 * before["num_parameters"]

    shutil.copytree(whole_run["folder"], tmp_path / "whole" / "fold_1")
    stopped = tmp_path / "context" / "fold_1"
    with monkeypatch.context() as patch:
        stopped_in_the_second_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            run(*arguments, stopped, fold=1, progress=False)
    assert len(read_rows(stopped / "history.csv")) == 1
    for ours, theirs in zip(run(*arguments, stopped, fold=1, progress=False), rows, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}  # the same bits as in one go


def test_a_first_level_of_no_run_or_another_kind_is_refused(whole_run, tmp_path):
    arguments = [whole_run[name] for name in ("cache", "split")]
    recipe = replace(whole_run["recipe"], name="context", context=True, first_of="whole")
    with pytest.raises(FileNotFoundError, match="goes on from the networks of whole, and there is no run of it"):
        run(recipe, *arguments, tmp_path / "context" / "fold_1", fold=1, progress=False)
    other = replace(recipe, name="other", epochs=1)
    folder = whole_run["folder"].parent.parent / "other" / "fold_1"
    with pytest.raises(ValueError, match=r"from networks that were trained otherwise than it says: .* epochs was 2"):
        run(other, *arguments, folder, fold=1, progress=False)


def test_levels_are_trained_one_after_the_other_and_a_stop_between_them_keeps_the_first(
    whole_run, tmp_path, monkeypatch
):
    recipe = replace(whole_run["recipe"], name="own", context=True)
    trained = []

    def fit(model, batches, validation, folder, **keywords):
        trained.append((type(model).__name__, folder, batches.seed))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / training.STATE).write_bytes(b"")
        if len(trained) == 2:
            raise KeyboardInterrupt
        return [{"epoch": 1, "val_loss": 0.0, "seconds": 4.0}]

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(running, "predict", lambda *arguments: [{"subject_id": "a"}])
    arguments = [recipe, whole_run["cache"], whole_run["split"], tmp_path]
    with pytest.raises(KeyboardInterrupt):
        run(*arguments, fold=1, progress=False)
    assert (tmp_path / "level_1" / training.STATE).exists()  # by which `fit` knows that there is nothing left to train
    run(*arguments, fold=1, progress=False)
    first, second = trained[:2]
    assert trained == [first, second, first, second]
    assert first[:2] == ("Functional", tmp_path / "level_1")
    assert second[:2] == ("AutoContext", tmp_path)
    assert first[2] != second[2]  # another order, other augmentation
    assert runs.read_run(tmp_path)["training_seconds"] == 8
    assert not list(tmp_path.glob("**/training_state.npz"))


@pytest.mark.parametrize("view", [Patches((8, 8, 8)), Slices(at_once=16)], ids=["patches", "slices"])
def test_networks_of_parts_learn_and_predict(view, whole_run):
    recipe = HeadRecipe(
        "parts",
        small_network,
        **losses.deep_supervision(weights=(1.0,)),
        build_arguments={"outputs": ("mask",)},
        preparation=HeadPreparation(scale=0.5),
        view=view,
        batch_size=8 if isinstance(view, Slices) else 1,
    )
    model = recipe.network(seed=0)
    model.compile(optimizer="sgd", loss=recipe.loss, loss_weights=recipe.loss_weights)
    before = np.array(model.trainable_variables[0])
    assert np.isfinite(model.train_on_batch(*recipe.batches(whole_run["cache"], [0, 1], model, 0, training=True)[0]))
    assert not np.array_equal(before, model.trainable_variables[0])
    (row,) = predict(recipe, model, whole_run["cache"], [0])
    assert 0 <= row["dice"] <= 1


def test_a_volume_goes_from_file_to_file_in_its_own_voxels(whole_run, tmp_path):
    record = HeadRecord(9)
    affine = np.diag([0.8, -1.2, 1.0, 1.0])[:, [2, 1, 0, 3]] + 0.0
    affine[:3, 3] = (5.0, 6.0, 7.0)
    array = record.image().array
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "image.nii.gz")
    model = load_network(whole_run["recipe"], whole_run["folder"])
    model.save(tmp_path / "network.keras")
    preparation = whole_run["recipe"].preparation
    labels = segment(tmp_path / "image.nii.gz", tmp_path / "network.keras", preparation=preparation)
    assert labels.array.shape == read_volume(tmp_path / "image.nii.gz").array.shape
    write_label_map(tmp_path / "labels.nii.gz", labels)
    written = nib.load(tmp_path / "labels.nii.gz")
    assert written.shape == array.shape
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    assert np.asarray(written.dataobj).sum() == labels.array.sum()
    with pytest.raises(FileNotFoundError, match=r"There is no file .*gone.keras. A network is loaded from"):
        segment(tmp_path / "image.nii.gz", tmp_path / "gone.keras")


def test_recipes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"An augmentation is one of none, yang2020. Received: 'elastic'"):
        HeadRecipe("row", small_network, losses.Dice(), augmentation="elastic")
    with pytest.raises(ValueError, match=r"row has context=False. Received: first_of='whole'"):
        HeadRecipe("row", small_network, losses.Dice(), first_of="whole")


def test_a_row_is_known_again_as_large_as_it_was_run(whole_run):
    changed = {"view": Slices(), "preparation": HeadPreparation(), "build_arguments": {"filters": 9}}
    found = as_run(replace(whole_run["recipe"], **changed), whole_run["folder"])
    assert found == whole_run["recipe"]
    with pytest.raises(ValueError, match="holds a run of whole; expected one of other"):
        as_run(replace(whole_run["recipe"], name="other"), whole_run["folder"])


def test_predictions_without_a_constant_say_nothing_of_one(whole_run):
    model = load_network(whole_run["recipe"], whole_run["folder"])
    (row,) = predict(whole_run["recipe"], model, whole_run["cache"], [0])
    assert not {"dice_constant", "volume_constant_ml"} & set(row)
    assert row["seconds"] > 0
    assert running.patient_of(HeadRecord(4)) == "head01"
