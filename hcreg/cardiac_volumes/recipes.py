"""How a network of cardiac volumes is built, fed and trained: a row of a table."""

from dataclasses import asdict, dataclass, field, replace

import cv2
import keras
import numpy as np

from hcreg import models
from hcreg.augmentation.spatial import about_center
from hcreg.augmentation.volumetric import (
    MRIContrast,
    cardiac_augmentation,
    size_factor,
    warp_shares,
    warp_stack,
    zhang2021_volume_augmentation,
)
from hcreg.cardiac_volumes.masks import mask_columns
from hcreg.datasets.volume_batches import SliceBatches, StackBatches, largest, with_neighbours
from hcreg.datasets.volume_cache import FramePreparation, PaperPreparation
from hcreg.preprocessing.cardiac import STRUCTURES
from hcreg.preprocessing.volumes import Frame
from hcreg.recipe_arguments import described_builder, described_loss

# 280 mm: hearts lie up to 62 mm beside the middle of the image, and up to 80 below or above it
SLICE_FRAME = Frame(160, 160, 1.75)
# nine slices over the 112 mm that the longest stacks of ACDC have
STACK_FRAME = Frame(224, 224, 1.2, num_slices=9, slice_mm=12.5)
MAX_SLICES, MAX_STACKS = 128, 64  # predicted at once: some 100 MB of maps or of images
STACK_AUGMENTATIONS = {"none": lambda size: None, "zhang2021": zhang2021_volume_augmentation}
AS_IT_IS = ((0.0, 1.0),)  # degrees, zoom
SLICE_AUGMENTATIONS = {
    "none": lambda size: (None, None),
    "strong": lambda size: (cardiac_augmentation(), MRIContrast()),
}


def _named(augmentations, name, size):
    if name not in augmentations:
        raise ValueError(f"An augmentation is one of {', '.join(augmentations)}. Received: {name!r}.")
    return augmentations[name](size)


@dataclass(frozen=True)
class _Recipe:
    """What both kinds of recipe have.

    Attributes
    ----------
    name : str
        Names the row and its folder.
    build : callable
        A builder of `hcreg.models`.
    loss : keras.losses.Loss, or dict of them by output
    build_arguments : dict
        Arguments of `build` beside ``input_shape`` and ``seed``.
    loss_weights : dict of str to float
    learning_rate : float
    schedule : {"constant", "cosine"}
    batch_size, epochs, patience : int
    augmentation : str
    trained_as : str, optional
        Name of the row whose networks this one measures with, their runs lying beside its own; nothing is trained then.
    """

    name: str
    build: object
    loss: keras.losses.Loss | dict
    build_arguments: dict = field(default_factory=dict)
    loss_weights: dict = field(default_factory=dict)
    learning_rate: float = 1e-3
    schedule: str = "constant"
    batch_size: int = 8
    epochs: int = 100
    patience: int = 100
    augmentation: str = "none"
    trained_as: str | None = None

    def with_loss(self, suffix, loss):
        """The same recipe with another loss, named after it."""
        return replace(self, name=f"{self.name}_{suffix}", loss=loss)

    def arguments(self):
        """What decides the result, as ``run.json`` keeps it: dict of JSON values."""
        return {
            "row": self.name,
            "kind": type(self).__name__,
            **described_builder(self.build, self.build_arguments),
            "loss": described_loss(self.loss),
            "loss_weights": self.loss_weights,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "patience": self.patience,
            "augmentation": self.augmentation,
            **self.own_arguments(),
            **({} if self.trained_as is None else {"trained_as": self.trained_as}),
        }


@dataclass(frozen=True)
class StackRecipe(_Recipe):
    """A regressor of whole stacks, as zhang2021biometrics has them: `models.vgg2d`, `models.vgg3d`.

    Attributes
    ----------
    crop : {"frame", "paper"}
        "frame" needs no mask (`STACK_FRAME`); "paper" crops about the heart, so it takes the mask at test time too.
    source : {"image", "mask"}
        "mask" shows the network the label map instead of the image (Table 11); with the paper's crop.
    target : {"volume", "pixel"}
        Millilitres, or voxels: with the paper's crop, whose scale is that of the image's own pixels.
    size : tuple of int (height_px, width_px)
        Of the input. On the frame a pixel is the larger the smaller this is: the extent in mm stays.
    """

    crop: str = "frame"
    source: str = "image"
    target: str = "volume"
    size: tuple = (224, 224)
    augmentation: str = "zhang2021"

    def __post_init__(self):
        if self.crop not in ("frame", "paper"):
            raise ValueError(f"A stack is cropped to the 'frame' or as the 'paper' does. Received: {self.crop!r}.")
        if self.crop == "frame" and (self.source != "image" or self.target != "volume"):
            raise ValueError(
                "On a frame in mm a network sees the image, and its scale is that of volumes: source='mask' and "
                f"target='pixel' go with crop='paper'. Received: source={self.source!r}, target={self.target!r}."
            )

    @property
    def total(self):
        """Whether the one output is the sum of the structures."""
        return self.build_arguments.get("variant") == "single_label"

    @property
    def names(self):
        """What is measured."""
        return ("heart",) if self.total else STRUCTURES

    @property
    def shown(self):
        """What the history shows beside the losses; see `hcreg.training.fit`."""
        return {"mae": ("mae_fraction", 1.0)}

    @property
    def ndim(self):
        """2 where the slices are channels, 3 where they are an axis."""
        return 2 if self.build is models.vgg2d else 3

    @property
    def preparation(self):
        """What a stack goes through before the network sees it."""
        if self.crop == "frame":
            height_px, width_px = self.size
            pixel_mm = STACK_FRAME.pixel_mm * STACK_FRAME.height_px / height_px
            return FramePreparation(replace(STACK_FRAME, height_px=height_px, width_px=width_px, pixel_mm=pixel_mm))
        return PaperPreparation(size=tuple(self.size), source=self.source)

    def own_arguments(self):
        """What the other kind has not."""
        own = {"crop": self.crop, "source": self.source, "target": self.target, "size": list(self.size)}
        return {**own, "frame": asdict(self.preparation.frame)} if self.crop == "frame" else own

    def network(self, seed):
        """Build the network, uncompiled."""
        depth = STACK_FRAME.num_slices
        shape = (*self.size, depth) if self.ndim == 2 else (*self.size, depth, 1)
        return self.build(input_shape=shape, seed=seed, **self.build_arguments)

    def scale(self, cache, training):
        """What targets are divided by: the largest of the training part, each structure by its own."""
        return largest(cache, training, self.target, self.total)

    def batches(self, cache, indices, scale, seed, training=False):
        """Batches of a part; augmented and shuffled for training."""
        spatial = _named(STACK_AUGMENTATIONS, self.augmentation, self.size) if training else None
        options = {"target": self.target, "total": self.total, "ndim": self.ndim, "batch_size": self.batch_size}
        return StackBatches(cache, indices, scale, spatial=spatial, shuffle=training, seed=seed, **options)

    def measure(self, networks, cache, indices):
        """What networks say of stacks.

        Parameters
        ----------
        networks : list of tuple (keras.Model, ndarray)
            Networks and the scales of their outputs; of several, the mean counts.
        cache : VolumeCache
        indices : sequence of int

        Returns
        -------
        list of dict
            ``RV_pred_ml`` and so on, for each stack.
        """
        measured = []
        for group in _groups(indices, [1] * len(indices), MAX_STACKS):
            images = np.stack([cache.stacks[index]["image"] for index in group])
            images = images if self.ndim == 2 else images[..., None]
            values = np.mean(
                [_predicted(model, images, self.batch_size).astype(float) * scale for model, scale in networks], axis=0
            )
            if self.target == "pixel":
                values = values * cache.voxel_ml[group, None]
            measured += [
                {f"{name}_pred_ml": float(value) for name, value in zip(self.names, row, strict=True)} for row in values
            ]
        return measured


@dataclass(frozen=True)
class SliceRecipe(_Recipe):
    """A network of slices that counts softly: its areas, added up, are the volumes; its mask, if trained, segments.

    Attributes
    ----------
    frame : Frame
        In mm about the middle of the image: no mask is needed at test time.
    crop_px : int or None
        Side of the square of the frame that training sees, cut out after augmentation; tests see the whole frame.
    crop_about : {"heart", "frame"}
        "heart" takes the masks of the training part.
    views : tuple of tuple (degrees, zoom)
        How each slice is turned and enlarged about the middle of the frame when it is measured; areas, divided by what
        the zoom does to them, and maps, turned back, are averaged over the views.
    """

    frame: Frame = SLICE_FRAME
    crop_px: int | None = 96
    crop_about: str = "heart"
    schedule: str = "cosine"
    batch_size: int = 16
    augmentation: str = "strong"
    views: tuple = AS_IT_IS

    @property
    def names(self):
        """What is measured."""
        return STRUCTURES

    @property
    def shown(self):
        """What the history shows beside the losses; see `hcreg.training.fit`."""
        return {"areas_cm2_mae": ("mae_cm2", 1.0), "mask_dice_score": ("dice_score", 1.0)}

    @property
    def preparation(self):
        """What a stack goes through before the network sees it."""
        return FramePreparation(self.frame)

    @property
    def segments(self):
        """Whether the mask was trained, and so means anything."""
        return "mask" in self.loss

    def own_arguments(self):
        """What the other kind has not."""
        frame = {"height_px": self.frame.height_px, "width_px": self.frame.width_px, "pixel_mm": self.frame.pixel_mm}
        own = {"frame": frame, "crop_px": self.crop_px, "crop_about": self.crop_about}
        if self.views != AS_IT_IS:
            own["views"] = [list(view) for view in self.views]
        return own

    def network(self, seed):
        """Build the network, uncompiled; slices of any size, the one before and after as channels."""
        network = self.build(
            input_shape=(None, None, 3),
            classes=1 + len(STRUCTURES),
            activation="softmax",
            seed=seed,
            **self.build_arguments,
        )
        return models.with_areas(network, self.frame.pixel_mm)

    def scale(self, cache, training):
        """Areas are what they are: no scale."""
        return np.ones(len(STRUCTURES))

    def batches(self, cache, indices, scale, seed, training=False):
        """Batches of a part; augmented, cropped and shuffled for training."""
        spatial, contrast = _named(SLICE_AUGMENTATIONS, self.augmentation, None) if training else (None, None)
        crop = {"crop_px": self.crop_px, "crop_about": self.crop_about} if training else {}
        return SliceBatches(
            cache,
            indices,
            batch_size=self.batch_size,
            spatial=spatial,
            contrast=contrast,
            shuffle=training,
            seed=seed,
            **crop,
        )

    def measure(self, networks, cache, indices):
        """What networks say of stacks.

        Parameters
        ----------
        networks, cache, indices
            As of `StackRecipe.measure`; the mean is that of the areas, and of the maps.

        Returns
        -------
        list of dict
            For each stack ``RV_pred_ml`` and so on, from the soft count; where the mask was trained also
            ``RV_mask_ml``, from the label map at the image's own size, and its Dice ``RV_dice``.
        """
        measured = []
        for index, areas_cm2, shares in self.look(networks, cache, indices):
            volumes_ml = areas_cm2.sum(0) * cache.slice_mm[index] / 10
            columns = {f"{name}_pred_ml": float(value) for name, value in zip(STRUCTURES, volumes_ml, strict=True)}
            if self.segments:
                columns |= mask_columns(np.moveaxis(shares, 0, 2), self.frame, cache.records[index])
            measured.append(columns)
        return measured

    def look(self, networks, cache, indices):
        """What networks see in each slice of stacks.

        Parameters
        ----------
        networks, cache, indices
            As of `measure`.

        Yields
        ------
        index : int
        areas_cm2 : ndarray of shape (slices, structures), cm²
        shares : ndarray of shape (slices, height_px, width_px, classes)
        """
        for group in _groups(indices, [cache.stacks[index]["image"].shape[2] for index in indices], MAX_SLICES):
            stacks = [with_neighbours(cache.stacks[index]["image"]) for index in group]
            slices, ends = np.concatenate(stacks), np.cumsum([len(stack) for stack in stacks])[:-1]
            looks = [(model, view) for model, _ in networks for view in self.views]
            areas_cm2, shares = 0.0, np.float32(0)
            for model, view in looks:  # added up one by one: of all networks and views together maps fill gigabytes
                found = self._from_view(model, slices, *view)
                areas_cm2 = areas_cm2 + found["areas_cm2"].astype(float) / len(looks)
                shares = shares + found["mask"] / np.float32(len(looks))
            yield from zip(group, np.split(areas_cm2, ends), np.split(shares, ends), strict=True)

    def _from_view(self, model, slices, degrees, zoom):
        """What a network says of turned and enlarged slices, for the slices as they are."""
        shape = (self.frame.height_px, self.frame.width_px)
        matrix = view_matrix(degrees, zoom, shape)
        if np.array_equal(matrix, np.eye(2, 3)):
            return _predicted(model, slices, self.batch_size)
        found = _predicted(model, np.stack([warp_stack(one, matrix, shape) for one in slices]), self.batch_size)
        back = cv2.invertAffineTransform(matrix)
        shares = np.stack([warp_shares(one, back, shape) for one in found["mask"]])
        return {"mask": shares, "areas_cm2": found["areas_cm2"] / size_factor(matrix)}


def view_matrix(degrees, zoom, shape):
    """The in-plane map that turns and enlarges a frame about its middle.

    Parameters
    ----------
    degrees : float
        Counter-clockwise as seen on the screen.
    zoom : float
    shape : tuple of int (height_px, width_px)

    Returns
    -------
    ndarray of shape (2, 3)

    Examples
    --------
    >>> view_matrix(0.0, 2.0, (5, 5)).tolist()
    [[2.0, 0.0, -2.0], [0.0, 2.0, -2.0]]
    """
    angle = np.deg2rad(degrees)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return about_center([[cos, sin], [-sin, cos]], shape)


def _groups(indices, sizes, most):
    """Indices in their order, in groups that come to `most` or little more: what is predicted at once must fit."""
    groups, total = [], most
    for index, size in zip(indices, sizes, strict=True):
        if total >= most:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += size
    return groups


def _predicted(model, inputs, batch_size):
    """Predict in batches of one size: each other size, as of a last batch, would be traced anew."""
    padding = np.repeat(inputs[-1:], -len(inputs) % batch_size, axis=0)
    found = model.predict(np.concatenate([inputs, padding]), batch_size=batch_size, verbose=0)
    return keras.tree.map_structure(lambda values: values[: len(inputs)], found)
