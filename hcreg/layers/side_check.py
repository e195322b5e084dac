"""Refuse an image or volume whose sides a network cannot halve, by words and not deep inside it."""

import keras
from keras import ops

from hcreg import backend


@keras.saving.register_keras_serializable(package="hcreg")
class SideCheck(keras.layers.Layer):
    """The input as it is, if each of its sides is a multiple of a number.

    Parameters
    ----------
    multiple : int
        1 or more.
    **kwargs
        As of `keras.layers.Layer`.

    Raises
    ------
    ValueError
        On a call, where a side is known and not a multiple.

    Notes
    -----
    Sides that a compiled graph leaves open are checked when it runs (an error of TensorFlow's with the same words), but
    for XLA, which has no errors.

    Examples
    --------
    >>> SideCheck(8)(keras.ops.zeros((1, 8, 16, 1))).shape
    TensorShape([1, 8, 16, 1])
    """

    def __init__(self, multiple, **kwargs):
        super().__init__(**kwargs)
        self.multiple = int(multiple)

    def call(self, inputs):
        """Check.

        Parameters
        ----------
        inputs : tensor of shape (batch, height, width, [slices,] channels)

        Returns
        -------
        tensor
            `inputs`
        """
        sides = ops.shape(inputs)[1:-1]
        known, open_sides = [], []
        for side in sides:
            (known if isinstance(side, int) else open_sides).append(side)
        if any(side % self.multiple or not side for side in known):
            raise ValueError(f"{self._words()} Received: sides of {', '.join(map(str, known))}.")
        if not open_sides:
            return inputs
        return backend.required(inputs, [side % self.multiple == 0 for side in open_sides], self._words())

    def compute_output_shape(self, input_shape):
        """Shape of the output, the input's.

        Parameters
        ----------
        input_shape : tuple of int or None

        Returns
        -------
        tuple of int or None
        """
        return input_shape

    def get_config(self):
        """Arguments, for files.

        Returns
        -------
        dict
        """
        return {**super().get_config(), "multiple": self.multiple}

    def _words(self):
        return (
            "The network halves its input and doubles it again without a remainder: every side is a multiple of "
            f"{self.multiple}. Pad the input, and crop the output back, with hcreg.preprocessing.padding."
        )
