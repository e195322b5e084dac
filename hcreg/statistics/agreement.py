"""Agreement of two measurements of the same subjects."""

import math
from dataclasses import dataclass

from scipy import stats

from hcreg.statistics.checks import check_fraction, check_pairs

__all__ = ["BlandAltman", "bland_altman"]


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
    a, b = check_pairs(a, b, "a", "b", minimum=3)
    check_fraction(confidence, "confidence")
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
