"""Metrics over a whole test set, in NumPy: ``metrics.mean_absolute_error(y_true, y_pred)``."""

from hcreg.metrics.regression import (
    mean_absolute_error,
    mean_error,
    median_absolute_error,
    percentage_mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

__all__ = [
    "mean_absolute_error",
    "mean_error",
    "median_absolute_error",
    "percentage_mean_absolute_error",
    "r2_score",
    "root_mean_squared_error",
]
