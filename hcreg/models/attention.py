"""Any classifier or regressor made ready for a loss on where it looks."""

import keras

from hcreg.layers import GradCAM, HiResCAM, RelevanceSums, SwapOutside

_MAPS = {"hires_cam": HiResCAM, "grad_cam": GradCAM}


def with_attention(
    model,
    tap,
    cam="hires_cam",
    classes="all",
    swap=False,
    mask_channels=1,
    resize="area",
    output=None,
    before_activation=None,
) -> keras.Model:
    """A network that also tells where its scores come from, to be trained with `hcreg.losses.Heatmap`.

    Train what this returns; predict, save and explain with `model`, which shares the weights::

        guided = models.with_attention(model, tap="block5_conv3")
        guided.compile("adam", loss=losses.Heatmap(), metrics=losses.heatmap_metrics())
        guided.fit({"image": images, "mask": hearts}, labels)

    Parameters
    ----------
    model : keras.Model
        Of one input, with an output of shape (batch, classes) or (batch, 1).
    tap : str
        Name of the layer whose maps are weighed, usually the last convolution.
    cam : {"hires_cam", "grad_cam"}
        Which map.
    classes : {"all", "predicted"} or sequence of int
        For which scores maps are computed. All of them cost next to nothing for a few classes behind a small head; of a
        thousand classes name those that count, or take the predicted one.
    swap : bool
        Whether the network also sees each image with another's outside, for ``Heatmap(swap_weight=...)``; a step then
        costs twice as much.
    mask_channels : int
        1 for one mask an image, or the number of classes for a mask for each class.
    resize : {"area", "bilinear"}
        How masks are brought to the map's cells, as in `hcreg.layers.RelevanceSums`.
    output : str, optional
        Which output of a model that has several.
    before_activation : bool, optional
        Whether scores are what comes before a final softmax or sigmoid. By default where there are several classes,
        and for the one output of a classifier of hcreg.

    Returns
    -------
    keras.Model
        Of the inputs ``{"image": (batch, height, width, channels), "mask": (batch, height, width, mask_channels)}``, of
        stacks with an axis of slices before the channels: the mask is 1 where the network may look and 0 outside; all
        ones where an image has no mask. Its output is the tensor of `hcreg.attention.CHANNELS`, (batch, classes,
        channels).

    Raises
    ------
    ValueError
        If there is no such tap, or it has no spatial axes; if `cam` is another word; if the images' size is not fixed.

    Notes
    -----
    With ``swap=True`` a batch normalisation counts the swapped images too.

    References
    ----------
    .. [1] callanan2022heatmap

    Examples
    --------
    >>> from hcreg import models
    >>> guided = models.with_attention(models.cnn_classifier(), tap="conv4")
    >>> {name: tensor.shape for name, tensor in guided.input.items()}
    {'image': (None, 105, 135, 1), 'mask': (None, 105, 135, 1)}
    >>> guided.output_shape
    (None, 4, 7)
    """
    if cam not in _MAPS:
        raise ValueError(f"A map is {' or '.join(map(repr, _MAPS))}. Received: cam={cam!r}.")
    if isinstance(classes, str) and classes not in ("all", "predicted"):
        raise ValueError(
            'classes is "all", "predicted" or a list of numbers here; which of the maps counts, the true class\'s say, '
            f"the loss decides. Received: {classes!r}."
        )
    tapped = _MAPS[cam].tap(model, tap, classes=classes, output=output, before_activation=before_activation)
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype, name="image")
    mask = keras.Input((*model.inputs[0].shape[1:-1], mask_channels), name="mask")
    parts = tapped(image)
    inputs = [parts["logits"], parts["maps"], mask]
    if swap:
        inputs.append(tapped(SwapOutside(name="swap_outside")([image, mask]))["logits"])
    cam_layer = next(layer for layer in tapped.layers if isinstance(layer, _MAPS[cam]))
    sums = RelevanceSums(cam_layer.explained_classes, resize, name="attention")(inputs)
    return keras.Model({"image": image, "mask": mask}, sums, name=f"{model.name}_with_attention")
