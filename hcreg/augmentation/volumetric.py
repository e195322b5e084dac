"""Augmentation of short-axis stacks: every slice moves alike in its plane, and the labels follow exactly.

The in-plane maps are those of `hcreg.augmentation.spatial`, drawn in pixels of the stack's own frame. What a map does
to a volume is its determinant (`size_factor`), so a target in ml is computed, never measured anew. Bending the plane
(`ElasticDeformation`) and shifting slices (`SliceShifts`) are drawn once and applied to image and labels alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.augmentation.spatial import Chain, HorizontalFlip, Rotation, Scaling, Translation

PAPER_SIZE = (224, 224)  # of the input of zhang2021biometrics, in pixels
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
    >>> size_factor([[2.0, 0.0, 5.0], [0.0, -0.5, 0.0]])
    1.0
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


def warp_stack(stack, matrix, shape, border="edge", nearest=False):
    """Move each slice, or channel, of a stack by one in-plane map.

    Parameters
    ----------
    stack : ndarray of shape (height, width, ...), float32 or uint8
        Slices of an image, a label map, or shares of classes (height, width, slices, classes): whatever lies on the
        axes after the second moves alike.
    matrix : ndarray of shape (2, 3)
        Where a point goes, (x, y) in pixels.
    shape : tuple of int (height_px, width_px)
        Of the result.
    border : {"edge", "zero"}
        What comes in from outside.
    nearest : bool
        Take the nearest pixel instead of interpolating: for label maps. Shares of classes keep their area, labels only
        nearly.

    Returns
    -------
    ndarray of shape (shape..., ...), of the dtype of `stack`

    Raises
    ------
    ValueError
        If `border` is unknown.
    """
    matrix = np.asarray(matrix, float)
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    mode = _border_mode(border)

    def move(channels):
        return cv2.warpAffine(channels, matrix, (shape[1], shape[0]), flags=flags, borderMode=mode, borderValue=0)

    return _by_channels(stack, shape, move)


def warp_shares(shares, matrix, shape):
    """Move the shares of classes of a stack by one in-plane map; what comes in from outside is background.

    Parameters
    ----------
    shares : ndarray of shape (height, width, [slices,] classes), float32
        In [0, 1], the first class the background.
    matrix, shape
        As for `warp_stack`.

    Returns
    -------
    ndarray of shape (shape..., [slices,] classes), float32
        A voxel's shares sum to 1. The area of a structure that stays inside is `size_factor` times what it was.
    """
    return with_background(warp_stack(shares[..., 1:], matrix, shape, "zero"))


def with_background(structures):
    """Shares of all classes from those of the structures: the background is what they leave.

    Parameters
    ----------
    structures : ndarray of shape (..., classes - 1)
        In [0, 1]; such as shares without their first class, moved with ``border="zero"``.

    Returns
    -------
    ndarray of shape (..., classes)

    Examples
    --------
    >>> import numpy as np
    >>> with_background(np.array([[0.25, 0.5], [0.0, 0.0]])).tolist()
    [[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]]
    """
    background = np.maximum(0.0, 1 - structures.sum(-1, keepdims=True))
    return np.concatenate([background, structures], axis=-1)


def _border_mode(border):
    modes = {"edge": cv2.BORDER_REPLICATE, "zero": cv2.BORDER_CONSTANT}
    if border not in modes:
        raise ValueError(f"From outside comes the 'edge' again, or 'zero'. Received: border={border!r}.")
    return modes[border]


def _by_channels(stack, shape, move):
    """Apply `move`, from (height, width, up to four channels) to `shape`, to all axes after the second."""
    flat = stack.reshape(*stack.shape[:2], -1)
    starts = list(range(0, flat.shape[-1], _CHANNELS_AT_ONCE))
    if flat.shape[-1] % _CHANNELS_AT_ONCE == 2:  # OpenCV rounds places to 1/32 px for two channels, and for no others
        starts.append(flat.shape[-1] - 1)
    parts = [
        move(np.ascontiguousarray(flat[..., first:end])).reshape(*shape, -1)
        for first, end in zip(starts, [*starts[1:], flat.shape[-1]])
    ]
    return np.concatenate(parts, axis=-1).reshape(*shape, *stack.shape[2:])


@dataclass(frozen=True)
class ElasticDeformation:
    """Bend the plane smoothly, all slices alike: a cubic B-spline through randomly moved control points.

    Attributes
    ----------
    spacing_px : float, positive
        Distance of the control points: how wide a bend is.
    sd_px : float
        Standard deviation of a pixel's movement along either axis; at most a tenth of `spacing_px`.

    Raises
    ------
    ValueError
        If a size is not such a number.

    Notes
    -----
    Control points move by at most 0.4 of their distance, so that the plane never folds (the limit for a cubic B-spline
    in the plane is 0.48: Choi and Lee 2000): a structure stays one piece. Unlike under an affine map, a structure's
    area changes by no single factor: measure the moved shares.
    """

    spacing_px: float = 32.0
    sd_px: float = 3.0

    def __post_init__(self):
        if not 0 < self.spacing_px < np.inf:
            raise ValueError(f"ElasticDeformation needs a positive spacing_px. Received: {self.spacing_px}.")
        if not 0 <= self.sd_px <= self.spacing_px / 10:
            raise ValueError(
                "ElasticDeformation needs an sd_px of 0 to a tenth of spacing_px, or the plane would fold. "
                f"Received: sd_px={self.sd_px}, spacing_px={self.spacing_px}."
            )

    def draw(self, rng, shape):
        """Draw how far each pixel looks away from its place.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int (height_px, width_px, ...)

        Returns
        -------
        ndarray of shape (height_px, width_px, 2), float32
            (x, y) in pixels: the result at a pixel is what lay there plus this.
        """
        rows, columns = (_cubic_spline(size, self.spacing_px) for size in shape[:2])
        # weights of a spline are below one: a pixel moves by 0.48 of what its control points do
        control = rng.normal(0.0, self.sd_px / _SPLINE_SD, (2, rows.shape[1], columns.shape[1]))
        limit = 0.4 * self.spacing_px
        return np.stack([rows @ np.clip(part, -limit, limit) @ columns.T for part in control], -1).astype(np.float32)

    @staticmethod
    def apply(stack, parameters, border="edge", nearest=False):
        """Apply a drawn movement.

        Parameters
        ----------
        stack : ndarray of shape (height, width, ...), float32 or uint8
            See `warp_stack`; the image, its label map (``nearest=True``), or its shares (see `with_background`).
        parameters : ndarray of shape (height, width, 2)
        border : {"edge", "zero"}
        nearest : bool

        Returns
        -------
        ndarray of the shape and dtype of `stack`
        """
        shape = stack.shape[:2]
        if parameters.shape[:2] != shape:
            raise ValueError(
                f"The movement was drawn for a frame of {parameters.shape[:2]}; the stack has {shape} rows and columns."
            )
        down, across = np.indices(shape, dtype=np.float32)
        x, y = across + parameters[..., 0], down + parameters[..., 1]
        flags, mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR, _border_mode(border)
        return _by_channels(
            stack, shape, lambda channels: cv2.remap(channels, x, y, flags, borderMode=mode, borderValue=0)
        )


_SPLINE_SD = 0.479  # mean of the summed squares of a cubic B-spline's weights: 151 / 315


def _cubic_spline(size, spacing):
    """Weights (size, control points) of a uniform cubic B-spline at 0 to size - 1."""
    position = np.arange(size)[:, None] / spacing + 1 - np.arange(int(np.ceil((size - 1) / spacing)) + 3)
    far = np.abs(position)
    return np.where(far < 1, 2 / 3 - far**2 + far**3 / 2, np.maximum(0.0, 2 - far) ** 3 / 6)


@dataclass(frozen=True)
class SliceShifts:
    """Shift each slice in its plane on its own, as breath holds of different depth do.

    Attributes
    ----------
    sd_px : float
        Standard deviation of a slice's shift along either axis.

    Raises
    ------
    ValueError
        If the size is not such a number.
    """

    sd_px: float = 1.0

    def __post_init__(self):
        if not 0 <= self.sd_px < np.inf:
            raise ValueError(f"SliceShifts needs an sd_px of 0 or more. Received: {self.sd_px}.")

    def draw(self, rng, shape):
        """Draw the shift of each slice.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int (height_px, width_px, slices, ...)

        Returns
        -------
        ndarray of shape (slices, 2)
            (x, y) in pixels.
        """
        if len(shape) < 3:
            raise ValueError(f"SliceShifts needs the shape (height, width, slices). Received: {tuple(shape)}.")
        return rng.normal(0.0, self.sd_px, (shape[2], 2))

    @staticmethod
    def apply(stack, parameters, border="edge", nearest=False):
        """Apply drawn shifts.

        Parameters
        ----------
        stack : ndarray of shape (height, width, slices, ...), float32 or uint8
            See `ElasticDeformation.apply`.
        parameters : ndarray of shape (slices, 2)
        border : {"edge", "zero"}
        nearest : bool

        Returns
        -------
        ndarray of the shape and dtype of `stack`
        """
        if len(parameters) != stack.shape[2]:
            raise ValueError(f"Shifts were drawn for {len(parameters)} slices; the stack has {stack.shape[2]}.")
        moved = [
            warp_stack(stack[:, :, number], np.column_stack([np.eye(2), shift]), stack.shape[:2], border, nearest)
            for number, shift in enumerate(parameters)
        ]
        return np.stack(moved, axis=2)


@dataclass(frozen=True)
class ReverseSlices:
    """Turn the order of the slices round: base to apex becomes apex to base, which some protocols store.

    Attributes
    ----------
    probability : float, 0 to 1
    """

    probability: float = 0.5

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"ReverseSlices needs a probability of 0 to 1. Received: {self.probability}.")

    def draw(self, rng, shape=None):
        """Draw whether to reverse: bool."""
        return bool(rng.random() < self.probability)

    @staticmethod
    def apply(stack, parameters):
        """Apply what was drawn to a stack (height, width, slices, ...): exact for image and labels alike."""
        return np.ascontiguousarray(stack[:, :, ::-1]) if parameters else stack


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


def zhang2021_volume_augmentation(size=PAPER_SIZE):
    """The in-plane transforms of zhang2021biometrics, section 5: flip, and shifts of up to 5 of the paper's pixels.

    Parameters
    ----------
    size : tuple of int (height_px, width_px)
        Of the input: at half the paper's size a shift is of half as many pixels.

    Returns
    -------
    Chain
    """
    height_px, width_px = size
    return Chain((HorizontalFlip(), Translation(5.0 * width_px / PAPER_SIZE[1], 5.0 * height_px / PAPER_SIZE[0])))


def cardiac_augmentation():
    """Rotation, zoom and shift, hcreg's own choice; unlike the paper without mirror images, which no patient has.

    Returns
    -------
    Chain
    """
    return Chain((Rotation(-40.0, 40.0), Scaling(0.75, 1.3), Translation(22.0, 22.0)))
