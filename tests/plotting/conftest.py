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
