"""A loss for a positive measured number: its relative error."""

import keras
from keras import ops

from hcreg.losses.inputs import as_float32, check_positive, check_shapes, known_shape, like_prediction

__all__ = ["RelativeError"]


@keras.saving.register_keras_serializable(package="hcreg")
class RelativeError(keras.losses.Loss):
    r"""Relative error of a head circumference: an error of 3 mm counts twice as much at 100 mm as at 200 mm.

    .. math:: L = \frac{|y - \hat{y}|}{y}

    Called with ``y_true`` and ``y_pred`` of shape (batch, units) or (batch,), any one unit, positive: a fraction of
    the image width or of the largest circumference, px or mm. One value per image, the mean over its units; the
    value is a share, 0.02 for 2 %, in [0, inf), zero is best.

    Parameters
    ----------
    reduction : str or None
        Keras's reduction over the batch; the mean by default.
    name : str
        Name of the loss.
    dtype : str, optional
        What Keras casts to, its ``floatx`` by default. Half precision is computed in float32.

    Raises
    ------
    ValueError
        On a call with ``y_true`` and ``y_pred`` of other shapes than each other, or with a true value that is zero
        or negative. The latter is refused in an eager call only: a compiled graph, as of `fit`, cannot raise an
        error. There the loss of such an image is NaN and its gradient zero, so that it shows in the first epoch.

    Notes
    -----
    It is the papers' PMAE divided by 100 as something to train on; they trained on MAE, MSE and Huber. A truth of
    shape (batch,) is compared with an output of shape (batch, 1) number by number, as Keras's own losses do.

    References
    ----------
    .. [1] zhang2021biometrics, column "PMAE (%)" of its tables.

    Examples
    --------
    >>> import numpy as np
    >>> loss = RelativeError()
    >>> round(float(loss(np.array([[100.0], [200.0]]), np.array([[103.0], [198.0]]))), 4)
    0.02
    """

    def __init__(self, reduction="sum_over_batch_size", name="relative_error", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        y_true, y_pred = as_float32(y_true), as_float32(y_pred)
        y_true, y_pred = _same_rank(y_true, y_pred)
        check_shapes(y_true, y_pred, self.name, "(batch, units)", (2,))
        check_positive(y_true, self.name)
        y_true = like_prediction(y_true, y_pred)
        positive = y_true > 0
        share = ops.abs(y_true - y_pred) / ops.where(positive, y_true, 1.0)
        return ops.mean(ops.where(positive, share, float("nan")), axis=-1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


def _same_rank(y_true, y_pred):
    shapes = known_shape(y_true), known_shape(y_pred)
    if None in shapes:
        return y_true, y_pred
    if len(shapes[1]) == 1 and len(shapes[0]) in (1, 2):
        y_pred = ops.expand_dims(y_pred, -1)
    if len(shapes[0]) == 1:
        y_true = ops.expand_dims(y_true, -1)
    return y_true, y_pred
