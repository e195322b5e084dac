"""Intervals that assume no distribution: split-conformal and bootstrap."""

import math
from dataclasses import dataclass

import numpy as np

from hcreg.statistics.checks import check_finite, check_fraction, check_values

__all__ = ["BootstrapInterval", "bootstrap_interval", "conformal_quantile"]


@dataclass(frozen=True)
class BootstrapInterval:
    """A statistic with its bootstrap interval, as :func:`bootstrap_interval` returns it.

    Parameters
    ----------
    estimate : float
        The statistic of the values themselves.
    lower, upper : float
        Ends of the interval.
    standard_error : float
        Standard deviation of the resampled statistics.
    num_groups : int
        What was resampled: groups, or single values where there are none.
    """

    estimate: float
    lower: float
    upper: float
    standard_error: float
    num_groups: int


def bootstrap_interval(values, statistic, groups=None, confidence=0.95, num_resamples=2000, seed=0):
    """Percentile bootstrap interval of a statistic, resampling whole groups where groups are given.

    Images of one examination resemble each other: resampling images as if they were independent gives
    intervals that are too narrow. With ``groups`` whole examinations are drawn, with replacement, and all
    their images come along.

    Parameters
    ----------
    values : array-like of shape (num_subjects, ...)
        One row per subject: errors, or columns such as (y_true, y_pred) for a statistic of two.
    statistic : callable
        Takes an array like ``values``, with some rows repeated or absent, and returns a number:
        ``numpy.mean``, ``lambda rows: r2_score(rows[:, 0], rows[:, 1])``.
    groups : array-like of shape (num_subjects,), optional
        Examination of each subject.
    confidence : float in (0, 1)
    num_resamples : int
        At least 100; 2000 settles the ends of a 95 % interval to a few percent of its width.
    seed : int
        Equal seeds give equal intervals.

    Returns
    -------
    BootstrapInterval

    Raises
    ------
    ValueError
        If the values are empty or hold NaN or infinity, ``groups`` has another length, there are fewer than
        two groups, or the statistic of a resample is not one finite number.

    References
    ----------
    .. [1] efron1993bootstrap: Efron, Tibshirani: An introduction to the bootstrap (1993), sections 8 and 13.

    Examples
    --------
    >>> bootstrap_interval([1.0, 1.0, 3.0, 3.0], np.mean, groups=["a", "a", "b", "b"]).lower
    1.0
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"values must have one row per subject, at least two. Received shape: {values.shape}.")
    check_finite(values, "values")
    check_fraction(confidence, "confidence")
    if num_resamples < 100:
        raise ValueError(f"num_resamples must be at least 100. Received: {num_resamples}.")
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if groups.shape != (len(values),):
        raise ValueError(
            f"groups must name a group for each of the {len(values)} values. Received shape: {groups.shape}."
        )
    _, group_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    num_groups = len(counts)
    if num_groups < 2:
        raise ValueError("a bootstrap needs at least two groups to draw from. Received: 1.")
    # Members of a group are neighbours in `members`, from `starts` on: a draw of groups is then index
    # arithmetic.
    members = np.argsort(group_of, kind="stable")
    starts = np.cumsum(counts) - counts
    generator = np.random.default_rng(seed)
    estimate = _number(statistic, values)
    resampled = np.empty(num_resamples)
    for resample in range(num_resamples):
        drawn = generator.integers(num_groups, size=num_groups)
        lengths = counts[drawn]
        ends = np.cumsum(lengths)
        positions = np.arange(ends[-1]) + np.repeat(starts[drawn] - (ends - lengths), lengths)
        resampled[resample] = _number(statistic, values[members[positions]])
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(resampled, [tail, 1 - tail])
    return BootstrapInterval(
        estimate=estimate,
        lower=float(lower),
        upper=float(upper),
        standard_error=float(resampled.std(ddof=1)),
        num_groups=num_groups,
    )


def conformal_quantile(scores, coverage=0.9):
    r"""Quantile of calibration scores for split-conformal intervals that hold for any finite sample.

    It is the :math:`\lceil (n + 1)\, \mathrm{coverage} \rceil`-th smallest of n scores. With absolute errors
    on a calibration set as scores, ``y_pred - q`` to ``y_pred + q`` covers a new subject's truth with at
    least the wanted probability.

    Parameters
    ----------
    scores : array-like of shape (num_subjects,), any unit
        Nonconformity scores of subjects the model has *not* been trained on, for instance absolute errors in
        mm.
    coverage : float in (0, 1)
        Wanted probability that a new score is at most the quantile.

    Returns
    -------
    float, the unit of the scores
        ``inf`` where n is too small: 90 % needs 9 scores, 95 % needs 19.

    Raises
    ------
    ValueError
        If the scores are not 1-D, are empty, or hold NaN; if the coverage is not within (0, 1).

    Notes
    -----
    A subject in whom nothing could be measured has the score infinity: its share is beyond any finite interval.

    The promise needs exchangeable subjects. Images of one examination are not exchangeable with those of
    others: take one image per examination, or expect a coverage that is right on average over examinations
    only.

    References
    ----------
    .. [1] lei2018conformal: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive
       inference for regression. Journal of the American Statistical Association 113, 1094-1111 (2018),
       Algorithm 2.

    Examples
    --------
    >>> conformal_quantile([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 9.0, 7.0, 8.0], coverage=0.8)
    8.0
    >>> conformal_quantile([1.0, 2.0, 3.0], coverage=0.9)
    inf
    """
    scores = np.asarray(scores, dtype=np.float64)
    check_values(np.where(np.isposinf(scores), 0.0, scores), "scores", minimum=1)
    check_fraction(coverage, "coverage")
    # Binary fractions: 100 * 0.29 is 28.999999999999996, and 50 * 0.14 is 7.000000000000001, which is not 8.
    rank = math.ceil((scores.size + 1) * coverage - 1e-9)
    if rank > scores.size:
        return math.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


def _number(statistic, values):
    """The statistic as a float, or an error that says what came instead."""
    result = np.asarray(statistic(values))
    if result.size != 1 or not np.isfinite(result).all():
        raise ValueError(f"the statistic must return one finite number. Received: {result.tolist()}.")
    return float(result.reshape(()))
