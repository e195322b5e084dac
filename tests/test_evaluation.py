from types import SimpleNamespace

import numpy as np
import pytest

from hcreg import evaluation


def row(subject="010_HC", true_mm=100.0, pred_mm=103.0, fold=0, pixel=0.1, reference=None, trimester=2, **more):
    return {
        "subject_id": subject,
        "examination_id": subject[:3],
        "fold": fold,
        "trimester": trimester,
        "pixel_size_mm": pixel,
        "reference_px_per_mm": 1 / pixel if reference is None else reference,
        "y_true_px": true_mm / pixel,
        "y_pred_px": pred_mm / pixel,
        "y_true_mm": true_mm,
        "y_pred_mm": pred_mm,
        "constant_px": 1500.0,
        "constant_mm": 150.0,
        "interval_low_mm": pred_mm - 4,
        "interval_high_mm": pred_mm + 4,
        **more,
    }


def test_summary_of_two_images_by_hand():
    summary = evaluation.summarise([row("010_HC", 100.0, 103.0), row("011_HC", 200.0, 195.0)])
    assert summary["mae_mm"] == pytest.approx(4.0)
    assert summary["mae_sd_mm"] == pytest.approx(np.sqrt(2.0))
    assert summary["bias_mm"] == pytest.approx(-1.0)
    assert summary["mae_px"] == pytest.approx(40.0)
    assert summary["pmae_percent"] == pytest.approx(100 * (0.03 + 0.025) / 2)
    assert summary["rmse_mm"] == pytest.approx(np.sqrt(17.0))
    assert summary["coverage"] == 0.5  # the second is 5 mm off, its interval reaches 4 mm
    assert summary["mean_interval_width_mm"] == pytest.approx(8.0)
    assert summary["constant_mae_mm"] == pytest.approx(50.0)
    assert summary["constant_mae_px"] == pytest.approx(500.0)
    assert np.isnan(summary["fold_sd_mm"])


def test_fold_sd_is_over_the_folds_means_and_subjects_are_pooled():
    rows = [row("010_HC", 100, 101, fold=0), row("011_HC", 100, 103, fold=0), row("012_HC", 100, 108, fold=1)]
    summary = evaluation.summarise(rows)
    assert summary["mae_mm"] == pytest.approx(4.0)  # (1 + 3 + 8) / 3, not the mean 5 of the folds' means 2 and 8
    assert summary["fold_sd_mm"] == pytest.approx(np.std([2.0, 8.0], ddof=1))


def test_constant_guess_in_pixels_is_in_the_images_own_pixels():
    # an image of 1080 x 1600: one reference pixel is two of its own
    summary = evaluation.summarise([row("010_HC", 100.0, 100.0, pixel=0.05, reference=10.0)])
    assert summary["constant_mae_px"] == pytest.approx(abs(1500 * 2 - 100 / 0.05))


def test_constant_rows_have_no_interval_and_so_no_coverage():
    summary = evaluation.summarise(evaluation.constant_rows([row()]))
    assert summary["mae_mm"] == pytest.approx(50.0)
    assert np.isnan(summary["coverage"])
    assert np.isnan(summary["mean_interval_width_mm"])


def test_intervals_have_one_width_in_reference_pixels():
    calibration = [row(f"{i:03d}_HC", 100.0, 100.0 + 0.1 * (i + 1)) for i in range(19)]  # errors of 1 to 19 px
    fine, coarse = evaluation.with_intervals([row(pixel=0.1), row(pixel=0.3)], calibration, coverage=0.9)
    # 18 of 20 ranks: the 18th smallest error, 18 px
    assert fine["interval_high_mm"] - fine["y_pred_mm"] == pytest.approx(1.8)
    assert coarse["interval_high_mm"] - coarse["y_pred_mm"] == pytest.approx(5.4)
    assert fine["interval_low_mm"] == pytest.approx(fine["y_pred_mm"] - 1.8)


def test_interval_of_too_few_images_is_infinite_and_never_negative():
    (wide,) = evaluation.with_intervals([row()], [row()], coverage=0.9)
    assert wide["interval_high_mm"] == float("inf")
    assert wide["interval_low_mm"] == 0.0


def test_trimesters_apart():
    rows = [row("010_HC", 100, 101, trimester=1), row("200_HC", 200, 203, trimester=2)]
    by_trimester = evaluation.summarise_by_trimester(rows)
    assert {trimester: summary["mae_mm"] for trimester, summary in by_trimester.items()} == {
        1: pytest.approx(1.0),
        2: pytest.approx(3.0),
    }


def test_a_subject_in_two_rows_is_refused():
    with pytest.raises(ValueError, match=r"stand in two rows, the first: \['010_HC'\]. Are folds repeated\?"):
        evaluation.summarise([row(fold=0), row(fold=1)])


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no predictions to summarise"):
        evaluation.summarise([])


def test_predictions_are_in_the_images_own_pixels_and_millimetres():
    # an image of 1080 x 1600 with pixels of 0.05 mm: one reference pixel is two of its own, 0.1 mm
    record = SimpleNamespace(subject_id="010_2HC", examination_id="010", trimester=1, pixel_size_mm=0.05, hc_mm=120.0)
    cache = SimpleNamespace(records=[None, record], reference_px_per_mm=np.array([np.nan, 10.0]))
    batches = SimpleNamespace(
        cache=cache, indices=[1], target_scale_px=2000.0, batch_size=4, arrays=lambda: (np.zeros((1, 2, 2, 1)), None)
    )
    model = SimpleNamespace(predict=lambda images, batch_size, verbose: np.array([[0.5]], np.float32))
    (found,) = evaluation.predict_rows(model, batches, 3, {"constant_px": 1500.0, "constant_mm": 150.0})
    assert (found["subject_id"], found["examination_id"], found["fold"], found["trimester"]) == ("010_2HC", "010", 3, 1)
    assert found["y_pred_mm"] == pytest.approx(100.0)  # half of 2000 reference px, ten to a millimetre
    assert found["y_pred_px"] == pytest.approx(2000.0)
    assert found["y_true_mm"] == 120.0
    assert found["y_true_px"] == pytest.approx(2400.0)
    assert found["constant_mm"] == 150.0


def test_constant_guess_is_the_training_parts_median_in_each_unit():
    cache = SimpleNamespace(
        hc_px=np.array([100.0, 200.0, 600.0, 9e9]), reference_px_per_mm=np.array([1.0, 4.0, 2.0, 1.0])
    )
    constant = evaluation.constant_predictor(cache, [0, 1, 2])
    assert constant == {"constant_px": 200.0, "constant_mm": 100.0}  # of 100, 200, 600 px and 100, 50, 300 mm


def test_no_bound_of_an_interval_is_negative():
    assert evaluation.interval_mm(5.0, 80.0, 10.0) == (0.0, 13.0)
    assert evaluation.interval_mm(-9.0, 10.0, 10.0) == (0.0, 0.0)
