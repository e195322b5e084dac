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
