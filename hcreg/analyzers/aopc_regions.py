"""An image cut into a grid of regions: their pixels, their scores on a map, their ranking."""

import math

import numpy as np

REGION_SCORES = ("mean", "mean_absolute", "sum", "max")


class RegionGrid:
    """An image cut into regions whose sizes differ by no more than a pixel along any axis.

    Parameters
    ----------
    spatial_shape : tuple of int
        ``(height_px, width_px)`` or ``(depth, height, width)`` in voxels.
    regions : int or tuple of int
        Number of regions along each spatial axis; one number holds for all axes.

    Attributes
    ----------
    spatial_shape, shape : tuple of int
        Pixels and regions along each axis.
    num_regions : int
    slices : list of tuple of slice
        The pixels of each region. Regions are numbered in C order: the last axis runs fastest.

    Raises
    ------
    ValueError
        If there is not one number per axis, one is no positive integer, or an axis has fewer pixels than regions.

    Examples
    --------
    >>> grid = RegionGrid((5, 4), (2, 2))
    >>> grid.slices[2]
    (slice(2, 5, None), slice(0, 2, None))
    """

    def __init__(self, spatial_shape, regions):
        self.spatial_shape = tuple(int(size) for size in spatial_shape)
        whole = isinstance(regions, int | np.integer) and not isinstance(regions, bool)
        shape = (regions,) * len(self.spatial_shape) if whole else tuple(regions)
        if len(shape) != len(self.spatial_shape):
            raise ValueError(
                f"regions needs one number for each of the {len(self.spatial_shape)} spatial axes of the images "
                f"{self.spatial_shape}. Received: {shape}."
            )
        if not all(isinstance(count, int | np.integer) and count > 0 for count in shape):
            raise ValueError(f"regions are positive integers. Received: {shape}.")
        if any(count > size for count, size in zip(shape, self.spatial_shape)):
            raise ValueError(
                f"An image of {self.spatial_shape} pixels is smaller than the grid of {shape} regions: every region "
                "needs a pixel along each axis. Ask for fewer regions."
            )
        self.shape = tuple(int(count) for count in shape)
        self.num_regions = math.prod(self.shape)
        self._starts = [np.arange(n) * size // n for n, size in zip(self.shape, self.spatial_shape)]
        ends = [np.append(starts[1:], size) for starts, size in zip(self._starts, self.spatial_shape)]
        self.slices = [
            tuple(slice(int(starts[i]), int(stops[i])) for i, starts, stops in zip(index, self._starts, ends))
            for index in np.ndindex(self.shape)
        ]
        sizes = [[part.stop - part.start for part in region] for region in self.slices]
        self._num_pixels = np.array([math.prod(size) for size in sizes], float)

    def __eq__(self, other):
        return isinstance(other, RegionGrid) and (self.spatial_shape, self.shape) == (other.spatial_shape, other.shape)

    def __hash__(self):
        return hash((self.spatial_shape, self.shape))

    def __repr__(self):
        return f"RegionGrid({self.spatial_shape}, {self.shape})"

    def scores(self, maps, how="mean"):
        """One number per region of each map.

        Parameters
        ----------
        maps : ndarray of shape (num_maps, *spatial_shape, channels)
            Attribution maps.
        how : {"mean", "mean_absolute", "sum", "max"}
            Over the pixels of a region, after the mean over channels; ``"mean_absolute"`` takes the absolute value of
            each element first. ``"sum"`` is the mean times the number of pixels, which favours the larger regions
            where sizes differ.

        Returns
        -------
        ndarray of float64, shape (num_maps, num_regions)
        """
        maps = np.asarray(maps, np.float64)
        maps = np.abs(maps) if how == "mean_absolute" else maps
        # Sums, divided once at the end: a constant map then has scores that are equal to the last bit.
        total = maps.sum(axis=-1)
        reduce = np.maximum if how == "max" else np.add
        for axis, starts in enumerate(self._starts, start=1):
            total = reduce.reduceat(total, starts, axis=axis)
        divisor = maps.shape[-1] * (self._num_pixels if how in ("mean", "mean_absolute") else 1.0)
        return total.reshape(len(maps), self.num_regions) / divisor


def ranked(scores, tie_breaks):
    """Regions from the highest score to the lowest.

    Parameters
    ----------
    scores : ndarray of shape (num_regions,)
    tie_breaks : ndarray of shape (num_regions,)
        The lower goes first among regions of one score.

    Returns
    -------
    ndarray of int, shape (num_regions,)
        Numbers of the regions, most relevant first.

    Examples
    --------
    >>> ranked(np.array([1.0, 3.0, 3.0]), np.array([0, 2, 1])).tolist()
    [2, 1, 0]
    """
    return np.lexsort((tie_breaks, -scores))
