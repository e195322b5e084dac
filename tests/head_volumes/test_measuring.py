"""Measures of one volume by hand, and the numbers of a table from rows that were written by hand."""

import doctest
import math

import numpy as np
import pytest

from hcreg.head_volumes import measuring, summaries
from hcreg.head_volumes.measuring import measure
from hcreg.head_volumes.summaries import agreement, reproducibility, summarise

SPACING_MM = (2.0, 1.0, 0.5)


def box(*slices):
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[slices] = 1
    return mask


def test_measures_of_two_boxes_by_hand():
    truth, predicted = box(slice(1, 5), slice(2, 4), slice(2, 4)), box(slice(3, 7), slice(2, 4), slice(2, 4))
    found = measure(truth, predicted, SPACING_MM)
    assert found["dice"] == pytest.approx(8 / 16)  # 16 voxels each, 8 of both
    assert found["conformity"] == pytest.approx((3 * 0.5 - 2) / 0.5)
    assert found["jaccard"] == pytest.approx(8 / 24)
    assert found["hdb_mm"] == pytest.approx(4.0)  # two voxels of 2 mm along the first axis
    # every voxel is boundary: of each box a quarter 4 mm away, a quarter 2 mm
    assert found["adb_mm"] == pytest.approx((4 + 2) / 4)
    assert found["volume_true_ml"] == found["volume_pred_ml"] == pytest.approx(16 / 1000)
    assert found["failure"] == ""
    across = measure(np.moveaxis(truth, 0, 2), np.moveaxis(predicted, 0, 2), SPACING_MM)
    assert across["hdb_mm"] == pytest.approx(1.0)  # two voxels of 0.5 mm along the last


def test_a_head_that_is_not_found_is_a_failure_in_words():
    found = measure(box(slice(1, 3)), np.zeros((8, 8, 8)), SPACING_MM)
    assert found["dice"] == found["volume_pred_ml"] == 0
    assert found["conformity"] == -math.inf
    assert math.isnan(found["adb_mm"])
    assert math.isnan(found["hdb_mm"])
    assert found["failure"] == "the predicted mask is empty"


def row(subject, fold, dice, hdb_mm=5.0, true_ml=400.0, error_ml=0.0, failure="", seconds=1.0):
    return {
        "subject_id": subject,
        "patient_id": subject.partition("_")[0],
        "fold": fold,
        "dice": dice,
        "conformity": (3 * dice - 2) / dice if dice else -math.inf,
        "jaccard": dice / (2 - dice),
        "adb_mm": hdb_mm / 5,
        "hdb_mm": hdb_mm,
        "failure": failure,
        "volume_true_ml": true_ml,
        "volume_pred_ml": true_ml + error_ml,
        "seconds": seconds,
    }


def test_spread_over_subjects_and_over_seeds_are_two_things():
    rows = [row("a", 0, 0.9), row("b", 0, 0.7), row("a", 1, 0.8), row("b", 1, 0.8)]
    found = summarise(rows)
    assert (found["num_subjects"], found["num_folds"], found["num_failed"]) == (2, 2, 0)
    assert found["dice"] == pytest.approx(0.8)
    assert found["dice_fold_sd"] == pytest.approx(0.0)  # both seeds have a mean of 0.8
    assert found["dice_sd"] == pytest.approx(np.std([0.85, 0.75], ddof=1))
    assert found["jaccard"] == pytest.approx(np.mean([x / (2 - x) for x in (0.9, 0.7, 0.8, 0.8)]))
    assert math.isnan(summarise(rows[:2])["dice_fold_sd"])
    assert math.isnan(found["bias_ml"] - found["lower_limit_ml"])  # two volumes have no limits


def test_volumes_agree_by_seed():
    errors = {0: (1.0, 2.0, 3.0), 1: (-1.0, -1.0, 2.0)}
    rows = [
        row(f"s{number}", fold, 0.9, true_ml=400.0 + 10 * number, error_ml=error)
        for fold, of_fold in errors.items()
        for number, error in enumerate(of_fold)
    ]
    first = agreement(rows[:3])
    assert (first["bias_ml"], first["mae_ml"]) == (2, 2)
    assert first["upper_limit_ml"] == pytest.approx(2 + 1.96 * 1, abs=1e-3)
    assert first["pearson_r"] == pytest.approx(1)
    found = summarise(rows)
    assert found["bias_ml"] == pytest.approx(1)
    assert found["mae_ml"] == pytest.approx((2 + 4 / 3) / 2)
    assert found["lower_limit_ml"] == pytest.approx(np.mean([2 - 1.95996, 0 - 1.95996 * np.sqrt(3)]), abs=1e-3)


def test_failures_are_counted_and_only_their_distances_left_out():
    rows = [row("a", 0, 0.9, hdb_mm=4.0), row("b", 0, 0.0, hdb_mm=math.nan, failure="the predicted mask is empty")]
    found = summarise(rows)
    assert found["num_failed"] == 1
    assert found["dice"] == pytest.approx(0.45)
    assert (found["hdb_mm"], found["adb_mm"]) == (4, 0.8)
    assert found["conformity"] == -math.inf
    with pytest.raises(ValueError, match=r"'adb_mm' has no value for 1 subject\(s\), the first: \['b'\]"):
        summarise([rows[0], {**rows[1], "failure": ""}])


def test_rows_that_are_none_or_twice_there_are_refused():
    with pytest.raises(ValueError, match="no predictions to summarise"):
        summarise([])
    with pytest.raises(ValueError, match=r"1 subject\(s\) stand twice in fold 3, the first: \['a'\]"):
        summarise([row("a", 3, 0.9), row("a", 3, 0.8)])


def test_reproducibility_is_the_mean_of_each_heads_own_sd():
    volumes = {"a": (398.0, 400.0, 402.0), "b": (300.0, 304.0)}  # SD 2 and sqrt(8)
    rows = [
        row(f"{name}_scan{number}", 0, 0.9, true_ml=350.0, error_ml=ml - 350.0)
        for name, found in volumes.items()
        for number, ml in enumerate(found)
    ]
    found = reproducibility([*rows, row("c_scan1", 0, 0.9)])
    assert found["num_patients"] == 2
    assert found["pred_sd_ml"] == pytest.approx((2 + math.sqrt(8)) / 2)
    assert found["pred_within_sd_ml"] == pytest.approx(math.sqrt((2 * 4 + 8) / 3))
    assert found["true_sd_ml"] == 0
    with pytest.raises(ValueError, match="no subject was measured twice"):
        reproducibility([rows[0], row("c_scan1", 0, 0.9)])


@pytest.mark.parametrize(("module", "least"), [(measuring, 4), (summaries, 2)])
def test_examples_of_the_docstrings(module, least):
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.failed == 0
    assert result.attempted >= least
