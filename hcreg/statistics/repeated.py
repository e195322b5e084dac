"""How much a measurement of the same subject changes when it is repeated."""

import math
from dataclasses import dataclass

import numpy as np

from hcreg.statistics.checks import check_values

__all__ = ["Reproducibility", "reproducibility"]


@dataclass(frozen=True)
class Reproducibility:
    """Spread of repeated measurements, as :func:`reproducibility` returns it, in the unit of the measurements.

    Parameters
    ----------
    mean_sd : float
        Mean over the subjects of the standard deviation of each one's measurements; zero is best.
    within_subject_sd : float
        Root of the mean of their variances, each weighted by its degrees of freedom.
    sd_of_subject : dict of str to float
        Standard deviation of each subject's measurements (n - 1 in the denominator), in the order of first appearance.
    num_measurements : int
        Of these subjects.
    left_out : tuple of str
        Subjects measured only once, who tell nothing.
    """

    mean_sd: float
    within_subject_sd: float
    sd_of_subject: dict
    num_measurements: int
    left_out: tuple


def reproducibility(values, subjects):
    r"""Spread of repeated measurements of the same subjects.

    With :math:`s_i` the standard deviation of the :math:`n_i` measurements of subject :math:`i` of :math:`N`,

    .. math::
        \text{mean SD} = \frac 1 N \sum_i s_i, \qquad
        s_w = \sqrt{\frac{\sum_i (n_i - 1)\, s_i^2}{\sum_i (n_i - 1)}}

    Parameters
    ----------
    values : array-like of shape (num_measurements,), one unit
    subjects : sequence of str, of the same length
        Whom each one is of, such as the `subject` of a record.

    Returns
    -------
    Reproducibility

    Raises
    ------
    ValueError
        If the two are not of one length, hold NaN or infinity, or no subject was measured twice.

    Notes
    -----
    The paper's figure is the mean SD over three scans of each head. Standard deviations of few measurements are too
    small on average, by 11 % for three; their mean inherits it, the within-subject SD does not. Compare methods by
    either on the same scans.

    References
    ----------
    .. [1] yang2020has, figure 9.
    .. [2] Bland, Altman: Measurement error. BMJ 312, 1654 (1996), for the within-subject standard deviation.

    Examples
    --------
    >>> found = reproducibility([10.0, 11.0, 12.0, 20.0, 20.0, 20.0], ["a", "a", "a", "b", "b", "b"])
    >>> found.mean_sd, round(found.within_subject_sd, 4), found.sd_of_subject
    (0.5, 0.7071, {'a': 1.0, 'b': 0.0})
    """
    values = check_values(values, "values", minimum=2)
    subjects = [str(subject) for subject in subjects]
    if len(subjects) != len(values):
        raise ValueError(
            f"values and subjects must be of one length. Received: {len(values)} values and {len(subjects)} subjects."
        )
    by_subject = {}
    for subject, value in zip(subjects, values, strict=True):
        by_subject.setdefault(subject, []).append(value)
    repeated = {subject: np.array(found) for subject, found in by_subject.items() if len(found) > 1}
    if not repeated:
        raise ValueError(
            f"no subject was measured twice: {len(by_subject)} subjects, one value each. Give the same subject to all "
            "scans of one, not an id of its own to every scan."
        )
    sds = {subject: float(found.std(ddof=1)) for subject, found in repeated.items()}
    freedom = {subject: len(found) - 1 for subject, found in repeated.items()}
    squares = sum(freedom[subject] * sd**2 for subject, sd in sds.items())
    return Reproducibility(
        mean_sd=float(np.mean(list(sds.values()))),
        within_subject_sd=math.sqrt(squares / sum(freedom.values())),
        sd_of_subject=sds,
        num_measurements=sum(map(len, repeated.values())),
        left_out=tuple(subject for subject in by_subject if subject not in repeated),
    )
