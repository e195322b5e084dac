"""What is measured of a trained classifier of stacks: its answers, where they come from, and what the outside does."""

import keras
import numpy as np

from experiments.callanan2022.acdc_protocol import TAP, hearts_of, images_of, labels_of
from hcreg import backend, models
from hcreg.attention import channel

_BATCH = 8


def answer_rows(model, cache, indices):
    """Answers to stacks, and where HiResCAM says that they come from.

    Parameters
    ----------
    model : keras.Model
        Of `hcreg.models.unet3d_classifier`, with one score.
    cache : VolumeCache
        Of a `FramePreparation`, with label maps: the network sees none of them, the measures do.
    indices : sequence of int

    Returns
    -------
    list of dict
        For each stack ``subject_id``, ``patient_id``, ``phase``, ``group``, ``diseased`` (0 or 1), ``logit``,
        ``probability``; ``share_hires_cam``, how much of the map's absolute values lies inside the heart, NaN where it
        is zero everywhere, and ``share_chance``, of a map of one value; ``relevance``, the sum of the absolute map in
        units of the logit.

    Raises
    ------
    ValueError
        If a stack has no label map.
    """
    records = [cache.records[index] for index in indices]
    images, hearts = images_of(cache, indices), hearts_of(cache, indices)
    logits, shares, relevance = cam_measures(model, images, hearts)
    labels = labels_of(records)
    return [
        {
            "subject_id": record.subject_id,
            "patient_id": record.patient_id,
            "phase": record.phase,
            "group": record.group,
            "diseased": int(labels[row]),
            "logit": logits[row],
            "probability": 1 / (1 + np.exp(-logits[row])),
            "share_hires_cam": shares[row],
            "share_chance": float(hearts[row].mean()),
            "relevance": relevance[row],
        }
        for row, record in enumerate(records)
    ]


def prediction_rows(model, cache, indices):
    """Answers and all measures of test stacks.

    Parameters
    ----------
    model, cache, indices
        As of `answer_rows`.

    Returns
    -------
    list of dict
        What `answer_rows` tells; ``share_gradient``, see `gradient_shares`; ``swap_logit_change`` and
        ``swap_class_change``, see `swap_effect`.
    """
    rows = answer_rows(model, cache, indices)
    records = [cache.records[index] for index in indices]
    images, hearts = images_of(cache, indices), hearts_of(cache, indices)
    scores = score_model(model)
    shares = gradient_shares(scores, images, hearts)
    change, class_change = swap_effect(scores, images, hearts, records, np.array([row["logit"] for row in rows]))
    measures = {"share_gradient": shares, "swap_logit_change": change, "swap_class_change": class_change}
    return [{**row, **{name: values[number] for name, values in measures.items()}} for number, row in enumerate(rows)]


def score_model(model):
    """A classifier without its sigmoid.

    Parameters
    ----------
    model : keras.Model
        Of `hcreg.models.unet3d_classifier`.

    Returns
    -------
    keras.Model
        From images to logits, sharing the weights.
    """
    return keras.Model(model.input, model.get_layer("logits").output)


def cam_measures(model, images, hearts):
    """Logits, and where HiResCAM says that they come from.

    Parameters
    ----------
    model : keras.Model
    images, hearts : ndarray of shape (num_stacks, height, width, slices)

    Returns
    -------
    logits : ndarray of shape (num_stacks,)
    shares : ndarray of shape (num_stacks,)
        Of absolute relevance inside the heart; a cell of the map that the heart fills in part counts in part. NaN for
        a map of zeros.
    relevance : ndarray of shape (num_stacks,)
        Sum of the absolute map, in units of the logit.
    """
    guided = models.with_attention(model, TAP)
    told = _in_batches(lambda image, mask: guided({"image": image, "mask": mask}, training=False), images, hearts)
    logits, total, outside = (np.asarray(channel(told, name)[:, 0], float) for name in ("logit", "total", "outside"))
    return logits, _share(total - outside, total), total


def gradient_shares(scores, images, hearts):
    """Share of the absolute gradient of the score, voxel by voxel, inside the heart; see `cam_measures`.

    Parameters
    ----------
    scores : keras.Model
        Of `score_model`.
    images, hearts : ndarray of shape (num_stacks, height, width, slices)

    Returns
    -------
    ndarray of shape (num_stacks,)
    """
    sizes = np.abs(_in_batches(lambda image: backend.gradient(scores, image), images))[..., 0].astype(float)
    axes = (1, 2, 3)
    return _share((sizes * hearts).sum(axes), sizes.sum(axes))


def swap_effect(scores, images, hearts, records, logits):
    """How much the score depends on what is outside the heart: it is replaced by other patients' outside.

    Parameters
    ----------
    scores : keras.Model
        Of `score_model`.
    images, hearts : ndarray of shape (num_stacks, height, width, slices)
    records : sequence of ACDCRecord
    logits : ndarray of shape (num_stacks,)
        Of the images as they are.

    Returns
    -------
    logit_change : ndarray of shape (num_stacks,)
        Mean absolute change of the logit over all other patients' stacks of the same phase; NaN where there are none.
    class_change : ndarray of shape (num_stacks,)
        Share of them with which the class changes.

    Notes
    -----
    A voxel is exchanged as far as it lies outside both hearts, as in `hcreg.layers.SwapOutside`.
    """
    pairs = [
        (row, other)
        for row, record in enumerate(records)
        for other, donor in enumerate(records)
        if donor.patient_id != record.patient_id and donor.phase == record.phase
    ]
    change, class_change = np.full((2, len(records)), np.nan)
    if not pairs:
        return change, class_change
    rows, others = np.array(pairs).T
    kept = np.maximum(hearts[rows], hearts[others])
    swapped = kept * images[rows] + (1 - kept) * images[others]
    found = _in_batches(scores, swapped)[:, 0].astype(float)
    for row in np.unique(rows):
        of_row = found[rows == row]
        change[row] = np.abs(of_row - logits[row]).mean()
        class_change[row] = np.mean((of_row > 0) != (logits[row] > 0))
    return change, class_change


def _in_batches(function, *stacks):
    """What a function of batches gives, without a graph: to draw one up takes longer than these few stacks."""
    batches = range(0, len(stacks[0]), _BATCH)
    parts = (function(*(each[start : start + _BATCH, ..., None] for each in stacks)) for start in batches)
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def _share(part, whole):
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
