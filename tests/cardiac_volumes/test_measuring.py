"""Other patients, measured by the networks of several folds together."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from hcreg import models
from hcreg.cardiac_volumes import FoldNetworks, StackRecipe, load_network, measuring, predict
from hcreg.files import plain
from hcreg.preprocessing.volumes import Frame


@pytest.fixture
def folder(stack_run, tmp_path):
    """The finished run twice, as two folds."""
    for fold in (1, 2):
        shutil.copytree(stack_run["folder"], tmp_path / "stacks" / f"fold_{fold}")
    record = tmp_path / "stacks" / "fold_2" / "run.json"
    record.write_text(record.read_text().replace('"fold": 1', '"fold": 2'))
    return tmp_path / "stacks"


def test_other_patients_are_measured_by_the_mean_of_the_folds(folder, stack_run, hearts):
    networks = FoldNetworks(folder, [stack_run["recipe"]])
    model, scale = networks.networks[1]
    networks.networks[1] = (model, 3 * scale)
    rows = networks.measure(hearts[:3])
    alone = predict(
        stack_run["recipe"], [load_network(stack_run["recipe"], folder / "fold_1")], stack_run["cache"], [0, 1, 2]
    )
    for row, one in zip(rows, alone, strict=True):
        assert row["subject_id"] == one["subject_id"]
        assert row["LV_true_ml"] == one["LV_true_ml"]
        assert row["LV_pred_ml"] == pytest.approx(2 * one["LV_pred_ml"], rel=1e-4)  # the mean of once and thrice
        assert row["num_networks"] == 2
        assert "fold" not in row
    constant = {row["phase"]: row["LV_constant_ml"] for row in stack_run["rows"]}
    assert [row["LV_constant_ml"] for row in rows] == pytest.approx([constant[row["phase"]] for row in rows])


def test_stacks_without_label_maps_are_measured_all_the_same(slice_run, hearts):
    networks = FoldNetworks(slice_run["folder"], [slice_run["recipe"]])
    rows = networks.measure([replace(hearts[0], label_map_path=None), hearts[1]])
    known = networks.measure(hearts[:2])
    for column in ("LV_pred_ml", "LV_mask_ml"):
        assert [row[column] for row in rows] == pytest.approx([row[column] for row in known], rel=1e-5)
    assert [np.isnan(row["LV_true_ml"]) for row in rows] == [True, False]
    assert [np.isnan(row["LV_dice"]) for row in rows] == [True, False]


def test_the_subjects_they_were_trained_on_are_known(folder, stack_run):
    networks = FoldNetworks(folder, [stack_run["recipe"]])
    split = stack_run["split"]
    assert networks.subjects == {*split["training"], *split["validation"]}


def test_sizes_are_those_of_the_run(folder, stack_run):
    networks = FoldNetworks(folder, [replace(stack_run["recipe"], size=(64, 64), build_arguments={"filters": 5})])
    assert networks.recipe == stack_run["recipe"]
    assert networks.networks[0][0].input_shape == (None, 16, 16, 9, 1)


def record_of(recipe):
    """The arguments of a run as its ``run.json`` gives them back."""
    return json.loads(json.dumps(plain(recipe.arguments())))


@pytest.mark.parametrize("name", ["vgg2d_masks", "vgg3d_multi_output_pixel", "vgg2d_frame", "small_slices"])
def test_a_recipe_is_made_again_from_the_arguments_of_its_run(name, slice_run):
    """Whatever a run may have had otherwise: crop, source, target, size, frame, views, and how the network is built."""
    made = {
        "vgg2d_masks": {"crop": "paper", "source": "mask", "size": (24, 40)},
        "vgg3d_multi_output_pixel": {
            "crop": "paper",
            "target": "pixel",
            "build_arguments": {"variant": "multi_output"},
        },
        "vgg2d_frame": {"crop": "frame", "size": (56, 56), "build_arguments": {"momentum": 0.8}},
        "small_slices": {
            "frame": Frame(48, 40, 3.5),
            "build_arguments": {"filters": 3},
            "views": ((0.0, 1.0), (9.0, 1.1)),
        },
    }
    build = models.vgg3d if name.startswith("vgg3d") else models.vgg2d
    known = replace(slice_run["recipe"], name=name)
    if name.startswith("vgg"):
        known = StackRecipe(name, build, keras.losses.MeanAbsoluteError())
    stated = replace(known, **made[name])
    assert stated != known
    again = measuring._recipe_of(record_of(stated), [known], "runs")
    assert again == stated
    assert again.preparation == stated.preparation


def test_stacks_on_another_frame_than_the_runs_own_are_not_measured(folder, stack_run):
    for record in folder.glob("*/run.json"):
        text = record.read_text()
        assert '"slice_mm": 12.5' in text
        record.write_text(text.replace('"slice_mm": 12.5', '"slice_mm": 10.0'))
    with pytest.raises(ValueError, match=r"frame\.slice_mm was 10\.0 and is now 12\.5"):
        FoldNetworks(folder, [stack_run["recipe"]])


def test_runs_that_do_not_belong_together_are_refused(folder, stack_run, tmp_path):
    with pytest.raises(ValueError, match=r"holds runs of stacks \(small_regressor\); the known: other"):
        FoldNetworks(folder, [replace(stack_run["recipe"], name="other")])
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        FoldNetworks(tmp_path / "nowhere", [stack_run["recipe"]])
    record = folder / "fold_2" / "run.json"
    sound = record.read_text()
    record.write_text(sound.replace('"epochs": 2', '"epochs": 3'))
    with pytest.raises(ValueError, match=r"or of other arguments: .*fold_1 is of stacks, and these differ .*fold_2"):
        FoldNetworks(folder, [stack_run["recipe"]])
    record.write_text(sound.replace('"finished"', '"running"'))
    with pytest.raises(ValueError, match=r"not finished: \['.*fold_2'\]"):
        FoldNetworks(folder, [stack_run["recipe"]])
