"""A process of another framework that answers requests, so that its pool of threads stays out of our measurements."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np

SECONDS_TO_END = 20


class Process:
    """A script of ``peers`` running under a Python of its own.

    Parameters
    ----------
    python : path-like
    script : path-like
    arguments : sequence
        Of the script.
    folder : path-like
        Where its errors and the arrays that it hands over go.
    name : str
        Of the framework, for messages.
    needs : str
        What its Python needs, for the error where it ends.

    Attributes
    ----------
    about : dict
        Versions and threads, the first thing that it says.

    Raises
    ------
    RuntimeError
        If the process ends, with its last words.
    """

    def __init__(self, python, script, arguments, folder, name, needs):
        self.name, self.needs = name, needs
        self.array = Path(folder) / f"{Path(script).stem}.npy"
        self.errors = open(self.array.with_suffix(".errors"), "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [str(word) for word in (python, script, *arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.about = self._answer()

    def ask(self, **request):
        """Have the process do something, see its script.

        Parameters
        ----------
        **request
            JSON values.

        Returns
        -------
        JSON value
        """
        with suppress(BrokenPipeError):  # of a process that has ended, whose last words are told instead
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def ask_array(self, **request):
        """Have the process save what comes of something.

        Parameters
        ----------
        **request
            JSON values.

        Returns
        -------
        ndarray

        Raises
        ------
        RuntimeError
            If it answers that it failed.
        """
        answer = self.ask(path=str(self.array), **request)
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name} failed at {request}: {answer}")
        return np.load(self.array)

    def close(self):
        """End the process, at once if it is in the middle of an answer."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait(timeout=SECONDS_TO_END)
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:]
        raise RuntimeError(f"the process of {self.name} ended: {' '.join(last) or 'without a word'}. {self.needs}")
