"""The row "3D-DeconvNet" of yang2020has: down and up again, without skip connections."""

import keras

from hcreg.models.usegnet_trunk import build, check_volume_shape
from hcreg.models.volume_output import MOMENTUM


def deconvnet_3d(
    input_shape=(None, None, None, 1),
    classes=2,
    filters=32,
    normalization="batch_statistics",
    momentum=MOMENTUM,
    initializer="he_normal",
    l2=0.0,
    weights=None,
    seed=None,
) -> keras.Model:
    """Mask of a whole fetal head in a volume, by an encoder and a decoder that only its bottom joins.

    Input ``(batch, height, width, slices, channels)``, float32, each volume scaled to [0, 1], sides multiples of 8.
    Output "mask" ``(batch, height, width, slices, classes)``, float32: the probability of each class in a voxel,
    background first.

    Parameters
    ----------
    input_shape, classes, filters, normalization, momentum, initializer, l2, weights, seed
        As of `hcreg.models.usegnet`.

    Returns
    -------
    keras.Model
        Uncompiled.

    Raises
    ------
    ValueError, FileNotFoundError
        As `hcreg.models.usegnet`.

    Notes
    -----
    The layers of `hcreg.models.usegnet` by the same names, less concatenations, attention and auxiliary outputs: what
    [1]_ compares with to show what skip connections do. It does not say how its network differs from USegNet otherwise.

    References
    ----------
    .. [1] yang2020has, the row "3D-DeconvNet" of its Table 2.

    Examples
    --------
    >>> deconvnet_3d((16, 16, 24, 1), filters=2).output_shape
    (None, 16, 16, 24, 2)
    """
    return build(
        "deconvnet_3d",
        check_volume_shape(input_shape, "deconvnet_3d"),
        classes,
        deep_supervision=False,
        skip_attention=(),
        upsample_attention=(),
        has_skips=False,
        filters=filters,
        normalization=normalization,
        momentum=momentum,
        initializer=initializer,
        l2=l2,
        seed=seed,
        weights=weights,
    )
