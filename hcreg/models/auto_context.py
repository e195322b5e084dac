"""Auto-Context: two networks trained one after the other, the second shown what the first found."""

import keras
from keras import ops

from hcreg.models import weights_file

LEVELS = ("first", "second")


@keras.saving.register_keras_serializable(package="hcreg")
class AutoContext(keras.Model):
    """Two segmentation networks in a row: the second sees the volume and, added to it, the foreground of the first.

    The first level sees the volume alone (plus a context of zeros); the second the element-wise sum of the volume and
    the first's foreground probability, one minus that of class 0. Input and outputs are those of the second network.

    Parameters
    ----------
    first, second : keras.Model
        Of one input shape, ``(batch, ..., channels)``; their output, or the one of their outputs named "mask", is a
        probability of each class ``(batch, ..., classes)``, the first class the background. `first` is frozen: it was
        trained before.
    weights : path-like, optional
        A ``.weights.h5`` file of both levels.
    name : str

    Attributes
    ----------
    first, second : keras.Model
        The levels: uncompiled models of the very layers of those that were given.

    Raises
    ------
    ValueError
        If one is no network of a mask, their inputs differ, they are one and the same network, or `weights` do not
        fit.
    FileNotFoundError
        If there is no file at the path `weights`.

    Notes
    -----
    It is a functional `keras.Model`: compile, fit, predict; ``save`` writes both levels into one ``.keras`` file, and
    ``save_weights`` into one ``.weights.h5``. Training it trains the second level; train the first by itself, before.
    No gradient reaches the first.

    More levels than two: an `AutoContext` may be the `first` of another.

    The foreground probability is added to every channel. Intensities in [0, 1] become values in [0, 2]; the paper adds
    likewise, and does not say how it keeps the two apart.

    References
    ----------
    .. [1] yang2020has, section on Auto-Context; "-Ctx" of its Table 1.

    Examples
    --------
    >>> def level():
    ...     volume = keras.Input((None, None, None, 1))
    ...     return keras.Model(volume, keras.layers.Conv3D(2, 1, activation="softmax", name="mask")(volume))
    >>> AutoContext(level(), level()).output_shape
    (None, None, None, None, 2)
    """

    def __init__(self, first, second, weights=None, name="auto_context"):
        levels = dict(zip(LEVELS, (first, second)))
        for which, network in levels.items():
            _check_level(which, network)
        if first is second:
            raise ValueError("AutoContext needs two networks, each with weights of its own. Received one twice.")
        shapes = first.input_shape, second.input_shape
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"The levels of AutoContext see the same volume, so they need one input shape. Received: {shapes[0]} "
                f"and {shapes[1]}."
            )
        # models of the same layers, without an optimiser that would be saved too, and by names of their own
        first, second = (keras.Model(network.input, network.output, name=which) for which, network in levels.items())
        first.trainable = False
        volume = keras.Input(first.input_shape[1:], name="image")
        super().__init__(volume, second(_with_context(volume, first(volume))), name=name)
        self.first, self.second = first, second
        if weights is not None:
            weights_file.load(self, weights)

    def second_input(self, volume):
        """What the second level is shown.

        Parameters
        ----------
        volume : tensor of shape (batch, ..., channels)

        Returns
        -------
        tensor of the same shape
        """
        return _with_context(volume, self.first(volume, training=False))

    def get_config(self):
        levels = {which: keras.saving.serialize_keras_object(getattr(self, which)) for which in LEVELS}
        return {**levels, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        levels = {
            which: keras.saving.deserialize_keras_object(config[which], custom_objects=custom_objects)
            for which in LEVELS
        }
        return cls(**levels, name=config["name"])


def _with_context(volume, predicted):
    mask = predicted["mask"] if isinstance(predicted, dict) else predicted
    foreground = ops.stop_gradient(1.0 - mask[..., :1])
    return volume + ops.cast(foreground, volume.dtype)


def _check_level(which, network):
    outputs = network.output if isinstance(network, keras.Model) else None
    mask = outputs.get("mask") if isinstance(outputs, dict) else outputs
    shape = getattr(mask, "shape", ())
    if len(shape) < 3 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            f"The {which} level of AutoContext is a network with a mask of two or more classes as output, alone or "
            f'named "mask". Received: {network!r} with outputs {outputs!r}.'
        )
