"""The end of every classifier: logits in float32, then probabilities, each a layer of its own to be tapped."""

import keras
import numpy as np

from hcreg.layers.tapping import PROBABILITIES_NAME

ACTIVATIONS = ("softmax", "sigmoid", None)
LOGITS_NAME = "logits"


def class_output(features, num_classes, activation="softmax"):
    """Class scores from a vector of features.

    Parameters
    ----------
    features : KerasTensor of shape (batch, units)
    num_classes : int
        At least 1; at least 2 with "softmax", which makes of one score the number 1.
    activation : {"softmax", "sigmoid", None}
        "softmax" for classes of which exactly one is true, "sigmoid" for classes each judged by itself, None for the
        logits as they are.

    Returns
    -------
    KerasTensor of shape (batch, num_classes), float32
        Output of a layer "probabilities", or of the layer "logits" if `activation` is None.

    Raises
    ------
    ValueError
        For another activation or number of classes.

    Notes
    -----
    The logits are a layer of their own because attribution maps explain them: behind a softmax, evidence against the
    other classes would mix in, and the gradient of a certain answer vanishes. Both layers compute in float32 under
    mixed precision as well.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            'An activation of a classifier is "softmax", "sigmoid" or None, which leaves the logits. '
            f"Received: {activation!r}."
        )
    smallest = 2 if activation == "softmax" else 1
    is_whole = isinstance(num_classes, (int, np.integer)) and not isinstance(num_classes, bool)
    if not is_whole or num_classes < smallest:
        raise ValueError(
            f"num_classes is a whole number, at least {smallest} with activation={activation!r}. "
            f'Received: {num_classes!r}. For yes or no, pass num_classes=1 and activation="sigmoid".'
        )
    logits = keras.layers.Dense(num_classes, dtype="float32", name=LOGITS_NAME)(features)
    if activation is None:
        return logits
    return keras.layers.Activation(activation, dtype="float32", name=PROBABILITIES_NAME)(logits)
