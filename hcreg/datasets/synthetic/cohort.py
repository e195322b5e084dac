"""A folder of synthetic data: whose it is, whether it is whole, and how what is missing is drawn."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from hcreg.files import read_json, write_json
from hcreg.progress import progress_bar

FILE = "cohort.json"

# A temporary file older than this belongs to a call that was killed.
_STALE_S = 60


def is_synthetic(root):
    """Whether a folder was drawn by one of this package's functions, in whichever data set's layout.

    Parameters
    ----------
    root : path-like

    Returns
    -------
    bool
    """
    return (Path(root) / FILE).is_file()


def checked_count(name, value, low, high=None, reason=""):
    """Refuse what is no whole number of a range.

    Parameters
    ----------
    name : str
        For the message.
    value : object
    low, high : int or None
        None where there is no limit.
    reason : str
        Of the limits, for the message.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If it is no whole number, which True is not.
    ValueError
        If it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number. Received: {value!r} of type {type(value).__name__}.")
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {limits}. Received: {value}.{reason and f' {reason}'}")
    return int(value)


def claim(root, arguments):
    """Make sure that a folder is this cohort's.

    Parameters
    ----------
    root : pathlib.Path
        Made if absent.
    arguments : dict of JSON values
        What decides every byte of the cohort.

    Returns
    -------
    bool
        Whether the cohort is marked complete.

    Raises
    ------
    ValueError
        If the folder holds another cohort.
    FileExistsError
        If it is a file, or holds other files.
    """
    record = root / FILE
    if record.is_file():
        found = read_json(record)
        found = found if isinstance(found, dict) else {}
        other = [
            f"{name} is {found.get(name)!r} there and {value!r} here"
            for name, value in arguments.items()
            if found.get(name) != value
        ]
        if other:
            raise ValueError(
                f"{root} holds another synthetic cohort: {'; '.join(other)} ({record}). "
                "Give another folder, or remove this one first."
            )
        remove_stale(root)
        return found.get("complete") is True
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} should be a folder to write the cohort into, but is a file. Give another path.")
    if root.is_dir():
        foreign = sorted(path.name for path in root.iterdir() if not path.match(f".{FILE}.*.part"))
        if foreign:
            raise FileExistsError(
                f"{root} is not empty and holds no {FILE} of a synthetic cohort (it has {foreign[0]}"
                f"{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}); nothing was written. "
                "Give an empty or a new folder."
            )
    write_json(record, {**arguments, "complete": False})
    return False


def complete(root, arguments):
    """Mark a cohort as complete: every file of it is written."""
    write_json(root / FILE, {**arguments, "complete": True})


def remove_stale(root):
    """Remove half-written files of a killed call, anywhere in the folder; young ones may be another call's of now."""
    for leftover in root.rglob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _STALE_S:
                leftover.unlink()


def is_there(path):
    """Whether a file is, and is not empty."""
    return path.is_file() and path.stat().st_size > 0


def draw_all(draw_one, items, num_workers, title):
    """Draw what is missing, with a progress bar.

    Parameters
    ----------
    draw_one : callable
        Draws one item and writes its files.
    items : sequence
    num_workers : int
        Threads: nearly all the time is spent in NumPy and OpenCV, which let other threads run; and unlike processes
        they need no guard in the caller's script.
    title : str
        Of the bar.
    """
    with progress_bar() as progress, ThreadPoolExecutor(num_workers) as pool:
        task = progress.add_task(title, total=len(items))
        futures = [pool.submit(draw_one, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(task)
        except BaseException:
            # Ctrl-C or a full disk: stop at the next item instead of drawing all that are left.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
