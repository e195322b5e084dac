"""From a trained model to per-subject rows, and from rows to the numbers of a table.

Everything a table shows is computed here from rows such as ``predictions.csv`` holds, over the whole set at once.
"""

import numpy as np

from hcreg import metrics, statistics

COVERAGE = 0.9


def constant_predictor(cache, training):
    """What one would say without looking: the median head circumference of the training part.

    Parameters
    ----------
    cache : hcreg.datasets.batches.ImageCache
    training : array-like of int
        Positions of the training images.

    Returns
    -------
    dict
        ``constant_px`` (reference px) and ``constant_mm``.
    """
    hc_px, factor = cache.hc_px[training], cache.reference_px_per_mm[training]
    return {"constant_px": float(np.median(hc_px)), "constant_mm": float(np.median(hc_px / factor))}


def predict_rows(model, batches, fold, constant):
    """Predict every image of a part.

    Parameters
    ----------
    model : keras.Model
    batches : hcreg.datasets.batches.Batches
        Without augmentation or shuffling.
    fold : int
    constant : dict
        As `constant_predictor` gives it.

    Returns
    -------
    list of dict
        Columns of ``predictions.csv`` but the interval. Pixels are the image's own.
    """
    images, _ = batches.arrays()
    outputs = model.predict(images, batch_size=batches.batch_size, verbose=0).reshape(-1)
    cache, rows = batches.cache, []
    for index, output in zip(batches.indices, outputs.astype(float)):
        record = cache.records[index]
        y_pred_mm = output * batches.target_scale_px / cache.reference_px_per_mm[index]
        rows.append(
            {
                "subject_id": record.subject_id,
                "examination_id": record.examination_id,
                "fold": int(fold),
                "trimester": int(record.trimester),
                "pixel_size_mm": float(record.pixel_size_mm),
                "reference_px_per_mm": float(cache.reference_px_per_mm[index]),
                "y_true_px": float(record.hc_mm / record.pixel_size_mm),
                "y_pred_px": float(y_pred_mm / record.pixel_size_mm),
                "y_true_mm": float(record.hc_mm),
                "y_pred_mm": float(y_pred_mm),
                **constant,
            }
        )
    return rows


def with_intervals(rows, calibration, coverage=COVERAGE):
    """Add split-conformal prediction intervals.

    Parameters
    ----------
    rows, calibration : list of dict
        Test and validation rows of `predict_rows`.
    coverage : float
        Wanted share of heads inside their interval.

    Returns
    -------
    list of dict
        `rows` with ``interval_low_mm`` and ``interval_high_mm``; infinite where too few images calibrate them.

    Notes
    -----
    The score is the absolute error in *reference pixels*, so one half-width in pixels becomes each image's own in
    millimetres: an image of coarse pixels gets a wider interval. The same validation images chose the epoch, so
    coverage on new images is a little below the nominal one; tables report the coverage measured on the test part.
    """
    half_width_px = statistics.conformal_quantile(conformal_scores(calibration), coverage)
    completed = []
    for row in rows:
        low_mm, high_mm = interval_mm(row["y_pred_mm"], half_width_px, row["reference_px_per_mm"])
        completed.append({**row, "interval_low_mm": low_mm, "interval_high_mm": high_mm})
    return completed


def interval_mm(y_pred_mm, half_width_px, reference_px_per_mm):
    """Prediction interval of one image; no bound is below zero, which no length is.

    Parameters
    ----------
    y_pred_mm : float
    half_width_px : float, reference px
        Conformal quantile of `conformal_scores`.
    reference_px_per_mm : float

    Returns
    -------
    tuple of float (low_mm, high_mm)

    Examples
    --------
    >>> interval_mm(100.0, 30.0, 10.0)
    (97.0, 103.0)
    """
    half_width_mm = half_width_px / reference_px_per_mm
    return max(0.0, float(y_pred_mm - half_width_mm)), max(0.0, float(y_pred_mm + half_width_mm))


def conformal_scores(rows):
    """Absolute errors of validation rows in reference pixels.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    ndarray of shape (num_rows,), reference px
    """
    return np.abs(_column(rows, "y_pred_mm") - _column(rows, "y_true_mm")) * _column(rows, "reference_px_per_mm")


def constant_rows(rows):
    """The rows with the constant predictor's guess in place of the network's, and no interval.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of dict
    """
    nothing = float("nan")
    return [
        {
            **row,
            "y_pred_mm": row["constant_mm"],
            "y_pred_px": row["constant_px"] / (row["reference_px_per_mm"] * row["pixel_size_mm"]),
            "interval_low_mm": nothing,
            "interval_high_mm": nothing,
        }
        for row in rows
    ]


def summarise(rows):
    """The numbers of one table row, over all subjects at once.

    Parameters
    ----------
    rows : list of dict
        Of one fold, or of several pooled.

    Returns
    -------
    dict
        Counts; MAE with its SD over subjects, median and 95th percentile of the absolute error, bias, RMSE (mm); MAE
        in px; PMAE (percent); R2; SD over the folds' MAEs (``fold_sd_mm``, NaN for one fold); coverage and mean width
        of the intervals (NaN where there are none); the constant predictor's MAE (mm, px) and PMAE.

    Raises
    ------
    ValueError
        If there are no rows, or one subject stands in two of them.
    """
    if not rows:
        raise ValueError("There are no predictions to summarise.")
    subjects = [row["subject_id"] for row in rows]
    if len(set(subjects)) != len(subjects):
        twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
        raise ValueError(f"{len(twice)} subject(s) stand in two rows, the first: {twice[:3]}. Are folds repeated?")
    true_mm, pred_mm = _column(rows, "y_true_mm"), _column(rows, "y_pred_mm")
    true_px, pred_px = _column(rows, "y_true_px"), _column(rows, "y_pred_px")
    errors_mm, errors_px = np.abs(pred_mm - true_mm), np.abs(pred_px - true_px)
    folds = np.array([row["fold"] for row in rows])
    fold_maes = [errors_mm[folds == fold].mean() for fold in np.unique(folds)]
    low, high = _column(rows, "interval_low_mm"), _column(rows, "interval_high_mm")
    known = not np.any(np.isnan(low) | np.isnan(high))
    constant = constant_rows(rows)
    return {
        "num_subjects": len(rows),
        "num_examinations": len({row["examination_id"] for row in rows}),
        "num_folds": len(fold_maes),
        "mae_mm": metrics.mean_absolute_error(true_mm, pred_mm),
        "mae_sd_mm": float(errors_mm.std(ddof=1)) if len(rows) > 1 else float("nan"),
        "median_ae_mm": metrics.median_absolute_error(true_mm, pred_mm),
        "p95_ae_mm": float(np.percentile(errors_mm, 95)),
        "bias_mm": metrics.mean_error(true_mm, pred_mm),
        "rmse_mm": metrics.root_mean_squared_error(true_mm, pred_mm),
        "mae_px": metrics.mean_absolute_error(true_px, pred_px),
        "mae_sd_px": float(errors_px.std(ddof=1)) if len(rows) > 1 else float("nan"),
        "pmae_percent": metrics.percentage_mean_absolute_error(true_mm, pred_mm),
        "r2": metrics.r2_score(true_mm, pred_mm) if len(np.unique(true_mm)) > 1 else float("nan"),
        "fold_sd_mm": float(np.std(fold_maes, ddof=1)) if len(fold_maes) > 1 else float("nan"),
        "coverage": float(np.mean((low <= true_mm) & (true_mm <= high))) if known else float("nan"),
        "mean_interval_width_mm": float(np.mean(high - low)),
        "constant_mae_mm": metrics.mean_absolute_error(true_mm, _column(rows, "constant_mm")),
        "constant_mae_px": metrics.mean_absolute_error(true_px, _column(constant, "y_pred_px")),
        "constant_pmae_percent": metrics.percentage_mean_absolute_error(true_mm, _column(rows, "constant_mm")),
    }


def summarise_by_trimester(rows):
    """`summarise` for each trimester that occurs.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    dict of int to dict
    """
    trimesters = sorted({row["trimester"] for row in rows})
    return {trimester: summarise([row for row in rows if row["trimester"] == trimester]) for trimester in trimesters}


def _column(rows, name):
    return np.array([row[name] for row in rows], float)
