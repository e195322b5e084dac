"""How many subjects a comparison of two groups needs, and what it can find with those it has."""

import math
from typing import NamedTuple

from scipy import stats

from hcreg.statistics.checks import check_fraction

__all__ = ["SampleSizes", "power", "sample_size"]

# Pitman's efficiency of the Mann-Whitney test against the t-test for normal values.
_EFFICIENCY = {"t": 1.0, "mann_whitney": 3 / math.pi}
_LARGEST = 10**9
# SciPy's distribution is NaN from about 1e10 on, where the power has long been 1.
_MOST_NONCENTRAL = 1e9


class SampleSizes(NamedTuple):
    """Sizes of two groups, as :func:`sample_size` returns them."""

    num_a: int
    num_b: int


def power(effect_size_d, num_a, num_b=None, alpha=0.05, test="t"):
    r"""Probability that a two-sided test of two groups finds a difference that is there.

    .. math:: P(|T| > t_{1-\alpha/2,\,\nu}), \quad T \sim t'_\nu(\delta), \quad
              \delta = d \sqrt{\frac{n_a n_b}{n_a + n_b}}, \quad \nu = n_a + n_b - 2

    with the noncentral t distribution :math:`t'`.

    Parameters
    ----------
    effect_size_d : float
        Cohen's d of the whole population; its sign does not matter.
    num_a, num_b : int
        Sizes of the groups, 2 or more; equal ones where ``num_b`` is left out.
    alpha : float in (0, 1)
        Level of the test.
    test : {"t", "mann_whitney"}
        "mann_whitney" counts each subject as :math:`3 / \pi` (0.955) of one, the asymptotic relative efficiency
        for normal values.

    Returns
    -------
    float
        In [alpha, 1]; alpha itself for d = 0.

    Raises
    ------
    ValueError
        If d is not finite, a group has fewer than two members or a broken number of them, alpha is outside
        (0, 1), or the test is unknown.

    Notes
    -----
    The t-test is Student's, with one variance for both groups. For values far from normal the Mann-Whitney
    test needs fewer subjects than the t-test, not more: its efficiency is never below 0.864, and has no upper
    limit.

    References
    ----------
    .. [1] cohen1988power: Cohen: Statistical power analysis for the behavioral sciences, 2nd ed. (1988),
       section 2.
    .. [2] hodges1956efficiency: Hodges, Lehmann: The efficiency of some nonparametric competitors of the
       t-test. Annals of Mathematical Statistics 27, 324-335 (1956).

    Examples
    --------
    >>> round(power(0.5, 64), 4)
    0.8015
    """
    _check_effect(effect_size_d)
    check_fraction(alpha, "alpha", "0.05 for 5 %")
    num_b = num_a if num_b is None else num_b
    for name, num in (("num_a", num_a), ("num_b", num_b)):
        if num < 2 or num != int(num):
            raise ValueError(f"{name} must be a whole number of subjects, 2 or more. Received: {num}.")
    return _power(effect_size_d, num_a, num_b, alpha, _efficiency(test))


def sample_size(effect_size_d, power=0.8, alpha=0.05, ratio=1.0, test="t"):
    """Smallest groups in which a two-sided test finds a difference with the probability wanted.

    Parameters
    ----------
    effect_size_d : float
        Cohen's d of the whole population, not 0; its sign does not matter.
    power : float in (0, 1)
        Wanted probability, as :func:`power` computes it.
    alpha : float in (0, 1)
        Level of the test.
    ratio : float
        Size of group b over size of group a.
    test : {"t", "mann_whitney"}
        See :func:`power`.

    Returns
    -------
    SampleSizes
        ``num_a`` and ``num_b``, both at least 2; ``num_b`` is ``ratio * num_a``, rounded up.

    Raises
    ------
    ValueError
        If d is 0 or not finite, power or alpha is outside (0, 1), the ratio is not positive, the test is
        unknown, or a billion subjects in group a are too few.

    Notes
    -----
    Whole subjects: for d = 0.2 the equation's solution is 393.4 per group, and 394 are needed.

    References
    ----------
    .. [1] cohen1988power, section 2.

    Examples
    --------
    >>> sample_size(0.5)
    SampleSizes(num_a=64, num_b=64)
    """
    _check_effect(effect_size_d)
    check_fraction(power, "power", "0.8 for 80 %")
    check_fraction(alpha, "alpha", "0.05 for 5 %")
    if not (math.isfinite(ratio) and ratio > 0):
        raise ValueError(f"ratio must be a positive number, the size of group b over that of a. Received: {ratio}.")
    efficiency = _efficiency(test)

    def sizes(num_a):
        # Binary fractions: 100 * 0.55 is 55.00000000000001, which is not 56.
        return SampleSizes(num_a, max(2, math.ceil(num_a * ratio - 1e-9)))

    def suffices(num_a):
        return _power(effect_size_d, *sizes(num_a), alpha, efficiency) >= power

    enough = 2
    while not suffices(enough):
        if enough >= _LARGEST:
            raise ValueError(
                f"an effect_size_d of {effect_size_d} needs more than {_LARGEST} subjects in group a. "
                "Give an effect worth finding."
            )
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if suffices(middle) else (middle, enough)
    return sizes(max(enough, 2))


def _power(effect_size_d, num_a, num_b, alpha, efficiency):
    num_a, num_b = num_a * efficiency, num_b * efficiency
    degrees = num_a + num_b - 2
    noncentrality = min(abs(effect_size_d) * math.sqrt(num_a * num_b / (num_a + num_b)), _MOST_NONCENTRAL)
    critical = stats.t.isf(alpha / 2, degrees)
    # A tail of the wrong sign, below alpha / 2 and below Phi(-delta); where it is tiny SciPy's may be NaN.
    wrong_sign = stats.nct.cdf(-critical, degrees, noncentrality)
    found = stats.nct.sf(critical, degrees, noncentrality) + (0.0 if math.isnan(wrong_sign) else wrong_sign)
    return min(float(found), 1.0)


def _check_effect(effect_size_d):
    if not math.isfinite(effect_size_d):
        raise ValueError(f"effect_size_d must be finite. Received: {effect_size_d}.")


def _efficiency(test):
    if test not in _EFFICIENCY:
        raise ValueError(f"test must be one of {', '.join(map(repr, _EFFICIENCY))}. Received: {test!r}.")
    return _EFFICIENCY[test]
