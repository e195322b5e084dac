"""USegNet of yang2020has: whole fetal heads in ultrasound volumes, by deep supervision and hybrid attention."""

import keras

from hcreg.models.usegnet_trunk import LEVELS, build, check_volume_shape
from hcreg.models.volume_output import MOMENTUM

# Arguments of the paper's rows.
ABLATIONS = {
    "USegNet": {"deep_supervision": False, "skip_attention": (), "upsample_attention": ()},
    "USegNet-DS": {"skip_attention": (), "upsample_attention": ()},
    "USegNet-DS-UAM": {"skip_attention": ()},
    "USegNet-DS-SAM": {"upsample_attention": ()},
    "USegNet-DS-HAS": {},
    "SAM-1": {"skip_attention": (1,), "upsample_attention": ()},
    "SAM-12": {"skip_attention": (1, 2), "upsample_attention": ()},
    "UAM-1": {"skip_attention": (), "upsample_attention": (1,)},
    "UAM-12": {"skip_attention": (), "upsample_attention": (1, 2)},
}


def usegnet(
    input_shape=(None, None, None, 1),
    classes=2,
    deep_supervision=True,
    skip_attention=LEVELS,
    upsample_attention=LEVELS,
    attention_kernel="code",
    filters=32,
    normalization="batch_statistics",
    momentum=MOMENTUM,
    initializer="he_normal",
    l2=0.0,
    rematerialise=False,
    weights=None,
    seed=None,
) -> keras.Model:
    """Mask of a whole fetal head in a volume, by a U-Net with attention on its skip connections and after upsampling.

    Input ``(batch, height, width, slices, channels)``, float32, each volume scaled to [0, 1], sides multiples of 8
    (`hcreg.preprocessing.padding`). Output "mask" ``(batch, height, width, slices, classes)``, float32: the probability
    of each class in a voxel, background first. With deep supervision a dict of it and of "mask_half" and
    "mask_quarter", the same at a half and a quarter of the sides.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, slices, channels)``; the first three are multiples of 8, or None.
    classes : int
        2 or more, the background among them.
    deep_supervision : bool
        Whether there are the two auxiliary outputs.
    skip_attention : tuple of int
        Levels whose skip connection passes an attention module ("SAM"): some of 1 (full size), 2 and 3, or () for none.
    upsample_attention : tuple of int
        Levels with an attention module ("UAM") after upsampling and concatenation.
    attention_kernel : {"code", "paper"}
        Kernel size within the attention modules: as the level's, 3 or 5, as the paper's code has it, or always 3, as
        its text says.
    filters : int
        Of the first level and within the attention modules; everything else has twice as many.
    normalization : {"batch_statistics", "batch", "instance", "group"}
        After each convolution of a block. "batch_statistics" normalises by the batch at hand, after training too
        (`hcreg.layers.BatchStatistics`): train and predict with one volume a batch. "batch" is batch normalisation,
        which wants several. "instance" normalises each channel of each volume by itself, "group" groups of channels.
    momentum : float in [0, 1)
        Of the moving statistics with ``normalization="batch"``, see `hcreg.models.unet3d`.
    initializer : {"he_normal", "paper"}
        Initial weights: He-normal before a ReLU, Glorot-uniform without one, biases 0; or all kernels from a normal
        distribution cut off at two sigma, sigma 0.001, and all biases 0.01.
    l2 : float, 0 or more
        Factor of the sum of all kernels' squares, which Keras adds to the loss, in training and in validation.
    rematerialise : bool
        Whether training computes the inside of the attention modules anew in place of keeping it: less memory, more
        time, the same numbers. See the notes.
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled; 6,142,918 trainable parameters at the defaults, 4,336,582 with ``attention_kernel="paper"``. Its
        loss: `hcreg.losses.deep_supervision`.

    Raises
    ------
    ValueError
        For sides that are no multiples of 8, here or on a call; levels, normalisations and so on that there are none
        of; a momentum without batch normalisation; weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    Follows the network of [1]_ as its code has it. Levels of two convolutions with bias, normalisation, ReLU: 32-32 and
    64-64 filters of 3 x 3 x 3, 64-64 of 5 x 5 x 5, the same at the bottom; 2 x 2 x 2 max-pooling. Upwards a transposed
    convolution with normalisation and ReLU, concatenation of [up, skip], attention; no dropout and no other
    convolutions. Auxiliary outputs are a 1 x 1 x 1 convolution each. Attention on a skip connection changes what is
    concatenated, not what is pooled.

    Where a level has no attention after upsampling, its auxiliary output, the next transposed convolution or the last
    1 x 1 x 1 convolution take the concatenation itself: the network has no other convolutions that could. "SAM-1",
    "SAM-12" and their like are taken for networks of deep supervision with attention of that one kind at those levels.

    Memory of a training step, as it adds to that of a process on a CPU in float32: 1.8 GB at 80 x 56 x 88, and 1.6 GB
    with `rematerialise`, some 3.6 and 3.3 kB a voxel beside what does not depend on the size; from that, 11 and 10 GB
    at the paper's 160 x 104 x 176. On an accelerator ``keras.config.set_dtype_policy("mixed_bfloat16")``, before the
    network is built, makes the maps half as large; on a CPU it saves next to nothing.

    Departures: the bias of a transposed convolution stands before its normalisation, in the original after it, where it
    doubles the one that normalisation has; initial weights, unless ``initializer="paper"``, whose small kernels leave
    the variance of many maps far below normalisation's epsilon of 0.001. Batch statistics are the original's; at 8 x 8
    x 8 voxels the bottom has a single one, which they normalise to nothing.

    References
    ----------
    .. [1] yang2020has, its network "USegNet-DS-HAS" and the ablations.

    Examples
    --------
    >>> model = usegnet(input_shape=(16, 16, 24, 1), filters=2)
    >>> {name: output.shape[1:] for name, output in model.output.items()}
    {'mask': (16, 16, 24, 2), 'mask_half': (8, 8, 12, 2), 'mask_quarter': (4, 4, 6, 2)}
    >>> usegnet(filters=2, deep_supervision=False, skip_attention=(), upsample_attention=()).output_shape
    (None, None, None, None, 2)
    """
    return build(
        "usegnet",
        check_volume_shape(input_shape, "usegnet"),
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
