"""Statistics for comparing measurements: agreement, paired tests, conformal and bootstrap intervals.

NumPy and SciPy only. NaN is refused everywhere: a subject that is missing is a fact to explain, and SciPy
would pass the NaN on or drop the pair in silence.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "BlandAltman",
    "BootstrapInterval",
    "PairedComparison",
    "bland_altman",
    "bootstrap_interval",
    "compare_paired",
    "conformal_quantile",
    "holm",
]

# Up to this many unequal pairs the signed-rank test counts all 2^n sign flips; SciPy does so only without
# ties.
_EXACT_UP_TO = 50


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two measurements, as :func:`bland_altman` returns it; all in the unit of the measurements.

    Parameters
    ----------
    bias : float
        Mean of the differences a - b.
    sd : float
        Standard deviation of the differences (n - 1 in the denominator).
    lower, upper : float
        Limits of agreement: about 95 % of the differences lie between them.
    bias_interval, lower_interval, upper_interval : (float, float)
        Confidence interval of each of the three.
    num_pairs : int
    """

    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: tuple[float, float]
    lower_interval: tuple[float, float]
    upper_interval: tuple[float, float]
    num_pairs: int


@dataclass(frozen=True)
class PairedComparison:
    """Paired comparison of two methods, as :func:`compare_paired` returns it.

    Parameters
    ----------
    mean_difference, median_difference : float, the unit of the errors
        Of ``errors_a - errors_b``: negative where method a errs less.
    statistic : float
        Wilcoxon's: the smaller of the two rank sums; 0.0 if all pairs are equal.
    p_value : float
        Two-sided; 1.0 if all pairs are equal.
    num_pairs : int
    num_equal : int
        Pairs without a difference, which the test leaves out.
    """

    mean_difference: float
    median_difference: float
    statistic: float
    p_value: float
    num_pairs: int
    num_equal: int


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


def bland_altman(a, b, confidence=0.95):
    r"""Bland-Altman agreement of two measurements of the same subjects.

    With the differences :math:`d_i = a_i - b_i`, their mean :math:`\bar d` and standard deviation :math:`s`,
    the limits of agreement are :math:`\bar d \pm 1.96 s`.

    Parameters
    ----------
    a, b : array-like of shape (num_subjects,), one unit
        The two measurements, in one order. For a bias "prediction minus truth" pass ``a=y_pred, b=y_true``.
    confidence : float in (0, 1)
        Level of the three confidence intervals; the limits stay those of 95 % of the differences.

    Returns
    -------
    BlandAltman

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, have fewer than three pairs, or hold NaN or infinity.

    Notes
    -----
    The intervals are Student's, with n - 1 degrees of freedom and the standard errors :math:`s / \sqrt n`
    for the bias and :math:`s \sqrt{1/n + 1.96^2 / (2(n-1))}` for a limit ([1]_, section 2.3; 1.71 s /
    sqrt(n) for large n). They assume normal differences and independent subjects; images of one examination
    are not independent.

    References
    ----------
    .. [1] bland1999agreement: Bland, Altman: Measuring agreement in method comparison studies. Statistical
       Methods in Medical Research 8, 135-160 (1999).
    .. [2] yang2020has, Bland-Altman plots of the head volumes.

    Examples
    --------
    >>> agreement = bland_altman([11.0, 12.0, 13.0], [10.0, 10.0, 10.0])
    >>> agreement.bias, agreement.sd, round(agreement.upper, 2)
    (2.0, 1.0, 3.96)
    """
    a, b = _paired(a, b, "a", "b", minimum=3)
    _check_fraction(confidence, "confidence")
    differences = a - b
    n = differences.size
    bias = float(differences.mean())
    sd = float(differences.std(ddof=1))
    z = float(stats.norm.ppf(0.975))
    t = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    bias_reach = t * sd / math.sqrt(n)
    limit_reach = t * sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    lower, upper = bias - z * sd, bias + z * sd
    return BlandAltman(
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        bias_interval=(bias - bias_reach, bias + bias_reach),
        lower_interval=(lower - limit_reach, lower + limit_reach),
        upper_interval=(upper - limit_reach, upper + limit_reach),
        num_pairs=n,
    )


def holm(p_values):
    """Holm's correction of p-values for multiple tests.

    The smallest of m p-values is multiplied by m, the next by m - 1 and so on; a corrected value is never
    below one before it, nor above 1.

    Parameters
    ----------
    p_values : array-like of shape (num_tests,), in [0, 1]

    Returns
    -------
    ndarray of shape (num_tests,)
        Corrected p-values in the order given: reject where one is at most the level wanted for the whole
        family.

    Raises
    ------
    ValueError
        If they are not 1-D, are empty, or not within [0, 1] (NaN is not).

    References
    ----------
    .. [1] holm1979: Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of
       Statistics 6, 65-70 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or p_values.size == 0:
        raise ValueError(f"p_values must be of shape (num_tests,), not empty. Received: {p_values.shape}.")
    if not np.all((p_values >= 0) & (p_values <= 1)):
        raise ValueError(f"p_values must lie in [0, 1]. Received: {p_values.tolist()}.")
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(p_values.size, 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def compare_paired(errors_a, errors_b):
    """Compare the errors of two methods on the same subjects: Wilcoxon's signed-rank test, two-sided.

    Parameters
    ----------
    errors_a, errors_b : array-like of shape (num_subjects,), one unit
        Error of each method on each subject, usually the absolute error in mm, in one order.

    Returns
    -------
    PairedComparison

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, are empty, or hold NaN or infinity.

    Notes
    -----
    The p-value is exact, with ties too, for up to 50 unequal pairs, and SciPy's normal approximation beyond.
    Pairs without a difference are left out, as Wilcoxon did. If there are no others, the p-value is 1: there
    is no sign of a difference, where SciPy gives NaN. For several comparisons correct the p-values with
    :func:`holm`.

    References
    ----------
    .. [1] wilcoxon1945: Wilcoxon: Individual comparisons by ranking methods. Biometrics Bulletin 1, 80-83
       (1945).

    Examples
    --------
    >>> compare_paired([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]).p_value
    0.125
    """
    errors_a, errors_b = _paired(errors_a, errors_b, "errors_a", "errors_b", minimum=1)
    differences = errors_a - errors_b
    unequal = differences[differences != 0]
    statistic, p_value = _signed_rank_test(unequal) if unequal.size else (0.0, 1.0)
    return PairedComparison(
        mean_difference=float(differences.mean()),
        median_difference=float(np.median(differences)),
        statistic=statistic,
        p_value=p_value,
        num_pairs=int(differences.size),
        num_equal=int(differences.size - unequal.size),
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
    _finite(np.where(np.isposinf(scores), 0.0, scores), "scores", minimum=1)
    _check_fraction(coverage, "coverage")
    # Binary fractions: 100 * 0.29 is 28.999999999999996, and 50 * 0.14 is 7.000000000000001, which is not 8.
    rank = math.ceil((scores.size + 1) * coverage - 1e-9)
    if rank > scores.size:
        return math.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


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
    _check_finite(values, "values")
    _check_fraction(confidence, "confidence")
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


def _signed_rank_test(differences):
    """Wilcoxon's statistic and two-sided p-value of differences without zeros."""
    if differences.size > _EXACT_UP_TO:
        result = stats.wilcoxon(differences)
        return float(result.statistic), float(result.pvalue)
    # Ranks of ties end in .5: doubled they are whole, and polynomial products count the sign flips per rank
    # sum.
    ranks = np.round(2 * stats.rankdata(np.abs(differences))).astype(int)
    total = int(ranks.sum())
    flips = np.zeros(total + 1)
    flips[0] = 1.0
    for rank in ranks:
        flips[rank:] = flips[rank:] + flips[: total + 1 - rank]
    positive = int(ranks[differences > 0].sum())
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * positive - total)
    return min(positive, total - positive) / 2, min(float(flips[as_far].sum() / flips.sum()), 1.0)


def _number(statistic, values):
    """The statistic as a float, or an error that says what came instead."""
    result = np.asarray(statistic(values))
    if result.size != 1 or not np.isfinite(result).all():
        raise ValueError(f"the statistic must return one finite number. Received: {result.tolist()}.")
    return float(result.reshape(()))


def _finite(values, name, minimum):
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must be of shape (num_subjects,). Received: {values.shape}. Squeeze it first.")
    if values.size < minimum:
        raise ValueError(f"{name} needs at least {minimum} values. Received: {values.size}.")
    _check_finite(values, name)
    return values


def _paired(a, b, name_a, name_b, minimum):
    a, b = _finite(a, name_a, minimum), _finite(b, name_b, minimum)
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} and {name_b} must be pairs, of one length. Received: {a.size} and {b.size} values. "
            "Use the subjects that both methods have measured."
        )
    return a, b


def _check_finite(values, name):
    finite = np.isfinite(values)
    if not finite.all():
        rows = np.unique(np.nonzero(~finite)[0])
        shown = ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
        raise ValueError(
            f"{name} must be finite. NaN or infinite: {len(rows)} of {len(values)} subjects, at {shown}. "
            "Find out why: leaving a subject out changes the result."
        )


def _check_fraction(value, name):
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, for instance 0.9 for 90 %. Received: {value}.")
