"""Keras's batch normalisation, computed by TensorFlow's fused kernel where there is one for it."""

import keras
from keras import ops

from hcreg import backend

# The fused kernel of NVIDIA's cuDNN takes no smaller one.
_SMALLEST_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(package="hcreg")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the same numbers, faster for images and stacks on TensorFlow.

    Keras 3 normalises in several passes over the maps, forwards and backwards. Here the moments, the normalisation and
    its gradient are one kernel each (`hcreg.backend.fused_batch_normalization`) where the backend is TensorFlow, the
    input has shape ``(batch, height, width, channels)`` or ``(batch, height, width, slices, channels)``, the last axis
    is normalised, and there is neither a mask, nor synchronisation over devices, nor renormalisation. Everything else
    is Keras's own call.

    Parameters
    ----------
    **kwargs
        As of `keras.layers.BatchNormalization`.

    Notes
    -----
    Output, gradients and moving statistics are Keras's but for rounding (a few 1e-7 of the values in float32), in mixed
    precision too, where both compute in float32. Weights, their names and their order are the same: files of weights
    serve both classes. No gradient with respect to the moving statistics flows through the fused kernel.

    Examples
    --------
    >>> maps = keras.random.normal((2, 8, 8, 3), seed=0)
    >>> ours, keras_own = BatchNormalization(), keras.layers.BatchNormalization()
    >>> bool(ops.max(ops.abs(ours(maps, training=True) - keras_own(maps, training=True))) < 1e-5)
    True
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise, and in training move the moving statistics.

        Parameters
        ----------
        inputs : tensor of shape (batch, ..., channels)
        training : bool, optional
            Whether to normalise by the batch's own moments; with ``trainable=False`` the moving ones serve always.
        mask : tensor, optional
            As of `keras.layers.BatchNormalization`.

        Returns
        -------
        tensor of the shape of `inputs`
        """
        dtype = keras.backend.result_type(inputs.dtype, "float32")  # half precision is too coarse for sums
        if mask is not None or not self._is_fusible(inputs, dtype):
            return super().call(inputs, training=training, mask=mask)
        moving_mean, moving_variance = ops.cast(self.moving_mean, dtype), ops.cast(self.moving_variance, dtype)
        by_batch = bool(training and self.trainable)
        shape = ops.shape(inputs)
        planes = inputs if len(shape) == 4 else ops.reshape(inputs, (*shape[:2], -1, shape[-1]))
        outputs, mean, variance = backend.fused_batch_normalization(
            ops.cast(planes, dtype),
            ops.cast(self.gamma, dtype) if self.scale else ops.ones_like(moving_mean),
            ops.cast(self.beta, dtype) if self.center else ops.zeros_like(moving_mean),
            moving_mean,
            moving_variance,
            self.epsilon,
            by_batch,
        )
        if by_batch:
            self.moving_mean.assign(moving_mean * self.momentum + mean * (1.0 - self.momentum))
            self.moving_variance.assign(moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return ops.cast(ops.reshape(outputs, shape) if len(shape) == 5 else outputs, self.compute_dtype)

    def _is_fusible(self, inputs, dtype):
        return (
            backend.name() == "tensorflow"
            and len(inputs.shape) in (4, 5)
            and self.axis in (-1, len(inputs.shape) - 1)
            and dtype == "float32"  # there is no such kernel for float64
            and self.epsilon >= _SMALLEST_EPSILON
            and not self.synchronized
            and not getattr(self, "renorm", False)  # unknown to older Keras
        )
