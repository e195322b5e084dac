"""Fixtures every test file may use: where the real data lie, if they are there at all."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def hc18_root():
    """The real HC18 folder: HCREG_HC18, or shared/data/HC18 beside the checkout; skips where there is none."""
    root = Path(os.environ.get("HCREG_HC18", SHARED / "data" / "HC18"))
    if not (root / "training_set").is_dir():
        pytest.skip(f"the real HC18 data are not at {root}; set HCREG_HC18 to their folder to run this test")
    return root


@pytest.fixture(scope="session")
def densenet121_weights():
    """ImageNet weights of DenseNet121 without top; skips where they are absent."""
    path = Path(os.environ.get("HCREG_DENSENET121", SHARED / "weights" / "densenet121_imagenet_notop.weights.h5"))
    if not path.is_file():
        pytest.skip(f"no DenseNet121 weights at {path}; set HCREG_DENSENET121 to their path to run this test")
    return path
