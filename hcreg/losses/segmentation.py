"""Losses of masks: Dice, Kappa, Focal and their sums, each one value per image.

All are called with ``y_true`` and ``y_pred`` of one shape (batch, height, width, classes) or (batch, depth, height,
width, classes), values in [0, 1]: the share of a pixel inside the structure, and the network's probabilities
(sigmoid), not logits. Sums run over the pixels of one image and one class, in float32 whatever comes in; classes
are averaged, then Keras reduces over the batch. So `sample_weight` weighs images, and a batch's value is the mean of
its images' values however they are grouped. Under mixed precision give the last layer ``dtype="float32"``: bfloat16
probabilities near 1 lie 0.004 apart, and a sigmoid that was rounded to 1 has no gradient.

Below, p is a prediction, g the truth, N the number of pixels of one image.
"""

import keras
from keras import ops

from hcreg.losses.inputs import (
    as_float32,
    at_least_zero,
    check_shapes,
    check_shares,
    like_prediction,
    one_of,
    outside_shares,
    share,
)

__all__ = ["Dice", "DiceCrossEntropy", "Focal", "FocalKappa", "Kappa"]

ONE_PIXEL = 1.0  # denominators are held at one pixel or more
TINY = 1e-5  # logarithms go on along their tangent below it: 1 / TINY over two pixels still fits float16


class _MaskLoss(keras.losses.Loss):
    """What the losses of masks share: the checks, the arithmetic in float32, one value per image.

    A loss has ``per_image(y_true, y_pred)``: values of shape (batch,) of two float tensors of one shape.
    """

    def __init__(self, reduction, name, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        y_true, y_pred = as_float32(y_true), as_float32(y_pred)
        check_shapes(y_true, y_pred, self.name, "(batch, [depth,] height, width, classes)", (4, 5))
        check_shares(y_true, self.name, "y_true", "Divide a 0/255 mask by 255.")
        check_shares(y_pred, self.name, "y_pred", "Give the network's last layer a sigmoid.")
        y_true = like_prediction(y_true, y_pred)
        wrong = ops.logical_or(outside_shares(y_true), outside_shares(y_pred))
        return ops.where(wrong, float("nan"), self.per_image(y_true, y_pred))

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="hcreg")
class Dice(_MaskLoss):
    r"""One minus the soft Dice coefficient of each image.

    .. math:: L = 1 - \frac{2 \sum p g}{\sum p + \sum g}

    Parameters
    ----------
    form : {"paper", "absolute"}
        ``"paper"`` is the formula above. ``"absolute"`` is :math:`\sum |p - g| / (\sum p + \sum g)`, the same number
        for a 0/1 truth, and zero at p = g for any truth.
    reduction : str or None
        Keras's reduction over the batch; the mean by default.
    name : str
        Name of the loss.
    dtype : str, optional
        What Keras casts to, its ``floatx`` by default. Half precision is computed in float32.

    Raises
    ------
    ValueError
        If `form` is another word; on a call, if the shapes of ``y_true`` and ``y_pred`` differ or have not 4 or 5
        axes, or if values lie outside [0, 1] (a 0/255 mask, logits). Shapes are checked always, values in an eager
        call only: a compiled graph, as of `fit`, cannot raise an error. There such an image's loss is NaN and its
        gradient zero, so that the mistake shows in the first epoch.

    Notes
    -----
    In [0, 1], zero is best. It is computed as :math:`\sum (p (1 - g) + g (1 - p)) / \max(\sum p + \sum g, 1)`,
    which is the same fraction without the loss of digits. There is no smoothing term: the denominator is only held
    at one pixel, which a 0/1 mask with any foreground never meets. So p = g is exactly 0 for every 0/1 mask, empty
    ones too, and no derivative exceeds 2. An empty mask costs the predicted area in pixels up to 1, and from one
    pixel on exactly 1 with derivative zero, as the formula says: where many images are empty, add a cross-entropy.

    On an anti-aliased truth the paper's form is not smallest at p = g: the optimum of a pixel is 1 where its share is
    above (1 - L) / 2 and 0 below, so edges turn hard near the half-way contour. ``form="absolute"`` keeps the shares.

    References
    ----------
    .. [1] zhang2021biometrics, the loss "Dice".

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> prediction = np.array([1.0, 0.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> round(float(Dice()(truth, prediction)), 4)
    0.3333
    """

    def __init__(self, form="paper", reduction="sum_over_batch_size", name="dice", dtype=None):
        super().__init__(reduction, name, dtype)
        self.form = one_of(form, ("paper", "absolute"), "Dice")

    def per_image(self, y_true, y_pred):
        return _dice(y_true, y_pred, self.form)

    def get_config(self):
        return {**super().get_config(), "form": self.form}


@keras.saving.register_keras_serializable(package="hcreg")
class Kappa(_MaskLoss):
    r"""One minus Cohen's kappa of each image: disagreement over the disagreement that chance would give.

    .. math:: L = 1 - \frac{2 \sum p g - 2 \sum p \sum g / N}{\sum p + \sum g - 2 \sum p \sum g / N}

    Parameters
    ----------
    form : {"correct", "paper", "absolute"}
        ``"correct"`` is the formula above. ``"paper"`` is as printed,
        :math:`1 - (2 \sum p g - \sum p \sum g / N) / (\sum p + \sum g - 2 \sum p g / N)`, which is not zero for a
        perfect match. ``"absolute"`` is the correct form with the observed disagreement :math:`\sum |p - g|`: the
        same number for a 0/1 truth, and zero at p = g for any truth.
    reduction, name, dtype
        As in `Dice`.

    Raises
    ------
    ValueError
        As `Dice`.

    Notes
    -----
    In [0, 2]: zero is best, one is chance, above it worse than chance. N is the number of pixels of one image, not
    of the batch. The denominator is held at one pixel, as in `Dice`; a 0/1 truth that has both foreground and
    background never meets that. Kappa is undefined where truth and prediction are both all background or both
    all foreground; here such agreement counts as perfect: 0. Against an empty or full truth every other prediction
    costs up to 1 for the first wrong pixel and 1 from there on.

    The paper's form of a perfect match is half the share of the foreground (precisely 1 - (1 - f/2) / (1 - 1/N)):
    0.147 for 30 % of 300 pixels, 0.5 for a full mask; it is 0 for an empty one. Its smallest value over
    0/1 predictions is still the one at p = g. On an anti-aliased truth the correct form hardens edges as `Dice` does.

    References
    ----------
    .. [1] zhang2021biometrics, the loss "Kappa".

    Examples
    --------
    Observed disagreement 1 pixel; by chance 2 + 1 - 2 * 2 * 1 / 4 = 2 pixels:

    >>> import numpy as np
    >>> truth = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> prediction = np.array([1.0, 0.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> float(Kappa()(truth, prediction))
    0.5
    """

    def __init__(self, form="correct", reduction="sum_over_batch_size", name="kappa", dtype=None):
        super().__init__(reduction, name, dtype)
        self.form = one_of(form, ("correct", "paper", "absolute"), "Kappa")

    def per_image(self, y_true, y_pred):
        return _kappa(y_true, y_pred, self.form)

    def get_config(self):
        return {**super().get_config(), "form": self.form}


@keras.saving.register_keras_serializable(package="hcreg")
class Focal(_MaskLoss):
    r"""Binary cross-entropy with little weight on what is right already, averaged over pixels and classes.

    .. math:: L = -\frac{1}{N} \sum \alpha g (1 - p)^\gamma \log p + (1 - \alpha) (1 - g) p^\gamma \log (1 - p)

    Parameters
    ----------
    gamma : float, 0 or more
        How fast the weight falls; 0 gives the cross-entropy weighted by `alpha`.
    alpha : float in [0, 1]
        Weight of the foreground; the background has ``1 - alpha``.
    reduction, name, dtype
        As in `Dice`.

    Raises
    ------
    ValueError
        If `gamma` or `alpha` is out of range; on a call as `Dice`.

    Notes
    -----
    In [0, inf), zero is best, exactly 0 at p = g for 0/1 masks. Below a probability of 1e-5 the logarithm goes on
    along its tangent: the value at 0 is finite (1 + log 1e5 = 12.5) and a pixel that is wrong with certainty still
    has a gradient, where clipping would leave it none.

    On an anti-aliased truth its smallest value is not at p = g: probabilities of edge pixels are drawn towards one
    half, and p is 0.5 at the share g = 1 - alpha. With 0.75 the contour at 0.5 so lies a quarter of a pixel outside
    the true one, which makes heads larger by about 1.6 pixels of the network's grid in circumference; alpha 0.5 or
    a 0/1 truth does not.

    References
    ----------
    .. [1] zhang2021biometrics, the focal part of its composite loss; gamma 2, alpha 0.75.

    Examples
    --------
    A foreground pixel seen with probability 0.5: 0.75 * 0.25 * log 2.

    >>> import numpy as np
    >>> round(float(Focal()(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.5))), 4)
    0.13
    """

    def __init__(self, gamma=2.0, alpha=0.75, reduction="sum_over_batch_size", name="focal", dtype=None):
        super().__init__(reduction, name, dtype)
        self.gamma = at_least_zero(gamma, "gamma", "Focal")
        self.alpha = share(alpha, "alpha", "Focal")

    def per_image(self, y_true, y_pred):
        return _focal(y_true, y_pred, self.gamma, self.alpha)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="hcreg")
class FocalKappa(_MaskLoss):
    r"""The composite loss of the paper.

    .. math:: L = (1 - \lambda) \mathrm{Focal} + \lambda \mathrm{Kappa}

    Parameters
    ----------
    kappa_weight : float in [0, 1]
        The share lambda of Kappa.
    gamma, alpha
        As in `Focal`.
    form
        As in `Kappa`.
    reduction, name, dtype
        As in `Dice`.

    Raises
    ------
    ValueError
        If a parameter is out of range; on a call as `Dice`.

    Notes
    -----
    The paper gives no lambda, only "more weight on Kappa"; 0.75 is chosen here.

    References
    ----------
    .. [1] zhang2021biometrics, the composite of focal and Kappa loss.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> float(FocalKappa()(truth, truth))
    0.0
    """

    def __init__(
        self,
        kappa_weight=0.75,
        gamma=2.0,
        alpha=0.75,
        form="correct",
        reduction="sum_over_batch_size",
        name="focal_kappa",
        dtype=None,
    ):
        super().__init__(reduction, name, dtype)
        self.kappa_weight = share(kappa_weight, "kappa_weight", "FocalKappa")
        self.gamma = at_least_zero(gamma, "gamma", "FocalKappa")
        self.alpha = share(alpha, "alpha", "FocalKappa")
        self.form = one_of(form, ("correct", "paper", "absolute"), "FocalKappa")

    def per_image(self, y_true, y_pred):
        focal = _focal(y_true, y_pred, self.gamma, self.alpha)
        return (1 - self.kappa_weight) * focal + self.kappa_weight * _kappa(y_true, y_pred, self.form)

    def get_config(self):
        own = {"kappa_weight": self.kappa_weight, "gamma": self.gamma, "alpha": self.alpha, "form": self.form}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="hcreg")
class DiceCrossEntropy(_MaskLoss):
    r"""Dice and cross-entropy together, the usual loss of U-Nets outside the papers.

    .. math:: L = w \, \mathrm{Dice} - (1 - w) \frac{1}{N} \sum g \log p + (1 - g) \log (1 - p)

    Parameters
    ----------
    dice_weight : float in [0, 1]
        The share w of Dice.
    form
        As in `Dice`.
    reduction, name, dtype
        As in `Dice`.
    cross_entropy : {"binary", "categorical"}
        ``"binary"``, as above, of masks that know nothing of each other, a mean over pixels and classes.
        ``"categorical"`` is :math:`-\frac{1}{N} \sum g \log p` of classes that exclude each other (softmax): summed
        over the classes, N the number of pixels. Of two classes both are the same.

    Raises
    ------
    ValueError
        If a parameter is out of range; on a call as `Dice`.

    Notes
    -----
    Not in the papers. nnU-Net adds the two with weight 1 each: at 0.5 this is half of that sum. The cross-entropy has
    its smallest value at p = g for an anti-aliased truth too (not zero there), and gives empty images a gradient.
    Logarithms as in `Focal`.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    >>> round(float(DiceCrossEntropy()(truth, np.full((1, 2, 2, 1), 0.5))), 4)
    0.5966
    """

    def __init__(
        self,
        dice_weight=0.5,
        form="paper",
        reduction="sum_over_batch_size",
        name="dice_cross_entropy",
        dtype=None,
        cross_entropy="binary",
    ):
        super().__init__(reduction, name, dtype)
        self.dice_weight = share(dice_weight, "dice_weight", "DiceCrossEntropy")
        self.form = one_of(form, ("paper", "absolute"), "DiceCrossEntropy")
        if cross_entropy not in ("binary", "categorical"):
            raise ValueError(
                "cross_entropy of DiceCrossEntropy is 'binary', of masks that know nothing of each other, or "
                f"'categorical', of classes that exclude each other. Received: {cross_entropy!r}."
            )
        self.cross_entropy = cross_entropy

    def per_image(self, y_true, y_pred):
        if self.cross_entropy == "categorical":
            cross_entropy = -ops.sum(y_true * _safe_log(y_pred), axis=-1)
        else:
            cross_entropy = -(y_true * _safe_log(y_pred) + (1 - y_true) * _safe_log(1 - y_pred))
        loss = _mean_of_image(cross_entropy)
        if self.dice_weight == 0:  # a product with 0 would be computed all the same
            return loss
        return self.dice_weight * _dice(y_true, y_pred, self.form) + (1 - self.dice_weight) * loss

    def get_config(self):
        own = {"dice_weight": self.dice_weight, "form": self.form, "cross_entropy": self.cross_entropy}
        return {**super().get_config(), **own}


def _dice(y_true, y_pred, form):
    denominator = _sum_of_class(y_true) + _sum_of_class(y_pred)
    return ops.mean(_disagreement(y_true, y_pred, form) / ops.maximum(denominator, ONE_PIXEL), axis=-1)


def _kappa(y_true, y_pred, form):
    true_sum, predicted_sum = _sum_of_class(y_true), _sum_of_class(y_pred)
    true_share, predicted_share = _mean_of_class(y_true), _mean_of_class(y_pred)
    if form == "paper":
        both_share = _mean_of_class(y_true * y_pred)
        denominator = true_sum + predicted_sum - 2 * both_share
        numerator = _disagreement(y_true, y_pred, form) + true_share * predicted_sum - 2 * both_share
    else:  # each term is positive: no digits are lost for nearly full masks
        denominator = true_sum * (1 - predicted_share) + predicted_sum * (1 - true_share)
        numerator = _disagreement(y_true, y_pred, form)
    return ops.mean(numerator / ops.maximum(denominator, ONE_PIXEL), axis=-1)


def _focal(y_true, y_pred, gamma, alpha):
    # Held above zero: the derivative of a power below 1 is infinite there.
    wrong_foreground = ops.power(ops.maximum(1 - y_pred, TINY), gamma)
    wrong_background = ops.power(ops.maximum(y_pred, TINY), gamma)
    foreground = alpha * y_true * wrong_foreground * _safe_log(y_pred)
    background = (1 - alpha) * (1 - y_true) * wrong_background * _safe_log(1 - y_pred)
    return -_mean_of_image(foreground + background)


def _disagreement(y_true, y_pred, form):
    """Pixels where truth and prediction differ, (batch, classes); sum p + sum g - 2 sum pg unless absolute."""
    if form == "absolute":
        return _sum_of_class(ops.abs(y_pred - y_true))
    return _sum_of_class(y_pred * (1 - y_true) + y_true * (1 - y_pred))


def _safe_log(x):
    """Logarithm down to TINY, its tangent below."""
    return ops.log(ops.maximum(x, TINY)) + ops.minimum(x - TINY, 0.0) / TINY


def _sum_of_class(x):
    return ops.sum(x, axis=tuple(range(1, len(x.shape) - 1)))


def _mean_of_class(x):
    return ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))


def _mean_of_image(x):
    return ops.mean(x, axis=tuple(range(1, len(x.shape))))
