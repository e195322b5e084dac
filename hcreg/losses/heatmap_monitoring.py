"""What to watch while a heatmap loss is trained on: where relevance is, and whether there still is any."""

import warnings

import keras
import numpy as np
from keras import ops

from hcreg.attention import channel

__all__ = ["HeatmapMetric", "HeatmapMonitor", "heatmap_metrics"]

KINDS = ("accuracy", "share_outside", "inflation", "relevance", "swap_effect")


@keras.saving.register_keras_serializable(package="hcreg")
class HeatmapMetric(keras.metrics.Metric):
    r"""One number on scores and maps of a network made by `hcreg.models.with_attention`, over the whole set.

    Parameters
    ----------
    kind : {"accuracy", "share_outside", "inflation", "relevance", "swap_effect"}
        - ``"accuracy"``: share of images whose largest score is that of their class (of one score: whose sign is).
        - ``"share_outside"``: :math:`\sum |c| (1 - m) / \sum |c|` over all images; zero is best.
        - ``"inflation"``: :math:`\sum |c|` over the images' :math:`|\sum c|`: how much relevance of one sign cancels
          that of the other. About 2 is healthy; tens mean that relevance is made only to be divided by.
        - ``"relevance"``: mean :math:`\sum |c|` of an image, in units of the score; 0 means that the network has
          collapsed to a constant.
        - ``"swap_effect"``: mean absolute change of a score when the outside comes from another image.
    name : str, optional
        As `kind` by default.
    **kwargs
        As for every Keras metric.

    Notes
    -----
    The map is the true class's, of a regressor the only one. Sums run over the set, and the ratio is of the sums.
    """

    def __init__(self, kind, name=None, **kwargs):
        super().__init__(name=name or kind, **kwargs)
        if kind not in KINDS:
            raise ValueError(f"A heatmap metric is one of {', '.join(KINDS)}. Received: {kind!r}.")
        self.kind = kind
        self.numerator = self.add_weight(shape=(), initializer="zeros", name="numerator")
        self.denominator = self.add_weight(shape=(), initializer="zeros", name="denominator")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch.

        Parameters
        ----------
        y_true, y_pred
            As of `hcreg.losses.Heatmap`.
        sample_weight : tensor of shape (batch,), optional
        """
        y_pred = ops.cast(y_pred, "float32")
        above, below = self._parts(ops.convert_to_tensor(y_true), y_pred)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
            above, below = above * sample_weight, below * sample_weight
        self.numerator.assign_add(ops.sum(above))
        self.denominator.assign_add(ops.sum(below))

    def result(self):
        """The number so far; NaN before the first image."""
        return self.numerator / self.denominator

    def _parts(self, y_true, y_pred):
        scores = channel(y_pred, "logit")
        ones = ops.ones_like(scores[:, 0])
        if self.kind == "swap_effect":
            return ops.mean(ops.abs(scores - channel(y_pred, "swapped_logit")), axis=-1), ones
        labels = _class_numbers(y_true, scores)
        if self.kind == "accuracy":
            predicted = ops.argmax(scores, -1) if scores.shape[-1] > 1 else ops.cast(scores[:, 0] > 0, "int32")
            return ops.cast(ops.equal(ops.cast(predicted, "int32"), labels), "float32"), ones
        of_class = ops.one_hot(labels, scores.shape[-1], dtype="float32") if scores.shape[-1] > 1 else 1.0
        outside, total, signed = (
            ops.sum(channel(y_pred, name) * of_class, axis=-1) for name in ("outside", "total", "signed_total")
        )
        return {
            "share_outside": (outside, total),
            "inflation": (total, ops.abs(signed)),
            "relevance": (total, ones),
        }[self.kind]

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


def heatmap_metrics(regression=False, swap=False):
    """The metrics to compile a network made by `hcreg.models.with_attention` with.

    Parameters
    ----------
    regression : bool
        Whether there is no class to be right about, and so no accuracy.
    swap : bool
        Whether the network sees swapped images.

    Returns
    -------
    list of HeatmapMetric

    Examples
    --------
    >>> [metric.name for metric in heatmap_metrics()]
    ['accuracy', 'share_outside', 'inflation', 'relevance']
    """
    left_out = {"accuracy": regression, "swap_effect": not swap}
    return [HeatmapMetric(kind) for kind in KINDS if not left_out.get(kind, False)]


class HeatmapMonitor(keras.callbacks.Callback):
    """Warns, once each, when a run inflates its relevance or loses it.

    Parameters
    ----------
    highest_inflation : float
        Above it a run inflates.
    lowest_relevance : float, share
        Below that share of the largest epoch's relevance a run collapses.

    Raises
    ------
    ValueError
        At the end of the first epoch, if the model was compiled without the metrics of `heatmap_metrics`.

    Warns
    -----
    RuntimeWarning
        With the numbers and what to do.
    """

    def __init__(self, highest_inflation=20.0, lowest_relevance=0.01):
        super().__init__()
        self.highest_inflation, self.lowest_relevance = highest_inflation, lowest_relevance

    def on_train_begin(self, logs=None):
        self._largest, self._warned = 0.0, set()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if "inflation" not in logs or "relevance" not in logs:
            raise ValueError(
                "HeatmapMonitor reads the metrics inflation and relevance. Compile the model with "
                f"metrics=hcreg.losses.heatmap_metrics(). Received: {', '.join(logs) or 'no metrics'}."
            )
        inflation, relevance = float(logs["inflation"]), float(logs["relevance"])
        self._largest = max(self._largest, relevance) if np.isfinite(relevance) else self._largest
        if inflation > self.highest_inflation:
            self._warn(
                "inflating",
                f"Epoch {epoch + 1}: the network inflates its relevance: absolute relevance is {inflation:.0f} times "
                f"its sum, above {self.highest_inflation:g}. A share outside the mask then says little. Use "
                'attention="absolute", or lower the weight of the attention term.',
            )
        if not relevance > self.lowest_relevance * self._largest:
            self._warn(
                "collapsing",
                f"Epoch {epoch + 1}: the network collapses: its relevance is {relevance:.3g}, "
                f"after {self._largest:.3g}. It tells its classes apart no more. Lower the weight of the attention "
                "term, or let it grow over more steps (ramp_steps).",
            )

    def _warn(self, what, text):
        if what not in self._warned:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
            self._warned.add(what)


def _class_numbers(y_true, scores):
    if len(y_true.shape) == 2 and scores.shape[-1] > 1 and y_true.shape[-1] == scores.shape[-1]:
        return ops.cast(ops.argmax(y_true, -1), "int32")
    return ops.cast(ops.reshape(y_true, (-1,)), "int32")
