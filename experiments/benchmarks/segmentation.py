"""How fast is `unet()` against the same network written directly in PyTorch, and what does its ellipse head cost?

python -m experiments.benchmarks.segmentation --torch-python ENVIRONMENT/bin/python

ENVIRONMENT has PyTorch and NumPy: ``python -m venv ENVIRONMENT; ENVIRONMENT/bin/pip install torch==2.13.0 numpy``.
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
from experiments.benchmarks.common import save, seconds_of
from experiments.benchmarks.torch_peer import CHECKED_SAMPLES, CHECKED_STEPS, TorchPeer, nudge, weights_of
from hcreg import losses, models
from hcreg.geometry import Ellipse

PEER = Path(__file__).parent / "peers" / "unet_torch.py"
GOAL = 0.9
LARGEST_LOSS_DIFFERENCE = 1e-2  # Keras does not correct Adam's epsilon for the bias of the first steps, PyTorch does
STEPS_PER_TURN = 2
DROPOUT_RATE = 0.5


class Peer(TorchPeer):
    """A process of PyTorch that times steps of the same network on the same arrays, see ``peers/unet_torch.py``.

    Parameters
    ----------
    python, weights, threads, folder
        As of `experiments.benchmarks.torch_peer.TorchPeer`.
    images, masks : ndarray of shape (batch, height, width, 1)
    """

    def __init__(self, python, weights, images, masks, threads, folder):
        arrays = {"images": images, "masks": masks, "dropout_rate": DROPOUT_RATE}
        super().__init__(PEER, python, weights, arrays, threads, folder)

    def mask(self, variant):
        """The masks that it predicts before any training.

        Parameters
        ----------
        variant : {"plain", "channels_last", "compiled"}

        Returns
        -------
        ndarray of shape (batch, height, width, 1)
        """
        return self.array(variant, "mask")


def built(input_shape, **arguments):
    """A compiled `unet` of which no weight has a value that hides a mistake, such as a bias of 0.

    Parameters
    ----------
    input_shape : tuple of int
    **arguments
        Of `hcreg.models.unet`.

    Returns
    -------
    keras.Model
    """
    model = models.unet(input_shape=input_shape, seed=0, **arguments)
    nudge(model)
    loss = {"mask": losses.Dice(), "hc_fraction": losses.RelativeError()}
    model.compile(keras.optimizers.Adam(1e-3), loss if arguments.get("head") == "ellipse" else losses.Dice())
    return model


def heads(input_shape, batch_size):
    """Arrays to train on: noise, and the masks of ellipses.

    Parameters
    ----------
    input_shape : tuple of int
    batch_size : int

    Returns
    -------
    images, masks : ndarray of shape (batch, height, width, 1)
    hc_fraction : ndarray of shape (batch, 1)
    """
    rng = np.random.default_rng(0)
    height, width = input_shape[:2]
    ellipses = [
        Ellipse.from_axes(width / 2, height / 2, width * rng.uniform(0.2, 0.3), height * rng.uniform(0.2, 0.3), 0.3)
        for _ in range(batch_size)
    ]
    masks = np.stack([ellipse.coverage((height, width)) for ellipse in ellipses])[..., None].astype(np.float32)
    spacing = 1 / width, 540 / 800 / height
    hc = np.array([[ellipse.circumference_mm(spacing)] for ellipse in ellipses], np.float32)
    images = (rng.standard_normal(masks.shape) + masks).astype(np.float32)
    return images, masks, hc


def first_losses(input_shape, images, masks):
    """Losses of the first steps of training without dropout, whose random masks no two frameworks share.

    Parameters
    ----------
    input_shape : tuple of int
    images, masks : ndarray
        Of which the first few are used.

    Returns
    -------
    list of float
    """
    model = built(input_shape, dropout_rate=0.0)
    few = images[:CHECKED_SAMPLES], masks[:CHECKED_SAMPLES]
    return [float(model.train_on_batch(*few)) for _ in range(CHECKED_STEPS)]


def require_same_network(model, peer, images, ours, variant):
    """Compare parameters, masks and the losses of the first steps with PyTorch's.

    Parameters
    ----------
    model : keras.Model
        Whose weights the peer has.
    peer : Peer
    images : ndarray
    ours : list of float
        As `first_losses` gives them.
    variant : str

    Returns
    -------
    float
        Largest difference of a mask's pixel.

    Raises
    ------
    AssertionError
        If it is not the same network, loss and optimiser: a ratio of their times would mean nothing.
    """
    return torch_peer.require_same_network(
        model,
        peer,
        variant,
        images,
        found=peer.mask(variant),
        ours=ours,
        name="unet",
        what="masks",
        tolerance=LARGEST_LOSS_DIFFERENCE,
    )


def compare(input_shape, options, folder):
    """Time both networks in turns.

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
    images, masks, hc = heads(input_shape, options.batch_size)
    model, with_ellipse = built(input_shape), built(input_shape, head="ellipse")
    variants = ["plain", "channels_last", *(["compiled"] if options.compile else [])]
    peer = Peer(options.torch_python, weights_of(model), images, masks, options.threads, folder)
    try:
        ours = first_losses(input_shape, images, masks)
        differences = [require_same_network(model, peer, images, ours, variant) for variant in variants]
        steps = {
            ("unet", "train"): lambda: model.train_on_batch(images, masks),
            ("unet", "predict"): lambda: model.predict_on_batch(images),
            ("ellipse", "train"): lambda: with_ellipse.train_on_batch(images, {"mask": masks, "hc_fraction": hc}),
        }
        turns = {key: partial(seconds_of, step, STEPS_PER_TURN) for key, step in steps.items()}
        for key in itertools.product(variants, ("train", "predict")):
            turns[key] = partial(peer.ask, *key, repeats=STEPS_PER_TURN)
        found = {key: [] for key in turns}
        for turn in turns.values():  # the first compiles, and fills pools of memory
            turn()
        for _ in range(options.rounds):
            for key, turn in turns.items():
                found[key].append(statistics.mean(turn()))
    finally:
        peer.close()
    median = {key: statistics.median(seconds) for key, seconds in found.items()}
    size = f"{input_shape[0]} x {input_shape[1]}, batch {options.batch_size}"
    goals = []
    for do, called in (("train", "training step"), ("predict", "inference")):
        best = min(("plain", "channels_last"), key=lambda variant: median[variant, do])
        ratios = sorted(ours / theirs for ours, theirs in zip(found["unet", do], found[best, do]))
        ratio = median["unet", do] / median[best, do]
        milliseconds = {name: round(1000 * seconds, 1) for (name, done), seconds in median.items() if done == do}
        goals.append(
            {
                "goal": f"unet() over the same network in PyTorch, {called}, {size}, <= {GOAL}",
                "measured": ratio,
                "met": ratio <= GOAL,
                "explanation": f"medians of {options.rounds} turns, {median['unet', do] * 1000:.0f} against "
                f"{median[best, do] * 1000:.0f} ms ({best}); turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f}",
                "median_ms": milliseconds,
                "peer": peer.about,
                "largest_difference_of_masks": max(differences),
            }
        )
    ratio = median["ellipse", "train"] / median["unet", "train"]
    goals.append(
        {
            "goal": f'unet(head="ellipse") over unet(), training step, {size} (no goal set)',
            "measured": ratio,
            "met": True,
            "explanation": f"Dice and relative error of the circumference, {median['ellipse', 'train'] * 1000:.0f} ms",
        }
    )
    return goals


def main(arguments=None):
    """Measure and write results/segmentation.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.segmentation")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch and NumPy")
    parser.add_argument("--sizes", nargs="+", default=["224x224", "128x192"], help="HEIGHTxWIDTH of the input")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well; it takes minutes")
    options = parser.parse_args(arguments)
    # read when TensorFlow starts its first operation, so not yet
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads)
    goals = []
    for size in options.sizes:
        height, width = (int(side) for side in size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            goals += compare((height, width, 1), options, folder)
    save("segmentation", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
