"""Where the files of trials go: a folder that the workers share, or the store itself."""

import sys
from pathlib import Path

from hcreg.files import written_whole
from hcreg.tuning.reader import check_content

IN_STORE = "store"
_ENDINGS = {"state": ".npz", "model": ".weights.h5"}


class Checkpoints:
    """Saves and loads the files of trials.

    Parameters
    ----------
    store : TrialStore
    study : str
    place : path-like or "store"
        A folder that every worker reaches, perhaps by another path; or the database.
    """

    def __init__(self, store, study, place=IN_STORE):
        self.store, self.study = store, study
        self.folder = None if place == IN_STORE else Path(place).absolute()
        self._has_warned = False

    def save(self, lease, name, content):
        """Save a file of a trial; where the folder is lost, in the store.

        Parameters
        ----------
        lease : hcreg.tuning.records.Lease
        name : {"state", "model"} or str
        content : bytes-like

        Returns
        -------
        bool
            False where the trial was taken over.
        """
        path = None if self.folder is None else self._write(lease, name, content)
        return self.store.save_artifact(lease, name, content, path)

    def _write(self, lease, name, content):
        # With the attempt in its name: a worker that lost the trial cannot write over its successor's file.
        path = self._folder_of(lease.number) / f"{name}_{lease.attempt}{_ENDINGS.get(name, '')}"
        try:
            with written_whole(path) as partial:
                partial.write_bytes(content)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                print(f"{error}\nThe files of trials go into the database for now.", file=sys.stderr)
            return None
        self._has_warned = False
        return str(path)

    def load(self, number, name):
        """Content of a file of a trial.

        Parameters
        ----------
        number : int
        name : str

        Returns
        -------
        bytes or None
            None where none was saved.

        Raises
        ------
        FileNotFoundError
            If it was saved, and lies neither where it was written nor in this worker's folder.
        ValueError
            If it is not what was saved.
        """
        record = self.store.find_artifact(self.study, number, name)
        if record is None:
            return None
        if record["path"] is None:
            return self.store.load_artifact(self.study, number, name)
        written = Path(record["path"])
        here = [written] if self.folder is None else [self._folder_of(number) / written.name, written]
        for path in here:
            if path.is_file():
                content = path.read_bytes()
                check_content(content, record, str(path))
                return content
        raise FileNotFoundError(
            f"The {name} of trial {number} of {self.study!r} was written to {written}, and is not there"
            + ("" if self.folder is None else f", nor in {self.folder}")
            + ". Mount the folder that the workers share, or name it."
        )

    def remove_states(self, number):
        """Remove what only a resume needs, once a trial is finished.

        Parameters
        ----------
        number : int
        """
        if self.folder is not None:
            for path in self._folder_of(number).glob(f"state_*{_ENDINGS['state']}"):
                path.unlink(missing_ok=True)

    def _folder_of(self, number):
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in self.study)
        return self.folder / safe / f"trial_{number:04d}"
