"""How well a score tells two classes apart, and two classifiers from each other, on few patients."""

import numpy as np
from scipy.stats import binomtest

THRESHOLD = 0.5  # of a probability


def mcnemar(correct_a, correct_b):
    """McNemar's exact two-sided test: of the patients that one arm alone has right, does each have half?

    Parameters
    ----------
    correct_a, correct_b : ndarray of shape (num_patients,), 0 or 1

    Returns
    -------
    dict
        ``p_value`` is 1 where the arms never differ.

    Examples
    --------
    >>> mcnemar(np.array([1, 1, 1, 0]), np.array([0, 0, 0, 0]))["p_value"]
    0.25
    """
    only_a, only_b = int(((correct_a > 0) & (correct_b == 0)).sum()), int(((correct_a == 0) & (correct_b > 0)).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    shares = {"mean_a": float(np.mean(correct_a)), "mean_b": float(np.mean(correct_b))}
    return {"test": "McNemar exact", "num_patients": len(correct_a), **shares, "p_value": float(p_value)}


def auc(pairs):
    """Area under the ROC curve.

    Parameters
    ----------
    pairs : ndarray of shape (num_samples, 2)
        True class and score.

    Returns
    -------
    float
        One is best; 0.5 where a class is missing, as in a rare resample of few patients: nothing can be told apart.

    Notes
    -----
    scikit-learn's ``roc_auc_score``, counted pair by pair: of few patients that is many times faster, and a bootstrap
    asks thousands of times.
    """
    in_order, num_pairs = _in_order(*np.asarray(pairs).T)
    return in_order / num_pairs if num_pairs else 0.5


def balanced_accuracy(pairs):
    """Mean of sensitivity and specificity.

    Parameters
    ----------
    pairs : ndarray of shape (num_samples, 2)
        True class and probability, which is cut at 0.5.

    Returns
    -------
    float
        One is best; a class that is missing counts 0.5, see `auc`.
    """
    y_true, y_pred = np.asarray(pairs).T
    is_right = (y_pred > THRESHOLD) == (y_true > 0)
    return float(np.mean([is_right[y_true == label].mean() if (y_true == label).any() else 0.5 for label in (0, 1)]))


def auc_within_folds(patients):
    """AUC over pairs of patients tested by the same network, whose probabilities are on one scale.

    Parameters
    ----------
    patients : list of dict
        Of `patient_rows`.

    Returns
    -------
    float
        NaN where no fold tests both classes.
    """
    in_order, num_pairs = 0.0, 0
    for fold in sorted({patient["fold"] for patient in patients}):
        tested = [patient for patient in patients if patient["fold"] == fold]
        of_fold = _in_order(*(np.array([patient[name] for patient in tested]) for name in ("diseased", "probability")))
        in_order, num_pairs = in_order + of_fold[0], num_pairs + of_fold[1]
    return in_order / num_pairs if num_pairs else float("nan")


def _in_order(y_true, y_pred):
    """How many pairs of a diseased and a healthy one are in order, ties counting half; and how many there are."""
    difference = y_pred[y_true > 0][:, None] - y_pred[y_true == 0]
    return float((difference > 0).sum() + 0.5 * (difference == 0).sum()), difference.size
