"""One row of a table on one fold: made where it is not yet, read where it is finished; what all kinds of rows share."""

import hashlib
import json
import shutil
import time
from pathlib import Path

from hcreg import backend, runs, training
from hcreg.datasets import synthetic
from hcreg.files import read_rows, write_rows, written_whole

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


def borrowed(folder, record, name, own):
    """Where another row's finished run on the same fold lies, which this run goes on from.

    Parameters
    ----------
    folder : path-like
        Run folder of this row, ``.../ROW/fold_K``.
    record : dict
        This run's, as `hcreg.runs.open_run` returned it.
    name : str
        Of the other row; its runs lie beside this one's.
    own : sequence of str
        Arguments that may differ; see `hcreg.runs.differences`.

    Returns
    -------
    source : pathlib.Path
    found : dict
        Record of the run there.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    ValueError
        If it is not finished, on another split, or of other arguments.
    """
    folder = Path(folder)
    source = folder.parent.parent / name / folder.name
    if not (source / runs.RUN_FILE).is_file():
        raise FileNotFoundError(
            f"{record['arguments']['row']} goes on from the networks of {name}, and there is no run of it in {source}. "
            "Run that row first, into the same folder."
        )
    found = finished(source, name)
    if found["split_checksum"] != record["split_checksum"]:
        raise ValueError(
            f"{source} holds a run on another split than {folder}: what this one is tested on may be among what that "
            "one was trained on. Run both on one data set, into one folder."
        )
    unlike = runs.differences(found["arguments"], record["arguments"], own)
    if unlike:
        raise ValueError(
            f"{folder} would go on from networks that were trained otherwise than it says: in {source} "
            f"{'; '.join(unlike)}. Use the same arguments for both."
        )
    return source, found


def take_over(source, folder):
    """Copy the weights and the history of a finished run to another that measures with its network.

    Parameters
    ----------
    source, folder : path-like

    Returns
    -------
    list of dict
        The history.
    """
    for name in (training.BEST_WEIGHTS, training.HISTORY):
        with written_whole(Path(folder) / name) as partial:
            shutil.copyfile(Path(source) / name, partial)
    return read_rows(Path(folder) / training.HISTORY)


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
