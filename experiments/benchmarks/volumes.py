"""How fast are cardiac volumes read, and their networks; is `vgg3d()` faster than the same network in PyTorch?

python -m experiments.benchmarks.volumes --torch-python ENVIRONMENT/bin/python

``--data ACDC`` reads the real cohort in place of a synthetic one. ENVIRONMENT has PyTorch and NumPy:
``python -m venv ENVIRONMENT; ENVIRONMENT/bin/pip install torch==2.13.0 numpy``.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import keras
import numpy as np

from experiments.benchmarks import torch_peer
from experiments.benchmarks.common import in_turns, save, seconds_of
from experiments.benchmarks.torch_peer import CHECKED_SAMPLES, CHECKED_STEPS, TorchPeer, nudge, weights_of
from hcreg import models
from hcreg.cardiac_volumes.recipes import SLICE_FRAME
from hcreg.datasets import synthetic
from hcreg.datasets.acdc import ACDC
from hcreg.datasets.volume_cache import FramePreparation, PaperPreparation, VolumeCache

PEER = Path(__file__).parent / "peers" / "vgg3d_torch.py"
VARIANTS = ("plain", "channels_last")
STEP_GOAL = 0.8
PATIENTS_GOAL = 50.0
LOADING_GOAL = 10.0
LOADING_ROUNDS = 3
PREPARATIONS = {"frame in mm": FramePreparation(SLICE_FRAME), "the paper's crop": PaperPreparation()}
# The first steps are wild at 224 x 224 x 9: losses grow by orders of magnitude and fall again. Besides, Keras does not
# correct Adam's epsilon for the bias of the first steps, PyTorch does.
LARGEST_LOSS_DIFFERENCE = 1.5e-2
DROPOUT_RATE = 0.5


class Peer(TorchPeer):
    """A process of PyTorch that times steps of the same network on the same arrays, see ``peers/vgg3d_torch.py``.

    Parameters
    ----------
    python, weights, threads, folder
        As of `experiments.benchmarks.torch_peer.TorchPeer`.
    stacks : ndarray of shape (batch, height, width, slices, 1)
    volumes : ndarray of shape (batch, outputs)
    """

    def __init__(self, python, weights, stacks, volumes, threads, folder):
        arrays = {"stacks": stacks, "volumes": volumes, "dropout_rate": DROPOUT_RATE}
        super().__init__(PEER, python, weights, arrays, threads, folder)

    def output(self, variant):
        """The volumes that it predicts before any training.

        Parameters
        ----------
        variant : {"plain", "channels_last"}

        Returns
        -------
        ndarray of shape (batch, outputs)
        """
        return self.array(variant, "output")


def built(input_shape, dropout_rate=DROPOUT_RATE):
    """A compiled `vgg3d` of which no weight has a value that hides a mistake, such as a bias of 0.

    Parameters
    ----------
    input_shape : tuple of int
    dropout_rate : float

    Returns
    -------
    keras.Model
    """
    model = models.vgg3d(input_shape=input_shape, dropout_rate=dropout_rate, seed=0)
    nudge(model)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def stacks_and_volumes(input_shape, batch_size):
    """Arrays to train on: noise, and numbers from 0 to 1.

    Parameters
    ----------
    input_shape : tuple of int
    batch_size : int

    Returns
    -------
    stacks : ndarray of shape (batch, *input_shape)
    volumes : ndarray of shape (batch, 3)
    """
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((batch_size, *input_shape)).astype(np.float32),
        rng.uniform(0.0, 1.0, (batch_size, 3)).astype(np.float32),
    )


def first_losses(input_shape, stacks, volumes):
    """Losses of the first steps of training without dropout, whose random masks no two frameworks share.

    Parameters
    ----------
    input_shape : tuple of int
    stacks, volumes : ndarray

    Returns
    -------
    list of float
    """
    fresh = built(input_shape, dropout_rate=0.0)
    few = stacks[:CHECKED_SAMPLES], volumes[:CHECKED_SAMPLES]
    return [float(fresh.train_on_batch(*few)) for _ in range(CHECKED_STEPS)]


def require_same_network(model, peer, stacks, ours, variant):
    """Refuse to compare two networks that are not the same: parameters, output, and losses of three steps.

    Parameters
    ----------
    model : keras.Model
    peer : Peer
    stacks : ndarray
    ours : list of float
        As of `first_losses`.
    variant : str

    Returns
    -------
    float
        Largest difference of the volumes, as fractions.

    Raises
    ------
    AssertionError
    """
    return torch_peer.require_same_network(
        model,
        peer,
        variant,
        stacks,
        found=peer.output(variant),
        ours=ours,
        name="vgg3d",
        what="volumes",
        tolerance=LARGEST_LOSS_DIFFERENCE,
    )


def against_pytorch(input_shape, options, folder):
    """Time `vgg3d` and the same network in PyTorch in turns.

    Parameters
    ----------
    input_shape : tuple of int
    options : argparse.Namespace
    folder : path-like

    Returns
    -------
    list of dict
        Goals, as `experiments.benchmarks.common.save` takes them.
    """
    stacks, volumes = stacks_and_volumes(input_shape, max(options.batch_sizes))
    model = built(input_shape)
    peer = Peer(options.torch_python, weights_of(model), stacks, volumes, options.threads, folder)
    try:
        ours = first_losses(input_shape, stacks, volumes)
        differences = [require_same_network(model, peer, stacks, ours, variant) for variant in VARIANTS]
        turns = {}
        for batch_size in options.batch_sizes:
            few = stacks[:batch_size], volumes[:batch_size]
            turns["vgg3d", "train", batch_size] = partial(seconds_of, partial(model.train_on_batch, *few), 1)
            turns["vgg3d", "predict", batch_size] = partial(seconds_of, partial(model.predict_on_batch, few[0]), 1)
            for variant, do in itertools.product(VARIANTS, ("train", "predict")):
                turns[variant, do, batch_size] = partial(peer.ask, variant, do, repeats=1, batch=batch_size)
        for turn in turns.values():  # the first compiles, and fills pools of memory
            turn()
        found = {key: [] for key in turns}
        for number in range(options.rounds):  # forwards and backwards, so that nobody always comes after the same
            for key in sorted(turns, reverse=number % 2 == 1):
                found[key] += turns[key]()
    finally:
        peer.close()
    return [
        _goal_against_pytorch(found, do, batch_size, input_shape, options.rounds, peer.about, max(differences))
        for batch_size in options.batch_sizes
        for do in ("train", "predict")
    ]


def _goal_against_pytorch(found, do, batch_size, input_shape, rounds, about, difference):
    seconds = {name: found[name, do, batch_size] for name in ("vgg3d", *VARIANTS)}
    median = {name: statistics.median(each) for name, each in seconds.items()}
    best = min(VARIANTS, key=median.get)
    ratio = median["vgg3d"] / median[best]
    ratios = sorted(ours / theirs for ours, theirs in zip(seconds["vgg3d"], seconds[best]))
    size = f"{' x '.join(map(str, input_shape[:3]))}, batch {batch_size}"
    called, wanted = ("training step", f"<= {STEP_GOAL}") if do == "train" else ("inference", "(no goal set)")
    return {
        "goal": f"vgg3d() over the same network in PyTorch, {called}, {size}, {wanted}",
        "measured": ratio,
        "met": do == "predict" or ratio <= STEP_GOAL,
        "explanation": f"medians of {rounds} turns, {median['vgg3d'] * 1000:.0f} against {median[best] * 1000:.0f} ms "
        f"({best}); turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f}",
        "median_ms": {name: round(1000 * value, 1) for name, value in median.items()},
        "peer": about,
        "largest_difference_of_volumes": difference,
    }


def inference(input_shape, options):
    """Patients a second through the 2-D network, from arrays in memory to volumes.

    Parameters
    ----------
    input_shape : tuple of int
        Of a stack, ``(height, width, slices, 1)``.
    options : argparse.Namespace

    Returns
    -------
    list of dict
    """
    network = models.vgg2d(input_shape=input_shape[:3], seed=0)
    rng = np.random.default_rng(0)
    batches = {
        f"batch {size}": rng.standard_normal((size, *input_shape[:3])).astype(np.float32)
        for size in options.inference_batch_sizes
    }
    turns = {name: partial(network.predict_on_batch, stacks) for name, stacks in batches.items()}
    for turn in turns.values():
        turn()
    found = in_turns(turns, options.rounds)
    rates = {name: len(batches[name]) / statistics.median(seconds) for name, seconds in found.items()}
    best = max(rates, key=rates.get)
    size = " x ".join(map(str, input_shape[:3]))
    return [
        {
            "goal": f"patients a second through vgg2d(), {size}, >= {PATIENTS_GOAL:.0f}",
            "measured": rates[best],
            "met": rates[best] >= PATIENTS_GOAL,
            "explanation": f"medians of {options.rounds} turns; "
            + ", ".join(f"{name}: {rate:.1f}" for name, rate in rates.items()),
        }
    ]


def loading(input_shape, options):
    """Patients a second, both phases, from files to prepared stacks: at first, and when their content is known.

    Parameters
    ----------
    input_shape : tuple of int
        Not looked at: a cohort is prepared as the protocols of `hcreg.cardiac_volumes` say.
    options : argparse.Namespace

    Returns
    -------
    list of dict
    """
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = synthetic.cardiac_volumes(Path(folder) / "data", options.patients, seed=0)
        dataset = ACDC(data)
        return [_loading(name, dataset, Path(folder) / name, options) for name in PREPARATIONS]


def _loading(name, dataset, folder, options):
    num_patients = len(dataset.patients)

    def read():
        VolumeCache(dataset, PREPARATIONS[name], folder, num_workers=options.threads)

    (first,) = seconds_of(read, 1)
    again = statistics.median(seconds_of(read, LOADING_ROUNDS))
    kind = "synthetic" if options.data is None else "real"
    return {
        "goal": f"patients a second, files to stacks, {name}, after the first read, >= {LOADING_GOAL:.0f}",
        "measured": num_patients / again,
        "met": num_patients / again >= LOADING_GOAL,
        "explanation": f"{num_patients} {kind} patients, both phases; median of {LOADING_ROUNDS} reads; the first read "
        f"{num_patients / first:.1f} a second",
    }


def main(arguments=None):
    """Measure and write results/volumes.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.volumes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch and NumPy")
    parser.add_argument("--size", default="224x224x9", help="HEIGHTxWIDTHxSLICES of a stack")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[2, 8], help="of vgg3d against PyTorch")
    parser.add_argument("--inference-batch-sizes", nargs="+", type=int, default=[1, 8, 16, 32], help="of vgg2d")
    parser.add_argument("--data", type=Path, help="ACDC folder to read; by default a synthetic cohort is made")
    parser.add_argument("--patients", type=int, default=20, help="of the synthetic cohort")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    # read when TensorFlow starts its first operation, so not yet
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads)
    input_shape = (*(int(side) for side in options.size.split("x")), 1)
    goals = []
    for part in options.parts:
        goals += PARTS[part](input_shape, options)
    save("volumes", goals)
    return 0


def _against_pytorch(input_shape, options):
    with tempfile.TemporaryDirectory() as folder:
        return against_pytorch(input_shape, options, folder)


PARTS = {"pytorch": _against_pytorch, "inference": inference, "loading": loading}


if __name__ == "__main__":
    sys.exit(main())
