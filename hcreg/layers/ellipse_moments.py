"""From a soft mask to its ellipse in closed form, so that a network can learn from the circumference itself."""

import math

import keras
import numpy as np
from keras import ops

# No axis is shorter than that of a disc of one pixel's area: r^2 = 1/pi, and a disc's variance is r^2 / 4, px^2.
_VARIANCE_FLOOR_PX2 = 1 / (4 * math.pi)
# Below one pixel of mass the moments are divided by one pixel, so that an empty mask divides nothing by zero.
_MASS_FLOOR_PX = 1.0
# Relative difference of the two variances below which the direction of the major axis is noise, and so is its gradient.
_CIRCLE = 1e-3
_TRIMMED_TWICE = 2  # the second time about an ellipse that far specks no longer pull at
_TRIM_STEEPNESS = 20.0  # of the window's edge, per semi-axis: from 0.9 to 0.1 in 0.22 semi-axes
_BELOW_PI = float(np.nextafter(np.float32(math.pi), np.float32(0)))  # float32(pi) itself lies above pi


@keras.saving.register_keras_serializable(package="hcreg")
class EllipseMoments(keras.layers.Layer):
    r"""Ellipse of a soft mask in closed form, from its zeroth, first and second moments.

    A filled ellipse of semi-axes a and b has, along its axes, the variances :math:`a^2 / 4` and :math:`b^2 / 4`. With
    the covariance matrix :math:`\Sigma` of the mask's pixels, weighted by their probabilities,

    .. math:: a, b = 2 \sqrt{\lambda_{1, 2}(\Sigma)}, \qquad
              (a \pm b)^2 = 4 \left(\operatorname{tr} \Sigma \pm 2 \sqrt{\det \Sigma}\right),

    and the second line is all that the circumference needs (Ramanujan II, as `hcreg.geometry.ellipse_circumference`):
    no division by the difference of the eigenvalues, so that its gradient is stable for a circle too.

    Parameters
    ----------
    pixel_size : float or (x, y)
        Size of a pixel along x and y, in any unit, the unit of the outputs. Note the order: a mask's shape is (height,
        width). Pixels by default.
    antialiased : bool
        Whether a mask's border pixels hold the share of the pixel inside the head, as training targets and what is
        trained on them do. That share is the head blurred by the pixel's box, which adds 1/12 px² to each variance; it
        is taken off. Pass False for 0/1 masks of pixel centres (`hcreg.geometry.Ellipse.mask`, a thresholded map).
    sharpness : float from 1 to 16, optional
        If given, the mask's probabilities p are first mapped to :math:`p^s / (p^s + (1 - p)^s)`, so that a low
        background weighs less. See Notes.
    trim : float from 1.1 to 4, optional
        If given, what lies farther out than so many semi-axes of the mask's own ellipse is left out, twice over, by a
        smooth window: specks beside the head. See Notes.
    **kwargs
        ``name`` and the like, as for every Keras layer.

    Raises
    ------
    ValueError
        If `pixel_size` is not positive, or `sharpness` or `trim` is out of range; on call, if the mask has another rank
        or several channels, or a given ``pixel_size`` is not of shape (batch, 2).

    Notes
    -----
    Accuracy at 128x128 for random centres and angles and b/a from 0.66: on anti-aliased masks circumference and each
    semi-axis are within 0.05 % from 12 px up (0.02 % from 20, 0.003 % from 40). With 0/1 masks of pixel centres the
    quantisation of the border decides: circumference 0.26 % root mean square (largest 0.7 %) at 12 px, 0.09 % (0.25 %)
    at 20 to 40 px, 0.04 % (0.11 %) at 40 to 60 px, semi-axes up to twice that. The wrong `antialiased` adds a bias of
    0.10 % at 12 px, 0.025 % at 30 px.

    Moments weigh a pixel by the square of its distance, so they see what lies far off:

    - *Background.* 0.01 everywhere else makes the circumference of a head of 20 px in a 128x96 frame 37 % too long,
      0.001 4.6 %, 0.0001 0.5 %. ``sharpness=2`` leaves 0.6 % of the 37 %, ``sharpness=3`` 0.2 %, but a sharper edge is
      a coarser one: at 12 px anti-aliased masks are then within 0.25 % and 0.4 %, from 20 px within 0.11 %. It is off
      by default: a network trained through this layer learns a clean background.
    - *Specks.* A disc of radius 5 px, 90 px from the middle of a head of 40 x 30 px, lengthens its circumference by
      10.6 %. ``trim=1.25`` leaves nothing of that, and shortens heads without specks by 0.03 %. No
      gradient flows through the window: a loss on the circumference does not see what was left out, one on the mask
      does.
    - *Soft edges.* An edge blurred by a Gaussian of 1 px lengthens the circumference of that head by 0.5 %, of 2 px by
      2 %.
    - *Heads cut by the frame's border* are measured too small: of an ellipse of b/a = 0.8 with 10 % of its area cut
      off, by 5.4 % where an end of the major axis is missing and 2.9 % at the minor one (5 % cut off: 2.8 and 1.5 %).

    The outputs are finite for every mask in [0, 1], and so are the gradients. No semi-axis is shorter than that of a
    disc of one pixel's area, 0.564 px (its gradient is zero there), and below one pixel of mass the moments are divided
    by one pixel: an empty mask has the frame's middle as its centre and 3.545 px of circumference, without a gradient
    towards any head; a loss on the mask itself must provide that. The angle of a circle (a and b within 0.1 %, or less
    than a hundredth of a pixel) is 0, with gradient zero. For a full mask the ellipse is that of the whole frame.

    The arithmetic is float32 whatever the policy, and the outputs are float32. A mask of another scale, 0 and 255 say,
    has the same moments, except with `sharpness`.

    Departure from the paper: zhang2021biometrics [1]_ thresholds the mask and fits an ellipse to its contour after
    training, as `hcreg.geometry.fit_ellipse` does. This layer stands inside the network, where a loss on the
    circumference reaches the mask.

    References
    ----------
    .. [1] zhang2021biometrics, section on post-processing.

    Examples
    --------
    >>> from hcreg.geometry import Ellipse
    >>> mask = Ellipse(64.0, 48.0, 40.0, 30.0, 0.5).mask((96, 128))
    >>> measured = EllipseMoments(pixel_size=0.5, antialiased=False)(mask[None])
    >>> print(" ".join(f"{name} {np.round(value, 1)[0]}" for name, value in measured.items()))
    center [32. 24.] semi_axes [20. 15.] angle [0.5] circumference [110.4]
    """

    def __init__(self, pixel_size=(1.0, 1.0), antialiased=True, sharpness=None, trim=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # a lower policy would cast the mask down before call sees it
        self.pixel_size = _checked_pixel_size(pixel_size)
        self.antialiased = bool(antialiased)
        self.sharpness = _checked_sharpness(sharpness)
        self.trim = _checked_trim(trim)
        self._blur_variance_px2 = _blur_variance_px2(self.sharpness or 1.0) if self.antialiased else 0.0

    def call(self, probabilities, pixel_size=None):
        """Measure each mask of a batch.

        Parameters
        ----------
        probabilities : tensor of shape (batch, height, width) or (batch, height, width, 1), in [0, 1]
            The masks. (The name is not ``mask`` because Keras passes its own time-step masks by that one.)
        pixel_size : tensor of shape (batch, 2), optional
            (x, y) for each image, in place of the layer's. A graph's values cannot be checked: where one is not
            positive, the circumference is NaN.

        Returns
        -------
        dict of float32 tensors
            ``"center"`` (batch, 2), (x, y) in pixel-centre coordinates times the pixel size: the centre of the top-left
            pixel is (0, 0). ``"semi_axes"`` (batch, 2), a >= b. ``"angle"`` (batch, 1), rad in [0, pi), from the x
            axis to the major axis, y down. ``"circumference"`` (batch, 1).
        """
        _check_shapes(probabilities, pixel_size)
        weights = ops.cast(probabilities, "float32")
        if len(weights.shape) == 4:
            weights = weights[..., 0]
        if self.sharpness is not None:
            weights = _sharpened(weights, self.sharpness)
        if pixel_size is None:
            pixel_size = ops.convert_to_tensor([self.pixel_size])
        pixel_size = ops.cast(pixel_size, "float32")
        size_x, size_y = pixel_size[:, :1], pixel_size[:, 1:]

        middle, offset, (xx, yy, xy) = _moments(weights)
        for _ in range(_TRIMMED_TWICE if self.trim is not None else 0):
            middle, offset, (xx, yy, xy) = _moments(
                weights * _window(weights, middle + offset, (xx, yy, xy), self.trim)
            )
        center = (middle + offset) * pixel_size
        # In units of the mean pixel size the floors are the same whatever the unit, and nothing underflows.
        unit = ops.sqrt(size_x) * ops.sqrt(size_y)
        ratio = size_x / size_y
        xx = ops.maximum(xx - self._blur_variance_px2, 0.0) * ratio
        yy = ops.maximum(yy - self._blur_variance_px2, 0.0) / ratio

        half_gap_squared = ops.square((xx - yy) / 2) + ops.square(xy)
        trace = ops.maximum(xx + yy, 2 * _VARIANCE_FLOOR_PX2)
        semi_axes = unit * _semi_axes(trace, half_gap_squared)
        circumference = unit * _circumference(trace, xx * yy - ops.square(xy))
        return {
            "center": center,
            "semi_axes": semi_axes,
            "angle": _angle(xx - yy, 2 * xy, trace),
            "circumference": circumference,
        }

    def compute_output_spec(self, probabilities, pixel_size=None):
        _check_shapes(probabilities, pixel_size)
        batch = probabilities.shape[0]
        sizes = {"center": 2, "semi_axes": 2, "angle": 1, "circumference": 1}
        return {name: keras.KerasTensor((batch, size), dtype="float32") for name, size in sizes.items()}

    def get_config(self):
        return {
            **super().get_config(),
            "pixel_size": list(self.pixel_size),
            "antialiased": self.antialiased,
            "sharpness": self.sharpness,
            "trim": self.trim,
        }


def _moments(weights):
    """Middle of the frame (1, 2), mean from there (batch, 2), and variances and covariance (batch, 1); px, px^2.

    Sums of products and no matrix product: GPUs multiply float32 matrices with 10 bits of mantissa by default.
    """
    height, width = ops.shape(weights)[1:]
    middle = ops.stack([ops.cast(width - 1, "float32") / 2, ops.cast(height - 1, "float32") / 2])[None]
    x = ops.cast(ops.arange(width), "float32")[None] - middle[:, :1]
    y = ops.cast(ops.arange(height), "float32")[None] - middle[:, 1:]
    columns, rows = ops.sum(weights, axis=1), ops.sum(weights, axis=2)
    mass = ops.maximum(ops.sum(columns, axis=1, keepdims=True), _MASS_FLOOR_PX)
    mean_x = ops.sum(columns * x, axis=1, keepdims=True) / mass
    mean_y = ops.sum(rows * y, axis=1, keepdims=True) / mass
    x, y = x - mean_x, y - mean_y  # about the mean: a difference of raw moments loses a small head's digits
    xx = ops.sum(columns * ops.square(x), axis=1, keepdims=True) / mass
    yy = ops.sum(rows * ops.square(y), axis=1, keepdims=True) / mass
    xy = ops.sum(ops.sum(weights * x[:, None, :], axis=2) * y, axis=1, keepdims=True) / mass
    return middle, ops.concatenate([mean_x, mean_y], axis=1), (xx, yy, xy)


def _window(weights, mean, moments, trim):
    """(batch, height, width): 1 within `trim` semi-axes of the ellipse of these moments, 0 beyond, without gradient."""
    height, width = ops.shape(weights)[1:]
    xx, yy, xy = (ops.stop_gradient(moment)[..., None] for moment in moments)
    mean = ops.stop_gradient(mean)
    x = (ops.cast(ops.arange(width), "float32")[None] - mean[:, :1])[:, None, :]
    y = (ops.cast(ops.arange(height), "float32")[None] - mean[:, 1:])[:, :, None]
    xx, yy = ops.maximum(xx, _VARIANCE_FLOOR_PX2), ops.maximum(yy, _VARIANCE_FLOOR_PX2)
    determinant = ops.maximum(xx * yy - ops.square(xy), _VARIANCE_FLOOR_PX2**2)
    squared = (yy * ops.square(x) - 2 * xy * x * y + xx * ops.square(y)) / determinant
    # along an axis of the ellipse the standard deviation is half the semi-axis
    semi_axes_away = ops.sqrt(ops.maximum(squared, 0.0)) / 2
    return ops.sigmoid(_TRIM_STEEPNESS * (trim - semi_axes_away))


def _semi_axes(trace, half_gap_squared):
    """(batch, 2): twice the roots of the eigenvalues, the minor one floored and the trace kept."""
    gapped = half_gap_squared > 1e-14 * ops.square(trace)
    half_gap = ops.where(gapped, ops.sqrt(ops.where(gapped, half_gap_squared, 1.0)), 0.0)
    minor = ops.maximum(trace / 2 - half_gap, _VARIANCE_FLOOR_PX2)
    return 2 * ops.sqrt(ops.concatenate([trace - minor, minor], axis=1))


def _circumference(trace, determinant):
    """Ramanujan's second approximation, from (a ± b)^2 = 4 (trace ± 2 sqrt(determinant))."""
    # The same floor as that of the minor axis: eigenvalues floor and trace - floor have this determinant.
    determinant = ops.maximum(determinant, _VARIANCE_FLOOR_PX2 * (trace - _VARIANCE_FLOOR_PX2))
    root = 2 * ops.sqrt(determinant)
    h = (trace - root) / (trace + root)
    return 2 * math.pi * ops.sqrt(trace + root) * (1 + 3 * h / (10 + ops.sqrt(4 - 3 * h)))


def _angle(cos_part, sin_part, trace):
    """Angle of the major axis in [0, pi), 0 for a circle; the two parts are those of twice the angle."""
    elongated = ops.square(cos_part) + ops.square(sin_part) > ops.square(_CIRCLE * trace + _VARIANCE_FLOOR_PX2)
    angle = ops.arctan2(ops.where(elongated, sin_part, 0.0), ops.where(elongated, cos_part, 1.0)) / 2
    return ops.minimum(ops.where(angle < 0, angle + math.pi, angle), _BELOW_PI)


def _sharpened(probabilities, sharpness):
    p = ops.clip(probabilities, 0.0, 1.0)  # a rounding error below 0 has no fractional power
    inside, outside = ops.power(p, sharpness), ops.power(1 - p, sharpness)
    return inside / (inside + outside)


def _checked_trim(trim):
    if trim is None:
        return None
    if not 1.1 <= trim <= 4:
        raise ValueError(
            f"trim must be from 1.1 to 4 semi-axes, or None to count the whole mask. Received: {trim!r}. Nearer than "
            "1.1 it would cut the head's own edge."
        )
    return float(trim)


def _blur_variance_px2(sharpness):
    """Variance that a pixel's box adds along each axis, px^2: 1/12, and less where `sharpness` narrows the edge.

    It is proportional to the first moment of what the blur moves across an edge. Across a straight edge along the
    pixels the share inside is 1/2 - t, |t| < 1/2, before it is sharpened.
    """
    t = (np.arange(10_000) + 0.5) / 20_000
    outside = 1 / (1 + ((0.5 + t) / (0.5 - t)) ** sharpness)
    return float(4 * np.sum(t * outside) / 20_000)


def _check_shapes(probabilities, pixel_size):
    shape = tuple(probabilities.shape)
    if len(shape) not in {3, 4} or (len(shape) == 4 and shape[-1] != 1):
        raise ValueError(
            "EllipseMoments measures one class: its input must be of shape (batch, height, width) or "
            f"(batch, height, width, 1). Received: {shape}. Pass the channels one by one, as probabilities[..., k]."
        )
    if pixel_size is None:
        return
    if not hasattr(pixel_size, "shape") or len(pixel_size.shape) != 2 or pixel_size.shape[-1] != 2:
        raise ValueError(
            "The input pixel_size of EllipseMoments must be a tensor of shape (batch, 2), an (x, y) for each image. "
            f"Received: {tuple(getattr(pixel_size, 'shape', ())) or pixel_size!r}. Where it is the same for all "
            "images, pass it to the constructor."
        )


def _checked_pixel_size(pixel_size):
    size = np.asarray(pixel_size, dtype=np.float64)
    if size.shape not in {(), (2,)}:
        raise ValueError(f"pixel_size must be one number or (x, y). Received: {pixel_size!r}.")
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ValueError(f"pixel_size must be positive and finite. Received: {pixel_size!r}.")
    return tuple(float(value) for value in np.broadcast_to(size, (2,)))


def _checked_sharpness(sharpness):
    if sharpness is None:
        return None
    if not 1 <= sharpness <= 16:
        raise ValueError(
            f"sharpness must be from 1 to 16, or None for no sharpening. Received: {sharpness!r}. Below 1 it would "
            "flatten the mask and weigh the background more."
        )
    return float(sharpness)
