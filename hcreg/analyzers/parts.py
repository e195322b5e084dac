"""What kind of computation each layer is, as far as relevance is concerned.

A layer with an activation of its own is two parts, a separable convolution is two linear parts.
"""

from dataclasses import dataclass, field

import keras
from keras import layers, ops

from hcreg.graph import read_graph


@dataclass(frozen=True, eq=False)
class Part:
    """A step of the model's computation.

    Attributes
    ----------
    name : str
        The layer's, for messages.
    inputs, outputs : tuple of int
        Numbers of the tensors it reads and writes.
    """

    name: str
    inputs: tuple
    outputs: tuple

    def forward(self, values):
        """Compute the part.

        Parameters
        ----------
        values : list of tensors
            In the order of `inputs`.

        Returns
        -------
        list of tensors
            In the order of `outputs`.
        """
        raise TypeError(f"{type(self).__name__} computes nothing")


@dataclass(frozen=True, eq=False)
class Linear(Part):
    """Weights times inputs plus a bias: a convolution, a dense layer, a sum of branches, a mean over pixels.

    Attributes
    ----------
    kind : {"kernel", "affine", "sum", "mean"}
    layer : keras.layers.Layer
    """

    kind: str
    layer: object

    def weights(self):
        """Weights of the inputs, as tensors."""
        raise TypeError(f"{type(self).__name__} has no weights")

    def bias(self):
        """Bias as a tensor that broadcasts to the output, or None."""
        return None

    def apply(self, inputs, weights):
        """Weighted sum without a bias."""
        raise TypeError(f"{type(self).__name__} computes nothing")

    def forward(self, values):
        z = self.apply(values, self.weights())
        bias = self.bias()
        return [z if bias is None else z + bias]

    def total(self, values, output):
        """What its rule takes for z: the output itself, unless a subclass says otherwise.

        Parameters
        ----------
        values : list of tensors
            Inputs.
        output : tensor

        Returns
        -------
        tensor
        """
        return output


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """A convolution with a kernel, of one to three dimensions."""

    def weights(self):
        return [_value(self.layer.kernel, self.layer)]

    def bias(self):
        return _channel_bias(self.layer)

    def apply(self, inputs, weights):
        layer = self.layer
        x = inputs[0]
        padding = layer.padding
        if padding == "causal":  # of one dimension only
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            axis = 1 if layer.data_format == "channels_last" else 2
            x, padding = ops.pad(x, [(before if n == axis else 0, 0) for n in range(3)]), "valid"
        return ops.conv(x, weights[0], list(layer.strides), padding, layer.data_format, layer.dilation_rate)


@dataclass(frozen=True, eq=False)
class TransposedConvolution(Convolution):
    """A transposed convolution."""

    def apply(self, inputs, weights):
        layer = self.layer
        return ops.conv_transpose(
            inputs[0],
            weights[0],
            list(layer.strides),
            layer.padding,
            output_padding=layer.output_padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )


@dataclass(frozen=True, eq=False)
class DepthwiseConvolution(Linear):
    """A convolution of each channel by itself; also the first half of a separable one."""

    def weights(self):
        kernel = self.layer.kernel if isinstance(self.layer, _DEPTHWISE) else self.layer.depthwise_kernel
        return [_value(kernel, self.layer)]

    def bias(self):
        return _channel_bias(self.layer) if isinstance(self.layer, _DEPTHWISE) else None

    def apply(self, inputs, weights):
        layer = self.layer
        return ops.depthwise_conv(
            inputs[0], weights[0], layer.strides, layer.padding, layer.data_format, layer.dilation_rate
        )


@dataclass(frozen=True, eq=False)
class PointwiseConvolution(Linear):
    """The second half of a separable convolution."""

    def weights(self):
        return [_value(self.layer.pointwise_kernel, self.layer)]

    def bias(self):
        return _channel_bias(self.layer)

    def apply(self, inputs, weights):
        return ops.conv(inputs[0], weights[0], 1, "valid", self.layer.data_format)


@dataclass(frozen=True, eq=False)
class FullyConnected(Linear):
    """A dense layer."""

    def weights(self):
        return [_value(self.layer.kernel, self.layer)]

    def bias(self):
        return _value(self.layer.bias, self.layer) if self.layer.use_bias else None

    def apply(self, inputs, weights):
        return ops.matmul(inputs[0], weights[0])


@dataclass(frozen=True, eq=False)
class Affine(Linear):
    """Batch normalisation at inference, rescaling or standardisation: a factor and an offset per channel.

    Attributes
    ----------
    shape : tuple
        Of its input.
    """

    shape: tuple = ()

    def weights(self):
        return [_affine(self.layer, self.shape)[0]]

    def bias(self):
        return _affine(self.layer, self.shape)[1]

    def apply(self, inputs, weights):
        return inputs[0] * weights[0]


@dataclass(frozen=True, eq=False)
class Sum(Linear):
    """A sum of branches, each times a number.

    Attributes
    ----------
    factors : tuple of float
    """

    factors: tuple = ()

    def weights(self):
        dtype = getattr(self.layer, "compute_dtype", keras.config.floatx())  # an operator has none of its own
        return [ops.convert_to_tensor(factor, dtype=dtype) for factor in self.factors]

    def apply(self, inputs, weights):
        total = inputs[0] * weights[0]
        for x, weight in zip(inputs[1:], weights[1:], strict=True):
            total = total + x * weight
        return total

    def forward(self, values):
        if all(factor == 1.0 for factor in self.factors):
            total = values[0]
            for value in values[1:]:
                total = total + value
            return [total]
        return super().forward(values)


@dataclass(frozen=True, eq=False)
class Mean(Linear):
    """A mean over pixels: average pooling, local or global."""

    def weights(self):
        return [ops.convert_to_tensor(1.0, dtype=self.layer.compute_dtype)]

    def apply(self, inputs, weights):
        return self.layer(inputs[0]) * weights[0]

    def forward(self, values):
        return [self.layer(values[0])]


@dataclass(frozen=True, eq=False)
class Activation(Part):
    """A function of each number by itself.

    Attributes
    ----------
    function : callable
    kind : {"relu", "other"}
        "relu" where the function is the identity above zero, up to an upper limit perhaps, and zero below.
    label : str
        Of the function, for messages.
    nonnegative : bool
        Whether the function is known to give nothing below zero.
    separate : bool
        Whether it is a layer of its own, not the activation of a layer with weights.
    """

    function: object
    kind: str
    label: str
    nonnegative: bool
    separate: bool = True

    def forward(self, values):
        return [self.function(values[0])]


@dataclass(frozen=True, eq=False)
class Pass(Part):
    """Moves, copies or picks numbers: padding, reshaping, maximum pooling, concatenation, upsampling, dropout.

    Attributes
    ----------
    node : Node
    picks : bool
        Whether it depends on the numbers which of them it takes, as a maximum does.
    """

    node: object
    picks: bool = False

    def forward(self, values):
        return self.node.call(values)


@dataclass(frozen=True, eq=False)
class Opaque(Part):
    """Anything else: it can be computed and differentiated, but no rule of relevance is known for it.

    Attributes
    ----------
    node : Node
    label : str
        Of what it computes, for messages.
    is_activation : bool
        Whether it is an activation, of several numbers together, as softmax.
    """

    node: object
    label: str
    is_activation: bool = False

    def forward(self, values):
        return self.node.call(values)


@dataclass(frozen=True, eq=False)
class Parts:
    """A model as a list of parts, in an order in which they can be computed.

    Attributes
    ----------
    parts : list of Part
    input, output : int
        Numbers of the model's input and of the explained output.
    shapes : list of tuple
        Of every tensor, by its number.
    """

    parts: list
    input: int
    output: int
    shapes: list = field(default_factory=list)

    def consumers(self):
        """Which parts read a tensor.

        Returns
        -------
        dict of int to list of Part
        """
        found = {}
        for part in self.parts:
            for number in part.inputs:
                found.setdefault(number, []).append(part)
        return found

    def producers(self):
        """Which part writes a tensor.

        Returns
        -------
        dict of int to Part
        """
        return {number: part for part in self.parts for number in part.outputs}


def read_parts(model, output_index=0):
    """Take a model apart.

    Parameters
    ----------
    model : keras.Model
    output_index : int
        Which of its outputs, in the order of `model.outputs`.

    Returns
    -------
    Parts

    Raises
    ------
    ValueError
        If the model's graph is not known.
    """
    graph = read_graph(model, output_index)
    shapes = list(graph.shapes)
    parts = []
    for node in graph.nodes:
        parts += _take_apart(node, shapes)
    return Parts(parts, graph.input, graph.output, shapes)


_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_CONVOLUTIONS = {
    Convolution: (layers.Conv1D, layers.Conv2D, layers.Conv3D),
    TransposedConvolution: (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    DepthwiseConvolution: _DEPTHWISE,
    FullyConnected: (layers.Dense,),
}
_MEANS = tuple(getattr(layers, f"{form}AveragePooling{rank}D") for form in ("", "Global") for rank in (1, 2, 3))
_PICKS = (
    *(getattr(layers, f"{form}MaxPooling{rank}D") for form in ("", "Global") for rank in (1, 2, 3)),
    layers.Maximum,
    layers.Minimum,
)
_MOVES = (
    *(
        getattr(layers, f"{name}{rank}D")
        for name in ("ZeroPadding", "Cropping", "SpatialDropout")
        for rank in (1, 2, 3)
    ),
    *(getattr(layers, f"UpSampling{rank}D") for rank in (1, 2, 3)),
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Concatenate,
    layers.Dropout,
    layers.Flatten,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.Permute,
    layers.RepeatVector,
    layers.Reshape,
)
_OPERATORS = {"Add": (1.0, 1.0), "Subtract": (1.0, -1.0)}
_RELUS = (keras.activations.relu, keras.activations.relu6, ops.relu, ops.relu6)
_NONNEGATIVE = (
    keras.activations.exponential,
    keras.activations.hard_sigmoid,
    keras.activations.sigmoid,
    keras.activations.softplus,
)
_MIXING = tuple(
    getattr(keras.activations, name)
    for name in ("glu", "log_softmax", "softmax", "sparsemax")
    if hasattr(keras.activations, name)
)
_ACTIVATION_LAYERS = (layers.Activation, layers.ELU, layers.LeakyReLU, layers.PReLU, layers.ReLU)


def _take_apart(node, shapes):
    layer = node.layer
    linear = _linear(node, shapes)
    if linear is not None:
        return linear
    if isinstance(layer, _ACTIVATION_LAYERS) and len(node.inputs) == 1:
        return _activation_layer(node)
    if isinstance(layer, _PICKS):
        return [Pass(node.name, node.inputs, node.outputs, node, picks=True)]
    if _same_call(layer, _MOVES) and not _interpolates(layer):
        return [Pass(node.name, node.inputs, node.outputs, node)]
    is_activation = isinstance(layer, (*_ACTIVATION_LAYERS, layers.Softmax))
    return [Opaque(node.name, node.inputs, node.outputs, node, type(layer).__name__, is_activation)]


def _linear(node, shapes):
    """The parts of a layer that is linear but for its activation, or None."""
    layer, inputs = node.layer, node.inputs
    factors = _branch_factors(layer, len(inputs))
    if factors is not None:
        return [Sum(node.name, inputs, node.outputs, "sum", layer, factors)]
    if isinstance(layer, layers.BatchNormalization):
        return [Affine(node.name, inputs, node.outputs, "affine", layer, shapes[inputs[0]])]
    if _same_call(layer, (layers.Rescaling, layers.Normalization)) and not getattr(layer, "invert", False):
        return [Affine(node.name, inputs, node.outputs, "affine", layer, shapes[inputs[0]])]
    if _same_call(layer, _MEANS):
        return [Mean(node.name, inputs, node.outputs, "mean", layer)]
    if _same_call(layer, _SEPARABLE):
        middle = _new_tensor(shapes, None)
        return [
            DepthwiseConvolution(node.name, inputs, (middle,), "kernel", layer),
            *_with_activation(PointwiseConvolution, node, (middle,), shapes),
        ]
    for kind, classes in _CONVOLUTIONS.items():
        if _same_call(layer, classes):
            return _with_activation(kind, node, inputs, shapes)
    return None


def _with_activation(kind, node, inputs, shapes):
    function = node.layer.activation
    if function is None or function is keras.activations.linear:
        return [kind(node.name, inputs, node.outputs, "kernel", node.layer)]
    middle = _new_tensor(shapes, shapes[node.outputs[0]])
    label = _label(function)
    if _mixes(function):
        after = Opaque(node.name, (middle,), node.outputs, _Function(function), label, is_activation=True)
    else:
        form = "relu" if _is_relu(function) else "other"
        never_below = _is_nonnegative(function)
        after = Activation(node.name, (middle,), node.outputs, function, form, label, never_below, separate=False)
    return [kind(node.name, inputs, (middle,), "kernel", node.layer), after]


@dataclass(frozen=True)
class _Function:
    """A function in the place of a node."""

    function: object

    def call(self, inputs):
        return [self.function(*inputs)]


def _activation_layer(node):
    function = node.layer.activation if isinstance(node.layer, layers.Activation) else node.layer
    if function is keras.activations.linear:
        return [Pass(node.name, node.inputs, node.outputs, node)]
    label = _label(function)
    if _mixes(function):
        return [Opaque(node.name, node.inputs, node.outputs, node, label, is_activation=True)]
    form = "relu" if _is_relu(function) else "other"
    return [Activation(node.name, node.inputs, node.outputs, node.layer, form, label, _is_nonnegative(function))]


def _label(function):
    return getattr(function, "__name__", type(function).__name__)


def _is_relu(function):
    if isinstance(function, layers.ReLU):
        return not function.negative_slope and not function.threshold
    return function in _RELUS


def _is_nonnegative(function):
    return _is_relu(function) or function in _NONNEGATIVE


def _mixes(function):
    """Whether an activation is no function of each number by itself."""
    return isinstance(function, layers.Softmax) or function in _MIXING


def _same_call(layer, classes):
    """Whether a layer is of one of the classes and computes as they do: a subclass may compute otherwise."""
    return any(isinstance(layer, known) and type(layer).call is known.call for known in classes)


def _interpolates(layer):
    return getattr(layer, "interpolation", "nearest") != "nearest"


def _branch_factors(layer, num_inputs):
    if _same_call(layer, (layers.Add,)):
        return (1.0,) * num_inputs
    if _same_call(layer, (layers.Average,)):
        return (1.0 / num_inputs,) * num_inputs
    if _same_call(layer, (layers.Subtract,)):
        return (1.0, -1.0)
    if num_inputs == 2 and _is_operator(layer):
        return _OPERATORS.get(type(layer).__name__)
    if type(layer).__name__ == "CustomScaleLayer" and num_inputs == 2:  # of keras.applications.InceptionResNetV2
        return (1.0, float(layer.scale))
    return None


def _is_operator(layer):
    """Whether it stands for a function of Keras, x + y say, and is no layer."""
    is_function = isinstance(layer, keras.Operation) and not isinstance(layer, layers.Layer)
    return is_function and type(layer).__module__.startswith("keras.")


def _new_tensor(shapes, shape):
    shapes.append(shape)
    return len(shapes) - 1


def _value(variable, layer):
    return ops.cast(ops.convert_to_tensor(variable), layer.compute_dtype)


def _channel_bias(layer):
    if not layer.use_bias:
        return None
    bias = _value(layer.bias, layer)
    if layer.data_format == "channels_first":
        return ops.reshape(bias, (1, -1) + (1,) * layer.rank)
    return bias


def _affine(layer, shape):
    if isinstance(layer, layers.Rescaling):
        factor = ops.convert_to_tensor(layer.scale, dtype=layer.compute_dtype)
        return factor, ops.convert_to_tensor(layer.offset, dtype=layer.compute_dtype)
    if isinstance(layer, layers.Normalization):
        factor = 1.0 / ops.maximum(ops.sqrt(ops.convert_to_tensor(layer.variance)), keras.backend.epsilon())
        return factor, -ops.convert_to_tensor(layer.mean) * factor
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    broadcast = [1] * len(shape)
    broadcast[axis] = -1
    variance = _value(layer.moving_variance, layer)
    factor = 1.0 / ops.sqrt(variance + layer.epsilon)
    if layer.scale:
        factor = factor * _value(layer.gamma, layer)
    offset = -_value(layer.moving_mean, layer) * factor
    if layer.center:
        offset = offset + _value(layer.beta, layer)
    return ops.reshape(factor, broadcast), ops.reshape(offset, broadcast)
