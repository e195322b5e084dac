"""Augmentation of short-axis stacks: every slice moves alike in its plane, and the labels follow exactly.

The in-plane maps are those of `hcreg.augmentation.spatial`, drawn in pixels of the stack's own frame. What a map does
to a volume is its determinant (`size_factor`), so a target in ml is computed, never measured anew.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.augmentation.spatial import Chain, HorizontalFlip, Rotation, Scaling, Translation

_CHANNELS_AT_ONCE = 4  # what OpenCV warps with a border value for each channel


def size_factor(matrix):
    """How much an in-plane map enlarges areas, and so volumes.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)

    Returns
    -------
    float

    Examples
    --------
    >>> size_factor([[2.0, 0.0, 5.0], [0.0, -1.5, 0.0]])
    3.0
    """
    return abs(float(np.linalg.det(np.asarray(matrix, float)[:, :2])))


def window(matrix, shape, window_shape, center):
    """The same map, seen through a window of another size: what is cut out of the moved stack.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        In pixels of a frame of `shape`; moves the frame's middle little.
    shape, window_shape : tuple of int (height_px, width_px)
    center : tuple of float (x, y)
        The point of the *old* frame that comes to lie where `matrix` takes it relative to the frame's middle, seen from
        the window's middle.

    Returns
    -------
    ndarray of shape (2, 3)
        Takes pixels of the frame to pixels of the window.
    """
    matrix = np.asarray(matrix, float)
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    shift = matrix[:, :2] @ middle + matrix[:, 2] - middle
    target = np.array([(window_shape[1] - 1) / 2, (window_shape[0] - 1) / 2]) + shift
    return np.column_stack([matrix[:, :2], target - matrix[:, :2] @ np.asarray(center, float)])


def warp_stack(stack, matrix, shape, border="edge"):
    """Move each slice, or channel, of a stack by one in-plane map.

    Parameters
    ----------
    stack : ndarray of shape (height, width, channels), float32 or uint8
        Slices of an image, or the class shares of one slice: anything on the last axis moves alike.
    matrix : ndarray of shape (2, 3)
        Where a point goes, (x, y) in pixels.
    shape : tuple of int (height_px, width_px)
        Of the result.
    border : {"edge", "zero"}
        What comes in from outside.

    Returns
    -------
    ndarray of shape (*shape, channels), of the dtype of `stack`
    """
    mode = {"edge": cv2.BORDER_REPLICATE, "zero": cv2.BORDER_CONSTANT}[border]
    parts = [
        cv2.warpAffine(
            np.ascontiguousarray(stack[..., first : first + _CHANNELS_AT_ONCE]),
            np.asarray(matrix, float),
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=mode,
            borderValue=0,
        ).reshape(*shape, -1)
        for first in range(0, stack.shape[-1], _CHANNELS_AT_ONCE)
    ]
    return np.concatenate(parts, axis=-1)


@dataclass(frozen=True)
class MRIContrast:
    """Change the grey values of a standardised MRI: contrast curve, gain, offset, a slow bias field, blur, noise.

    Attributes
    ----------
    gamma_range : tuple of float (low, high), positive
        Power applied to the grey values between their smallest and largest; drawn log-uniformly.
    gain_range : tuple of float (low, high), positive
    offset_sd, bias_sd, noise_sd : float
        Standard deviations, in those of the image. The bias field is a plane through the frame.
    blur_px : float
        Largest standard deviation of a Gaussian blur; half of the draws are not blurred.
    """

    gamma_range: tuple = (0.7, 1.5)
    gain_range: tuple = (0.75, 1.33)
    offset_sd: float = 0.2
    bias_sd: float = 0.25
    noise_sd: float = 0.1
    blur_px: float = 1.0

    def __post_init__(self):
        for name in ("gamma_range", "gain_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"MRIContrast needs {name} with 0 < low <= high. Received: ({low}, {high}).")
        sizes = {name: getattr(self, name) for name in ("offset_sd", "bias_sd", "noise_sd", "blur_px")}
        if not all(0 <= size < np.inf for size in sizes.values()):
            raise ValueError(f"MRIContrast needs sizes of 0 or more. Received: {sizes}.")

    def draw(self, rng):
        """Draw the parameters of one use: a dict of floats and the seed of the noise."""
        gamma, gain = (np.exp(rng.uniform(*np.log(pair))) for pair in (self.gamma_range, self.gain_range))
        return {
            "gamma": float(gamma),
            "gain": float(gain),
            "offset": float(rng.normal(0.0, self.offset_sd)),
            "bias": tuple(float(value) for value in rng.normal(0.0, self.bias_sd, 2)),
            "blur_px": float(max(0.0, rng.uniform(-self.blur_px, self.blur_px))),
            "noise_sd": float(rng.uniform(0.0, self.noise_sd)),
            "seed": int(rng.integers(2**63)),
        }

    @staticmethod
    def apply(image, parameters):
        """Apply drawn parameters.

        Parameters
        ----------
        image : ndarray of shape (height, width, channels), float32
        parameters : dict

        Returns
        -------
        ndarray of the shape of `image`, float32
        """
        low, high = float(image.min()), float(image.max())
        span = max(high - low, 1e-6)
        changed = ((image - low) / span) ** np.float32(parameters["gamma"]) * span + low
        height, width = image.shape[:2]
        across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
        plane = parameters["bias"][0] * down[:, None] + parameters["bias"][1] * across
        changed = (changed * (1 + plane[..., None]) * parameters["gain"] + parameters["offset"]).astype(np.float32)
        if parameters["blur_px"] > 0.3:  # a narrower Gaussian changes nothing
            changed = cv2.GaussianBlur(changed, (0, 0), parameters["blur_px"]).reshape(image.shape)
        noise = np.random.default_rng(parameters["seed"]).standard_normal(image.shape, dtype=np.float32)
        return changed + np.float32(parameters["noise_sd"]) * noise


def zhang2021_volume_augmentation():
    """The in-plane transforms of zhang2021biometrics, section 5: flip, and shifts of up to 5 pixels.

    Returns
    -------
    Chain
    """
    return Chain((HorizontalFlip(), Translation(5.0, 5.0)))


def cardiac_augmentation(flip_probability=0.0):
    """Rotation, zoom and shift, hcreg's own choice; unlike the paper without mirror images, which no patient has.

    Parameters
    ----------
    flip_probability : float, 0 to 1

    Returns
    -------
    Chain
    """
    return Chain((HorizontalFlip(flip_probability), Rotation(-40.0, 40.0), Scaling(0.75, 1.3), Translation(22.0, 22.0)))
