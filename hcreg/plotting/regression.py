"""All figures of a regression run at once."""

from hcreg.plotting.canvas import groups_of, true_and_predicted_mm
from hcreg.plotting.case_pictures import cases
from hcreg.plotting.charts import (
    actual_against_predicted,
    bland_altman,
    error_by_trimester,
    fold_spread,
    head_circumference_distribution,
    residuals,
)
from hcreg.plotting.history import history_curves


def regression_figures(rows, history_rows=None, parts=None, load_image=None, load_ellipse=None, num_cases=6):
    """Draw every figure a regression run has the data for.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table.
    history_rows : sequence of dict, optional
        Rows of ``history.csv``.
    parts : mapping of str to array-like, mm, optional
        Circumferences of each part of the data; without it, true and predicted values are compared.
    load_image, load_ellipse : callable, optional
        As in `cases`; without ``load_image`` no case is drawn.
    num_cases : int
        Number of worst and of best cases.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        In reading order, under the names that `hcreg.report.regression_report` has captions for.
    """
    rows = list(rows)
    figures = {"actual_against_predicted": actual_against_predicted(rows), "residuals": residuals(rows)}
    if len(true_and_predicted_mm(rows)[0]) > 2:
        figures["bland_altman"] = bland_altman(rows)
    figures["error_by_trimester"] = error_by_trimester(rows)
    if len(groups_of(rows, "fold")) > 1:
        figures["fold_spread"] = fold_spread(rows)
    figures["head_circumference_distribution"] = head_circumference_distribution(parts or rows)
    if history_rows:
        figures["history_curves"] = history_curves(history_rows)
    if load_image is not None:
        figures["worst_cases"] = cases(rows, load_image, load_ellipse, True, num_cases)
        figures["best_cases"] = cases(rows, load_image, load_ellipse, False, num_cases)
    return figures
