"""From prepared stacks to batches: single slices with their neighbours, or whole stacks, augmented on the fly."""

import numpy as np

from hcreg.augmentation.volumetric import size_factor, warp_shares, warp_stack, window
from hcreg.datasets.epochs import Epochs
from hcreg.datasets.volume_cache import SHARE

SLICE_TARGETS = ("mask", "areas_cm2")
STACK_TARGETS = ("volume", "pixel")
NUM_NEIGHBOURS = 1  # slices on either side that a slice is shown with


def with_neighbours(stack):
    """Each slice of a stack with the one below and the one above as channels; at the ends the slice itself again.

    Parameters
    ----------
    stack : ndarray of shape (height, width, slices)

    Returns
    -------
    ndarray of shape (slices, height, width, 3), a view where possible

    Examples
    --------
    >>> import numpy as np
    >>> with_neighbours(np.arange(3.0).reshape(1, 1, 3))[:, 0, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    """
    padded = np.pad(stack, ((0, 0), (0, 0), (NUM_NEIGHBOURS, NUM_NEIGHBOURS)), mode="edge")
    width = 2 * NUM_NEIGHBOURS + 1
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(padded, width, axis=2), 2, 0)


class SliceBatches(Epochs):
    """Slices with their neighbours as channels, and what they show: the share of each class in each pixel, the areas.

    Parameters
    ----------
    cache : VolumeCache
        Of a `FramePreparation`, with label maps.
    indices : array-like of int
        The stacks of this part; each of their slices is a sample.
    targets : tuple of str
        "mask", "areas_cm2" (in cm²) or both, as a dict.
    batch_size : int
    spatial : transform of `hcreg.augmentation`, optional
        Moves image and shares alike.
    contrast : MRIContrast, optional
    crop_px : int, optional
        Side of the square that is cut out of each augmented slice; by default the whole frame is served.
    crop_about : {"heart", "frame"}
        What lies in the middle of that square before augmentation moves it: the middle of the stack's heart, which
        takes its mask, or of the frame.
    shuffle : bool
    seed : int

    Raises
    ------
    ValueError
        If a stack has no label map, no stack is given, or a target or crop is unknown.
    """

    def __init__(
        self,
        cache,
        indices,
        *,
        targets=SLICE_TARGETS,
        batch_size=16,
        spatial=None,
        contrast=None,
        crop_px=None,
        crop_about="heart",
        shuffle=False,
        seed=0,
    ):
        if not len(indices):
            raise ValueError("This part of the split has no stacks.")
        unlabelled = [cache.records[index].subject_id for index in indices if "shares" not in cache.stacks[index]]
        if unlabelled:
            raise ValueError(f"Training needs label maps; {len(unlabelled)} stacks have none: {unlabelled[:5]}.")
        if not targets or not set(targets) <= set(SLICE_TARGETS):
            raise ValueError(f"Targets of slices are of {', '.join(SLICE_TARGETS)}. Received: {targets!r}.")
        if crop_about not in ("heart", "frame"):
            raise ValueError(f"A crop is about the 'heart' or the 'frame'. Received: crop_about={crop_about!r}.")
        self.cache, self.targets = cache, tuple(targets)
        self.spatial, self.contrast = spatial, contrast
        self.crop_px, self.crop_about = crop_px, crop_about
        self.samples = [
            (int(index), number) for index in indices for number in range(cache.stacks[index]["image"].shape[2])
        ]
        self.centers = {int(index): self._center(int(index)) for index in indices}
        super().__init__(len(self.samples), batch_size=batch_size, shuffle=shuffle, seed=seed)
        self._fixed = None

    def batch_of(self, epoch, rows):
        """Slices and targets of a batch; see `hcreg.datasets.epochs.Epochs`."""
        if self.spatial is None and self.contrast is None and self.crop_px is None:
            images, targets = self.arrays()
            return images[rows], {name: values[rows] for name, values in targets.items()}
        images, shares = zip(*(self._augmented(epoch, row) for row in rows))
        return np.stack(images), self._targets(np.stack(shares))

    def arrays(self):
        """All slices on the whole frame, without augmentation, computed once.

        Returns
        -------
        images : ndarray of shape (num_samples, height_px, width_px, 3), float32
        targets : dict of ndarray
        """
        if self._fixed is None:
            images, shares = zip(*(self._sample(row) for row in range(self.num_samples)))
            self._fixed = np.stack(images), self._targets(np.stack(shares).astype(np.float32) / SHARE)
        return self._fixed

    def _sample(self, row):
        index, number = self.samples[row]
        stack = self.cache.stacks[index]
        return with_neighbours(stack["image"])[number], stack["shares"][:, :, number]

    def _augmented(self, epoch, row):
        rng = self.generator(epoch, row)
        image, shares = self._sample(row)
        shape = image.shape[:2]
        cut = shape if self.crop_px is None else (self.crop_px, self.crop_px)
        matrix = np.eye(2, 3) if self.spatial is None else self.spatial.draw(rng, shape)
        matrix = window(matrix, shape, cut, self.centers[self.samples[row][0]])
        image = warp_stack(image, matrix, cut)
        shares = warp_shares(shares.astype(np.float32) / SHARE, matrix, cut)
        if self.contrast is not None:
            image = self.contrast.apply(image, self.contrast.draw(rng))
        return image, shares

    def _targets(self, shares):
        targets = {"mask": shares}
        if "areas_cm2" in self.targets:
            pixel_cm2 = self.cache.prepare.frame.pixel_mm**2 / 100
            targets["areas_cm2"] = (shares[..., 1:].sum((1, 2), dtype=np.float64) * pixel_cm2).astype(np.float32)
        return {name: targets[name] for name in self.targets}

    def _center(self, index):
        stack = self.cache.stacks[index]
        height, width = stack["image"].shape[:2]
        if self.crop_px is not None and self.crop_about == "heart":
            heart = stack["shares"][..., 1:].sum((2, 3), dtype=np.float64)
            if heart.sum() > 0:
                rows, columns = heart.sum(1), heart.sum(0)
                return (
                    float(columns @ np.arange(width) / columns.sum()),
                    float(rows @ np.arange(height) / rows.sum()),
                )
        return (width - 1) / 2, (height - 1) / 2


class StackBatches(Epochs):
    """Whole stacks and their volumes, as a share of the largest of the training part.

    Parameters
    ----------
    cache : VolumeCache
    indices : array-like of int
        The stacks of this part.
    scale : ndarray of shape (outputs,)
        What the targets are divided by: see `largest`.
    target : {"volume", "pixel"}
        Volumes in ml, or counts of voxels.
    total : bool
        One target, the sum of the structures, instead of one for each.
    ndim : {2, 3}
        2 serves the slices as channels (batch, height, width, slices), 3 as an axis (batch, height, width, slices, 1).
    batch_size : int
    spatial : transform of `hcreg.augmentation`, optional
        Volumes follow its determinant.
    shuffle : bool
    seed : int

    Raises
    ------
    ValueError
        If there are no stacks, training stacks without volumes, or a network of other dimensions.
    """

    def __init__(
        self,
        cache,
        indices,
        scale,
        *,
        target="volume",
        total=False,
        ndim=3,
        batch_size=8,
        spatial=None,
        shuffle=False,
        seed=0,
    ):
        if not len(indices):
            raise ValueError("This part of the split has no stacks.")
        if ndim not in (2, 3):
            raise ValueError(f"Stacks are served to networks of 2 or 3 dimensions. Received: ndim={ndim!r}.")
        self.cache, self.indices = cache, np.asarray(indices, int)
        self.values = target_values(cache, target, total)[self.indices] / np.asarray(scale, float)
        if (shuffle or spatial is not None) and not np.isfinite(self.values).all():
            raise ValueError("Training needs label maps to know the volumes: some of these stacks have none.")
        self.ndim, self.spatial = ndim, spatial
        super().__init__(len(self.indices), batch_size=batch_size, shuffle=shuffle, seed=seed)

    def batch_of(self, epoch, rows):
        """Stacks and targets of a batch; see `hcreg.datasets.epochs.Epochs`."""
        images, values = [], self.values[rows].copy()
        for position, row in enumerate(rows):
            image = self.cache.stacks[self.indices[row]]["image"]
            if self.spatial is not None:
                matrix = self.spatial.draw(self.generator(epoch, row), image.shape[:2])
                image = warp_stack(image, matrix, image.shape[:2])
                values[position] *= size_factor(matrix)
            images.append(image)
        images = np.stack(images)
        return (images if self.ndim == 2 else images[..., None]), values.astype(np.float32)

    def arrays(self):
        """All stacks without augmentation: images and targets, in the order of `indices`."""
        plain = StackBatches.__new__(StackBatches)
        plain.__dict__.update(self.__dict__, spatial=None)
        return plain.batch_of(0, np.arange(self.num_samples))


def target_values(cache, target, total):
    """What a network of whole stacks is trained to predict, before division by the largest.

    Parameters
    ----------
    cache : VolumeCache
    target : {"volume", "pixel"}
    total : bool

    Returns
    -------
    ndarray of shape (num_records, structures), or (num_records, 1) for the total
        ml, or voxels.
    """
    if target not in STACK_TARGETS:
        raise ValueError(f"The target is the 'volume' in ml or the 'pixel' count. Received: target={target!r}.")
    values = cache.volumes_ml if target == "volume" else cache.voxel_counts
    return values.sum(1, keepdims=True) if total else values


def largest(cache, indices, target, total):
    """The largest target of a part, by which targets are divided: see `target_values`."""
    return target_values(cache, target, total)[indices].max(0)
