"""What every loss does with its inputs: half precision to float32, and shapes, values and parameters checked."""

import keras
from keras import ops

__all__ = [
    "as_float32",
    "at_least_zero",
    "check_positive",
    "check_shapes",
    "check_shares",
    "concrete_range",
    "known_shape",
    "like_prediction",
    "one_of",
    "outside_shares",
    "share",
]

TOLERANCE = 1e-3  # by which a resampled mask may leave [0, 1]


def as_float32(x):
    """The tensor in float32 where it came in half precision, else as it is.

    Sums over the 50,000 pixels of an image need it: float16 ends at 65,504 and bfloat16 cannot count past 256.
    """
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def concrete_range(x):
    """Smallest and largest value of a tensor that holds numbers, None for one of a graph that is being compiled."""
    try:
        extent = float(ops.min(x)), float(ops.max(x))
    except TypeError:  # both TensorFlow and JAX raise it for a number not known yet
        return None
    return extent if all(isinstance(value, float) for value in extent) else None  # AutoGraph's float() gives a tensor


def check_shapes(y_true, y_pred, name, layout, ranks):
    """Refuse shapes that NumPy's broadcasting would make something else of.

    Parameters
    ----------
    y_true, y_pred : tensor
        Sizes unknown while a graph is compiled (None) fit any size.
    name, layout : str
        Of the loss, and of the shape it expects, for the message.
    ranks : tuple of int
        Numbers of axes that are allowed.

    Raises
    ------
    ValueError
        If one has another number of axes, or their sizes differ.
    """
    shapes = known_shape(y_true), known_shape(y_pred)
    if None in shapes:
        return
    alike = len(shapes[0]) == len(shapes[1]) and all(
        a == b or a is None or b is None for a, b in zip(*shapes, strict=True)
    )
    if not alike or len(shapes[1]) not in ranks:
        raise ValueError(
            f"{name} expects `y_true` and `y_pred` of one shape {layout}. "
            f"Received: {shapes[0]} and {shapes[1]}. {_remedy(*shapes)}"
        )


def known_shape(x):
    """Sizes of the axes, None for each that a graph does not know; None where it does not know how many there are."""
    try:
        return tuple(x.shape)
    except ValueError:  # TensorFlow's word for it, after a generator without shapes or a `py_function`
        return None


def like_prediction(y_true, y_pred):
    """The truth with the prediction's shape where the graph does not know its own.

    Sizes that differ then stop the run, where broadcasting would go on with a wrong number.
    """
    shape = known_shape(y_true)
    return y_true if shape is not None and None not in shape[1:] else ops.reshape(y_true, ops.shape(y_pred))


def check_positive(values, name):
    """Refuse true values to divide by that are zero, negative or NaN, in an eager call.

    Raises
    ------
    ValueError
        With the smallest value.
    """
    extent = concrete_range(values)
    if extent is not None and not extent[0] > 0:
        raise ValueError(
            f"{name} divides by the true value, which must be positive. "
            f"Received: a smallest `y_true` of {extent[0]:g}. Remove that subject or correct it."
        )


def outside_shares(x):
    """Whether any value of each image leaves [0, 1], of shape (batch,); for graphs, where nothing can be refused."""
    axes = tuple(range(1, len(x.shape)))
    return ops.logical_or(ops.min(x, axis=axes) < -TOLERANCE, ops.max(x, axis=axes) > 1 + TOLERANCE)


def check_shares(values, name, argument, remedy):
    """Refuse masks or probabilities outside [0, 1], in an eager call.

    Raises
    ------
    ValueError
        With both extremes. NaN passes: a network that diverged gives a loss of NaN.
    """
    extent = concrete_range(values)
    if extent is not None and (extent[0] < -TOLERANCE or extent[1] > 1 + TOLERANCE):
        raise ValueError(
            f"{name} expects `{argument}` in [0, 1]. Received: values from {extent[0]:g} to {extent[1]:g}. {remedy}"
        )


def one_of(value, allowed, name):
    """The form of a loss, if it is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} has the forms {', '.join(map(repr, allowed))}. Received: form={value!r}.")
    return value


def share(value, argument, name):
    """A parameter of a loss as a float in [0, 1]."""
    value = _number(value, argument, name)
    if not 0 <= value <= 1:
        raise ValueError(f"`{argument}` of {name} is a share from 0 to 1. Received: {value:g}.")
    return value


def at_least_zero(value, argument, name):
    """A parameter of a loss as a finite float, zero or more."""
    value = _number(value, argument, name)
    if not 0 <= value < float("inf"):
        raise ValueError(f"`{argument}` of {name} is a finite number from 0 on. Received: {value:g}.")
    return value


def _remedy(true_shape, predicted_shape):
    if len(true_shape) == len(predicted_shape) - 1:
        return "Give the truth its last axis: y_true[..., None]."
    if len(true_shape) != len(predicted_shape) or true_shape == predicted_shape:
        return "Bring both to that number of axes."
    if len(true_shape) > 2 and true_shape[:-1] == predicted_shape[:-1]:
        return (
            f"The last axis is {true_shape[-1]} in the truth and {predicted_shape[-1]} in the network's output: keep "
            "one channel of a mask stored as RGB, y_true[..., :1], or build the network with as many classes."
        )
    return "Bring the truth to the size of the network's output."


def _number(value, argument, name):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{argument}` of {name} is a number. Received: {value!r}.") from None
