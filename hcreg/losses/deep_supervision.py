"""The losses of a network with auxiliary outputs, one for each, and their weights."""

from hcreg.losses.inputs import at_least_zero
from hcreg.losses.segmentation import DiceCrossEntropy

OUTPUTS = ("mask", "mask_half", "mask_quarter")


def deep_supervision(weights=(1.0, 1.0, 1.0), dice_weight=0.0, form="paper"):
    """Losses of `hcreg.models.usegnet`: cross-entropy of its mask and, weighted, of the masks of a half and a quarter.

    Parameters
    ----------
    weights : sequence of one to three float, above 0
        Of the outputs "mask", "mask_half" and "mask_quarter". Of fewer the others are left out: ``(1.0,)`` is for a
        network without deep supervision.
    dice_weight : float in [0, 1]
        The share of Dice in each, see `hcreg.losses.DiceCrossEntropy`; 0 is cross-entropy alone.
    form : {"paper", "absolute"}
        As of `hcreg.losses.Dice`.

    Returns
    -------
    dict
        "loss", a dict of `hcreg.losses.DiceCrossEntropy` by output, and "loss_weights", a dict of float: arguments of
        `keras.Model.compile` and of `hcreg.training.fit`.

    Raises
    ------
    ValueError
        For other numbers of weights, a weight that is not above 0, and as `hcreg.losses.DiceCrossEntropy`.

    Notes
    -----
    The paper [1]_ adds the three with weight 1 and names no Dice. The cross-entropy is that of classes which exclude
    each other, a mean over the voxels of each output, so an auxiliary voxel weighs 8 and 64 times as much as one of the
    mask. Dice is a mean over the classes, the background among them.

    A penalty on the kernels' squares, which the original has as an option, is an argument of the network
    (``usegnet(l2=...)``): Keras adds it to the loss by itself.

    Targets are one for the class of a voxel, else zero: `hcreg.preprocessing.label_pyramids.pyramid_targets`.

    References
    ----------
    .. [1] yang2020has, its loss.

    Examples
    --------
    >>> arguments = deep_supervision(weights=(1.0, 0.5))
    >>> arguments["loss_weights"], sorted(arguments["loss"])
    ({'mask': 1.0, 'mask_half': 0.5}, ['mask', 'mask_half'])
    """
    numbers = [at_least_zero(weight, "weights", "deep_supervision") for weight in weights]
    if not 1 <= len(numbers) <= len(OUTPUTS) or min(numbers) == 0:
        raise ValueError(
            f"deep_supervision has a weight above 0 for each of the first of the outputs {', '.join(OUTPUTS)}. "
            f"Received: weights={tuple(weights)!r}."
        )
    loss = {
        output: DiceCrossEntropy(dice_weight, form, cross_entropy="categorical", name=f"{output}_loss")
        for output, _ in zip(OUTPUTS, numbers)
    }
    return {"loss": loss, "loss_weights": dict(zip(OUTPUTS, numbers))}
