"""The sections of a regression run's page, each made from what the run measured."""

import math
import statistics
from collections.abc import Mapping

from hcreg.report.page import NOT_A_DEVICE, Number, Picture, Section, Table, is_finite
from hcreg.report.wording import FIGURES

_TRIMESTERS = {1: "First", 2: "Second", 3: "Third"}
_NO_INTERVAL = "no finite interval: not made, or too few images to calibrate it"
_NO_CONSTANT = "not computed for the constant guess"


def count(number, noun):
    """A number with its noun: "1 image", "2 images"."""
    return f"{int(number)} {noun}{'' if number == 1 else 's'}"


def pictures_of(figures, names):
    """Those of the named figures that there are, with their captions."""
    return tuple(Picture(figures[name], *FIGURES[name]) for name in names if name in figures)


def results(summary, constant_summary, interval_level):
    """The measures of the network beside those of the constant guess."""
    constant = {key: summary[f"constant_{key}"] for key in ("mae_mm", "mae_px", "pmae_percent")}
    compared = constant if constant_summary else ()
    differing = [key for key in compared if not _same(constant_summary[key], constant[key])]
    if "mae_mm" in differing:
        raise ValueError(
            "constant_summary must be of the same rows as summary. Its mae_mm is "
            f"{constant_summary['mae_mm']}, but the summary's constant_mae_mm is {constant['mae_mm']}."
        )
    constant = {**(constant_summary or {}), **constant}
    if "mae_px" in differing:
        constant["mae_sd_px"] = None  # of a guess made in mm; the MAE shown is that of a guess made in px
    constant |= {"coverage": None, "mean_interval_width_mm": None}
    promise = f", {100 * interval_level:.0f} %" if interval_level else ""
    lines = (
        ("Mean absolute error ± SD over images (mm)", "mae_mm", "lower is better"),
        ("Median absolute error (mm)", "median_ae_mm", "half of the images do better"),
        ("95th percentile of the absolute error (mm)", "p95_ae_mm", "1 image in 20 does worse"),
        ("Bias, mean of predicted − true (mm)", "bias_mm", "0 is best; plus: measured too large"),
        ("Root mean squared error (mm)", "rmse_mm", "lower is better; large errors weigh more"),
        ("Mean absolute error ± SD over images (px)", "mae_px", "in pixels of the original image"),
        ("Percentage mean absolute error (%)", "pmae_percent", "error relative to the true value"),
        ("R² (no unit)", "r2", "1 is perfect; 0 or less: no use"),
        ("SD of the mean absolute error between folds (mm)", "fold_sd_mm", "lower is steadier"),
        ("Intervals that contain the true HC (%)", "coverage", f"should be near what is promised{promise}"),
        ("Mean width of the intervals (mm)", "mean_interval_width_mm", "narrower is better"),
    )
    spreads = {"mae_mm": "mae_sd_mm", "mae_px": "mae_sd_px"}
    one_fold = "there is one fold only, so nothing to compare"
    no_interval = (_NO_INTERVAL, "a constant guess comes without an interval")
    reasons = {
        "coverage": no_interval,
        "mean_interval_width_mm": no_interval,
        "fold_sd_mm": (one_fold, one_fold),
    }
    usual_reasons = ("not every image has a prediction, or there are too few images", _NO_CONSTANT)
    rows = []
    for label, key, meaning in lines:
        cells = []
        for source, reason in zip((summary, constant), reasons.get(key, usual_reasons)):
            value, spread = _shown_value(source, key), source.get(spreads.get(key))
            reason = reason if key in source else _NO_CONSTANT
            cells.append(Number(value, 3 if key == "r2" else 1, spread, key == "bias_mm", reason))
        rows.append((label, *cells, meaning))
    caption = (
        f"The network on {count(summary['num_subjects'], 'image')} of "
        f"{count(summary['num_examinations'], 'examination')}, beside guessing the median of the training "
        "images for every image."
    )
    table = Table(("Measure (unit)", "Network", "Constant guess", "How to read it"), tuple(rows), caption)
    return Section("Result", tables=(table,))


def _same(a, b):
    return not (is_finite(a) and is_finite(b)) or math.isclose(a, b, rel_tol=1e-6)


def _shown_value(summary, key):
    """Coverage becomes a percentage; without finite intervals it says nothing, and is missing."""
    value = summary.get(key)
    if key != "coverage" or value is None:
        return value
    return 100 * value if is_finite(summary.get("mean_interval_width_mm")) else None


def results_by_trimester(summary, by_trimester):
    """The main measures for each trimester and for all images."""
    columns = ("Trimester", "Images", "Examinations", "MAE ± SD (mm)", "MAE, constant guess (mm)")
    columns += ("PMAE (%)", "PMAE, constant guess (%)", "Bias (mm)", "Intervals that contain the true HC (%)")
    named = [(_TRIMESTERS.get(key, str(key)), by_trimester[key]) for key in sorted(by_trimester)]
    rows = tuple(
        (
            name,
            Number(part["num_subjects"], 0),
            Number(part["num_examinations"], 0),
            Number(part["mae_mm"], spread=part["mae_sd_mm"]),
            Number(part["constant_mae_mm"]),
            Number(part["pmae_percent"]),
            Number(part["constant_pmae_percent"]),
            Number(part["bias_mm"], signed=True),
            Number(_shown_value(part, "coverage"), reason=_NO_INTERVAL),
        )
        for name, part in [*named, ("All", summary)]
    )
    caption = "MAE: mean absolute error; PMAE: the same in percent of the true value; see the glossary."
    return Section("Result by trimester", tables=(Table(columns, rows, caption),))


def _field(record, *names):
    for name in names:
        if isinstance(record, Mapping) and name in record:
            return record[name]
        if hasattr(record, name):
            return getattr(record, name)
    raise ValueError(f"A record of splits must have {' or '.join(names)}. Received: {record!r}")


def shared_examinations(splits):
    """Say which examinations are in more than one part of the data; empty if none is."""
    parts_of = {}
    for name, records in (splits or {}).items():
        for examination in {_field(record, "examination_id") for record in records}:
            parts_of.setdefault(examination, []).append(name)
    shared = {examination: parts for examination, parts in parts_of.items() if len(parts) > 1}
    if not shared:
        return ""
    first = min(shared)
    what = f"{count(len(shared), 'examination')} of {len(parts_of)} {'is' if len(shared) == 1 else 'are'}"
    where = " and ".join(map(str, shared[first]))
    return f"{what} in more than one part of the data, the first being {first} (in {where})."


def data_and_split(description, splits, shared, figures):
    """What the images are, how many each part has, and whether the parts are apart."""
    paragraphs, tables = [description], []
    if splits:
        rows = []
        for name, records in splits.items():
            hc_mm = [_field(record, "hc_mm", "y_true_mm") for record in records]
            hc_mm = sorted(float(value) for value in hc_mm if is_finite(value))
            trimesters = [int(_field(record, "trimester")) for record in records]
            unknown = "no head circumference is known"
            rows.append(
                (
                    str(name),
                    len(records),
                    len({_field(record, "examination_id") for record in records}),
                    *(trimesters.count(trimester) for trimester in _TRIMESTERS),
                    Number(hc_mm[0] if hc_mm else None, reason=unknown),
                    Number(statistics.median(hc_mm) if hc_mm else None, reason=unknown),
                    Number(hc_mm[-1] if hc_mm else None, reason=unknown),
                )
            )
        by_trimester = [f"{name} trimester (images)" for name in _TRIMESTERS.values()]
        columns = ("Part", "Images", "Examinations", *by_trimester)
        columns += ("Smallest HC (mm)", "Median HC (mm)", "Largest HC (mm)")
        caption = "How the data were split; images of one examination belong together."
        tables.append(Table(columns, tuple(rows), caption))
        fair = "No examination is in two parts, so the network was tested on examinations it had never seen."
        paragraphs.append(f"The test is not a fair one: {shared}" if shared else fair)
    pictures = pictures_of(figures, ("head_circumference_distribution",))
    return Section("Data and split", tuple(paragraphs), tables=tuple(tables), pictures=pictures)


def network_and_training(description, history, figures):
    """What the network is, and which epoch's weights were kept."""
    paragraphs = [description]
    history = list(history)
    if history:
        judge = "val_loss" if "val_loss" in history[0] else "loss"
        finite = [row for row in history if is_finite(row[judge])]
        if finite:
            best = min(finite, key=lambda row: row[judge])
            kind = "validation" if judge == "val_loss" else "training"
            paragraphs.append(
                f"Training ran for {count(len(history), 'epoch')} (passes over the training images). The "
                f"weights of epoch {int(best['epoch'])}, which has the lowest {kind} loss, were kept."
            )
    pictures = pictures_of(figures, ("history_curves",))
    return Section("The network and its training", tuple(paragraphs), pictures=pictures)


def each_image(rows):
    """The per-subject table, the largest error first, folded."""
    columns = ("Image", "Examination", "Fold", "Trimester", "Pixel size (mm)", "True HC (mm)")
    columns += ("Predicted HC (mm)", "Error (mm)", "Error (%)", "Constant guess (mm)")
    columns += ("Interval from (mm)", "to (mm)", "Contains the true HC")

    def error_mm(row):
        return row["y_pred_mm"] - row["y_true_mm"]

    def extremity(row):
        return (-abs(error_mm(row)) if is_finite(error_mm(row)) else -math.inf, row["subject_id"])

    missing = "the network gave no prediction"
    table_rows = []
    for row in sorted(rows, key=extremity):
        low_mm, high_mm = row["interval_low_mm"], row["interval_high_mm"]
        holds = Number(None, reason=_NO_INTERVAL)
        if is_finite(low_mm) and is_finite(high_mm):
            holds = "yes" if low_mm <= row["y_true_mm"] <= high_mm else "no"
        table_rows.append(
            (
                row["subject_id"],
                row["examination_id"],
                Number(row["fold"], 0),
                Number(row["trimester"], 0),
                Number(row["pixel_size_mm"], 4),
                Number(row["y_true_mm"]),
                Number(row["y_pred_mm"], reason=missing),
                Number(error_mm(row), signed=True, reason=missing),
                Number(100 * error_mm(row) / row["y_true_mm"], signed=True, reason=missing),
                Number(row["constant_mm"]),
                Number(low_mm, reason=_NO_INTERVAL),
                Number(high_mm, reason=_NO_INTERVAL),
                holds,
            )
        )
    folded = f"Show the table of {count(len(table_rows), 'image')}"
    caption = "Every image, the largest error first; predictions.csv in the run's folder holds the same and more."
    return Section("Each image", tables=(Table(columns, tuple(table_rows), caption, collapsed=folded),))


def how_to_reproduce(provenance):
    """The command and the versions."""
    rows = []
    for key, value in provenance.items():
        if key == "command":
            continue
        if key == "seconds" and is_finite(value):
            value = f"{value:.0f} ({value / 60:.1f} minutes)"
        elif isinstance(value, Mapping):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        missing = value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))
        label = str(key).replace("_", " ").capitalize()
        rows.append((label, Number(None, reason="not recorded") if missing else str(value)))
    command = str(provenance.get("command") or "")
    text = "This command repeats the run, given these versions:" if command else "The run was made with:"
    table = Table(("Item", "Value"), tuple(rows), "How the run was made.")
    return Section("How to reproduce", (text,), code=command, tables=(table,))


def what_to_keep_in_mind(synthetic, caveats):
    """What the numbers do not say."""
    points = [
        f"This is {NOT_A_DEVICE}. Nobody has tested it for clinical use.",
        "The errors hold for images like these: other scanners, operators or populations may do worse.",
        "Mean errors hide single failures: look at the worst cases and at the 95th percentile.",
        "Intervals keep their promise over many images together, not for each kind of head by itself.",
    ]
    if synthetic:
        points.append("The images are synthetic; nothing here says how well the network would do on real ones.")
    else:
        points.append("The true values are annotations by a person, who has an error of measurement too.")
    return Section("What to keep in mind", points=(*points, *caveats))
