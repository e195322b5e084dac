"""What data sets that are read from their folder as downloaded have in common: records, and what is wrong with them."""

from collections.abc import Sequence
from pathlib import Path

from hcreg.datasets.problems import Problem

_NUM_SHOWN = 5


class FolderDataset(Sequence):
    """Records of a data set's folder; a subclass reads them, and checks their files.

    Parameters
    ----------
    root : str or path-like
    split : {"train", "test"}
    strict : bool
        Whether to raise at once when something is wrong. False leaves out what is faulty and keeps the reasons.

    Attributes
    ----------
    FOLDERS : dict of str to str
        A subclass's: each split's folder.
    MISSING : set of str
        A subclass's: kinds of problems that are a `FileNotFoundError`, not a `ValueError`.

    Raises
    ------
    FileNotFoundError, ValueError
        The first problems of one kind, with their files, and how many there are in all.
    """

    FOLDERS: dict
    MISSING: set

    def __init__(self, root, split="train", strict=True):
        if split not in self.FOLDERS:
            raise ValueError(f"split must be 'train' or 'test'. Received: {split!r}.")
        self.root = Path(root)
        self.split = split
        self._problems = []
        self._records = list(self._read())
        if strict and self._problems:
            raise self._error()

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    @property
    def subjects(self):
        """Subject ids in the order of the records."""
        return [record.subject_id for record in self._records]

    @classmethod
    def check_folder(cls, root, split=None, on_progress=None):
        """List all that is wrong with a folder, however broken.

        Parameters
        ----------
        root : str or path-like
        split : {"train", "test"}, optional
            By default both, or the one of them that is there.
        on_progress : callable(num_done, num_records), optional
            Called after each record.

        Returns
        -------
        list of Problem
        """
        splits = [split] if split else [name for name in cls.FOLDERS if cls._is_there(Path(root), name)] or ["train"]
        return [p for name in splits for p in cls(root, name, strict=False).check(on_progress)]

    def _error(self):
        first = [problem for problem in self._problems if problem.kind == self._problems[0].kind]
        lines = [str(problem) for problem in first[:_NUM_SHOWN]]
        if len(self._problems) > len(lines):
            lines.append(f"{len(self._problems)} problems in all; `hcreg check {self.root}` lists every one.")
        return (FileNotFoundError if first[0].kind in self.MISSING else ValueError)("\n".join(lines))

    def _problem(self, path, kind, message):
        self._problems.append(Problem(Path(path), message, kind))
