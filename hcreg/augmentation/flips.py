"""Flips and half turns of a volume about its three axes: voxels change places, and none its value.

A label map that goes the same way is exact: nothing is interpolated, nothing leaves the volume.
"""

from dataclasses import dataclass

import numpy as np

NUM_AXES = 3


def _checked(name, probability):
    if not 0 <= probability <= 1:
        raise ValueError(f"{name} needs a probability of 0 to 1. Received: {probability!r}.")


@dataclass(frozen=True)
class AxisFlips:
    """Mirror a volume along each of its first three axes, each by a draw of its own.

    Attributes
    ----------
    probability : float, 0 to 1
        Of a flip along an axis.

    References
    ----------
    .. [1] yang2020has, data augmentation.

    Examples
    --------
    >>> AxisFlips.apply(np.arange(4).reshape(1, 2, 2), (False, True, True)).tolist()
    [[[3, 2], [1, 0]]]
    """

    probability: float = 0.5

    def __post_init__(self):
        _checked("AxisFlips", self.probability)

    def draw(self, rng, shape=None):
        """Draw along which axes to flip.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int, optional
            Not looked at.

        Returns
        -------
        tuple of three bool
        """
        return tuple(bool(value < self.probability) for value in rng.random(NUM_AXES))

    @staticmethod
    def apply(volume, parameters):
        """Apply drawn flips.

        Parameters
        ----------
        volume : ndarray of shape (d1, d2, d3, ...)
            An image, a label map, or shares of classes: further axes stay.
        parameters : sequence of three bool

        Returns
        -------
        ndarray of the shape and dtype of `volume`
            A view.
        """
        return np.flip(volume, [axis for axis, flipped in enumerate(parameters) if flipped])


@dataclass(frozen=True)
class HalfTurns:
    """Turn a volume by 180 degrees about one of its first three axes.

    Attributes
    ----------
    probability : float, 0 to 1
        Of a turn; about which axis is then drawn evenly.

    Notes
    -----
    A half turn about one axis is a flip along the two others, so a volume keeps its handedness: left stays left. With
    `AxisFlips` at 0.5 all eight orientations are equally likely already, and turns add none.

    References
    ----------
    .. [1] yang2020has, data augmentation.

    Examples
    --------
    >>> HalfTurns.apply(np.arange(4).reshape(1, 2, 2), 0).tolist()
    [[[3, 2], [1, 0]]]
    """

    probability: float = 0.5

    def __post_init__(self):
        _checked("HalfTurns", self.probability)

    def draw(self, rng, shape=None):
        """Draw the axis to turn about: 0, 1 or 2, or None for no turn; see `AxisFlips.draw`."""
        turned, axis = rng.random() < self.probability, int(rng.integers(NUM_AXES))
        return axis if turned else None

    @staticmethod
    def apply(volume, parameters):
        """Apply a drawn turn; see `AxisFlips.apply`."""
        if parameters is None:
            return volume
        return np.flip(volume, [axis for axis in range(NUM_AXES) if axis != parameters])
