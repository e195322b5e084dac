"""The VGG16 U-Net of zhang2021biometrics."""

import keras

from hcreg.models.backbone_unet import backbone_unet


def vgg16_unet(
    input_shape=(224, 224, 3),
    classes=1,
    head="mask",
    weights=None,
    trainable_backbone=True,
    seed=None,
    activation="sigmoid",
) -> keras.Model:
    """Mask of the fetal head from one image, by a U-Net on VGG16.

    Input ``(batch, height, width, channels)``, float32, each image standardised to mean 0 and standard deviation 1,
    grey repeated to three channels; output "mask" ``(batch, height, width, classes)``, float32.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``; height and width are multiples of 32. ImageNet weights need three channels.
    classes, head, activation
        As in `hcreg.models.unet`.
    weights : {None, "imagenet"} or path
        Of VGG16, as in `hcreg.models.backbone_regressor`; the paper starts from "imagenet".
    trainable_backbone, seed
        As in `hcreg.models.backbone_unet`.

    Returns
    -------
    keras.Model
        Uncompiled; 19,027,601 trainable parameters, 19,027,891 with three classes. The backbone's layers keep Keras's
        names ("block5_conv3").

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `hcreg.models.backbone_unet`.

    Notes
    -----
    Follows the U-Net with a VGG16 encoder of [1]_: all of VGG16 to ``block5_pool``, no block at the bottom, then the
    decoder that `hcreg.models.backbone_unet` describes. The paper's 19,027,891 parameters are those of three output
    classes; one class, the head, is the default here. `weights` is None by default, since nothing is downloaded unless
    asked.

    References
    ----------
    .. [1] zhang2021biometrics, section on segmentation.

    Examples
    --------
    >>> sum(int(weight.numpy().size) for weight in vgg16_unet(classes=3).trainable_variables)
    19027891
    """
    return backbone_unet(
        "VGG16",
        input_shape,
        classes=classes,
        head=head,
        weights=weights,
        trainable_backbone=trainable_backbone,
        seed=seed,
        activation=activation,
        name="vgg16_unet",
    )
