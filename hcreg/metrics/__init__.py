"""Metrics over a whole test set, in NumPy: ``metrics.mean_absolute_error(y_true, y_pred)``; and of one pair of masks:
``metrics.dice_score(mask_true, mask_pred)``."""

from hcreg.metrics.regression import (
    mean_absolute_error,
    mean_error,
    median_absolute_error,
    percentage_mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from hcreg.metrics.relevance import RelevanceOverlap, relevance_inside
from hcreg.metrics.segmentation import conformity_score, dice_score, jaccard_score
from hcreg.metrics.surface import (
    BoundaryDistances,
    average_boundary_distance,
    boundary_distances,
    hausdorff_distance,
    point_distances,
)

__all__ = [
    "BoundaryDistances",
    "RelevanceOverlap",
    "average_boundary_distance",
    "boundary_distances",
    "conformity_score",
    "dice_score",
    "hausdorff_distance",
    "jaccard_score",
    "mean_absolute_error",
    "mean_error",
    "median_absolute_error",
    "percentage_mean_absolute_error",
    "point_distances",
    "r2_score",
    "relevance_inside",
    "root_mean_squared_error",
]
