"""Grey-value augmentation of ultrasound images: gain, contrast and speckle. It moves nothing, so labels stay.

As in `hcreg.augmentation.spatial`, ``draw(rng)`` draws the parameters of one use and returns them;
``apply(images, parameters)`` does no drawing.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GainGamma:
    """Multiply grey values by a gain and raise them to a power, as a sonographer's gain and contrast knobs do.

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
        gain, gamma = (
            float(np.exp(rng.uniform(np.log(low), np.log(high)))) for low, high in (self.gain_range, self.gamma_range)
        )
        return gain, gamma

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
            Saturating at 255.
        """
        gain, gamma = parameters
        table = 255.0 * (np.arange(256) / 255.0) ** gamma * gain
        return np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]


@dataclass(frozen=True)
class Speckle:
    """Multiply by random speckle, smoothed to a grain of about so many pixels.

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
                f"Speckle needs 0 <= low <= high and a grain of 1 px or more. Received: {self.sd_range}, {self.grain_px}."
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
        sd, seed = parameters
        height, width = image.shape
        grains = np.random.default_rng(seed).standard_normal(
            (-(-height // self.grain_px), -(-width // self.grain_px)), dtype=np.float32
        )
        grains = grains.repeat(self.grain_px, axis=0).repeat(self.grain_px, axis=1)[:height, :width]
        return np.clip(np.rint(image * (1.0 + sd * grains)), 0, 255).astype(np.uint8)
