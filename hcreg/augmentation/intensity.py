"""Grey-value augmentation of ultrasound images: gain, contrast and speckle. It moves nothing, so labels stay.

As in `hcreg.augmentation.spatial`, ``draw(rng)`` draws the parameters of one use and returns them;
``apply(images, parameters)`` does no drawing.
"""

from dataclasses import dataclass

import numpy as np


def _require_uint8(image):
    if image.dtype != np.uint8:
        raise ValueError(f"Grey values must be of dtype uint8, 0 to 255. Received: {image.dtype}.")


@dataclass(frozen=True)
class GainGamma:
    """Raise grey values to a power and multiply them by a gain, like a machine's contrast and gain knobs.

    Attributes
    ----------
    gain_range : tuple of float (low, high), positive
    gamma_range : tuple of float (low, high), positive
        Both drawn log-uniformly; (1, 1) leaves the image alone.
    """

    gain_range: tuple = (0.8, 1.25)
    gamma_range: tuple = (0.75, 1.33)

    def __post_init__(self):
        for name in ("gain_range", "gamma_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} needs 0 < low <= high. Received: ({low}, {high}).")

    def draw(self, rng):
        """Draw (gain, gamma).

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        tuple of float (gain, gamma)
        """
        ranges = (self.gain_range, self.gamma_range)
        return tuple(float(np.exp(rng.uniform(np.log(low), np.log(high)))) for low, high in ranges)

    @staticmethod
    def apply(image, parameters):
        """Apply drawn parameters.

        Parameters
        ----------
        image : ndarray of uint8
        parameters : tuple of float (gain, gamma)

        Returns
        -------
        ndarray of uint8, of the shape of `image`
            255 (value / 255)^gamma gain, rounded, saturating at 255.
        """
        _require_uint8(image)
        gain, gamma = parameters
        table = 255.0 * (np.arange(256) / 255.0) ** gamma * gain
        return np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]


@dataclass(frozen=True)
class Speckle:
    """Multiply by random speckle: square grains, each with a factor drawn from N(1, sd).

    Attributes
    ----------
    sd_range : tuple of float (low, high)
        Standard deviation of the factor; 0 leaves the image alone.
    grain_px : int
        Side of one grain.
    """

    sd_range: tuple = (0.0, 0.15)
    grain_px: int = 2

    def __post_init__(self):
        low, high = self.sd_range
        if not 0 <= low <= high or self.grain_px < 1:
            raise ValueError(
                "Speckle needs 0 <= low <= high and a grain of 1 px or more. "
                f"Received: {self.sd_range}, {self.grain_px}."
            )

    def draw(self, rng):
        """Draw (sd, seed of the grains).

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        tuple (float, int)
        """
        return float(rng.uniform(*self.sd_range)), int(rng.integers(2**63))

    def apply(self, image, parameters):
        """Apply drawn parameters.

        Parameters
        ----------
        image : ndarray of uint8 of shape (height_px, width_px)
        parameters : tuple (float, int)

        Returns
        -------
        ndarray of uint8, of the shape of `image`
        """
        _require_uint8(image)
        sd, seed = parameters
        height, width = image.shape
        grains = np.random.default_rng(seed).standard_normal(
            (-(-height // self.grain_px), -(-width // self.grain_px)), dtype=np.float32
        )
        grains = grains.repeat(self.grain_px, axis=0).repeat(self.grain_px, axis=1)[:height, :width]
        return np.clip(np.rint(image * (1.0 + sd * grains)), 0, 255).astype(np.uint8)
