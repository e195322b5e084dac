"""A volume as a network sees it, and the way back to the file's own voxels.

Intensities become 0 to 1 between the volume's own least and greatest; the volume is resampled as a whole to a coarser
grid. Back, it is the foreground's probability that is resampled, and each voxel of the file decided by itself.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from hcreg.preprocessing.nifti import check_alike
from hcreg.preprocessing.resampling import resample

PAPER_SCALE = 0.4  # from 388 x 258 x 440 voxels of 0.38 mm to 155 x 103 x 176
MIN_SIDE = 8  # what three poolings by two leave one voxel of


@dataclass(frozen=True)
class HeadPreparation:
    """Scaling of intensities and size; exactly one of `scale`, `spacing_mm` and `size` says how large.

    Attributes
    ----------
    scale : float, optional
        Sides become so many times what they were, in voxels.
    spacing_mm : float, mm, optional
        Voxels become cubes of this side.
    size : tuple of three int, optional
        Every volume becomes so many voxels, whatever its extent: for stacks of a few thick slices.
    labels : tuple of int
        Those that a label map may hold; all above 0 are the foreground.

    Raises
    ------
    ValueError
        If none or several of the three are given, or one is not positive.

    References
    ----------
    .. [1] yang2020has: min-max normalisation, and a scale of 0.4.

    Examples
    --------
    >>> HeadPreparation(scale=0.4).grid((388, 258, 440), (0.38, 0.38, 0.38))[0]
    (155, 103, 176)
    >>> HeadPreparation(scale=None, size=(48, 56, 16)).grid((216, 256, 10), (1.5, 1.5, 10.0))[0]
    (48, 56, 16)
    """

    scale: float | None = PAPER_SCALE
    spacing_mm: float | None = None
    size: tuple | None = None
    labels: tuple = (0, 1)

    def __post_init__(self):
        given = {name: value for name, value in asdict(self).items() if name != "labels" and value is not None}
        if len(given) != 1:
            raise ValueError(
                "A preparation is by one of scale, spacing_mm and size. "
                f"Received: {', '.join(f'{name}={value!r}' for name, value in given.items()) or 'none'}."
            )
        ((name, value),) = given.items()
        sides = np.atleast_1d(value)
        if len(sides) != (3 if name == "size" else 1) or not (np.isfinite(sides).all() and (sides > 0).all()):
            expected = "three whole numbers of voxels" if name == "size" else "a positive number"
            raise ValueError(f"{name} of a preparation is {expected}. Received: {value!r}.")

    def grid(self, shape, spacing_mm):
        """The grid that a volume is resampled to; both share their middle.

        Parameters
        ----------
        shape : tuple of three int
        spacing_mm : sequence of three float, mm

        Returns
        -------
        shape : tuple of three int
        spacing_mm : tuple of three float, mm

        Raises
        ------
        ValueError
            If a side would have fewer voxels than three poolings by two leave anything of.
        """
        shape, spacing = np.array(shape), np.array(spacing_mm, float)
        if self.size is not None:
            sides = np.array(self.size)
            new_spacing = shape * spacing / sides
        else:
            new_spacing = spacing / self.scale if self.scale is not None else np.full(3, float(self.spacing_mm))
            sides = np.rint(shape * spacing / new_spacing).astype(int)
        if sides.min() < MIN_SIDE:
            how = ", ".join(
                f"{name}={getattr(self, name)}" for name in ("scale", "spacing_mm", "size") if getattr(self, name)
            )
            raise ValueError(
                f"A volume of {_by(shape)} voxels becomes {_by(sides)} by {how}: fewer than the {MIN_SIDE} along an "
                "axis that three poolings by two can halve. Prepare it at a larger scale, or by size."
            )
        return tuple(map(int, sides)), tuple(map(float, new_spacing))

    def image(self, volume):
        """Intensities in [0, 1] on the coarser grid.

        Parameters
        ----------
        volume : Volume

        Returns
        -------
        ndarray of shape (d1, d2, d3), float32

        Raises
        ------
        ValueError
            If the volume is not of three axes, has voxels that are NaN or infinite, or one intensity only.
        """
        array = np.asarray(volume.array)
        if array.ndim != 3:
            raise ValueError(f"{volume.path}: expected a volume of three axes. Received the shape {array.shape}.")
        num_bad = array.size - np.count_nonzero(np.isfinite(array))
        if num_bad:
            raise ValueError(
                f"{volume.path} has {num_bad} voxel(s) that are NaN or infinite, of {array.size}. Expected finite "
                "intensities: one would spread over the whole prediction. Export it again."
            )
        low, high = float(array.min()), float(array.max())
        if low == high:
            raise ValueError(f"{volume.path} has one intensity, {low:g}, in all its voxels: there is nothing to see.")
        shape, spacing_mm = self.grid(array.shape, volume.spacing_mm)
        scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.clip(resample(scaled, volume.spacing_mm, shape, spacing_mm), 0.0, 1.0)

    def label_map(self, volume):
        """Foreground on the coarser grid: where it fills half of a voxel or more.

        Parameters
        ----------
        volume : Volume

        Returns
        -------
        ndarray of shape (d1, d2, d3), uint8, 0 or 1

        Raises
        ------
        ValueError
            If there are other labels than declared, or no foreground, before or after.
        """
        foreground = self.foreground(volume)
        shape, spacing_mm = self.grid(foreground.shape, volume.spacing_mm)
        coarse = (resample(foreground, volume.spacing_mm, shape, spacing_mm, "zero") >= 0.5).astype(np.uint8)
        if not coarse.any():
            raise ValueError(
                f"{volume.path}: its {np.count_nonzero(foreground)} voxel(s) of foreground are lost on a grid of "
                f"{_by(shape)}. Prepare it at a larger scale."
            )
        return coarse

    def foreground(self, volume):
        """Where the file's labels are above 0.

        Parameters
        ----------
        volume : Volume

        Returns
        -------
        ndarray of bool, of the file's own shape

        Raises
        ------
        ValueError
            If there are other labels than declared, or no foreground.
        """
        found = np.unique(volume.array)
        wrong = found[~np.isin(found, self.labels)]
        if wrong.size:
            raise ValueError(
                f"{volume.path} has the label(s) {', '.join(f'{value:g}' for value in wrong[:5])}; declared are "
                f"{', '.join(map(str, self.labels))}. Declare them, or take the label map of this data set."
            )
        foreground = np.asarray(volume.array) > 0
        if not foreground.any():
            raise ValueError(f"{volume.path} has no foreground: all its voxels are 0. Leave the volume out.")
        return foreground

    def __call__(self, image, label_map=None):
        """Prepare one volume.

        Parameters
        ----------
        image : Volume
        label_map : Volume, optional

        Returns
        -------
        dict of ndarray
            "image" float32; with a label map "labels" uint8, of the same shape.

        Raises
        ------
        ValueError
            As `image` and `label_map`; if the two differ in shape, spacing or place.
        """
        if label_map is not None:
            check_alike(image, label_map)
        prepared = {"image": self.image(image)}
        if label_map is not None:
            prepared["labels"] = self.label_map(label_map)
        return prepared

    def back(self, foreground, shape, spacing_mm, keep_largest=False):
        """From probabilities on the coarser grid to a label map of the file's own voxels.

        Parameters
        ----------
        foreground : ndarray of shape (d1, d2, d3), in [0, 1]
            On the grid of `grid`.
        shape : tuple of three int
            Of the file's volume.
        spacing_mm : sequence of three float, mm
        keep_largest : bool
            Drop all but the largest connected piece.

        Returns
        -------
        ndarray of shape `shape`, uint8, 0 or 1
        """
        coarse, coarse_mm = self.grid(shape, spacing_mm)
        if foreground.shape != coarse:
            raise ValueError(
                f"A volume of {_by(shape)} is prepared as {_by(coarse)}; its foreground has the shape "
                f"{_by(foreground.shape)}. Crop what was padded first."
            )
        labels = (resample(foreground, coarse_mm, shape, spacing_mm) >= 0.5).astype(np.uint8)
        return largest_piece(labels) if keep_largest else labels


def largest_piece(labels):
    """A label map with the largest of its connected pieces alone.

    Parameters
    ----------
    labels : ndarray of int

    Returns
    -------
    ndarray of the shape and dtype of `labels`

    Examples
    --------
    >>> largest_piece(np.array([[[1, 0, 1, 1]]])).tolist()
    [[[0, 0, 1, 1]]]
    """
    pieces, num_pieces = ndimage.label(labels > 0)
    if num_pieces < 2:
        return labels
    sizes = np.bincount(pieces.ravel())[1:]
    return np.where(pieces == 1 + np.argmax(sizes), labels, labels.dtype.type(0))


def _by(shape):
    return " x ".join(str(int(side)) for side in shape)
