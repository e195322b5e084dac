"""Layer-wise relevance propagation and deep Taylor decomposition, each a choice of rules for the reverse walk."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from keras import layers, ops

from hcreg import backend
from hcreg.analyzers import rules
from hcreg.analyzers.base import Analyzer
from hcreg.analyzers.canonization import canonize, keep
from hcreg.analyzers.parts import Affine, Pass, read_parts
from hcreg.analyzers.walk import Composite, Walk, bounds_of, derivative, first_layers, unchanged

_LEAST_FUSED_EPSILON = 1.001e-5  # that the one kernel takes, and that Keras gives it
_NAMED_RULES = {
    "Z": rules.Z(),
    "Epsilon": rules.Epsilon(),
    "WSquare": rules.WSquare(),
    "Flat": rules.Flat(),
    "ZPlus": rules.z_plus(),
    "Alpha1Beta0": rules.AlphaBeta(1.0, 0.0),
    "Alpha2Beta1": rules.AlphaBeta(2.0, 1.0),
}


class Relevance(Analyzer):
    """Relevance by a composite of rules.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    composite : Composite
    name : str
        Of the method.
    low, high : float or array-like that broadcasts to an image, optional
        Range of the input where the rule of the first layers is `rules.Bounded`. By default each image's own lowest and
        highest number.
    positive_only : bool
        Whether the method is defined for positive predictions only.
    lowest_output : float
        Subtracted from the prediction before it is distributed; for methods of positive predictions.
    compat : {None, "innvestigate"}
        "innvestigate" leaves normalisation unfolded.

    References
    ----------
    .. [1] bach2015lrp
    .. [2] montavon2017deeptaylor
    """

    def __init__(
        self,
        model,
        composite,
        name,
        output=None,
        neuron=None,
        low=None,
        high=None,
        positive_only=False,
        lowest_output=0.0,
        compat=None,
    ):
        super().__init__(model, output, neuron)
        self.name = name
        self._compat, self._positive_only, self._lowest_output = compat, positive_only, lowest_output
        self._low, self._high, self._warned = *_checked_bounds(low, high, self.model.inputs[0].shape[1:]), False
        parts = read_parts(self._precise, self._target.index)
        if compat:
            is_lrp = isinstance(composite.affine, _OfNormalisation)  # deep Taylor takes the gradient, which is right
            canonized = keep(_as_innvestigate(parts) if is_lrp else parts)
        else:
            canonized = canonize(parts)
        first = set()
        if composite.first is not None:
            first = first_layers(canonized.parts, _reshapes if compat else _between_input_and_kernel)
            if not first and not compat:
                raise ValueError(
                    f"{name} needs a layer with weights at the model's input, behind nothing but padding and scaling. "
                    f"The model {model.name!r} has none. Use the method without a rule for the input."
                )
        self._needs_bounds = bool(first) and isinstance(composite.first, rules.Bounded)
        self._walk = Walk(canonized, self._target, composite, name, first, linearised_end=compat is None)
        self._parts = canonized.parts

    def _explain(self, images):
        values = self._walk.forward(images)
        bounds = None
        if self._needs_bounds:
            bounds = bounds_of(self._parts, *self._limits(images))
        prediction = self._walk.prediction(values)
        change = None
        if self._compat and self._positive_only:
            change = _positive_start  # iNNvestigate puts a ReLU on the output
        elif self._lowest_output:
            change = self._less_lowest(prediction)
        return self._walk.backward(values, bounds, change), prediction

    def _less_lowest(self, prediction):
        def less_lowest(start, derivative):
            f = ops.reshape(prediction, (-1,) + (1,) * (len(start.shape) - 1))
            share = 1.0 - self._lowest_output / ops.where(f == 0, ops.ones_like(f), f)
            return ops.where(f == 0, -self._lowest_output * derivative, start * share)

        return less_lowest

    def _limits(self, images):
        axes = tuple(range(1, len(images.shape)))
        low = ops.min(images, axes, keepdims=True) if self._low is None else ops.cast(self._low, images.dtype)
        high = ops.max(images, axes, keepdims=True) if self._high is None else ops.cast(self._high, images.dtype)
        return ops.zeros_like(images) + low, ops.zeros_like(images) + high

    def _explain_batch(self, batch, batch_size, first):
        if self._needs_bounds and not self._compat:
            self._check_bounds(batch)
        maps, prediction = (ops.convert_to_numpy(found) for found in self._compiled(batch))
        if self._positive_only and not self._compat:
            wrong = np.flatnonzero(prediction <= self._lowest_output)
            if len(wrong):
                raise ValueError(
                    f"{self.name} distributes a positive number: the prediction above lowest_output="
                    f"{self._lowest_output:g}. Received: {prediction[wrong[0]]:g} for image number {first + wrong[0]}. "
                    "Pass a lowest_output below every prediction, to explain what lies above it, or use lrp.z."
                )
        return maps

    def _check_bounds(self, batch):
        outside = [
            bound is not None and bool(np.any(batch < bound if side == "low" else batch > bound))
            for side, bound in (("low", self._low), ("high", self._high))
        ]
        if any(outside) and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name} takes the images to lie between low={self._low} and high={self._high}. Received: numbers "
                f"from {batch.min():g} to {batch.max():g}. Leave low and high out to use each image's own range.",
                stacklevel=3,
            )


@dataclass(frozen=True, eq=False)
class NormalizationOfInnvestigate(Affine):
    """Batch normalisation whose rule sees what iNNvestigate fuses it to; what the layer computes is unaffected.

    That is the factor gamma / sqrt(variance^2 + epsilon) and the offset beta - mean / sqrt(variance^2 + epsilon): the
    variance is squared once too often, and the mean misses gamma.
    """

    def weights(self):
        return [self._wrong()[0]]

    def bias(self):
        return self._wrong()[1]

    def forward(self, values):
        return [normalised_as_innvestigate(values[0], self.layer)]

    def total(self, values, output):
        factor, offset = self._wrong()
        return values[0] * factor + offset

    def _wrong(self):
        layer = self.layer
        dtype = layer.compute_dtype
        (right,) = Affine.weights(self)
        shape = right.shape
        variance, mean = (ops.cast(ops.convert_to_tensor(v), dtype) for v in (layer.moving_variance, layer.moving_mean))
        # divided one by one, as there: sums that nearly cancel show in which order it was rounded
        deviation = ops.sqrt(variance**2 + layer.epsilon)
        gamma = ops.cast(ops.convert_to_tensor(layer.gamma), dtype) if layer.scale else ops.ones_like(mean)
        factor, offset = gamma / deviation, -mean / deviation
        if layer.center:
            offset = offset + ops.cast(ops.convert_to_tensor(layer.beta), dtype)
        return ops.reshape(factor, shape), ops.reshape(offset, shape)


def normalised_as_innvestigate(x, layer):
    """What batch normalisation gives, rounded as by the Keras that iNNvestigate runs on.

    Rules that divide by sums which nearly cancel, as those of its batch normalisation do, make 1e-7 of difference in
    what enters them 1e-4 or more of the map.

    Parameters
    ----------
    x : tensor
    layer : keras.layers.BatchNormalization

    Returns
    -------
    tensor
    """
    is_last = layer.axis in (-1, len(x.shape) - 1)
    in_one_kernel = len(x.shape) in (4, 5) and x.dtype == "float32" and layer.epsilon >= _LEAST_FUSED_EPSILON
    if backend.name() != "tensorflow" or not (in_one_kernel and is_last):
        return layer(x, training=False)
    mean, variance = ops.convert_to_tensor(layer.moving_mean), ops.convert_to_tensor(layer.moving_variance)
    gamma = ops.convert_to_tensor(layer.gamma) if layer.scale else ops.ones_like(mean)
    beta = ops.convert_to_tensor(layer.beta) if layer.center else ops.zeros_like(mean)
    flat = ops.reshape(x, (-1, 1, 1, x.shape[-1]))
    normalised, *_ = backend.fused_batch_normalization(flat, gamma, beta, mean, variance, layer.epsilon, training=False)
    return ops.reshape(normalised, ops.shape(x))


class _ZOfAdd:
    """The Z rule for `keras.layers.Add`, the gradient for other sums of branches."""

    def propagate(self, call, relevance):
        rule = rules.Z() if isinstance(call.part.layer, layers.Add) else rules.Derivative()
        return rule.propagate(call, relevance)


@dataclass(frozen=True)
class _OfNormalisation:
    """A rule for batch normalisation, the gradient for other scaling layers."""

    rule: object

    def propagate(self, call, relevance):
        is_normalisation = isinstance(call.part.layer, layers.BatchNormalization)
        return (self.rule if is_normalisation else rules.Derivative()).propagate(call, relevance)


def lrp_z(compat=None, bias=True, input_layer_rule=None):
    """Composite of lrp.z: the Z rule everywhere. On networks of ReLU it equals input times gradient."""
    return _one_rule(rules.Z(bias), compat, input_layer_rule)


def lrp_epsilon(compat=None, epsilon=1e-7, bias=True, input_layer_rule=None):
    """Composite of lrp.epsilon: the epsilon rule everywhere."""
    _check_epsilon(epsilon)
    return _one_rule(rules.Epsilon(epsilon, bias), compat, input_layer_rule)


def lrp_alpha_beta(compat=None, alpha=None, beta=None, bias=True, input_layer_rule=None):
    """Composite of lrp.alpha_beta: positive contributions times alpha, negative ones times beta = alpha - 1."""
    alpha, beta = _alpha_and_beta(alpha, beta)
    rule = rules.AlphaBeta(alpha, beta, bias, whole_bias=bool(compat))
    return _one_rule(rule, compat, input_layer_rule, elsewhere=rules.z_plus(), affine=rules.AlphaBeta(1.0, 0.0, bias))


def lrp_w_square(compat=None, input_layer_rule=None):
    """Composite of lrp.w_square: shares in proportion to squared weights.

    The weights are those of the layers themselves: a normalisation behind a layer changes them, one in front does not.
    """
    return _one_rule(rules.WSquare(), compat, input_layer_rule, elsewhere=rules.z_plus(), affine=rules.Unchanged())


def lrp_flat(compat=None, input_layer_rule=None):
    """Composite of lrp.flat: equal shares."""
    return _one_rule(rules.Flat(), compat, input_layer_rule, elsewhere=rules.z_plus(), affine=rules.Unchanged())


def lrp_preset(alpha, beta, compat=None, epsilon=0.1, input_layer_rule=None):
    """Composite of the sequential presets: epsilon on dense layers, alpha-beta on convolutions."""
    _check_epsilon(epsilon)
    composite = lrp_alpha_beta(compat, alpha, beta, input_layer_rule=input_layer_rule)
    if compat:
        composite = replace(composite, affine=_OfNormalisation(rules.AlphaBetaOfPositiveInputs()))
    return replace(composite, dense=rules.Epsilon(epsilon))


def deep_taylor(compat=None, bounded=False):
    """Composite of deep_taylor: the z+ rule, and with bounds the z^B rule at the input."""
    z_plus = rules.z_plus()
    first = rules.Bounded() if bounded else None
    if compat:
        gradient = rules.Derivative()
        return Composite(
            kernel=z_plus,
            dense=z_plus,
            affine=gradient,
            sum=gradient,
            mean=gradient,
            first=first,
            activation=_gate_of_layers,
            needs_relu=True,
        )
    return Composite(z_plus, z_plus, z_plus, z_plus, z_plus, activation=unchanged, first=first)


def _one_rule(rule, compat, input_layer_rule, elsewhere=None, affine=None):
    first = _input_rule(input_layer_rule)
    if compat:
        return Composite(rule, rule, _OfNormalisation(rule), _ZOfAdd(), rules.Z(), activation=unchanged, first=first)
    elsewhere = rule if elsewhere is None else elsewhere
    affine = elsewhere if affine is None else affine
    return Composite(rule, rule, affine, elsewhere, elsewhere, activation=unchanged, first=first)


def _input_rule(rule):
    if rule is None:
        return None
    if isinstance(rule, (tuple, list)) and len(rule) == 2:
        return rules.Bounded()
    if rule in _NAMED_RULES:
        return _NAMED_RULES[rule]
    raise ValueError(
        f"input_layer_rule is one of {', '.join(map(repr, _NAMED_RULES))}, or a pair (low, high) of bounds. "
        f"Received: {rule!r}."
    )


def _positive_start(start, derivative):
    return rules.positive(start)


def _gate_of_layers(part, x, y, relevance):
    """iNNvestigate's deep Taylor: an activation layer lets relevance pass where it is open, a fused one everywhere."""
    return derivative(part, x, y, relevance) if part.separate else relevance


def _as_innvestigate(parts):
    changed = [
        NormalizationOfInnvestigate(**part.__dict__)
        if isinstance(part, Affine) and isinstance(part.layer, layers.BatchNormalization)
        else part
        for part in parts.parts
    ]
    return replace(parts, parts=changed)


def _reshapes(part):
    return isinstance(part, Pass) and isinstance(part.node.layer, (layers.Flatten, layers.Permute, layers.Reshape))


def _between_input_and_kernel(part):
    return isinstance(part, Affine) or (isinstance(part, Pass) and not part.picks and len(part.inputs) == 1)


def _checked_bounds(low, high, shape):
    shape = tuple(1 if side is None else side for side in shape)
    bounds = [None if bound is None else np.asarray(bound, "float64") for bound in (low, high)]
    for name, bound in zip(("low", "high"), bounds, strict=True):
        if bound is not None and not (np.isfinite(bound).all() and _broadcasts(bound, shape)):
            raise ValueError(
                f"{name} is a finite number, or an array of them that broadcasts to an image of shape {shape}. "
                f"Received: {bound if bound.size < 5 else f'shape {bound.shape}'}."
            )
    if low is not None and high is not None and not np.all(bounds[0] < bounds[1]):
        raise ValueError(f"low must be below high. Received: low={low}, high={high}.")
    return bounds


def _broadcasts(array, shape):
    try:
        return np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False


def _check_epsilon(epsilon):
    if not epsilon > 0:
        raise ValueError(f"epsilon is a number above 0. Received: {epsilon!r}. Without a stabiliser, use lrp.z.")


def _alpha_and_beta(alpha, beta):
    if alpha is None and beta is None:
        raise ValueError("lrp.alpha_beta needs alpha, beta or both, with alpha - beta = 1. Received: neither.")
    alpha = 1.0 + beta if alpha is None else float(alpha)
    beta = alpha - 1.0 if beta is None else float(beta)
    if beta < 0 or abs(alpha - beta - 1.0) > 1e-9:
        raise ValueError(f"alpha - beta must be 1, and beta 0 or more. Received: alpha={alpha:g}, beta={beta:g}.")
    return alpha, beta
