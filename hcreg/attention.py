"""What a network made by `hcreg.models.with_attention` tells its loss: for each image and class a few numbers.

Keras hands a loss one tensor of predictions. Here it is of shape (batch, classes, channels), and this module is the one
place that knows which channel is what: `hcreg.layers.RelevanceSums` writes them, `hcreg.losses` reads them.
"""

CHANNELS = (
    "logit",  # the class's score before the softmax, or the number that a regressor predicts
    "outside",  # sum of absolute relevance outside the mask, in units of the score
    "total",  # sum of absolute relevance
    "signed_outside",  # sum of relevance outside the mask, signs kept
    "signed_total",  # sum of relevance: the score less its bias behind a linear head
    "positive_outside",  # mean over cells of positive relevance over its largest value, outside the mask
    "step",  # how many training steps the network has done
    "swapped_logit",  # the score when what is outside the mask is another image's; left out without swapping
)


def channel(predictions, name):
    """One of the numbers that the network tells its loss.

    Parameters
    ----------
    predictions : tensor of shape (batch, classes, channels)
        Output of a network made by `hcreg.models.with_attention`.
    name : str
        Of `CHANNELS`.

    Returns
    -------
    tensor of shape (batch, classes)

    Raises
    ------
    ValueError
        If the tensor is not the output of such a network, or there is no such channel.

    Examples
    --------
    >>> import numpy as np
    >>> predictions = np.arange(16.0).reshape(1, 2, 8)
    >>> channel(predictions, "total").tolist()
    [[2.0, 10.0]]
    """
    shape = tuple(predictions.shape)
    if len(shape) != 3 or shape[-1] not in (len(CHANNELS) - 1, len(CHANNELS)):
        raise ValueError(
            "Expected the output of a network made by hcreg.models.with_attention, of shape (batch, classes, "
            f"{len(CHANNELS) - 1}), or {len(CHANNELS)} with swapping. Received: shape {shape}. Train "
            "with_attention(model, tap=...) with this loss; the model itself, which shares the weights, predicts."
        )
    if name not in CHANNELS:
        raise ValueError(f"A channel is one of {', '.join(CHANNELS)}. Received: {name!r}.")
    if CHANNELS.index(name) >= shape[-1]:
        raise ValueError(
            "The network sees no images with another's outside, so there is no swapped_logit. Make it by "
            "with_attention(model, tap=..., swap=True), or train it with swap_weight=0."
        )
    return predictions[:, :, CHANNELS.index(name)]
