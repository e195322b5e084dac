"""The heatmap loss: be right, and for reasons inside the mask."""

import math

import keras
import numpy as np
from keras import ops

from hcreg.attention import channel
from hcreg.losses.inputs import at_least_zero, concrete_range, known_shape

__all__ = ["Heatmap"]

FORMS = ("absolute", "share", "thesis", "signed", "inside")
_DATA = ("cross_entropy", "mse")
_PROBABILITIES = ("softmax", "sigmoid")
_CLASSES = ("true", "predicted", "all")
# In units of the score. An image whose relevance sums to less counts as one without any: no division by next to zero.
_FLOOR = 1e-3


@keras.saving.register_keras_serializable(package="hcreg")
class Heatmap(keras.losses.Loss):
    r"""A data term, and a term on where the score comes from.

    .. math:: L = D(y, s) + w_t \, A(H, M) + w_{\text{swap}} \, \overline{(s - s_{\text{swap}})^2}

    with the scores s of a network made by `hcreg.models.with_attention`, its maps H, and the mask M, 1 where it may
    look. For `fit` with labels as ``y``, class weights and sample weights included, which weigh all terms of an image
    alike.

    Parameters
    ----------
    data : {"cross_entropy", "mse"} or keras.losses.Loss
        Cross-entropy of the scores; the mean over classes of the squared error of probabilities ([1]_'s code); or a
        loss of numbers, for a regressor: its prediction is of shape (batch, outputs).
    attention : {"absolute", "share", "thesis", "signed", "inside"}
        With the relevance c of the map's cells and the share m of a cell inside the mask:

        - ``"absolute"``: :math:`\sum |c| (1 - m)`, in units of the score. It falls only if the relevance outside does,
          whatever is inside, and with either sign.
        - ``"share"``: the same over :math:`\sum |c|`, from 0 to 1.
        - ``"thesis"``: the mean over cells of
          :math:`\operatorname{ReLU}(c) / \max \operatorname{ReLU}(c) \cdot (1 - m)`, the code of [1]_. A large peak
          inside makes it small without less relevance outside.
        - ``"signed"``: :math:`\sum c (1 - m)`, in the text of [1]_. It has no lower end: relevance outside that speaks
          against the class is rewarded. For comparison.
        - ``"inside"``: how much of `required_share` is missing of the share of relevance *inside*, from 0 to 1: a
          reward for looking at a region, rather than only there.
    weight : float or keras.optimizers.schedules.LearningRateSchedule
        :math:`w_t` after the ramp, or as a function of the training step.
    ramp_steps : int
        Over so many training steps a weight grows from 0 in proportion; 0 for none. A large weight from the first step
        drives all relevance to zero before there is any to keep, and the network to a constant.
    tied : bool or float
        Whether the weight follows the data loss: the attention term counts in proportion to how far the batch's data
        loss lies below that of guessing, not at all for a network that only guesses and in full for one without errors.
        So it cannot drive a network to a constant, which a weight that suits an easy task does on a hard one. True
        knows the loss of guessing for classes (log(4) for the cross-entropy of four), and does nothing in a regression;
        a number is that loss.
    swap_weight : float
        :math:`w_{\text{swap}}`; above 0 needs ``with_attention(swap=True)``.
    classes : {"all", "true", "predicted"} or sequence of int
        The maps of which scores count, the mean over them where several do. A regressor's only score always counts.
    image_classes : sequence of int, optional
        The attention term counts for images of these true classes alone.
    probabilities : {"softmax", "sigmoid"}
        From which scores of several classes ``data="mse"`` makes probabilities; sigmoid is the code of [1]_.
    required_share : float in (0, 1]
        For ``attention="inside"``.
    reduction : str or None
        Keras's reduction over the batch; the mean by default.
    name : str
    dtype : str, optional
        What Keras casts to.

    Raises
    ------
    ValueError
        If a choice is unknown or a weight negative; on a call, if ``y_pred`` is not the output of such a network, or if
        a label is no class. The latter in an eager call only: in a compiled graph, as of `fit`, the loss of such an
        image is NaN.

    Notes
    -----
    ``y_true`` is the class (batch,) or (batch, 1), or one-hot (batch, classes); for one score and cross-entropy 0 or 1;
    for a loss of numbers what that loss takes.

    The default is what was not gamed in our measurements (``experiments/callanan2022``). With ``classes="true"`` it can
    be: what is outside then speaks against the other classes, which is as good as speaking for the true one. A clean
    map is not yet independence: what is seen inside may have come there through the receptive field. `swap_weight` asks
    for independence itself; ``HeatmapMonitor`` and ``heatmap_metrics`` tell of networks that inflate or lose their
    relevance.

    Departures from [1]_: the maps of all classes, where its text takes that of the true one and its code that of the
    predicted one; absolute relevance; a ramp; a floor in every division, so that no map gives NaN. The thesis's own
    loss is
    ``Heatmap(data="mse", attention="thesis", weight=1.0, ramp_steps=0, tied=False, classes="predicted",
    probabilities="sigmoid")``
    on ``with_attention(..., resize="bilinear")``.

    References
    ----------
    .. [1] callanan2022heatmap, sections on the loss and 4.1.2.

    Examples
    --------
    >>> import numpy as np
    >>> from hcreg.attention import CHANNELS
    >>> predictions = np.zeros((1, 2, len(CHANNELS)), "float32")
    >>> predictions[0, 0, CHANNELS.index("outside")] = 0.25
    >>> # Of two equal scores: log(2), and four times 0.25.
    >>> loss = Heatmap(weight=4.0, ramp_steps=0, tied=False, classes="true")
    >>> round(float(loss(np.array([0]), predictions)), 4)
    1.6931
    """

    def __init__(
        self,
        data="cross_entropy",
        attention="absolute",
        weight=10.0,
        ramp_steps=500,
        tied=True,
        swap_weight=0.0,
        classes="all",
        image_classes=None,
        probabilities="softmax",
        required_share=1.0,
        reduction="sum_over_batch_size",
        name="heatmap",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not isinstance(data, keras.losses.Loss):
            _one_of(data, _DATA, "data", " or a keras.losses.Loss")
        self.data = data
        self.attention = _one_of(attention, FORMS, "attention")
        self.weight = weight if callable(weight) else at_least_zero(weight, "weight", name)
        self.ramp_steps = int(at_least_zero(ramp_steps, "ramp_steps", name))
        self.tied = tied if isinstance(tied, bool) else at_least_zero(tied, "tied", name)
        if self.tied == 0 and not isinstance(tied, bool):
            raise ValueError(f"tied is True, False, or the data loss of guessing, above 0. Received: {tied!r}.")
        self.swap_weight = at_least_zero(swap_weight, "swap_weight", name)
        self.classes = _one_of(classes, _CLASSES, "classes") if isinstance(classes, str) else _numbers(classes)
        if image_classes is not None and self._is_regression:
            raise ValueError(
                f"Images of a regression have no classes. Received: image_classes={list(image_classes)} with a loss of "
                "numbers as data. Give images that are not to be restricted a mask of ones."
            )
        self.image_classes = None if image_classes is None else _numbers(image_classes)
        self.probabilities = _one_of(probabilities, _PROBABILITIES, "probabilities")
        self.required_share = float(required_share)
        if not 0 < self.required_share <= 1:
            raise ValueError(f"required_share lies in (0, 1]. Received: {required_share}.")

    def call(self, y_true, y_pred):
        scores = channel(y_pred, "logit")
        labels = None if self._is_regression else _one_hot(y_true, scores)
        data = self._data_term(y_true, labels, scores)
        attention = self._attention_term(labels, y_pred)
        guessing = self._loss_of_guessing(scores.shape[-1])
        if guessing is not None:
            attention = attention * ops.stop_gradient(ops.relu(1.0 - ops.mean(data) / guessing))
        # One number, as schedules take it: the step is the same for all images.
        loss = data + self.weight_at(ops.max(channel(y_pred, "step"))) * attention
        if self.swap_weight:
            loss = loss + self.swap_weight * ops.mean(ops.square(scores - channel(y_pred, "swapped_logit")), axis=-1)
        return loss

    def weight_at(self, step):
        """Weight of the attention term after so many training steps.

        Parameters
        ----------
        step : tensor or float

        Returns
        -------
        tensor of the shape of `step`
        """
        step = ops.convert_to_tensor(step, "float32")
        weight = self.weight(step) if callable(self.weight) else self.weight
        if not self.ramp_steps:
            return weight * ops.ones_like(step)
        return weight * ops.minimum(step / self.ramp_steps, 1.0)

    @property
    def _is_regression(self):
        return isinstance(self.data, keras.losses.Loss)

    def _loss_of_guessing(self, num_classes):
        """Data loss of equal probabilities for all classes, or the one that was given; None where nothing is tied."""
        if self.tied is False or (self.tied is True and self._is_regression):
            return None
        if self.tied is not True:
            return self.tied
        num_classes = max(num_classes, 2)  # of one score: the class and its opposite
        if self.data == "cross_entropy":
            return math.log(num_classes)
        return (num_classes - 1) / num_classes**2

    def _data_term(self, y_true, labels, scores):
        if self._is_regression:
            y_true = ops.reshape(ops.cast(y_true, scores.dtype), ops.shape(scores))
            each = self.data.call(y_true, scores)
            return ops.reshape(each, (-1,))
        if scores.shape[-1] == 1:
            if self.data == "mse":
                return ops.square(labels - ops.sigmoid(scores))[:, 0]
            return ops.binary_crossentropy(labels, scores, from_logits=True)[:, 0]
        if self.data == "cross_entropy":
            return ops.categorical_crossentropy(labels, scores, from_logits=True)
        shares = ops.softmax(scores) if self.probabilities == "softmax" else ops.sigmoid(scores)
        return ops.mean(ops.square(labels - shares), axis=-1)

    def _attention_term(self, labels, y_pred):
        of_class = self._of_class(labels, channel(y_pred, "logit"))
        return ops.sum(of_class * self._per_class(y_pred), axis=-1)

    def _per_class(self, y_pred):
        if self.attention == "absolute":
            return channel(y_pred, "outside")
        if self.attention == "thesis":
            return channel(y_pred, "positive_outside")
        if self.attention == "signed":
            return channel(y_pred, "signed_outside")
        outside, total = channel(y_pred, "outside"), channel(y_pred, "total")
        total = ops.maximum(total, _FLOOR)
        if self.attention == "share":
            return outside / total
        # Of a map without relevance nothing is inside, so that collapsing is no way out.
        inside = (channel(y_pred, "total") - outside) / total
        return ops.relu(self.required_share - inside) / self.required_share

    def _of_class(self, labels, scores):
        """How much each class's map counts, of shape (batch, classes)."""
        num_classes = scores.shape[-1]
        if num_classes == 1:
            counted = ops.ones_like(scores)
        elif isinstance(self.classes, str):
            counted = {
                "true": lambda: labels,
                "predicted": lambda: ops.one_hot(ops.argmax(scores, -1), num_classes, dtype=scores.dtype),
                "all": lambda: ops.ones_like(scores) / num_classes,
            }[self.classes]()
        else:
            chosen = _indicator(self.classes, num_classes, "classes")
            counted = ops.ones_like(scores) * (chosen / chosen.sum())
        if self.image_classes is None:
            return counted
        if num_classes == 1:  # whose score tells class 1 from class 0
            labels = ops.concatenate([1.0 - labels, labels], axis=-1)
        chosen = labels * _indicator(self.image_classes, labels.shape[-1], "image_classes")
        return counted * ops.sum(chosen, axis=-1, keepdims=True)

    def get_config(self):
        return {
            **super().get_config(),
            "data": keras.saving.serialize_keras_object(self.data) if self._is_regression else self.data,
            "attention": self.attention,
            "weight": keras.saving.serialize_keras_object(self.weight) if callable(self.weight) else self.weight,
            "ramp_steps": self.ramp_steps,
            "tied": self.tied,
            "swap_weight": self.swap_weight,
            "classes": self.classes,
            "image_classes": self.image_classes,
            "probabilities": self.probabilities,
            "required_share": self.required_share,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuild the loss, with the loss and the schedule that it may hold."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("data", "weight")
            if isinstance(config[name], dict)
        }
        return cls(**{**config, **parts})


def _one_hot(y_true, scores):
    """Labels as the scores' classes, NaN where there is no such class."""
    num_classes = scores.shape[-1]
    shape = known_shape(y_true)
    if num_classes > 1 and shape is not None and len(shape) == 2 and shape[-1] == num_classes:
        return ops.cast(y_true, scores.dtype)
    if shape is not None and not (len(shape) == 1 or (len(shape) == 2 and shape[-1] in (1, None))):
        raise ValueError(
            f"Labels are classes of shape (batch,), or one-hot (batch, {num_classes}). Received: shape {shape}."
        )
    extent = concrete_range(y_true)
    highest = max(num_classes - 1, 1)
    if extent is not None and not (extent[0] >= 0 and extent[1] <= highest):
        raise ValueError(
            f"Labels are classes from 0 to {highest}. Received: values from {extent[0]:g} to {extent[1]:g}. "
            "Number the classes from 0, or build the network with more of them."
        )
    number = ops.reshape(ops.cast(y_true, "float32"), (-1, 1))
    known = ops.logical_and(number >= 0, number <= highest)
    if num_classes == 1:
        return ops.where(known, ops.cast(number, scores.dtype), float("nan"))
    one_hot = ops.one_hot(ops.cast(number[:, 0], "int32"), num_classes, dtype=scores.dtype)
    return ops.where(known, one_hot, float("nan"))


def _indicator(numbers, num_classes, argument):
    if not numbers or not all(0 <= number < num_classes for number in numbers):
        raise ValueError(f"`{argument}` names some of the classes 0 to {num_classes - 1}. Received: {numbers}.")
    return np.isin(np.arange(num_classes), numbers).astype("float32")


def _numbers(classes):
    return [int(number) for number in classes]


def _one_of(value, allowed, argument, more=""):
    if value not in allowed:
        raise ValueError(f"{argument} is one of {', '.join(map(repr, allowed))}{more}. Received: {value!r}.")
    return value
