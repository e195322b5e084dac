"""Figures of a run, drawn from its saved rows: each function returns a matplotlib Figure.

Rows are the per-subject table of a run folder (``predictions.csv``): dicts with ``subject_id``,
``examination_id``, ``fold``, ``trimester``, ``pixel_size_mm``, ``y_true_px``, ``y_pred_px``, ``y_true_mm``,
``y_pred_mm``, ``constant_px``, ``constant_mm``, ``interval_low_mm`` and ``interval_high_mm``; of a segmentation
network also with the columns of `hcreg.mask_measures.mask_columns`.

Everything uses matplotlib's object interface: no window, no pyplot state and no change of rcParams, so the
functions are safe in a script, a server or a notebook with a style of its own. Colours are those of Okabe and
Ito, told apart with any colour vision, and trimesters differ in their marker too. A row without a finite
prediction cannot be drawn; the figure then says how many are left out.

Charts of cardiac volumes (`volume_agreement`, `volume_scatter`) are drawn from the rows of `hcreg.cardiac_volumes`,
those of whole heads (`head_volumes`, `repeated_scans`) from the rows of `hcreg.head_volumes`.

Pictures of a search (`learning_rate_curve`, `trial_histories`) are drawn from the tables of a
`hcreg.tuning.TrialStore`.

Pictures of explanations (`saliency_grid`, `saliency_overlay`, `perturbation_pictures`, `perturbation_curves`,
`deep_dream_sheet`) are drawn from arrays instead.
"""

from hcreg.plotting.canvas import (
    ABSOLUTE_ERROR_LABEL,
    BLUE,
    ERROR_LABEL,
    GREEN,
    GREY,
    ORANGE,
    PREDICTED_LABEL,
    PURPLE,
    RED,
    TRUE_LABEL,
    save,
)
from hcreg.plotting.case_pictures import cases, rank_cases
from hcreg.plotting.charts import (
    actual_against_predicted,
    bland_altman,
    error_by_trimester,
    fold_spread,
    head_circumference_distribution,
    residuals,
)
from hcreg.plotting.dreams import deep_dream_sheet
from hcreg.plotting.heads import head_volumes, repeated_scans, surface_errors
from hcreg.plotting.history import history_curves, learning_curves
from hcreg.plotting.perturbation import perturbation_curves, perturbation_pictures
from hcreg.plotting.regression import regression_figures
from hcreg.plotting.saliency import saliency_grid, saliency_overlay
from hcreg.plotting.segmentation import overlays, post_processing, post_processing_errors, rank_post_processing
from hcreg.plotting.trials import learning_rate_curve, trial_histories
from hcreg.plotting.volumes import volume_agreement, volume_scatter

__all__ = [
    "ABSOLUTE_ERROR_LABEL",
    "BLUE",
    "ERROR_LABEL",
    "GREEN",
    "GREY",
    "ORANGE",
    "PREDICTED_LABEL",
    "PURPLE",
    "RED",
    "TRUE_LABEL",
    "actual_against_predicted",
    "bland_altman",
    "cases",
    "deep_dream_sheet",
    "error_by_trimester",
    "fold_spread",
    "head_circumference_distribution",
    "head_volumes",
    "history_curves",
    "learning_curves",
    "learning_rate_curve",
    "overlays",
    "perturbation_curves",
    "perturbation_pictures",
    "post_processing",
    "post_processing_errors",
    "rank_cases",
    "rank_post_processing",
    "regression_figures",
    "repeated_scans",
    "residuals",
    "saliency_grid",
    "saliency_overlay",
    "save",
    "surface_errors",
    "trial_histories",
    "volume_agreement",
    "volume_scatter",
]
