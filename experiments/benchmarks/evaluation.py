"""How fast are masks measured: ellipse fit, circumference in mm, metrics over the set?

python -m experiments.benchmarks.evaluation
"""

import sys

import numpy as np

from experiments.benchmarks.common import save, seconds_of
from hcreg import geometry, metrics

NUM_MASKS = 999
SHAPE = (540, 800)


def main():
    """Measure and write results/evaluation.json."""
    rng = np.random.default_rng(0)
    ellipses = [
        geometry.Ellipse(
            rng.uniform(330, 470),
            rng.uniform(230, 310),
            rng.uniform(120, 240),
            rng.uniform(90, 119),
            rng.uniform(0, 3.1),
        )
        for _ in range(NUM_MASKS)
    ]
    masks = [ellipse.mask(SHAPE).astype(np.uint8) for ellipse in ellipses]
    pixel_size_mm = 0.135
    true_mm = np.array([ellipse.circumference_mm(pixel_size_mm) for ellipse in ellipses])
    measured = {}

    def evaluate(method):
        def run():
            found = np.array([geometry.head_circumference_mm(mask, pixel_size_mm, method=method) for mask in masks])
            measured[method] = metrics.mean_absolute_error(true_mm, found)
            metrics.percentage_mean_absolute_error(true_mm, found)
            metrics.root_mean_squared_error(true_mm, found)

        return run

    goals = []
    for method in geometry.FIT_METHODS:
        seconds = min(seconds_of(evaluate(method), 3))
        goals.append(
            {
                "goal": f"masks of 800 x 540 px fitted ({method}) and scored per second, >= 200",
                "measured": NUM_MASKS / seconds,
                "met": NUM_MASKS / seconds >= 200,
                "explanation": f"{NUM_MASKS} masks in {seconds:.2f} s; mean absolute error {measured[method]:.4f} mm",
            }
        )
    save("evaluation", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
