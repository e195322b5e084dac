"""Volumes of the heart's structures from slices as channels: the 2-D VGG of zhang2021biometrics, or any backbone."""

from dataclasses import replace

import keras
import numpy as np

from hcreg.graph import read_graph
from hcreg.models import weights_file
from hcreg.models.backbone import backbone_body, check_input_shape, set_weights, with_seed
from hcreg.models.vgg_trunk import CONVOLUTIONS, FILTERS, SMALLEST_SIDE, vgg_trunk
from hcreg.models.volume_output import (
    MOMENTUM,
    check_momentum,
    check_outputs,
    check_rate,
    check_sizes,
    volume_output,
)
from hcreg.preprocessing.cardiac import STRUCTURES

EXAMPLE = (224, 224, 9)
RGB = 3
DROPOUT_RATE = 0.5


def vgg2d(
    input_shape=EXAMPLE,
    outputs=STRUCTURES,
    variant="multi_label",
    backbone=None,
    kernel_size=(3, 3),
    dropout_rate=None,
    filters=FILTERS,
    momentum=MOMENTUM,
    weights=None,
    seed=None,
    **backbone_options,
) -> keras.Model:
    """Cardiac volumes from a stack of short-axis slices, the slices as channels of one image.

    Input ``(batch, height, width, slices)``, float32, each stack standardised to mean 0 and standard deviation 1;
    output "volumes" ``(batch, number of outputs)``, float32, linear: as of `hcreg.models.vgg3d`, fractions of the
    training fold's largest.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, slices)``, height and width at least 8; a backbone may ask for more.
    outputs, variant
        As of `hcreg.models.vgg3d`.
    backbone : str, optional
        A name of `hcreg.models.backbone_names`, in place of the paper's convolutions.
    kernel_size : tuple of two int
        Of all convolutions; not of a backbone's.
    dropout_rate : float in [0, 1), optional
        Before the output layer. By default 0.5, and none with a backbone, see `hcreg.models.backbone_regressor`.
    filters : tuple of five int
        Of the five blocks; not of a backbone's.
    momentum : float in [0, 1)
        As of `hcreg.models.vgg3d`; not of a backbone's.
    weights : {None, "imagenet"} or path
        Without a backbone a ``.weights.h5`` file of this very network; with one as of
        `hcreg.models.backbone_regressor`: None, "imagenet" or a local file of the backbone without its top layers.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`. Loaded weights stay as
        loaded.
    **backbone_options
        Handed to the backbone.

    Returns
    -------
    keras.Model
        Uncompiled.

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `hcreg.models.vgg3d` and `hcreg.models.backbone_regressor`.

    Notes
    -----
    Follows the 2-D network of [1]_, which takes the nine slices as channels. Its widths and poolings are not stated;
    here they are those of the 3-D one: blocks of 2, 2, 3, 3 and 3 convolutions, poolings after the blocks 1, 2 and 5.

    A backbone of `keras.applications` takes three channels where it has ImageNet's weights. The slices are brought to
    them by a 1 x 1 convolution that is learnt with the rest ("slices_to_channels"), whatever `weights` is; it starts at
    the mean of three thirds of the stack (base, middle, apex), so that a loaded backbone sees pictures at first. Global
    average pooling, dropout and the linear output follow. What intensities a backbone expects is said under
    `hcreg.models.backbone_regressor`: standardised slices suit ConvNeXt, EfficientNetV2 and MobileNetV3 with
    ``include_preprocessing=False``. A backbone is laid out flat, the models that ConvNeXt nests taken apart, and its
    layers keep their names; with "multi_output" each trunk's have its structure's before them ("RV_conv1").

    References
    ----------
    .. [1] zhang2021biometrics, section 5.

    Examples
    --------
    >>> vgg2d().output_shape
    (None, 3)
    >>> model = vgg2d((64, 64, 9), backbone="MobileNet", alpha=0.25, variant="single_label")
    >>> model.output_shape
    (None, 1)
    """
    smallest = SMALLEST_SIDE if backbone is None else 1
    shape = check_input_shape(input_shape, smallest=smallest, example=EXAMPLE)
    names = check_outputs(outputs, variant)
    kernel_size = check_sizes(kernel_size, "kernel_size", 2, (3, 3))
    filters = check_sizes(filters, "filters", len(CONVOLUTIONS), FILTERS)
    if dropout_rate is None:
        dropout_rate = DROPOUT_RATE if backbone is None else 0.0
    check_rate(dropout_rate)
    check_momentum(momentum)
    if backbone is None and backbone_options:
        raise ValueError(f"Options are a backbone's; there is none here. Received: {', '.join(backbone_options)}.")
    if backbone is not None:
        for argument, value, default in (
            ("kernel_size", kernel_size, (3, 3)),
            ("filters", filters, FILTERS),
            ("momentum", momentum, MOMENTUM),
        ):
            if value != default:
                raise ValueError(
                    f"{argument} is of the network without a backbone. Received: {argument}={value!r} and "
                    f"backbone={backbone!r}."
                )
    loaded = {}

    def trunk(x, prefix):
        if backbone is None:
            return vgg_trunk(x, filters, kernel_size, dropout_rate, momentum, prefix)
        body = backbone_body(backbone, (*shape[:2], RGB), weights, backbone_options)
        x = keras.layers.Conv2D(
            RGB, 1, use_bias=False, kernel_initializer=PartsOfSlices(), name=f"{prefix}slices_to_channels"
        )(x)
        x, of_body = _laid_out(body, x, prefix)
        loaded.update(of_body)
        x = keras.layers.GlobalAveragePooling2D(name=f"{prefix}gap")(x)
        return keras.layers.Dropout(dropout_rate, name=f"{prefix}dropout")(x)

    image = keras.Input(shape, name="image")
    name = "vgg2d" if backbone is None else f"{backbone.lower()}_volumes"
    model = keras.Model(image, volume_output(image, trunk, names, variant), name=name)
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None and backbone is None:
        weights_file.load(model, weights)
    elif weights is not None:
        _restore(model, loaded)
    return model


@keras.saving.register_keras_serializable(package="hcreg")
class PartsOfSlices(keras.initializers.Initializer):
    """Kernel of a 1 x 1 convolution that makes each channel the mean of one part of the slices, in their order.

    Examples
    --------
    >>> PartsOfSlices()((1, 1, 4, 2))[0, 0].numpy().tolist()
    [[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]
    """

    def __call__(self, shape, dtype=None):
        """Kernel of shape (1, 1, slices, channels)."""
        *_, slices, channels = shape
        edges = np.arange(channels + 1) * slices / channels
        first = np.maximum(edges[:-1], np.arange(slices)[:, None])
        last = np.minimum(edges[1:], np.arange(1, slices + 1)[:, None])
        shares = np.maximum(last - first, 0) * channels / slices
        return keras.ops.convert_to_tensor(shares.reshape(shape), dtype=dtype or keras.config.floatx())


def _laid_out(body, x, prefix):
    """The backbone called on another tensor, layer by layer: nested as one layer they could not be tapped.

    Returns its output, and the weights of its layers by their names here. With a prefix the layers are copies, so that
    several backbones fit into one network; all of them, for those inside nested models need other names as well.
    """
    graph = read_graph(body)
    values, placed = {graph.input: x}, {}
    for node in graph.nodes:
        original = node.layer
        if id(original) not in placed:
            placed[id(original)] = original, _renamed(original, prefix) if prefix else original
        outputs = replace(node, layer=placed[id(original)][1]).call([values[number] for number in node.inputs])
        values.update(zip(node.outputs, outputs, strict=True))
    layers = [pair for pair in placed.values() if isinstance(pair[0], keras.layers.Layer)]  # sums are no layers
    return values[graph.output], {layer.name: original.get_weights() for original, layer in layers}


def _renamed(operation, prefix):
    return operation.__class__.from_config({**operation.get_config(), "name": f"{prefix}{operation.name}"})


def _restore(model, loaded):
    """Give layers the weights that a backbone had, by their names: copies and `with_seed` draw anew."""
    for name, weights in loaded.items():
        set_weights(model.get_layer(name), weights)
