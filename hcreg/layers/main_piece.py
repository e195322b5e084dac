"""A soft mask without what does not hang together with its main piece, inside the network."""

import keras
import numpy as np
from keras import ops

_CELL_PX = 4  # pieces nearer than that are one
_INSIDE = 0.5


@keras.saving.register_keras_serializable(package="hcreg")
class MainPiece(keras.layers.Layer):
    """Keep the largest connected piece of a mask, with its soft edge, and set the rest to zero.

    What a contour finder does after the network, as part of it: moments of the mask (`EllipseMoments`) then see one
    object, however large another one beside it is.

    Takes masks of shape (batch, height, width, 1) in [0, 1], height and width multiples of 4; gives masks of the same
    shape, float32.

    Parameters
    ----------
    **kwargs
        ``name`` and the like, as for every Keras layer.

    Raises
    ------
    ValueError
        For masks of another rank, of several channels, of unknown sides or of sides that are no multiples of 4.

    Notes
    -----
    Cells of 4 x 4 pixels are inside where a pixel of theirs is above 0.5. Cells that touch, at corners too, are one
    piece, and the one of the largest sum of probabilities is kept. Touching is followed for as many steps as the frame
    has cells on its longer side: enough for ellipses and whatever else is no labyrinth. Pieces less than a cell apart
    are one. One more cell on all sides keeps the soft edge. A mask that is nowhere above 0.5 is left as it is.

    No gradient flows through the choice. Where a mask is one piece, nothing changes but the far background, which is
    set to zero.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((1, 32, 48, 1), "float32")
    >>> mask[0, 8:24, 8:24], mask[0, 4:10, 36:44] = 1, 1
    >>> int(mask.sum()), int(MainPiece()(mask).numpy().sum())
    (304, 256)
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)

    def call(self, probabilities):
        _check_shape(probabilities.shape)
        mask = ops.cast(probabilities, "float32")
        height, width = (side // _CELL_PX for side in mask.shape[1:3])
        seen = ops.stop_gradient(mask)
        inside = ops.cast(ops.max_pool(seen, _CELL_PX, strides=_CELL_PX) > _INSIDE, "float32")
        names = _named_pieces(inside, height, width)
        mass = ops.average_pool(seen, _CELL_PX, strides=_CELL_PX) * inside
        mass_of_piece = _summed_by_name(mass, names, height * width) * inside
        largest = mass_of_piece >= ops.amax(mass_of_piece, axis=(1, 2, 3), keepdims=True)
        name = ops.amax(ops.where(largest, names, 0.0), axis=(1, 2, 3), keepdims=True)  # of equals one
        # where nothing is inside, all are of the same name, 0
        kept = _grown(ops.cast(names == name, "float32"))
        kept = ops.repeat(ops.repeat(kept, _CELL_PX, axis=1), _CELL_PX, axis=2)
        return mask * ops.stop_gradient(kept)

    def compute_output_spec(self, probabilities):
        _check_shape(probabilities.shape)
        return keras.KerasTensor(probabilities.shape, dtype="float32")


def _named_pieces(inside, height, width):
    """(batch, height, width, 1): of each cell inside the largest number of a cell of its piece, from 1; 0 elsewhere."""
    numbers = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, height, width, 1)
    names = inside * numbers
    for _ in range(max(height, width)):
        names = _grown(names) * inside
    return names


def _summed_by_name(mass, names, num_cells):
    """For each cell the sum over all cells of its name."""
    names = ops.reshape(ops.cast(names, "int32"), (-1, num_cells))
    first = ops.arange(ops.shape(names)[0], dtype="int32")[:, None] * (num_cells + 1)
    places = ops.reshape(names + first, (-1,))
    sums = ops.segment_sum(ops.reshape(mass, (-1,)), places, ops.shape(names)[0] * (num_cells + 1))
    return ops.reshape(ops.take(sums, places), ops.shape(mass))


def _grown(piece):
    return ops.max_pool(piece, 3, strides=1, padding="same")


def _check_shape(shape):
    if len(shape) != 4 or shape[-1] != 1 or None in shape[1:3] or any(side % _CELL_PX for side in shape[1:3]):
        raise ValueError(
            f"MainPiece takes masks (batch, height, width, 1) whose sides are multiples of {_CELL_PX}. "
            f"Received: {tuple(shape)}."
        )
