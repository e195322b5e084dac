"""How much of a volume a network sees at once: the whole, a patch, or a slice.

A view says what a training sample is, and how a whole volume's foreground comes of what the network says of its parts.
"""

from dataclasses import asdict, dataclass

import numpy as np

from hcreg.head_volumes.cache import MULTIPLE
from hcreg.preprocessing.padding import crop, pad, padding_of
from hcreg.preprocessing.patches import FOREGROUND_PROBABILITY, Tiles, cut_patch, draw_patch

PAPER_PATCH = (64, 64, 64)


class _View:
    """What views share."""

    ndim = 3
    vanishing = "accept"  # of labels at a smaller scale: in a part of a volume the rim of a head may be

    def described(self):
        """The view as JSON values: dict."""
        return {"kind": type(self).__name__, **asdict(self)}

    def num_samples(self, shape):
        """Training samples of one volume in an epoch: int."""
        return 1


@dataclass(frozen=True)
class Whole(_View):
    """The whole volume, padded with zeros to multiples of 8."""

    vanishing = "refuse"

    def sample(self, image, labels, number, rng):
        """One sample of a padded volume.

        Parameters
        ----------
        image, labels : ndarray of shape (d1, d2, d3)
        number : int
            Of the sample within the volume.
        rng : numpy.random.Generator

        Returns
        -------
        image, labels : ndarray of one shape
        """
        return image, labels

    def fixed(self, image, labels):
        """The samples by which weights are chosen: list of what `sample` gives, without chance."""
        return [(image, labels)]

    def foreground(self, model, image):
        """Probability of the foreground in each voxel.

        Parameters
        ----------
        model : keras.Model
            Its mask has the background as first class.
        image : ndarray of shape (d1, d2, d3), float32
            Prepared; of any sides.

        Returns
        -------
        ndarray of shape (d1, d2, d3), float32
        """
        padding = padding_of(image.shape, MULTIPLE)
        return crop(_foreground(model, pad(image, padding)[None, ..., None])[0], padding)


@dataclass(frozen=True)
class Patches(_View):
    """Patches, their predictions stitched; the row "p-USegNet".

    Attributes
    ----------
    patch_shape : tuple of three int
        Multiples of 8.
    overlap : float
        Of neighbouring patches at prediction, see `hcreg.preprocessing.patches.Tiles`.
    foreground_probability : float
        See `hcreg.preprocessing.patches.draw_patch`.
    per_volume : int
        Patches of one volume in an epoch.
    """

    patch_shape: tuple = PAPER_PATCH
    overlap: float = 0.5
    foreground_probability: float = FOREGROUND_PROBABILITY
    per_volume: int = 1

    def __post_init__(self):
        if any(side % MULTIPLE for side in self.patch_shape):
            raise ValueError(
                f"A patch is halved three times: its sides are multiples of {MULTIPLE}. Received: {self.patch_shape!r}."
            )
        if self.per_volume < 1:
            raise ValueError(f"A volume gives one patch an epoch or more. Received: per_volume={self.per_volume!r}.")

    def num_samples(self, shape):
        """Training samples of one volume in an epoch: int."""
        return self.per_volume

    def sample(self, image, labels, number, rng):
        """A patch drawn from a volume; see `Whole.sample`."""
        start = draw_patch(rng, labels, self.patch_shape, self.foreground_probability)
        return tuple(cut_patch(array, start, self.patch_shape) for array in (image, labels))

    def fixed(self, image, labels):
        """The patches that cover the volume with no more overlap than they must; see `Whole.fixed`."""
        starts = Tiles(image.shape, self.patch_shape, overlap=0.0).starts
        return [tuple(cut_patch(array, start, self.patch_shape) for array in (image, labels)) for start in starts]

    def foreground(self, model, image):
        """Probability of the foreground in each voxel; see `Whole.foreground`."""
        tiles = Tiles(image.shape, self.patch_shape, self.overlap)
        return tiles.stitch(image[..., None], lambda patches: _foreground(model, patches)[..., None])[..., 0]


@dataclass(frozen=True)
class Slices(_View):
    """Slices, each by itself; the row "2D-USegNet".

    Attributes
    ----------
    axis : {0, 1, 2}
        That the slices follow each other along.
    at_once : int
        Slices predicted at once.
    """

    axis: int = 2
    at_once: int = 8
    ndim = 2

    def __post_init__(self):
        if self.axis not in (0, 1, 2) or self.at_once < 1:
            raise ValueError(
                f"Slices are along axis 0, 1 or 2, one or more at once. Received: axis={self.axis!r}, "
                f"at_once={self.at_once!r}."
            )

    def num_samples(self, shape):
        """Training samples of one volume in an epoch: int."""
        return shape[self.axis]

    def sample(self, image, labels, number, rng):
        """One slice of a volume; see `Whole.sample`."""
        return tuple(np.take(array, number, axis=self.axis) for array in (image, labels))

    def fixed(self, image, labels):
        """All slices; see `Whole.fixed`."""
        return [self.sample(image, labels, number, None) for number in range(image.shape[self.axis])]

    def foreground(self, model, image):
        """Probability of the foreground in each voxel; see `Whole.foreground`."""
        slices = np.moveaxis(image, self.axis, 0)
        # filled up to batches of one size: another would be traced anew
        padding = ((0, -len(slices) % self.at_once), *padding_of(slices.shape[1:], MULTIPLE))
        filled = pad(slices, padding)[..., None]
        starts = range(0, len(filled), self.at_once)
        found = np.concatenate([_foreground(model, filled[first : first + self.at_once]) for first in starts])
        return np.moveaxis(crop(found, padding), 0, self.axis)


VIEWS = {view.__name__: view for view in (Whole, Patches, Slices)}


def _foreground(model, batch):
    found = model.predict_on_batch(batch)
    mask = found["mask"] if isinstance(found, dict) else found
    return 1.0 - np.asarray(mask)[..., 0]
