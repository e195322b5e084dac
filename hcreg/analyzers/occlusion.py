"""Occlusion: how the prediction falls when a patch of the image is covered."""

from itertools import product

import numpy as np
from keras import ops

from hcreg.analyzers.base import Analyzer
from hcreg.analyzers.gradient import check_count


class Occlusion(Analyzer):
    """Prediction for the image less that for the image with a patch covered, the patch moved over the image.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    patch_size : int or tuple of int, optional
        In pixels. By default an eighth of each side, 1 at least.
    strides : int or tuple of int, optional
        By how many pixels the patch moves. By default half its size, 1 at least.
    fill : "mean" or float
        What covers the patch: the image's own mean of each channel, or a number.

    Notes
    -----
    A pixel's relevance is the mean over the patches that cover it. It is in the unit of the prediction: positive where
    covering makes the prediction smaller. The last patch in each direction ends at the border.

    References
    ----------
    .. [1] zeiler2014visualizing
    """

    name = "occlusion"
    channels_out = 1

    def __init__(self, model, output=None, neuron=None, patch_size=None, strides=None, fill="mean"):
        super().__init__(model, output, neuron)
        self._patch_size, self._strides = patch_size, strides
        is_number = isinstance(fill, (int, float, np.integer, np.floating)) and not isinstance(fill, bool)
        if not (fill == "mean" if isinstance(fill, str) else is_number and np.isfinite(fill)):
            raise ValueError(f'fill is "mean" or a number. Received: {fill!r}.')
        if len(model.inputs[0].shape) < 3:
            raise ValueError(
                f"occlusion covers patches of images. The model {model.name!r} takes inputs of shape "
                f'{model.inputs[0].shape[1:]}, without pixels. Use "integrated_gradients".'
            )
        self._fill = fill

    def _explain(self, images):
        return self._predict(images)

    def _explain_batch(self, batch, batch_size, first):
        sides = batch.shape[1:-1]
        windows = self._windows(sides)
        clean = self._predictions(batch, batch_size)
        total = np.zeros((len(batch), *sides), batch.dtype)
        count = np.zeros(sides, batch.dtype)
        for window in windows:
            count[window] += 1
        if self._fill == "mean":
            fill = batch.mean(axis=tuple(range(1, batch.ndim - 1)), keepdims=True)
        else:
            fill = np.full((len(batch),) + (1,) * (batch.ndim - 1), self._fill, batch.dtype)
        at_once = max(1, batch_size // len(batch))
        for start in range(0, len(windows), at_once):
            group = windows[start : start + at_once]
            covered = np.repeat(batch, at_once, axis=0).reshape(len(batch), at_once, *batch.shape[1:])
            for number, window in enumerate(group):
                covered[(slice(None), number, *window)] = fill
            fall = clean[:, None] - self._predictions(covered.reshape(-1, *batch.shape[1:]), None).reshape(
                len(batch), -1
            )
            for number, window in enumerate(group):
                total[(slice(None), *window)] += fall[:, number].reshape((-1,) + (1,) * len(sides))
        return (total / count)[..., None]

    def _predictions(self, images, batch_size):
        return ops.convert_to_numpy(self._compiled(images))

    def _windows(self, sides):
        size = _per_side("patch_size", self._patch_size, [max(1, side // 8) for side in sides])
        strides = _per_side("strides", self._strides, [max(1, length // 2) for length in size])
        if any(length > side for length, side in zip(size, sides, strict=True)):
            raise ValueError(f"A patch lies within the image of {sides} pixels. Received: patch_size={tuple(size)}.")
        if any(step > length for step, length in zip(strides, size, strict=True)):
            raise ValueError(
                f"Strides are at most the patch's size, {tuple(size)}, so that each pixel is covered. "
                f"Received: strides={tuple(strides)}."
            )
        starts = []
        for side, length, step in zip(sides, size, strides, strict=True):
            last = side - length
            starts.append(sorted({*range(0, last + 1, step), last}))
        return [
            tuple(slice(begin, begin + length) for begin, length in zip(corner, size, strict=True))
            for corner in product(*starts)
        ]


def _per_side(name, value, default):
    if value is None:
        return default
    values = [value] * len(default) if isinstance(value, (int, np.integer)) else list(value)
    if len(values) != len(default):
        raise ValueError(
            f"{name} is one number of pixels, or one for each of {len(default)} sides. Received: {value!r}."
        )
    return [check_count(name, length) for length in values]
