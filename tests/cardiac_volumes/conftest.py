"""A cohort of small hearts, and a finished run of each kind of recipe on it."""

import keras
import pytest
from small_hearts import small_regressor, small_segmenter, write_cohort

from hcreg import losses
from hcreg.cardiac_volumes import SliceRecipe, StackRecipe, patient_folds, run
from hcreg.cardiac_volumes.running import read_stacks
from hcreg.datasets.acdc import ACDC
from hcreg.preprocessing.volumes import Frame

STACKS = StackRecipe(
    "stacks",
    small_regressor,
    keras.losses.MeanAbsoluteError(),
    build_arguments={"filters": 2},
    learning_rate=1e-2,
    batch_size=4,
    epochs=2,
    patience=2,
    size=(16, 16),
)
SLICES = SliceRecipe(
    "slices",
    small_segmenter,
    {"mask": losses.DiceCrossEntropy(), "areas_cm2": keras.losses.MeanAbsoluteError()},
    build_arguments={"filters": 2},
    loss_weights={"areas_cm2": 0.02},
    learning_rate=1e-2,
    batch_size=8,
    epochs=1,
    patience=1,
    frame=Frame(20, 20, 8.0),
    crop_px=None,
    augmentation="none",
)


@pytest.fixture(scope="session")
def hearts(tmp_path_factory):
    """Ten patients of five groups, as ACDC's records."""
    return ACDC(write_cohort(tmp_path_factory.mktemp("hearts") / "ACDC", 10))


@pytest.fixture(scope="session")
def split(hearts):
    """A split of them."""
    return patient_folds(hearts, k=2)[1]


def _finished(recipe, hearts, split, tmp_path_factory):
    cache = read_stacks(hearts, recipe.preparation)
    folder = tmp_path_factory.mktemp("runs") / recipe.name / "fold_1"
    rows = run(recipe, cache, split, folder, fold=1, progress=False)
    return {"recipe": recipe, "cache": cache, "split": split, "folder": folder, "rows": rows}


@pytest.fixture(scope="session")
def stack_run(hearts, split, tmp_path_factory):
    """A finished run of a network of whole stacks, fold 1."""
    return _finished(STACKS, hearts, split, tmp_path_factory)


@pytest.fixture(scope="session")
def slice_run(hearts, split, tmp_path_factory):
    """A finished run of a network that counts in slices, fold 1."""
    return _finished(SLICES, hearts, split, tmp_path_factory)
