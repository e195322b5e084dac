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


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A small synthetic HC18 folder."""
    from hcreg.datasets import synthetic

    root = tmp_path_factory.mktemp("cohort") / "HC18"
    synthetic.fetal_head(root, 24, seed=1)
    return root


@pytest.fixture(scope="session")
def trained_run(cohort, tmp_path_factory):
    """A finished run on the small cohort: two epochs, enough to be loaded and measured with."""
    import keras

    from hcreg import head_circumference, models
    from hcreg.datasets import HC18
    from hcreg.datasets.batches import read_images

    dataset = HC18(cohort)
    recipe = head_circumference.Recipe(
        "small",
        models.cnn_263k,
        keras.losses.MeanAbsoluteError(),
        input_shape=(64, 64, 1),
        epochs=2,
        patience=2,
    )
    split = head_circumference.single_split(dataset, sizes=(3, 1, 1))
    cache = read_images(dataset, recipe.input_shape)
    folder = tmp_path_factory.mktemp("runs") / "small" / "fold_0"
    rows = head_circumference.run(recipe, cache, split, folder, progress=False)
    return {
        "dataset": dataset,
        "recipe": recipe,
        "split": split,
        "cache": cache,
        "folder": folder,
        "rows": rows,
    }


@pytest.fixture(scope="session")
def segmentation_cache(cohort):
    """The small cohort at the size of the small segmentation networks."""
    from hcreg.datasets import HC18
    from hcreg.datasets.batches import read_images

    return read_images(HC18(cohort), (64, 96, 1))


@pytest.fixture(scope="session")
def trained_segmentation_run(segmentation_cache, tmp_path_factory):
    """A finished run of a small U-Net that predicts a mask."""
    from hcreg.losses import DiceCrossEntropy

    return _segmentation_run(segmentation_cache, tmp_path_factory, "mask", DiceCrossEntropy())


@pytest.fixture(scope="session")
def trained_ellipse_run(segmentation_cache, tmp_path_factory):
    """A finished run of a small U-Net that predicts a mask and, through its moments, the circumference."""
    from hcreg.losses import DiceCrossEntropy, RelativeError

    losses = {"mask": DiceCrossEntropy(), "hc_fraction": RelativeError()}
    # in so few steps, a heavier circumference would leave every mask empty
    return _segmentation_run(
        segmentation_cache, tmp_path_factory, "ellipse", losses, {"mask": 1.0, "hc_fraction": 0.02}
    )


def _segmentation_run(cache, tmp_path_factory, head, loss, loss_weights=None):
    from hcreg import head_circumference, models

    recipe = head_circumference.Recipe(
        f"unet_{head}",
        models.unet,
        loss,
        {"filters": 4, "head": head, "dropout_rate": 0.0},
        loss_weights or {},
        input_shape=(64, 96, 1),
        augmentation="none",
        learning_rate=1e-2,
        batch_size=2,
        epochs=2,
        patience=2,
    )
    split = head_circumference.single_split(cache.records, sizes=(3, 1, 1))
    folder = tmp_path_factory.mktemp("runs") / recipe.name / "fold_0"
    rows = head_circumference.run(recipe, cache, split, folder, progress=False)
    return {"records": cache.records, "recipe": recipe, "split": split, "cache": cache, "folder": folder, "rows": rows}


@pytest.fixture
def phantom_regressor(trained_segmentation_run):
    """A mask network with a known answer: what is bright is head, and a dark image's mask is empty."""
    from types import SimpleNamespace

    import numpy as np

    from hcreg.measurement import TrainedRegressor

    def predict_on_batch(inputs):
        low, high = inputs.min(axis=(1, 2, 3), keepdims=True), inputs.max(axis=(1, 2, 3), keepdims=True)
        head = (inputs - low) / (high - low)  # the share of each pixel that is head
        # standardised, the top of a head is near the mean; that of a speck is not
        return np.where(high < 10, head, 0.0)

    regressor = TrainedRegressor(trained_segmentation_run["folder"])
    regressor.model = SimpleNamespace(predict_on_batch=predict_on_batch)
    return regressor
