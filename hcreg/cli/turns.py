"""Processes that take turns: what several terminals start at the same moment is done once."""

import contextlib
import sys
from pathlib import Path


@contextlib.contextmanager
def only_one(path, reason):
    """Let one process in at a time.

    Parameters
    ----------
    path : path-like
        A file that is locked for so long; a process that dies lets go of it.
    reason : str
        What others are told that they wait for.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{reason} by another process; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: whole files are still put in place in one step
        yield
