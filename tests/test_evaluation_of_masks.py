"""From predicted maps to rows, and from rows to numbers, where some images could not be measured."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hcreg import evaluation
from hcreg.datasets.batches import Batches, ImageCache
from hcreg.files import read_rows, write_rows
from hcreg.geometry import Ellipse
from hcreg.mask_measures import ellipse_of_row

SIZE = (96, 128)
CONSTANT = {"constant_px": 900.0, "constant_mm": 150.0}
NAN = float("nan")


def record(number, head, shape, pixel_size_mm):
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return SimpleNamespace(
        subject_id=f"{number:03d}_HC",
        examination_id=f"{number:03d}",
        trimester=1 + number % 3,
        image_path=f"{number:03d}_HC.png",
        pixel_size_mm=pixel_size_mm,
        hc_mm=head.circumference_px * pixel_size_mm,
        image=lambda: pixels,
        ellipse=lambda: head,
    )


RECORDS = [
    record(0, Ellipse(390.0, 275.0, 190.0, 150.0, 0.4), (540, 800), 0.15),
    record(1, Ellipse(210.0, 260.0, 170.0, 130.0, 1.4), (540, 400), 0.15),  # padded left and right
    record(2, Ellipse(700.0, 560.0, 420.0, 330.0, 2.6), (1080, 1600), 0.08),  # twice as fine
    record(3, Ellipse(360.0, 280.0, 200.0, 160.0, 3.0), (541, 738), 0.12),
]


@pytest.fixture(scope="module")
def cache():
    return ImageCache(RECORDS, SIZE)


def rows_of(cache, outputs, targets=("mask",)):
    """Rows of a network that answers with what `outputs` makes of the true labels."""
    batches = Batches(cache, range(len(RECORDS)), 800.0, targets=targets)
    labels = Batches(cache, range(len(RECORDS)), 800.0, targets=("mask", "hc_fraction")).arrays()[1]
    model = SimpleNamespace(predict=lambda images, batch_size, verbose: outputs(labels))
    return evaluation.predict_rows(model, batches, 2, CONSTANT)


@pytest.fixture(scope="module")
def perfect(cache):
    return rows_of(cache, lambda labels: labels["mask"])


@pytest.fixture(scope="module")
def partly(cache):
    """Nothing is found in the second image."""
    return rows_of(cache, lambda labels: labels["mask"] * np.array([1.0, 0.0, 1.0, 1.0])[:, None, None, None])


# --- rows of a network ---


def test_perfect_maps_measure_the_heads_in_their_own_millimetres(perfect):
    for row, each in zip(perfect, RECORDS, strict=True):
        assert (row["subject_id"], row["fold"]) == (each.subject_id, 2)
        assert row["y_true_mm"] == each.hc_mm
        assert row["y_pred_mm"] == row["hc_ellipse_mm"] == pytest.approx(each.hc_mm, abs=0.1)
        assert row["hc_original_mm"] == pytest.approx(each.hc_mm, abs=0.1)
        assert row["y_pred_px"] == pytest.approx(row["y_pred_mm"] / each.pixel_size_mm)
        for route in ("original", "ellipse"):
            assert row[f"dice_{route}"] > 0.996
            assert row[f"hausdorff_{route}_px"] < 4
            assert row[f"hausdorff_{route}_mm"] == pytest.approx(row[f"hausdorff_{route}_px"] * each.pixel_size_mm)
        assert row["failure"] == row["failure_original"] == ""
        head, found = each.ellipse(), ellipse_of_row(row)
        assert found.center_x_px == pytest.approx(head.center_x_px, abs=0.3)
        assert found.center_y_px == pytest.approx(head.center_y_px, abs=0.3)
        assert found.semi_axis_a_px == pytest.approx(head.semi_axis_a_px, rel=2e-3)
        assert found.angle_rad == pytest.approx(head.angle_rad, abs=0.01)


def test_maps_go_with_their_own_images(cache):
    """Turned round, no image finds its head."""
    rows = rows_of(cache, lambda labels: labels["mask"][::-1])
    assert all(row["dice_ellipse"] < 0.97 for row in rows)


def test_an_empty_map_is_a_named_failure_and_is_counted(partly):
    failed = partly[1]
    assert (
        failed["failure"] == failed["failure_original"] == "the mask is empty: no pixel of it lies above the threshold."
    )
    for name in ("y_pred_mm", "y_pred_px", "hc_ellipse_mm", "hausdorff_ellipse_px", "boundary_distance_ellipse_mm"):
        assert math.isnan(failed[name])
    assert failed["dice_ellipse"] == failed["dice_original"] == failed["jaccard_ellipse"] == 0
    assert ellipse_of_row(failed) is None
    summary = evaluation.summarise(evaluation.with_intervals(partly, partly))
    assert (summary["num_subjects"], summary["num_failed"]) == (4, 1)
    assert summary["mae_mm"] < 0.1
    assert summary["dice"] == pytest.approx(np.mean([row["dice_ellipse"] for row in partly]))
    assert summary["dice"] < 0.75
    assert summary["hausdorff_px"] < 4  # of the three that have one


def test_of_two_outputs_the_circumference_is_the_prediction(cache):
    def outputs(labels):
        return {"hc_fraction": np.array([[1.25], [1.0], [0.5], [2.0]], np.float32), "mask": labels["mask"]}

    rows = rows_of(cache, outputs)
    # 1000 px of the frame; in the third image one of them is two of its own
    assert [row["y_pred_px"] for row in rows[:3]] == pytest.approx([1000.0, 800.0, 2 * 400.0])
    assert [row["y_pred_mm"] for row in rows[:3]] == pytest.approx([150.0, 120.0, 64.0])
    for row, each in zip(rows, RECORDS):
        assert row["hc_ellipse_mm"] == pytest.approx(each.hc_mm, abs=0.1)


def test_of_two_outputs_the_circumference_falls_with_its_mask(cache):
    fractions = np.full((4, 1), 1.25, np.float32)
    rows = rows_of(cache, lambda labels: {"mask": 0 * labels["mask"], "hc_fraction": fractions})
    assert all("the mask is empty" in row["failure"] for row in rows)
    assert math.isnan(rows[0]["y_pred_mm"])
    assert math.isnan(rows[0]["hc_ellipse_mm"])


def test_a_map_that_is_not_a_number_is_a_named_failure(cache):
    rows = rows_of(cache, lambda labels: labels["mask"] * np.array([1, 1, 1, NAN])[:, None, None, None])
    assert "NaN" in rows[3]["failure"]
    assert [math.isnan(row["y_pred_mm"]) for row in rows] == [False, False, False, True]


def test_a_mask_without_annotation_to_compare_with_is_refused():
    cache = ImageCache(RECORDS, SIZE, with_ellipses=False)
    model = SimpleNamespace(predict=lambda images, batch_size, verbose: np.zeros((4, *SIZE, 1)))
    with pytest.raises(ValueError, match=r"^000_HC: a predicted mask is compared .* with_ellipses=True"):
        evaluation.predict_rows(model, Batches(cache, range(4), 800.0), 0, CONSTANT)


def test_rows_are_read_as_they_were_written(partly, tmp_path):
    rows = [{**row, "failure": 'no ellipse fits: few points, or a line, "thin"'} for row in partly[:1]] + partly[1:]
    rows = evaluation.with_intervals(rows, rows)
    write_rows(tmp_path / "predictions.csv", rows)
    found = read_rows(tmp_path / "predictions.csv")
    assert [list(row) for row in found] == [list(row) for row in rows]
    for row, expected in zip(found, rows):
        for name, value in expected.items():
            assert type(row[name]) is type(value)
            assert row[name] == value or (math.isnan(value) and math.isnan(row[name]))
    assert found[0]["failure"] == 'no ellipse fits: few points, or a line, "thin"'
    assert evaluation.summarise(found) == pytest.approx(evaluation.summarise(rows), nan_ok=True, rel=0)


# --- routes ---


def hand_row(number, true_mm, pred_mm, fold=0, **more):
    """A row with numbers that are easy to add; its ellipse's length is the prediction unless told."""
    lengths = {"hc_original_mm": true_mm + 10, "hc_ellipse_mm": pred_mm}
    masks = {
        f"{name}_{route}{unit}": value + (route == "ellipse")
        for name, unit, value in (
            ("dice", "", 0.5),
            ("jaccard", "", 0.25),
            ("hausdorff", "_px", 20.0),
            ("hausdorff", "_mm", 2.0),
            ("boundary_distance", "_px", 10.0),
            ("boundary_distance", "_mm", 1.0),
        )
        for route in ("original", "ellipse")
    }
    return {
        "subject_id": f"{number:03d}_HC",
        "examination_id": f"{number:03d}",
        "fold": fold,
        "trimester": 2,
        "pixel_size_mm": 0.1,
        "reference_px_per_mm": 10.0,
        "y_true_px": true_mm / 0.1,
        "y_pred_px": pred_mm / 0.1,
        "y_true_mm": true_mm,
        "y_pred_mm": pred_mm,
        "constant_px": 1500.0,
        "constant_mm": 150.0,
        "failure": "" if pred_mm == pred_mm else "the mask is empty, they say",
        "failure_original": "",
        **lengths,
        **masks,
        **dict.fromkeys(("ellipse_center_x_px", "ellipse_angle_rad"), 1.0),
        "interval_low_mm": pred_mm - 4,
        "interval_high_mm": pred_mm + 4,
        **more,
    }


def test_route_takes_the_columns_of_its_name():
    row = hand_row(0, 100.0, 103.0)
    (original,) = evaluation.with_route([row], "original")
    (ellipse,) = evaluation.with_route([row], "ellipse")
    assert (original["y_pred_mm"], original["y_pred_px"]) == (110.0, pytest.approx(1100.0))
    assert (ellipse["y_pred_mm"], ellipse["y_pred_px"]) == (103.0, pytest.approx(1030.0))
    expected = dict(zip(evaluation.MASK_MEANS, (0.5, 0.25, 20.0, 2.0, 10.0, 1.0), strict=True))
    assert {name: original[name] for name in expected} == expected
    assert {name: ellipse[name] for name in expected} == {name: value + 1 for name, value in expected.items()}
    summary = evaluation.summarise([original])
    assert (summary["mae_mm"], summary["dice"], summary["hausdorff_mm"]) == (10.0, 0.5, 2.0)


def test_the_interval_is_dropped_where_it_was_made_for_another_length():
    row = hand_row(0, 100.0, 103.0)
    (ellipse,), (original,) = (evaluation.with_route([row], route) for route in ("ellipse", "original"))
    assert (ellipse["interval_low_mm"], ellipse["interval_high_mm"]) == (99.0, 107.0)
    assert math.isnan(original["interval_low_mm"])
    assert math.isnan(original["interval_high_mm"])
    assert math.isnan(evaluation.summarise([original])["coverage"])
    assert evaluation.summarise([ellipse])["coverage"] == 1.0


def test_a_direct_regressor_has_no_route():
    regressor = {name: value for name, value in hand_row(0, 100.0, 101.0).items() if not name.startswith("hc_")}
    with pytest.raises(ValueError, match=r"direct regressor has no mask and so no route 'original': name rows of segm"):
        evaluation.with_route([hand_row(1, 100.0, 101.0), regressor], "original")


def test_constant_rows_are_those_of_a_regressor(perfect, cache):
    """Whatever columns a mask has, none of them is the constant guess's."""
    batches = Batches(cache, range(4), 800.0)
    model = SimpleNamespace(predict=lambda images, batch_size, verbose: np.ones((4, 1), np.float32))
    direct = evaluation.with_intervals(evaluation.predict_rows(model, batches, 2, CONSTANT), perfect)
    for rows in (perfect, evaluation.with_route(perfect, "original")):
        constant = evaluation.constant_rows(evaluation.with_intervals(rows, perfect))
        assert [set(row) for row in constant] == [set(row) for row in direct]
        assert [row["y_pred_mm"] for row in constant] == [150.0] * 4
    summary = evaluation.summarise(evaluation.constant_rows(perfect))
    assert "dice" not in summary
    assert summary["num_failed"] == 0


# --- numbers of a table ---


def test_summary_with_a_failed_image_by_hand():
    rows = [
        hand_row(0, 100.0, 103.0, fold=0),
        hand_row(1, 200.0, 195.0, fold=1),
        hand_row(2, 180.0, NAN, fold=1, dice_ellipse=0.0, hausdorff_ellipse_px=NAN),
    ]
    summary = evaluation.summarise(rows)
    assert (summary["num_subjects"], summary["num_failed"], summary["num_folds"]) == (3, 1, 2)
    assert summary["mae_mm"] == pytest.approx(4.0)  # of the two that were measured
    assert summary["mae_sd_mm"] == pytest.approx(math.sqrt(2))
    assert summary["bias_mm"] == pytest.approx(-1.0)
    assert summary["mae_px"] == pytest.approx(40.0)
    assert summary["pmae_percent"] == pytest.approx(100 * (0.03 + 0.025) / 2)
    assert summary["fold_sd_mm"] == pytest.approx(math.sqrt(2))  # of 3 and 5
    assert summary["coverage"] == 0.5
    assert summary["mean_interval_width_mm"] == pytest.approx(8.0)
    assert summary["dice"] == pytest.approx((1.5 + 1.5 + 0) / 3)  # no mask overlaps nothing
    assert summary["dice_sd"] == pytest.approx(np.std([1.5, 1.5, 0], ddof=1))
    assert summary["hausdorff_px"] == pytest.approx(21.0)  # of the two that have one
    assert summary["constant_mae_mm"] == pytest.approx((50 + 50 + 30) / 3)  # the constant guess fails nowhere
    assert summary["constant_mae_px"] == pytest.approx((500 + 500 + 300) / 3)


def test_summary_where_nothing_was_measured():
    summary = evaluation.summarise([hand_row(n, 100.0 + n, NAN, hausdorff_ellipse_px=NAN) for n in range(2)])
    assert (summary["num_subjects"], summary["num_failed"]) == (2, 2)
    assert all(math.isnan(summary[name]) for name in ("mae_mm", "r2", "coverage", "hausdorff_px", "hausdorff_px_sd"))
    assert summary["dice"] == pytest.approx(1.5)
    assert summary["constant_mae_mm"] == pytest.approx(49.5)


def test_a_regressors_summary_has_the_same_lengths_and_no_overlap():
    row = hand_row(0, 100.0, 103.0)
    regressor = {name: value for name, value in row.items() if not evaluation._is_of_mask(name)}
    direct, segmented = evaluation.summarise([regressor]), evaluation.summarise([row])
    assert set(segmented) - set(direct) == {
        f"{name}{suffix}" for name in evaluation.MASK_MEANS for suffix in ("", "_sd")
    }
    assert {name: segmented[name] for name in direct} == pytest.approx(direct, nan_ok=True)


# --- intervals ---


def test_failed_validation_images_widen_the_interval_by_their_share():
    calibration = [hand_row(i, 100.0, 100.0 + 0.1 * (i + 1)) for i in range(18)]  # errors of 1 to 18 px
    one_failed = [*calibration, hand_row(18, 100.0, NAN)]
    two_failed = [*one_failed[1:], hand_row(19, 100.0, NAN)]
    assert np.isinf(evaluation.conformal_scores(one_failed)).sum() == 1
    (row,) = evaluation.with_intervals([hand_row(99, 100.0, 100.0)], one_failed, coverage=0.9)
    assert row["interval_high_mm"] - row["y_pred_mm"] == pytest.approx(1.8)  # 18 of 20 ranks
    (row,) = evaluation.with_intervals([hand_row(99, 100.0, 100.0)], two_failed, coverage=0.9)
    assert (row["interval_low_mm"], row["interval_high_mm"]) == (0.0, math.inf)


@pytest.mark.parametrize("num_calibration", [3, 19])  # an infinite interval, and one of 1.8 mm
def test_what_was_not_measured_has_no_interval(num_calibration):
    calibration = [hand_row(i, 100.0, 100.0 + 0.1 * (i + 1)) for i in range(num_calibration)]
    (row,) = evaluation.with_intervals([hand_row(99, 100.0, NAN)], calibration)
    assert math.isnan(row["interval_low_mm"])
    assert math.isnan(row["interval_high_mm"])


def test_interval_of_a_length_that_is_not_a_number():
    assert all(math.isnan(bound) for bound in evaluation.interval_mm(NAN, 30.0, 10.0))
    assert evaluation.interval_mm(1.0, math.inf, 10.0) == (0.0, math.inf)
