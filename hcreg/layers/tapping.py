"""A model cut in two at one of its layers: what comes before, and the head behind it."""

import difflib
from dataclasses import dataclass

import keras
from keras import ops

from hcreg import backend
from hcreg.graph import is_graph, read_graph

_SCORES = ("softmax", "sigmoid")
# Of the last layer of every classifier of hcreg, by which the sigmoid of one is told from a regressor's.
PROBABILITIES_NAME = "probabilities"
_GLOBAL_AVERAGES = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)


@dataclass(frozen=True)
class Cut:
    """A model in two parts, which share its weights.

    Attributes
    ----------
    inputs : KerasTensor
        The image.
    crossing : list of KerasTensor
        The tapped maps, then what else the head reads: skip connections that pass the tapped layer by.
    head : keras.Model
        From `crossing` to the scores (batch, classes).
    """

    inputs: object
    crossing: list
    head: keras.Model


def cut(model, layer, output=None, before_activation=None):
    """Cut a model behind one of its layers.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, of one input; nested models are taken apart.
    layer : str
        Name of a layer that gives maps; inside nested models with their names before it, ``"encoder/conv1"``. The last
        call where it is called several times.
    output : str, optional
        Which output of a model that has several.
    before_activation : bool, optional
        Whether a final softmax or sigmoid is left out, so that scores are logits. By default where there are several
        classes, or the one output is that of a layer named "probabilities", as in hcreg's classifiers; another single
        sigmoid may be a regressor's.

    Returns
    -------
    Cut

    Raises
    ------
    ValueError
        If the layer is not there, gives no maps, or does not lead to the output; if the graph is not known; if the
        output is not of shape (batch, classes).
    """
    if not is_graph(model):
        raise ValueError(
            f"A model can be tapped where its layers are known: a functional or sequential one. Received: "
            f"{model.name!r}, a {type(model).__name__}. Rebuild it from layers called on each other."
        )
    index = _output_index(model, output)
    graph = read_graph(model, index)
    tap = _find(graph, layer, model.name)
    shape = graph.shapes[graph.output]
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"Scores are of shape (batch, classes). Received: model {model.name!r} with an output of shape {shape}. "
            "Name another output, or end the model with a layer that gives one number per class."
        )
    if before_activation is None:
        before_activation = shape[1] > 1 or _last(graph).layer.name == PROBABILITIES_NAME
    inputs = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype, name="image")
    values = {graph.input: inputs}
    reached, behind = {tap}, []
    for node in graph.nodes:
        if reached & set(node.inputs):
            reached |= set(node.outputs)
            behind.append(node)
        else:
            _call(node, values)
    written = {number for node in behind for number in node.outputs}
    bypass = sorted({number for node in behind for number in node.inputs} - written - {tap})
    crossing = [values[number] for number in (tap, *bypass)]
    head_inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in crossing]
    head_values = dict(zip((tap, *bypass), head_inputs, strict=True))
    for node in behind:
        if before_activation and node.outputs[-1] == graph.output and _gives_shares(node.layer):
            head_values[graph.output] = _without_activation(node, head_values)
        elif _normalizes_by_batch(node):
            held = HeldStatistics(node.layer, name=f"{node.layer.name}_held_{node.outputs[0]}")
            head_values[node.outputs[0]] = held(head_values[node.inputs[0]])
        else:
            _call(node, head_values)
    # A model of a list of one input would warn, at every call, that it gets a tensor.
    head = keras.Model(head_inputs if bypass else head_inputs[0], head_values[graph.output], name=f"{model.name}_head")
    return Cut(inputs, crossing, head)


@dataclass(frozen=True)
class Pooled:
    """A head that begins with global average pooling, in two parts, which share its weights.

    Attributes
    ----------
    pooling : keras.Layer
        From the tapped maps to their means.
    head : keras.Model
        From the means to the scores (batch, classes).
    """

    pooling: keras.Layer
    head: keras.Model


def behind_pooling(head):
    """Cut a head behind the global average pooling that it begins with.

    Parameters
    ----------
    head : keras.Model
        As of `Cut`.

    Returns
    -------
    Pooled or None
        None where anything else reads the tapped maps, or something passes them by.
    """
    if not is_graph(head) or len(head.inputs) != 1 or len(head.outputs) != 1:
        return None
    graph = read_graph(head)
    first = [node for node in graph.nodes if graph.input in node.inputs]
    if len(first) != 1 or type(first[0].layer) not in _GLOBAL_AVERAGES:
        return None
    pooling = first[0].layer
    if pooling.data_format != "channels_last" or graph.output in first[0].outputs:
        return None
    (pooled,) = first[0].outputs
    values = {pooled: keras.Input(graph.shapes[pooled][1:], dtype=pooling.compute_dtype)}
    means = values[pooled]
    for node in graph.nodes:
        if node is not first[0]:
            _call(node, values)
    return Pooled(pooling, keras.Model(means, values[graph.output], name=f"{head.name}_behind_pooling"))


class _Wrapper(keras.layers.Layer):
    """Another layer, computed a little differently; its weights are shared."""

    def __init__(self, layer, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)  # its input must not be rounded where the layer's is not
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        self.built = True

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        """Rebuild the layer, and the one inside it."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


@keras.saving.register_keras_serializable(package="hcreg")
class BeforeActivation(_Wrapper):
    """A layer with an activation, computed up to it.

    Parameters
    ----------
    layer : keras.Layer
        With an attribute ``activation``, such as `keras.layers.Dense`; its weights are shared.
    **kwargs
        As for every Keras layer.
    """

    def call(self, inputs):
        """Compute the layer with the identity as its activation."""
        activation = self.layer.activation
        self.layer.activation = keras.activations.linear
        try:
            return self.layer(inputs)
        finally:
            self.layer.activation = activation


@keras.saving.register_keras_serializable(package="hcreg")
class HeldStatistics(_Wrapper):
    """A batch normalisation whose statistics of the batch are constants for the maps, in training as in inference.

    Parameters
    ----------
    layer : keras.layers.BatchNormalization
        Its weights are shared.
    **kwargs
        As for every Keras layer.

    Notes
    -----
    In training a normalised batch sums to a constant. The derivative of the sum of its scores, from which the maps of
    all images come at once, would lose what it is to show: behind pooling and normalisation all of it. The loss itself
    is differentiated in full, statistics included.
    """

    def call(self, inputs, training=None):
        """Normalise, and in training move the moving statistics once."""
        if not (training and self.layer.trainable):
            return self.layer(inputs, training=training)
        held = backend.held(inputs)
        outputs = self.layer(held, training=True)
        axis = self.layer.axis % len(inputs.shape)
        others = [other for other in range(len(inputs.shape)) if other != axis]
        factors = ops.rsqrt(ops.var(ops.cast(held, "float32"), axis=others, keepdims=True) + self.layer.epsilon)
        if self.layer.scale:
            shape = [-1 if other == axis else 1 for other in range(len(inputs.shape))]
            factors = factors * ops.cast(ops.reshape(self.layer.gamma, shape), "float32")
        # Nothing is added but the derivative by the inputs.
        return outputs + ops.cast(factors, outputs.dtype) * ops.cast(inputs - held, outputs.dtype)


def _last(graph):
    return next(node for node in graph.nodes if graph.output in node.outputs)


def _call(node, values):
    outputs = node.call([values[number] for number in node.inputs])
    values.update(zip(node.outputs, outputs, strict=True))


def _normalizes_by_batch(node):
    arguments = node.keras_node.arguments.kwargs.values()  # a mask, or whether in training, if fixed for this call
    return isinstance(node.layer, keras.layers.BatchNormalization) and all(value is None for value in arguments)


def _gives_shares(layer):
    activation = getattr(layer, "activation", None)
    return isinstance(layer, keras.layers.Softmax) or getattr(activation, "__name__", None) in _SCORES


def _without_activation(node, values):
    (inputs,) = (values[number] for number in node.inputs)
    if isinstance(node.layer, (keras.layers.Activation, keras.layers.Softmax)):
        return ops.cast(inputs, "float32") if inputs.dtype != "float32" else inputs
    return BeforeActivation(node.layer, name=f"{node.layer.name}_before_activation")(inputs)


def _output_index(model, output):
    if output is None and len(model.outputs) == 1:
        return 0
    if len(model.outputs) == 1 and not hasattr(model, "output_names"):  # a sequential model has no names of outputs
        names = [model.layers[-1].name]
    else:
        names = list(model.output) if isinstance(model.output, dict) else list(model.output_names)
    if output not in names:
        raise ValueError(
            f"Name the output of model {model.name!r} that is explained: {', '.join(names)}. Received: {output!r}."
        )
    # The order of `model.outputs` is that of the flattened structure, by name for a dict.
    return sorted(names).index(output) if isinstance(model.output, dict) else names.index(output)


def _find(graph, layer, model_name):
    found = [node for node in graph.nodes if node.name == layer]
    maps = [node.name for node in graph.nodes if len(graph.shapes[node.outputs[0]]) > 2]
    if not found:
        near = difflib.get_close_matches(str(layer), dict.fromkeys(maps), n=3, cutoff=0.3) or maps[-3:]
        raise ValueError(
            f"A tap is a layer of model {model_name!r} that leads to its output. Received: {layer!r}. "
            + (f"Is it one of {', '.join(dict.fromkeys(near))}?" if near else "None of its layers gives maps.")
        )
    shape = graph.shapes[found[-1].outputs[0]]
    if len(shape) < 3:
        raise ValueError(
            f"A tap gives maps of shape (batch, height, width, channels). Received: the layer {layer!r} of model "
            f"{model_name!r}, which gives {shape}, without spatial axes. "
            + (
                f"Take one before the flattening or pooling, such as {maps[-1]!r}."
                if maps
                else "No layer of it has them."
            )
        )
    return found[-1].outputs[0]
