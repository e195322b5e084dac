"""Files written whole or not at all: a reader never finds half of one, and a full disk leaves the last one intact."""

import contextlib
import csv
import glob
import json
import os
from pathlib import Path

import numpy as np

RUN_FILE = "run.json"  # record of a training, in its folder


@contextlib.contextmanager
def written_whole(path, suffix=""):
    """Write a file beside its final place, then move it there in one step.

    Parameters
    ----------
    path : path-like
        Where the file shall be.
    suffix : str
        Ending of the temporary file, for writers that look at it.

    Yields
    ------
    pathlib.Path
        Write here. If the block fails, this is removed and `path` keeps what it held.

    Raises
    ------
    OSError
        If the disk is full or not writable, naming `path` and saying that the former file is intact.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}{suffix or '.part'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _to_disk(partial)
        os.replace(partial, path)
        with contextlib.suppress(OSError):  # network and FUSE folders refuse it; the file itself is on disk already
            _to_disk(path.parent)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror or error}); "
            + ("the file of before is intact" if path.exists() else "no such file is left behind")
            + ". Free some disk space, or check the folder's permissions, and run the same command again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_leftovers(path):
    """Remove what a killed process left beside a file when it was writing it with `written_whole`.

    Parameters
    ----------
    path : path-like
        The file; call this only where no other process writes it now.
    """
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file whole.

    Parameters
    ----------
    path : path-like
    text : str
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write a JSON file whole.

    Parameters
    ----------
    path : path-like
    value : JSON-like
        Goes through `plain`.
    """
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Read a JSON file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    JSON-like

    Raises
    ------
    ValueError
        If it is not JSON, naming the file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}). Restore it, or remove its folder.") from error


def write_rows(path, rows):
    """Write a table as CSV, whole.

    Parameters
    ----------
    path : path-like
    rows : list of dict
        Of the same keys, the columns. Numbers are written so that reading gives them back exactly; None and NaN are
        empty cells.
    """
    with written_whole(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


TEXT_COLUMNS = ("subject_id", "examination_id", "patient_id", "phase", "group", "failure", "failure_original")
INTEGER_COLUMNS = ("fold", "trimester", "epoch")


def read_rows(path, text=TEXT_COLUMNS, integers=INTEGER_COLUMNS):
    """Read a table that `write_rows` wrote.

    Parameters
    ----------
    path : path-like
    text, integers : sequence of str
        Columns that hold text and whole numbers; the others hold floats, NaN where empty.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If a cell is not a number where one is due, or a line has more or fewer cells than the header, naming file,
        line and column.
    """
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            row = {}
            for name, cell in cells.items():
                if name is None or cell is None:
                    raise ValueError(
                        f"{path}, line {reader.line_num}: "
                        + ("more cells than the header has" if name is None else f"ends before column {name!r}")
                        + ". Restore the file, or remove it and run its row again."
                    )
                try:
                    if name in text:
                        row[name] = cell
                    elif name in integers:
                        row[name] = int(cell)
                    else:
                        row[name] = float(cell) if cell else float("nan")
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {reader.line_num}: column {name!r} should hold a number. Received: {cell!r}. "
                        "Restore the file, or remove it and run its row again."
                    ) from error
            rows.append(row)
    return rows


def plain(value):
    """A value as JSON knows it.

    Parameters
    ----------
    value : JSON-like
        May hold NumPy scalars and arrays, tuples, keys that are not text, and numbers that are not finite.

    Returns
    -------
    JSON-like
        Of dict, list, str, bool, int, finite float and None; NaN and infinity become None.

    Examples
    --------
    >>> plain({"shape": (2, 3), 1: np.float32("nan")})
    {'shape': [2, 3], '1': None}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cell(value):
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else repr(float(value))
    return "" if value is None else value
