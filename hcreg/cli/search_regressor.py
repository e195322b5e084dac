"""What ``hcreg tune`` trains without a script: a head-circumference regressor on ultrasound, real or synthetic."""

import inspect
from pathlib import Path

import keras

from hcreg import evaluation, head_circumference, metrics, models
from hcreg.cli.search_script import Target
from hcreg.cli.turns import only_one
from hcreg.datasets import HC18, synthetic
from hcreg.datasets.batches import Batches, read_images

NUM_EXAMINATIONS = 220
OBJECTIVE = "val_mae_px"


def head_target(options):
    """Read the images and make ready the training and validation parts of their grouped split.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``hcreg tune``: ``data``, ``model``, ``num_examinations``, ``augmentation``, ``batch_size``, ``seed``,
        ``output``.

    Returns
    -------
    Target
        Judged by the mean absolute error of the validation images in pixels; the error in mm is recorded too.

    Raises
    ------
    ValueError, OSError
        As reading the data set.

    Notes
    -----
    The parts are those of ``hcreg quickstart`` with the same data and seed, so that its test part stays unseen by the
    search. Initial weights, order and augmentation are the same in all trials: they differ by the learning rate alone.
    """
    folder = options.data
    if folder is None:
        num_examinations = options.num_examinations or NUM_EXAMINATIONS
        folder = options.output / f"synthetic_{num_examinations}_seed_{options.seed}"
        shared_cohort(folder, num_examinations, options.seed)
    dataset = HC18(folder)
    split = head_circumference.single_split(dataset, seed=options.seed)
    builder = getattr(models, options.model)
    input_shape = inspect.signature(builder).parameters["input_shape"].default
    kept = {*split["training"], *split["validation"]}
    cache = read_images([record for record in dataset if record.subject_id in kept], input_shape)
    training, validation = (cache.index_of(split[part]) for part in ("training", "validation"))
    scale_px = float(cache.hc_px[training].max())
    batch_size = options.batch_size or 8
    shared = {"batch_size": batch_size, "num_channels": input_shape[2], "seed": options.seed}
    spatial, intensity = head_circumference.AUGMENTATIONS[options.augmentation]()
    batches = Batches(cache, training, scale_px, spatial=spatial, intensity=intensity, shuffle=True, **shared)
    checked = Batches(cache, validation, scale_px, **shared)
    constant = evaluation.constant_predictor(cache, training)

    def build_model(learning_rate):
        model = builder(input_shape=input_shape, seed=options.seed)
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss=keras.losses.MeanAbsoluteError(),
            metrics=[keras.metrics.MeanMetricWrapper(absolute_error_px, name="mae_px", scale_px=scale_px)],
        )
        return model

    def measures(model):
        rows = evaluation.predict_rows(model, checked, 0, constant)
        y_true_mm, y_pred_mm, constant_mm = (
            [row[name] for row in rows] for name in ("y_true_mm", "y_pred_mm", "constant_mm")
        )
        return {
            "val_mae_mm": metrics.mean_absolute_error(y_true_mm, y_pred_mm),
            "val_pmae_percent": metrics.percentage_mean_absolute_error(y_true_mm, y_pred_mm),
            "val_constant_mae_mm": metrics.mean_absolute_error(y_true_mm, constant_mm),
        }

    attributes = {
        "model": options.model,
        "data": str(folder),
        "data_digest": head_circumference.describe_data(list(dataset))["digest"],
        "augmentation": options.augmentation,
        "num_training": len(training),
        "num_validation": len(validation),
        "target_scale_px": scale_px,
    }
    return Target(
        build_model,
        batches,
        checked.arrays(),
        objective=OBJECTIVE,
        direction="min",
        batch_size=batch_size,
        measures=measures,
        callbacks=(_EpochOfTrial(batches),),
        attributes=attributes,
        deciding=("model", "data_digest", "augmentation"),
    )


def shared_cohort(folder, num_examinations, seed):
    """Make a cohort of synthetic ultrasound, once, however many processes ask for it at the same moment.

    Parameters
    ----------
    folder : path-like
    num_examinations, seed : int
        As of `hcreg.datasets.synthetic.fetal_head`.
    """
    folder = Path(folder)
    with only_one(folder.with_name(f"{folder.name}.lock"), f"{folder} is being made"):
        synthetic.fetal_head(folder, num_examinations, seed)


@keras.saving.register_keras_serializable(package="hcreg")  # or a trial's .keras file could not be read
def absolute_error_px(y_true, y_pred, scale_px):
    """Absolute error of each image's head circumference, for Keras to average over an epoch.

    Parameters
    ----------
    y_true, y_pred : tensor of shape (batch, 1)
        Head circumferences over `scale_px`.
    scale_px : float, reference px

    Returns
    -------
    tensor of shape (batch,), reference px
        Zero is best.
    """
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), -1) * scale_px


class _EpochOfTrial(keras.callbacks.Callback):
    """Tells the batches which epoch of its trial is trained; they would count on from trial to trial."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __deepcopy__(self, memo):
        return type(self)(self.batches)  # a search copies its callbacks for each trial, but not the images

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
