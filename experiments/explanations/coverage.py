"""Which analyzer explains which network? Every network and backbone with every analyzer, or the reason why not.

python -m experiments.explanations.coverage

Networks have random weights and small images; ``--models NAME ...`` takes some of them, rows of the others are kept.
"""

import argparse
import contextlib
import gc
import re
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import keras
import numpy as np

from experiments.explanations.tables import Table
from hcreg import backend, models
from hcreg.analyzers import ANALYZERS, create_analyzer

SIDE = 64
SIDES = {"InceptionResNetV2": 80, "InceptionV3": 80, "Xception": 80}  # the least they take is 75 and 71
# Fewer copies than by default, and what has no default.
OPTIONS = {
    "smoothgrad": {"augment_by_n": 4},
    "integrated_gradients": {"steps": 4},
    "lrp.alpha_beta": {"alpha": 2, "beta": 1},
}
_OF_POSITIVE_PREDICTIONS = ("deep_taylor", "deep_taylor.bounded")
_IMAGE = (SIDE, SIDE, 3)

OWN = {
    "cnn_263k": partial(models.cnn_263k, (SIDE, SIDE, 1)),
    "cnn_1m": partial(models.cnn_1m, (SIDE, SIDE, 1)),
    "vgg16_regressor": partial(models.vgg16_regressor, _IMAGE),
    "resnet50_regressor": partial(models.resnet50_regressor, _IMAGE),
    "resnet50_regressor chi2025hc": partial(models.resnet50_regressor, _IMAGE, head="chi2025hc"),
    "unet ellipse": partial(models.unet, (SIDE, SIDE, 1), head="ellipse"),
    "vgg16_unet ellipse": partial(models.vgg16_unet, _IMAGE, head="ellipse"),
    "backbone_unet DenseNet121 ellipse": partial(models.backbone_unet, "DenseNet121", _IMAGE, head="ellipse"),
    "backbone_unet MobileNetV2 ellipse": partial(models.backbone_unet, "MobileNetV2", _IMAGE, head="ellipse"),
}


def names():
    """Names of all networks that are covered.

    Returns
    -------
    list of str
        hcreg's own, then every backbone of Keras as a regressor.
    """
    return [*OWN, *models.backbone_names()]


def build(name, **options):
    """A network and images.

    Parameters
    ----------
    name : str
        Of `names`.
    **options
        Of the builder, for smaller networks.

    Returns
    -------
    model : keras.Model
    images : ndarray of float32, shape (4, height, width, channels)
    """
    keras.utils.set_random_seed(0)
    if name in OWN:
        model = OWN[name](**options)
    else:
        side = SIDES.get(name, SIDE)
        model = models.backbone_regressor(name, **{"input_shape": (side, side, 3), **options})
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
    normalise(model, images)
    head = model.layers[-1]
    if isinstance(head, keras.layers.Dense) and float(keras.ops.sum(model(images))) < 0:
        head.kernel.assign(-head.kernel)  # Grad-CAM shows what adds: of a negative prediction perhaps nothing
    return model, images


def normalise(model, images):
    """Give each BatchNormalization the mean and variance of its input, as training would.

    With a mean of 0 and a variance of 1, as when they are new, numbers grow or shrink from layer to layer of a deep
    network until they are no numbers any more.

    Parameters
    ----------
    model : keras.Model
    images : ndarray
    """
    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum


def cover(analyzer, model, images):
    """Try one analyzer.

    Parameters
    ----------
    analyzer : str
        Of `ANALYZERS`.
    model : keras.Model
    images : ndarray of shape (num_images, height, width, channels)

    Returns
    -------
    result : {"explained", "refused", "crash"}
        "explained" with finite maps that are not 0 everywhere; "refused" by a ValueError that says why before anything
        is computed.
    reason : str
    """
    options = dict(OPTIONS.get(analyzer, {}))
    if analyzer == "occlusion":  # of quarters, for speed
        options = {name: tuple(side // 2 for side in images.shape[1:-1]) for name in ("patch_size", "strides")}
    if analyzer in _OF_POSITIVE_PREDICTIONS:
        outputs = model(images)
        lowest = float(np.min(outputs["hc_fraction"] if isinstance(outputs, dict) else outputs))
        options["lowest_output"] = min(2 * lowest, 0.0) - 1e-3
    try:
        made = create_analyzer(analyzer, model, **options)
    except ValueError as error:
        return "refused", reason(error)
    except Exception as error:
        return "crash", f"{type(error).__name__}: {reason(error)}"
    try:
        found = made.analyze(images)
    except Exception as error:
        return "crash", f"{type(error).__name__}: {reason(error)}"
    if not np.isfinite(found).all():
        return "crash", "a map is not finite"
    return ("explained", "") if np.any(found) else ("crash", "the maps are 0 everywhere")


def reason(error):
    """What an error says is the matter, without its advice, on one line."""
    return re.split(r"\. Use \"|\s+Use the method", " ".join(str(error).split()))[0]


def rows_of(name, analyzers=tuple(ANALYZERS), compiled=False):
    """The rows of one network.

    Parameters
    ----------
    name : str
        Of `names`.
    analyzers : sequence of str
    compiled : bool
        Whether analyzers are compiled, as they are in use; without it the same operations run one by one.

    Returns
    -------
    list of dict
    """
    model, images = build(name)
    uncompiled = mock.patch.object(backend, "compile_function", lambda function, **_: function)
    rows = []
    with contextlib.nullcontext() if compiled else uncompiled:
        for analyzer in analyzers:
            started = time.perf_counter()
            result, why = cover(analyzer, model, images)
            seconds = time.perf_counter() - started
            print(f"{name:32} {analyzer:28} {result:10} {seconds:6.1f} s  {why}", flush=True)
            rows.append(
                {
                    "model": name,
                    "side_px": images.shape[1],
                    "analyzer": analyzer,
                    "result": result,
                    "compiled": "yes" if compiled else "no",
                    "seconds": round(seconds, 2),
                    "reason": why,
                }
            )
    return rows


def main(arguments=None):
    """Cover networks one after the other and write results/coverage.csv."""
    parser = argparse.ArgumentParser(prog="python -m experiments.explanations.coverage")
    parser.add_argument("--models", nargs="+", choices=names(), metavar="NAME", help="by default all")
    parser.add_argument("--compile", action="store_true", help="compile each analyzer, as in use: takes far longer")
    parser.add_argument("--out", type=Path, help="by default results beside this script")
    options = parser.parse_args(arguments)
    table, crashed = Table("coverage", options.out), 0
    for name in options.models or names():
        rows = rows_of(name, compiled=options.compile)
        crashed += sum(row["result"] == "crash" for row in rows)
        table.replace(name, rows)
        keras.backend.clear_session()
        gc.collect()
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
