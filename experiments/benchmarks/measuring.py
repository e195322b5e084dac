"""How many images a second does the network that comes with the package measure?

python -m experiments.benchmarks.measuring

From decoded images of 800 x 540 pixels to millimetres with interval, ellipse and mask, in batches of 16.
"""

import sys
import tempfile

import numpy as np

from experiments.benchmarks.common import in_turns, save
from hcreg.datasets import HC18, synthetic
from hcreg.measurement import TrainedRegressor

PRESET = "hc18_direct"
NUM_IMAGES, REPEATS, BATCH = 96, 5, 16
GOAL_PER_SECOND = 30


def main():
    """Measure and write results/measuring.json."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic.fetal_head(folder, num_examinations=NUM_IMAGES, seed=0)
        records = list(HC18(folder))[:NUM_IMAGES]
        images, sizes = [record.image() for record in records], [record.pixel_size_mm for record in records]
    regressor = TrainedRegressor(PRESET)
    prepared = [regressor.prepared_or_error(*pair) for pair in zip(images, sizes)]
    batches = [
        np.concatenate([item.inputs for item in prepared[start : start + BATCH]])
        for start in range(0, len(prepared), BATCH)
    ]

    def whole():
        return regressor.measure_many(images, sizes, batch_size=BATCH)

    def network():
        return [regressor.model.predict_on_batch(batch) for batch in batches]

    whole(), network()  # the first call builds the graph
    seconds = {name: min(found) for name, found in in_turns({"whole": whole, "network": network}, REPEATS).items()}
    per_second = len(images) / seconds["whole"]
    goals = [
        {
            "goal": f"images of 800 x 540 px measured per second with {PRESET}, >= {GOAL_PER_SECOND}",
            "measured": per_second,
            "met": per_second >= GOAL_PER_SECOND,
            "explanation": f"{len(images)} images in {seconds['whole']:.2f} s, of which the network alone takes "
            f"{seconds['network']:.2f} s",
        }
    ]
    save("measuring", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
