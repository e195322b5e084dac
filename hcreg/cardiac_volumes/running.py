"""Train a recipe on one part of a data set, choose its weights on a second, test it on a third."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hcreg import fold_runs, runs, training
from hcreg.datasets import splits
from hcreg.datasets.volume_cache import VolumeCache
from hcreg.preprocessing.cardiac import PHASES, STRUCTURES
from hcreg.progress import progress_bar
from hcreg.recipe_arguments import training_arguments


def run(recipe, cache, split, folder, *, fold=0, seed=0, loggers=(), progress=True):
    """Train, choose and test one network.

    Parameters
    ----------
    recipe : StackRecipe or SliceRecipe
    cache : VolumeCache
        Of the recipe's preparation.
    split : dict
        Subject ids under "training", "validation" and "test"; see `patient_folds`.
    folder : path-like
        Run folder. A run that was stopped goes on; one that is finished is read, not repeated.
    fold : int
    seed : int
        With the fold, fixes initial weights, order, augmentation and dropout.
    loggers, progress
        As in `hcreg.training.fit`.

    Returns
    -------
    list of dict
        The rows of ``predictions.csv``, one for each test stack.
    """
    folder = Path(folder)
    record = open_run(recipe, cache.records, split, folder, fold=fold, seed=seed)

    def make():
        parts = {part: cache.index_of(split[part]) for part in splits.PARTS}
        if recipe.trained_as is None:
            model, scale, history = _trained(recipe, cache, parts, folder, seed * 1000 + fold, loggers, progress)
        else:
            model, scale, history = _trained_before(recipe, folder, record)
        constant = constant_predictor(recipe, cache, parts["training"])
        networks = [(model, scale)]
        rows = {part: predict(recipe, networks, cache, parts[part], fold, constant) for part in ("validation", "test")}
        return (
            rows,
            history,
            {
                "target_scale": [float(value) for value in scale],
                "num_parameters": model.count_params(),
                "num_stacks": {part: len(indices) for part, indices in parts.items()},
            },
        )

    return fold_runs.complete(folder, record, seed, make)


_OF_MEASURING = ("row", "trained_as", "views", "build_arguments.weights")  # what a borrowing row may have of its own


def _trained(recipe, cache, parts, folder, seed, loggers, progress):
    """The network, the scale of its outputs, and the history of its training."""
    model = recipe.network(seed)
    scale = recipe.scale(cache, parts["training"])
    history = training.fit(
        model,
        recipe.batches(cache, parts["training"], scale, seed, training=True),
        recipe.batches(cache, parts["validation"], scale, seed).arrays(),
        folder,
        **training_arguments(recipe),
        shown=recipe.shown,
        background=True,
        loggers=loggers,
        progress=f"{recipe.name}, {folder.name}" if progress else False,
    )
    return model, scale, history


def _trained_before(recipe, folder, record):
    """The same of the row that was trained, its weights and history copied to this one's folder."""
    source, _ = fold_runs.borrowed(folder, record, recipe.trained_as, _OF_MEASURING)
    model, scale = load_network(replace(recipe, name=recipe.trained_as), source)
    return model, scale, fold_runs.take_over(source, folder)


def open_run(recipe, records, split, folder, *, fold=0, seed=0):
    """Begin a run or go on with one, before any image is read.

    Parameters
    ----------
    recipe : StackRecipe or SliceRecipe
    records : sequence of ACDCRecord
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
    records : sequence of ACDCRecord

    Returns
    -------
    dict
        ``num_stacks``; ``digest`` of subject ids and spacings; ``synthetic``, whether the stacks were drawn by
        `hcreg.datasets.synthetic`.
    """
    return fold_runs.describe_volumes(records, {Path(record.image_path).parent.parent.parent for record in records})


def read_stacks(dataset, preparation, cache_folder=None):
    """Prepare the stacks of a data set once, with a progress bar.

    Parameters
    ----------
    dataset : sequence of ACDCRecord
    preparation : FramePreparation or PaperPreparation
    cache_folder : path-like, optional
        See `VolumeCache`.

    Returns
    -------
    VolumeCache
    """
    with progress_bar() as bar:
        task = bar.add_task("reading stacks", total=len(dataset))
        return VolumeCache(dataset, preparation, cache_folder, progress=lambda done: bar.update(task, completed=done))


def patient_folds(dataset, k=5, seed=0, validation_fraction=0.15):
    """k splits into training, validation and test, both phases of a patient in one part.

    Parameters
    ----------
    dataset : sequence of ACDCRecord
    k : int
    seed : int
    validation_fraction : float

    Returns
    -------
    list of k dict
        See `hcreg.datasets.splits.nested_kfold`. Groups are as even as whole patients permit: a validation part of few
        patients may lack one.
    """
    subjects, patients, groups = (
        [getattr(record, name) for record in dataset] for name in ("subject_id", "patient_id", "group")
    )
    return splits.nested_kfold(subjects, patients, k, [group or "" for group in groups], seed, validation_fraction)


def constant_predictor(recipe, cache, training):
    """What one would say without looking: the mean volumes of the training part, of each phase.

    Parameters
    ----------
    recipe : StackRecipe or SliceRecipe
    cache : VolumeCache
    training : ndarray of int

    Returns
    -------
    dict of str to dict of str to float
        By phase, ``RV_constant_ml`` and so on.
    """
    phases = np.array([record.phase for record in cache.records])[training]
    volumes = _named_volumes(recipe, cache.volumes_ml[training])
    return {
        phase: {f"{name}_constant_ml": float(values[phases == phase].mean()) for name, values in volumes.items()}
        for phase in PHASES
        if np.any(phases == phase)
    }


def predict(recipe, networks, cache, indices, fold=0, constant=None):
    """Measure stacks.

    Parameters
    ----------
    recipe : StackRecipe or SliceRecipe
    networks : list of tuple (keras.Model, ndarray)
        With the scale of each, as `load_network` gives them; of several, the mean counts.
    cache : VolumeCache
    indices : sequence of int
    fold : int
    constant : dict, optional
        Of `constant_predictor`.

    Returns
    -------
    list of dict
        subject_id, patient_id, phase, group, fold; of each structure ``RV_true_ml`` (NaN where not known),
        ``RV_pred_ml``, and what else the recipe measures; ``RV_constant_ml``.
    """
    volumes = _named_volumes(recipe, cache.volumes_ml)
    rows = []
    for index, measured in zip(indices, recipe.measure(networks, cache, indices), strict=True):
        record = cache.records[index]
        rows.append(
            {
                "subject_id": record.subject_id,
                "patient_id": record.patient_id,
                "phase": record.phase,
                "group": record.group or "",
                "fold": int(fold),
                **{f"{name}_true_ml": float(values[index]) for name, values in volumes.items()},
                **measured,
                **(constant or {}).get(record.phase, {}),
            }
        )
    return rows


def load_network(recipe, folder):
    """The network of a finished run, and the scale of its outputs.

    Parameters
    ----------
    recipe : StackRecipe or SliceRecipe
        The one that was run.
    folder : path-like
        Run folder.

    Returns
    -------
    model : keras.Model
    scale : ndarray

    Raises
    ------
    ValueError
        If the run is not finished, or is another recipe's.
    """
    record = fold_runs.finished(folder, recipe.name)
    if "weights" in recipe.build_arguments:  # those it began with are not needed any more
        recipe = replace(recipe, build_arguments={**recipe.build_arguments, "weights": None})
    model = recipe.network(None)
    training.load_weights(model, Path(folder) / training.BEST_WEIGHTS)
    return model, np.array(record["target_scale"])


def _named_volumes(recipe, volumes_ml):
    """The true volumes by name, columns of what a recipe measures."""
    if recipe.names == STRUCTURES:
        return {name: volumes_ml[:, position] for position, name in enumerate(STRUCTURES)}
    return {recipe.names[0]: volumes_ml.sum(1)}
