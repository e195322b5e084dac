"""HiResCAM and Grad-CAM: maps of a layer's activations, weighted by what the prediction owes them."""

from keras import ops
from scipy import ndimage

from hcreg import backend
from hcreg.analyzers.base import Analyzer, near
from hcreg.analyzers.parts import read_parts


class ActivationMap(Analyzer):
    """Sum over channels of activations times gradients, or times mean gradients.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    name : {"hires_cam", "grad_cam"}
        HiResCAM multiplies each activation by its own gradient and keeps the sign. Grad-CAM multiplies each channel by
        the mean of its gradients and keeps what is positive.
    layer : str, optional
        Whose output is weighted; with the layer's activation, and the last call where it is called several times. By
        default the last one that gives several channels and still has pixels.
    resize : bool
        Whether the map is interpolated linearly to the size of the image.

    Notes
    -----
    With global average pooling and a linear output behind the layer, an unresized HiResCAM sums to the prediction less
    its bias, and Grad-CAM is its positive part. With a flattening and dense layers they are
    different maps. Where skip connections pass the layer by, as in a U-Net, the map tells of the way through it alone.

    References
    ----------
    .. [1] draelos2020hirescam
    .. [2] selvaraju2017gradcam
    """

    channels_out = 1

    def __init__(self, model, output=None, neuron=None, name="hires_cam", layer=None, resize=True):
        super().__init__(model, output, neuron)
        self.name = name
        self._resize = bool(resize)
        parts = read_parts(self._precise, self._target.index)
        self._tap = _find_tap(parts, layer, model, name)
        before, behind = [], []
        reached = {self._tap}
        for part in parts.parts:
            is_behind = bool(set(part.inputs) & reached)
            reached |= set(part.outputs) if is_behind else set()
            (behind if is_behind else before).append(part)
        self._parts, self._before, self._behind = parts, before, behind

    def _explain(self, images):
        values = _run(self._before, {self._parts.input: images})
        activations = values[self._tap]

        def rest(tapped):
            return self._target.pick(_run(self._behind, {**values, self._tap: tapped})[self._parts.output])

        prediction, pull_back = backend.vjp(rest, activations)
        (gradients,) = pull_back(ops.ones_like(prediction))
        if self.name == "hires_cam":
            return ops.sum(activations * gradients, axis=-1, keepdims=True)
        pixels = tuple(range(1, len(activations.shape) - 1))
        weights = ops.mean(gradients, axis=pixels, keepdims=True)
        return ops.relu(ops.sum(activations * weights, axis=-1, keepdims=True))

    def _explain_batch(self, batch, batch_size, first):
        maps = ops.convert_to_numpy(self._compiled(batch))
        if not self._resize:
            return maps
        factors = [wide / narrow for wide, narrow in zip(batch.shape[1:-1], maps.shape[1:-1], strict=True)]
        return ndimage.zoom(maps, [1, *factors, 1], order=1, mode="nearest", grid_mode=True)


def _run(parts, values):
    for part in parts:
        outputs = part.forward([values[number] for number in part.inputs])
        values = {**values, **dict(zip(part.outputs, outputs, strict=True))}
    return values


def _find_tap(parts, layer, model, name):
    rank = len(model.inputs[0].shape)
    maps = {
        number: part
        for part in parts.parts
        for number in part.outputs
        if parts.shapes[number] is not None and len(parts.shapes[number]) == rank and rank > 2
    }
    if layer is not None:
        found = [number for number, part in maps.items() if part.name == layer]
        if not found:
            names = sorted({part.name for part in maps.values()})
            raise ValueError(
                f"{name} needs a layer of model {model.name!r} that gives maps and leads to the output. "
                f"Received: layer={layer!r}.{near(layer, names)}"
            )
        return found[-1]
    several = [number for number in maps if _num_channels(parts.shapes[number]) > 1]
    several = [number for number in several if _has_pixels(parts.shapes[number])] or several
    if not several:
        raise ValueError(
            f"{name} needs a layer that gives maps of several channels. The model {model.name!r} has none between its "
            "input and its output. Use another analyzer."
        )
    return several[-1]


def _num_channels(shape):
    return shape[-1] or 0


def _has_pixels(shape):
    return any(side is None or side > 1 for side in shape[1:-1])
