"""Train a recipe on one part of a data set, choose its weights on a second, test it on a third at full resolution."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hcreg import fold_runs, metrics, runs, training
from hcreg.datasets import splits
from hcreg.head_volumes.cache import HeadCache
from hcreg.head_volumes.measuring import measure
from hcreg.head_volumes.preparation import HeadPreparation
from hcreg.head_volumes.segmenting import segment
from hcreg.head_volumes.views import VIEWS
from hcreg.models import AutoContext
from hcreg.progress import progress_bar
from hcreg.recipe_arguments import training_arguments

FIRST_LEVEL = "level_1"  # folder of an Auto-Context's first level within its run's
_SECOND_SEED = 500_000  # added to the first level's, beyond any fold's
_OF_CONTEXT = ("row", "context", "first_of")  # what a row may have of its own beside that of its first level


def run(recipe, cache, split, folder, *, fold=0, seed=0, loggers=(), progress=True):
    """Train, choose and test one network, or both levels of an Auto-Context.

    Parameters
    ----------
    recipe : HeadRecipe
    cache : HeadCache
        Of the recipe's preparation.
    split : dict
        Subject ids under "training", "validation" and "test"; see `repeated_split`.
    folder : path-like
        Run folder. A run that was stopped goes on, between levels and within one; a finished run is read, not repeated.
    fold : int
    seed : int
        With the fold, fixes initial weights, order and augmentation.
    loggers, progress
        As in `hcreg.training.fit`.

    Returns
    -------
    list of dict
        The rows of ``predictions.csv``, one for each test volume; see `predict`.
    """
    folder = Path(folder)
    record = open_run(recipe, cache.records, split, folder, fold=fold, seed=seed)

    def make():
        parts = {part: cache.index_of(split[part]) for part in splits.PARTS}
        shown = {"loggers": loggers, "progress": progress}
        if recipe.context:
            model, history, seconds = _both_levels(recipe, cache, parts, folder, record, seed * 1000 + fold, shown)
        else:
            model = recipe.level(seed * 1000 + fold)
            history = _fit(recipe, model, cache, parts, folder, seed * 1000 + fold, shown)
            seconds = 0.0
        constant = constant_predictor(cache, parts["training"])
        rows = {part: predict(recipe, model, cache, parts[part], fold, constant) for part in ("validation", "test")}
        facts = {
            "num_parameters": model.count_params(),
            "num_volumes": {part: len(indices) for part, indices in parts.items()},
            "volume_shape": list(cache.shape),
            "training_seconds": seconds + sum(row["seconds"] for row in history),
        }
        return rows, history, facts

    rows = fold_runs.complete(folder, record, seed, make)
    training.discard_state(folder / FIRST_LEVEL)
    return rows


def open_run(recipe, records, split, folder, *, fold=0, seed=0):
    """Begin a run or go on with one, before any volume is read.

    Parameters
    ----------
    recipe : HeadRecipe
    records : sequence of records
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
    """What tells one data set from another; see `hcreg.fold_runs.describe_volumes`.

    Parameters
    ----------
    records : sequence of records with ``image_path``

    Returns
    -------
    dict
    """
    folders = {folder for record in records for folder in list(Path(record.image_path).parents)[:3]}
    return fold_runs.describe_volumes(records, folders)


def read_volumes(dataset, preparation):
    """Prepare the volumes of a data set once, with a progress bar.

    Parameters
    ----------
    dataset : sequence of records
    preparation : HeadPreparation

    Returns
    -------
    HeadCache
    """
    with progress_bar() as bar:
        task = bar.add_task("reading volumes", total=len(dataset))
        return HeadCache(dataset, preparation, progress=lambda done: bar.update(task, completed=done))


def repeated_split(dataset, num_seeds=3, seed=0, sizes=(0.5, 0.2, 0.3)):
    """One split into training, validation and test, whole patients in each, as often as networks are trained on it.

    Rows that are compared differ by their network then, and by the chance of its training, which the seeds show; not
    by the volumes they were tested on.

    Parameters
    ----------
    dataset : sequence of records
        With ``subject`` or ``patient_id`` where several volumes are of one patient.
    num_seeds : int
    seed : int
        Of the split.
    sizes : tuple of three float
        Shares of training, validation and test, kept as nearly as whole patients permit.

    Returns
    -------
    list of dict
        The same split `num_seeds` times.
    """
    subjects = np.array([record.subject_id for record in dataset])
    parts = splits.grouped_split([patient_of(record) for record in dataset], sizes=sizes, seed=seed)
    return [splits.named_parts(subjects, parts)] * num_seeds


def patient_of(record):
    """Whose volume a record is: its ``subject``, ``patient_id`` or, without either, ``subject_id``."""
    names = ("subject", "patient_id", "subject_id")
    return next(getattr(record, name) for name in names if getattr(record, name, None))


def constant_predictor(cache, training_part):
    """What one would say without looking: where most of the training part's heads are, and their mean volume.

    Parameters
    ----------
    cache : HeadCache
    training_part : ndarray of int

    Returns
    -------
    dict
        "labels" ndarray of `cache.shape`, and "volume_ml".
    """
    heads = np.mean([cache.padded(index, "labels") for index in training_part], axis=0)
    return {"labels": heads >= 0.5, "volume_ml": float(cache.volumes_ml[training_part].mean())}


def predict(recipe, model, cache, indices, fold=0, constant=None):
    """Segment volumes at the resolution of their files, and measure the result.

    Parameters
    ----------
    recipe : HeadRecipe
    model : keras.Model
    cache : HeadCache
    indices : sequence of int
    fold : int
    constant : dict, optional
        Of `constant_predictor`.

    Returns
    -------
    list of dict
        subject_id, patient_id, fold; the columns of `hcreg.head_volumes.measuring.measure`; ``seconds`` from the volume
        in memory to its label map; of the constant ``dice_constant``, on the network's grid, and
        ``volume_constant_ml``.
    """
    options = {"preparation": recipe.preparation, "view": recipe.view, "keep_largest": recipe.keep_largest}
    rows, traced = [], set()
    for index in indices:
        record = cache.records[index]
        image, truth = record.image(), record.label_map()
        if image.array.shape not in traced:  # a new size is traced first, which is no part of the seconds
            traced.add(image.array.shape)
            segment(image, model, **options)
        started = time.perf_counter()
        labels = segment(image, model, **options).array
        seconds = time.perf_counter() - started
        row = {
            "subject_id": record.subject_id,
            "patient_id": patient_of(record),
            "fold": int(fold),
            **measure(recipe.preparation.foreground(truth), labels, truth.spacing_mm),
            "seconds": seconds,
        }
        if constant is not None:
            row["dice_constant"] = metrics.dice_score(cache.padded(index, "labels"), constant["labels"])
            row["volume_constant_ml"] = constant["volume_ml"]
        rows.append(row)
    return rows


def as_run(recipe, folder):
    """A row as large as it was run: its network, preparation and view are those of the run's record.

    Parameters
    ----------
    recipe : HeadRecipe
    folder : path-like
        Run folder.

    Returns
    -------
    HeadRecipe

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no run, or it is another recipe's.
    """
    arguments = runs.read_run(folder)["arguments"]
    if arguments["row"] != recipe.name:
        raise ValueError(f"{folder} holds a run of {arguments['row']}; expected one of {recipe.name}.")
    view = _with_tuples(arguments["view"])
    return replace(
        recipe,
        build_arguments=_with_tuples(arguments["build_arguments"]),
        preparation=HeadPreparation(**_with_tuples(arguments["preparation"])),
        view=VIEWS[view.pop("kind")](**view),
    )


def load_network(recipe, folder):
    """The network of a finished run.

    Parameters
    ----------
    recipe : HeadRecipe
        The one that was run.
    folder : path-like
        Run folder.

    Returns
    -------
    keras.Model
        With both levels, of an Auto-Context.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no run, it is not finished, or is another recipe's.
    """
    fold_runs.finished(folder, recipe.name)
    model = recipe.network()
    training.load_weights(model, Path(folder) / training.BEST_WEIGHTS)
    return model


def _with_tuples(arguments):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _fit(recipe, model, cache, parts, folder, seed, shown, level=""):
    return training.fit(
        model,
        recipe.batches(cache, parts["training"], model, seed, training=True),
        recipe.batches(cache, parts["validation"], model, seed).arrays(),
        folder,
        **training_arguments(recipe),
        beta_1=recipe.beta_1,
        shown=recipe.shown,
        background=True,
        loggers=shown["loggers"],
        progress=f"{recipe.name}{level}, {folder.name}" if shown["progress"] else False,
    )


def _both_levels(recipe, cache, parts, folder, record, seed, shown):
    """An Auto-Context, the history of its second level, and the seconds that its first took."""
    first = recipe.level(seed)
    if recipe.first_of is None:
        # its state stays until the run is closed: `fit` finds it finished when the run is gone on with
        history = _fit(recipe, first, cache, parts, folder / FIRST_LEVEL, seed, shown, ", first level")
        seconds = sum(row["seconds"] for row in history)
    else:
        seconds = _borrowed(recipe, first, folder, record)
    model = AutoContext(first, recipe.level(seed + _SECOND_SEED))
    history = _fit(recipe, model, cache, parts, folder, seed + _SECOND_SEED, shown, ", second level")
    return model, history, seconds


def _borrowed(recipe, first, folder, record):
    """Load the first level from the run of another row; the seconds of its training."""
    source, found = fold_runs.borrowed(folder, record, recipe.first_of, _OF_CONTEXT)
    training.load_weights(first, source / training.BEST_WEIGHTS)
    return found["training_seconds"]
