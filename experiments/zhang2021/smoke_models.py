"""Tiny networks under the names of real ones, trained for a moment on synthetic heads: does a script run at all?"""

from pathlib import Path

import keras

from hcreg import head_circumference, losses, models
from hcreg.datasets import HC18, synthetic
from hcreg.datasets.batches import read_images

NUM_EXAMINATIONS = 24
NAMES = ("cnn_1m_mae", "unet_ellipse")
_RECIPES = (
    head_circumference.Recipe(
        "cnn_1m_mae",
        models.cnn_263k,
        keras.losses.MeanAbsoluteError(),
        input_shape=(64, 64, 1),
        augmentation="none",
        epochs=1,
        patience=1,
    ),
    head_circumference.Recipe(
        "unet_ellipse",
        models.unet,
        {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()},
        {"filters": 4, "head": "ellipse", "dropout_rate": 0.0},
        {"mask": 1.0, "hc_fraction": 0.02},  # in so few steps, a heavier circumference would leave every mask empty
        input_shape=(64, 96, 1),
        augmentation="none",
        learning_rate=1e-2,
        batch_size=2,
        epochs=2,
        patience=2,
    ),
)


def train(folder):
    """Train them, unless they are there.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    dict of str to pathlib.Path
        ``data``, the synthetic cohort, and ``models``, the folder of runs.
    """
    folder = Path(folder)
    data = synthetic.fetal_head(folder / "smoke_data", NUM_EXAMINATIONS, seed=1)
    dataset = HC18(data)
    split = head_circumference.single_split(dataset, sizes=(3, 1, 1))
    for recipe in _RECIPES:
        run_folder = folder / "smoke_models" / recipe.name / "fold_0"
        head_circumference.run(recipe, read_images(dataset, recipe.input_shape), split, run_folder, progress=False)
    return {"data": data, "models": folder / "smoke_models"}
