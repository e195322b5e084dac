"""The attention module of yang2020has: weights over the channels of each voxel, beside what they weigh."""

import keras
import numpy as np
from keras import ops

from hcreg.layers.conv3d import Conv3D

_CONVOLUTIONS = {2: keras.layers.Conv2D, 3: Conv3D}


@keras.saving.register_keras_serializable(package="hcreg")
class AttentionModule(keras.layers.Layer):
    r"""Weigh the channels of each voxel by what lies about it, and keep what was weighed.

    Four convolutions without activation: :math:`P` is one of 1 x 1 x 1 to `filters` channels. Two of `kernel_size`
    from `filters` to `filters` follow on it, and their softmax over the channels of a voxel is the attention :math:`A`.
    The output is a convolution of `kernel_size` from :math:`[P, P \cdot A]` to `out_filters` channels.

    Parameters
    ----------
    filters : int
        Channels of P and A.
    out_filters : int
        Channels of the output.
    kernel_size : int
        Of three of the four convolutions, along every axis.
    kernel_initializer, bias_initializer : str or keras.initializers.Initializer
        Of all four. Each convolution draws with a seed of its own.
    kernel_regularizer : keras.regularizers.Regularizer, optional
    rematerialise : bool
        Whether training computes the inside of the module anew on its way back, in place of keeping it: of `filters`
        channels P, what the first convolution gives, the logits, A, P A and twice as many of [P, P A] are not kept.
        Output and gradients are the same.
    seed : int, optional
        Fixes the initial weights, whatever seed the initialiser has.
    **kwargs
        As of `keras.layers.Layer`.

    Raises
    ------
    ValueError
        For numbers below 1; when built, for inputs that are neither images nor volumes, or of an unknown number of
        channels.

    Notes
    -----
    Input ``(batch, height, width, channels)`` or ``(batch, height, width, slices, channels)``; output of the same size.
    The softmax is computed in float32 under mixed precision too.

    The paper's text says 3 x 3 x 3 for the three convolutions, its code takes the kernel size of the level.

    References
    ----------
    .. [1] yang2020has, its attention module; "SAM" on skip connections and "UAM" after upsampling are both this.

    Examples
    --------
    >>> module = AttentionModule(kernel_size=5)
    >>> module(keras.random.normal((1, 4, 4, 4, 16), seed=0)).shape
    TensorShape([1, 4, 4, 4, 64])
    >>> module.count_params() == (16 * 32 + 32) + 2 * (5**3 * 32 * 32 + 32) + (5**3 * 64 * 64 + 64)
    True
    """

    def __init__(
        self,
        filters=32,
        out_filters=64,
        kernel_size=3,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        rematerialise=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("out_filters", out_filters), ("kernel_size", kernel_size)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} of AttentionModule is a whole number, 1 or more. Received: {value!r}.")
        self.filters, self.out_filters, self.kernel_size = int(filters), int(out_filters), int(kernel_size)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.rematerialise = bool(rematerialise)
        self.seed = seed

    def build(self, input_shape):
        """Make the four convolutions.

        Parameters
        ----------
        input_shape : tuple of int or None
        """
        convolution = _CONVOLUTIONS.get(len(input_shape) - 2)
        if convolution is None or input_shape[-1] is None:
            raise ValueError(
                "AttentionModule takes images (batch, height, width, channels) or volumes (batch, height, width, "
                f"slices, channels) of a known number of channels. Received: the shape {tuple(input_shape)}."
            )
        sizes = ((self.filters, 1), (self.filters, self.kernel_size), (self.filters, self.kernel_size))
        parts = []
        for number, (filters, kernel_size) in enumerate((*sizes, (self.out_filters, self.kernel_size))):
            parts.append(
                convolution(
                    filters,
                    kernel_size,
                    padding="same",
                    kernel_initializer=self._of_its_own(self.kernel_initializer, number),
                    bias_initializer=self._of_its_own(self.bias_initializer, number + 4),
                    kernel_regularizer=self.kernel_regularizer,
                    dtype=self.dtype_policy,
                    name=("projection", "attention1", "attention2", "fusion")[number],
                )
            )
        self.projection, self.attention1, self.attention2, self.fusion = parts
        leading = tuple(input_shape[:-1])
        self.projection.build(tuple(input_shape))
        self.attention1.build((*leading, self.filters))
        self.attention2.build((*leading, self.filters))
        self.fusion.build((*leading, 2 * self.filters))

    def call(self, inputs):
        """Attend.

        Parameters
        ----------
        inputs : tensor of shape (batch, height, width, [slices,] channels)

        Returns
        -------
        tensor of shape (batch, height, width, [slices,] out_filters)
        """
        return (keras.remat(self._attend) if self.rematerialise else self._attend)(inputs)

    def attention(self, inputs):
        """The weights A, to look at.

        Parameters
        ----------
        inputs : tensor of shape (batch, height, width, [slices,] channels)

        Returns
        -------
        tensor of shape (batch, height, width, [slices,] filters), float32
            The channels of a voxel sum to 1.
        """
        return self._weights(self.projection(inputs))

    def compute_output_shape(self, input_shape):
        """Shape of the output.

        Parameters
        ----------
        input_shape : tuple of int or None

        Returns
        -------
        tuple of int or None
        """
        return (*input_shape[:-1], self.out_filters)

    def get_config(self):
        """Arguments, for files.

        Returns
        -------
        dict
        """
        return {
            **super().get_config(),
            "filters": self.filters,
            "out_filters": self.out_filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "rematerialise": self.rematerialise,
            "seed": self.seed,
        }

    def _attend(self, inputs):
        projected = self.projection(inputs)
        weighed = projected * ops.cast(self._weights(projected), projected.dtype)
        return self.fusion(ops.concatenate([projected, weighed], axis=-1))

    def _weights(self, projected):
        logits = self.attention2(self.attention1(projected))
        return ops.softmax(ops.cast(logits, "float32"), axis=-1)  # sums of bfloat16 exponentials are off by percents

    def _of_its_own(self, initializer, number):
        """The initialiser for one convolution: one seed for all would make equal kernels of the two of one shape."""
        config = initializer.get_config()
        if "seed" not in config:
            return initializer.clone()
        start = self.seed if self.seed is not None else config["seed"]
        if start is not None:
            start = int(np.random.default_rng([int(start), number]).integers(2**31 - 1))
        return initializer.from_config({**config, "seed": start})
