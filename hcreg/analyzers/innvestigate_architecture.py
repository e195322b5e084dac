"""A Keras 3 model in plain words and numbers, from which the older Keras of iNNvestigate can rebuild it."""

import re

import keras
import numpy as np

from hcreg.graph import read_graph

_CONVOLUTION = ["strides", "padding", "data_format", "dilation_rate", "activation", "use_bias"]
_POOLING = ["pool_size", "strides", "padding", "data_format"]
_RANKS = ("1D", "2D", "3D")
# Of two tensors, as in x + y, these are operations of keras.ops, and layers of the same names do the same.
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")

# What of a layer's configuration its output depends on in inference. Weights are of the same shapes in both Keras.
_SETTINGS = {
    **{f"Conv{rank}": ["filters", "kernel_size", "groups", *_CONVOLUTION] for rank in _RANKS},
    **{f"Conv{rank}Transpose": ["filters", "kernel_size", "output_padding", *_CONVOLUTION] for rank in _RANKS},
    **{f"DepthwiseConv{rank}": ["kernel_size", "depth_multiplier", *_CONVOLUTION] for rank in _RANKS[:2]},
    **{f"SeparableConv{rank}": ["filters", "kernel_size", "depth_multiplier", *_CONVOLUTION] for rank in _RANKS[:2]},
    "Dense": ["units", "activation", "use_bias"],
    "BatchNormalization": ["axis", "epsilon", "center", "scale"],
    "Activation": ["activation"],
    "ReLU": ["max_value", "negative_slope", "threshold"],
    "LeakyReLU": ["negative_slope"],
    "ELU": ["alpha"],
    "PReLU": ["shared_axes"],
    "Softmax": ["axis"],
    **{f"{kind}Pooling{rank}": _POOLING for kind in ("Max", "Average") for rank in _RANKS},
    **{f"Global{kind}Pooling{rank}": ["data_format", "keepdims"] for kind in ("Max", "Average") for rank in _RANKS},
    "ZeroPadding1D": ["padding"],
    "ZeroPadding2D": ["padding", "data_format"],
    "ZeroPadding3D": ["padding", "data_format"],
    "Cropping1D": ["cropping"],
    "Cropping2D": ["cropping", "data_format"],
    "Cropping3D": ["cropping", "data_format"],
    "UpSampling1D": ["size"],
    "UpSampling2D": ["size", "data_format", "interpolation"],
    "UpSampling3D": ["size", "data_format"],
    "Flatten": ["data_format"],
    "Reshape": ["target_shape"],
    "Permute": ["dims"],
    "RepeatVector": ["n"],
    "Concatenate": ["axis"],
    **{name: [] for name in _MERGING if name != "Concatenate"},
    "Rescaling": ["scale", "offset"],
    "Normalization": ["axis", "mean", "variance", "invert"],
    "Dropout": ["rate"],
    **{f"SpatialDropout{rank}": ["rate"] for rank in _RANKS},
    "GaussianDropout": ["rate"],
    "GaussianNoise": ["stddev"],
    "AlphaDropout": ["rate"],
    "Identity": [],
}
# The same function under the same name in both; hard_sigmoid, for one, is not.
_ACTIVATIONS = (
    *("linear", "relu", "sigmoid", "softmax", "tanh", "elu", "selu"),
    *("softplus", "softsign", "exponential", "silu", "swish", "gelu"),
)


def describe(model, output_index=0, input_shape=None):
    """What is needed to compute one output of a model without Keras 3.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, of one input; nested models are taken apart.
    output_index : int
        Which of its outputs, in the order of `model.outputs`.
    input_shape : tuple of int, optional
        ``(*spatial, channels)`` of the images, where the model leaves it open.

    Returns
    -------
    architecture : dict
        ``"input_shape"``; ``"layers"``, a list of dicts of a layer's own ``"name"``, its ``"class"`` and ``"config"``,
        and whether it ``"merges"`` several tensors; ``"calls"``, a list of (number of the layer, numbers of the tensors
        read, number of the tensor written); ``"input"`` and ``"output"``, numbers of tensors.
    weights : list of list of ndarray
        Of each layer.

    Raises
    ------
    ValueError
        If there is a layer that the older Keras does not have, by its name and with the reason.

    Examples
    --------
    >>> inputs = keras.Input((4,))
    >>> architecture, weights = describe(keras.Model(inputs, keras.layers.Dense(1, name="size")(inputs)))
    >>> architecture["layers"]  # doctest: +NORMALIZE_WHITESPACE
    [{'name': 'model.size', 'class': 'Dense', 'config': {'units': 1, 'activation': 'linear', 'use_bias': True},
      'merges': False}]
    >>> architecture["calls"], [array.shape for array in weights[0]]
    ([(0, [0], 1)], [(4, 1), (1,)])
    """
    graph = read_graph(model, output_index)
    layers, weights, calls, numbers = [], [], [], {}
    same_as = {}  # an identity's output, by its input
    for node in graph.nodes:
        inputs = [same_as.get(tensor, tensor) for tensor in node.inputs]
        if node.keras_node.arguments.kwargs.get("training"):
            _refuse(node, "it is called with training=True, and iNNvestigate explains a model in inference")
        if id(node.layer) not in numbers:
            described, arrays = _describe_layer(node)
            if described is not None:
                described["name"] = _own_name(node.name, {layer["name"] for layer in layers})
                layers.append(described)
                weights.append(arrays)
            numbers[id(node.layer)] = None if described is None else len(layers) - 1
        number = numbers[id(node.layer)]
        if number is None:
            same_as[node.outputs[0]] = inputs[0]
        else:
            calls.append((number, inputs, node.outputs[0]))
    architecture = {
        "input_shape": tuple(input_shape or model.inputs[0].shape[1:]),
        "layers": layers,
        "calls": calls,
        "input": graph.input,
        "output": same_as.get(graph.output, graph.output),
    }
    return architecture, weights


def _describe_layer(node):
    """(description, weights) of a layer; (None, None) of one that changes nothing."""
    if not isinstance(node.layer, keras.layers.Layer):
        kind = type(node.layer).__name__
        if kind in _ARITHMETIC and len(node.inputs) == 2:
            return {"name": "", "class": kind, "config": {}, "merges": True}, []
        _refuse(node, "it is an operation of keras.ops, and iNNvestigate knows Keras's layers only")
    kind = next((base.__name__ for base in type(node.layer).__mro__ if _is_known(base)), None)
    if kind is None:
        _refuse(node, "the Keras that iNNvestigate runs on has no such layer, nor has iNNvestigate a rule for it")
    if kind == "Identity":
        return None, None
    config = node.layer.get_config()
    config = {setting: config[setting] for setting in _SETTINGS[kind] if setting in config}
    arrays = [np.asarray(array) for array in node.layer.get_weights()]
    if config.get("activation", "linear") not in _ACTIVATIONS:
        _refuse(node, f"its activation {config['activation']!r} is not one that both versions of Keras have")
    if kind == "ReLU" and (config["max_value"], config["negative_slope"], config["threshold"]) == (None, 0, 0):
        kind, config = "Activation", {"activation": "relu"}  # iNNvestigate refuses the layer, not the function
    if kind == "LeakyReLU":
        config = {"alpha": config["negative_slope"]}
    if kind == "Normalization":
        moments = {name: keras.ops.convert_to_numpy(getattr(node.layer, name)) for name in ("mean", "variance")}
        config, arrays = {**config, **{name: np.ravel(moment) for name, moment in moments.items()}}, []
    return {"name": "", "class": kind, "config": config, "merges": kind in _MERGING}, arrays


def _is_known(base):
    return base.__name__ in _SETTINGS and getattr(keras.layers, base.__name__, None) is base


def _own_name(name, taken):
    """A name that TensorFlow accepts and no other layer has; nor those that iNNvestigate adds, which have no dot."""
    name = "model." + re.sub(r"[^A-Za-z0-9_.-]", ".", name)
    while name in taken:
        name += "."
    return name


def _refuse(node, reason):
    raise ValueError(
        f"iNNvestigate cannot explain a model with layer {node.name!r} ({type(node.layer).__name__}): {reason}. "
        'Use engine="native", or name an output that does not depend on this layer.'
    )
