"""What the paper says once for all its tables: networks, losses, schedule, how the best network is chosen.

Departures from the paper, each for a reason given in README.rst: grouped folds, inner validation, images of 192 x 128
pixels instead of 224 x 224, on-the-fly augmentation, a cosine schedule of fewer epochs.
"""

from dataclasses import replace

import numpy as np
from keras.losses import Huber, MeanAbsoluteError, MeanSquaredError

from hcreg import losses, models, tables
from hcreg.datasets import HC18
from hcreg.head_circumference import Recipe, grouped_folds

FOLDER = "zhang2021"  # one folder of runs for all tables
MASK_LOSSES = {"dice": losses.Dice(), "kappa": losses.Kappa(), "focal_kappa": losses.FocalKappa()}
LENGTH_LOSSES = {"mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "huber": Huber(delta=1.0)}
ELLIPSE_LOSSES = {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()}

UNET = Recipe(
    "unet",
    models.unet,
    MASK_LOSSES["dice"],
    input_shape=(128, 192, 1),
    augmentation="strong",
    learning_rate=2e-3,
    schedule="cosine",
    batch_size=8,
    epochs=60,
    patience=60,
)
VGG16_UNET = replace(
    UNET,
    name="vgg16_unet",
    build=models.vgg16_unet,
    build_arguments={"weights": "imagenet"},
    input_shape=(128, 192, 3),
    learning_rate=5e-4,
    epochs=30,
    patience=30,
)
# not in the paper: a pretrained encoder whose weights are at hand
DENSENET121_UNET = replace(
    VGG16_UNET,
    name="densenet121_unet",
    build=models.backbone_unet,
    build_arguments={"backbone": "DenseNet121", "weights": "imagenet"},
)
VGG16 = Recipe(
    "vgg16",
    models.vgg16_regressor,
    LENGTH_LOSSES["mae"],
    build_arguments={"weights": "imagenet"},
    input_shape=(224, 224, 3),
    augmentation="strong",
    learning_rate=1e-4,
    schedule="cosine",
    batch_size=8,
    epochs=60,
    patience=60,
)
RESNET50 = replace(VGG16, name="resnet50", build=models.resnet50_regressor)


def backbone_regression(backbone):
    """A regressor on any backbone of `keras.applications`, to stand in where others' weights are missing.

    Parameters
    ----------
    backbone : str

    Returns
    -------
    Recipe
    """
    return replace(
        VGG16,
        name=backbone.lower(),
        build=models.backbone_regressor,
        build_arguments={"backbone": backbone, "weights": "imagenet"},
        input_shape=(128, 192, 3),
        learning_rate=5e-4,
        epochs=30,
        patience=30,
    )


def with_losses(recipes, losses_by_name):
    """Each recipe with each loss, named after both.

    Parameters
    ----------
    recipes : sequence of Recipe
    losses_by_name : dict of str to keras.losses.Loss

    Returns
    -------
    list of Recipe
    """
    return [recipe.with_loss(name, loss) for recipe in recipes for name, loss in losses_by_name.items()]


def with_ellipse(recipe, suffix="ellipse", loss=None, loss_weights=None):
    """The recipe with a network that measures its own mask by its moments.

    Parameters
    ----------
    recipe : Recipe
    suffix : str
    loss : dict of str to keras.losses.Loss, optional
        By default on the mask and on the circumference.
    loss_weights : dict of str to float, optional

    Returns
    -------
    Recipe
    """
    named = recipe.with_loss(suffix, loss or ELLIPSE_LOSSES)
    return replace(
        named,
        build_arguments={**recipe.build_arguments, "head": "ellipse"},
        loss_weights=loss_weights or {},
    )


SEGMENTATION = with_losses((UNET, VGG16_UNET, DENSENET121_UNET), MASK_LOSSES)
ELLIPSE = [
    with_ellipse(UNET),
    with_ellipse(UNET, "ellipse_hc_only", {"hc_fraction": losses.RelativeError()}),
    # a quarter: at equal weights unsure heads come out too small, see README.rst
    with_ellipse(DENSENET121_UNET, loss_weights={"hc_fraction": 0.25}),
]
REGRESSION = with_losses((VGG16, RESNET50, backbone_regression("DenseNet121")), LENGTH_LOSSES)


def best_loss(recipes, validation):
    """Of the recipes that differ in nothing but the loss, the one with the lowest validation error.

    Parameters
    ----------
    recipes : list of Recipe
    validation : dict of str to list of dict
        Rows of the inner validation images, by recipe.

    Returns
    -------
    list of str
        Names, one a network.
    """
    best = {}
    for recipe in recipes:
        network = (recipe.build.__name__, str(sorted(recipe.build_arguments.items())), isinstance(recipe.loss, dict))
        error_mm = validation_error_mm(validation[recipe.name])
        if network not in best or error_mm < best[network][0]:
            best[network] = (error_mm, recipe.name)
    return [name for _, name in best.values()]


def best_network(recipes, validation):
    """The one recipe with the lowest validation error; see `best_loss`."""
    return [min((recipe.name for recipe in recipes), key=lambda name: validation_error_mm(validation[name]))]


def validation_error_mm(rows):
    """Mean absolute error (mm) over validation images; where nothing was measured, the error is the whole head.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    float, mm
    """
    errors = [abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows]
    return float(np.mean([row["y_true_mm"] if error != error else error for error, row in zip(errors, rows)]))


def table(script, recipes, *, smoke_recipes, layout, arguments=None):
    """Run the command line of one of the paper's tables.

    Parameters
    ----------
    script : str
        "table1" and so on.
    recipes : list of Recipe
    smoke_recipes : list of str
        Rows of ``--smoke``.
    layout : hcreg.tables.Layout
    arguments : list of str, optional

    Returns
    -------
    int
    """
    return tables.main(
        f"zhang2021.{script}",
        recipes,
        grouped_folds,
        default_folds=[0, 1, 2, 3, 4],
        read_dataset=HC18,
        smoke_recipes=smoke_recipes,
        folder=FOLDER,
        layout=layout,
        arguments=arguments,
    )


_LENGTHS = {
    "mae_mm": ("ADF = MAE (mm)", 2),
    "mae_sd_mm": ("SD over subjects (mm)", 2),
    "fold_sd_mm": ("SD over folds (mm)", 2),
    "median_ae_mm": ("median (mm)", 2),
    "bias_mm": ("DF = bias (mm)", 2),
    "p95_ae_mm": ("95th percentile (mm)", 2),
    "mae_px": ("MAE (px)", 1),
    "pmae_percent": ("PMAE (%)", 2),
}
SEGMENTATION_COLUMNS = {**tables.MASK_COLUMNS, **_LENGTHS, "training_seconds": ("training (s a fold)", 0)}
TRIMESTER_COLUMNS = {**_LENGTHS, "coverage": ("coverage of the 90 % interval", 3)}
