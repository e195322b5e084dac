"""How long does it take from a mask to a head circumference, beside the network itself, and to score a test set?

python -m experiments.benchmarks.masks
"""

import argparse
import statistics
import sys

import cv2
import numpy as np

from experiments.benchmarks.common import in_turns, save, seconds_of
from hcreg import geometry, metrics, models
from hcreg.preprocessing.frames import REFERENCE_SHAPE
from hcreg.preprocessing.maps import map_to_image

PIXEL_SIZE_MM = 0.135
NUM_MAPS = 20
TIMES_FASTER = 10
SECONDS_FOR_A_TEST_SET = 10


def heads(number, seed):
    """Ellipses of the sizes that heads have in the 800 x 540 px images.

    Parameters
    ----------
    number, seed : int

    Returns
    -------
    list of hcreg.geometry.Ellipse
    """
    rng = np.random.default_rng(seed)
    return [
        geometry.Ellipse(
            rng.uniform(330, 470),
            rng.uniform(230, 310),
            rng.uniform(120, 240),
            rng.uniform(90, 119),
            rng.uniform(0, 3.1),
        )
        for _ in range(number)
    ]


def soft_maps(ellipses, shape):
    """What a network predicts of heads: their shares of each pixel, edges blurred.

    Parameters
    ----------
    ellipses : list of Ellipse
        In the 540 x 800 frame.
    shape : (height, width)
        Of the network.

    Returns
    -------
    list of ndarray of float32, shape (height, width, 1)
    """
    to_network = geometry.resize_matrix(REFERENCE_SHAPE, shape)
    shares = [ellipse.transformed(to_network).coverage(shape).astype(np.float32) for ellipse in ellipses]
    return [cv2.GaussianBlur(share, (0, 0), 1.0)[..., None].clip(0, 1) for share in shares]


def measure_against_network(shape, repeats):
    """Time mask to circumference, and `unet`'s own forward pass of one image, in turns.

    Parameters
    ----------
    shape : (height, width)
        Of the network's input.
    repeats : int

    Returns
    -------
    list of dict
        Goals, as `experiments.benchmarks.common.save` takes them.
    """
    ellipses = heads(NUM_MAPS, seed=0)
    maps = soft_maps(ellipses, shape)
    true_mm = np.array([ellipse.circumference_mm(PIXEL_SIZE_MM) for ellipse in ellipses])
    model = models.unet(input_shape=(*shape, 1), seed=0)
    image = np.random.default_rng(0).standard_normal((1, *shape, 1)).astype(np.float32)
    measured_mm = {}

    def measure(postprocess):
        def run():
            measured_mm[postprocess] = [
                geometry.measure_mask(
                    map_to_image(probabilities, REFERENCE_SHAPE), PIXEL_SIZE_MM, postprocess=postprocess
                ).hc_mm
                for probabilities in maps
            ]

        return run

    def forward():
        for _ in maps:
            model.predict_on_batch(image)

    forward()  # the first compiles
    seconds = in_turns({"forward": forward, True: measure(True), False: measure(False)}, repeats)
    per_image = {name: statistics.median(found) / NUM_MAPS for name, found in seconds.items()}
    goals = []
    for postprocess, called in ((True, "post-processed"), (False, "every component")):
        ratio = per_image["forward"] / per_image[postprocess]
        error_mm = metrics.mean_absolute_error(true_mm, np.array(measured_mm[postprocess]))
        goals.append(
            {
                "goal": f"unet()'s forward pass of one image over mask to head circumference ({called}), "
                f"{shape[0]} x {shape[1]} to 540 x 800, >= {TIMES_FASTER}",
                "measured": ratio,
                "met": ratio >= TIMES_FASTER,
                "explanation": f"{1000 * per_image['forward']:.1f} against {1000 * per_image[postprocess]:.2f} ms, "
                f"medians of {repeats} turns of {NUM_MAPS}; mean absolute error {error_mm:.3f} mm",
            }
        )
    return goals


def score_a_test_set(num_pairs):
    """Time Dice and Hausdorff distance of pairs of masks.

    Parameters
    ----------
    num_pairs : int

    Returns
    -------
    dict
        A goal.
    """
    true_masks = [ellipse.mask(REFERENCE_SHAPE) for ellipse in heads(num_pairs, seed=1)]
    predicted = [np.roll(mask, (3, -4), (0, 1)) for mask in true_masks]
    scores = []

    def score():
        scores[:] = [
            (metrics.dice_score(true, pred), metrics.hausdorff_distance(true, pred))
            for true, pred in zip(true_masks, predicted)
        ]

    seconds = min(seconds_of(score, 3))
    dice, hausdorff_px = np.mean(scores, axis=0)
    return {
        "goal": f"seconds for Dice and Hausdorff distance of {num_pairs} pairs of masks of 800 x 540 px, "
        f"< {SECONDS_FOR_A_TEST_SET}",
        "measured": seconds,
        "met": seconds < SECONDS_FOR_A_TEST_SET,
        "explanation": f"{1000 * seconds / num_pairs:.2f} ms a pair; means {dice:.3f} and {hausdorff_px:.2f} px",
    }


def main(arguments=None):
    """Measure and write results/masks.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.masks")
    parser.add_argument("--sizes", nargs="+", default=["96x128", "128x192", "224x224"], help="HEIGHTxWIDTH of the map")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args(arguments)
    goals = [score_a_test_set(options.pairs)]
    for size in options.sizes:
        height, width = (int(side) for side in size.split("x"))
        goals += measure_against_network((height, width), options.repeats)
    save("masks", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
