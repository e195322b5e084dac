"""Random erasing at the border of a head: what an acoustic shadow does to a volume of ultrasound.

A drawn shadow hides a part of the skull in the image; the label map keeps the head whole, since it is there still.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hcreg.augmentation.flips import NUM_AXES, AxisFlips, HalfTurns


@dataclass(frozen=True)
class RandomErasing:
    """Set boxes about points of the head's border to zero.

    Attributes
    ----------
    probability : float, 0 to 1
        That there are boxes at all.
    max_boxes : int
        At most so many; their number is drawn evenly from 1 on.
    size_range : tuple of float (low, high), above 0
        A box's side along an axis as a share of the head's extent along it; drawn for each side.

    Raises
    ------
    ValueError
        If an attribute is out of range.

    Notes
    -----
    The paper says "Random Erasing" with the value 0 around the head, and no more: number and sizes are ours. A box is
    cut off at the volume's border.

    References
    ----------
    .. [1] yang2020has, data augmentation.

    Examples
    --------
    >>> head = np.zeros((9, 9, 9), bool)
    >>> head[2:7, 2:7, 2:7] = True
    >>> boxes = RandomErasing(probability=1.0, max_boxes=1).draw(np.random.default_rng(0), head)
    >>> erased = RandomErasing.apply(np.ones((9, 9, 9)), boxes)
    >>> bool((erased[head] == 0).any()), len(boxes)
    (True, 1)
    """

    probability: float = 0.5
    max_boxes: int = 3
    size_range: tuple = (0.15, 0.4)

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"RandomErasing needs a probability of 0 to 1. Received: {self.probability!r}.")
        if self.max_boxes < 1:
            raise ValueError(f"RandomErasing needs max_boxes of 1 or more. Received: {self.max_boxes!r}.")
        low, high = self.size_range
        if not 0 < low <= high < np.inf:
            raise ValueError(f"RandomErasing needs a size_range with 0 < low <= high. Received: {self.size_range!r}.")

    def draw(self, rng, head):
        """Draw boxes.

        Parameters
        ----------
        rng : numpy.random.Generator
        head : ndarray of shape (d1, d2, d3)
            The head: where it is not zero. A label map serves.

        Returns
        -------
        tuple of tuple (start, stop) of tuple of three int
            Each box holds the voxel of the head's border that it was drawn about.

        Raises
        ------
        ValueError
            If there is no head.
        """
        head = np.asarray(head) != 0
        if not head.any():
            raise ValueError(
                "RandomErasing places boxes at the border of the head; this label map has no foreground. "
                "Leave the volume out, or augment it without erasing."
            )
        if rng.random() >= self.probability:
            return ()
        border = np.argwhere(head & ~ndimage.binary_erosion(head))
        extent = [np.ptp(np.flatnonzero(head.any(tuple(other)))) + 1 for other in _other_axes()]
        return tuple(
            self._box(rng, border[rng.integers(len(border))], extent, head.shape)
            for _ in range(rng.integers(1, self.max_boxes + 1))
        )

    def _box(self, rng, middle, extent, shape):
        sides = np.maximum(1, np.rint(rng.uniform(*self.size_range, NUM_AXES) * extent)).astype(int)
        first = middle - sides // 2
        start, stop = np.maximum(first, 0), np.minimum(first + sides, shape)
        return tuple(map(int, start)), tuple(map(int, stop))

    @staticmethod
    def apply(image, parameters):
        """Erase drawn boxes.

        Parameters
        ----------
        image : ndarray of shape (d1, d2, d3, ...)
            Not its label map: the head stays where it is.
        parameters : sequence of (start, stop)

        Returns
        -------
        ndarray of the shape and dtype of `image`
            A copy, where there are boxes.
        """
        if not parameters:
            return image
        erased = image.copy()
        for start, stop in parameters:
            erased[tuple(map(slice, start, stop))] = 0
        return erased


@dataclass(frozen=True)
class HeadAugmentation:
    """Shadows, flips and turns of an image and its label map together.

    Attributes
    ----------
    moves : tuple of AxisFlips or HalfTurns
        Applied one after the other, to the image and to the label map.
    erasing : RandomErasing or None
        Applied before them, to the image alone.
    """

    moves: tuple = (AxisFlips(), HalfTurns())
    erasing: RandomErasing | None = RandomErasing()

    def draw(self, rng, label_map):
        """Draw the parameters of one use.

        Parameters
        ----------
        rng : numpy.random.Generator
        label_map : ndarray of shape (d1, d2, d3)

        Returns
        -------
        dict
            "boxes" and "moves", for `apply`.
        """
        boxes = () if self.erasing is None else self.erasing.draw(rng, label_map)
        return {"boxes": boxes, "moves": tuple(move.draw(rng, label_map.shape) for move in self.moves)}

    def apply(self, image, label_map, parameters):
        """Apply drawn parameters.

        Parameters
        ----------
        image, label_map : ndarray of shape (d1, d2, d3, ...)
        parameters : dict

        Returns
        -------
        image, label_map : ndarray
            Of the same shapes.
        """
        image = RandomErasing.apply(image, parameters["boxes"])
        for move, drawn in zip(self.moves, parameters["moves"], strict=True):
            image, label_map = move.apply(image, drawn), move.apply(label_map, drawn)
        return image, label_map


def yang2020_augmentation():
    """The augmentation of yang2020has: flips and half turns about three axes, and erasing around the head.

    Returns
    -------
    HeadAugmentation
    """
    return HeadAugmentation()


def _other_axes():
    return ([other for other in range(NUM_AXES) if other != axis] for axis in range(NUM_AXES))
