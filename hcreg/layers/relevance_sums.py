"""What a map shows inside and outside a mask, in a few numbers; and images whose outside is another's."""

import math

import keras
import numpy as np
from keras import ops

from hcreg.attention import CHANNELS

_FLOOR = 1e-6  # in units of the score; below it, a map's largest value does not count as one
_RESIZES = ("area", "bilinear")


@keras.saving.register_keras_serializable(package="hcreg")
class RelevanceSums(keras.layers.Layer):
    """Sums of relevance in and outside a mask, class by class: all that `hcreg.losses.Heatmap` needs of a map.

    Parameters
    ----------
    classes : list of int, optional
        Of which class each map is; None where each image has one map, of its predicted class.
    resize : {"area", "bilinear"}
        How the mask is brought to the map's cells: to the share of a cell inside the mask, or by interpolation between
        the mask's pixels next to the cell's middle, as in [1]_, which passes most of them by.
    **kwargs
        As for every Keras layer.

    Notes
    -----
    A cell of the map stands for its part of the image's frame, as where maps are drawn over images.

    The layer counts training steps, for weights that grow; the count is saved with the weights.

    References
    ----------
    .. [1] callanan2022heatmap
    """

    def __init__(self, classes=None, resize="area", **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        if resize not in _RESIZES:
            raise ValueError(f"A mask is resized by {' or '.join(map(repr, _RESIZES))}. Received: {resize!r}.")
        self.classes = None if classes is None else [int(number) for number in classes]
        self.resize = resize

    def build(self, input_shape):
        logits, maps, mask = input_shape[:3]
        spatial = mask[1:-1]
        if len(mask) != len(maps) or None in spatial or None in maps[1:-1]:
            raise ValueError(
                f"A map of shape {tuple(maps)} needs a mask of as many axes and of a fixed size, as the map's own. "
                f"Received: {tuple(mask)}. Build the network for images of a fixed size."
            )
        if mask[-1] not in (1, logits[-1]):
            raise ValueError(
                f"A mask has one channel, or one for each of the {logits[-1]} classes. Received: {mask[-1]}."
            )
        weights = _area if self.resize == "area" else _bilinear
        self._to_cells = [weights(*sizes) for sizes in zip(spatial, maps[1:-1], strict=True)]
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")
        self.built = True

    def call(self, inputs, training=None):
        """Sum.

        Parameters
        ----------
        inputs : list of tensors
            Logits (batch, classes); maps (batch, cells..., maps); mask (batch, spatial..., 1 or classes), 0 outside up
            to 1; and, if there are any, the logits of the swapped images.
        training : bool, optional
            Whether this is a step to count.

        Returns
        -------
        tensor of float32, shape (batch, classes, channels)
            As `hcreg.attention.CHANNELS`, the last only with swapped images; of classes without a map the
            logits alone, and zeros.
        """
        logits, maps, mask, *swapped = inputs
        num_classes = logits.shape[-1]
        of_class = self._of_class(logits)
        outside = ops.relu(1.0 - self._in_cells(ops.cast(mask, "float32")))  # rounding leaves a little below 0
        if outside.shape[1] > 1:  # each map its class's mask
            outside = ops.einsum("bkc,bcn->bkn", of_class, outside)
        # Cells last, in one row for each map: sums along them are several times faster than across.
        num_cells = math.prod(maps.shape[1:-1])
        maps = ops.reshape(ops.moveaxis(maps, -1, 1), (-1, maps.shape[-1], num_cells))
        size = ops.abs(maps)
        highest = ops.maximum(ops.max(maps, axis=-1), _FLOOR)
        sums = ops.stack(
            [
                ops.sum(size * outside, axis=-1),
                ops.sum(size, axis=-1),
                ops.sum(maps * outside, axis=-1),
                ops.sum(maps, axis=-1),
                ops.sum(ops.relu(maps) * outside, axis=-1) / (highest * num_cells),
            ],
            axis=-1,
        )
        sums = ops.einsum("bkc,bks->bcs", of_class, sums)
        step = ops.ones_like(logits) * self.step
        if training:
            self.step.assign_add(1.0)
        by_name = [logits, *(sums[..., number] for number in range(5)), step, *swapped]
        return ops.reshape(ops.stack(by_name, axis=-1), (-1, num_classes, len(by_name)))

    def _in_cells(self, mask):
        """The mask at the map's cells, of shape (batch, channels, cells); one matrix product for each axis."""
        sizes = list(mask.shape[1:])
        for axis, weights in enumerate(self._to_cells):
            behind = math.prod(sizes[axis + 1 :])
            if behind == 1:
                mask = ops.matmul(ops.reshape(mask, (-1, sizes[axis])), weights.T)
            else:
                mask = ops.matmul(weights, ops.reshape(mask, (-1, sizes[axis], behind)))
            sizes[axis] = len(weights)
        return ops.swapaxes(ops.reshape(mask, (-1, math.prod(sizes[:-1]), sizes[-1])), 1, 2)

    def _of_class(self, logits):
        """1 where a map is of a class, of shape (batch, maps, classes)."""
        num_classes = logits.shape[-1]
        if self.classes is None:
            return ops.one_hot(ops.argmax(logits, axis=-1), num_classes, dtype="float32")[:, None, :]
        of_class = np.eye(num_classes, dtype="float32")[self.classes]
        return ops.ones_like(logits)[:, None, :] * of_class

    def compute_output_shape(self, input_shape):
        return (*input_shape[0], len(CHANNELS) - (len(input_shape) == 3))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "resize": self.resize}


@keras.saving.register_keras_serializable(package="hcreg")
class SwapOutside(keras.layers.Layer):
    """Images whose outside comes from the image before them in the batch.

    Notes
    -----
    A pixel is exchanged where it is outside the masks of both images: what is inside the other's mask, part of its
    heart, is no outside. A mask of several channels counts where any of them does. In a batch of one image nothing
    changes.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")  # half precision would round the images that are not swapped, too
        super().__init__(**kwargs)

    def call(self, inputs):
        """Exchange.

        Parameters
        ----------
        inputs : list of tensors
            Images (batch, spatial..., channels) and masks (batch, spatial..., 1 or classes), from 0 to 1.

        Returns
        -------
        tensor of the images' shape
        """
        images, mask = inputs
        mask = ops.max(ops.cast(mask, images.dtype), axis=-1, keepdims=True)
        kept = ops.maximum(mask, ops.roll(mask, 1, axis=0))
        return kept * images + (1 - kept) * ops.roll(images, 1, axis=0)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])


def _area(pixels, cells):
    """Share of each cell that each pixel makes up, of shape (cells, pixels); rows sum to 1."""
    edges = np.arange(cells + 1) * pixels / cells
    left = np.maximum(edges[:-1, None], np.arange(pixels))
    right = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    return (np.maximum(right - left, 0.0) * cells / pixels).astype("float32")


def _bilinear(pixels, cells):
    """Weights of the two pixels next to each cell's middle, of shape (cells, pixels)."""
    middle = np.clip((np.arange(cells) + 0.5) * pixels / cells - 0.5, 0, pixels - 1)
    return np.maximum(1.0 - np.abs(middle[:, None] - np.arange(pixels)), 0.0).astype("float32")
