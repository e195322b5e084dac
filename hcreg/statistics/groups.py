"""Comparing two groups: normal or not, the test that follows, how large the difference is."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hcreg.statistics.checks import check_fraction, check_pairs, check_values
from hcreg.statistics.paired import EXACT_UP_TO, signed_rank_test

__all__ = ["GroupComparison", "GroupSummary", "compare_groups"]

_SHAPIRO_FROM, _SHAPIRO_UP_TO = 3, 5000
_TESTS = {False: ("t", "mann_whitney"), True: ("paired_t", "wilcoxon")}
# Differences for an interval of the shift: 80 MB, and two copies while they are sorted.
_MOST_PAIRS = 10_000_000


@dataclass(frozen=True)
class GroupSummary:
    """One group of values, or the differences of pairs, as :class:`GroupComparison` holds it.

    Parameters
    ----------
    num : int
    mean, median, sd : float, the unit of the values
        ``sd`` has n - 1 in the denominator.
    shapiro_w, shapiro_p : float or None
        Shapiro-Wilk statistic and p-value: the smaller, the less normal. None where the test is undefined.
    normality : str
        "normal", "not normal", or why the test is undefined.
    """

    num: int
    mean: float
    median: float
    sd: float
    shapiro_w: float | None
    shapiro_p: float | None
    normality: str


@dataclass(frozen=True)
class GroupComparison:
    """Comparison of two groups, as :func:`compare_groups` returns it.

    Parameters
    ----------
    a, b : GroupSummary
    differences : GroupSummary or None
        Of the differences a - b of pairs.
    test : {"t", "mann_whitney", "paired_t", "wilcoxon"}
    reason : str
        Why this test.
    method : {"t distribution", "exact", "asymptotic"}
        Where the p-value comes from.
    statistic : float
        Student's or Welch's t; Mann-Whitney's U of group a; Wilcoxon's smaller rank sum.
    p_value : float
        Two-sided; 1.0 if all values, or all pairs, are equal.
    u : float or None
        Mann-Whitney's U of group a, whichever the test; None for pairs.
    cohens_d : float
        Difference of the means a - b over the pooled standard deviation; for pairs over the standard deviation
        of the differences. Where that is 0: 0.0 for equal means, otherwise infinite with the sign of a - b.
    common_language_effect_size : float in [0, 1]
        Share of all pairs of one value of a and one of b in which a is greater, equal ones counted half:
        U / (n_a n_b). For paired groups the share of the subjects.
    difference : float or None, the unit of the values
        With a t-test the difference of the means a - b; with a rank test the median of all differences of a
        value of a and one of b, for pairs of all means of two differences (Hodges-Lehmann).
    interval : (float, float) or None, the unit of the values
        Interval of the difference, of confidence 1 - alpha; infinite where a rank test has too few values to
        reach alpha. With a rank test ``difference`` and ``interval`` are None above 10 million differences.
    """

    a: GroupSummary
    b: GroupSummary
    differences: GroupSummary | None
    test: str
    reason: str
    method: str
    statistic: float
    p_value: float
    u: float | None
    cohens_d: float
    common_language_effect_size: float
    difference: float | None
    interval: tuple[float, float] | None


def compare_groups(a, b, paired=False, alpha=0.05, test="auto", method="auto", equal_variances=False):
    """Compare two groups of values by a t-test or a rank test, two-sided, with effect sizes.

    Without a test named, Shapiro-Wilk decides: a t-test if it does not refute normality at ``alpha`` in either
    group (for pairs: in their differences), otherwise the rank test. The rank test is also taken where
    Shapiro-Wilk is undefined: below 3 values, above 5000, or with all values equal.

    Parameters
    ----------
    a, b : array-like of shape (num_a,) and (num_b,), one unit
        Values of each group, at least two. If paired, of the same subjects in one order.
    paired : bool
        Whether a and b belong to the same subjects: two models on the same images are paired.
    alpha : float in (0, 1)
        Level below which normality is given up; 1 - alpha is the confidence of the interval.
    test : {"auto", "t", "mann_whitney", "paired_t", "wilcoxon"}
        "t" and "mann_whitney" are for groups, the others for pairs. Name the test where it is fixed in advance.
    method : {"auto", "asymptotic"}
        P-value of a rank test. "auto" is exact, with ties too, up to 50 values in each group or 50 unequal pairs,
        and SciPy's normal approximation beyond; "asymptotic" always approximates.
    equal_variances : bool
        False is Welch's t-test, True is Student's.

    Returns
    -------
    GroupComparison

    Raises
    ------
    ValueError
        If the groups are not 1-D, have fewer than two values, hold NaN or infinity, or are paired and of
        different lengths; if alpha, the test or the method is unknown; if a t-test is named where nothing
        varies.

    Notes
    -----
    Callanan's p-values are SciPy's ``mannwhitneyu`` with its defaults, ``use_continuity=True`` and
    ``method="auto"``, which approximates above 8 values in both groups; here that is
    ``method="asymptotic"``. Of all groups of up to 70 values, U = 0 has p = 3.16e-9 for 23 and 25 only. U = 483
    and an effect size of .9545 are 23 and 22 values, with p = 1.88e-7 (1.77e-7 without the continuity
    correction); 483 = 23 * 22 - 23 is what a single value of the 22 above all of the 23 leaves, which fits the
    one outlier that turns the raw means around. So far out in the tail the approximation is cautious: the
    exact values are 6e-14 and 2.8e-9.

    Departures from the thesis: the t-test is Welch's, which needs no equal variances, and p-values are exact
    where they can be. Cohen's d and its pooled standard deviation are the thesis's; they are of the values given,
    outliers included (see :func:`without_outliers`).

    A test chosen by a look at the same values keeps its level only nearly. Not to refute normality is no proof
    of it, least of all in groups of few values, where hardly anything is refuted.
    SciPy's ``shapiro`` calls equal values normal (W = 1), and its p-values above 5000 values are not to be
    relied on: both are None here.

    The interval of a rank test has the ranks of the normal approximation, rounded outwards.

    References
    ----------
    .. [1] callanan2022heatmap, comparison of the heatmap loss with cross-entropy.
    .. [2] shapiro1965normality: Shapiro, Wilk: An analysis of variance test for normality. Biometrika 52,
       591-611 (1965).
    .. [3] mann1947test: Mann, Whitney: On a test of whether one of two random variables is stochastically
       larger than the other. Annals of Mathematical Statistics 18, 50-60 (1947).
    .. [4] welch1947: Welch: The generalization of "Student's" problem when several different population
       variances are involved. Biometrika 34, 28-35 (1947).
    .. [5] mcgraw1992common: McGraw, Wong: A common language effect size statistic. Psychological Bulletin
       111, 361-365 (1992).
    .. [6] cohen1988power, section 2.
    .. [7] hodges1963estimates: Hodges, Lehmann: Estimates of location based on rank tests. Annals of
       Mathematical Statistics 34, 598-611 (1963).

    Examples
    --------
    >>> found = compare_groups([1.0, 2.0, 3.0, 4.0], [3.5, 5.0, 6.0, 7.0], test="mann_whitney")
    >>> found.u, found.common_language_effect_size, found.method
    (1.0, 0.0625, 'exact')
    >>> compare_groups([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], paired=True).cohens_d
    -2.0
    """
    if paired:
        a, b = check_pairs(a, b, "a", "b", minimum=2)
    else:
        a, b = check_values(a, "a", minimum=2), check_values(b, "b", minimum=2)
    check_fraction(alpha, "alpha", "0.05 for 5 %")
    if test not in ("auto", *_TESTS[paired]):
        raise ValueError(
            f"test must be one of {', '.join(map(repr, ('auto', *_TESTS[paired])))} with paired={paired}. "
            f"Received: {test!r}."
        )
    if method not in ("auto", "asymptotic"):
        raise ValueError(f"method must be 'auto' or 'asymptotic'. Received: {method!r}.")
    if paired:
        return _compare_pairs(a, b, alpha, test, method)
    return _compare_independent(a, b, alpha, test, method, equal_variances)


def _compare_independent(a, b, alpha, test, method, equal_variances):
    summary_a, summary_b = _summary(a, alpha), _summary(b, alpha)
    u = _num_greater(a, b)
    difference = summary_a.mean - summary_b.mean
    degrees = a.size + b.size - 2
    variance = ((a.size - 1) * summary_a.sd**2 + (b.size - 1) * summary_b.sd**2) / degrees
    test, reason = _choose(test, _TESTS[False], alpha, a=summary_a, b=summary_b)
    if test == "t":
        _check_varies(variance, "in neither group")
        result = stats.ttest_ind(a, b, equal_var=bool(equal_variances))
        source, statistic, p_value = "t distribution", result.statistic, result.pvalue
        shift, interval = difference, result.confidence_interval(1 - alpha)
    else:
        source, p_value = _mann_whitney(a, b, method)
        statistic = u
        # The ranks that U may reach: mean n_a n_b / 2 of all n_a n_b differences.
        spread = math.sqrt(a.size * b.size * (a.size + b.size + 1) / 12)
        shift, interval = None, None
        if a.size * b.size <= _MOST_PAIRS:
            shift, interval = _shift(np.subtract.outer(a, b).ravel(), spread, alpha)
    return GroupComparison(
        a=summary_a,
        b=summary_b,
        differences=None,
        test=test,
        reason=reason,
        method=source,
        statistic=float(statistic),
        p_value=float(p_value),
        u=u,
        cohens_d=_standardised(difference, math.sqrt(variance)),
        common_language_effect_size=u / (a.size * b.size),
        difference=shift,
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
    )


def _compare_pairs(a, b, alpha, test, method):
    pairs = a - b
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bit: differences vary only beyond the rounding of a and b.
    summary = _summary(pairs, alpha, rounding=4 * np.finfo(float).eps * max(np.abs(a).max(), np.abs(b).max()))
    test, reason = _choose(test, _TESTS[True], alpha, differences=summary)
    n = pairs.size
    if test == "paired_t":
        _check_varies(summary.sd, "in no difference of a pair")
        result = stats.ttest_1samp(pairs, 0.0)
        source, statistic, p_value = "t distribution", result.statistic, result.pvalue
        shift, interval = summary.mean, result.confidence_interval(1 - alpha)
    else:
        source, statistic, p_value = _wilcoxon(pairs[pairs != 0], method)
        shift, interval = None, None
        if n * (n + 1) // 2 <= _MOST_PAIRS:
            rows, columns = np.triu_indices(n)
            spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
            shift, interval = _shift((pairs[rows] + pairs[columns]) / 2, spread, alpha)
    return GroupComparison(
        a=_summary(a, alpha),
        b=_summary(b, alpha),
        differences=summary,
        test=test,
        reason=reason,
        method=source,
        statistic=float(statistic),
        p_value=float(p_value),
        u=None,
        cohens_d=_standardised(summary.mean, summary.sd),
        common_language_effect_size=float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2),
        difference=shift,
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
    )


def _summary(values, alpha, rounding=0.0):
    """Mean, median, spread and normality; values within the rounding of each other are equal."""
    equal = np.ptp(values) <= rounding
    w, p_value = None, None
    if equal:
        normality = "undefined: all values are equal"
    elif values.size < _SHAPIRO_FROM:
        normality = f"undefined: fewer than {_SHAPIRO_FROM} values"
    elif values.size > _SHAPIRO_UP_TO:
        normality = f"not computed: more than {_SHAPIRO_UP_TO} values"
    else:
        # SciPy takes a range below 1e-19 for none, and calls it normal.
        result = stats.shapiro((values - np.median(values)) / np.ptp(values))
        w, p_value = float(result.statistic), float(result.pvalue)
        normality = "normal" if p_value >= alpha else "not normal"
    return GroupSummary(
        num=int(values.size),
        # The mean of three times 0.1 is 0.10000000000000002.
        mean=float(values[0] if equal else values.mean()),
        median=float(np.median(values)),
        sd=0.0 if equal else float(values.std(ddof=1)),
        shapiro_w=w,
        shapiro_p=p_value,
        normality=normality,
    )


def _choose(test, tests, alpha, **summaries):
    """The t-test or the rank test, and why."""
    if test != "auto":
        return test, "named by the caller"
    found = "; ".join(
        f"{name}: {summary.normality}" + ("" if summary.shapiro_p is None else f" (p = {summary.shapiro_p:.3g})")
        for name, summary in summaries.items()
    )
    normal = all(summary.normality == "normal" for summary in summaries.values())
    return tests[0] if normal else tests[1], f"Shapiro-Wilk at {alpha:g}, {found}"


def _num_greater(a, b):
    """Mann-Whitney's U of a: pairs in which a is greater, equal ones counted half."""
    b = np.sort(b)
    below, up_to = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float((below + up_to).sum() / 2)


def _mann_whitney(a, b, method):
    """Source of the p-value, and the p-value."""
    both = np.concatenate([a, b])
    num_distinct = np.unique(both).size
    if num_distinct == 1:
        return "exact", 1.0
    if method == "asymptotic" or max(a.size, b.size) > EXACT_UP_TO:
        return "asymptotic", min(stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=True).pvalue, 1.0)
    if num_distinct == both.size:
        return "exact", min(stats.mannwhitneyu(a, b, method="exact").pvalue, 1.0)
    return "exact", _exact_with_ties(both, a.size)


def _exact_with_ties(both, num_a):
    """Share of all choices of group a out of both whose rank sum is as far from its mean as that observed."""
    # Ranks of ties end in .5: doubled they are whole. chosen[k, s]: choices of k values with the sum s.
    ranks = np.round(2 * stats.rankdata(both)).astype(int)
    observed, total = int(ranks[:num_a].sum()), int(ranks.sum())
    chosen = np.zeros((num_a + 1, total + 1))
    chosen[0, 0] = 1.0
    for rank in ranks:
        chosen[1:, rank:] += chosen[:-1, : total + 1 - rank].copy()
    mean = num_a * (both.size + 1)
    as_far = np.abs(np.arange(total + 1) - mean) >= abs(observed - mean)
    return min(float(chosen[-1, as_far].sum() / chosen[-1].sum()), 1.0)


def _wilcoxon(unequal, method):
    if unequal.size == 0:
        return "exact", 0.0, 1.0
    if method == "auto":
        return "exact" if unequal.size <= EXACT_UP_TO else "asymptotic", *signed_rank_test(unequal)
    result = stats.wilcoxon(unequal, method="approx")
    return "asymptotic", result.statistic, result.pvalue


def _shift(differences, spread, alpha):
    """Hodges-Lehmann estimate, and the interval between the differences of the ranks the test does not reject."""
    rank = math.floor(differences.size / 2 - stats.norm.isf(alpha / 2) * spread)
    estimate = float(np.median(differences))
    if rank < 1:
        return estimate, (-math.inf, math.inf)
    ordered = np.partition(differences, [rank - 1, differences.size - rank])
    return estimate, (ordered[rank - 1], ordered[differences.size - rank])


def _standardised(difference, sd):
    if sd > 0:
        return difference / sd
    return math.copysign(math.inf, difference) if difference else 0.0


def _check_varies(spread, where):
    if not spread > 0:
        raise ValueError(
            f"a t-test needs values that vary; they do {where}. Leave the test to 'auto', or name the rank test."
        )
