"""Train and test one network that measures head circumference on one split, into one run folder."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from hcreg import evaluation, fold_runs, runs, training
from hcreg.augmentation import GainGamma, Speckle, default_augmentation, zhang2021_augmentation
from hcreg.datasets import splits, synthetic
from hcreg.datasets.batches import Batches
from hcreg.files import write_rows
from hcreg.preprocessing.frames import REFERENCE_SHAPE
from hcreg.recipe_arguments import described_builder, described_loss, training_arguments

# name -> spatial transform, grey-value transforms
AUGMENTATIONS = {
    "none": lambda: (None, ()),
    "zhang2021": lambda: (zhang2021_augmentation(), ()),
    "default": lambda: (default_augmentation(), ()),
    "strong": lambda: (default_augmentation(), (GainGamma(), Speckle())),
}


# what a row may have of its own that measures with another row's networks
_OF_MEASURING = ("row", "trained_as", "build_arguments.trim", "build_arguments.main_piece")


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained: a row of a table.

    Whether it predicts a circumference, a mask or both, the network's own outputs tell.

    Attributes
    ----------
    name : str
        Names the row and its folder.
    build : callable
        A builder of `hcreg.models`.
    loss : keras.losses.Loss, or dict of them by output ("mask", "hc_fraction")
        Outputs without a loss are not trained on.
    loss_weights : dict of str to float
        Of several losses in their sum, by output; 1 each by default.
    build_arguments : dict
        Arguments of `build` beside ``input_shape`` and ``seed``.
    input_shape : tuple of int (height_px, width_px, channels)
    normalisation : {"standardise", "caffe", "tf", "torch"}
        See `hcreg.preprocessing.frames.normalise`.
    augmentation : {"none", "zhang2021", "default", "strong"}
        "strong" is "default" with gain, gamma and speckle.
    learning_rate : float
    schedule : {"constant", "cosine"}
    batch_size, epochs, patience : int
    trained_as : str, optional
        Name of the row whose networks this one measures with, their runs lying beside its own; nothing is trained then.
    paper : dict
        The figures printed in the paper for this row, by the names of `hcreg.evaluation.summarise`.
    """

    name: str
    build: object
    loss: keras.losses.Loss | dict
    build_arguments: dict = field(default_factory=dict)
    loss_weights: dict = field(default_factory=dict)
    input_shape: tuple = (128, 128, 1)
    normalisation: str = "standardise"
    augmentation: str = "zhang2021"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    batch_size: int = 16
    epochs: int = 200
    patience: int = 90
    trained_as: str | None = None
    paper: dict = field(default_factory=dict)

    def with_loss(self, suffix, loss):
        """The same recipe with another loss, named after it.

        Parameters
        ----------
        suffix : str
        loss : keras.losses.Loss

        Returns
        -------
        Recipe
        """
        return replace(self, name=f"{self.name}_{suffix}", loss=loss)

    def arguments(self):
        """What decides the result, as ``run.json`` keeps it.

        Returns
        -------
        dict of JSON values
        """
        arguments = {
            "row": self.name,
            **described_builder(self.build, self.build_arguments),
            "loss": described_loss(self.loss),
            "input_shape": list(self.input_shape),
            "normalisation": self.normalisation,
            "augmentation": self.augmentation,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "patience": self.patience,
        }
        if self.loss_weights:
            arguments["loss_weights"] = self.loss_weights
        if self.trained_as is not None:
            arguments["trained_as"] = self.trained_as
        return arguments


def run(recipe, cache, split, folder, *, fold=0, seed=0, loggers=(), progress=True):
    """Train a network on one part of a data set, choose its weights on a second, test it on a third.

    Parameters
    ----------
    recipe : Recipe
    cache : hcreg.datasets.batches.ImageCache
        Of the recipe's input size. One cache serves every run of a table, so no image is decoded twice.
    split : dict
        Subject ids under "training", "validation" and "test".
    folder : path-like
        Run folder. A run that was stopped goes on; one that is finished is read, not repeated.
    fold : int
        Number of the fold, for the table.
    seed : int
        With the fold, fixes initial weights, order, augmentation and dropout.
    loggers, progress
        As in `hcreg.training.fit`.

    Returns
    -------
    list of dict
        The rows of ``predictions.csv``, one for each test image.
    """
    folder = Path(folder)
    record = open_run(recipe, cache.records, split, folder, fold=fold, seed=seed)

    def make():
        if recipe.augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"An augmentation is one of {', '.join(AUGMENTATIONS)}. Received: {recipe.augmentation!r}."
            )
        parts = {part: cache.index_of(split[part]) for part in splits.PARTS}
        model = recipe.build(input_shape=recipe.input_shape, seed=seed * 1000 + fold, **recipe.build_arguments)
        targets = training.outputs_of(model)
        # a network that measures its own mask gives a fraction of the frame's width, whatever the training heads' sizes
        scale_px = float(REFERENCE_SHAPE[1] if "mask" in targets else cache.hc_px[parts["training"]].max())
        options = {
            "targets": targets,
            "batch_size": recipe.batch_size,
            "normalisation": recipe.normalisation,
            "num_channels": recipe.input_shape[2],
            "seed": seed * 1000 + fold,
        }
        validation = Batches(cache, parts["validation"], scale_px, **options)
        if recipe.trained_as is None:
            spatial, intensity = AUGMENTATIONS[recipe.augmentation]()
            augmented = {"spatial": spatial, "intensity": intensity, "shuffle": True}
            history = training.fit(
                model,
                Batches(cache, parts["training"], scale_px, **augmented, **options),
                validation.arrays(),
                folder,
                **training_arguments(recipe),
                target_scale_px=scale_px,
                loggers=loggers,
                progress=f"{recipe.name}, fold {fold}" if progress else False,
            )
        else:
            source, _ = fold_runs.borrowed(folder, record, recipe.trained_as, _OF_MEASURING)
            training.load_weights(model, source / training.BEST_WEIGHTS)
            history = fold_runs.take_over(source, folder)
        constant = evaluation.constant_predictor(cache, parts["training"])
        options["targets"] = ("hc_fraction",)  # predicting needs no labels: half a gigabyte of masks less at 224 x 224
        unaugmented, test = (Batches(cache, parts[part], scale_px, **options) for part in ("training", "test"))
        write_rows(folder / "training_predictions.csv", evaluation.predict_rows(model, unaugmented, fold, constant))
        calibration = evaluation.predict_rows(model, validation, fold, constant)
        rows = evaluation.with_intervals(evaluation.predict_rows(model, test, fold, constant), calibration)
        facts = {
            "target_scale_px": scale_px,
            **constant,
            "num_parameters": model.count_params(),
            "num_images": {part: len(indices) for part, indices in parts.items()},
        }
        return {"validation": calibration, "test": rows}, history, facts

    return fold_runs.complete(folder, record, seed, make)


def open_run(recipe, records, split, folder, *, fold=0, seed=0):
    """Begin a run or go on with one, before any image is read.

    Parameters
    ----------
    recipe : Recipe
    records : sequence of HC18Record
        The whole data set.
    split, folder, fold, seed
        As in `run`.

    Returns
    -------
    dict
        See `hcreg.runs.open_run`, which also says what is refused.
    """
    arguments = {**recipe.arguments(), "fold": fold, "seed": seed, "data": describe_data(records)}
    return runs.open_run(folder, arguments, split)


def describe_data(records):
    """What tells one data set from another.

    Parameters
    ----------
    records : sequence of HC18Record

    Returns
    -------
    dict
        ``num_images``; ``digest`` of subject ids, pixel sizes and reference circumferences; ``synthetic``, whether the
        images were drawn by `hcreg.datasets.synthetic`.
    """
    rows = sorted((record.subject_id, float(record.pixel_size_mm), float(record.hc_mm)) for record in records)
    folders = {Path(record.image_path).parent.parent for record in records}
    return {
        "num_images": len(rows),
        "digest": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
        "synthetic": any(synthetic.is_synthetic(folder) for folder in folders),
    }


def grouped_folds(dataset, k=5, seed=0, validation_fraction=0.15):
    """k splits of a data set into training, validation and test, no examination in two parts.

    Parameters
    ----------
    dataset : sequence of HC18Record
    k : int
    seed : int
    validation_fraction : float
        Share of the images outside the test fold on which weights are chosen and intervals calibrated.

    Returns
    -------
    list of k dict
        Subject ids under "training", "validation" and "test"; the test parts are a partition of the data set.
    """
    subjects, groups, strata = _columns(dataset)
    return splits.nested_kfold(subjects, groups, k, strata, seed, validation_fraction)


def single_split(dataset, sizes=(600, 200, 199), seed=0):
    """One split into training, validation and test, no examination in two parts.

    Parameters
    ----------
    dataset : sequence of HC18Record
    sizes : tuple of three numbers
        Images in each part; scaled to the size of the data set.
    seed : int

    Returns
    -------
    dict
        Subject ids under "training", "validation" and "test".
    """
    subjects, groups, strata = _columns(dataset)
    scale = len(subjects) / sum(sizes)
    validation, test = (round(size * scale) for size in sizes[1:])
    counts = (len(subjects) - validation - test, validation, test)
    return splits.named_parts(subjects, splits.grouped_split(groups, sizes=counts, strata=strata, seed=seed))


def _columns(dataset):
    return tuple(
        np.array([getattr(record, name) for record in dataset])
        for name in ("subject_id", "examination_id", "trimester")
    )
