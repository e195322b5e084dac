"""Numbers of a table of volumes, worked by hand."""

import math

import pytest

from hcreg.cardiac_volumes.summaries import (
    by_phase,
    ejection_fraction_percent,
    ejection_fraction_rows,
    names_in,
    summarise,
    summarise_ejection_fraction,
)


def row(number, true_ml, pred_ml, phase="ED", fold=0, **more):
    patient = f"patient{number:03d}"
    volumes = {"LV_true_ml": true_ml, "LV_pred_ml": pred_ml}
    return {"subject_id": f"{patient}_{phase}", "patient_id": patient, "phase": phase, "fold": fold, **volumes, **more}


@pytest.fixture
def rows():
    """Errors of 10, -20 and 30 ml."""
    return [row(1, 100.0, 110.0), row(2, 200.0, 180.0), row(3, 300.0, 330.0, fold=1)]


def test_errors_in_ml_by_hand(rows):
    found = summarise(rows, "LV")
    assert (found["num_subjects"], found["num_folds"]) == (3, 2)
    assert found["mae_ml"] == pytest.approx(20)
    assert found["mae_sd_ml"] == pytest.approx(10)  # of 10, 20 and 30
    assert found["fold_sd_ml"] == pytest.approx(math.sqrt(112.5))  # of 15 and 30
    assert found["median_ae_ml"] == pytest.approx(20)
    assert found["p95_ae_ml"] == pytest.approx(29)
    assert found["bias_ml"] == pytest.approx(20 / 3)
    assert found["rmse_ml"] == pytest.approx(math.sqrt(1400 / 3))
    assert found["pmae_percent"] == pytest.approx(10)
    assert found["pearson_r"] == pytest.approx(22000 / math.sqrt(20000 * 75800 / 3))


def test_limits_are_1_96_sd_of_the_differences_from_the_bias(rows):
    found = summarise(rows, "LV")
    sd_ml = math.sqrt((1400 - 3 * (20 / 3) ** 2) / 2)  # 25.17
    assert found["lower_limit_ml"] == pytest.approx(20 / 3 - 1.959964 * sd_ml)
    assert found["upper_limit_ml"] == pytest.approx(20 / 3 + 1.959964 * sd_ml)


def test_two_hearts_have_no_limits_and_no_correlation(rows):
    found = summarise(rows[:2], "LV")
    assert found["mae_ml"] == pytest.approx(15)
    assert all(math.isnan(found[name]) for name in ("lower_limit_ml", "upper_limit_ml", "pearson_r", "fold_sd_ml"))


def test_one_prediction_for_all_has_no_correlation(rows):
    assert math.isnan(summarise([{**item, "LV_pred_ml": 150.0} for item in rows], "LV")["pearson_r"])
    constant = [{**item, "LV_constant_ml": 150.0 + item["fold"]} for item in rows]
    found = summarise(constant, "LV", "constant")
    assert found["mae_ml"] == pytest.approx((50 + 50 + 149) / 3)
    assert math.isnan(found["pearson_r"])  # it varies with the fold alone


def test_label_maps_have_their_own_volumes_and_dice(rows):
    masks = [{**item, "LV_mask_ml": item["LV_true_ml"] + 1, "LV_dice": dice} for item, dice in zip(rows, (0.8, 0.9, 1))]
    found = summarise(masks, "LV", "mask")
    assert (found["mae_ml"], found["dice"], found["dice_sd"]) == pytest.approx((1, 0.9, 0.1))
    assert "dice" not in summarise(masks, "LV")


def test_rows_without_a_fold_are_one_group(rows):
    bare = [{name: value for name, value in item.items() if name != "fold"} for item in rows]
    assert summarise(bare, "LV")["mae_ml"] == pytest.approx(20)
    assert math.isnan(summarise(bare, "LV")["fold_sd_ml"])


def test_names_and_phases(rows):
    assert names_in(rows) == ("LV",)
    assert names_in([{"heart_true_ml": 1.0}]) == ("heart",)
    rows[1]["phase"] = "ES"
    assert {phase: len(part) for phase, part in by_phase(rows).items()} == {"ED": 2, "ES": 1, "both": 3}
    assert list(by_phase(rows[1:2])) == ["ES", "both"]


def test_ejection_fraction_by_hand():
    assert ejection_fraction_percent(120.0, 48.0) == 60.0
    assert math.isnan(ejection_fraction_percent(0.0, 0.0))
    rows = [row(1, 120.0, 100.0), row(1, 48.0, 50.0, "ES"), row(2, 90.0, 90.0)]
    (found,) = ejection_fraction_rows(rows)  # the second patient lacks a phase
    assert found == {"patient_id": "patient001", "true_percent": 60.0, "pred_percent": 50.0}


def test_errors_of_ejection_fractions_are_in_points():
    pairs = [(60, 50), (40, 46), (20, 24)]
    rows = []
    for number, (true, pred) in enumerate(pairs):
        rows += [row(number, 100.0, 200.0), row(number, 100.0 - true, 200.0 - 2 * pred, "ES")]
    found = summarise_ejection_fraction(rows)
    assert found["num_subjects"] == 3
    assert found["mae_points"] == pytest.approx(20 / 3)  # 10, 6 and 4
    assert found["bias_points"] == pytest.approx(0)
    assert found["upper_points"] == pytest.approx(1.959964 * math.sqrt(76))
    assert found["lower_points"] == pytest.approx(-1.959964 * math.sqrt(76))
    assert found["pearson_r"] == pytest.approx(520 / math.sqrt(800 * 392))
    lost = [row(9, 100.0, 0.0), row(9, 50.0, 40.0, "ES")]  # no volume was found at ED
    assert summarise_ejection_fraction(rows + lost) == {**found, "num_failed": 1}
    few = summarise_ejection_fraction(rows[:4])
    assert few["num_subjects"] == 2
    assert math.isnan(few["mae_points"])


def test_what_cannot_be_summarised_says_why(rows):
    with pytest.raises(ValueError, match=r"one of the routes pred, mask, constant\. Received: 'guess'"):
        summarise(rows, "LV", "guess")
    with pytest.raises(ValueError, match="no predictions to summarise"):
        summarise([], "LV")
    with pytest.raises(ValueError, match=r"1 subject\(s\) stand in two rows, the first: \['patient001_ED'\]"):
        summarise([*rows, rows[0]], "LV")
    rows[1]["LV_pred_ml"] = float("nan")
    with pytest.raises(
        ValueError, match=r"'LV_pred_ml' has no value for 1 subject\(s\), the first: \['patient002_ED'\]"
    ):
        summarise(rows, "LV")
