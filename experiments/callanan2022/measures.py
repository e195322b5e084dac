"""What is measured of a trained classifier on the test images."""

import keras
import numpy as np

from experiments.callanan2022.protocol import as_network_input
from hcreg.datasets import synthetic
from hcreg.layers import GradCAM, HiResCAM
from hcreg.metrics import RelevanceOverlap

REGIONS = {"heart": synthetic.HEART, "fat": (synthetic.FAT,), "sex label": (synthetic.SEX_LABEL,)}
_CHUNK = 500  # images whose maps are held at a time
_METHODS = {"hires_cam": HiResCAM, "grad_cam": GradCAM}


def overlap_rows(model, tap, part, method="hires_cam"):
    """Share of relevance in heart, fat and sex label, class by class, of the map of the true class.

    Parameters
    ----------
    model : keras.Model
    tap : str
    part : hcreg.datasets.synthetic.CardiacMRI
    method : {"hires_cam", "grad_cam"}

    Returns
    -------
    list of dict
        As of `hcreg.metrics.RelevanceOverlap`, with the column ``method``.
    float
        Accuracy.
    """
    tapped = _METHODS[method].tap(model, tap)
    overlap = RelevanceOverlap(REGIONS, synthetic.CLASSES)
    correct = 0
    for start in range(0, len(part.labels), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        labels = part.labels[chunk]
        outputs = tapped.predict(as_network_input(part.images[chunk], model.inputs[0].shape[-1]), verbose=0)
        maps = np.take_along_axis(outputs["maps"], labels[:, None, None, None], axis=-1)[..., 0]
        overlap.update(maps, part.masks[chunk], labels)
        correct += int((outputs["logits"].argmax(axis=-1) == labels).sum())
    return [{"method": method, **row} for row in overlap.rows()], correct / len(part.labels)


def label_effect(model, part):
    """Mean absolute change of a class's logit when the sex label is added to an image or removed from it.

    Parameters
    ----------
    model : keras.Model
    part : hcreg.datasets.synthetic.CardiacMRI

    Returns
    -------
    dict
        ``logit_change``, its mean over images and classes; ``class_change``, the share of images whose class changes.
    """
    channels = model.inputs[0].shape[-1]
    with_label, without = (
        logits_of(
            model, as_network_input(synthetic.with_sex_label(part.images, part.masks, present=present)[0], channels)
        )
        for present in (True, False)
    )
    return {
        "logit_change": float(np.abs(with_label - without).mean()),
        "class_change": float((with_label.argmax(1) != without.argmax(1)).mean()),
    }


def logits_of(model, network_input):
    """Logits of a classifier.

    Parameters
    ----------
    model : keras.Model
    network_input : ndarray of float32, shape (num_images, height, width, channels)

    Returns
    -------
    ndarray of shape (num_images, classes)
    """
    return keras.Model(model.input, model.get_layer("logits").output).predict(network_input, verbose=0)
