"""Comparing two methods on the same subjects, and several comparisons together."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hcreg.statistics.checks import check_pairs

__all__ = ["PairedComparison", "compare_paired", "holm"]

# Up to this many unequal pairs the signed-rank test counts all 2^n sign flips; SciPy does so only without
# ties.
EXACT_UP_TO = 50


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
    errors_a, errors_b = check_pairs(errors_a, errors_b, "errors_a", "errors_b", minimum=1)
    differences = errors_a - errors_b
    unequal = differences[differences != 0]
    statistic, p_value = signed_rank_test(unequal) if unequal.size else (0.0, 1.0)
    return PairedComparison(
        mean_difference=float(differences.mean()),
        median_difference=float(np.median(differences)),
        statistic=statistic,
        p_value=p_value,
        num_pairs=int(differences.size),
        num_equal=int(differences.size - unequal.size),
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


def signed_rank_test(differences):
    """Wilcoxon's statistic and two-sided p-value of differences without zeros."""
    if differences.size > EXACT_UP_TO:
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
