"""A loss that knows no mask: how far a predicted mask is from the ellipse that it is measured as."""

import keras
from keras import ops

from hcreg.layers import EllipseMoments
from hcreg.losses.segmentation import DiceCrossEntropy


@keras.saving.register_keras_serializable(package="hcreg")
class OwnEllipse(keras.losses.Loss):
    """Dice and cross-entropy of a mask against the filled ellipse of its own moments.

    A loss on the circumference alone reaches a mask through its moments, and many maps have the same moments: rings,
    clouds, frames of dots. This loss is zero only for filled ellipses, so that with it a network that is trained on
    circumferences predicts an outline that can be looked at, without a mask in training. ``y_true`` is not used.

    Called with ``y_pred`` of shape (batch, height, width, 1), probabilities in [0, 1], and any ``y_true`` like it;
    one value per image, in [0, inf).

    Parameters
    ----------
    sharpness, trim : float, optional
        Of the ellipse's moments, see `hcreg.layers.EllipseMoments`; as in the network that is trained.
    reduction : str or None
        Keras's reduction over the batch; the mean by default.
    name : str
        Name of the loss.
    dtype : str, optional
        What Keras casts to, its ``floatx`` by default. Half precision is computed in float32.

    Raises
    ------
    ValueError
        As `DiceCrossEntropy`; if `sharpness` or `trim` is out of range.

    Notes
    -----
    No gradient flows through the ellipse: each step draws the mask towards what it is measured as now. The whole frame
    and an empty mask are fixed points, so the loss says nothing by itself; a loss on the circumference must stand
    beside it.

    Examples
    --------
    >>> import numpy as np
    >>> from hcreg.geometry import Ellipse
    >>> disc = Ellipse(32.0, 24.0, 20.0, 15.0, 0.5).mask((48, 64)).astype("float32")[None, ..., None]
    >>> hollow = disc - Ellipse(32.0, 24.0, 12.0, 9.0, 0.5).mask((48, 64))[None, ..., None]
    >>> loss = OwnEllipse()
    >>> bool(loss(disc, hollow) > 4 * loss(disc, disc))
    True
    """

    def __init__(self, sharpness=None, trim=None, reduction="sum_over_batch_size", name="own_ellipse", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.moments = EllipseMoments(sharpness=sharpness, trim=trim)
        self._distance = DiceCrossEntropy(dtype=dtype)

    def call(self, y_true, y_pred):
        ellipse = ops.stop_gradient(filled_ellipse(self.moments(ops.stop_gradient(y_pred)), y_pred.shape[1:3]))
        return self._distance.call(ellipse, y_pred)

    def get_config(self):
        own = {"sharpness": self.moments.sharpness, "trim": self.moments.trim, "dtype": self.dtype}
        return {**super().get_config(), **own}


def filled_ellipse(moments, shape):
    """Draw ellipses: the share of each pixel that lies inside, to first order in the distance from the outline.

    Parameters
    ----------
    moments : dict of tensors
        "center" (batch, 2), "semi_axes" (batch, 2) in px and "angle" (batch, 1) in rad, as `EllipseMoments` gives them.
    shape : tuple of int (height_px, width_px)

    Returns
    -------
    tensor (batch, height, width, 1), float32
    """
    height, width = shape
    center, semi_axes, angle = (moments[name][..., None] for name in ("center", "semi_axes", "angle"))
    x = ops.cast(ops.arange(width), "float32")[None, None, :] - center[:, :1]
    y = ops.cast(ops.arange(height), "float32")[None, :, None] - center[:, 1:]
    cos, sin = ops.cos(angle), ops.sin(angle)
    a, b = semi_axes[:, :1], semi_axes[:, 1:]
    u, v = (cos * x + sin * y) / a, (cos * y - sin * x) / b
    radius = ops.sqrt(ops.square(u) + ops.square(v) + 1e-12)
    slope = ops.sqrt(ops.square(u / a) + ops.square(v / b) + 1e-12) / radius  # of the radius, per px
    return ops.clip(0.5 + (1 - radius) / slope, 0.0, 1.0)[..., None]
