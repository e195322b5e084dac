"""What happens to a short-axis stack before a network sees it: a frame in mm that needs no mask, or the paper's crop.

Arrays are (height, width, slices), as `hcreg.preprocessing.nifti` reads them.
"""

from dataclasses import dataclass

import numpy as np

from hcreg.preprocessing.resampling import label_fractions, resample

PAPER_BOX = (186, 147)  # rows, columns: what all hearts of the paper's cohort span together, its outlier left out
PAPER_NUM_SLICES = 9


@dataclass(frozen=True)
class Frame:
    """A grid in mm about the middle of the stack: what a network sees, without knowing where the heart is.

    Attributes
    ----------
    height_px, width_px : int
    pixel_mm : float, mm
        Side of a square pixel.
    num_slices : int or None
        None keeps the slices as they are.
    slice_mm : float, mm
        Distance of the slices, where `num_slices` is given.
    """

    height_px: int
    width_px: int
    pixel_mm: float
    num_slices: int | None = None
    slice_mm: float = 10.0

    def grid(self, num_slices, spacing_mm):
        """Shape and spacing (mm) of the frame on a stack of `num_slices` and `spacing_mm`."""
        depth, depth_mm = (num_slices, spacing_mm[2]) if self.num_slices is None else (self.num_slices, self.slice_mm)
        return (self.height_px, self.width_px, depth), (self.pixel_mm, self.pixel_mm, float(depth_mm))

    def image(self, volume):
        """The image on this frame.

        Parameters
        ----------
        volume : Volume

        Returns
        -------
        ndarray of shape (height_px, width_px, slices), float32
            Beyond the image its border goes on.
        """
        return resample(volume.array, volume.spacing_mm, *self.grid(volume.array.shape[2], volume.spacing_mm))

    def label_fractions(self, label_map):
        """The share of each class in each voxel of this frame.

        Parameters
        ----------
        label_map : Volume

        Returns
        -------
        ndarray of shape (height_px, width_px, slices, classes), float32
        """
        grid = self.grid(label_map.array.shape[2], label_map.spacing_mm)
        return label_fractions(label_map.array, label_map.spacing_mm, *grid)

    def back(self, maps, shape, spacing_mm):
        """Bring maps on this frame back to the image's own grid.

        Parameters
        ----------
        maps : ndarray of shape (height_px, width_px, slices, channels)
        shape : tuple of three int
            Of the image.
        spacing_mm : sequence of three float, mm
            Of the image.

        Returns
        -------
        ndarray of shape (*shape, channels), float32
            Beyond the frame its border goes on.
        """
        _, frame_spacing_mm = self.grid(shape[2], spacing_mm)
        return resample(maps, frame_spacing_mm, shape, spacing_mm)


def standardise(array, percentiles=(0.5, 99.5)):
    """Grey values of a stack to mean 0 and standard deviation 1, after clipping its rare extremes.

    Parameters
    ----------
    array : ndarray
        Of one stack: the slices of a stack keep their relation.
    percentiles : tuple of two float, or None
        None clips nothing, as the paper does.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    ValueError
        If all voxels are of one value.
    """
    array = np.asarray(array, np.float32)
    if percentiles is not None:
        array = np.clip(array, *np.percentile(array, percentiles))
    mean, sd = float(array.mean(dtype=np.float64)), float(array.std(dtype=np.float64))
    # resampling a stack of one value leaves rounding errors
    if not sd > 1e-6 * float(np.abs(array).max()):
        raise ValueError(f"Every voxel of the stack has the value {mean:g}: there is nothing to measure.")
    return (array - mean) / np.float32(sd)


def heart_box(label_map):
    """The smallest box, in rows and columns, that holds the heart in every slice.

    Parameters
    ----------
    label_map : ndarray of int of shape (height, width, slices)

    Returns
    -------
    tuple of int (top, bottom, left, right)
        `bottom` and `right` are one past the last.

    Raises
    ------
    ValueError
        If nothing but background is there.
    """
    heart = label_map > 0
    if not heart.any():
        raise ValueError("The label map holds background alone: there is no heart to crop to.")
    rows, columns = np.flatnonzero(heart.any((1, 2))), np.flatnonzero(heart.any((0, 2)))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def paper_crop(array, label_map, shape=PAPER_BOX):
    """Cut a box of fixed size about the heart, as zhang2021biometrics does.

    Parameters
    ----------
    array : ndarray of shape (height, width, slices)
        The image, or the label map itself.
    label_map : ndarray of int, of the same shape
        Says where the heart is.
    shape : tuple of int (rows, columns)
        The paper's hold the hearts of its whole cohort but one patient's, laid over each other.

    Returns
    -------
    ndarray of shape (*shape, slices)
        Where the box leaves the image, the image's border is repeated. A heart larger than the box is cut.

    Raises
    ------
    ValueError
        If nothing but background is there.

    Notes
    -----
    It needs the mask, so on a new patient it cannot be used: results with it are results on images somebody has
    segmented before. `Frame` needs none.

    Departure: the paper's code cuts one fixed box of all images, rows 21 to 206 and columns 28 to 174. Of 40 training
    patients of ACDC it holds every heart but that of patient057, whose pixels are of 0.7 mm. About each heart a box of
    this size cuts that one at end-diastole only, and does not depend on where in the image a heart lies.

    References
    ----------
    .. [1] zhang2021biometrics, section 5.
    """
    top, bottom, left, right = heart_box(label_map)
    first = ((top + bottom - shape[0]) // 2, (left + right - shape[1]) // 2)
    rows, columns = (
        np.clip(np.arange(start, start + num), 0, size - 1) for start, num, size in zip(first, shape, array.shape)
    )
    return array[np.ix_(rows, columns)]


def paper_slices(label_map, num_slices=PAPER_NUM_SLICES, removed="smallest"):
    """Which slices the paper's nine are.

    Parameters
    ----------
    label_map : ndarray of int of shape (height, width, slices)
    num_slices : int
    removed : {"smallest", "tail"}
        Which slices go where there are too many: those of the smallest heart, as the paper says, or the last, as its
        code does.

    Returns
    -------
    ndarray of int of shape (num_slices,)
        In the order of the stack, some repeated: slices of background alone are dropped; where fewer remain, the one of
        the smallest heart is repeated.

    Raises
    ------
    ValueError
        If nothing but background is there, or `removed` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> hearts = np.zeros((4, 1, 5), int)
    >>> for number, size in enumerate((0, 2, 4, 3, 1)):
    ...     hearts[:size, 0, number] = 3
    >>> paper_slices(hearts, 3).tolist(), paper_slices(hearts, 3, "tail").tolist(), paper_slices(hearts, 6).tolist()
    ([1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 4, 4])
    """
    if removed not in ("smallest", "tail"):
        raise ValueError(f"Removed are the 'smallest' slices or the 'tail'. Received: removed={removed!r}.")
    sizes = (label_map > 0).sum((0, 1))
    kept = np.flatnonzero(sizes)
    if not kept.size:
        raise ValueError("The label map holds background alone: no slice shows a heart.")
    if kept.size < num_slices:
        smallest = kept[np.argmin(sizes[kept])]
        return np.sort(np.concatenate([kept, np.full(num_slices - kept.size, smallest)]))
    if removed == "tail":
        return kept[:num_slices]
    return np.sort(kept[np.argsort(-sizes[kept], kind="stable")[:num_slices]])
