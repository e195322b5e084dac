"""How many decoded images a second does the network that comes along turn into millimetres?

python -m experiments.benchmarks.measuring
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from experiments.benchmarks.common import in_turns, save
from hcreg import presets
from hcreg.datasets import HC18, synthetic
from hcreg.measurement import TrainedRegressor

IMAGES_A_SECOND = 30
NUM_IMAGES = 96


def measure(records, repeats):
    """Time everything from decoded images to measurements, and the network's share.

    Parameters
    ----------
    records : sequence of HC18Record
    repeats : int

    Returns
    -------
    list of dict
        Goals, as `experiments.benchmarks.common.save` takes them.
    """
    regressor = TrainedRegressor(presets.HC18_DIRECT)
    images, sizes = [record.image() for record in records], [record.pixel_size_mm for record in records]
    prepared = [regressor.prepared_or_error(*pair) for pair in zip(images, sizes)]
    inputs = [item.inputs for item in prepared]
    regressor.measure_many(images[:17], sizes[:17])  # whole batches and single images are traced

    def alone():
        for item in inputs:
            regressor.model.predict_on_batch(item)

    seconds = in_turns({"measure": lambda: regressor.measure_many(images, sizes), "alone": alone}, repeats)
    rates = [len(images) / value for value in seconds["measure"]]
    network = statistics.median(seconds["alone"]) / len(images)
    return [
        {
            "goal": "images of 800 x 540 a second through hc18_direct, from decoded pixels to millimetres and "
            f"ellipse, >= {IMAGES_A_SECOND}",
            "measured": statistics.median(rates),
            "met": statistics.median(rates) >= IMAGES_A_SECOND,
            "explanation": f"{len(images)} images, batches of 16, {repeats} times: {min(rates):.1f} to "
            f"{max(rates):.1f}; the network alone, image by image, {1000 * network:.1f} ms",
        }
    ]


def main(arguments=None):
    """Measure and write results/measuring.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.measuring")
    parser.add_argument("--data", type=Path, help="HC18 folder as downloaded; synthetic images by default")
    parser.add_argument("--images", type=int, default=NUM_IMAGES)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or synthetic.fetal_head(Path(folder) / "HC18", options.images, seed=0) or folder
        save("measuring", measure(list(HC18(data))[: options.images], options.repeats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
