"""Other patients, measured by the networks of several folds together."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from hcreg.cardiac_volumes import FoldNetworks, load_network, predict


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
    networks = FoldNetworks(folder, [replace(stack_run["recipe"], size=(64, 64), build_arguments={})])
    assert networks.recipe.size == (32, 32)
    assert networks.networks[0][0].input_shape == (None, 32, 32, 9)


def test_runs_that_do_not_belong_together_are_refused(folder, stack_run, tmp_path):
    with pytest.raises(ValueError, match=r"holds runs of stacks \(vgg2d\); the known: other"):
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
