"""The reverse walk: relevance, or a modified gradient, carried from a model's output to its input, part by part."""

from dataclasses import dataclass

import keras
from keras import ops

from hcreg import backend
from hcreg.analyzers.parts import Activation, Affine, Linear, Mean, Opaque, Pass, Sum
from hcreg.analyzers.rules import Call, Derivative


@dataclass(frozen=True)
class Composite:
    """Which rule serves which part of a model.

    Attributes
    ----------
    kernel, dense, affine, sum, mean : rules
        For convolutions; dense layers; normalisation that could not be folded; sums of branches; means over pixels.
    first : rule or None
        For the layers with weights at the model's input, in the place of `kernel` or `dense`.
    activation : callable
        Maps (part, input, output, relevance of the output) to the relevance of the input.
    times_value : bool
        Whether the walk begins with the explained number itself, as relevance does, or with 1, as a gradient does.
    needs_relu : bool
        Whether the method is defined for networks of ReLU activations only.
    opaque : bool
        Whether parts for which no rule is known are differentiated wherever they stand; else only at the end.
    """

    kernel: object
    dense: object
    affine: object
    sum: object
    mean: object
    activation: object
    first: object = None
    times_value: bool = True
    needs_relu: bool = False
    opaque: bool = False

    def rule(self, part, is_first):
        """The rule of a linear part.

        Parameters
        ----------
        part : Linear
        is_first : bool
            Whether it stands at the model's input.

        Returns
        -------
        rule
        """
        if is_first and self.first is not None and part.kind == "kernel":
            return self.first
        if part.kind == "kernel":
            return self.dense if isinstance(part.layer, keras.layers.Dense) else self.kernel
        return getattr(self, part.kind)


def unchanged(part, x, y, relevance):
    """Relevance passes an activation as it is."""
    return relevance


def derivative(part, x, y, relevance):
    """The ordinary gradient of an activation."""
    return backend.vjp(lambda z: part.forward([z])[0], x)[1](relevance)[0]


class Walk:
    """The plan of a reverse walk through one model; made once, used for every batch.

    Parameters
    ----------
    canonized : Canonized
    target : Target
    composite : Composite
    method : str
        Name of the analyzer, for messages.
    first_parts : set of Part
        Layers with weights at the model's input.
    linearised_end : bool
        Whether the end of the model behind its last layer with weights, a sigmoid or a measurement say, is
        differentiated, and relevance begins in front of it, as each number there times its derivative.

    Raises
    ------
    ValueError
        If the method is not defined for a layer of the model.
    """

    def __init__(self, canonized, target, composite, method, first_parts=frozenset(), linearised_end=True):
        self._canonized, self._target, self._composite = canonized, target, composite
        self._parts = canonized.parts
        self._first = first_parts
        self._end = _end(self._parts) if linearised_end else frozenset()
        self._nonnegative = _nonnegative(self._parts) - canonized.shifted
        for part in self._parts.parts:
            if part not in self._end:
                self._check(part, method)

    def forward(self, images):
        """Every tensor of the model.

        Parameters
        ----------
        images : tensor of shape (batch, *spatial, channels)

        Returns
        -------
        dict of int to tensor
        """
        values = {self._parts.input: images}
        for part in self._parts.parts:
            outputs = part.forward([values[number] for number in part.inputs])
            values.update(zip(part.outputs, outputs, strict=True))
        return values

    def prediction(self, values):
        """The explained number of each image.

        Parameters
        ----------
        values : dict of int to tensor

        Returns
        -------
        tensor of shape (batch,)
        """
        return self._target.pick(values[self._parts.output])

    def backward(self, values, bounds=None, change_start=None):
        """Relevance of the input.

        Parameters
        ----------
        values : dict of int to tensor
            As given by `forward`.
        bounds : dict of int to (tensor, tensor), optional
            Lowest and highest values of the tensors that enter the first layers with weights.
        change_start : callable, optional
            Maps the relevance that the walk begins with, and the derivative of the prediction there, to another one.

        Returns
        -------
        tensor of the shape of the images
        """
        offsets = self._canonized.offsets(values)
        output = values[self._parts.output]
        _, pull_back = backend.vjp(self._target.pick, output)
        # Derivatives behind the frontier, relevances in front of it.
        derivatives = {self._parts.output: pull_back(ops.ones_like(self._target.pick(output)))[0]}
        relevances = {}
        for part in reversed(self._parts.parts):
            if part in self._end:
                _accumulate(derivatives, part, _differentiate(part, values, derivatives))
                continue
            for number in part.outputs:
                self._start(number, values, derivatives, relevances, change_start)
            if any(number in relevances for number in part.outputs):
                _accumulate(relevances, part, self._step(part, values, offsets, relevances, bounds))
        self._start(self._parts.input, values, derivatives, relevances, change_start)
        return relevances[self._parts.input]

    def _start(self, number, values, derivatives, relevances, change_start):
        """Begin relevance at a tensor of the frontier, in front of the differentiated end."""
        if number not in derivatives:
            return
        derivative = derivatives.pop(number)
        start = derivative * values[number] if self._composite.times_value else derivative
        _add(relevances, number, start if change_start is None else change_start(start, derivative))

    def _step(self, part, values, offsets, relevances, bounds):
        if part in self._canonized.passed:
            return [relevances[part.outputs[0]]]
        if isinstance(part, Linear):
            call = self._call(part, values, offsets, bounds)
            return self._composite.rule(part, part in self._first).propagate(call, relevances[part.outputs[0]])
        if isinstance(part, Activation):
            x, y = values[part.inputs[0]], values[part.outputs[0]]
            return [self._composite.activation(part, x, y, relevances[part.outputs[0]])]
        return _differentiate(part, values, relevances)

    def _call(self, part, values, offsets, bounds):
        inputs, before = [values[n] for n in part.inputs], [offsets.get(n) for n in part.inputs]
        output, bias = values[part.outputs[0]], part.bias()
        nonnegative = all(number in self._nonnegative for number in part.inputs)
        limits = None
        if bounds is not None and part in self._first:
            limits = tuple([bounds[n][side] for n in part.inputs] for side in (0, 1))
        if all(offset is None for offset in before):
            return Call(part, inputs, part.total(inputs, output), bias, nonnegative, limits)
        whole = [ops.zeros_like(x[:1]) + (0 if t is None else t) for x, t in zip(inputs, before, strict=True)]
        shifted = [x - t for x, t in zip(inputs, whole, strict=True)]
        if limits is not None:
            limits = tuple([limit - t for limit, t in zip(side, whole, strict=True)] for side in limits)
        if isinstance(part, Mean):  # its output is shifted as well: the offset goes on
            # The shares are those of what entered the normalisation, above zero behind a ReLU whatever the factor.
            factors = self._canonized.factors(values)
            factors = [ops.where(factors[n] == 0, ops.ones_like(factors[n]), factors[n]) for n in part.inputs]
            before = [x / factor for x, factor in zip(shifted, factors, strict=True)]
            return Call(part, before, part.apply(before, part.weights()), None, False)
        carried = part.apply(whole, part.weights())
        return Call(part, shifted, output, carried if bias is None else carried + bias, False, limits)

    def _check(self, part, method):
        if isinstance(part, Opaque) and not self._composite.opaque:
            raise ValueError(
                f"{method} is not defined for layer {part.name!r} ({part.label}): its output is neither a weighted "
                "sum of its inputs, nor a function of each by itself, nor a pick among them, and layers with weights "
                'follow it. Use "gradient", "input_t_gradient", "smoothgrad", "integrated_gradients", "hires_cam", '
                '"grad_cam" or "occlusion", which are defined for every model.'
            )
        is_other = part.is_activation if isinstance(part, Opaque) else _is_curved(part)
        if is_other and self._composite.needs_relu:
            raise ValueError(
                f"{method} is defined for networks of ReLU activations. Layer {part.name!r} has the activation "
                f"{part.label!r}. Use "
                '"gradient", "input_t_gradient", "smoothgrad" or "integrated_gradients".'
            )


def first_layers(parts, ignored):
    """Layers with weights that see the model's input through nothing but the ignored kinds of parts.

    Parameters
    ----------
    parts : Parts
    ignored : callable
        Whether a part may stand between.

    Returns
    -------
    set of Part
    """
    at_input, found = {parts.input}, set()
    for part in parts.parts:
        if not set(part.inputs) <= at_input:
            continue
        if isinstance(part, Linear) and part.kind == "kernel":
            found.add(part)
        elif ignored(part):
            at_input |= set(part.outputs)
    return found


def bounds_of(parts, low, high):
    """Lowest and highest values of every tensor between the input and the first layers with weights.

    Parameters
    ----------
    parts : Parts
    low, high : tensors of the shape of the images
        Of the model's input.

    Returns
    -------
    dict of int to (tensor, tensor)
    """
    found = {parts.input: (low, high)}
    for part in parts.parts:
        if part.inputs[0] not in found or not (isinstance(part, (Affine, Pass)) and len(part.inputs) == 1):
            continue
        ends = [part.forward([limit])[0] for limit in found[part.inputs[0]]]
        found[part.outputs[0]] = (ops.minimum(*ends), ops.maximum(*ends))
    return found


def _end(parts):
    """Parts behind the last layer with weights that are no plain sums: differentiated, not distributed."""
    consumers = parts.consumers()
    followed = set()  # parts with a layer with weights behind them
    for part in reversed(parts.parts):
        behind = [after for number in part.outputs for after in consumers.get(number, ())]
        if any(after in followed or (isinstance(after, Linear) and after.kind == "kernel") for after in behind):
            followed.add(part)
    tainted = set()  # tensors behind such a part
    end = set()
    for part in parts.parts:
        if part not in followed and (_is_curved(part) or set(part.inputs) & tainted):
            is_kernel = isinstance(part, Linear) and part.kind == "kernel"
            if not is_kernel:
                end.add(part)
                tainted |= set(part.outputs)
    return frozenset(end)


def _is_curved(part):
    return isinstance(part, Opaque) or (isinstance(part, Activation) and part.kind != "relu")


def _nonnegative(parts):
    found = set()
    for part in parts.parts:
        if isinstance(part, Activation):
            holds = part.nonnegative
        elif isinstance(part, Sum):
            holds = all(number in found for number in part.inputs) and all(factor >= 0 for factor in part.factors)
        elif isinstance(part, (Pass, Mean)):
            holds = all(number in found for number in part.inputs)
        else:
            holds = False
        if holds:
            found |= set(part.outputs)
    return found


def _differentiate(part, values, cotangents):
    """Cotangents of a part's inputs from those of its outputs, of which some may be missing."""
    inputs = [values[number] for number in part.inputs]
    wanted = [position for position, number in enumerate(part.outputs) if number in cotangents]
    if isinstance(part, Linear):
        return Derivative().propagate(Call(part, inputs, None, None, False), cotangents[part.outputs[0]])
    if len(wanted) == 1:
        (position,) = wanted
        _, pull_back = backend.vjp(lambda *tensors: part.forward(list(tensors))[position], *inputs)
        return pull_back(cotangents[part.outputs[position]])
    found = [ops.zeros_like(x) for x in inputs]
    for position in wanted:
        _, pull_back = backend.vjp(lambda *tensors, p=position: part.forward(list(tensors))[p], *inputs)
        found = [a + b for a, b in zip(found, pull_back(cotangents[part.outputs[position]]), strict=True)]
    return found


def _accumulate(gathered, part, contributions):
    for number in part.outputs:  # not needed any more
        gathered.pop(number, None)
    for number, contribution in zip(part.inputs, contributions, strict=True):
        _add(gathered, number, contribution)


def _add(gathered, number, contribution):
    gathered[number] = gathered[number] + contribution if number in gathered else contribution
