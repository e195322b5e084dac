"""What does AOPC cost beyond the network's own predictions, against a bare `model.predict` and against Quantus?

python -m experiments.benchmarks.aopc

Quantus is compared where it is installed: ``pip install --no-deps quantus==0.6.0; pip install pandas scikit-image
cachetools`` in the environment of hcreg. It is given the same compiled network, so that only what it does around the
network is compared. Without it, ``--without-quantus``.
"""

import argparse
import importlib
import statistics
import sys

import keras
import numpy as np

from experiments.benchmarks.common import in_turns, save
from hcreg import backend, models
from hcreg.analyzers.perturbation import PAPER_PROTOCOL, aopc

PREDICT_GOAL, QUANTUS_GOAL = 0.9, 1.0
STEPS = PAPER_PROTOCOL["steps"]
REGION_PX = 32
NETWORKS = {
    "cnn_1m": lambda: models.cnn_1m(input_shape=(128, 128, 1), seed=0),
    "vgg16_regressor": lambda: models.vgg16_regressor(input_shape=(128, 128, 3), weights=None, seed=0),
}


class NetworkForQuantus:
    """A Keras network as Quantus's metrics call it, with a compiled pass like ours.

    Parameters
    ----------
    model : keras.Model
        With one output.
    """

    def __init__(self, model):
        self.compiled = backend.compile_function(
            lambda images: model(images, training=False), variables=model.variables
        )

    def shape_input(self, x, shape, channel_first=True, batched=True):
        """Images of shape (batch, height, width, channels) from Quantus's (batch, channels, height, width)."""
        return np.ascontiguousarray(np.moveaxis(x, 1, -1))

    def predict(self, images):
        """Outputs of shape (batch, 1)."""
        return keras.ops.convert_to_numpy(self.compiled(images))


def quantus_curves(quantus, network, images, maps, batch_size):
    """Let Quantus perturb regions, the most relevant first, with uniform noise.

    Parameters
    ----------
    quantus : module
    network : NetworkForQuantus
    images, maps : ndarray of shape (num_images, height, width, channels)
    batch_size : int

    Returns
    -------
    ndarray of shape (num_images, STEPS)
        How much the output falls, step by step.
    """
    metric = quantus.RegionPerturbation(
        patch_size=REGION_PX,
        regions_evaluation=STEPS,
        perturb_baseline="uniform",
        normalise=False,
        disable_warnings=True,
    )
    found = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        x, a = (np.moveaxis(values[part], -1, 1) for values in (images, maps))
        found.append(metric.evaluate_batch(network, x_batch=x, y_batch=np.zeros(len(x), int), a_batch=a))
    return np.concatenate(found)


def compare(name, quantus, options):
    """Time one network.

    Parameters
    ----------
    name : str
        Of `NETWORKS`.
    quantus : module or None
    options : argparse.Namespace

    Returns
    -------
    list of dict
        Goals.
    """
    model = NETWORKS[name]()
    rng = np.random.default_rng(0)
    shape = (options.images, *model.input_shape[1:])
    images, maps = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    targets = rng.standard_normal(options.images)
    settings = {
        "the paper's": dict(PAPER_PROTOCOL),
        "default": {"draws": 1, "random_orders": 2},  # one draw: the others are more of the same
    }
    num_passes = {"the paper's": 1 + STEPS, "default": 1 + 4 * STEPS}
    num_predicted = options.images * num_passes["the paper's"]
    predicted = np.resize(images, (num_predicted, *shape[1:]))
    calls = {
        protocol: lambda some=some: aopc(model, maps, images, targets, batch_size=options.batch_size, **some)
        for protocol, some in settings.items()
    }
    calls["predict"] = lambda: model.predict(predicted, batch_size=options.batch_size, verbose=0)
    if quantus:
        network = NetworkForQuantus(model)
        calls["Quantus"] = lambda: quantus_curves(quantus, network, images, maps, options.batch_size)
    few = slice(0, options.batch_size)
    model.predict(predicted[few], batch_size=options.batch_size, verbose=0)
    aopc(model, maps[:2], images[:2], batch_size=options.batch_size)
    if quantus:
        network.predict(predicted[few])
    seconds = {call: statistics.median(times) for call, times in in_turns(calls, options.rounds).items()}
    per_image_ms = {
        call: 1000 * seconds[call] / (options.images * num_passes.get(call, num_passes["the paper's"]))
        for call in calls
    }
    shown = ", ".join(f"{call} {milliseconds:.2f}" for call, milliseconds in per_image_ms.items())
    explanation = f"ms for each image through the network, which was compiled before: {shown}"
    goals = [
        {
            "goal": f"{name}: throughput of AOPC, {protocol} settings, against model.predict, >= {PREDICT_GOAL}",
            "measured": per_image_ms["predict"] / per_image_ms[protocol],
            "met": per_image_ms["predict"] / per_image_ms[protocol] >= PREDICT_GOAL,
            "explanation": explanation,
        }
        for protocol in settings
    ]
    if quantus:
        ratio = seconds["the paper's"] / seconds["Quantus"]
        goals.append(
            {
                "goal": f"{name}: time of AOPC against Quantus {quantus.__version__}, same steps, <= {QUANTUS_GOAL:g}",
                "measured": ratio,
                "met": ratio <= QUANTUS_GOAL,
                "explanation": explanation,
            }
        )
    return goals


def main(arguments=None):
    """Measure and write results/aopc.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.aopc")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-quantus", action="store_true")
    options = parser.parse_args(arguments)
    quantus = None
    if not options.without_quantus:
        try:
            quantus = importlib.import_module("quantus")
        except ImportError as error:
            parser.error(f"Quantus cannot be imported ({error}); install it as this module says, or --without-quantus.")
    goals = []
    for name in options.networks:
        goals += compare(name, quantus, options)
    save("aopc", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
