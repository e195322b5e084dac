"""Is `usegnet()` faster than the same network in PyTorch, what do attention and patches cost, how much memory it needs.

python -m experiments.benchmarks.usegnet --torch-python ENVIRONMENT/bin/python

ENVIRONMENT has PyTorch and NumPy: ``python -m venv ENVIRONMENT; ENVIRONMENT/bin/pip install torch==2.13.0 numpy``.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import keras
import numpy as np

from experiments.benchmarks.common import in_turns, save, seconds_of
from experiments.benchmarks.torch_peer import CHECKED_STEPS, TorchPeer, nudge, require_same_network
from hcreg import backend, losses, models
from hcreg.head_volumes import Patches
from hcreg.models.usegnet import ABLATIONS
from hcreg.preprocessing.label_pyramids import pyramid_targets
from hcreg.preprocessing.patches import Tiles, cut_patch

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).parent / "peers" / "usegnet_torch.py"
VARIANTS = ("plain", "channels_last")
GOAL = 0.6
STITCHING_GOAL = 1.2
BASE = "USegNet-DS"
WITH_ATTENTION = ("USegNet-DS-UAM", "USegNet-DS-SAM", "USegNet-DS-HAS")
LARGEST_LOSS_DIFFERENCE = 1e-2
MEMORY_STEPS = 2
# How a training step may save memory: the precision, and whether attention is computed anew.
MEMORY = {
    "float32": ("float32", False),
    "rematerialised": ("float32", True),
    "mixed_bfloat16": ("mixed_bfloat16", False),
    "mixed_bfloat16, rematerialised": ("mixed_bfloat16", True),
}
SMOKE = {
    "size": "16x8x16",
    "memory_size": "16x8x16",
    "filters": 2,
    "matrix": 16,
    "volume": "16x8x24",
    "patch": 8,
    "rounds": 1,
}


def built(input_shape, filters, **arguments):
    """A compiled `usegnet` of which no weight has a value that hides a mistake, such as a bias of 0.

    Parameters
    ----------
    input_shape : tuple of int
    filters : int
    **arguments
        Of `hcreg.models.usegnet`.

    Returns
    -------
    keras.Model
    """
    model = models.usegnet(input_shape=input_shape, filters=filters, seed=0, **arguments)
    nudge(model)
    model.compile(keras.optimizers.Adam(1e-5), **losses.deep_supervision())
    return model


def volume_and_targets(input_shape):
    """What to train on: noise that is brighter within a ball, and the ball.

    Parameters
    ----------
    input_shape : tuple of int

    Returns
    -------
    volume : ndarray of shape (1, *input_shape)
    targets : dict of str to ndarray of shape (1, ..., 2)
        By output.
    """
    sides = np.array(input_shape[:3]).reshape(3, 1, 1, 1)
    ball = ((((np.indices(input_shape[:3]) + 0.5) / sides - 0.5) ** 2).sum(0) <= 0.3**2).astype(np.uint8)
    noise = np.random.default_rng(0).uniform(size=ball.shape)
    volume = (0.5 * (noise + ball)).astype(np.float32)
    return volume[None, ..., None], {
        name: target[None] for name, target in pyramid_targets(ball, vanishing="accept").items()
    }


def weights_by_path(model):
    """All weights of a network by their paths, which tell the convolutions of an attention module apart.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    dict of str ("layer/[convolution/]variable") to ndarray
    """
    return {weight.path: np.asarray(weight) for weight in model.weights}


class Peer(TorchPeer):
    """A process of PyTorch that times steps of the same network on the same arrays, see ``peers/usegnet_torch.py``.

    Parameters
    ----------
    python, weights, threads, folder
        As of `experiments.benchmarks.torch_peer.TorchPeer`.
    volume : ndarray of shape (batch, height, width, slices, 1)
    targets : dict of str to ndarray
    """

    def __init__(self, python, weights, volume, targets, threads, folder):
        labels = {name: target.argmax(-1).astype(np.uint8) for name, target in targets.items()}
        super().__init__(PEER, python, weights, {"volumes": volume, **labels}, threads, folder)

    def output(self, variant):
        """The mask of full size that it predicts before any training.

        Parameters
        ----------
        variant : {"plain", "channels_last"}

        Returns
        -------
        ndarray of shape (batch, height, width, slices, classes)
        """
        return self.array(variant, "output")


class _FullSize:
    """A network as `require_same_network` looks at it: its parameters, and its mask of full size."""

    def __init__(self, model):
        self.trainable_weights = model.trainable_weights
        self.predict_on_batch = lambda volume: model.predict_on_batch(volume)["mask"]


def same_network(model, peer, volume, targets, filters, variants=VARIANTS):
    """Refuse to compare two networks that are not the same: parameters, mask, and losses of three steps.

    Parameters
    ----------
    model : keras.Model
    peer : Peer
    volume : ndarray
    targets : dict of str to ndarray
    filters : int
    variants : sequence of str

    Returns
    -------
    float
        Largest difference of the masks.

    Raises
    ------
    AssertionError
    """
    fresh = built(volume.shape[1:], filters)
    ours = [float(fresh.train_on_batch(volume, targets, return_dict=True)["loss"]) for _ in range(CHECKED_STEPS)]
    return max(
        require_same_network(
            _FullSize(model),
            peer,
            variant,
            volume,
            found=peer.output(variant),
            ours=ours,
            name="usegnet",
            what="masks",
            tolerance=LARGEST_LOSS_DIFFERENCE,
        )
        for variant in variants
    )


def against_pytorch(input_shape, options):
    """Time `usegnet` and the same network in PyTorch in turns.

    Parameters
    ----------
    input_shape : tuple of int
    options : argparse.Namespace

    Returns
    -------
    list of dict
        Goals, as `experiments.benchmarks.common.save` takes them.
    """
    volume, targets = volume_and_targets(input_shape)
    model = built(input_shape, options.filters)
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(options.torch_python, weights_by_path(model), volume, targets, options.threads, folder)
        try:
            difference = same_network(model, peer, volume, targets, options.filters)
            steps = {
                ("usegnet", "train"): partial(model.train_on_batch, volume, targets),
                ("usegnet", "predict"): partial(model.predict_on_batch, volume),
            }
            turns = {key: partial(seconds_of, step, 1) for key, step in steps.items()}
            for variant, do in itertools.product(VARIANTS, ("train", "predict")):
                turns[variant, do] = partial(peer.ask, variant, do, repeats=1, batch=1)
            for turn in turns.values():  # the first compiles, and fills pools of memory
                turn()
            found = {key: [] for key in turns}
            for number in range(options.rounds):  # forwards and backwards, so that nobody always comes after the same
                for key in sorted(turns, reverse=number % 2 == 1):
                    found[key] += turns[key]()
        finally:
            peer.close()
    return [
        _goal_against_pytorch(found, do, input_shape, options, peer.about, difference) for do in ("train", "predict")
    ]


def _goal_against_pytorch(found, do, input_shape, options, about, difference):
    seconds = {name: found[name, do] for name in ("usegnet", *VARIANTS)}
    median = {name: statistics.median(each) for name, each in seconds.items()}
    best = min(VARIANTS, key=median.get)
    ratio = median["usegnet"] / median[best]
    ratios = sorted(ours / theirs for ours, theirs in zip(seconds["usegnet"], seconds[best]))
    called = {"train": "training step", "predict": "forward"}[do]
    return {
        "goal": f"usegnet() over the same network in PyTorch, {called}, {_size(input_shape)}, <= {GOAL}",
        "measured": ratio,
        "met": ratio <= GOAL,
        "explanation": f"medians of {options.rounds} turns, {median['usegnet'] * 1000:.0f} against "
        f"{median[best] * 1000:.0f} ms ({best}); turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f}",
        "median_ms": {name: round(1000 * value, 1) for name, value in median.items()},
        "peer": about,
        "largest_difference_of_masks": difference,
    }


def multiplications(model):
    """How many multiplications the convolutions of a network do in one volume.

    Parameters
    ----------
    model : keras.Model
        Of `usegnet`, with an input of known sides.

    Returns
    -------
    int
    """
    total = 0
    for layer in model.layers:
        upwards = isinstance(layer, keras.layers.Conv3DTranspose)
        voxels = int(np.prod((layer.input if upwards else layer.output).shape[1:4]))
        total += voxels * sum(int(np.prod(each.shape)) for each in layer.weights if each.name == "kernel")
    return total


def arithmetic(input_shape, options):
    """How much of what this machine can multiply a forward pass does, which bounds every ratio from below.

    Parameters
    ----------
    input_shape : tuple of int
    options : argparse.Namespace

    Returns
    -------
    list of dict
    """
    volume, _ = volume_and_targets(input_shape)
    model = built(input_shape, options.filters)
    matrix = keras.random.uniform((options.matrix,) * 2, seed=0)
    turns = {
        "network": partial(model.predict_on_batch, volume),
        "matrices": lambda: np.asarray(keras.ops.matmul(matrix, matrix)),
    }
    for turn in turns.values():
        turn()
    found = in_turns(turns, options.rounds)
    done = {"network": multiplications(model), "matrices": options.matrix**3}
    each = {name: done[name] / statistics.median(seconds) / 1e9 for name, seconds in found.items()}
    return [
        {
            "goal": f"multiplications a second of usegnet()'s forward pass, {_size(input_shape)}, over those of a "
            "product of matrices (no goal set)",
            "measured": each["network"] / each["matrices"],
            "met": True,
            "explanation": f"{done['network'] / 1e9:.0f} GMAC a volume, {each['network']:.0f} GMAC a second; matrices "
            f"of {options.matrix} x {options.matrix} in float32 {each['matrices']:.0f}",
        }
    ]


def stitching(_, options):
    """What laying patches over a volume and putting them together adds to the time of the network on them.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of dict
    """
    side = options.patch
    view = Patches((side,) * 3)
    shape = _sides(options.volume)
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    model = built((side, side, side, 1), options.filters, **ABLATIONS["USegNet"])
    starts = Tiles(shape, view.patch_shape, view.overlap).starts
    patches = [cut_patch(image, start, view.patch_shape)[None, ..., None].copy() for start in starts]
    turns = {
        "stitched": partial(view.foreground, model, image),
        "network": lambda: [model.predict_on_batch(patch) for patch in patches],
    }
    model.predict_on_batch(patches[0])
    found = in_turns(turns, options.rounds)
    ratio = statistics.median(ours / pure for ours, pure in zip(found["stitched"], found["network"]))
    return [
        {
            "goal": f"{len(patches)} patches of {side} voxels a side stitched, {_size(shape)}, over the network's own "
            f"time, <= {STITCHING_GOAL}",
            "measured": ratio,
            "met": ratio <= STITCHING_GOAL,
            "explanation": f"median of {options.rounds} turns, {statistics.median(found['stitched']):.1f} against "
            f"{statistics.median(found['network']):.1f} s; half of a patch is its neighbour's too",
        }
    ]


def attention(input_shape, options):
    """What attention adds to the time of deep supervision alone.

    Parameters
    ----------
    input_shape : tuple of int
    options : argparse.Namespace

    Returns
    -------
    list of dict
    """
    volume, targets = volume_and_targets(input_shape)
    turns = {}
    for row in (BASE, *WITH_ATTENTION):
        model = built(input_shape, options.filters, **ABLATIONS[row])
        turns[row, "training step"] = partial(model.train_on_batch, volume, targets)
        turns[row, "forward"] = partial(model.predict_on_batch, volume)
    for turn in turns.values():
        turn()
    found = in_turns(turns, options.rounds)
    goals = []
    for row, called in itertools.product(WITH_ATTENTION, ("training step", "forward")):
        ratio = statistics.median(
            with_it / without for with_it, without in zip(found[row, called], found[BASE, called])
        )
        goals.append(
            {
                "goal": f"{row} over {BASE}, {called}, {_size(input_shape)} (the paper: little; no goal set)",
                "measured": ratio,
                "met": True,
                "explanation": f"median of {options.rounds} turns; {1000 * statistics.median(found[row, called]):.0f} "
                f"against {1000 * statistics.median(found[BASE, called]):.0f} ms",
            }
        )
    return goals


def peak_growth_mb(input_shape, filters, name):
    """What building the network and training it for two steps adds to this process's largest memory.

    Parameters
    ----------
    input_shape : tuple of int
    filters : int
    name : str
        Of `MEMORY`.

    Returns
    -------
    dict of str to float, MB
        "start", with everything imported, and "peak".
    """
    policy, rematerialise = MEMORY[name]
    volume, targets = volume_and_targets(input_shape)
    start = backend.peak_memory_mb()
    keras.config.set_dtype_policy(policy)
    model = built(input_shape, filters, rematerialise=rematerialise)
    for _ in range(MEMORY_STEPS):
        model.train_on_batch(volume, targets)
    return {"start": start, "peak": backend.peak_memory_mb()}


def memory(_, options):
    """Largest main memory of a training step, of each way to save it, in processes of their own.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of dict

    Raises
    ------
    RuntimeError
        If such a process ends, with its last words.
    """
    found = {}
    for name in MEMORY:
        command = [sys.executable, "-m", "experiments.benchmarks.usegnet", "--peak-of", name]
        command += ["--memory-size", options.memory_size, "--filters", options.filters, "--threads", options.threads]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False)
        if ended.returncode:
            last = ended.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"the process of {name} ended: {' '.join(last) or 'without a word'}")
        found[name] = json.loads(ended.stdout.splitlines()[-1])
    growth = {name: each["peak"] - each["start"] for name, each in found.items()}
    return [
        {
            "goal": f"usegnet(), peak memory of a training step, {name}, {_size(_sides(options.memory_size))}, over "
            "float32 (no goal set)",
            "measured": growth[name] / growth["float32"],
            "met": True,
            "explanation": f"{growth[name]:.0f} MB over that of the start, main memory on a CPU",
            "process_mb": each,
        }
        for name, each in found.items()
    ]


def _sides(size):
    return tuple(int(side) for side in size.split("x"))


def _size(input_shape):
    return " x ".join(map(str, input_shape[:3]))


PARTS = {"pytorch": against_pytorch, "arithmetic": arithmetic, "attention": attention}
PARTS |= {"stitching": stitching, "memory": memory}


def main(arguments=None):
    """Measure and write results/usegnet.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.usegnet")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch and NumPy")
    parser.add_argument("--size", default="80x56x88", help="HEIGHTxWIDTHxSLICES of a volume, multiples of 8")
    parser.add_argument("--memory-size", default="80x56x88", help="the same, where memory is measured")
    parser.add_argument("--filters", type=int, default=32, help="of the first level")
    parser.add_argument("--matrix", type=int, default=4096, help="side of the matrices multiplied (%(default)s)")
    parser.add_argument("--volume", default="155x103x176", help="that patches are laid over (%(default)s)")
    parser.add_argument("--patch", type=int, default=64, help="side of a patch, a multiple of 8 (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--smoke", action="store_true", help="everything tiny, in seconds; no results are written")
    parser.add_argument("--peak-of", choices=MEMORY, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.smoke:
        vars(options).update(SMOKE)
    # read when TensorFlow starts its first operation, so not yet
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads)
    if options.peak_of:
        shape = (*_sides(options.memory_size), 1)
        print(json.dumps(peak_growth_mb(shape, options.filters, options.peak_of)))
        return 0
    goals = []
    for part in options.parts:
        goals += PARTS[part]((*_sides(options.size), 1), options)
    if options.smoke:
        print(json.dumps(goals, indent=1))
    else:
        save("usegnet", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
