"""Whether a network that looks at the heart also depends on nothing else: outer alignment, by several methods."""

import keras
import numpy as np

from experiments.callanan2022.measures import label_effect, logits_of, overlap_rows
from experiments.callanan2022.protocol import TAP, as_network_input, images
from hcreg.analyzers import create_analyzer
from hcreg.datasets import synthetic
from hcreg.layers import SwapOutside
from hcreg.metrics import relevance_inside
from hcreg.preprocessing.attention import region_mask

# The class of which the block is a sign where there is one; explained are images of it, all with the block.
EXPLAINED_CLASS = synthetic.CLASSES.index("ARV")
_STEPS, _PATCH_PX, _STRIDE_PX = 32, 9, 9
_BATCH_SIZE = 32


def alignment(model, data, seed, num_explained=32):
    """Numbers that a penalised map does not contain.

    Parameters
    ----------
    model : keras.Model
    data : experiments.callanan2022.protocol.Data
    seed : int
    num_explained : int
        Images for the methods that were not in the loss.

    Returns
    -------
    dict of str to float or None
        - ``shifted_accuracy``: of test images, whose block comes at random where it was a sign of a class;
        - ``hires_cam_outside_share``, ``hires_cam_label_share``: of absolute relevance, of the true class's map;
        - ``integrated_gradients_outside_share``, ``..._label_share``, ``occlusion_outside_share``, ``..._label_share``:
          the same by methods that were not in the loss, for images with the block;
        - ``logit_change``, ``class_change``: when the block is added or removed;
        - ``outside_effect``: mean absolute change of a logit when all that is outside the heart is another image's.
    """
    test = images(data, "test", seed)
    rows, accuracy = overlap_rows(model, TAP, test)
    pooled = {
        row["region"]: row["mean_share_where_present" if row["region"] == "sex label" else "pooled_share"]
        for row in rows
        if row["part"] == "absolute" and row["class_name"] == "mean of classes"
    }
    measures = {
        "shifted_accuracy": accuracy,
        "hires_cam_outside_share": 1 - pooled["heart"],
        "hires_cam_label_share": pooled["sex label"],
        **label_effect(model, test),
        "outside_effect": outside_effect(model, test),
    }
    for name, options in (
        ("integrated_gradients", {"reference_inputs": -1.0, "steps": _STEPS}),
        ("occlusion", {"patch_size": _PATCH_PX, "strides": _STRIDE_PX, "fill": -1.0}),
    ):
        measures |= _second_opinion(model, test, name, options, num_explained)
    return {key: None if value is None or not np.isfinite(value) else float(value) for key, value in measures.items()}


def outside_effect(model, part):
    """Mean absolute change of a logit when what is outside the heart comes from another image.

    Parameters
    ----------
    model : keras.Model
    part : hcreg.datasets.synthetic.CardiacMRI

    Returns
    -------
    float
    """
    heart = region_mask(part.masks, synthetic.HEART).astype(np.float32)
    as_input = as_network_input(part.images, model.inputs[0].shape[-1])
    swapped = keras.ops.convert_to_numpy(SwapOutside()([as_input, heart]))
    return float(np.abs(logits_of(model, as_input) - logits_of(model, swapped)).mean())


def _second_opinion(model, part, name, options, num_images):
    chosen = np.flatnonzero(part.labels == EXPLAINED_CLASS)[:num_images]
    grey, masks = synthetic.with_sex_label(part.images[chosen], part.masks[chosen], present=True)
    network = keras.Model(model.input, model.get_layer("logits").output)
    analyzer = create_analyzer(name, network, neuron=EXPLAINED_CLASS, **options)
    maps = analyzer.analyze(as_network_input(grey, model.inputs[0].shape[-1]), batch_size=_BATCH_SIZE).sum(axis=-1)
    heart = relevance_inside(maps, np.isin(masks, synthetic.HEART), part="absolute")
    label = relevance_inside(maps, masks == synthetic.SEX_LABEL, part="absolute")
    mean = [float(np.nanmean(shares)) if np.isfinite(shares).any() else None for shares in (heart, label)]
    return {f"{name}_outside_share": None if mean[0] is None else 1 - mean[0], f"{name}_label_share": mean[1]}
