"""Figures of the experiments: values of models by arm, and maps by class."""

import cv2
import numpy as np

from hcreg.datasets import synthetic
from hcreg.layers import HiResCAM
from hcreg.plotting import saliency_grid
from hcreg.plotting.canvas import ORANGE, SERIES, dress, new_figure

_SMALLEST = 1e-12  # drawn for values of 0 on a logarithmic axis


def distributions(values, label, paper, logarithmic=False):
    """Values of the models of each arm, with their medians and what the thesis printed.

    Parameters
    ----------
    values : dict of str to list of float
        By arm.
    label : str
        Of the values' axis.
    paper : dict of str to float
        What the thesis printed, by arm.
    logarithmic : bool

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axes,) = new_figure(0.55 * len(values) + 1.4)
    generator = np.random.default_rng(0)
    for number, (arm, numbers) in enumerate(values.items()):
        shown = np.maximum(numbers, _SMALLEST) if logarithmic else np.asarray(numbers)
        heights = number + generator.uniform(-0.16, 0.16, len(shown))
        axes.plot(shown, heights, "o", color=SERIES[0], alpha=0.6, markersize=5, markeredgewidth=0)
        axes.plot([np.median(shown)] * 2, [number - 0.3, number + 0.3], color="black", linewidth=1.6)
        if arm in paper:
            axes.plot(paper[arm], number, "D", color=ORANGE, markersize=8, markeredgecolor="black")
    dress(axes, label, "")
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlabel(f"{label} (0 is drawn at {_SMALLEST:g})", fontsize=11)
    axes.set_yticks(
        range(len(values)), [f"{arm} ({len(numbers)})".replace("_", " ") for arm, numbers in values.items()]
    )
    axes.invert_yaxis()
    handles = [
        axes.plot([], [], "o", color=SERIES[0], label="a model")[0],
        axes.plot([], [], color="black", label="median")[0],
        axes.plot([], [], "D", color=ORANGE, markeredgecolor="black", label="thesis")[0],
    ]
    figure.legend(
        handles=handles if paper else handles[:2], loc="outside upper right", ncols=3, fontsize=9, frameon=False
    )
    return figure


def map_grid(networks, tap, part, to_input):
    """HiResCAM maps of an image of each class, of several networks.

    Parameters
    ----------
    networks : dict of str to keras.Model
        By arm.
    tap : str
    part : hcreg.datasets.synthetic.CardiacMRI
        The first image of each class is shown; of those with a sex label where there are any.
    to_input : callable
        Makes grey images what the networks take.

    Returns
    -------
    matplotlib.figure.Figure
    """
    labelled = (part.masks == synthetic.SEX_LABEL).any(axis=(1, 2))
    wanted = labelled if labelled.any() else np.ones_like(labelled)
    chosen = [int(np.flatnonzero((part.labels == label) & wanted)[0]) for label in range(len(synthetic.CLASSES))]
    height, width = part.images.shape[1:]
    maps = {}
    for arm, network in networks.items():
        outputs = HiResCAM.tap(network, tap).predict(to_input(part.images[chosen]), verbose=0)["maps"]
        maps[arm.replace("_", " ")] = [
            cv2.resize(outputs[row, :, :, part.labels[index]], (width, height), interpolation=cv2.INTER_LINEAR)
            for row, index in enumerate(chosen)
        ]
    return saliency_grid({synthetic.CLASSES[part.labels[index]]: part.images[index] for index in chosen}, maps)
