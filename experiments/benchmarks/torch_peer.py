"""A network of PyTorch in a process of its own, whose steps are timed on request; and whether it is the same one."""

import json
import subprocess
from pathlib import Path

import keras
import numpy as np

LARGEST_DIFFERENCE = 1e-4
CHECKED_STEPS, CHECKED_SAMPLES = 3, 2


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


def weights_of(model):
    """All weights of a network by the names of layer and variable.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    dict of str ("layer/variable") to ndarray
    """
    return {
        f"{layer.name}/{weight.name}": np.asarray(weight)
        for layer in model.layers
        for weight in layer.weights
        if not isinstance(layer, keras.layers.Dropout)  # it has a seed
    }


def nudge(model):
    """Leave no weight at a value that hides a mistake, such as a bias of 0.

    Parameters
    ----------
    model : keras.Model
    """
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) == 1 and not isinstance(layer, keras.layers.Dropout):
                weight.assign(np.asarray(weight) + rng.uniform(-0.1, 0.1, weight.shape))


def require_same_network(model, peer, variant, inputs, *, found, ours, name, what, tolerance):
    """Refuse to compare two networks that are not the same: parameters, output, and losses of the first steps.

    Parameters
    ----------
    model : keras.Model
        Whose weights the peer has.
    peer : TorchPeer
    variant : str
    inputs : ndarray
    found : ndarray
        What the peer's network makes of them.
    ours : list of float
        Losses of `CHECKED_STEPS` steps on the first `CHECKED_SAMPLES` inputs, without dropout.
    name, what : str
        Of the builder and of its output, for messages.
    tolerance : float
        Of the losses after the first, relative.

    Returns
    -------
    float
        Largest difference of the outputs.

    Raises
    ------
    AssertionError
        A ratio of their times would mean nothing.
    """
    counted = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    if peer.about["parameters"] != counted:
        raise AssertionError(f"{name}() has {counted} parameters, PyTorch's network {peer.about['parameters']}.")
    difference = float(np.abs(found - model.predict_on_batch(inputs)).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise AssertionError(f"PyTorch's {what} ({variant}) differ from {name}()'s by {difference:.2g}.")
    theirs = peer.ask(variant, "losses", repeats=CHECKED_STEPS, batch=CHECKED_SAMPLES)
    if not (np.isclose(ours[0], theirs[0], rtol=1e-4) and np.allclose(ours, theirs, rtol=tolerance)):
        raise AssertionError(
            f"losses of the first steps differ: {ours} with {name}(), {theirs} with PyTorch ({variant})."
        )
    return difference
