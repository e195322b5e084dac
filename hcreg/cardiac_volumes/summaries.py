"""The numbers of a table of cardiac volumes, from the rows of ``predictions.csv``, over the whole set at once."""

import numpy as np

from hcreg import metrics, statistics
from hcreg.preprocessing.cardiac import PHASES, STRUCTURES, ejection_fraction_percent

ROUTES = ("pred", "mask", "constant")
MIN_PAIRS = 3  # below that there are no limits of agreement
_FRACTION_COLUMNS = ("mae_points", "mae_sd_points", "bias_points", "lower_points", "upper_points", "pearson_r")


def names_in(rows):
    """What the rows measure: their structures, or "heart".

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    tuple of str
    """
    return tuple(name for name in (*STRUCTURES, "heart") if f"{name}_true_ml" in rows[0])


def summarise(rows, name, route="pred"):
    """The numbers of one structure by one route.

    Parameters
    ----------
    rows : list of dict
        Of one phase or of both, of one fold or of several pooled, or without a fold.
    name : str
        "RV", "MYO", "LV" or "heart".
    route : {"pred", "mask", "constant"}
        What the network predicts, what its label map holds, or what one says without looking.

    Returns
    -------
    dict
        ``num_subjects``, ``num_folds``; MAE with its SD over subjects, SD over the folds' MAEs (NaN for one fold),
        median and 95th percentile of the absolute error, bias, the limits of agreement (prediction less truth), RMSE,
        in ml; PMAE in percent; Pearson's r (NaN for a constant); of the route "mask" the mean Dice and its SD.

    Raises
    ------
    ValueError
        If there are no rows, a subject stands in two, a truth or a prediction is missing, or the route is unknown.
    """
    if route not in ROUTES:
        raise ValueError(f"A volume comes by one of the routes {', '.join(ROUTES)}. Received: {route!r}.")
    if not rows:
        raise ValueError("There are no predictions to summarise.")
    subjects = [row["subject_id"] for row in rows]
    if len(set(subjects)) != len(subjects):
        twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
        raise ValueError(f"{len(twice)} subject(s) stand in two rows, the first: {twice[:3]}. Are folds repeated?")
    true_ml, pred_ml = _column(rows, f"{name}_true_ml"), _column(rows, f"{name}_{route}_ml")
    errors_ml = np.abs(pred_ml - true_ml)
    folds = np.array([row.get("fold", 0) for row in rows])
    fold_maes = [errors_ml[folds == fold].mean() for fold in np.unique(folds)]
    agreement = statistics.bland_altman(pred_ml, true_ml) if len(rows) >= MIN_PAIRS else None
    varies = len(rows) >= MIN_PAIRS and np.ptp(pred_ml) > 0 and np.ptp(true_ml) > 0
    summary = {
        "num_subjects": len(rows),
        "num_folds": len(np.unique(folds)),
        "mae_ml": metrics.mean_absolute_error(true_ml, pred_ml),
        "mae_sd_ml": _sd(errors_ml),
        "fold_sd_ml": _sd(np.array(fold_maes)),
        "median_ae_ml": metrics.median_absolute_error(true_ml, pred_ml),
        "p95_ae_ml": float(np.percentile(errors_ml, 95)),
        "bias_ml": metrics.mean_error(true_ml, pred_ml),
        "lower_limit_ml": agreement.lower if agreement else float("nan"),
        "upper_limit_ml": agreement.upper if agreement else float("nan"),
        "rmse_ml": metrics.root_mean_squared_error(true_ml, pred_ml),
        "pmae_percent": metrics.percentage_mean_absolute_error(true_ml, pred_ml),
        "pearson_r": float(np.corrcoef(true_ml, pred_ml)[0, 1]) if varies and route != "constant" else float("nan"),
    }
    if route == "mask":
        dice = _column(rows, f"{name}_dice")
        summary |= {"dice": float(dice.mean()), "dice_sd": _sd(dice)}
    return summary


def by_phase(rows):
    """The rows of each phase, and of both.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    dict of str to list of dict
        "ED", "ES", and "both".
    """
    parts = {phase: [row for row in rows if row["phase"] == phase] for phase in PHASES}
    return {**{phase: part for phase, part in parts.items() if part}, "both": rows}


def ejection_fraction_rows(rows, name="LV", route="pred"):
    """Ejection fractions of the patients of whom both phases were measured.

    Parameters
    ----------
    rows : list of dict
    name, route : str
        As for `summarise`.

    Returns
    -------
    list of dict
        patient_id, ``true_percent``, ``pred_percent``.
    """
    of_patient = {}
    for row in rows:
        of_patient.setdefault(row["patient_id"], {})[row["phase"]] = row
    found = []
    for patient, phases in of_patient.items():
        if set(phases) != set(PHASES):
            continue
        fractions = {
            kind: ejection_fraction_percent(*(phases[phase][f"{name}_{column}_ml"] for phase in PHASES))
            for kind, column in (("true_percent", "true"), ("pred_percent", route))
        }
        found.append({"patient_id": patient, **fractions})
    return found


def summarise_ejection_fraction(rows, name="LV", route="pred"):
    """Errors of the ejection fraction over patients, in percentage points.

    Parameters
    ----------
    rows : list of dict
    name, route : str

    Returns
    -------
    dict
        ``num_subjects``, the patients; ``num_failed``, those besides who have no fraction, since no volume was found at
        ED; MAE with its SD, bias, limits of agreement (points), Pearson's r. NaN where fewer than three patients have
        both phases.
    """
    found = ejection_fraction_rows(rows, name, route)
    pairs = [pair for pair in found if np.isfinite([pair["true_percent"], pair["pred_percent"]]).all()]
    counts = {"num_subjects": len(pairs), "num_failed": len(found) - len(pairs)}
    if len(pairs) < MIN_PAIRS:
        return {**counts, **dict.fromkeys(_FRACTION_COLUMNS, float("nan"))}
    true, pred = (_column(pairs, kind) for kind in ("true_percent", "pred_percent"))
    errors = np.abs(pred - true)
    agreement = statistics.bland_altman(pred, true)
    varies = np.ptp(pred) > 0 and np.ptp(true) > 0 and route != "constant"
    return {
        **counts,
        "mae_points": float(errors.mean()),
        "mae_sd_points": _sd(errors),
        "bias_points": agreement.bias,
        "lower_points": agreement.lower,
        "upper_points": agreement.upper,
        "pearson_r": float(np.corrcoef(true, pred)[0, 1]) if varies else float("nan"),
    }


def _column(rows, name):
    values = np.array([row[name] for row in rows], float)
    if np.isnan(values).any():
        lacking = [row["subject_id"] for row, value in zip(rows, values) if np.isnan(value) and "subject_id" in row]
        raise ValueError(f"Column {name!r} has no value for {len(lacking)} subject(s), the first: {lacking[:3]}.")
    return values


def _sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
