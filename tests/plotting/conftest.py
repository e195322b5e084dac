"""Rows, a history and images to draw."""

import numpy as np
import pytest

from hcreg.geometry import Ellipse


@pytest.fixture(name="make_row")
def make_row_fixture():
    """Give what makes a row of the per-subject table."""
    return make_row


def make_row(number, y_true_mm, y_pred_mm, trimester=2, fold=0, half_width_mm=5.0):
    return {
        "subject_id": f"{number:03d}_HC",
        "examination_id": f"{number:03d}",
        "fold": fold,
        "trimester": trimester,
        "pixel_size_mm": 0.5,
        "y_true_px": y_true_mm / 0.5,
        "y_pred_px": y_pred_mm / 0.5,
        "y_true_mm": y_true_mm,
        "y_pred_mm": y_pred_mm,
        "constant_px": 340.0,
        "constant_mm": 170.0,
        "interval_low_mm": y_pred_mm - half_width_mm,
        "interval_high_mm": y_pred_mm + half_width_mm,
    }


@pytest.fixture
def rows():
    """Errors 1, -2, 3, -4, 5, -6 mm: MAE 3.5, bias -0.5, SD sqrt(17.9) = 4.23 mm."""
    truth = [80.0, 90.0, 160.0, 180.0, 280.0, 300.0]
    errors = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
    return [
        make_row(i, true, true + error, trimester=1 + i // 2, fold=i % 2)
        for i, (true, error) in enumerate(zip(truth, errors))
    ]


@pytest.fixture
def history():
    names = ("epoch", "loss", "val_loss", "mae_px", "val_mae_px", "learning_rate", "seconds")
    lines = [(1, 0.9, 0.8, 90, 80, 1e-3, 1), (2, 0.5, 0.4, 50, 40, 1e-3, 1), (3, 0.2, 0.6, 20, 60, 1e-3, 1)]
    return [dict(zip(names, line)) for line in lines]


@pytest.fixture
def black_image():
    """Give what loads an image: a black one."""
    return lambda subject_id: np.zeros((60, 80), np.uint8)


@pytest.fixture
def head():
    """Give what loads an annotated head."""
    return lambda subject_id: Ellipse(40.0, 30.0, 20.0, 10.0, 0.3)


@pytest.fixture
def segmented():
    """Give what adds to a row the columns of its mask: an ellipse like the annotated one, five px further right."""
    return segmented_row


def segmented_row(row, hc_original_mm=None, **changes):
    y_pred_mm = row["y_pred_mm"]
    return (
        row
        | {
            "failure": "",
            "failure_original": "",
            "hc_original_mm": y_pred_mm if hc_original_mm is None else hc_original_mm,
            "hc_ellipse_mm": y_pred_mm,
            "dice_original": 0.8,
            "dice_ellipse": 0.9,
            "ellipse_center_x_px": 45.0,
            "ellipse_center_y_px": 30.0,
            "ellipse_semi_axis_a_px": 20.0,
            "ellipse_semi_axis_b_px": 10.0,
            "ellipse_angle_rad": 0.3,
        }
        | changes
    )


@pytest.fixture
def failed(segmented):
    """Give what makes of a row one whose mask is empty."""
    nothing = float("nan")
    columns = ("y_pred_mm", "y_pred_px", "hc_original_mm", "hc_ellipse_mm", "interval_low_mm", "interval_high_mm")
    places = ("center_x_px", "center_y_px", "semi_axis_a_px", "semi_axis_b_px", "angle_rad")
    reason = "the mask is empty: no pixel of it lies above the threshold."
    changes = dict.fromkeys([*columns, *(f"ellipse_{place}" for place in places)], nothing)
    changes |= {"failure": reason, "failure_original": reason, "dice_original": 0.0, "dice_ellipse": 0.0}
    return lambda row: segmented(row) | changes


@pytest.fixture
def load_mask():
    """Give what loads a predicted mask: the ellipse of `segmented`, and a speck of 3 x 3 pixels."""

    def load(subject_id):
        mask = Ellipse(45.0, 30.0, 20.0, 10.0, 0.3).mask((60, 80))
        mask[2:5, 4:7] = True
        return mask

    return load
