"""Normalisation by the batch at hand, in training and afterwards: batch normalisation without moving statistics."""

import keras
from keras import ops

from hcreg import backend


@keras.saving.register_keras_serializable(package="hcreg")
class BatchStatistics(keras.layers.Layer):
    r"""Normalise each channel by its moments over the batch, whether training or not.

    .. math:: y = \gamma \frac{x - \mathrm{mean}(x)}{\sqrt{\mathrm{var}(x) + \epsilon}} + \beta

    Parameters
    ----------
    epsilon : float
        Added to the variance.
    **kwargs
        As of `keras.layers.Layer`.

    Notes
    -----
    What a network computes in training is then what it computes of a new image, which moving statistics of batches of
    one image are far from. The price: images of one batch depend on each other, so predict as you train, and best one
    at a time. Of a single image, moments of the batch are those of the image: instance normalisation.

    A channel of one voxel in all is its own mean: the output is beta, whatever it was.

    Of images and stacks TensorFlow computes it in one kernel, see `hcreg.layers.BatchNormalization`; moments are in
    float32 under mixed precision too.

    Examples
    --------
    >>> values = ops.reshape(ops.array([1.0, 5.0]), (1, 2, 1, 1))  # mean 3, standard deviation 2
    >>> [round(float(value), 3) for value in ops.ravel(BatchStatistics()(values))]
    [-1.0, 1.0]
    """

    def __init__(self, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = float(epsilon)

    def build(self, input_shape):
        """Make gamma and beta.

        Parameters
        ----------
        input_shape : tuple of int or None
        """
        channels = input_shape[-1]
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")

    def call(self, inputs):
        """Normalise.

        Parameters
        ----------
        inputs : tensor of shape (batch, ..., channels)

        Returns
        -------
        tensor of the shape of `inputs`
        """
        dtype = keras.backend.result_type(inputs.dtype, "float32")  # half precision is too coarse for sums
        x, gamma, beta = (ops.cast(tensor, dtype) for tensor in (inputs, self.gamma, self.beta))
        shape = ops.shape(inputs)
        if backend.name() == "tensorflow" and dtype == "float32" and len(shape) in (4, 5):
            planes = x if len(shape) == 4 else ops.reshape(x, (*shape[:2], -1, shape[-1]))
            outputs, _, _ = backend.fused_batch_normalization(
                planes, gamma, beta, ops.zeros_like(gamma), ops.ones_like(gamma), self.epsilon, training=True
            )
            outputs = ops.reshape(outputs, shape) if len(shape) == 5 else outputs
        else:
            mean, variance = ops.moments(x, axes=tuple(range(len(shape) - 1)))
            outputs = ops.batch_normalization(x, mean, variance, -1, beta, gamma, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)

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
        return {**super().get_config(), "epsilon": self.epsilon}
