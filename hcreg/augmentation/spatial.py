"""Affine augmentation of ellipse-labelled images: draw the map, apply it, and the label follows exactly.

A transform has one method, ``draw(rng, shape)``, which returns the affine map of one draw as a 2 x 3 matrix
in pixel coordinates of a frame of that shape, and draws nothing else. `apply_to_image` and
`Ellipse.transformed` then use the same matrix, so a label is computed, never interpolated. Nothing wraps
around the border: what comes in is black.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.geometry import resize_matrix

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def compose(first, second):
    """The affine map that applies `first` and then `second`.

    Parameters
    ----------
    first, second : ndarray of shape (2, 3)

    Returns
    -------
    ndarray of shape (2, 3)

    Examples
    --------
    >>> compose([[1, 0, 5], [0, 1, 0]], [[2, 0, 0], [0, 2, 0]]).tolist()
    [[2.0, 0.0, 10.0], [0.0, 2.0, 0.0]]
    """
    second = np.asarray(second, float)
    matrix = second[:, :2] @ np.asarray(first, float)
    matrix[:, 2] += second[:, 2]
    return matrix


def about_center(linear, shape, shift_px=(0.0, 0.0)):
    """Affine map with a given linear part that keeps the middle of a frame in place, then shifts it.

    Parameters
    ----------
    linear : array-like of shape (2, 2)
        Acts on (x, y) with y downwards.
    shape : tuple of int (height_px, width_px)
    shift_px : tuple of float (x, y)

    Returns
    -------
    ndarray of shape (2, 3)
    """
    linear = np.asarray(linear, float)
    center = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    return np.column_stack([linear, center - linear @ center + np.asarray(shift_px, float)])


def _require_range(name, low, high):
    if not low <= high:
        raise ValueError(f"{name} needs low <= high. Received: {low} and {high}.")


def _require_shift(name, *shifts_px):
    if not all(0 <= shift < np.inf for shift in shifts_px):
        received = " and ".join(map(str, shifts_px))
        raise ValueError(f"{name} shifts to either side by up to so many pixels, 0 or more. Received: {received}.")


def _require_some(name, transforms):
    if not transforms or not all(hasattr(transform, "draw") for transform in transforms):
        raise ValueError(
            f"{name} takes a tuple of one or more transforms, objects with draw(rng, shape). Received: {transforms!r}."
        )


@dataclass(frozen=True)
class Identity:
    """Leave the image as it is."""

    def draw(self, rng, shape):
        """Return the identity."""
        return IDENTITY.copy()


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right.

    Attributes
    ----------
    probability : float, 0 to 1
    """

    probability: float = 0.5

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"HorizontalFlip needs a probability of 0 to 1. Received: {self.probability}.")

    def draw(self, rng, shape):
        """Draw whether to flip."""
        if rng.random() >= self.probability:
            return IDENTITY.copy()
        return about_center([[-1.0, 0.0], [0.0, 1.0]], shape)


@dataclass(frozen=True)
class Rotation:
    """Turn about the middle of the frame by an angle drawn uniformly.

    Attributes
    ----------
    low_degrees, high_degrees : float
        Counter-clockwise as seen on the screen, so the papers' 10 degrees is ``Rotation(10, 10)``.
    """

    low_degrees: float = -20.0
    high_degrees: float = 20.0

    def __post_init__(self):
        _require_range("Rotation", self.low_degrees, self.high_degrees)

    def draw(self, rng, shape):
        """Draw the angle."""
        angle = np.deg2rad(rng.uniform(self.low_degrees, self.high_degrees))
        cos, sin = np.cos(angle), np.sin(angle)
        # y points down: this turns counter-clockwise on the screen
        return about_center([[cos, sin], [-sin, cos]], shape)


@dataclass(frozen=True)
class Scaling:
    """Zoom about the middle, the same in both axes, by a factor drawn log-uniformly.

    Attributes
    ----------
    low, high : float, positive
    """

    low: float = 0.8
    high: float = 1.25

    def __post_init__(self):
        _require_range("Scaling", self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"Scaling needs positive factors. Received: {self.low} and {self.high}.")

    def draw(self, rng, shape):
        """Draw the factor."""
        factor = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        return about_center(factor * np.eye(2), shape)


@dataclass(frozen=True)
class Translation:
    """Shift by up to so many reference pixels to either side, uniformly.

    Attributes
    ----------
    horizontal_px, vertical_px : float
        Largest shift. The papers' values are 40 and 27, 1/20 of the frame's width and height.
    """

    horizontal_px: float = 40.0
    vertical_px: float = 27.0

    def __post_init__(self):
        _require_shift("Translation", self.horizontal_px, self.vertical_px)

    def draw(self, rng, shape):
        """Draw the two shifts."""
        shift = rng.uniform(-1.0, 1.0, size=2) * (self.horizontal_px, self.vertical_px)
        return about_center(np.eye(2), shape, shift)


@dataclass(frozen=True)
class CropResize:
    """Cut a box out of the frame and stretch it over the whole frame again, then shift it.

    Attributes
    ----------
    left_px, top_px, right_px, bottom_px : float
        The box, edges not centres: the papers' is (100, 50) to (700, 500), which stretches x by 4/3 and y
        by 1.2.
    shift_px : float
        Largest shift afterwards, drawn uniformly per axis; 5 in the papers.

    Notes
    -----
    The stretch is **anisotropic**: it changes a head's shape and circumference in pixels, so a pixel is no
    longer square. The label must be the circumference of the *transformed* ellipse, which is what
    `Ellipse.transformed` gives.
    """

    left_px: float = 100.0
    top_px: float = 50.0
    right_px: float = 700.0
    bottom_px: float = 500.0
    shift_px: float = 5.0

    def __post_init__(self):
        if not (self.left_px < self.right_px and self.top_px < self.bottom_px):
            raise ValueError(
                "CropResize needs left < right and top < bottom. Received: "
                f"({self.left_px}, {self.top_px}) to ({self.right_px}, {self.bottom_px})."
            )
        _require_shift("CropResize", self.shift_px)

    def draw(self, rng, shape):
        """Draw the shift; the stretch is fixed."""
        height, width = shape
        scale_x = width / (self.right_px - self.left_px)
        scale_y = height / (self.bottom_px - self.top_px)
        shift_x, shift_y = rng.uniform(-self.shift_px, self.shift_px, size=2)
        # an edge coordinate e is the pixel-centre coordinate e - 0.5
        return np.array(
            [
                [scale_x, 0.0, scale_x * (0.5 - self.left_px) - 0.5 + shift_x],
                [0.0, scale_y, scale_y * (0.5 - self.top_px) - 0.5 + shift_y],
            ]
        )


@dataclass(frozen=True)
class Chain:
    """Apply several transforms one after the other.

    Attributes
    ----------
    transforms : tuple
    """

    transforms: tuple

    def __post_init__(self):
        _require_some("Chain", self.transforms)

    def draw(self, rng, shape):
        """Draw each and compose them, first to last."""
        matrix = IDENTITY
        for transform in self.transforms:
            matrix = compose(matrix, transform.draw(rng, shape))
        return matrix


@dataclass(frozen=True)
class OneOf:
    """Apply one of several transforms, each equally likely.

    Attributes
    ----------
    transforms : tuple
    """

    transforms: tuple

    def __post_init__(self):
        _require_some("OneOf", self.transforms)

    def draw(self, rng, shape):
        """Draw which, then draw that."""
        return self.transforms[rng.integers(len(self.transforms))].draw(rng, shape)


def zhang2021_augmentation():
    """The transforms of zhang2021biometrics, one of them at a time, or none.

    Returns
    -------
    OneOf

    Notes
    -----
    The paper stores six fixed copies of each image; here one of the six is drawn anew in each epoch, the
    shifts with random size and sign up to the paper's. The original's shifts wrap around the border; these
    do not.
    """
    return OneOf(
        (
            Identity(),
            HorizontalFlip(probability=1.0),
            Rotation(10.0, 10.0),
            Translation(40.0, 27.0),
            Translation(5.0, 5.0),
            CropResize(),
        )
    )


def default_augmentation():
    """Flip, rotation, zoom and shift together, each drawn from a range: hcreg's own choice.

    Returns
    -------
    Chain
    """
    return Chain((HorizontalFlip(), Rotation(-25.0, 25.0), Scaling(0.75, 1.3), Translation(60.0, 40.0)))


def draw_inside(transform, rng, ellipse, shape, max_draws=5):
    """Draw an affine map that keeps a head inside the frame.

    Parameters
    ----------
    transform : object with ``draw(rng, shape)``
    rng : numpy.random.Generator
    ellipse : Ellipse
        The head, in pixels of the frame.
    shape : tuple of int (height_px, width_px)
        Of the frame.
    max_draws : int
        How often to draw before giving up.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        The identity where no draw kept the head inside: the augmented copy is dropped and the image itself
        stays, as in zhang2021biometrics.
    transformed : Ellipse

    Notes
    -----
    A few annotated heads of HC18 leave the image themselves; for them only draws that bring the head inside
    pass.
    """
    height, width = shape
    for _ in range(max_draws):
        matrix = transform.draw(rng, shape)
        moved = ellipse.transformed(matrix)
        x_min, y_min, x_max, y_max = moved.bounding_box()
        if x_min >= -0.5 and y_min >= -0.5 and x_max <= width - 0.5 and y_max <= height - 0.5:
            return matrix, moved
    return IDENTITY.copy(), ellipse


def apply_to_image(image, matrix, shape):
    """Warp an image by an affine map given in the pixels of a larger or smaller frame.

    Parameters
    ----------
    image : ndarray of shape (height_px, width_px)
        The whole frame, resized to any size.
    matrix : ndarray of shape (2, 3)
        Where a point of the frame goes, in pixels of a frame of `shape`.
    shape : tuple of int (height_px, width_px)
        Of the frame the matrix speaks of.

    Returns
    -------
    ndarray of the shape and dtype of `image`
        Linear interpolation; black outside the old image.
    """
    height, width = image.shape
    matrix = compose(compose(resize_matrix(image.shape, shape), matrix), resize_matrix(shape, image.shape))
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
