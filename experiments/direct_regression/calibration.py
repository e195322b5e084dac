"""Do intervals of every nominal coverage hold as many heads as they say?"""

from hcreg import evaluation, fold_runs
from hcreg.files import read_rows

NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def calibration_lines(predictions, folds, out):
    """Measured coverage of split-conformal intervals, each fold's calibrated on its own validation images.

    Parameters
    ----------
    predictions : dict of str to list of dict
        Test rows of all folds by the name of the table's row, as `hcreg.tables.read_table` gives them.
    folds : list of int
    out : pathlib.Path
        Folder of the runs.

    Returns
    -------
    list of dict
        For each row of the table and each nominal coverage the share of test images whose interval holds the
        circumference, pooled over folds, the lowest and the highest of the folds' own, and the mean width in mm.
    """
    lines = []
    for name, rows in predictions.items():
        validation = {fold: read_rows(out / name / f"fold_{fold}" / fold_runs.VALIDATION_PREDICTIONS) for fold in folds}
        for nominal in NOMINAL:
            of_fold = [
                evaluation.with_intervals([row for row in rows if row["fold"] == fold], validation[fold], nominal)
                for fold in folds
            ]
            covered = [evaluation.summarise(part)["coverage"] for part in of_fold]
            pooled = evaluation.summarise([row for part in of_fold for row in part])
            lines.append(
                {
                    "row": name,
                    "nominal": nominal,
                    "coverage": pooled["coverage"],
                    "lowest_fold": min(covered),
                    "highest_fold": max(covered),
                    "mean_interval_width_mm": pooled["mean_interval_width_mm"],
                }
            )
    return lines
