"""From records to a network's batches: decode each image once, keep it small, augment on the fly.

`ImageCache` reads the images of a data set once in a run and keeps them as 8-bit pictures of twice the network's
input size. `Batches` serves any subset of it to `keras.Model.fit`: each image of each epoch is warped, halved by area
interpolation and normalised, with its label computed from the warped ellipse. What epoch 7 shows of image 12 depends
on the seed, the epoch and the image only, so a resumed run sees what an uninterrupted one would have seen.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from hcreg.augmentation.spatial import apply_to_image, draw_inside
from hcreg.preprocessing.frames import (
    OVERSAMPLING,
    REFERENCE_SHAPE,
    input_image,
    normalise,
    place,
    working_image,
)
from hcreg.progress import progress_bar


class ImageCache:
    """All images of a data set, decoded once and resized, with their labels in reference pixels.

    Parameters
    ----------
    records : sequence of HC18Record
        Or any records with ``subject_id``, ``pixel_size_mm``, ``hc_mm``, ``image()`` and, where `with_ellipses`,
        ``ellipse()``.
    input_shape : tuple of int (height_px, width_px[, channels])
        The network's input.
    with_ellipses : bool
        Read the annotations too; needed for augmented training only.
    num_workers : int
        Threads that decode.
    progress : callable, optional
        Called with the number of images read so far, after each.

    Attributes
    ----------
    images : ndarray of shape (num_images, 2 height_px, 2 width_px), uint8
    reference_px_per_mm : ndarray of shape (num_images,)
        Turns millimetres into reference pixels.
    hc_px : ndarray of shape (num_images,), reference px
        Head circumference; NaN where a record has none.
    ellipses : list of Ellipse or None
        Annotated heads in pixels of the reference frame.

    Notes
    -----
    A reference pixel is a pixel of the 800 x 540 frame of `hcreg.preprocessing.frames`: the image's own pixel in 975
    of HC18's 999 images.
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

        def read(index):
            record = self.records[index]
            image = record.image()
            placement = place(image.shape)
            self.images[index] = working_image(image, self.input_shape)
            if self.images[index].min() == self.images[index].max():
                raise ValueError(f"{record.image_path}: every pixel is {image.flat[0]}; there is nothing to measure.")
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
        position = {record.subject_id: index for index, record in enumerate(self.records)}
        missing = [subject_id for subject_id in subject_ids if subject_id not in position]
        if missing:
            raise ValueError(f"{len(missing)} subject(s) are not in the cache, the first: {missing[:5]}.")
        return np.array([position[subject_id] for subject_id in subject_ids], int)


class Batches(keras.utils.PyDataset):
    """Batches of normalised images and head circumferences for `keras.Model.fit`.

    Parameters
    ----------
    cache : ImageCache
    indices : array-like of int
        The images of this part (training, validation or test).
    target_scale_px : float
        Labels are divided by it: the largest head circumference of the *training* part, in reference pixels.
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
        Which epoch's order and augmentation are served; `hcreg.training.fit` sets it.
    """

    def __init__(
        self,
        cache,
        indices,
        target_scale_px,
        *,
        batch_size=16,
        normalisation="standardise",
        num_channels=1,
        spatial=None,
        intensity=(),
        shuffle=False,
        seed=0,
    ):
        super().__init__()
        self.cache = cache
        self.indices = np.asarray(indices, int)
        self.target_scale_px = float(target_scale_px)
        self.batch_size = int(batch_size)
        self.normalisation = normalisation
        self.num_channels = num_channels
        self.spatial = spatial
        self.intensity = tuple(intensity)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.epoch = 0
        self._fixed = None
        self._order = (None, None)
        if not len(self.indices):
            raise ValueError("This part of the split has no images.")
        if not self.target_scale_px > 0:
            raise ValueError(f"Labels are divided by a positive number of pixels. Received: {target_scale_px!r}.")
        if self.batch_size < 1:
            raise ValueError(f"A batch holds one image or more. Received: batch_size={batch_size!r}.")
        if spatial is not None and any(cache.ellipses[index] is None for index in self.indices):
            raise ValueError("Augmentation needs the annotated ellipses: make the cache with with_ellipses=True.")

    @property
    def num_batches(self):
        """Batches of one epoch; the last may be smaller."""
        return -(-len(self.indices) // self.batch_size)

    def order(self):
        """The order in which this epoch serves the images.

        Returns
        -------
        ndarray of int
            Positions in `indices`.
        """
        if not self.shuffle:
            return np.arange(len(self.indices))
        if self._order[0] != self.epoch:
            rng = np.random.default_rng([self.seed, self.epoch])
            self._order = (self.epoch, rng.permutation(len(self.indices)))
        return self._order[1]

    def __getitem__(self, batch):
        rows = self.order()[batch * self.batch_size : (batch + 1) * self.batch_size]
        if self.spatial is None and not self.intensity:
            images, hc_px = self.arrays()
            return images[rows], hc_px[rows]
        samples = [self.sample(index) for index in self.indices[rows]]
        images = normalise(np.stack([image for image, _ in samples]), self.normalisation, self.num_channels)
        return images, self._targets([hc_px for _, hc_px in samples])

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
        """
        image, hc_px = self.cache.images[index], self.cache.hc_px[index]
        rng = np.random.default_rng([self.seed, self.epoch, int(index)])
        if self.spatial is not None:
            ellipse = self.cache.ellipses[index]
            matrix, moved = draw_inside(self.spatial, rng, ellipse, REFERENCE_SHAPE)
            image = apply_to_image(image, matrix, REFERENCE_SHAPE)
            hc_px = hc_px * moved.circumference_px / ellipse.circumference_px
        image = input_image(image, self.cache.input_shape)
        for transform in self.intensity:
            image = transform.apply(image, transform.draw(rng))
        return image, hc_px

    def arrays(self):
        """The whole part without augmentation, computed once.

        Returns
        -------
        images : ndarray of shape (num_images, height_px, width_px, num_channels), float32
        targets : ndarray of shape (num_images, 1), float32
            In the order of `indices`.
        """
        if self._fixed is None:
            images = np.stack([input_image(self.cache.images[index], self.cache.input_shape) for index in self.indices])
            images = normalise(images, self.normalisation, self.num_channels)
            self._fixed = images, self._targets(self.cache.hc_px[self.indices])
        return self._fixed

    def _targets(self, hc_px):
        targets = np.asarray(hc_px, np.float64)[:, None] / self.target_scale_px
        return targets.astype(np.float32)


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
