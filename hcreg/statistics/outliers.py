"""Tukey's fences, and the values within them."""

import math

import numpy as np

from hcreg.statistics.checks import check_values

__all__ = ["tukey_fences", "without_outliers"]


def tukey_fences(values, k=1.5):
    r"""Fences :math:`q_1 - k\,(q_3 - q_1)` and :math:`q_3 + k\,(q_3 - q_1)`, beyond which a value is an outlier.

    Parameters
    ----------
    values : array-like of shape (num_subjects,), any unit
    k : float
        How many interquartile ranges from the quartiles; 0 or more. Tukey's inner fences have 1.5, his outer
        ones 3; callanan2022heatmap uses 1.5 and 5.

    Returns
    -------
    (float, float), the unit of the values
        Lower and upper fence.

    Raises
    ------
    ValueError
        If the values are not 1-D, are empty, or hold NaN or infinity; if k is negative or not finite.

    Notes
    -----
    Quartiles are interpolated linearly between the sorted values, as NumPy and SciPy do by default. Tukey's
    own hinges differ from them a little in small groups.

    References
    ----------
    .. [1] tukey1977exploratory: Tukey: Exploratory data analysis (1977), section 2.
    .. [2] callanan2022heatmap, outliers of the overlaps with the sex label.

    Examples
    --------
    >>> tukey_fences([1.0, 2.0, 3.0, 4.0, 5.0])
    (-1.0, 7.0)
    """
    values = check_values(values, "values", minimum=1)
    if not (math.isfinite(k) and k >= 0):
        raise ValueError(f"k must be a finite number of interquartile ranges, 0 or more. Received: {k}.")
    first, third = np.quantile(values, [0.25, 0.75])
    reach = k * (third - first)
    return float(first - reach), float(third + reach)


def without_outliers(values, k=1.5):
    """Values within :func:`tukey_fences`, those on a fence included, in the order given.

    Parameters
    ----------
    values : array-like of shape (num_subjects,), any unit
    k : float
        How many interquartile ranges from the quartiles the fences stand.

    Returns
    -------
    ndarray of shape (num_kept,), float64
        Never empty for the usual k of 1.5 and more.

    Raises
    ------
    ValueError
        As of :func:`tukey_fences`.

    Notes
    -----
    Fences are those of the values given: taking outliers out a second time may find more. Where half the
    values are equal the fences close up on them, and every other value is an outlier. Report a comparison
    with and without: what is left out can turn the sign of a difference of means.

    Examples
    --------
    >>> without_outliers([1.0, 2.0, 3.0, 4.0, 50.0])
    array([1., 2., 3., 4.])
    """
    values = check_values(values, "values", minimum=1)
    lower, upper = tukey_fences(values, k)
    return values[(lower <= values) & (values <= upper)]
