"""Run folders: what was trained, on which split, with which versions, and how it ended.

``runs/<experiment>/<row>/fold_<k>/`` holds ``run.json``, ``split.csv``, ``history.csv``, ``checkpoint.weights.h5``,
``validation_predictions.csv``, ``predictions.csv`` and ``figures/``.
"""

from pathlib import Path

from hcreg.files import RUN_FILE, plain, read_json, write_json
from hcreg.provenance import provenance


def open_run(folder, arguments, split):
    """Begin a run, or go on with one that was stopped.

    Parameters
    ----------
    folder : path-like
    arguments : dict
        Everything that decides the result: model, loss, schedule, seed, data. JSON values, `hcreg.files.plain`
        makes tuples and NumPy numbers so.
    split : dict of str to sequence of str
        Subject ids by part: training, validation, test.

    Returns
    -------
    dict
        The record of ``run.json``; its ``status`` is ``"running"`` or, where nothing is left to do, ``"finished"``.

    Raises
    ------
    ValueError
        If the folder holds a run of other arguments or of another split, naming the differences.
    """
    from hcreg.datasets.splits import split_checksum, write_split

    folder = Path(folder)
    path = folder / RUN_FILE
    arguments = plain(arguments)
    checksum = split_checksum(split)
    if path.is_file():
        record = read_run(folder)
        if record["split_checksum"] != checksum:
            raise ValueError(
                f"{folder} holds a run on another split (checksum {record['split_checksum']}, now {checksum}): its "
                "test images may be among your training images. "
                "Name another output folder (--output, --out), or remove this one."
            )
        unlike = differences(record["arguments"], arguments)
        if unlike:
            raise ValueError(
                f"{folder} holds a run of other arguments: {'; '.join(unlike)}. "
                "Use the same arguments to go on with it, name another output folder (--output, --out), or "
                "remove this one."
            )
        return record
    record = {"status": "running", "arguments": arguments, "split_checksum": checksum, **provenance()}
    write_split(folder / "split.csv", split)
    write_json(path, record)
    return read_run(folder)


def close_run(folder, record, **results):
    """Mark a run as finished and add what came of it.

    Parameters
    ----------
    folder : path-like
    record : dict
        As `open_run` returned it.
    **results
        Added to ``run.json``.
    """
    write_json(Path(folder) / RUN_FILE, {**record, **results, "status": "finished"})


def read_run(folder):
    """The record of a run folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If the folder is not a run, naming the run folders below it, if any.
    ValueError
        If ``run.json`` is damaged or lacks an entry.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        if path.parent.is_file():
            raise FileNotFoundError(f"{folder} is a file. Name the run folder it lies in: {path.parent.parent}.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}, so no run in it. Check its spelling.")
        below = sorted(str(found.parent) for found in Path(folder).glob("**/" + RUN_FILE))
        hint = f"Did you mean {' or '.join(below[:3])}?" if below else "A run folder is what training wrote."
        raise FileNotFoundError(f"{folder} is not a run folder: it has no {RUN_FILE}. {hint}")
    record = read_json(path)
    needed = ("status", "arguments", "split_checksum")
    missing = [name for name in needed if not isinstance(record, dict) or name not in record]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: it was not written by hcreg, or was cut off.")
    return record


def find_run(folder):
    """The one run folder at or below a folder.

    Parameters
    ----------
    folder : path-like
        A run folder, or a folder that holds exactly one.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If there are several, or the one is damaged.
    """
    folder = Path(folder)
    found = [folder] if (folder / RUN_FILE).is_file() else sorted(path.parent for path in folder.glob("**/" + RUN_FILE))
    if len(found) > 1:
        raise ValueError(f"{folder} holds {len(found)} runs; name one of them, such as {found[0]}.")
    folder = found[0] if found else folder
    read_run(folder)  # raises where there is none, saying what a run folder is
    return folder


def differences(before, now, besides=(), prefix=""):
    """In words, where two runs' arguments differ.

    Parameters
    ----------
    before, now : dict of JSON values
    besides : sequence of str
        Names that may differ, of nested ones with a dot: ``build_arguments.weights``.
    prefix : str
        Of the names, for nested dicts.

    Returns
    -------
    list of str
    """
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if f"{prefix}{name}" in besides:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, besides, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} was {old!r} and is now {new!r}")
    return found
