"""HiResCAM and Grad-CAM inside a network, so that a loss can reach them: only the head is differentiated."""

import math

import keras
import numpy as np
from keras import ops

from hcreg import backend
from hcreg.layers.tapping import behind_pooling, cut

_CHOICES = ("all", "predicted", "true")
_SCALES = (None, "max", "sum")
# In units of the score. A map weaker than that is divided by it, and so comes out near zero, never NaN.
_FLOOR = 1e-6


class _ActivationMap(keras.layers.Layer):
    """What the two maps share; a subclass has ``_weigh(activations, gradients)``, of a list of gradients."""

    def __init__(self, head, classes="all", relu=False, normalize=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # the head casts what it wants to its own precision
        self.head = head
        self._pooled = behind_pooling(head)
        self.num_classes = head.output_shape[-1]
        self.classes = _checked_classes(classes, self.num_classes)
        self.relu = bool(relu)
        if normalize not in _SCALES:
            raise ValueError(f"Maps are normalised by None, 'max' or 'sum'. Received: normalize={normalize!r}.")
        self.normalize = normalize

    @classmethod
    def tap(cls, model, layer, classes="all", relu=None, normalize=None, output=None, before_activation=None):
        """Build a model that gives the scores of another and the maps of one of its layers.

        Parameters
        ----------
        model : keras.Model
            Functional or sequential, of one input, with an output of shape (batch, classes). Weights are shared.
        layer : str
            Whose output is mapped, such as ``"block5_conv3"``.
        classes, relu, normalize
            As of the layer; with ``classes="true"`` the model takes a dict of "image" and "label" (batch,).
        output : str, optional
            Of a model that has several.
        before_activation : bool, optional
            Whether scores are what comes before a final softmax or sigmoid. By default where there are several classes,
            and for the one output of a classifier of hcreg.

        Returns
        -------
        keras.Model
            With the outputs ``{"logits": (batch, classes), "maps": (batch, height, width, maps)}``, to be compiled,
            saved and loaded like any other.

        Raises
        ------
        ValueError
            If there is no such layer, it has no spatial axes, or it does not lead to the output.
        """
        parts = cut(model, layer, output, before_activation)
        options = {"classes": classes, "normalize": normalize, **({} if relu is None else {"relu": relu})}
        cam = cls(parts.head, **options)
        if classes != "true":
            return keras.Model(parts.inputs, cam(parts.crossing), name=f"{model.name}_{cam.name}")
        label = keras.Input((), dtype="int32", name="label")
        outputs = cam(parts.crossing, labels=label)
        return keras.Model({"image": parts.inputs, "label": label}, outputs, name=f"{model.name}_{cam.name}")

    def build(self, input_shape):
        self.built = True

    def call(self, inputs, labels=None, training=None):
        """Compute scores and maps.

        Parameters
        ----------
        inputs : tensor of shape (batch, *spatial, channels), or list of tensors
            What the head reads: the activations first, then what passes them by.
        labels : tensor of int, shape (batch,), optional
            The true class, for ``classes="true"``.
        training : bool, optional
            Passed on to the head.

        Returns
        -------
        dict
            ``"logits"`` (batch, classes) and ``"maps"`` (batch, *spatial, number of classes explained), float32.
        """
        activations, *bypass = keras.tree.flatten(inputs)
        # Behind global average pooling the gradient is the same at every cell: that of the mean, spread over the cells.
        head = self.head if self._pooled is None else self._pooled.head
        features = activations if self._pooled is None else self._pooled.pooling(activations)

        def score(features):
            return ops.cast(head([features, *bypass] if bypass else features, training=training), "float32")

        logits, pull_back = backend.vjp(score, features, variables=head.variables, repeated=True)
        activations = ops.cast(activations, "float32")
        gradients = [ops.cast(pull_back(seed)[0], "float32") for seed in self._seeds(logits, labels)]
        if self._pooled is None:
            maps = self._weigh(activations, gradients)
        else:
            num_cells = ops.cast(math.prod(ops.shape(activations)[1:-1]), "float32")
            maps = _weigh_channels(activations, [each / num_cells for each in gradients])
        return {"logits": logits, "maps": self._normalized(ops.relu(maps) if self.relu else maps)}

    def compute_output_spec(self, inputs, labels=None, training=None):
        """Shapes, without tracing the gradient."""
        activations = keras.tree.flatten(inputs)[0]
        batch, *spatial, _ = activations.shape
        return {
            "logits": keras.KerasTensor((batch, self.num_classes), dtype="float32"),
            "maps": keras.KerasTensor((batch, *spatial, len(self.explained_classes or [0])), dtype="float32"),
        }

    @property
    def explained_classes(self):
        """Numbers of the classes that the maps are of, in their order; None where each image has its own."""
        if self.classes == "all":
            return list(range(self.num_classes))
        return None if isinstance(self.classes, str) else list(self.classes)

    def _seeds(self, logits, labels):
        """What is carried back through the head for each map: which score of which image."""
        if self.explained_classes is not None:
            unit = np.eye(self.num_classes, dtype="float32")
            return [ops.ones_like(logits) * unit[number] for number in self.explained_classes]
        if self.classes == "predicted":
            return [ops.one_hot(ops.argmax(logits, axis=-1), self.num_classes, dtype="float32")]
        if labels is None:
            raise ValueError('classes="true" needs the labels: call the layer with labels=, of shape (batch,).')
        return [ops.one_hot(ops.cast(labels, "int32"), self.num_classes, dtype="float32")]

    def _normalized(self, maps):
        if self.normalize is None:
            return maps
        axes = tuple(range(1, len(maps.shape) - 1))
        reduce = ops.max if self.normalize == "max" else ops.sum
        return maps / ops.maximum(reduce(ops.abs(maps), axis=axes, keepdims=True), _FLOOR)

    def get_config(self):
        return {
            **super().get_config(),
            "head": keras.saving.serialize_keras_object(self.head),
            "classes": self.classes,
            "relu": self.relu,
            "normalize": self.normalize,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuild the layer, and the head inside it."""
        return cls(**{**config, "head": keras.saving.deserialize_keras_object(config["head"])})


@keras.saving.register_keras_serializable(package="hcreg")
class HiResCAM(_ActivationMap):
    r"""Scores of a network and their HiResCAM maps, to which a gradient can be taken.

    .. math:: H^c = \sum_f A^f \odot \frac{\partial s^c}{\partial A^f}

    with the maps A of the tapped layer, of channels f, and the score s of class c before the softmax. Usually made by
    ``HiResCAM.tap(model, "block5_conv3")``.

    Parameters
    ----------
    head : keras.Model
        From the tapped maps, and what passes them by, to scores of shape (batch, classes).
    classes : {"all", "predicted", "true"} or sequence of int
        Of which scores there are maps, on the last axis of the maps: of all, of the largest of each image, of the one
        that its label names, or of these.
    relu : bool
        Whether only what speaks for the class is kept.
    normalize : {None, "max", "sum"}
        Whether a map is divided by its largest absolute value or by the sum of them; at least 1e-6, so that a map of
        zeros stays one.
    **kwargs
        As for every Keras layer.

    Raises
    ------
    ValueError
        If a class is not one of the head's, or a choice is unknown.

    Notes
    -----
    Behind a linear head (flatten and dense, pooling and dense) a map sums to the score less its bias; with global
    average pooling it is the CAM.

    The head alone is differentiated for the maps, while the network before it runs once: a training step on maps and
    scores costs about what one on scores alone does. What the head has of dropout and normalisation is drawn, and
    counted, once. Where the head begins with global average pooling only what follows is differentiated, and the maps
    are one matrix product.

    The arithmetic of the maps is float32; that of the head its own. `jit_compile` works; the second derivative of
    pooling inside the head under XLA and half precision does not on every version: give that layer ``dtype="float32"``.

    The original takes the map of the predicted class, while the text of [1]_ says the true one.

    References
    ----------
    .. [1] callanan2022heatmap
    .. [2] draelos2020hirescam

    Examples
    --------
    >>> image = keras.Input((8, 8, 1))
    >>> maps = keras.layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    >>> scores = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps))
    >>> tapped = HiResCAM.tap(keras.Model(image, scores), "conv")
    >>> {name: output.shape for name, output in tapped.output.items()}
    {'logits': (None, 2), 'maps': (None, 6, 6, 2)}
    """

    def _weigh(self, activations, gradients):
        return ops.stack([ops.sum(activations * each, axis=-1) for each in gradients], axis=-1)


@keras.saving.register_keras_serializable(package="hcreg")
class GradCAM(_ActivationMap):
    r"""Scores of a network and their Grad-CAM maps, to which a gradient can be taken.

    .. math:: G^c = \operatorname{ReLU}\Bigl(\sum_f A^f \operatorname{mean}\frac{\partial s^c}{\partial A^f}\Bigr)

    Parameters
    ----------
    head, classes, normalize, **kwargs
        As of `HiResCAM`.
    relu : bool
        As in the paper by default.

    Notes
    -----
    Its pictures show what the network computes only behind global average pooling (draelos2020hirescam): elsewhere the
    mean gradient moves relevance to where the network does not look.

    References
    ----------
    .. [1] selvaraju2017gradcam
    """

    def __init__(self, head, classes="all", relu=True, normalize=None, **kwargs):
        super().__init__(head, classes, relu, normalize, **kwargs)

    def _weigh(self, activations, gradients):
        pixels = tuple(range(1, len(activations.shape) - 1))
        return _weigh_channels(activations, [ops.mean(each, axis=pixels) for each in gradients])


def _weigh_channels(activations, weights):
    """Sum over channels weighed alike at all cells; of one tensor of weights for each map, (batch, *cells, maps)."""
    channels = activations.shape[-1]
    weights = ops.stack([ops.reshape(each, (-1, channels)) for each in weights], axis=1)
    batch, *cells, _ = ops.shape(activations)
    maps = ops.einsum("bkf,bnf->bkn", weights, ops.reshape(activations, (batch, -1, channels)))
    return ops.moveaxis(ops.reshape(maps, (batch, weights.shape[1], *cells)), 1, -1)


def _checked_classes(classes, num_classes):
    if isinstance(classes, str):
        if classes not in _CHOICES:
            raise ValueError(f"classes is one of {', '.join(_CHOICES)}, or a list of numbers. Received: {classes!r}.")
        return classes
    numbers = [int(number) for number in classes]
    if not numbers or len(set(numbers)) < len(numbers) or not all(0 <= number < num_classes for number in numbers):
        raise ValueError(
            f"The head has the classes 0 to {num_classes - 1}; name each that is explained once. "
            f"Received: classes={list(classes)}."
        )
    return numbers
