"""What a search may try: values drawn at random, walked as a grid, and embedded in the unit cube.

A search space is the ``space`` of a ``keras_tuner.HyperParameters``: a list of hyperparameters in the order in which
the model function asked for them, parents before those that depend on them. Values are a dict of the *active*
hyperparameters alone, those whose parents have the values that their conditions ask for.
"""

import hashlib
import json
import math
import numbers
import random

MAX_COLLISIONS = 20  # as many repeated draws as stock Keras Tuner allows before it takes a space for exhausted


def _canonical(name, value):
    """A JSON value that is the same for equal numbers, whatever their type and wherever they were kept."""
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return int(value) if value == int(value) else float(value)  # a database may give 1e20 back as an integer
    raise ValueError(
        f"The hyperparameter {name!r} has the value {value!r}. A value is a finite number, a text, True, False or "
        "None; mend the model function or the search space that gave it."
    )


def values_key(values):
    """Name a set of values, so that a database can refuse the same values twice.

    Parameters
    ----------
    values : dict of str to bool, int, float, str or None

    Returns
    -------
    str of length 64
        SHA-256 of the values as JSON with sorted names. Equal values have equal keys: the order of the dict does not
        count, nor whether a number is kept as 1 or as 1.0. True is not 1, and the text "1" is neither.

    Raises
    ------
    ValueError
        If a value is not finite or is not a number, text or truth value.

    Examples
    --------
    >>> values_key({"units": 32, "learning_rate": 0.001})[:12]
    '599e1f8666b6'
    >>> values_key({"learning_rate": 0.001, "units": 32.0})[:12]
    '599e1f8666b6'
    """
    canonical = {str(name): _canonical(name, value) for name, value in values.items()}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_active(hyperparameter, values):
    """Whether all conditions of a hyperparameter hold.

    Parameters
    ----------
    hyperparameter : keras_tuner hyperparameter
    values : dict

    Returns
    -------
    bool
    """
    return all(condition.is_active(values) for condition in hyperparameter.conditions)


def tunable(space):
    """The hyperparameters with more to choose from than one fixed value.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters

    Returns
    -------
    list
    """
    from keras_tuner.engine.hyperparameters import Fixed

    return [hyperparameter for hyperparameter in space if not isinstance(hyperparameter, Fixed)]


def active_values(space, values):
    """The values a trial had, seen from the space as it is known now.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters
    values : dict
        Of a trial, which may have begun before the whole space was known.

    Returns
    -------
    dict
        Those of the active hyperparameters; one that was not known then ran with its default.
    """
    found = {}
    for hyperparameter in space:
        if is_active(hyperparameter, found):
            found[hyperparameter.name] = values.get(hyperparameter.name, hyperparameter.default)
    return found


def value_at(hyperparameter, share):
    """The value at a share of a hyperparameter's range.

    Parameters
    ----------
    hyperparameter : keras_tuner hyperparameter
    share : float, 0 to 1

    Returns
    -------
    bool, int, float or str

    Notes
    -----
    Stock Keras Tuner leaves the range at share 1: a logarithmic ``Int`` without step gives ``max_value + 1``, a
    logarithmic ``Float`` may be one rounding error too large. Here the range is kept.
    """
    value = hyperparameter.prob_to_value(float(share))
    low, high = (getattr(hyperparameter, end, None) for end in ("min_value", "max_value"))
    return value if low is None else min(max(value, low), high)


def draw(space, taken, seed, num_draws):
    """Draw values at random that no trial has.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters
    taken : set of str
        Keys (`values_key`) of the values not to draw.
    seed : int
    num_draws : int
        How many numbers were drawn before; the next is drawn with a generator seeded ``seed + num_draws``.

    Returns
    -------
    values : dict or None
        None if more than `MAX_COLLISIONS` draws in a row were taken: the space is all but exhausted.
    num_draws : int
    """
    for _ in range(MAX_COLLISIONS + 1):
        values = {}
        for hyperparameter in space:
            if is_active(hyperparameter, values):
                share = random.Random(int(seed) + num_draws).random()
                values[hyperparameter.name] = value_at(hyperparameter, share)
                num_draws += 1
        if values_key(values) not in taken:
            return values, num_draws
    return None, num_draws


def choices(hyperparameter):
    """The values of a hyperparameter on a grid, its default first.

    Parameters
    ----------
    hyperparameter : keras_tuner hyperparameter

    Returns
    -------
    list
        All there are; 10 over the range, after the default, of a ``Float`` without ``step``.
    """
    return list(dict.fromkeys([hyperparameter.default, *hyperparameter.values]))


def combinations(space):
    """Walk the grid of all values, the last hyperparameter fastest.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters

    Yields
    ------
    dict
        Values of the active hyperparameters; the defaults first.
    """

    def walk(position, values):
        if position == len(space):
            yield dict(values)
        elif not is_active(space[position], values):
            yield from walk(position + 1, values)
        else:
            for value in choices(space[position]):
                yield from walk(position + 1, {**values, space[position].name: value})

    return walk(0, {})


def is_finite(space):
    """Whether the grid holds every value there is.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters

    Returns
    -------
    bool
    """
    return all(not hasattr(one, "min_value") or one.step is not None for one in space)


def to_vector(space, values):
    """Embed values in the unit cube.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters
    values : dict

    Returns
    -------
    list of float, 0 to 1
        One for each tunable hyperparameter, that of the default where it is inactive or was not known.

    Notes
    -----
    The embedding is stock Keras Tuner's, rounding included: with a step that is no binary fraction, such as 0.1, a
    value may stand at its neighbour's place. So that proposals stay equal to stock's it is kept.
    """
    return [
        one.value_to_prob(values[one.name] if is_active(one, values) and one.name in values else one.default)
        for one in tunable(space)
    ]


def from_vector(space, vector):
    """The values at a point of the unit cube.

    Parameters
    ----------
    space : sequence of keras_tuner hyperparameters
    vector : sequence of float, 0 to 1
        One for each tunable hyperparameter.

    Returns
    -------
    dict
    """
    values = {}
    shares = dict(zip(map(id, tunable(space)), vector, strict=True))
    for one in space:
        if is_active(one, values):
            values[one.name] = value_at(one, shares[id(one)]) if id(one) in shares else one.value
    return values
