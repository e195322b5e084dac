"""What does a training step with the heatmap loss cost against one with cross-entropy, in time and in memory?

python -m experiments.benchmarks.heatmap
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from experiments.benchmarks.common import save
from hcreg import backend, losses, models
from hcreg.datasets import synthetic
from hcreg.layers import HiResCAM, RelevanceSums

ROOT = Path(__file__).parents[2]
TIME_GOAL, MEMORY_GOAL = 1.05, 1.1
HEIGHT_WIDTH = (105, 135)
PLAIN = "cross_entropy"
MEMORY_STEPS = 3


@dataclass(frozen=True)
class Network:
    """A classifier, and where its maps are taken."""

    build: object
    channels: int
    tap: str


NETWORKS = {
    "vgg16_classifier": Network(models.vgg16_classifier, 3, "block5_conv3"),
    "cnn_classifier": Network(models.cnn_classifier, 1, "conv4"),
}


def two_passes(model, tap):
    """The same scores and maps from two passes of the network, as a training step written by hand has them.

    Parameters
    ----------
    model : keras.Model
    tap : str

    Returns
    -------
    keras.Model
        As `hcreg.models.with_attention` gives it.
    """
    tapped = HiResCAM.tap(model, tap)
    image = keras.Input(model.inputs[0].shape[1:], name="image")
    mask = keras.Input((*model.inputs[0].shape[1:-1], 1), name="mask")
    parts = [tapped(image)["logits"], tapped(image)["maps"], mask]
    sums = RelevanceSums(list(range(model.output_shape[-1])), name="attention")(parts)
    return keras.Model({"image": image, "mask": mask}, sums)


# What is told of each variant, and the goal of its time if it has one; all of the very same network.
VARIANTS = {
    PLAIN: "sparse categorical cross-entropy of the network itself",
    "heatmap": "losses.Heatmap() on with_attention()",
    "heatmap_with_metrics": "the same with metrics=losses.heatmap_metrics(), against cross-entropy with accuracy",
    "cross_entropy_with_accuracy": "cross-entropy with accuracy",
    "heatmap_with_swap": "losses.Heatmap(swap_weight=1) on with_attention(swap=True)",
    "two_passes": "losses.Heatmap() where scores and maps come from two passes",
}


def compiled(name, variant, size=HEIGHT_WIDTH, jit_compile="auto"):
    """A network ready to be trained.

    Parameters
    ----------
    name : str
        Of `NETWORKS`.
    variant : str
        Of `VARIANTS`.
    size : tuple of int, (height, width), px
    jit_compile : bool or "auto"

    Returns
    -------
    keras.Model
    """
    network = NETWORKS[name]
    model = network.build(input_shape=(*size, network.channels), seed=0)
    loss, metrics = losses.Heatmap(swap_weight=float(variant == "heatmap_with_swap")), None
    if variant in (PLAIN, "cross_entropy_with_accuracy"):
        loss = keras.losses.SparseCategoricalCrossentropy()
        metrics = None if variant == PLAIN else ["accuracy"]
    elif variant == "two_passes":
        model = two_passes(model, network.tap)
    else:
        metrics = losses.heatmap_metrics() if variant == "heatmap_with_metrics" else None
        model = models.with_attention(model, network.tap, swap=variant == "heatmap_with_swap")
    model.compile(keras.optimizers.Adam(1e-4), loss=loss, metrics=metrics, jit_compile=jit_compile)
    return model


def data_for(name, variant, num_images, size=HEIGHT_WIDTH):
    """Images, or images and masks, and labels.

    Parameters
    ----------
    name, variant : str
    num_images : int
    size : tuple of int, (height, width), px

    Returns
    -------
    inputs : ndarray or dict of str to ndarray
    labels : ndarray of shape (num_images,)
    """
    made = synthetic.cardiac_mri(num_images, seed=0)
    rows, columns = (np.linspace(0, full - 1, side).astype(int) for full, side in zip(HEIGHT_WIDTH, size, strict=True))
    images = made.images[:, rows][:, :, columns, None].astype("float32") / 127.5 - 1
    images = np.repeat(images, NETWORKS[name].channels, axis=-1)
    if variant in (PLAIN, "cross_entropy_with_accuracy"):
        return images, made.labels
    hearts = np.isin(made.masks[:, rows][:, :, columns, None], synthetic.HEART).astype("float32")
    return {"image": images, "mask": hearts}, made.labels


def seconds_in_turns(functions, rounds):
    """Time functions in turns, forwards and backwards, by the clock and by this process's work on all cores.

    Parameters
    ----------
    functions : dict of str to callable
    rounds : int

    Returns
    -------
    clock, cpu : dict of str to list of float
    """
    clock, cpu = ({name: [] for name in functions} for _ in range(2))
    for turn in range(rounds):
        for name in list(functions)[:: 1 if turn % 2 == 0 else -1]:
            started, worked = time.perf_counter(), time.process_time()
            functions[name]()
            clock[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - worked)
    return clock, cpu


def ratios(of, to):
    """Ratio of each turn.

    Parameters
    ----------
    of, to : list of float

    Returns
    -------
    dict of str to float
        Their median, lowest and highest.
    """
    each = [a / b for a, b in zip(of, to, strict=True)]
    return {"median": statistics.median(each), "lowest": min(each), "highest": max(each)}


def time_goals(name, options):
    """Seconds of a training step of each variant, and what they come to.

    Parameters
    ----------
    name : str
        Of `NETWORKS`.
    options : argparse.Namespace

    Returns
    -------
    list of dict
        As `experiments.benchmarks.common.save` takes them.
    """
    place = list(NETWORKS).index(name)
    rounds, steps = options.rounds[place], options.steps[place]
    functions = {}
    for variant in VARIANTS:
        model = compiled(name, variant, options.size)
        inputs, labels = data_for(name, variant, options.batch_size * steps, options.size)

        def epoch(model=model, inputs=inputs, labels=labels):
            model.fit(inputs, labels, batch_size=options.batch_size, shuffle=False, verbose=0)

        epoch()  # compiles
        functions[variant] = epoch
    clock, cpu = seconds_in_turns(functions, rounds)
    goals = []
    for variant, what in VARIANTS.items():
        if variant in (PLAIN, "cross_entropy_with_accuracy"):
            continue
        base = "cross_entropy_with_accuracy" if variant == "heatmap_with_metrics" else PLAIN
        by_clock, by_cpu = ratios(clock[variant], clock[base]), ratios(cpu[variant], cpu[base])
        judged = variant == "heatmap"
        goals.append(
            {
                "goal": f"{name}, training step, {what}, over {VARIANTS[base]}, "
                + (f"<= {TIME_GOAL}" if judged else "(no goal set)"),
                "measured": by_clock["median"],
                "met": by_clock["median"] <= TIME_GOAL or not judged,
                "explanation": f"{1e3 * statistics.median(clock[variant]) / steps:.1f} ms against "
                f"{1e3 * statistics.median(clock[base]) / steps:.1f} ms, median of {rounds} turns of {steps} steps; "
                f"from {by_clock['lowest']:.2f} to {by_clock['highest']:.2f}; processor time {by_cpu['median']:.3f}",
                "ratio_by_clock": by_clock,
                "ratio_of_processor_time": by_cpu,
                "threads": options.threads,
            }
        )
    return goals


def peak_growth_mb(name, variant, batch_size, size):
    """What building a network and training it for a few steps adds to this process's largest memory.

    Parameters
    ----------
    name, variant : str
    batch_size : int
    size : tuple of int, (height, width), px

    Returns
    -------
    dict of str to float, MB
        ``start``, with everything imported, and ``peak``.
    """
    inputs, labels = data_for(name, variant, batch_size, size)
    start = backend.peak_memory_mb()
    model = compiled(name, variant, size)
    for _ in range(MEMORY_STEPS):
        model.train_on_batch(inputs, labels)
    return {"start": start, "peak": backend.peak_memory_mb()}


def memory_goals(name, options):
    """Largest memory with cross-entropy and with the heatmap loss, each in processes of its own.

    Parameters
    ----------
    name : str
    options : argparse.Namespace

    Returns
    -------
    list of dict

    Raises
    ------
    RuntimeError
        If such a process ends, with its last words.
    """
    found = {PLAIN: [], "heatmap": []}
    for _ in range(options.memory_rounds):
        for variant, growths in found.items():
            size = [str(side) for side in options.size]
            command = [sys.executable, "-m", "experiments.benchmarks.heatmap", "--peak-of", name, variant]
            command += ["--batch-size", str(options.batch_size), "--size", *size, "--threads", str(options.threads)]
            ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            if ended.returncode:
                last = ended.stderr.strip().splitlines()[-1:]
                raise RuntimeError(f"the process of {name}, {variant} ended: {' '.join(last) or 'without a word'}")
            growths.append(json.loads(ended.stdout.splitlines()[-1]))
    growth = {
        variant: statistics.median(each["peak"] - each["start"] for each in several)
        for variant, several in found.items()
    }
    ratio = growth["heatmap"] / growth[PLAIN]
    return [
        {
            "goal": f"{name}, peak memory, {VARIANTS['heatmap']}, over {VARIANTS[PLAIN]}, <= {MEMORY_GOAL}",
            "measured": ratio,
            "met": ratio <= MEMORY_GOAL,
            "explanation": f"{growth['heatmap']:.0f} MB against {growth[PLAIN]:.0f} MB over that of the start, "
            f"median of {options.memory_rounds} processes each; of the whole process "
            + " against ".join(
                f"{statistics.median(each['peak'] for each in found[variant]):.0f} MB" for variant in ("heatmap", PLAIN)
            ),
            "processes_mb": found,
        }
    ]


def main(arguments=None):
    """Measure and write results/heatmap.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.heatmap")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=HEIGHT_WIDTH)
    parser.add_argument("--rounds", type=int, nargs=2, metavar=("VGG16", "SMALL"), default=[5, 21])
    parser.add_argument("--steps", type=int, nargs=2, metavar=("VGG16", "SMALL"), default=[1, 20], help="of a turn")
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peak-of", nargs=2, metavar=("NETWORK", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    # read when TensorFlow starts its first operation, so not yet
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads)
    if options.peak_of:
        print(json.dumps(peak_growth_mb(*options.peak_of, options.batch_size, options.size)))
        return 0
    goals = []
    for name in options.networks:
        goals += memory_goals(name, options) + time_goals(name, options)
    save("heatmap", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
