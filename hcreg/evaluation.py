"""From a trained model to per-subject rows, and from rows to the numbers of a table.

Everything a table shows is computed here from rows such as ``predictions.csv`` holds, over the whole set at once.
"""

import numpy as np

from hcreg import metrics, statistics
from hcreg.mask_measures import mask_columns, predicted_length
from hcreg.preprocessing.frames import REFERENCE_SHAPE

COVERAGE = 0.9
MASK_MEANS = ("dice", "jaccard", "hausdorff_px", "hausdorff_mm", "boundary_distance_px", "boundary_distance_mm")
_LENGTHS = (
    "mae_mm",
    "mae_sd_mm",
    "median_ae_mm",
    "p95_ae_mm",
    "bias_mm",
    "rmse_mm",
    "mae_px",
    "mae_sd_px",
    "pmae_percent",
    "r2",
    "fold_sd_mm",
    "coverage",
    "mean_interval_width_mm",
)


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
        Columns of ``predictions.csv`` but the interval. Pixels are the image's own. Of a segmentation network the
        prediction is its own circumference where it gives one, else the fitted ellipse's, and in either case NaN where
        ``failure`` says why; the columns of `hcreg.mask_measures.mask_columns` follow.

    Raises
    ------
    ValueError
        If a mask is predicted for an image whose annotation was not read.
    """
    images, _ = batches.arrays()
    outputs = model.predict(images, batch_size=batches.batch_size, verbose=0)
    if not isinstance(outputs, dict):
        outputs = {"mask" if outputs.ndim == 4 else "hc_fraction": outputs}
    cache, rows = batches.cache, []
    for position, index in enumerate(batches.indices):
        record = cache.records[index]
        of_mask = _mask_columns(outputs["mask"][position], cache, index) if "mask" in outputs else {}
        y_pred_mm = None
        if "hc_fraction" in outputs:
            fraction = float(outputs["hc_fraction"][position].item())
            y_pred_mm = fraction * batches.target_scale_px / cache.reference_px_per_mm[index]
        if of_mask:
            y_pred_mm = predicted_length(y_pred_mm, of_mask["hc_ellipse_mm"], of_mask["failure"])
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
                **of_mask,
            }
        )
    return rows


def _mask_columns(probabilities, cache, index):
    placement, record = cache.placements[index], cache.records[index]
    if cache.ellipses[index] is None:
        raise ValueError(
            f"{record.subject_id}: a predicted mask is compared with the annotated ellipse. Make the cache with "
            "with_ellipses=True."
        )
    to_frame = np.vstack([placement.matrix_to(REFERENCE_SHAPE), [0.0, 0.0, 1.0]])
    reference = cache.ellipses[index].transformed(np.linalg.inv(to_frame)[:2])
    return mask_columns(probabilities, reference, placement.image_shape, float(record.pixel_size_mm))


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
        `rows` with ``interval_low_mm`` and ``interval_high_mm``; infinite where too few images calibrate them, NaN
        where nothing was measured.

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
    # the number first: max(0.0, nan) is 0.0
    return max(float(y_pred_mm - half_width_mm), 0.0), max(float(y_pred_mm + half_width_mm), 0.0)


def conformal_scores(rows):
    """Absolute errors of validation rows in reference pixels.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    ndarray of shape (num_rows,), reference px
        Infinite for an image in which nothing could be measured.
    """
    scores = np.abs(_column(rows, "y_pred_mm") - _column(rows, "y_true_mm")) * _column(rows, "reference_px_per_mm")
    return np.where(np.isnan(scores), np.inf, scores)


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
            **{name: value for name, value in row.items() if not _is_of_mask(name)},
            "y_pred_mm": row["constant_mm"],
            "y_pred_px": row["constant_px"] / (row["reference_px_per_mm"] * row["pixel_size_mm"]),
            "interval_low_mm": nothing,
            "interval_high_mm": nothing,
        }
        for row in rows
    ]


def with_route(rows, route):
    """A segmentation network's rows with the circumference and overlap of one way from its mask to a length.

    Parameters
    ----------
    rows : list of dict
    route : {"original", "ellipse"}
        See `hcreg.mask_measures.mask_columns`.

    Returns
    -------
    list of dict
        With the columns of `MASK_MEANS`. The interval is dropped where the network's own prediction, for which it was
        calibrated, is another.

    Raises
    ------
    ValueError
        If the rows are a direct regressor's.
    """
    if any(f"hc_{route}_mm" not in row for row in rows):
        raise ValueError(
            f"A direct regressor has no mask and so no route {route!r}: name rows of segmentation networks."
        )
    chosen = []
    for row in rows:
        y_pred_mm = row[f"hc_{route}_mm"]
        interval = ("interval_low_mm", "interval_high_mm") if y_pred_mm != row["y_pred_mm"] else ()
        chosen.append(
            {
                **row,
                **{name: row[_of_route(name, route)] for name in MASK_MEANS},
                "y_pred_mm": y_pred_mm,
                "y_pred_px": y_pred_mm / row["pixel_size_mm"],
                **dict.fromkeys(interval, float("nan")),
            }
        )
    return chosen


def summarise(rows):
    """The numbers of one table row, over all subjects at once.

    Parameters
    ----------
    rows : list of dict
        Of one fold, or of several pooled.

    Returns
    -------
    dict
        Counts, ``num_failed`` being the images in which nothing could be measured; over the others MAE with its SD over
        subjects, median and 95th percentile of the absolute error, bias, RMSE (mm); MAE in px; PMAE (percent); R2; SD
        over the folds' MAEs (``fold_sd_mm``, NaN for one fold); coverage and mean width of the intervals (NaN where
        there are none); the constant predictor's MAE (mm, px) and PMAE over all. Of a segmentation network's rows also
        the means and SDs of `MASK_MEANS`: overlaps over all images, 0 where there is no mask, and distances over those
        that have one.

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
    measured = [row for row in rows if row["y_pred_mm"] == row["y_pred_mm"]]
    counts = {
        "num_subjects": len(rows),
        "num_failed": len(rows) - len(measured),
        "num_examinations": len({row["examination_id"] for row in rows}),
        "num_folds": len({row["fold"] for row in rows}),
    }
    return {**counts, **_of_lengths(measured), **_of_masks(rows), **_of_constant(rows)}


def _of_lengths(rows):
    if not rows:
        return dict.fromkeys(_LENGTHS, float("nan"))
    true_mm, pred_mm = _column(rows, "y_true_mm"), _column(rows, "y_pred_mm")
    true_px, pred_px = _column(rows, "y_true_px"), _column(rows, "y_pred_px")
    errors_mm, errors_px = np.abs(pred_mm - true_mm), np.abs(pred_px - true_px)
    folds = np.array([row["fold"] for row in rows])
    fold_maes = [errors_mm[folds == fold].mean() for fold in np.unique(folds)]
    low, high = _column(rows, "interval_low_mm"), _column(rows, "interval_high_mm")
    known = not np.any(np.isnan(low) | np.isnan(high))
    numbers = (
        metrics.mean_absolute_error(true_mm, pred_mm),
        _sd(errors_mm),
        metrics.median_absolute_error(true_mm, pred_mm),
        float(np.percentile(errors_mm, 95)),
        metrics.mean_error(true_mm, pred_mm),
        metrics.root_mean_squared_error(true_mm, pred_mm),
        metrics.mean_absolute_error(true_px, pred_px),
        _sd(errors_px),
        metrics.percentage_mean_absolute_error(true_mm, pred_mm),
        metrics.r2_score(true_mm, pred_mm) if len(np.unique(true_mm)) > 1 else float("nan"),
        _sd(np.array(fold_maes)),
        float(np.mean((low <= true_mm) & (true_mm <= high))) if known else float("nan"),
        float(np.mean(high - low)),
    )
    return dict(zip(_LENGTHS, numbers, strict=True))


def _of_masks(rows):
    """Means of what `hcreg.mask_measures` gives; nothing for a direct regressor's rows."""
    if "dice_ellipse" not in rows[0]:
        return {}
    means = {}
    for name in MASK_MEANS:
        values = _column(rows, name if name in rows[0] else _of_route(name, "ellipse"))
        known = values[~np.isnan(values)]  # an image without a usable mask has no distance
        means[name] = float(np.mean(known)) if known.size else float("nan")
        means[f"{name}_sd"] = _sd(known)
    return means


def _is_of_mask(column):
    return column.startswith(("ellipse_", "hc_", "failure", "dice", "jaccard", "hausdorff", "boundary_distance"))


def _of_route(name, route):
    """Column of one route: dice_ellipse, hausdorff_ellipse_mm."""
    for unit in ("_px", "_mm"):
        if name.endswith(unit):
            return f"{name.removesuffix(unit)}_{route}{unit}"
    return f"{name}_{route}"


def _of_constant(rows):
    true_mm, true_px = _column(rows, "y_true_mm"), _column(rows, "y_true_px")
    constant_mm = _column(rows, "constant_mm")
    return {
        "constant_mae_mm": metrics.mean_absolute_error(true_mm, constant_mm),
        "constant_mae_px": metrics.mean_absolute_error(true_px, _column(constant_rows(rows), "y_pred_px")),
        "constant_pmae_percent": metrics.percentage_mean_absolute_error(true_mm, constant_mm),
    }


def _sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


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
