"""What the slides say once for every row: networks, losses, schedule.

Departures from the slides, each for a reason given in README.rst: true grouped folds, on-the-fly augmentation from
wider ranges, a cosine schedule of fewer epochs.
"""

from dataclasses import replace

from keras.losses import Huber, MeanAbsoluteError, MeanSquaredError

from hcreg import models
from hcreg.head_circumference import Recipe

LOSSES = {"mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "huber": Huber(delta=0.5)}

EPOCHS = 80

_CNN_263K = Recipe(
    "cnn_263k",
    models.cnn_263k,
    LOSSES["mae"],
    augmentation="default",
    learning_rate=2e-3,
    batch_size=8,
    schedule="cosine",
    epochs=EPOCHS,
    patience=EPOCHS,
    paper={"mae_px": 90.0, "pmae_percent": 8.7},
)
_CNN_1M = replace(_CNN_263K, name="cnn_1m", build=models.cnn_1m, paper={"mae_px": 51.0, "pmae_percent": 5.0})
SMALL = (_CNN_263K, _CNN_1M)

# nothing but three times the epochs: shows what the shorter schedule costs
LONG = tuple(replace(recipe, name=f"{recipe.name}_240", epochs=240) for recipe in SMALL)

_VGG16 = Recipe(
    "vgg16",
    models.vgg16_regressor,
    LOSSES["mae"],
    build_arguments={"weights": "imagenet"},
    input_shape=(224, 224, 3),
    augmentation="default",
    learning_rate=1e-4,
    schedule="cosine",
    epochs=EPOCHS,
    patience=EPOCHS,
)
BACKBONE = (_VGG16, replace(_VGG16, name="resnet50", build=models.resnet50_regressor))

# not in the slides: a pretrained backbone whose weights are at hand
STAND_IN = Recipe(
    "densenet121",
    models.backbone_regressor,
    LOSSES["mae"],
    build_arguments={"backbone": "DenseNet121", "weights": "imagenet"},
    input_shape=(128, 128, 3),
    augmentation="default",
    learning_rate=5e-4,
    schedule="cosine",
    epochs=20,
    patience=20,
)
