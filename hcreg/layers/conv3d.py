"""Keras's 3-D convolution, computed as a 2-D one where a stack has hardly more slices than the kernel."""

import keras
import numpy as np
from keras import ops

from hcreg import backend


@keras.saving.register_keras_serializable(package="hcreg")
class Conv3D(keras.layers.Conv3D):
    """`keras.layers.Conv3D` of the same numbers, meant for stacks of few slices on a CPU.

    A stack of no more slices than the kernel is deep has every output slice look at nearly every input slice. Then the
    slices are channels as well: a 2-D convolution from (slices x channels) to (slices x filters), whose kernel is put
    together from the 3-D one's parts, and zeros where the 3-D one meets its padding, so that no more products are
    counted. Everything else is Keras's own call: other backends, accelerators, a single slice, more slices than the
    kernel is deep or an unknown number, strides, dilation, groups, other padding, channels first.

    Parameters
    ----------
    *args, **kwargs
        As of `keras.layers.Conv3D`.

    Notes
    -----
    Output and gradients are Keras's but for rounding, and to the bit where it is Keras's own call. Weights, their names
    and their order are the same: files of weights serve both classes.

    Examples
    --------
    >>> stack = keras.random.normal((2, 8, 8, 3, 4), seed=0)
    >>> ours, keras_own = (cls(5, 3, padding="same") for cls in (Conv3D, keras.layers.Conv3D))
    >>> ours.build(stack.shape), keras_own.build(stack.shape)
    (None, None)
    >>> keras_own.set_weights(ours.get_weights())
    >>> bool(ops.max(ops.abs(ours(stack) - keras_own(stack))) < 1e-5)
    True
    """

    def convolution_op(self, inputs, kernel):
        """Convolve, without bias and activation.

        Parameters
        ----------
        inputs : tensor of shape (batch, height, width, slices, channels)
        kernel : tensor of shape (kernel_size..., channels, filters)

        Returns
        -------
        tensor
        """
        if not self._is_foldable(inputs):
            return super().convolution_op(inputs, kernel)
        batch, height, width, slices, channels = ops.shape(inputs)
        folded = ops.reshape(inputs, (batch, height, width, slices * channels))
        outputs = ops.conv(
            folded, _between_slices(kernel, slices), strides=1, padding="same", data_format="channels_last"
        )
        return ops.reshape(outputs, (batch, height, width, slices, self.filters))

    def _is_foldable(self, inputs):
        slices = inputs.shape[3]
        return (
            backend.name() == "tensorflow"
            and slices is not None
            and 1 < slices <= self.kernel_size[2]
            and self.padding == "same"
            and self.data_format == "channels_last"
            and set(self.strides) == set(self.dilation_rate) == {1}
            and self.groups == 1
            and not backend.has_accelerator()
        )


def _between_slices(kernel, slices):
    """Kernel of a 2-D convolution, (height, width, slices * channels, slices * filters), of a 3-D one's."""
    *plane, depth, channels, filters = kernel.shape
    # Input slice i reaches output slice z through this part; an even kernel is padded at the end, as in Keras.
    part = np.subtract.outer(np.arange(slices), np.arange(slices)) + (depth - 1) // 2
    chosen = (part[..., None] == np.arange(depth)).astype("float32")
    # A product with zeros and ones: the gradient of slicing would be several times slower.
    folded = ops.einsum("izd,hwdcf->hwiczf", ops.cast(chosen, kernel.dtype), kernel)
    return ops.reshape(folded, (*plane, slices * channels, slices * filters))
