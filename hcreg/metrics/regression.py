"""Errors of a regressed number over a whole test set; NumPy only.

Every function takes the whole set at once, one number per subject: a root taken per batch or per subject and
then averaged is not a root mean squared error. Lengths may be in mm or px; the result is in the same unit.
"""

import numpy as np

__all__ = [
    "mean_absolute_error",
    "mean_error",
    "median_absolute_error",
    "percentage_mean_absolute_error",
    "r2_score",
    "root_mean_squared_error",
]


def mean_absolute_error(y_true, y_pred):
    r"""Mean absolute error over a test set.

    .. math:: \mathrm{MAE} = \frac{1}{N} \sum_{i=1}^{N} |y_i - \hat{y}_i|

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        Reference and predicted values, in one order.

    Returns
    -------
    float, the unit of ``y_true``
        In [0, inf); zero is best.

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, are empty, or hold NaN or infinity (the indexes are named).

    References
    ----------
    .. [1] zhang2021biometrics, columns "MAE (mm)" and "MAE (pixel)" of its tables.

    Examples
    --------
    >>> mean_absolute_error([100.0, 200.0], [101.0, 198.0])
    1.5
    """
    y_true, y_pred = _checked(y_true, y_pred)
    return float(np.mean(np.abs(y_true - y_pred)))


def percentage_mean_absolute_error(y_true, y_pred):
    r"""Mean of the absolute errors, each in percent of its own true value.

    .. math:: \mathrm{PMAE} = \frac{100}{N} \sum_{i=1}^{N} \frac{|y_i - \hat{y}_i|}{y_i}

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        As in :func:`mean_absolute_error`; ``y_true`` positive.

    Returns
    -------
    float, percent
        In [0, inf); zero is best. It is the same for px and mm where each image has one pixel size.

    Raises
    ------
    ValueError
        As :func:`mean_absolute_error`, and if a true value is zero or negative.

    Notes
    -----
    Percent, as in the papers' tables: truth 4 and prediction 5 give 25, where scikit-learn's
    ``mean_absolute_percentage_error`` gives 0.25.

    References
    ----------
    .. [1] zhang2021biometrics, column "PMAE (%)" of its tables.

    Examples
    --------
    >>> percentage_mean_absolute_error([4.0, 10.0], [5.0, 9.0])
    17.5
    """
    y_true, y_pred = _checked(y_true, y_pred)
    wrong = np.flatnonzero(y_true <= 0)
    if wrong.size:
        raise ValueError(
            "a percentage error needs positive true values. "
            f"`y_true` is zero or negative at {_positions(wrong)}. Remove those subjects or correct them."
        )
    return float(100.0 * np.mean(np.abs(y_true - y_pred) / y_true))


def root_mean_squared_error(y_true, y_pred):
    r"""Root mean squared error over a test set: one root, over all subjects.

    .. math:: \mathrm{RMSE} = \sqrt{\frac{1}{N} \sum_{i=1}^{N} (y_i - \hat{y}_i)^2}

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        As in :func:`mean_absolute_error`.

    Returns
    -------
    float, the unit of ``y_true``
        In [0, inf), never below the mean absolute error; zero is best.

    Raises
    ------
    ValueError
        As :func:`mean_absolute_error`.

    References
    ----------
    .. [1] zhang2021biometrics, column "RMSE" of its tables; chi2025hc.

    Examples
    --------
    >>> round(root_mean_squared_error([0.0, 0.0], [3.0, 4.0]), 4)
    3.5355
    """
    y_true, y_pred = _checked(y_true, y_pred)
    return float(np.sqrt(np.mean((y_true - y_pred) ** 2)))


def r2_score(y_true, y_pred):
    r"""Coefficient of determination: the part of the truth's variance that the predictions explain.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat{y}_i)^2}{\sum_i (y_i - \bar{y})^2}

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        As in :func:`mean_absolute_error`; at least two different true values.

    Returns
    -------
    float
        In (-inf, 1]; one is best, zero is what predicting the mean gives, below that is worse than the mean.

    Raises
    ------
    ValueError
        As :func:`mean_absolute_error`, and if all true values are equal: the score is not defined then.

    References
    ----------
    .. [1] chi2025hc, column "R2" of its results.

    Examples
    --------
    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    y_true, y_pred = _checked(y_true, y_pred)
    if np.all(y_true == y_true[0]):
        raise ValueError(
            f"r2_score needs at least two different true values. Received: {y_true.size}, all {y_true[0]:g}."
        )
    residual = np.sum((y_true - y_pred) ** 2)
    return float(1.0 - residual / np.sum((y_true - np.mean(y_true)) ** 2))


def median_absolute_error(y_true, y_pred):
    """Median of the absolute errors: half of the subjects are measured at least as well.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        As in :func:`mean_absolute_error`.

    Returns
    -------
    float, the unit of ``y_true``
        In [0, inf); zero is best. A few gross failures do not move it: read it beside the mean.

    Raises
    ------
    ValueError
        As :func:`mean_absolute_error`.

    Examples
    --------
    >>> median_absolute_error([1.0, 2.0, 3.0], [1.5, 2.0, 90.0])
    0.5
    """
    y_true, y_pred = _checked(y_true, y_pred)
    return float(np.median(np.abs(y_true - y_pred)))


def mean_error(y_true, y_pred):
    r"""Mean signed error, the bias: prediction minus truth.

    .. math:: \frac{1}{N} \sum_{i=1}^{N} (\hat{y}_i - y_i)

    Parameters
    ----------
    y_true, y_pred : array-like of shape (num_subjects,), any one unit
        As in :func:`mean_absolute_error`.

    Returns
    -------
    float, the unit of ``y_true``
        Zero is best; positive where the predictions are too large. HC18's "DF".

    Raises
    ------
    ValueError
        As :func:`mean_absolute_error`.

    References
    ----------
    .. [1] heuvel2018hc18, measure "DF" of the challenge.

    Examples
    --------
    >>> mean_error([100.0, 200.0], [101.0, 202.0])
    1.5
    """
    y_true, y_pred = _checked(y_true, y_pred)
    return float(np.mean(y_pred - y_true))


def _checked(y_true, y_pred):
    """Both as float64, after the checks every metric shares."""
    y_true = np.asarray(y_true, dtype=np.float64)
    y_pred = np.asarray(y_pred, dtype=np.float64)
    if y_true.ndim != 1 or y_true.shape != y_pred.shape:
        raise ValueError(
            "`y_true` and `y_pred` must be of one shape (num_subjects,). "
            f"Received: {y_true.shape} and {y_pred.shape}. "
            "Squeeze a (num_subjects, 1) network output first."
        )
    if y_true.size == 0:
        raise ValueError("`y_true` and `y_pred` are empty: an error needs at least one subject.")
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise ValueError(
                f"`{name}` must be finite. It is NaN or infinite at {_positions(wrong)}. "
                "Find out why: leaving a subject out changes the result."
            )
    return y_true, y_pred


def _positions(indexes):
    """'index 3' or 'indexes 3, 5, 8, ... (17 in all)', for an error message."""
    shown = ", ".join(str(index) for index in indexes[:10])
    if len(indexes) == 1:
        return f"index {shown}"
    return f"indexes {shown}" + (f", ... ({len(indexes)} in all)" if len(indexes) > 10 else "")
