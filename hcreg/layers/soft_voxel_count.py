"""From class probabilities to sizes: a soft count of voxels, so that a network can learn from a volume itself."""

import math

import keras
from keras import ops

_TINY = 1e-7  # a power of zero has no finite gradient below 1


@keras.saving.register_keras_serializable(package="hcreg")
class SoftVoxelCount(keras.layers.Layer):
    r"""Size of each structure: the sum of its probabilities over all pixels or voxels, times the size of one.

    .. math:: v_c = s \sum_i p_{ic}

    What `EllipseMoments` is to a circumference this is to an area or a volume: closed form and differentiable, so that
    a network can be trained on the size itself, with masks or without.

    Parameters
    ----------
    voxel_size : float
        Size of a pixel or voxel, in any unit of area or volume: the unit of the output.
    background : bool
        Whether channel 0 is background, which is not counted.
    sharpness : float of at least 1, optional
        If given, the probabilities are first raised to this power and normalised over the classes again, so that a low
        background weighs less. See Notes.
    **kwargs
        ``name`` and the like, as for every Keras layer.

    Raises
    ------
    ValueError
        If `voxel_size` is not positive or `sharpness` below 1; on call, if the probabilities have no spatial axis or
        too few channels.

    Notes
    -----
    Soft is the count in that a voxel adds its probability and not 0 or 1: there is no threshold and no largest class,
    and without `sharpness` each voxel's gradient is the size of one. A voxel of probability 0.5 adds half of itself,
    whether the structure fills half of it or the network is in doubt. Of anti-aliased label maps, whose borders hold
    the share that is filled, the count is exact; a 0/1 label map is counted as `hcreg.preprocessing.cardiac` does.

    All spatial axes are summed, and a slice is nothing to itself: one at the end of the heart that the structure fills
    in part, across its thickness, adds the shares that its probabilities say, and one of zeros but for the background
    adds nothing. What is cut off by the border is not there to be counted. NaN anywhere makes the sum NaN; filling of
    NaN is for `hcreg.models.volumes_of_slices`.

    The unit is that of `voxel_size`: 0.001 times the product of a spacing in mm gives ml, with one spacing for all.
    Where it varies, count voxels (``voxel_size=1``) and multiply outside.

    Each pixel of a background of probability 0.001 adds to the sum: 0.001 over 160 x 160 pixels is 26 pixels, 0.03
    with ``sharpness=2``. Between two classes a sharpened edge stays where it was. The arithmetic is float32 whatever
    the policy: in bfloat16 a sum of thousands has two digits.

    Departure from the paper: [1]_ regresses the number, a volume or a count of voxels, from a dense layer. This layer
    and its sharpness are no paper's.

    References
    ----------
    .. [1] zhang2021biometrics, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities = np.zeros((1, 2, 2, 3), "float32")
    >>> probabilities[..., 0, :, 0], probabilities[..., 1, :, 2] = 1.0, 0.5
    >>> print(np.array(SoftVoxelCount(voxel_size=3.0)(probabilities)).tolist())
    [[0.0, 3.0]]
    """

    def __init__(self, voxel_size=1.0, background=True, sharpness=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        if not 0 < voxel_size < math.inf:
            raise ValueError(f"SoftVoxelCount needs a positive voxel_size. Received: {voxel_size!r}.")
        if sharpness is not None and not 1 <= sharpness < math.inf:
            raise ValueError(f"SoftVoxelCount needs a sharpness of 1 or more, or None. Received: {sharpness!r}.")
        self.voxel_size = float(voxel_size)
        self.background = bool(background)
        self.sharpness = None if sharpness is None else float(sharpness)

    def call(self, probabilities):
        """Count the voxels of each structure.

        Parameters
        ----------
        probabilities : tensor of shape (batch, height, width, [slices,] classes), in [0, 1]

        Returns
        -------
        float32 tensor of shape (batch, structures)
            Classes without the background.
        """
        rank, classes = len(probabilities.shape), probabilities.shape[-1]
        if rank < 3 or classes < 1 + self.background:
            raise ValueError(
                "SoftVoxelCount takes class probabilities (batch, height, width, [slices,] classes)"
                f"{', the first class the background' if self.background else ''}. "
                f"Received: shape {tuple(probabilities.shape)}."
            )
        counted = ops.cast(probabilities, "float32")
        if self.sharpness is not None:
            counted = ops.power(ops.maximum(counted, _TINY), self.sharpness)
            counted = counted / ops.sum(counted, axis=-1, keepdims=True)
        counted = counted[..., 1:] if self.background else counted
        return self.voxel_size * ops.sum(counted, axis=tuple(range(1, rank - 1)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] - self.background)

    def get_config(self):
        own = {"voxel_size": self.voxel_size, "background": self.background, "sharpness": self.sharpness}
        return {**super().get_config(), **own}
