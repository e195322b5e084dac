"""NOR against diseased on ACDC: what the arms share, the images, their augmentation, and one training."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from experiments.callanan2022.protocol import CROSS_ENTROPY, DEFAULT, compiled
from hcreg import backend, model_state, models, runs
from hcreg.augmentation import Chain, HorizontalFlip, Rotation, compose
from hcreg.augmentation.volumetric import ElasticDeformation, MRIContrast, SliceShifts, warp_stack
from hcreg.cardiac_volumes import patient_folds
from hcreg.cardiac_volumes.running import describe_data
from hcreg.datasets.volume_cache import SHARE
from hcreg.files import remove_leftovers, write_rows, written_whole
from hcreg.preprocessing.volumes import Frame

# In so short a training the default weight holds the network at guessing, which its training loss tells.
WEIGHT_1 = replace(DEFAULT, name="heatmap_weight_1", weight=1.0)
ARMS = {arm.name: arm for arm in (CROSS_ENTROPY, DEFAULT, WEIGHT_1)}
HEALTHY = "NOR"
TAP = "bottom_relu2"
STATE, WEIGHTS, HISTORY, PREDICTIONS = "training_state.npz", "model.weights.h5", "history.csv", "predictions.csv"


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
    epochs, batch_size : int
        All epochs are trained, and the last weights tested: nothing is chosen on images.
    learning_rate : float
        At the start; it falls to zero along a cosine.
    num_folds : int
    split_seed : int
        Of the folds; the seeds of training do not change them.
    """

    frame: Frame = FRAME
    filters: int = 8
    num_levels: int = 2
    normalization: str = "batch"
    epochs: int = 30
    batch_size: int = 8
    learning_rate: float = 2e-3
    num_folds: int = 5
    split_seed: int = 0

    def network(self, seed):
        """The untrained network: a `keras.Model` from (batch, height, width, slices, 1) to the probability of disease.

        Parameters
        ----------
        seed : int
        """
        shape = (self.frame.height_px, self.frame.width_px, self.frame.num_slices, 1)
        return models.unet3d_classifier(
            shape, filters=self.filters, num_levels=self.num_levels, normalization=self.normalization, seed=seed
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
    """1 for diseased, 0 for healthy: ndarray of float32 (num_records,)."""
    return np.array([record.group != HEALTHY for record in records], np.float32)


def hearts_of(cache, indices):
    """Share of each voxel inside the heart.

    Parameters
    ----------
    cache : VolumeCache
        Of a `FramePreparation`, with label maps.
    indices : sequence of int

    Returns
    -------
    ndarray of shape (num_stacks, height, width, slices), float32
    """
    return np.stack([1 - cache.stacks[index]["shares"][..., 0].astype(np.float32) / SHARE for index in indices])


def images_of(cache, indices):
    """Standardised stacks: ndarray of shape (num_stacks, height, width, slices), float32; see `hearts_of`."""
    return np.stack([cache.stacks[index]["image"] for index in indices])


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
    augment : Augmentation, optional

    Yields
    ------
    x : dict
        "image" and "mask", (batch, height, width, slices, 1).
    y, weights : ndarray of shape (batch,)
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


def train(arm, protocol, cache, split, folder, fold, seed, on_epoch=None, test=None):
    """Train one network on one fold and test it, unless that was done; a stopped training goes on.

    Parameters
    ----------
    arm : experiments.callanan2022.protocol.Arm
    protocol : Protocol
    cache : VolumeCache
    split : dict
        Of `folds_of`.
    folder : path-like
        Run folder.
    fold, seed : int
        They fix initial weights, order and augmentation, alike in all arms.
    on_epoch : callable, optional
        Called after each epoch.
    test : callable
        ``test(model, cache, indices)`` gives the rows of ``predictions.csv``.

    Returns
    -------
    dict
        The record of ``run.json``.
    """
    folder = Path(folder)
    record = open_run(arm, protocol, cache.records, split, folder, fold, seed)
    if record["status"] == "finished":
        return record
    keras.utils.clear_session()
    backend.seed_everything(seed)
    parts = {part: cache.index_of(split[part]) for part in ("training", "test")}
    images, hearts = images_of(cache, parts["training"]), hearts_of(cache, parts["training"])
    labels = labels_of([cache.records[index] for index in parts["training"]])
    run_seed = seed * 1000 + fold
    model = protocol.network(run_seed)
    steps = protocol.epochs * -(-len(labels) // protocol.batch_size)
    guided = compiled(model, TAP, _for_steps(arm, steps), protocol.learning_rate, steps)
    history = _restored(guided, folder)
    augment = Augmentation()
    for epoch in range(len(history), protocol.epochs):
        started = time.perf_counter()
        batches = epoch_batches(images, hearts, labels, protocol.batch_size, epoch, run_seed, augment)
        found = [guided.train_on_batch(x, y, sample_weight=weights, return_dict=True) for x, y, weights in batches]
        logs = {name: float(np.mean([logs[name] for logs in found])) for name in found[0]}
        if not np.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"The loss became {logs['loss']} in epoch {epoch + 1} of {folder}. Try a smaller --learning-rate."
            )
        history.append({"epoch": epoch + 1, **logs, "seconds": time.perf_counter() - started})
        with written_whole(folder / STATE) as partial, open(partial, "wb") as file:
            model_state.save_state(file, guided, history)
        if on_epoch is not None:
            on_epoch()
    write_rows(folder / HISTORY, history)
    with written_whole(folder / WEIGHTS) as partial:
        partial.write_bytes(model_state.weights_bytes(model))
    started = time.perf_counter()
    rows = test(model, cache, parts["test"])
    write_rows(folder / PREDICTIONS, [{"fold": fold, "seed": seed, **row} for row in rows])
    results = {
        "training_seconds": sum(row["seconds"] for row in history),
        "test_seconds": time.perf_counter() - started,
        "num_parameters": model.count_params(),
        "num_stacks": {part: len(indices) for part, indices in parts.items()},
    }
    runs.close_run(folder, record, **results)
    (folder / STATE).unlink(missing_ok=True)
    return {**record, **results, "status": "finished"}


def open_run(arm, protocol, records, split, folder, fold, seed):
    """Begin a run or go on with one: see `hcreg.runs.open_run`, which also says what is refused."""
    arguments = {"arm": asdict(arm), "protocol": asdict(protocol), "augmentation": asdict(Augmentation())}
    return runs.open_run(folder, {**arguments, "fold": fold, "seed": seed, "data": describe_data(records)}, split)


def _for_steps(arm, steps):
    """The weight of the attention term has grown when half of a short run is over."""
    return replace(arm, ramp_steps=min(arm.ramp_steps, steps // 2))


def _restored(guided, folder):
    remove_leftovers(folder / STATE)
    if not (folder / STATE).is_file():
        return []
    arrays, history = model_state.load_state(folder / STATE, folder / STATE)
    model_state.restore(guided, arrays, folder / STATE)
    return history
