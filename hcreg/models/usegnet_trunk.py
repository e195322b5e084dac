"""What USegNet, its two-dimensional form and its form without skip connections have in common.

Three times a block of two convolutions and a pooling, a block at the bottom, three times upwards by transposed
convolution; attention modules where asked for; an output at full size, and auxiliary ones at a half and a quarter.
"""

import keras

from hcreg.layers import AttentionModule, BatchNormalization, BatchStatistics, Conv3D, SideCheck
from hcreg.models import weights_file
from hcreg.models.backbone import with_seed
from hcreg.models.mask_output import check_output
from hcreg.models.volume_output import MOMENTUM, check_momentum, check_stack_shape, is_whole
from hcreg.preprocessing.label_pyramids import OUTPUTS

NUM_LEVELS = 3  # so often the sides are halved
MULTIPLE = 2**NUM_LEVELS
LEVELS = (1, 2, 3)
NORMALIZATIONS = ("batch_statistics", "batch", "instance", "group")
INITIALIZERS = ("he_normal", "paper")
ATTENTION_KERNELS = ("code", "paper")
NUM_GROUPS = 8
EXAMPLE = (160, 104, 176, 1)  # the paper's
PAPER_SIGMA, PAPER_BIAS = 0.001, 0.01
# Kernel sizes by level, the bottom last.
_ENCODER = (3, 3, 5, 5)
_SKIP_ATTENTION = (3, 3, 5)
_UPWARDS = (3, 5, 5)  # of transposed convolutions and of the attention after them
_LAYERS = {
    2: (keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.MaxPooling2D),
    3: (Conv3D, keras.layers.Conv3DTranspose, keras.layers.MaxPooling3D),
}


def check_volume_shape(input_shape, name):
    """Check the shape of one volume.

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, slices, channels)``.
    name : str
        Of the network, for messages.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
    """
    return check_stack_shape(
        input_shape, name, multiples=(MULTIPLE,) * 3, smallest=(MULTIPLE,) * 3, may_vary=True, example=EXAMPLE
    )


def build(
    name,
    shape,
    classes,
    *,
    deep_supervision,
    skip_attention,
    upsample_attention,
    has_skips=True,
    attention_kernel="code",
    filters=32,
    normalization="batch_statistics",
    momentum=MOMENTUM,
    initializer="he_normal",
    l2=0.0,
    rematerialise=False,
    seed=None,
    weights=None,
):
    """Build one of the networks.

    Parameters
    ----------
    name : str
    shape : tuple of int or None
        Of one image or volume, channels last.
    has_skips : bool
    classes, deep_supervision, skip_attention, upsample_attention, attention_kernel, filters, normalization, momentum
        As of `hcreg.models.usegnet`.
    initializer, l2, rematerialise, seed, weights
        As of `hcreg.models.usegnet`.

    Returns
    -------
    keras.Model

    Raises
    ------
    ValueError
        For arguments that there is no such network of; the shape is not looked at.
    """
    check_output(shape, classes, "mask", "softmax", name)
    if not is_whole(filters) or filters < 1:
        raise ValueError(f"filters of {name} is a whole number, 1 or more. Received: {filters!r}.")
    _check_levels(name, skip_attention=skip_attention, upsample_attention=upsample_attention)
    _check_one_of(name, ATTENTION_KERNELS, attention_kernel=attention_kernel)
    _check_one_of(name, NORMALIZATIONS, normalization=normalization)
    _check_one_of(name, INITIALIZERS, initializer=initializer)
    check_momentum(momentum)
    if normalization != "batch" and momentum != MOMENTUM:
        raise ValueError(
            'momentum is of normalization="batch"; the others have no moving statistics. '
            f"Received: momentum={momentum!r}."
        )
    if isinstance(l2, bool) or not isinstance(l2, (int, float)) or not 0 <= l2 < float("inf"):
        raise ValueError(f"l2 of {name} is a finite number from 0 on. Received: {l2!r}.")
    parts = _Parts(len(shape) - 1, filters, normalization, momentum, initializer, l2, attention_kernel, rematerialise)
    image = keras.Input(shape, name="image")
    x = SideCheck(MULTIPLE, name="side_check")(image)
    skips = []
    for level in LEVELS:
        x = parts.block(x, filters * min(level, 2), _ENCODER[level - 1], f"down{level}")
        skips.append(x)
        x = parts.pooling(2, name=f"down{level}_pool")(x)
    x = parts.block(x, 2 * filters, _ENCODER[NUM_LEVELS], "bottom")
    outputs = {}
    for level in reversed(LEVELS):
        x = parts.upwards(x, filters * min(level, 2), _UPWARDS[level - 1], f"up{level}")
        if has_skips:
            skip = skips[level - 1]
            if level in skip_attention:
                skip = parts.attention(skip, _SKIP_ATTENTION[level - 1], f"skip{level}_attention")
            x = keras.layers.Concatenate(name=f"up{level}_concat")([x, skip])
        if level in upsample_attention:
            x = parts.attention(x, _UPWARDS[level - 1], f"up{level}_attention")
        if level == 1 or deep_supervision:
            name_of_output = OUTPUTS[level - 1]
            outputs[name_of_output] = parts.output(x, classes, name_of_output)
    # alone as a tensor, as other networks of one mask have it
    found = {output: outputs[output] for output in OUTPUTS} if deep_supervision else outputs["mask"]
    model = keras.Model(image, found, name=name)
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model


def _check_levels(name, **arguments):
    for argument, levels in arguments.items():
        found = list(levels) if isinstance(levels, (tuple, list, set, frozenset)) else [None]
        if not all(is_whole(level) and level in LEVELS for level in found) or len(set(found)) < len(found):
            raise ValueError(
                f"{argument} of {name} names the levels that have an attention module, each once: some of 1 (full "
                f"size), 2 and 3 (a quarter), or () for none. Received: {levels!r}."
            )


def _check_one_of(name, allowed, **argument):
    ((argument, value),) = argument.items()
    if value not in allowed:
        raise ValueError(f"{argument} of {name} is one of {', '.join(map(repr, allowed))}. Received: {value!r}.")


class _Parts:
    """Layers of one number of axes, all of one normalisation and one initialisation."""

    def __init__(self, ndim, filters, normalization, momentum, initializer, l2, attention_kernel, rematerialise):
        self.convolution, self.transposed, self.pooling = _LAYERS[ndim]
        self.filters, self.normalization, self.momentum = filters, normalization, momentum
        self.of_paper, self.l2 = initializer == "paper", l2
        self.attention_kernel, self.rematerialise = attention_kernel, rematerialise

    def block(self, x, filters, kernel_size, name):
        for number in (1, 2):
            convolution = self.convolution(
                filters, kernel_size, padding="same", name=f"{name}_conv{number}", **self._start("he_normal")
            )
            x = self._normalised(convolution(x), name, number)
        return x

    def upwards(self, x, filters, kernel_size, name):
        transposed = self.transposed(
            filters, kernel_size, strides=2, padding="same", name=f"{name}_upconv", **self._start("he_normal")
        )
        return self._normalised(transposed(x), name)

    def attention(self, x, kernel_size, name):
        return AttentionModule(
            self.filters,
            2 * self.filters,
            3 if self.attention_kernel == "paper" else kernel_size,
            rematerialise=self.rematerialise,
            name=name,
            **self._start("glorot_uniform"),
        )(x)

    def output(self, x, classes, name):
        logits = self.convolution(classes, 1, name=f"{name}_logits", **self._start("glorot_uniform"))(x)
        # float32 under mixed precision too, see `hcreg.models.mask_output`
        return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)

    def _start(self, kernel_initializer):
        """Initialisers and penalty of one convolution; the paper's are the same for all."""
        bias_initializer = "zeros"
        if self.of_paper:
            kernel_initializer = keras.initializers.TruncatedNormal(stddev=PAPER_SIGMA)
            bias_initializer = keras.initializers.Constant(PAPER_BIAS)
        return {
            "kernel_initializer": kernel_initializer,
            "bias_initializer": bias_initializer,
            "kernel_regularizer": keras.regularizers.L2(self.l2) if self.l2 else None,
        }

    def _normalised(self, x, name, number=""):
        layer_name, channels = f"{name}_norm{number}", x.shape[-1]
        if self.normalization == "batch_statistics":
            x = BatchStatistics(name=layer_name)(x)
        elif self.normalization == "batch":
            x = BatchNormalization(momentum=self.momentum, name=layer_name)(x)
        else:
            groups = next(groups for groups in range(min(NUM_GROUPS, channels), 0, -1) if channels % groups == 0)
            groups = channels if self.normalization == "instance" else groups
            x = keras.layers.GroupNormalization(groups, name=layer_name)(x)
        return keras.layers.ReLU(name=f"{name}_relu{number}")(x)
