"""USegNet in two dimensions: slice by slice, the row "2D-USegNet" of yang2020has."""

import keras

from hcreg.models.backbone import check_input_shape
from hcreg.models.mask_output import check_multiple
from hcreg.models.usegnet_trunk import LEVELS, MULTIPLE, build
from hcreg.models.volume_output import MOMENTUM

EXAMPLE = (160, 104, 1)


def usegnet_2d(
    input_shape=(None, None, 1),
    classes=2,
    deep_supervision=True,
    skip_attention=LEVELS,
    upsample_attention=LEVELS,
    attention_kernel="code",
    filters=32,
    normalization="batch",
    momentum=MOMENTUM,
    initializer="he_normal",
    l2=0.0,
    rematerialise=False,
    weights=None,
    seed=None,
) -> keras.Model:
    """Mask of a fetal head in one slice of a volume, by `hcreg.models.usegnet` with kernels of two dimensions.

    Input ``(batch, height, width, channels)``, float32, each volume scaled to [0, 1], sides multiples of 8. Output
    "mask" ``(batch, height, width, classes)``, float32: the probability of each class in a pixel, background first.
    With deep supervision a dict of it and of "mask_half" and "mask_quarter".

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``; height and width are multiples of 8, or None.
    classes, deep_supervision, skip_attention, upsample_attention, attention_kernel, filters
        As of `hcreg.models.usegnet`.
    normalization : {"batch", "batch_statistics", "instance", "group"}
        As of `hcreg.models.usegnet`. By default with moving statistics, since batches have many slices; with those of
        the batch a slice's mask would depend on which others are beside it.
    momentum, initializer, l2, rematerialise, weights, seed
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
    The paper's row [1]_ has neither deep supervision nor attention: ``deep_supervision=False, skip_attention=(),
    upsample_attention=()``.

    References
    ----------
    .. [1] yang2020has, the row "2D-USegNet" of its Table 2.

    Examples
    --------
    >>> usegnet_2d((16, 24, 1), filters=2, deep_supervision=False).output_shape
    (None, 16, 24, 2)
    """
    shape = check_input_shape(input_shape, may_vary=True, example=EXAMPLE)
    check_multiple(shape, MULTIPLE, "usegnet_2d")
    return build(
        "usegnet_2d",
        shape,
        classes,
        deep_supervision=deep_supervision,
        skip_attention=skip_attention,
        upsample_attention=upsample_attention,
        attention_kernel=attention_kernel,
        filters=filters,
        normalization=normalization,
        momentum=momentum,
        initializer=initializer,
        l2=l2,
        rematerialise=rematerialise,
        seed=seed,
        weights=weights,
    )
