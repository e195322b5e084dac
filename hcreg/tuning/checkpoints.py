"""Where the files of trials go: a folder that the workers share, or the store itself."""

import contextlib
import hashlib
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
        self._turns = {}

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
        # With the attempt in its name a worker that lost the trial cannot write over its successor's file. Two take
        # turns: the one on record stays whole until the next is on record, whenever this is killed.
        key = (lease.trial_id, lease.attempt, name)
        turn = self._turns.get(key, 0)
        file_name = f"{name}_{lease.attempt}{'b' * turn}{_ENDINGS.get(name, '')}"
        path = None if self.folder is None else self._write(self._folder_of(lease.number) / file_name, content)
        is_held = self.store.save_artifact(lease, name, content, path)
        self._turns = {key: 1 - turn, **{k: v for k, v in self._turns.items() if k[:2] == key[:2] and k != key}}
        return is_held

    def _write(self, path, content):
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
        if self.folder is None:
            return
        with contextlib.suppress(OSError):  # a folder that is lost holds up nothing
            for path in self._folder_of(number).glob(f"state_*{_ENDINGS['state']}"):
                path.unlink(missing_ok=True)

    def _folder_of(self, number):
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in self.study)[:100]
        if safe != self.study or not safe.strip("."):  # two names must not share a folder, nor one leave it
            safe = f"{safe.strip('.')}_{hashlib.sha256(self.study.encode()).hexdigest()[:8]}"
        return self.folder / safe / f"trial_{number:04d}"
