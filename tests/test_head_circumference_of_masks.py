"""One run of a small U-Net with either head: what it leaves behind, and that a stop costs nothing."""

import json
import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from hcreg import evaluation, head_circumference, losses, models, runs, training
from hcreg.augmentation import GainGamma, Speckle
from hcreg.files import read_rows
from hcreg.layers import EllipseMoments
from hcreg.mask_measures import ellipse_of_row

BOTH = {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()}


def recipe(head, loss, **changes):
    stated = head_circumference.Recipe(
        f"unet_{head}",
        models.unet,
        loss,
        {"filters": 2, "head": head},
        input_shape=(32, 48, 1),
        augmentation="strong",
        learning_rate=1e-2,
        batch_size=4,
        epochs=1,
        patience=1,
    )
    return replace(stated, **changes)


def tiny(input_shape, seed):
    """A network of both outputs that is built and trained in a moment; its draws are those of the run's seed."""
    image = keras.Input(input_shape)
    features = keras.layers.Dropout(0.2, seed=seed)(keras.layers.Conv2D(2, 3, padding="same")(image))
    mask = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="mask")(features)
    length = EllipseMoments((1 / 48, 0.675 / 32), name="ellipse")(mask)["circumference"]
    return keras.Model(image, {"mask": mask, "hc_fraction": keras.layers.Identity(name="hc_fraction")(length)})


TINY = {"build": tiny, "build_arguments": {}}


@pytest.fixture(scope="module")
def small(cohort):
    """Cache and split of the small cohort, of which few images are trained on."""
    from hcreg.datasets import HC18
    from hcreg.datasets.batches import read_images

    dataset = HC18(cohort)
    split = head_circumference.single_split(dataset, sizes=(3, 1, 1))
    split = {"training": split["training"][:6], "validation": split["validation"][:4], "test": split["test"][:4]}
    return read_images(dataset, (32, 48, 1)), split


@pytest.fixture(scope="module", params=["mask", "ellipse"])
def finished(request, small, tmp_path_factory):
    stated = recipe(request.param, losses.Dice() if request.param == "mask" else BOTH)
    folder = tmp_path_factory.mktemp("runs") / stated.name
    rows = head_circumference.run(stated, *small, folder, progress=False)
    return stated, folder, rows


def same(rows, others):
    """Whether two tables are equal, their empty cells too."""
    if [list(row) for row in rows] != [list(row) for row in others]:
        return False
    pairs = [(row[name], other[name]) for row, other in zip(rows, others) for name in row]
    return all(a == b or (a != a and b != b) for a, b in pairs)


def test_the_folder_has_the_files_of_every_run(finished, small):
    stated, folder, rows = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "run.json",
        "split.csv",
        "history.csv",
        "checkpoint.weights.h5",
        "training_predictions.csv",
        "validation_predictions.csv",
        "predictions.csv",
    }
    assert [row["subject_id"] for row in rows] == small[1]["test"]
    assert same(read_rows(folder / "predictions.csv"), rows)
    for part in ("training", "validation"):
        of_part = read_rows(folder / f"{part}_predictions.csv")
        assert [row["subject_id"] for row in of_part] == small[1][part]
        assert "dice_original" in of_part[0]
    assert len(read_rows(folder / "history.csv")) == stated.epochs


def test_the_record_describes_the_losses(finished):
    stated, folder, _ = finished
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    arguments = record["arguments"]
    assert arguments["builder"] == "unet"
    if stated.name == "unet_mask":
        assert arguments["loss"]["name"] == "dice"
        assert arguments["loss"]["reduction"] == "sum_over_batch_size"
    else:
        assert {output: loss["name"] for output, loss in arguments["loss"].items()} == {
            "mask": "dice_cross_entropy",
            "hc_fraction": "relative_error",
        }
        assert arguments["loss"]["mask"]["dice_weight"] == 0.5
    assert "loss_weights" not in arguments  # a run of before there were any is still the same run
    assert record["target_scale_px"] == 800.0  # the frame's width, whatever the training heads' sizes


def test_loss_weights_are_part_of_what_a_run_is(finished, small):
    stated, folder, _ = finished
    weighted = replace(stated, loss_weights={"hc_fraction": 0.25})
    assert weighted.arguments()["loss_weights"] == {"hc_fraction": 0.25}
    with pytest.raises(ValueError, match=r"loss_weights was None and is now \{'hc_fraction': 0\.25\}"):
        head_circumference.run(weighted, *small, folder)


def test_the_rows_hold_what_the_network_says(finished, small):
    stated, folder, rows = finished
    for row in rows:
        assert 0 <= row["dice_original"] <= 1
        measured = row["y_pred_mm"] == row["y_pred_mm"]
        assert (ellipse_of_row(row) is None) == bool(row["failure"])
        if stated.name == "unet_mask":
            assert measured == (row["failure"] == "")
            assert not measured or row["y_pred_mm"] == row["hc_ellipse_mm"]
        else:
            assert measured
    model = models.unet(input_shape=(32, 48, 1), **stated.build_arguments)
    training.load_weights(model, folder / training.BEST_WEIGHTS)
    if stated.name == "unet_ellipse":
        cache, split = small
        batches = head_circumference.Batches(cache, cache.index_of(split["test"]), 800.0)
        fractions = model.predict(batches.arrays()[0], verbose=0)["hc_fraction"][:, 0]
        expected = [800 * f / row["reference_px_per_mm"] for f, row in zip(fractions, rows)]
        assert [row["y_pred_mm"] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_a_finished_run_is_read_and_not_repeated(finished, small, monkeypatch):
    stated, folder, rows = finished
    monkeypatch.setattr(training, "fit", None)
    before = (folder / "predictions.csv").stat().st_mtime_ns
    assert same(head_circumference.run(stated, *small, folder, progress=False), rows)
    assert (folder / "predictions.csv").stat().st_mtime_ns == before


def test_a_run_stopped_in_its_second_epoch_and_after_training_comes_to_the_same_rows(small, tmp_path, monkeypatch):
    stated = recipe("ellipse", BOTH, **TINY, epochs=2, patience=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    rows = head_circumference.run(stated, *small, whole, progress=False)

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._EpochProgress, "on_epoch_begin", lambda self, epoch, logs=None: epoch and stop())
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(stated, *small, stopped, progress=True)
    assert len(read_rows(stopped / "history.csv")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "predict_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(stated, *small, stopped, progress=False)
    monkeypatch.setattr(keras.Model, "fit", stop)  # from here on nothing is trained
    assert same(head_circumference.run(stated, *small, stopped, progress=False), rows)
    assert runs.read_run(stopped)["epochs_run"] == 2
    histories = [read_rows(folder / "history.csv") for folder in (stopped, whole)]
    assert same(*([{**row, "seconds": 0.0} for row in history] for history in histories))


def test_the_augmentation_of_a_recipe_reaches_its_batches(small, tmp_path, monkeypatch):
    seen = []

    def keep(model, batches, *arguments, **keywords):
        seen.append((batches, keywords))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", keep)
    stated = recipe("ellipse", BOTH, **TINY, loss_weights={"hc_fraction": 0.25})
    for augmentation in ("none", "default", "strong"):
        with pytest.raises(KeyboardInterrupt):
            head_circumference.run(replace(stated, augmentation=augmentation), *small, tmp_path / augmentation)
    none, default, strong = (batches for batches, _ in seen)
    assert none.spatial is None
    assert default.intensity == ()
    assert strong.spatial == default.spatial
    assert [type(transform) for transform in strong.intensity] == [GainGamma, Speckle]
    assert set(strong.targets) == {"mask", "hc_fraction"}
    assert (strong.target_scale_px, strong.shuffle) == (800.0, True)
    assert all(keywords["loss_weights"] == {"hc_fraction": 0.25} for _, keywords in seen)
    assert all(keywords["target_scale_px"] == 800.0 for _, keywords in seen)


def test_a_network_that_ends_otherwise_is_refused_by_the_name_of_its_output(small, tmp_path):
    def build(input_shape, seed):
        image = keras.Input(input_shape)
        return keras.Model(image, keras.layers.Dense(1, name="age")(keras.layers.Flatten()(image)))

    stated = recipe("mask", losses.Dice(), build=build, build_arguments={})
    with pytest.raises(
        ValueError, match=r"'hc_fraction', 'mask', the names of the network's output layers.*\('age',\)"
    ):
        head_circumference.run(stated, *small, tmp_path, progress=False)


def test_a_run_where_no_validation_mask_has_an_outline_has_endless_intervals(small, tmp_path, monkeypatch):
    """Nothing stops: the rows say why, and the table counts them."""

    def build(input_shape, seed):
        image = keras.Input(input_shape)
        return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="mask")(image))

    def dark(model, *arguments, **keywords):
        model.layers[-1].set_weights([np.zeros((1, 1, 1, 1)), np.array([-9.0])])
        return [{"epoch": 1, "val_loss": 1.0, "seconds": 1.0}]

    monkeypatch.setattr(training, "fit", dark)
    stated = recipe("mask", losses.Dice(), build=build, build_arguments={})
    rows = head_circumference.run(stated, *small, tmp_path, progress=False)
    assert all(row["failure"].startswith("the mask is empty") and math.isnan(row["interval_low_mm"]) for row in rows)
    assert evaluation.summarise(rows)["num_failed"] == len(rows)
    assert same(read_rows(tmp_path / "predictions.csv"), rows)
    assert runs.read_run(tmp_path)["status"] == "finished"
