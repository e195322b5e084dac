"""A network of PyTorch in a process of its own, whose steps are timed on request."""

import json
import subprocess
from pathlib import Path

import numpy as np


class TorchPeer:
    """A process of PyTorch that times steps of the same network on the same arrays.

    Parameters
    ----------
    script : path-like
        One of ``peers/``: it takes a file of weights, a file of arrays and a number of threads, tells about itself in a
        line of JSON, and then answers each line of JSON by one.
    python : path-like
        A Python with PyTorch and NumPy.
    weights : dict of str ("layer/variable") to ndarray
    arrays : dict of str to ndarray
    threads : int
    folder : path-like
        Where weights and arrays are handed over.

    Raises
    ------
    RuntimeError
        If the process ends, with its last words.
    """

    def __init__(self, script, python, weights, arrays, threads, folder):
        self.folder = Path(folder)
        np.savez(self.folder / "weights.npz", **weights)
        np.savez(self.folder / "data.npz", **arrays)
        self.errors = open(self.folder / "errors.txt", "w+")  # noqa: SIM115
        command = [python, script, self.folder / "weights.npz", self.folder / "data.npz", threads]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.about = self._answer()

    def ask(self, variant, do, **details):
        """Have the process do something.

        Parameters
        ----------
        variant, do : str
            Which of its networks, and what, as the script has them.
        **details

        Returns
        -------
        list of float, or str
            Seconds of each call, losses, or a path.
        """
        print(json.dumps({"variant": variant, "do": do, **details}), file=self.process.stdin, flush=True)
        return self._answer()

    def array(self, variant, do):
        """Have the process compute an array.

        Parameters
        ----------
        variant, do : str

        Returns
        -------
        ndarray
        """
        return np.load(self.ask(variant, do, path=str(self.folder / f"{do}.npy")))

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.errors.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait(timeout=60)
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:]
        raise RuntimeError(
            f"the process of PyTorch ended: {' '.join(last) or 'without a word'}. --torch-python needs a Python with "
            "PyTorch and NumPy: python -m venv ENVIRONMENT; ENVIRONMENT/bin/pip install torch==2.13.0 numpy."
        )
