"""What the networks of cardiac volumes share: the checks of their arguments, and outputs by variant.

A volume network reads a stack of short-axis slices and ends with one tensor "volumes", whatever its variant, so that
one loss and one set of targets fit them all.
"""

import keras
import numpy as np

from hcreg.preprocessing.cardiac import STRUCTURES

VARIANTS = ("multi_label", "multi_output", "single_label")
OUTPUT_NAME = "volumes"
MOMENTUM = 0.99  # Keras's default
AXES = ("height", "width", "slices")


def num_outputs(outputs, variant):
    """How many numbers a network of that variant gives.

    Parameters
    ----------
    outputs : sequence of str
        Structures.
    variant : {"multi_label", "multi_output", "single_label"}

    Returns
    -------
    int
        1 for "single_label", the sum of the structures; else one for each structure.

    Examples
    --------
    >>> num_outputs(("RV", "MYO", "LV"), "single_label")
    1
    """
    return 1 if variant == "single_label" else len(outputs)


def check_outputs(outputs, variant):
    """Refuse outputs that have no names, and variants that there are none of.

    Parameters
    ----------
    outputs : sequence of str
    variant : str

    Returns
    -------
    tuple of str
        The outputs.

    Raises
    ------
    ValueError
    """
    if variant not in VARIANTS:
        raise ValueError(
            'A volume network is of variant="multi_label", one trunk and all outputs, "multi_output", a trunk for each '
            f'output, or "single_label", their sum alone. Received: {variant!r}.'
        )
    names = tuple(outputs) if isinstance(outputs, (tuple, list)) else ()
    if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ValueError(
            "outputs names the structures that are measured, one or more of them, without spaces: for example "
            f"{STRUCTURES}. Received: {outputs!r}."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"outputs names each structure once. Received: {outputs!r}.")
    return names


def check_rate(dropout_rate):
    """Refuse what is no share of units to drop.

    Parameters
    ----------
    dropout_rate : float

    Raises
    ------
    ValueError
    """
    if isinstance(dropout_rate, bool) or not isinstance(dropout_rate, (int, float)) or not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate is at least 0 and below 1. Received: {dropout_rate!r}.")


def check_momentum(momentum):
    """Refuse what is no momentum of moving statistics.

    Parameters
    ----------
    momentum : float

    Raises
    ------
    ValueError
    """
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
        raise ValueError(
            "momentum is the share that moving statistics keep of themselves at each step, at least 0 and below 1. "
            f"Received: {momentum!r}."
        )


def check_sizes(sizes, argument, number=None, example=None):
    """Refuse what is no tuple of whole numbers above 0.

    Parameters
    ----------
    sizes : sequence of int
    argument : str
        Its name, for the message.
    number : int, optional
        How many there have to be; by default one or more.
    example : tuple of int, optional
        Named in the error.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
    """
    found = tuple(sizes) if isinstance(sizes, (tuple, list)) else ()
    fits = len(found) == number if number else len(found) > 0
    if not fits or not all(is_whole(size) and size > 0 for size in found):
        raise ValueError(
            f"{argument} is {number or 'one or more'} whole numbers above 0, such as {example}. Received: {sizes!r}."
        )
    return found


def check_stack_shape(input_shape, name, multiples=(1, 1, 1), smallest=(1, 1, 1), may_vary=False, example=None):
    """Check the shape of one stack of slices.

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, slices, channels)``.
    name : str
        Of the network, for messages.
    multiples : tuple of three int
        What height, width and slices must be multiples of.
    smallest : tuple of three int, voxels
        Least height, width and slices.
    may_vary : bool
        Whether these may be None.
    example : tuple of int
        Named in the error.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
    """
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    whole = all((is_whole(side) and side > 0) or (side is None and may_vary) for side in shape[:3])
    if len(shape) != 4 or not whole or not is_whole(shape[3]) or shape[3] < 1:
        varying = ", the first three or None where they vary" if may_vary else ""
        raise ValueError(
            f"input_shape of {name} is (height, width, slices, channels) in whole numbers{varying}. "
            f"Received: {input_shape!r}. Pass for example {example}."
        )
    known = [(*what, side) for *what, side in zip(AXES, smallest, multiples, shape) if side is not None]
    small = [f"{axis} at least {least}" for axis, least, _, side in known if side < least]
    if small:
        raise ValueError(
            f"{name} pools its input until too little is left of it: {', '.join(small)}. Received: "
            f"input_shape={shape}. Resample or pad the stacks, for example to {example}."
        )
    odd = [f"{axis} a multiple of {multiple}" for axis, _, multiple, side in known if side % multiple]
    if odd:
        nearest = [
            side if side is None else max(1, round(side / multiple)) * multiple
            for side, multiple in zip(shape, multiples)
        ]
        raise ValueError(
            f"{name} halves its input and doubles it again without a remainder: {', '.join(odd)}. Received: "
            f"input_shape={shape}. Crop or pad the stacks to the nearest, {' x '.join(map(str, nearest))}."
        )
    return shape


def volume_output(image, trunk, outputs, variant):
    """Volumes from one input, by one trunk or by one for each output.

    Parameters
    ----------
    image : KerasTensor
    trunk : callable
        From `image` and a prefix of layer names to features (batch, units).
    outputs : tuple of str
    variant : {"multi_label", "multi_output", "single_label"}

    Returns
    -------
    KerasTensor of shape (batch, `num_outputs`), float32
        Of the layer "volumes".

    Notes
    -----
    The layers compute in float32 under mixed precision as well: just below 1, bfloat16 numbers are 0.0039 apart, a step
    of 1.4 ml for a largest volume of 360 ml.
    """
    if variant != "multi_output" or len(outputs) == 1:
        units = num_outputs(outputs, variant)
        return keras.layers.Dense(units, dtype="float32", name=OUTPUT_NAME)(trunk(image, ""))
    columns = [
        keras.layers.Dense(1, dtype="float32", name=f"{name}_volume")(trunk(image, f"{name}_")) for name in outputs
    ]
    return keras.layers.Concatenate(dtype="float32", name=OUTPUT_NAME)(columns)


def is_whole(number):
    """Whether that is a whole number, which True is not.

    Parameters
    ----------
    number : object

    Returns
    -------
    bool
    """
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)
