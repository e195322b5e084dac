"""What every statistic refuses: NaN, wrong shapes, unequal lengths."""

import numpy as np


def check_values(values, name, minimum):
    """Values of shape (num_subjects,) as float64, at least the minimum of them, all finite."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must be of shape (num_subjects,). Received: {values.shape}. Squeeze it first.")
    if values.size < minimum:
        raise ValueError(f"{name} needs at least {minimum} values. Received: {values.size}.")
    check_finite(values, name)
    return values


def check_pairs(a, b, name_a, name_b, minimum):
    """Two measurements of the same subjects, each as of :func:`check_values`."""
    a, b = check_values(a, name_a, minimum), check_values(b, name_b, minimum)
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} and {name_b} must be pairs, of one length. Received: {a.size} and {b.size} values. "
            "Use the subjects that both methods have measured."
        )
    return a, b


def check_finite(values, name):
    """Refuse NaN and infinity, naming the rows."""
    finite = np.isfinite(values)
    if not finite.all():
        rows = np.unique(np.nonzero(~finite)[0])
        shown = ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
        raise ValueError(
            f"{name} must be finite. NaN or infinite: {len(rows)} of {len(values)} subjects, at {shown}. "
            "Find out why: leaving a subject out changes the result."
        )


def check_fraction(value, name, instance="0.9 for 90 %"):
    """Refuse what is not between 0 and 1, such as 95 for 95 %."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, for instance {instance}. Received: {value}.")
