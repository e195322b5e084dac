"""NOR against diseased on ACDC: one training on one fold, and what it leaves in its run folder."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from experiments.callanan2022.acdc_measures import answer_rows, prediction_rows
from experiments.callanan2022.acdc_protocol import TAP, Augmentation, epoch_batches, hearts_of, images_of, labels_of
from experiments.callanan2022.protocol import compiled
from hcreg import backend, model_state, runs
from hcreg.cardiac_volumes.running import describe_data
from hcreg.files import remove_leftovers, write_rows, written_whole

STATE, WEIGHTS, HISTORY = "training_state.npz", "model.weights.h5", "history.csv"
PREDICTIONS, TRAINING_PREDICTIONS = "predictions.csv", "training_predictions.csv"


def train(arm, protocol, cache, split, folder, fold, seed, on_epoch=None):
    """Train one network on one fold and test it, unless that was done; a stopped training goes on.

    Parameters
    ----------
    arm : experiments.callanan2022.protocol.Arm
    protocol : Protocol
    cache : VolumeCache
        Of a `FramePreparation` with the protocol's frame, with label maps.
    split : dict
        Of `folds_of`.
    folder : path-like
        Run folder: ``run.json``, ``split.csv``, ``history.csv`` (means over the steps of each epoch, as trained),
        ``model.weights.h5``, ``predictions.csv`` of the test stacks, and ``training_predictions.csv``, the finished
        network's answers to the stacks it was trained on, not augmented, by its moving statistics.
    fold, seed : int
        They fix initial weights, order and augmentation, alike in all arms.
    on_epoch : callable, optional
        Called after each epoch.

    Returns
    -------
    dict
        The record of ``run.json``.

    Raises
    ------
    ValueError
        If the folder holds another run, see `hcreg.runs.open_run`; if a stack has no label map.
    FloatingPointError
        If the loss is not finite, naming epoch, folder and setting.
    """
    folder = Path(folder)
    record = open_run(arm, protocol, cache.records, split, folder, fold, seed)
    if record["status"] == "finished":
        (folder / STATE).unlink(missing_ok=True)  # a kill right after the run was closed left it there
        return record
    backend.fresh_session(seed)
    parts = {part: cache.index_of(split[part]) for part in ("training", "test")}
    model, history = _trained(arm, protocol, cache, parts["training"], folder, seed * 1000 + fold, on_epoch)
    write_rows(folder / HISTORY, history)
    with written_whole(folder / WEIGHTS) as partial:
        partial.write_bytes(model_state.weights_bytes(model))
    started = time.perf_counter()
    told = {
        TRAINING_PREDICTIONS: answer_rows(model, cache, parts["training"]),
        PREDICTIONS: prediction_rows(model, cache, parts["test"]),
    }
    for name, rows in told.items():
        write_rows(folder / name, [{"fold": fold, "seed": seed, **row} for row in rows])
    results = {
        "training_seconds": sum(row["seconds"] for row in history),
        "measuring_seconds": time.perf_counter() - started,
        "num_parameters": model.count_params(),
        "num_stacks": {part: len(indices) for part, indices in parts.items()},
    }
    runs.close_run(folder, record, **results)
    (folder / STATE).unlink(missing_ok=True)
    return {**record, **results, "status": "finished"}


def open_run(arm, protocol, records, split, folder, fold, seed):
    """Begin a run or go on with one.

    Parameters
    ----------
    arm, protocol, split, folder, fold, seed
        As of `train`.
    records : sequence of ACDCRecord
        The whole data set.

    Returns
    -------
    dict
        See `hcreg.runs.open_run`, which also says what is refused.
    """
    arguments = {"arm": asdict(arm), "protocol": asdict(protocol), "augmentation": asdict(Augmentation())}
    return runs.open_run(folder, {**arguments, "fold": fold, "seed": seed, "data": describe_data(records)}, split)


def _trained(arm, protocol, cache, indices, folder, seed, on_epoch):
    """The network, and what the history says of each epoch."""
    images, hearts = images_of(cache, indices), hearts_of(cache, indices)
    labels = labels_of([cache.records[index] for index in indices])
    model = protocol.network(seed)
    steps = protocol.epochs * -(-len(labels) // protocol.batch_size)
    guided = compiled(model, TAP, _for_steps(arm, steps), protocol.learning_rate, steps)
    history = _restored(guided, folder)
    augment = Augmentation()
    for epoch in range(len(history), protocol.epochs):
        started = time.perf_counter()
        batches = epoch_batches(images, hearts, labels, protocol.batch_size, epoch, seed, augment)
        found = [guided.train_on_batch(x, y, sample_weight=weights, return_dict=True) for x, y, weights in batches]
        logs = {name: float(np.mean([logs[name] for logs in found])) for name in found[0]}
        if not np.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"The loss became {logs['loss']} in epoch {epoch + 1} of {folder}. Lower Protocol.learning_rate, which "
                f"is {protocol.learning_rate}, and train into another --out."
            )
        history.append({"epoch": epoch + 1, **logs, "seconds": time.perf_counter() - started})
        with written_whole(folder / STATE) as partial, open(partial, "wb") as file:
            model_state.save_state(file, guided, history)
        if on_epoch is not None:
            on_epoch()
    return model, history


def _for_steps(arm, steps):
    """The weight of the attention term has grown when half of a short run is over."""
    return replace(arm, ramp_steps=min(arm.ramp_steps, steps // 2))


def _restored(guided, folder):
    remove_leftovers(folder / STATE)
    if not (folder / STATE).is_file():
        return []
    arrays, history = model_state.load_state(folder / STATE, folder / STATE)
    model_state.restore(guided, arrays, folder / STATE)
    return history
