"""What is wrong with a data set: one problem, with its file, in words."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes
    ----------
    path : pathlib.Path
        The file or folder to look at.
    message : str
        What is wrong with it and what to do, without the path.
    kind : str
        What problems of one sort share, for counting them.
    """

    path: Path
    message: str
    kind: str = ""

    def __str__(self):
        return f"{self.path}: {self.message}"


def tried(path, kind, read, problems):
    """What a function gives; None, and a problem more, if it raises.

    Parameters
    ----------
    path : pathlib.Path
        The file that the problem is one of. An error's words may begin with it.
    kind : str
        The problem's.
    read : callable()
        Raises `ValueError` or `OSError` over what is wrong.
    problems : list of Problem
        Is added to.

    Returns
    -------
    object
    """
    try:
        return read()
    except (ValueError, OSError) as error:
        message = str(error).removeprefix(str(path)).lstrip(": ")  # a `Problem` names its file already
        problems.append(Problem(path, message, kind))
        return None
