"""VGG16 as a regressor: a stack of linear, strongly regularised dense layers on its pooled features."""

import keras
from keras import ops

from hcreg.models.backbone import backbone_regressor

UNITS = (512, 256, 128, 64, 32)


def vgg16_regressor(
    input_shape=(224, 224, 3),
    weights=None,
    dropout_rate=0.7,
    kernel_l2=0.01,
    activity_l1=0.01,
    trainable_backbone=True,
    seed=None,
) -> keras.Model:
    """Head circumference from one image, on VGG16.

    Input ``(batch, height, width, channels)``, float32, each image standardised to mean 0 and standard
    deviation 1, grey repeated to three channels; output ``(batch, 1)``, float32, linear: the head
    circumference as a fraction of the largest one (in pixels) of the training fold.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``, at least 32 x 32; height and width may be None. ImageNet weights need
        three channels.
    weights : {None, "imagenet"} or path
        As in `hcreg.models.backbone_regressor`; the paper starts from "imagenet".
    dropout_rate : float in [0, 1)
        On the pooled features.
    kernel_l2, activity_l1 : float
        Penalties on the kernels and on the outputs of the five dense layers, in the loss's own unit.
    trainable_backbone : bool
        Whether VGG16 itself is trained too.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled; 15,151,937 parameters, all trainable. The backbone's layers keep Keras's names
        ("block5_conv3").

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `hcreg.models.backbone_regressor`.

    Notes
    -----
    Follows the VGG16 regressor of [1]_: VGG16 without top, global average pooling, dropout 0.7, dense layers
    of 512, 256, 128, 64 and 32 units *without* an activation, one linear unit. Together the six are one
    linear map; what they add is the penalties. Departures: `weights` is None by default, since nothing is
    downloaded unless asked. The output layer is not penalised. The paper feeds ImageNet's weights
    standardised images, not the 0 to 255 minus mean they were trained on; so does the shared pipeline.

    References
    ----------
    .. [1] zhang2021biometrics.

    Examples
    --------
    >>> vgg16_regressor().count_params()
    15151937
    """

    def linear_stack(maps):
        x = keras.layers.GlobalAveragePooling2D(name="head_gap")(maps)
        x = keras.layers.Dropout(dropout_rate, name="head_dropout")(x)
        for units in UNITS:
            x = keras.layers.Dense(
                units,
                kernel_regularizer=keras.regularizers.L2(kernel_l2),
                activity_regularizer=ActivityL1(activity_l1),
                name=f"head_dense_{units}",
            )(x)
        return x

    return backbone_regressor(
        "VGG16",
        input_shape,
        weights,
        head=linear_stack,
        trainable_backbone=trainable_backbone,
        seed=seed,
        name="vgg16_regressor",
    )


def _keras_divides_by_batch_size(version):
    """Whether that Keras divides an activity penalty by the batch size: 3.13.2 does not, 3.14.0 does."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return (major, minor) >= (3, 14)


@keras.saving.register_keras_serializable(package="hcreg")
class ActivityL1(keras.regularizers.Regularizer):
    """L1 penalty on a layer's outputs, averaged over the batch under every Keras.

    Parameters
    ----------
    l1 : float
        Weight of the sum of absolute outputs of one image.

    Notes
    -----
    Keras 2, current when the paper was written, and Keras from 3.14 divide an activity penalty by the batch
    size; Keras 3.10 to 3.13 do not, and there ``keras.regularizers.L1`` would weigh 16 times as much at a
    batch of 16.
    """

    def __init__(self, l1=0.01):
        self.l1 = float(l1)

    def __call__(self, outputs):
        """Penalty of outputs (batch, units): what Keras has to be handed for the batch's mean to come out."""
        outputs = ops.cast(outputs, "float32")  # a sum over bfloat16 would lose digits
        total = self.l1 * ops.sum(ops.absolute(outputs))
        if _keras_divides_by_batch_size(keras.__version__):
            return total
        return total / ops.cast(ops.shape(outputs)[0], "float32")

    def get_config(self):
        """Constructor arguments, for saving."""
        return {"l1": self.l1}
