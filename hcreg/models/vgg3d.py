"""The 3-D VGG of zhang2021biometrics: volumes of the heart's structures from a stack of slices."""

import keras

from hcreg.models import weights_file
from hcreg.models.backbone import with_seed
from hcreg.models.vgg_trunk import CONVOLUTIONS, FILTERS, SMALLEST_SIDE, vgg_trunk
from hcreg.models.volume_output import (
    MOMENTUM,
    check_momentum,
    check_outputs,
    check_rate,
    check_sizes,
    check_stack_shape,
    volume_output,
)
from hcreg.preprocessing.cardiac import STRUCTURES

EXAMPLE = (224, 224, 9, 1)


def vgg3d(
    input_shape=EXAMPLE,
    outputs=STRUCTURES,
    variant="multi_label",
    kernel_size=(3, 3, 3),
    dropout_rate=0.5,
    filters=FILTERS,
    momentum=MOMENTUM,
    weights=None,
    seed=None,
) -> keras.Model:
    """Cardiac volumes from a stack of short-axis slices, by three-dimensional convolutions.

    Input ``(batch, height, width, slices, channels)``, float32, each stack standardised to mean 0 and standard
    deviation 1; output "volumes" ``(batch, number of outputs)``, float32, linear and without a unit: each volume as a
    fraction of the largest one of the training fold, times which it is a volume in ml or a count of voxels (the paper's
    "Volume" and "Pixel"). Which of them is the target's matter; the network is the same.

    Parameters
    ----------
    input_shape : tuple of int
        ``(height, width, slices, channels)``, height and width at least 8.
    outputs : sequence of str
        Names of the structures, in the order of the output.
    variant : {"multi_label", "multi_output", "single_label"}
        "multi_label": one trunk, and a number for each structure. "multi_output": a trunk of its own for each
        structure; the three numbers are joined, so that the output is the same. "single_label": one number, the sum of
        the structures, which is the total heart volume of the three.
    kernel_size : tuple of three int
        Of all convolutions: height, width, slices.
    dropout_rate : float in [0, 1)
        Before flattening.
    filters : tuple of five int
        Of the five blocks.
    momentum : float in [0, 1)
        Of the moving statistics of batch normalisation: the share that they keep of themselves at each step of
        training. At 0.99, Keras's default, some hundred steps go by until they suit inference; at 0.9 some tens.
    weights : path, optional
        A ``.weights.h5`` file of this very network.
    seed : int, optional
        Fixes the initial weights and the dropout masks, see `hcreg.models.backbone.with_seed`.

    Returns
    -------
    keras.Model
        Uncompiled. At the defaults with one number (``variant="single_label"``) 792,681 parameters, of them 791,625
        trainable; 562,785 and 561,729 with ``kernel_size=(3, 3, 2)``. The last convolution is "block5_conv3", and
        "block5_relu3" its map to be tapped; with "multi_output" there is one for each structure, "RV_block5_conv3".

    Raises
    ------
    ValueError
        For shapes, outputs, variants, kernels, filters, rates or momenta that are none, and weights that do not fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    Follows the 3-D VGG of [1]_ as its code has it: blocks of 2, 2, 3, 3 and 3 convolutions of 8, 16, 32, 64 and 64
    filters, each with bias and same padding, batch normalisation, ReLU; max-pooling of size 3 and stride 2 with same
    padding after the blocks 1, 2 and 5 only; dropout, flattening, one linear layer. Nine slices become 5, 3 and 2.

    The paper's counts of parameters are of one number. What its "three branches, one output each" means is not stated:
    here, three whole trunks side by side from one input, which share no weights. Neither are the initialiser (Glorot
    uniform), momentum (0.99) and epsilon (0.001) of the normalisation: these are Keras's defaults. Nothing keeps an
    output above 0 or below 1, as the linear layer is the paper's.

    The network knows no millimetres and no empty slices: a volume is right for stacks on the grid of the training's.
    All slices of a stack are read, and the flattening fixes their number. Shorter stacks are filled before: the
    paper repeats a slice (`hcreg.preprocessing.volumes.paper_slices`), a `hcreg.preprocessing.volumes.Frame` goes on
    with the border's.

    References
    ----------
    .. [1] zhang2021biometrics, section 5.

    Examples
    --------
    >>> vgg3d(variant="single_label").count_params()
    792681
    >>> vgg3d().output_shape
    (None, 3)
    """
    shape = check_stack_shape(input_shape, "vgg3d", smallest=(SMALLEST_SIDE, SMALLEST_SIDE, 1), example=EXAMPLE)
    names = check_outputs(outputs, variant)
    kernel_size = check_sizes(kernel_size, "kernel_size", 3, (3, 3, 3))
    filters = check_sizes(filters, "filters", len(CONVOLUTIONS), FILTERS)
    check_rate(dropout_rate)
    check_momentum(momentum)

    def trunk(x, prefix):
        return vgg_trunk(x, filters, kernel_size, dropout_rate, momentum, prefix)

    image = keras.Input(shape, name="image")
    model = keras.Model(image, volume_output(image, trunk, names, variant), name="vgg3d")
    if seed is not None:
        model = with_seed(model, seed)
    if weights is not None:
        weights_file.load(model, weights)
    return model
