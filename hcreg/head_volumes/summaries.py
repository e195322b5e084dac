"""The numbers of a table of whole heads, from the rows of ``predictions.csv``, over the whole set at once."""

import numpy as np

from hcreg import statistics

MEASURES = ("dice", "conformity", "jaccard", "adb_mm", "hdb_mm")
DISTANCES = ("adb_mm", "hdb_mm")
MIN_PAIRS = 3  # below that there are no limits of agreement


def summarise(rows):
    """The numbers of one row of a table.

    Parameters
    ----------
    rows : list of dict
        Of one run or of several, whose ``fold`` tells them apart: one subject may be tested in each.

    Returns
    -------
    dict
        ``num_subjects``, ``num_folds``, ``num_failed`` (predictions without any head: only their distances are left
        out). Of each measure of `MEASURES` the mean over the folds' means, its SD over subjects (``dice_sd``, each
        subject by the mean of its folds) and over folds (``dice_fold_sd``, NaN for one fold). Volumes in ml, prediction
        less truth: ``bias_ml``, ``lower_limit_ml``, ``upper_limit_ml``, ``mae_ml``, ``pearson_r``, each the mean over
        folds. ``seconds``, the median of one volume.

    Raises
    ------
    ValueError
        If there are no rows, or a subject stands twice in one fold.
    """
    folds = _by_fold(rows)
    summary = {
        "num_subjects": len({row["subject_id"] for row in rows}),
        "num_folds": len(folds),
        "num_failed": sum(bool(row["failure"]) for row in rows),
    }
    for name in MEASURES:
        summary |= _spread(folds, name)
    agreements = [agreement(part) for part in folds]
    summary |= {name: float(np.mean([found[name] for found in agreements])) for name in agreements[0]}
    summary["seconds"] = float(np.median([row["seconds"] for row in rows]))
    return summary


def agreement(rows):
    """How predicted volumes agree with true ones.

    Parameters
    ----------
    rows : list of dict
        Of one run.

    Returns
    -------
    dict
        ``bias_ml``, ``lower_limit_ml``, ``upper_limit_ml`` by Bland and Altman (NaN for fewer than three), ``mae_ml``,
        ``pearson_r`` (NaN too where one never varies).
    """
    true_ml, pred_ml = (np.array([row[f"volume_{kind}_ml"] for row in rows], float) for kind in ("true", "pred"))
    enough = len(rows) >= MIN_PAIRS
    found = statistics.bland_altman(pred_ml, true_ml) if enough else None
    varies = enough and np.ptp(true_ml) > 0 and np.ptp(pred_ml) > 0
    return {
        "bias_ml": float(np.mean(pred_ml - true_ml)),
        "lower_limit_ml": found.lower if found else float("nan"),
        "upper_limit_ml": found.upper if found else float("nan"),
        "mae_ml": float(np.mean(np.abs(pred_ml - true_ml))),
        "pearson_r": float(np.corrcoef(true_ml, pred_ml)[0, 1]) if varies else float("nan"),
    }


def reproducibility(rows):
    """How alike repeated scans of one head are measured.

    Parameters
    ----------
    rows : list of dict
        Of one run.

    Returns
    -------
    dict
        ``num_patients``, of whom there are two scans or more; of predicted and of true volumes the mean over patients
        of the SD over a patient's scans, ``pred_sd_ml`` and ``true_sd_ml``, and the within-subject SD,
        ``pred_within_sd_ml`` and ``true_within_sd_ml``: see `hcreg.statistics.reproducibility`. True volumes of one
        head differ where scans were labelled one by one.

    Raises
    ------
    ValueError
        If no patient has two scans.

    References
    ----------
    .. [1] yang2020has, Figure 9.

    Examples
    --------
    >>> scans = [{"patient_id": "a", "volume_true_ml": 400.0, "volume_pred_ml": ml} for ml in (398.0, 400.0, 402.0)]
    >>> reproducibility(scans)["pred_sd_ml"], reproducibility(scans)["true_sd_ml"]
    (2.0, 0.0)
    """
    patients = [row["patient_id"] for row in rows]
    summary = {}
    for kind in ("pred", "true"):
        found = statistics.reproducibility([row[f"volume_{kind}_ml"] for row in rows], patients)
        summary["num_patients"] = len(found.sd_of_subject)
        summary |= {f"{kind}_sd_ml": found.mean_sd, f"{kind}_within_sd_ml": found.within_subject_sd}
    return summary


def _by_fold(rows):
    if not rows:
        raise ValueError("There are no predictions to summarise.")
    folds = {}
    for row in rows:
        folds.setdefault(row["fold"], []).append(row)
    for fold, part in folds.items():
        subjects = [row["subject_id"] for row in part]
        twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
        if twice:
            raise ValueError(f"{len(twice)} subject(s) stand twice in fold {fold}, the first: {twice[:3]}.")
    return [folds[fold] for fold in sorted(folds)]


def _spread(folds, name):
    of_subject, means = {}, []
    for part in folds:
        kept = [row for row in part if not (name in DISTANCES and row["failure"])]
        values = np.array([row[name] for row in kept], float)
        if np.isnan(values).any():
            lacking = [row["subject_id"] for row in kept if np.isnan(row[name])]
            raise ValueError(f"Column {name!r} has no value for {len(lacking)} subject(s), the first: {lacking[:3]}.")
        means.append(values.mean() if len(values) else np.nan)
        for row in kept:
            of_subject.setdefault(row["subject_id"], []).append(row[name])
    with np.errstate(invalid="ignore"):  # a volume without overlap has a conformity of minus infinity
        return {
            name: float(np.mean(means)),
            f"{name}_sd": _sd([np.mean(values) for values in of_subject.values()]),
            f"{name}_fold_sd": _sd(means),
        }


def _sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
