"""Batch normalisation folded away before relevance is distributed; the model itself is left as it is.

Normalisation at inference is a factor and an offset per channel. Relevance should not depend on whether they stand in a
layer of their own or in the weights of a neighbour, so they are moved there:

- into the convolution before, if nothing else reads its output: its kernel times the factor, its bias changed to fit;
- else into the layers with weights behind. Those then see their input less the offset, which is the factor times what
  entered the normalisation, while the offset times the weights joins the bias. This holds through padding, where the
  offset is missing, and through pooling, flattening and concatenation;
- else, as between a concatenation and a ReLU, normalisation stays a layer of its own, with one weight per channel.
"""

from dataclasses import dataclass, replace

import numpy as np
from keras import layers, ops

from hcreg.analyzers.parts import Affine, FullyConnected, Linear, Mean, Parts, Pass, TransposedConvolution

# Behind these, the pixels that a pooling compares may have different offsets.
_MIXINGS = (
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Flatten,
    layers.Permute,
    layers.RepeatVector,
    layers.Reshape,
)


@dataclass(frozen=True, eq=False)
class Folded(Linear):
    """A layer with weights and the normalisation behind it as one layer with weights.

    Attributes
    ----------
    kernel : Linear
    affine : Affine
    """

    kernel: Linear
    affine: Affine

    def weights(self):
        (weights,), (factor,) = self.kernel.weights(), self.affine.weights()
        factor = ops.reshape(factor, (-1,))
        if isinstance(_innermost(self.kernel), TransposedConvolution):  # kernel: (..., filters, channels)
            return [weights * factor[:, None]]
        if weights.shape[-1] == factor.shape[0]:
            return [weights * factor]
        # depthwise kernel: (..., channels, multiplier), of which the output has all in that order
        return [weights * ops.reshape(factor, tuple(weights.shape[-2:]))]

    def bias(self):
        (factor,), offset = self.affine.weights(), self.affine.bias()
        bias = self.kernel.bias()
        return offset if bias is None else bias * factor + offset

    def apply(self, inputs, weights):
        return self.kernel.apply(inputs, weights)


@dataclass(frozen=True, eq=False)
class Canonized:
    """A model whose normalisations were folded where that is possible.

    Attributes
    ----------
    parts : Parts
    shifted : frozenset of int
        Tensors behind a normalisation that is folded into the layers behind them: they carry an offset.
    passed : frozenset of Part
        Normalisations folded into the layers behind: relevance passes them unchanged.
    """

    parts: Parts
    shifted: frozenset
    passed: frozenset

    def offsets(self, values):
        """What to take from each shifted tensor.

        Parameters
        ----------
        values : dict of int to tensor
            Of every tensor of the model, by its number.

        Returns
        -------
        dict of int to tensor
            Constants that broadcast to those tensors, of batch size 1; only for the shifted ones.
        """
        found = {}
        for part in self.parts.parts:
            (output, *_) = part.outputs
            if output not in self.shifted:
                continue
            if part in self.passed:
                before = found.get(part.inputs[0])
                found[output] = part.bias() if before is None else part.apply([before], part.weights()) + part.bias()
            else:
                found[output] = part.forward([_whole(found.get(n), values[n]) for n in part.inputs])[0]
        return found

    def factors(self, values):
        """By what the normalisations in front multiplied each shifted tensor.

        Parameters
        ----------
        values : dict of int to tensor
            Of every tensor of the model, by its number.

        Returns
        -------
        dict of int to tensor
            Constants of batch size 1, 0 in a padding; only for the shifted ones.
        """
        found = {}
        for part in self.parts.parts:
            (output, *_) = part.outputs
            if output not in self.shifted:
                continue
            before = [found.get(n, ops.ones_like(values[n][:1])) for n in part.inputs]
            passes = part in self.passed
            found[output] = part.apply(before, part.weights()) if passes else part.forward(before)[0]
        return found


def canonize(parts):
    """Fold the normalisations of a model.

    Parameters
    ----------
    parts : Parts
        As read from the model; left as it is.

    Returns
    -------
    Canonized
    """
    parts = _fold_backwards(parts)
    consumers = parts.consumers()
    shifted, passed = set(), set()
    for part in reversed(parts.parts):  # a normalisation in front of another needs to know of that one
        if isinstance(part, Affine):
            reached = _reached(part.outputs[0], consumers, passed, parts.output, mixed=_varies(part))
            if reached is not None:
                shifted |= reached
                passed.add(part)
    return Canonized(parts, frozenset(shifted), frozenset(passed))


def keep(parts):
    """A model as it is, in the form of a canonized one.

    Parameters
    ----------
    parts : Parts

    Returns
    -------
    Canonized
    """
    return Canonized(parts, frozenset(), frozenset())


def _fold_backwards(parts):
    consumers, producers = parts.consumers(), parts.producers()
    folded, dropped = {}, set()
    for part in parts.parts:
        if not isinstance(part, Affine):
            continue
        before = producers.get(part.inputs[0])
        before = folded.get(before, before)
        alone = len(consumers[part.inputs[0]]) == 1 and part.inputs[0] != parts.output
        if alone and isinstance(before, Linear) and before.kind == "kernel" and _channels_fit(before, part):
            original = producers[part.inputs[0]]
            merged = Folded(
                f"{before.name} + {part.name}", before.inputs, part.outputs, "kernel", before.layer, before, part
            )
            folded[original] = merged
            producers[part.outputs[0]] = original
            dropped.add(part)
    kept = [folded.get(part, part) for part in parts.parts if part not in dropped]
    return replace(parts, parts=kept)


def _channels_fit(before, affine):
    """Whether the normalised axis is the one the kernel writes."""
    if isinstance(_innermost(before), FullyConnected):
        axis = len(affine.shape) - 1
    else:
        axis = 1 if before.layer.data_format == "channels_first" else len(affine.shape) - 1
    wanted = _axes(affine)
    return len(wanted) == 1 and wanted[0] % len(affine.shape) == axis


def _axes(affine):
    """Axes along which factor and offset differ, as the layer counts them."""
    axes = getattr(affine.layer, "axis", None)
    if axes is None:
        return ()
    return tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)


def _varies(affine):
    """Whether factor and offset differ from pixel to pixel of a channel."""
    if isinstance(affine.layer, layers.Rescaling):
        shapes = [np.shape(affine.layer.scale), np.shape(affine.layer.offset)]
        return any(side != 1 for shape in shapes for side in shape[:-1])
    return any(axis % len(affine.shape) != len(affine.shape) - 1 for axis in _axes(affine))


def _reached(number, consumers, passed, end, mixed=False):
    """Tensors that a shift of tensor `number` moves until layers with weights take it up; None if not all paths do."""
    if number == end or not consumers.get(number):
        return None
    found = {number}
    for part in consumers[number]:
        if isinstance(part, Linear) and part.kind == "kernel":
            continue
        if not _carries(part, passed, mixed):
            return None
        mixes = mixed or (isinstance(part, Pass) and isinstance(part.node.layer, _MIXINGS))
        behind = _reached(part.outputs[0], consumers, passed, end, mixes)
        if behind is None:
            return None
        found |= behind
    return found


def _carries(part, passed, mixed):
    if isinstance(part, Pass) and part.picks:
        # One channel's maximum takes one offset. That of several tensors, or of pixels of different offsets, does not.
        return len(part.inputs) == 1 and not mixed
    return isinstance(part, (Mean, Pass)) or part in passed


def _innermost(part):
    return _innermost(part.kernel) if isinstance(part, Folded) else part


def _whole(offset, value):
    one = ops.zeros_like(value[:1])  # the same for every image
    return one if offset is None else one + offset
