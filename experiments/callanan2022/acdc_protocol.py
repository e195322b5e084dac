"""NOR against diseased on ACDC: the arms, what they share, the images and their augmentation."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from experiments.callanan2022.protocol import CROSS_ENTROPY, DEFAULT
from hcreg import models
from hcreg.augmentation import Chain, HorizontalFlip, Rotation, compose
from hcreg.augmentation.volumetric import ElasticDeformation, MRIContrast, SliceShifts, warp_stack
from hcreg.cardiac_volumes import patient_folds
from hcreg.datasets.volume_cache import SHARE
from hcreg.preprocessing.volumes import Frame

# In so short a training the default weight leaves logits of a few hundredths, which the training loss tells.
WEIGHT_1 = replace(DEFAULT, name="heatmap_weight_1", weight=1.0)
ARMS = {arm.name: arm for arm in (CROSS_ENTROPY, DEFAULT, WEIGHT_1)}
HEALTHY = "NOR"
TAP = "bottom_relu2"


@dataclass(frozen=True)
class Augmentation:
    """Rotation, left-right flip, elastic deformation, a shift of each slice, Gaussian noise: those of the thesis.

    Attributes
    ----------
    spatial : transform of `hcreg.augmentation`
    elastic : ElasticDeformation
    slice_shifts : SliceShifts
    noise : MRIContrast
        That adds noise and nothing else.
    """

    spatial: Chain = field(default_factory=lambda: Chain((HorizontalFlip(), Rotation(-15.0, 15.0))))
    elastic: ElasticDeformation = field(default_factory=lambda: ElasticDeformation(16.0, 1.0))
    slice_shifts: SliceShifts = field(default_factory=lambda: SliceShifts(1.0))
    noise: MRIContrast = field(
        default_factory=lambda: MRIContrast(
            gamma_range=(1.0, 1.0), gain_range=(1.0, 1.0), offset_sd=0.0, bias_sd=0.0, noise_sd=0.2, blur_px=0.0
        )
    )

    def __call__(self, image, heart, rng):
        """Augment one stack; its mask moves with it.

        Parameters
        ----------
        image : ndarray of shape (height, width, slices), float32
        heart : ndarray of shape (height, width, slices), float32
            Share of each voxel inside the heart.
        rng : numpy.random.Generator

        Returns
        -------
        image, heart : ndarray of shape (height, width, slices), float32
        """
        shape = image.shape[:2]
        matrix = self.spatial.draw(rng, shape)
        shifts = self.slice_shifts.draw(rng, image.shape)
        bend = self.elastic.draw(rng, shape)
        # The map of the plane and a slice's own shift are one map, so that pixels are interpolated once less.
        maps = [compose(matrix, np.column_stack([np.eye(2), shift])) for shift in shifts]
        image, heart = (
            self.elastic.apply(_by_slices(stack, maps, border), bend, border)
            for stack, border in ((image, "edge"), (heart, "zero"))
        )
        return self.noise.apply(image, self.noise.draw(rng)), heart


def _by_slices(stack, maps, border):
    moved = [
        warp_stack(stack[:, :, number : number + 1], matrix, stack.shape[:2], border)
        for number, matrix in enumerate(maps)
    ]
    return np.concatenate(moved, axis=2)


FRAME = Frame(64, 64, 3.5, num_slices=9, slice_mm=10.0)


@dataclass(frozen=True)
class Protocol:
    """What is the same in every arm.

    Attributes
    ----------
    frame : Frame
        Takes no mask, in training as in testing.
    filters, num_levels, normalization
        Of `hcreg.models.unet3d_classifier`. "group" would normalise each stack by itself, and so take from the means of
        the maps much of what the classes are told by.
    momentum : float
        Of the moving statistics, likewise: of a few hundred steps Keras's 0.99 would leave them those of the start.
    epochs, batch_size : int
        All epochs are trained, and the last weights tested: nothing is chosen on images.
    learning_rate : float
        At the start; it falls to zero along a cosine.
    num_folds : int
    split_seed : int
        Of the folds; the seeds of training do not change them.

    Raises
    ------
    ValueError
        If there is no epoch, no stack in a batch, or a learning rate that is none.
    """

    frame: Frame = FRAME
    filters: int = 8
    num_levels: int = 2
    normalization: str = "batch"
    momentum: float = 0.9
    epochs: int = 30
    batch_size: int = 8
    learning_rate: float = 2e-3
    num_folds: int = 5
    split_seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Protocol.{name} is a whole number, 1 or more. Received: {getattr(self, name)!r}.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"Protocol.learning_rate is a number above 0, such as 2e-3. Received: {self.learning_rate!r}."
            )

    def network(self, seed):
        """The untrained network.

        Parameters
        ----------
        seed : int
            Of the initial weights.

        Returns
        -------
        keras.Model
            From (batch, height, width, slices, 1), stacks standardised one by one, to the probability of disease
            (batch, 1); see `hcreg.models.unet3d_classifier`.
        """
        return models.unet3d_classifier(
            (self.frame.height_px, self.frame.width_px, self.frame.num_slices, 1),
            filters=self.filters,
            num_levels=self.num_levels,
            normalization=self.normalization,
            momentum=self.momentum,
            seed=seed,
        )


SMOKE = Protocol(Frame(32, 32, 7.0, num_slices=5, slice_mm=20.0), filters=2, num_levels=1, epochs=1, num_folds=2)


def folds_of(records, protocol):
    """Folds by patient, stratified by group; nothing is held back from training but the test fold.

    Parameters
    ----------
    records : sequence of ACDCRecord
    protocol : Protocol

    Returns
    -------
    list of dict
        Subject ids under "training", "validation" (none) and "test".

    Raises
    ------
    ValueError
        If the group of a patient is not known, or a training part would be of one class.
    """
    unknown = sorted({record.patient_id for record in records if record.group is None})
    if unknown:
        raise ValueError(
            f"{len(unknown)} patient(s) have no group in Info.cfg, the first: {', '.join(unknown[:3])}. Healthy "
            "against diseased needs it, and ACDC's training set has it."
        )
    folds = patient_folds(records, protocol.num_folds, protocol.split_seed, validation_fraction=0.0)
    group_of = {record.subject_id: record.group for record in records}
    for number, fold in enumerate(folds):
        healthy = {group_of[subject] == HEALTHY for subject in fold["training"]}
        if len(healthy) < 2:
            raise ValueError(
                f"The training part of fold {number} holds {HEALTHY} alone or none of it. Both classes are needed "
                f"outside every test fold: at least two patients of {HEALTHY} and two others."
            )
    return folds


def labels_of(records):
    """The classes.

    Parameters
    ----------
    records : sequence of ACDCRecord

    Returns
    -------
    ndarray of shape (num_records,), float32
        1 for diseased, 0 for healthy.
    """
    return np.array([record.group != HEALTHY for record in records], np.float32)


def images_of(cache, indices):
    """Standardised stacks.

    Parameters
    ----------
    cache : VolumeCache
        Of a `FramePreparation`.
    indices : sequence of int

    Returns
    -------
    ndarray of shape (num_stacks, height, width, slices), float32
    """
    return np.stack([cache.stacks[index]["image"] for index in indices])


def hearts_of(cache, indices):
    """Share of each voxel inside the heart.

    Parameters
    ----------
    cache : VolumeCache
        Of a `FramePreparation`.
    indices : sequence of int

    Returns
    -------
    ndarray of shape (num_stacks, height, width, slices), float32
        From 0 to 1.

    Raises
    ------
    ValueError
        If a stack has no label map, naming its image.
    """
    for index in indices:
        if "shares" not in cache.stacks[index]:
            raise ValueError(
                f"{cache.records[index].image_path} has no label map, which the heatmap loss and the measures need to "
                "know where the heart is. Put it beside the image, as ..._gt.nii.gz, or leave the patient out."
            )
    return np.stack([1 - cache.stacks[index]["shares"][..., 0].astype(np.float32) / SHARE for index in indices])


def class_weights(labels):
    """Weight of each sample, so that both classes weigh the same in all, 1 on average.

    Parameters
    ----------
    labels : ndarray of shape (num_samples,), 0 or 1

    Returns
    -------
    ndarray of shape (num_samples,), float32

    Examples
    --------
    >>> class_weights(np.array([0, 1, 1, 1])).round(3).tolist()
    [2.0, 0.667, 0.667, 0.667]
    """
    counts = np.bincount(labels.astype(int), minlength=2)
    return (len(labels) / (2 * counts[labels.astype(int)])).astype(np.float32)


def epoch_batches(images, hearts, labels, batch_size, epoch, seed, augment=None):
    """Batches of one epoch, a function of seed and epoch: the same in every arm, and in a training that was stopped.

    Parameters
    ----------
    images, hearts : ndarray of shape (num_stacks, height, width, slices)
    labels : ndarray of shape (num_stacks,)
    batch_size : int
    epoch, seed : int
        Of the order of the stacks; with the stack's position also of its augmentation.
    augment : Augmentation, optional

    Yields
    ------
    x : dict
        "image" and "mask", (batch, height, width, slices, 1).
    y, weights : ndarray of shape (batch,)
        Labels, and `class_weights` of them among all of the epoch. The last batch is smaller where stacks are left.
    """
    weights = class_weights(labels)
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(0,))).permutation(len(labels))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        stacks = [(images[row], hearts[row]) for row in rows]
        if augment is not None:
            stacks = [
                augment(image, heart, np.random.default_rng([seed, epoch, int(row)]))
                for row, (image, heart) in zip(rows, stacks)
            ]
        image, mask = (np.stack(part)[..., None] for part in zip(*stacks))
        yield {"image": image, "mask": mask}, labels[rows], weights[rows]
