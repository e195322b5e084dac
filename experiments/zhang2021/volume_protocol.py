"""What section 5 of the paper says once for its tables of cardiac volumes, and the networks that compete with it."""

from dataclasses import replace

from keras.losses import Huber, MeanAbsoluteError, MeanSquaredError

from hcreg import losses, models, tables
from hcreg.cardiac_volumes import SliceRecipe, StackRecipe, patient_folds
from hcreg.datasets.acdc import ACDC
from hcreg.tables.volumes import VolumeLayout, report_volumes, run_volumes

FOLDER = "zhang2021_volumes"  # one folder of runs for all tables of volumes
CLEANED_FOLDER = "zhang2021_volumes_cleaned"  # without the six patients the folds are others
VOLUME_LOSSES = {"mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "huber": Huber(delta=1.0)}

# The paper: 224 x 224 pixels, Adam 1e-3, batch of 8, 100 epochs. Sizes and epochs here are what two CPU cores allow; so
# few steps need moving statistics of batch normalisation that settle sooner than Keras's own.
VGG2D = StackRecipe(
    "vgg2d",
    models.vgg2d,
    VOLUME_LOSSES["mae"],
    build_arguments={"momentum": 0.9},
    crop="paper",
    size=(64, 64),
    schedule="cosine",
    batch_size=4,
    epochs=100,
    patience=100,
)
VGG3D = replace(VGG2D, name="vgg3d", build=models.vgg3d, epochs=40, patience=40)

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
# the same networks, looking five times: as it is, turned to either side, smaller and larger
COUNTING_VIEWS = replace(
    COUNTING,
    name="densenet121_counting_views",
    trained_as=COUNTING.name,
    views=((0.0, 1.0), (15.0, 1.0), (-15.0, 1.0), (0.0, 0.85), (0.0, 1.15)),
)
# the same network without masks: it learns from the areas alone, and sees the middle of the image
COUNTING_AREAS = replace(
    COUNTING,
    name="densenet121_counting_areas",
    loss={"areas_cm2": MeanAbsoluteError()},
    loss_weights={},
    crop_about="frame",
    epochs=8,
    patience=8,
)


def _factorial_row(network, variant, target):
    name = f"{network.name}_{variant}_{target}"
    return replace(network, name=name, build_arguments={**network.build_arguments, "variant": variant}, target=target)


# Table 10: eight rows, by network, outputs and target
FACTORIAL = [
    _factorial_row(network, variant, target)
    for network in (VGG2D, VGG3D)
    for variant in ("multi_output", "multi_label")
    for target in ("volume", "pixel")
]
# Table 11: one trunk, volumes, the label map in place of the image
MASKS_AS_INPUT = [
    replace(_factorial_row(network, "multi_label", "volume"), name=f"{network.name}_masks", source="mask")
    for network in (VGG2D, VGG3D)
]
# the paper's networks on what a new patient has: no crop about a mask
ON_FRAME = [
    replace(_factorial_row(network, "multi_label", "volume"), name=f"{network.name}_frame", crop="frame")
    for network in (VGG2D, VGG3D)
]
# what the noise of half the features costs with so few stacks
ON_FRAME_UNDROPPED = replace(
    ON_FRAME[0],
    name="vgg2d_frame_undropped",
    build_arguments={**ON_FRAME[0].build_arguments, "dropout_rate": 0.0},
)
COMPETITION = [COUNTING, COUNTING_VIEWS, COUNTING_AREAS, *ON_FRAME, ON_FRAME_UNDROPPED]


def with_volume_losses(network):
    """A network with each loss, one trunk and volumes as target; that of MAE is the row of Table 10.

    Parameters
    ----------
    network : StackRecipe
        `VGG2D` or `VGG3D`.

    Returns
    -------
    list of StackRecipe
    """
    row = _factorial_row(network, "multi_label", "volume")
    return [row if name == "mae" else row.with_loss(name, loss) for name, loss in VOLUME_LOSSES.items()]


def recipes_by_name():
    """Every row of the tables of volumes.

    Returns
    -------
    dict of str to StackRecipe or SliceRecipe
    """
    tables_rows = [*FACTORIAL, *MASKS_AS_INPUT, *COMPETITION, *with_volume_losses(VGG3D), *with_volume_losses(VGG2D)]
    return {recipe.name: recipe for recipe in tables_rows}


def cleaned_acdc(root):
    """ACDC without the six patients of Table 9."""
    return ACDC(root, exclude_abnormal=True)


def volume_table(
    script, recipes, *, smoke_recipes, folder=FOLDER, read_dataset=ACDC, layout=None, figures=None, arguments=None
):
    """Run the command line of one of the paper's tables of volumes.

    Parameters
    ----------
    script : str
        "table10" and so on.
    recipes : list of StackRecipe or SliceRecipe
    smoke_recipes : list of str
        Rows of ``--smoke``.
    folder : str
        Of runs, below ``runs``.
    read_dataset : callable
        ``read_dataset(root)`` gives the records.
    layout : VolumeLayout, optional
    figures : callable, optional
        As in `hcreg.tables.main`.
    arguments : list of str, optional

    Returns
    -------
    int
    """
    return tables.main(
        f"zhang2021.{script}",
        recipes,
        patient_folds,
        default_folds=[0, 1, 2, 3, 4],
        read_dataset=read_dataset,
        smoke_recipes=smoke_recipes,
        folder=folder,
        layout=layout or VolumeLayout(),
        figures=figures,
        arguments=arguments,
        run=run_volumes,
        report=report_volumes,
        data_help="ACDC folder as downloaded",
    )
