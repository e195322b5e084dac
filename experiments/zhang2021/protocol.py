"""What the paper says once for all its tables: networks, losses, schedule, folds.

Departures from the paper, each for a reason given in README.rst: grouped folds, inner validation, images of 192 x 128
pixels instead of 224 x 224, on-the-fly augmentation, a cosine schedule of fewer epochs.
"""

from dataclasses import replace

from keras.losses import Huber, MeanAbsoluteError, MeanSquaredError

from hcreg import losses, models
from hcreg.head_circumference import Recipe

MASK_LOSSES = {"dice": losses.Dice(), "kappa": losses.Kappa(), "focal_kappa": losses.FocalKappa()}
REGRESSION_LOSSES = {"mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "huber": Huber(delta=1.0)}

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

ELLIPSE_LOSSES = {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()}


def with_ellipse(recipe):
    """The recipe with a network that measures its own mask, trained on the mask and on the circumference.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    Recipe
    """
    arguments = {**recipe.build_arguments, "head": "ellipse"}
    return replace(recipe, name=f"{recipe.name}_ellipse", build_arguments=arguments, loss=ELLIPSE_LOSSES)


SEGMENTATION = [recipe.with_loss(name, loss) for recipe in (UNET, VGG16_UNET) for name, loss in MASK_LOSSES.items()]
STAND_IN = [DENSENET121_UNET.with_loss(name, loss) for name, loss in MASK_LOSSES.items()]
ELLIPSE = [with_ellipse(recipe) for recipe in (UNET, DENSENET121_UNET)]
