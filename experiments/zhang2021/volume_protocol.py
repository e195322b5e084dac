"""What section 5 of the paper says once for its tables of cardiac volumes, and the networks that compete with it."""

from dataclasses import replace

from keras.losses import Huber, MeanAbsoluteError, MeanSquaredError

from hcreg import losses, models
from hcreg.cardiac_volumes import SliceRecipe, StackRecipe

FOLDER = "zhang2021_volumes"  # one folder of runs for all tables of volumes
VOLUME_LOSSES = {"mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "huber": Huber(delta=1.0)}

# The paper: Adam 1e-3, batch of 8, 100 epochs. Epochs here are what two CPU cores allow, on a cosine.
VGG2D = StackRecipe("vgg2d", models.vgg2d, VOLUME_LOSSES["mae"], crop="paper", schedule="cosine", epochs=40)
VGG3D = replace(VGG2D, name="vgg3d", build=models.vgg3d, size=(112, 112), epochs=15)

# Not in the paper: a pretrained encoder, slices in place of stacks, and a count in place of a dense layer. An area that
# is wrong by 1 cm² weighs as much as 0.02 of Dice and cross-entropy.
COUNTING = SliceRecipe(
    "densenet121_counting",
    models.backbone_unet,
    {"mask": losses.DiceCrossEntropy(), "areas_cm2": MeanAbsoluteError()},
    build_arguments={
        "backbone": "DenseNet121",
        "weights": "imagenet",
        "decoder_filters": (128, 64, 48, 32, 16),
    },
    loss_weights={"areas_cm2": 0.02},
    learning_rate=5e-4,
    batch_size=8,
    epochs=24,
    patience=24,
)
# the same network without masks: it learns from the areas alone, and sees the middle of the image
COUNTING_AREAS = replace(
    COUNTING,
    name="densenet121_counting_areas",
    loss={"areas_cm2": MeanAbsoluteError()},
    loss_weights={},
    crop_about="frame",
)
