"""VGG16 as a classifier: flattened feature maps, one hidden layer, logits."""

import keras
import numpy as np

from hcreg.models.backbone import backbone_body, check_input_shape, restore_body, with_seed
from hcreg.models.class_output import class_output

SMALLEST_SIDE_PX = 32  # five halvings


def vgg16_classifier(
    input_shape=(105, 135, 3),
    num_classes=4,
    weights=None,
    hidden_units=100,
    activation="softmax",
    trainable_backbone=True,
    seed=None,
) -> keras.Model:
    """Class of one image, on VGG16.

    Input ``(batch, height, width, channels)``, float32, intensities in [-1, 1] (``images / 127.5 - 1``), grey repeated
    to three channels; output ``(batch, num_classes)``, float32: probabilities, or logits if `activation` is None.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, channels)``, at least 32 x 32. ImageNet weights need three channels.
    num_classes : int
        At least 2, or 1 with "sigmoid" or None.
    weights : {None, "imagenet"} or path
        Of VGG16, as in `hcreg.models.backbone_regressor`; the head's are drawn at random. The thesis starts from
        "imagenet".
    hidden_units : int
        Of the dense layer between the feature maps and the logits.
    activation : {"softmax", "sigmoid", None}
        Of the layer "probabilities"; None leaves that layer out and the network ends in the layer "logits".
    trainable_backbone : bool
        Whether VGG16 itself is trained too.
    seed : int, optional
        Fixes the initial weights, see `hcreg.models.backbone.with_seed`. Loaded weights stay as loaded.

    Returns
    -------
    keras.Model
        Uncompiled; 15,329,592 parameters by default, all trainable. The backbone's layers keep Keras's names:
        "block5_conv3", with maps of 6 x 8 cells at 105 x 135, is the thesis's target layer.

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `hcreg.models.backbone_regressor`; and for an unknown activation or a number of classes or hidden units
        that is none.

    Notes
    -----
    Follows the classifier of [1]_: VGG16 without top, flattening (6144 numbers at 105 x 135), a dense layer of 100
    units with ReLU and He's uniform initialisation, four logits. The thesis describes a softmax, its code computes a
    sigmoid: ``activation="sigmoid"``. Departure: `weights` is None by default, since nothing is downloaded unless
    asked. The thesis feeds ImageNet's weights intensities in [-1, 1], not the 0 to 255 minus mean they were trained on;
    so does hcreg.

    The thesis trains the backbone with its heat map loss but freezes it with cross-entropy
    (``trainable_backbone=False``), which confounds its comparison.

    References
    ----------
    .. [1] callanan2022heatmap.

    Examples
    --------
    >>> model = vgg16_classifier()
    >>> model.count_params(), model.get_layer("block5_conv3").output.shape
    (15329592, (None, 6, 8, 512))
    """
    shape = check_input_shape(input_shape, smallest=SMALLEST_SIDE_PX, example=(105, 135, 3))
    if isinstance(hidden_units, bool) or not isinstance(hidden_units, (int, np.integer)) or hidden_units < 1:
        raise ValueError(f"hidden_units is a whole number, 1 or more. Received: {hidden_units!r}.")
    body = backbone_body("VGG16", shape, weights)
    body.trainable = trainable_backbone

    x = keras.layers.Flatten(name="head_flatten")(body.output)
    x = keras.layers.Dense(hidden_units, activation="relu", kernel_initializer="he_uniform", name="head_dense")(x)
    # inputs[0], not input: a list there would make Keras warn at every call with a plain array.
    model = keras.Model(body.inputs[0], class_output(x, num_classes, activation), name="vgg16_classifier")
    if seed is None:
        return model
    seeded = with_seed(model, seed)
    if weights is not None:
        restore_body(seeded, body)
    return seeded
