"""Regression of head circumference on any backbone of `keras.applications`, and what all regressors share.

Shared are the check of the input shape, the output layer and the seeding (`check_input_shape`,
`regression_output`, `with_seed`). The backbone is laid into the regressor layer by layer, not nested as one
layer, so that ``model.get_layer("block5_conv3")`` can be tapped.
"""

import copy
import difflib
import inspect
import math
import os
from pathlib import Path

import keras
import numpy as np

OUTPUT_NAME = "hc_fraction"
_IMAGENET_STD = (0.229, 0.224, 0.225)  # per channel, of intensities in [0, 1]


def backbone_names():
    """Every backbone that the installed Keras offers.

    Returns
    -------
    list of str
        Read from `keras.applications`, sorted.

    Examples
    --------
    >>> "DenseNet121" in backbone_names()
    True
    """
    return sorted(name for name, item in vars(keras.applications).items() if inspect.isfunction(item))


def backbone_regressor(
    backbone,
    input_shape=(224, 224, 3),
    weights=None,
    head="gap",
    dropout_rate=0.0,
    trainable_backbone=True,
    seed=None,
    name=None,
    **backbone_options,
) -> keras.Model:
    """Head circumference from one image, on a backbone of `keras.applications`.

    Input ``(batch, height, width, channels)``, float32; output ``(batch, 1)``, float32, linear: the head
    circumference as a fraction of the largest one (in pixels) of the training fold.

    Parameters
    ----------
    backbone : str
        A name of `backbone_names`.
    input_shape : tuple of int
        ``(height, width, channels)``; height and width may be None with a head that pools.
    weights : {None, "imagenet"} or path
        None draws the weights at random, and nothing is downloaded. "imagenet" fetches Keras's own file. A
        path is a local file for the backbone without its top layers: a ``.weights.h5`` file, or a
        ``..._notop.h5`` file as Keras offers for download. A ``.weights.h5`` file of a whole regressor on
        this backbone serves too.
    head : {"gap", "flatten", "chi2025hc"} or callable
        What stands between the backbone's feature maps and the output layer: global average pooling or
        flattening, then dropout; the two dense layers of chi2025hc; or a function from the feature maps
        ``(batch, height, width, channels)`` to ``(batch, units)``.
    dropout_rate : float in [0, 1)
        Of "gap" and "flatten"; the other heads bring their own.
    trainable_backbone : bool
        If False, the backbone's weights stay as they are, and its batch normalisation stays in inference
        mode.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `with_seed`. Loaded weights stay as loaded.
    name : str, optional
        Name of the model; by default the backbone's in lower case and ``_regressor``.
    **backbone_options
        Handed to the backbone, as ``include_preprocessing=False`` or ``alpha=0.5``.

    Returns
    -------
    keras.Model
        Uncompiled; its input layer is named "image", its output layer "hc_fraction".

    Raises
    ------
    ValueError
        For an unknown backbone or head, an `input_shape` the backbone or head cannot take, or a weight file
        that does not fit.
    FileNotFoundError
        If there is no file at the path `weights`.
    ConnectionError
        If "imagenet" was asked for and cannot be fetched.

    Notes
    -----
    Intensities: a backbone with ImageNet weights was trained on RGB from 0 to 255 through its own
    ``preprocess_input``. The shared pipeline's images (grey standardised per image, repeated to three
    channels) are near that for DenseNet, which standardises too, and further off for the others. Random
    weights have no such preference. EfficientNet, EfficientNetV2, ConvNeXt and MobileNetV3 hold their
    preprocessing as layers and expect 0 to 255, or else see a nearly constant image; all but the first go
    without those layers with ``include_preprocessing=False``.

    EfficientNetB0 to B7 have one scaling layer more in Keras when built with ``weights="imagenet"``. Without
    it the same weights, loaded from a path, would see intensities half as large, and without a warning.
    Three-channel inputs get that layer here whatever `weights` is.

    The default head is no paper's but the smallest that works: it takes any image size and has one weight for
    each feature map, where flattening at 224 x 224 has 49. It drops nothing out by default: before a single linear
    output, dropout of 0.3 makes the output itself noisy (DenseNet121 on HC18 after 20 epochs: an error of 500 px
    with dropout in training, of 90 px without it on the validation images), and the network learns to bear that.

    The output layer computes in float32 under mixed precision as well. Just below 1, bfloat16 numbers are
    0.0039 apart, a step of 1.4 mm for a largest circumference of 346 mm.

    Examples
    --------
    >>> model = backbone_regressor("MobileNet", input_shape=(64, 64, 1), alpha=0.25, seed=0)
    >>> model.output_shape
    (None, 1)
    """
    shape = check_input_shape(input_shape, may_vary=head != "flatten", example=(224, 224, 3))
    make_features = _head(head, dropout_rate)
    body = backbone_body(backbone, shape, weights, backbone_options)
    body.trainable = trainable_backbone

    features = make_features(body.output)
    if len(features.shape) != 2:
        raise ValueError(
            "A head maps feature maps (batch, height, width, channels) to (batch, units). Received from "
            f"{head!r}: {tuple(features.shape)}. Pool or flatten in it."
        )
    # inputs[0], not input: a list there would make Keras warn at every call with a plain array.
    output = regression_output(features)
    model = keras.Model(body.inputs[0], output, name=name or f"{backbone.lower()}_regressor")
    if seed is None:
        return model
    seeded = with_seed(model, seed)
    if weights is not None:
        restore_body(seeded, body)
    return seeded


def backbone_body(backbone, shape, weights=None, options=None):
    """A backbone without its top layers, laid out layer by layer behind an input named "image".

    Parameters
    ----------
    backbone : str
    shape : tuple of int (height, width, channels)
    weights : {None, "imagenet"} or path
        As in `backbone_regressor`.
    options : dict, optional
        Arguments of the backbone.

    Returns
    -------
    keras.Model

    Raises
    ------
    ValueError, FileNotFoundError, ConnectionError
        As `backbone_regressor`.
    """
    application = _application(backbone)
    path = _weights_path(weights)
    if weights == "imagenet" and shape[-1] != 3:
        raise ValueError(
            f'weights="imagenet" of {backbone} expects 3 channels. Received: input_shape={shape}, with '
            f"{shape[-1]}. Repeat a grey image to three channels (numpy.repeat(images, 3, axis=-1)) and pass "
            f"input_shape={(*shape[:2], 3)}, or pass weights=None."
        )
    body = _build_body(application, backbone, shape, "imagenet" if weights == "imagenet" else None, options or {})
    if path is not None:
        _load_weights(body, backbone, shape, path)
    return body


def restore_body(model, body):
    """Give the layers of a network the loaded weights of the backbone they were cloned from.

    Parameters
    ----------
    model : keras.Model
        Of `with_seed`, which draws all weights anew.
    body : keras.Model
    """
    for layer in body.layers:
        set_weights(model.get_layer(layer.name), layer.get_weights())


def set_weights(layer, weights):
    """Give a layer weights, and what it computes with.

    Parameters
    ----------
    layer : keras.layers.Layer
    weights : list of ndarray
        As `keras.layers.Layer.get_weights` gives them.
    """
    layer.set_weights(weights)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()  # it computes with numbers of its own, made from its weights


def regression_output(features):
    """One linear unit in float32, which mixed precision does not round (see `backbone_regressor`).

    Parameters
    ----------
    features : KerasTensor of shape (batch, units)

    Returns
    -------
    KerasTensor of shape (batch, 1), float32
        Head circumference as a fraction of the training fold's largest.
    """
    return keras.layers.Dense(1, dtype="float32", name=OUTPUT_NAME)(features)


def check_input_shape(input_shape, may_vary=False, smallest=1, example=(128, 128, 1)):
    """Check the shape of one image.

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``.
    may_vary : bool
        Whether height and width may be None.
    smallest : int, px
        Least height and width.
    example : tuple of int
        Named in the error.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If it is anything else.
    """
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    sides_fit = len(shape) == 3 and all(
        (side is None and may_vary) or (_is_whole(side) and side >= smallest) for side in shape[:2]
    )
    if not sides_fit or not _is_whole(shape[2]) or shape[2] < 1:
        varying = ", or None where the image size varies" if may_vary else ""
        raise ValueError(
            "input_shape is (height, width, channels) in whole numbers, height and width at least "
            f"{smallest} px{varying}. Received: {input_shape!r}. Pass for example {example}."
        )
    return shape


def with_seed(model, seed):
    """The same architecture with every random draw fixed by one number.

    Parameters
    ----------
    model : keras.Model
        Functional.
    seed : int, 0 or more

    Returns
    -------
    keras.Model
        A copy with fresh weights: each layer's initialisers and dropout get seeds of their own, drawn from
        `seed` and the layer's place in the graph. A seed that a layer already has is kept. Nothing global is
        seeded.

    Notes
    -----
    Equal seeds give equal weights on one backend; TensorFlow and JAX draw differently. With ``seed=None`` the
    builders leave the draws to Keras, so that `keras.utils.set_random_seed` governs them. The order of
    batches and the augmentation have seeds elsewhere.

    Examples
    --------
    >>> image = keras.Input((4,))
    >>> model = keras.Model(image, keras.layers.Dense(2)(image))
    >>> first, second = with_seed(model, 7), with_seed(model, 7)
    >>> bool((first.get_weights()[0] == second.get_weights()[0]).all())
    True
    """
    if not _is_whole(seed) or seed < 0:
        raise ValueError(f"A seed is a whole number, 0 or more, or None. Received: {seed!r}.")
    # By place, not by name: Keras counts unnamed layers on through the process (conv2d_94), so names differ
    # between two builds of one backbone.
    place = {id(operation): index for index, operation in enumerate(model.operations)}

    def clone(operation):
        config = copy.deepcopy(operation.get_config())
        _fill_seeds(config, np.random.default_rng([int(seed), place[id(operation)]]))
        return operation.__class__.from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


def _fill_seeds(config, generator):
    """Set every empty entry "seed" of a nested configuration, in place."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "seed" and value is None:
                config[key] = int(generator.integers(2**31 - 1))
            else:
                _fill_seeds(value, generator)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _fill_seeds(value, generator)


def _is_whole(number):
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _application(backbone):
    """The function of `keras.applications` of that name."""
    names = backbone_names()
    if backbone in names:
        return getattr(keras.applications, backbone)
    lower = {name.lower(): name for name in names}
    near = [lower[match] for match in difflib.get_close_matches(str(backbone).lower(), lower, n=3, cutoff=0.5)]
    advice = f"Nearest: {', '.join(near)}." if near else f"Known: {', '.join(names)}."
    raise ValueError(f"A backbone is a name of keras.applications. Received: {backbone!r}. {advice}")


def _head(head, dropout_rate):
    """The function from feature maps to a vector that `head` stands for."""
    if callable(head):
        return head
    if head == "chi2025hc":
        return _two_dense_layers
    if head not in ("gap", "flatten"):
        raise ValueError(
            f'A head is "gap", "flatten", "chi2025hc" or a function of the feature maps. Received: {head!r}.'
        )
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate is at least 0 and below 1. Received: {dropout_rate!r}.")

    def features(maps):
        pool = keras.layers.GlobalAveragePooling2D if head == "gap" else keras.layers.Flatten
        return keras.layers.Dropout(dropout_rate, name="head_dropout")(pool(name=f"head_{head}")(maps))

    return features


def _two_dense_layers(maps):
    """Head of chi2025hc: average, then two dense layers with dropout."""
    x = keras.layers.GlobalAveragePooling2D(name="head_gap")(maps)
    for units in (512, 256):
        x = keras.layers.Dense(units, activation="relu", name=f"head_dense_{units}")(x)
        x = keras.layers.Dropout(0.3, name=f"head_dropout_{units}")(x)
    return x


def _weights_path(weights):
    """The local file that `weights` names, or None for no file."""
    if weights is None or weights == "imagenet":
        return None
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            f'weights is None, "imagenet" or the path of a local file. Received: {weights!r}, '
            f"a {type(weights).__name__}."
        )
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(
            f'No weight file at {path}. weights is None, "imagenet" or the path of a local .weights.h5 or '
            ".h5 file of the backbone without its top layers."
        )
    return path


def _build_body(application, backbone, shape, weights, options):
    """The backbone without top layers, its layers hung on an input named "image"."""
    image = keras.Input(shape, name="image")
    try:
        body = application(include_top=False, weights=weights, input_tensor=image, input_shape=shape, **options)
    except Exception as error:
        fetch_failed = isinstance(error, OSError) or str(error).startswith(("URL fetch failure", "Incomplete or corr"))
        if weights is None or not fetch_failed:
            raise
        raise ConnectionError(
            f'weights="imagenet" of {backbone} could not be downloaded: {error}. Without a network, pass '
            "the path of a local copy: weights=PATH of the backbone's ..._notop.h5 file as Keras offers it, "
            f"or of a .weights.h5 file saved from keras.applications.{backbone}(include_top=False) elsewhere."
        ) from error
    if not backbone.startswith("EfficientNetB") or weights == "imagenet" or shape[-1] != 3:
        return body

    def call(layer, *arguments, **keywords):
        maps = layer(*arguments, **keywords)
        if not isinstance(layer, keras.layers.Normalization):
            return maps
        # Keras adds this factor for its own download only; its comment cites tensorflow issue 49930.
        scale = [1 / math.sqrt(std) for std in _IMAGENET_STD]
        return keras.layers.Rescaling(scale, name="imagenet_scale")(maps)

    return keras.models.clone_model(body, call_function=call)


def _load_weights(body, backbone, shape, path):
    """Load a local file into the backbone, or say which file does not fit which backbone."""
    try:
        body.load_weights(str(path))
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ValueError(
            f"The weight file {path} does not fit {backbone} without top layers at input_shape={shape}. "
            f"Expected: keras.applications.{backbone}(include_top=False) for {shape[-1]} input channels, in "
            "Keras 3's format if the name ends in .weights.h5, the older one if it ends in .h5 alone. "
            f"Received: {type(error).__name__}: {reason}"
        ) from error
