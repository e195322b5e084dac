"""ResNet50 as a regressor, with the head of either of two works."""

import keras

from hcreg.models.backbone import backbone_regressor


def resnet50_regressor(
    input_shape=(224, 224, 3), head="zhang2021", weights=None, trainable_backbone=None, seed=None
) -> keras.Model:
    """Head circumference from one image, on ResNet50.

    Input ``(batch, height, width, channels)``, float32; output ``(batch, 1)``, float32, linear: the head
    circumference as a fraction of the largest one (in pixels) of the training fold. Intensities expected, by
    head:

    - "zhang2021": each image standardised to mean 0 and standard deviation 1, grey repeated to three
      channels;
    - "chi2025hc": RGB from 0 to 255 through `keras.applications.resnet50.preprocess_input` (BGR, ImageNet's
      mean taken off, not scaled: -124 to 151).

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``, at least 32 x 32. ImageNet weights need three channels.
    head : {"zhang2021", "chi2025hc"}
        "zhang2021": flatten, dropout 0.3, one linear unit; the backbone is trained. "chi2025hc": global
        average pooling, dense 512 ReLU, dropout 0.3, dense 256 ReLU, dropout 0.3, one linear unit; the
        backbone is frozen.
    weights : {None, "imagenet"} or path
        As in `hcreg.models.backbone_regressor`; both works start from "imagenet".
    trainable_backbone : bool, optional
        Whether ResNet50 itself is trained; by default as `head` says. Frozen, its batch normalisation stays
        in inference mode.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled. At 224 x 224 x 3, "zhang2021": 23,688,065 parameters, 23,634,945 trainable; "chi2025hc":
        24,768,385 and 1,180,673. The backbone's layers keep Keras's names ("conv5_block3_out").

    Raises
    ------
    ValueError
        For an unknown head, and as `hcreg.models.backbone_regressor`.
    FileNotFoundError, ConnectionError
        As `hcreg.models.backbone_regressor`.

    Notes
    -----
    Departure from both works: `weights` is None by default, since nothing is downloaded unless asked. A
    frozen backbone without weights is a random projection: pass weights with "chi2025hc", unless the whole
    regressor's weights are loaded afterwards.

    References
    ----------
    .. [1] zhang2021biometrics: head "zhang2021".
    .. [2] chi2025hc: head "chi2025hc".

    Examples
    --------
    >>> resnet50_regressor().count_params()
    23688065
    """
    if head not in _HEADS:
        raise ValueError(
            f"A head of resnet50_regressor is one of {', '.join(map(repr, _HEADS))}. Received: {head!r}. "
            'For other heads use backbone_regressor("ResNet50", head=...).'
        )
    make_features, trained_by_default = _HEADS[head]
    return backbone_regressor(
        "ResNet50",
        input_shape,
        weights,
        head=make_features,
        dropout_rate=0.3,
        trainable_backbone=trained_by_default if trainable_backbone is None else trainable_backbone,
        seed=seed,
        name="resnet50_regressor",
    )


# head -> (what backbone_regressor takes as head, whether the work trains the backbone)
_HEADS = {"zhang2021": ("flatten", True), "chi2025hc": ("chi2025hc", False)}
