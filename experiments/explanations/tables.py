"""A results table of which parts are computed anew, each as one long run allows."""

import csv
import shlex
import sys
from pathlib import Path

from hcreg.files import read_json, write_json, write_rows
from hcreg.provenance import provenance

RESULTS = Path(__file__).parent / "results"


class Table:
    """``<name>.csv``, and ``<name>.json`` that says of each part with what it was computed.

    Parameters
    ----------
    name : str
        Of the script.
    folder : path-like, optional
        By default results beside this module.
    key : str
        Column that names the part that a row belongs to.
    """

    def __init__(self, name, folder=None, key="model"):
        self._name, self._key = name, key
        self._path = (RESULTS if folder is None else Path(folder)) / f"{name}.csv"

    def replace(self, part, rows):
        """Write the rows of one part in the place of those of before, and keep the others.

        Parameters
        ----------
        part : str
        rows : list of dict
            Of the same columns.
        """
        before = read(self._path) if self._path.is_file() else []
        place = next((number for number, row in enumerate(before) if row[self._key] == part), len(before))
        after = [row for row in before[place:] if row[self._key] != part]
        write_rows(self._path, [*before[:place], *rows, *after])
        about = self._path.with_suffix(".json")
        known = read_json(about) if about.is_file() else {}
        arguments = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
        command = shlex.join(["python", "-m", f"experiments.explanations.{self._name}", *arguments])
        write_json(about, {**known, part: {"command": command, **provenance()}})


def read(path):
    """A table as written, cells as text.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of dict of str to str
    """
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
