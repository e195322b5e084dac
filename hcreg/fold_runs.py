"""One row of a table on one fold: made where it is not yet, read where it is finished; what all kinds of rows share."""

import hashlib
import json
import time
from pathlib import Path

from hcreg import backend, runs, training
from hcreg.datasets import synthetic
from hcreg.files import read_rows, write_rows

PREDICTIONS, VALIDATION_PREDICTIONS = "predictions.csv", "validation_predictions.csv"


def complete(folder, record, seed, make):
    """Make what a run is to hold, unless it is finished.

    Parameters
    ----------
    folder : path-like
        Run folder.
    record : dict
        As `hcreg.runs.open_run` returned it.
    seed : int
        Fixes what is not seeded by itself.
    make : callable
        ``make()`` trains and predicts. It gives a dict of rows by part ("validation", "test"), the history of training,
        and a dict of further facts for ``run.json``.

    Returns
    -------
    list of dict
        The rows of ``predictions.csv``: those of the test part.
    """
    folder = Path(folder)
    if record["status"] == "finished":
        training.discard_state(folder)  # a kill right after the run was closed left it there
        return read_rows(folder / PREDICTIONS)
    started = time.perf_counter()
    backend.fresh_session(seed)
    rows, history, facts = make()
    write_rows(folder / VALIDATION_PREDICTIONS, rows["validation"])
    write_rows(folder / PREDICTIONS, rows["test"])
    best = min(history, key=lambda row: row["val_loss"])
    runs.close_run(
        folder,
        record,
        **{
            "epochs_run": len(history),
            "best_epoch": best["epoch"],
            "training_seconds": sum(row["seconds"] for row in history),
            "seconds_of_last_session": time.perf_counter() - started,
            "peak_memory_mb": backend.peak_memory_mb(),
            **facts,
        },
    )
    training.discard_state(folder)
    return rows["test"]


def finished(folder, name):
    """The record of a finished run.

    Parameters
    ----------
    folder : path-like
    name : str
        Of the row it should be of.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no run.
    ValueError
        If it is not finished, or another row's.
    """
    record = runs.read_run(folder)
    if record["status"] != "finished" or record["arguments"]["row"] != name:
        raise ValueError(
            f"{folder} holds a run of {record['arguments']['row']}, {record['status']}; expected a finished run of "
            f"{name}. Run it to its end, or name its folder."
        )
    return record


def describe_volumes(records, roots):
    """What tells one data set of volumes from another.

    Parameters
    ----------
    records : sequence of records with ``subject_id`` and ``spacing_mm``
    roots : iterable of path-like
        Folders that the records lie in.

    Returns
    -------
    dict
        ``num_stacks``; ``digest`` of subject ids and spacings; ``synthetic``, whether the volumes were drawn by
        `hcreg.datasets.synthetic`.
    """
    rows = sorted((record.subject_id, *(round(float(side), 5) for side in record.spacing_mm)) for record in records)
    return {
        "num_stacks": len(rows),
        "digest": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16],
        "synthetic": any(synthetic.is_synthetic(folder) for folder in roots),
    }
