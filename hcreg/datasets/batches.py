"""From records to a network's batches: decode each image once, keep it small, augment on the fly.

`ImageCache` reads the images of a data set once in a run and keeps them as 8-bit pictures of twice the
network's input size. `Batches` serves any subset of it to `keras.Model.fit`: each image of each epoch is
warped, halved by area interpolation and normalised, with its label computed from the warped ellipse. What
epoch 7 shows of image 12 depends on the seed, the epoch and the image only, so a resumed run sees what an
uninterrupted one would have seen.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hcreg.augmentation.spatial import apply_to_image, draw_inside
from hcreg.datasets.epochs import Epochs
from hcreg.datasets.positions import positions
from hcreg.geometry import resize_matrix
from hcreg.preprocessing.frames import (
    OVERSAMPLING,
    REFERENCE_SHAPE,
    input_image,
    normalise,
    place,
    working_image,
)
from hcreg.progress import progress_bar

TARGETS = ("hc_fraction", "mask")


class ImageCache:
    """All images of a data set, decoded once and resized, with their labels in reference pixels.

    Parameters
    ----------
    records : sequence of HC18Record
        Or any records with ``subject_id``, ``pixel_size_mm``, ``hc_mm``, ``image()`` and, where
        `with_ellipses`, ``ellipse()``.
    input_shape : tuple of int (height_px, width_px[, channels])
        The network's input.
    with_ellipses : bool
        Read the annotations too; needed for masks and for augmented training.
    num_workers : int
        Threads that decode.
    progress : callable, optional
        Called with the number of images read so far, after each.

    Raises
    ------
    ValueError
        If there are no records, or an image is unreadable or constant; the first such file is named and
        reading stops.

    Attributes
    ----------
    images : ndarray of shape (num_images, 2 height_px, 2 width_px), uint8
    reference_px_per_mm : ndarray of shape (num_images,)
        Turns millimetres into reference pixels.
    hc_px : ndarray of shape (num_images,), reference px
        Head circumference; NaN where a record has none.
    ellipses : list of Ellipse or None
        Annotated heads in pixels of the reference frame.
    placements : list of hcreg.preprocessing.frames.Placement
        Where each image lies in the frame.

    Notes
    -----
    A reference pixel is a pixel of the 800 x 540 frame of `hcreg.preprocessing.frames`: the image's own
    pixel in 975 of HC18's 999 images.
    """

    def __init__(self, records, input_shape, *, with_ellipses=True, num_workers=2, progress=None):
        self.records = list(records)
        if not self.records:
            raise ValueError("There is no image to read: the list of records is empty.")
        self.input_shape = tuple(int(side) for side in input_shape[:2])
        working_shape = tuple(OVERSAMPLING * side for side in self.input_shape)
        self.images = np.empty((len(self.records), *working_shape), np.uint8)
        self.reference_px_per_mm = np.empty(len(self.records))
        self.hc_px = np.full(len(self.records), np.nan)
        self.ellipses = [None] * len(self.records)
        self.placements = [None] * len(self.records)

        def read(index):
            record = self.records[index]
            image = record.image()
            if image.dtype != np.uint8:
                raise ValueError(f"{record.image_path}: grey values must be of dtype uint8. Received: {image.dtype}.")
            placement = place(image.shape)
            self.images[index] = working_image(image, self.input_shape)
            seen = input_image(self.images[index], self.input_shape)
            # the image itself too, since a border that pads a constant image gives it a contrast
            for pixels, size in ((image, ""), (seen, " at the network's input size")):
                if pixels.min() == pixels.max():
                    raise ValueError(
                        f"{record.image_path}: every pixel is {pixels.flat[0]}{size}; there is nothing to "
                        "measure. Replace the image, or remove it and its row."
                    )
            self.placements[index] = placement
            self.reference_px_per_mm[index] = placement.reference_px_per_image_px / record.pixel_size_mm
            if record.hc_mm is not None:
                self.hc_px[index] = record.hc_mm * self.reference_px_per_mm[index]
            if with_ellipses:
                self.ellipses[index] = record.ellipse().transformed(placement.matrix_to(REFERENCE_SHAPE))

        with ThreadPoolExecutor(num_workers) as pool:
            for done, _ in enumerate(pool.map(read, range(len(self.records))), start=1):
                if progress is not None:
                    progress(done)

    def __len__(self):
        return len(self.records)

    def index_of(self, subject_ids):
        """Positions of subjects in the cache.

        Parameters
        ----------
        subject_ids : sequence of str

        Returns
        -------
        ndarray of int
        """
        return positions(self.records, subject_ids)


class Batches(Epochs):
    """Batches of normalised images and their labels for `keras.Model.fit`.

    Parameters
    ----------
    cache : ImageCache
    indices : array-like of int
        The images of this part (training, validation or test).
    target_scale_px : float
        Head circumferences are divided by it: the largest of the *training* part, in reference pixels; for a network
        that measures its own mask, the frame's width.
    targets : tuple of str
        What is served as label: "hc_fraction", "mask" or both. One comes as an array, both as a dict.
    batch_size : int
    normalisation : {"standardise", "caffe", "tf", "torch"}
        See `hcreg.preprocessing.frames.normalise`.
    num_channels : {1, 3}
    spatial : transform of `hcreg.augmentation`, optional
        Without it images are served as they are, in the order of `indices` unless `shuffle`.
    intensity : sequence of transforms of `hcreg.augmentation.intensity`
    shuffle : bool
        A new order each epoch.
    seed : int

    Attributes
    ----------
    epoch : int
        See `hcreg.datasets.epochs.Epochs`.

    Raises
    ------
    ValueError
        If there are no images or their positions are not in the cache, the scale or batch size is not
        positive, the augmentation has no ellipses to go by, or images for training have no label.
    """

    def __init__(
        self,
        cache,
        indices,
        target_scale_px,
        *,
        targets=("hc_fraction",),
        batch_size=16,
        normalisation="standardise",
        num_channels=1,
        spatial=None,
        intensity=(),
        shuffle=False,
        seed=0,
    ):
        self.cache = cache
        self.indices = _checked_indices(indices, len(cache))
        super().__init__(len(self.indices), batch_size=batch_size, shuffle=shuffle, seed=seed)
        self.target_scale_px = float(target_scale_px)
        self.targets = tuple(targets)
        self.normalisation = normalisation
        self.num_channels = num_channels
        self.spatial = spatial
        self.intensity = tuple(intensity)
        self._fixed = None
        if not 0 < self.target_scale_px < np.inf:
            raise ValueError(f"Labels are divided by a positive number of pixels. Received: {target_scale_px!r}.")
        if not self.targets or not set(self.targets) <= set(TARGETS):
            raise ValueError(
                f"Targets are a tuple of {', '.join(map(repr, TARGETS))}, the names of the network's output layers. "
                f"Received: {targets!r}."
            )
        needing = "Augmentation" if spatial is not None else "A mask" if "mask" in self.targets else ""
        if needing and any(cache.ellipses[index] is None for index in self.indices):
            raise ValueError(f"{needing} needs the annotated ellipses: make the cache with with_ellipses=True.")
        unlabelled = [cache.records[i].subject_id for i in self.indices if not np.isfinite(cache.hc_px[i])]
        if unlabelled and (shuffle or spatial is not None):
            raise ValueError(
                f"Training needs a head circumference for each image; {len(unlabelled)} have none, the "
                f"first: {unlabelled[:5]}. Train on the training set: the test set's are not public."
            )

    def batch_of(self, epoch, rows):
        """Images and labels of a batch; see `hcreg.datasets.epochs.Epochs`."""
        if self.spatial is None and not self.intensity:
            images, labels = self.arrays()
            return images[rows], _each(labels, lambda label: label[rows])
        samples = [self._sample_of(epoch, index) for index in self.indices[rows]]
        images, hc_px, ellipses = zip(*samples)
        return normalise(np.stack(images), self.normalisation, self.num_channels), self._labels(hc_px, ellipses)

    def sample(self, index):
        """One augmented image of this epoch and its label, before normalisation.

        Parameters
        ----------
        index : int
            Position in the cache.

        Returns
        -------
        image : ndarray of shape (height_px, width_px), uint8
        hc_px : float, reference px
        ellipse : Ellipse or None
            The head after augmentation, in reference pixels.
        """
        return self._sample_of(self.epoch, index)

    def _sample_of(self, epoch, index):
        image, hc_px = self.cache.images[index], self.cache.hc_px[index]
        ellipse = self.cache.ellipses[index]
        rng = self.generator(epoch, index)
        if self.spatial is not None:
            matrix, moved = draw_inside(self.spatial, rng, ellipse, REFERENCE_SHAPE)
            image = apply_to_image(image, matrix, REFERENCE_SHAPE)
            hc_px = hc_px * moved.circumference_px / ellipse.circumference_px
            ellipse = moved
        image = input_image(image, self.cache.input_shape)
        for transform in self.intensity:
            image = transform.apply(image, transform.draw(rng))
        return image, hc_px, ellipse

    def arrays(self):
        """The whole part without augmentation, computed once.

        Returns
        -------
        images : ndarray of shape (num_images, height_px, width_px, num_channels), float32
        labels : ndarray of shape (num_images, 1), or (num_images, height_px, width_px, 1), or a dict of both; float32
            In the order of `indices`.
        """
        if self._fixed is None:
            images = np.stack([input_image(self.cache.images[index], self.cache.input_shape) for index in self.indices])
            images = normalise(images, self.normalisation, self.num_channels)
            ellipses = [self.cache.ellipses[index] for index in self.indices]
            self._fixed = images, self._labels(self.cache.hc_px[self.indices], ellipses)
        return self._fixed

    def _labels(self, hc_px, ellipses):
        labels = {}
        if "hc_fraction" in self.targets:
            fractions = np.asarray(hc_px, np.float64)[:, None] / self.target_scale_px
            labels["hc_fraction"] = fractions.astype(np.float32)
        if "mask" in self.targets:
            to_input = resize_matrix(REFERENCE_SHAPE, self.cache.input_shape)
            masks = [ellipse.transformed(to_input).coverage(self.cache.input_shape) for ellipse in ellipses]
            labels["mask"] = np.stack(masks)[..., None]
        return labels if len(self.targets) > 1 else labels[self.targets[0]]


def _each(labels, function):
    if isinstance(labels, dict):
        return {name: function(label) for name, label in labels.items()}
    return function(labels)


def _checked_indices(indices, num_images):
    indices = np.asarray(indices)
    if not indices.size:
        raise ValueError("This part of the split has no images.")
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            "A part of the split is given by the positions of its images, a list of integers. "
            f"Received: {indices.dtype} of shape {indices.shape}. For a mask pass np.flatnonzero(mask)."
        )
    if indices.min() < 0 or indices.max() >= num_images:
        raise ValueError(
            f"The cache holds the images 0 to {num_images - 1}. Received: {indices.min()} to {indices.max()}."
        )
    return indices.astype(int)


def read_images(dataset, input_shape):
    """Decode a data set once, with a progress bar.

    Parameters
    ----------
    dataset : sequence of HC18Record
    input_shape : tuple of int (height_px, width_px, channels)

    Returns
    -------
    ImageCache
    """
    with progress_bar() as bar:
        task = bar.add_task("reading images", total=len(dataset))
        return ImageCache(dataset, input_shape, progress=lambda done: bar.update(task, completed=done))
