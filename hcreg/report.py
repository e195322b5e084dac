"""A run as one HTML page that a clinician or researcher can read, print and send, with nothing beside it.

The page is data: `Section` objects that hold text, `Table` and `Picture` objects, in reading order.
`write_report` turns them into one file with its style and pictures inside; it loads nothing and needs no
JavaScript. `regression_report` says what a regression run is told with; a further section, such as an
explanation of the network, is handed in as one more `Section` and disturbs no other.

This module computes no result: numbers come from the summaries of the per-subject rows, which the page
repeats, and each keeps its full precision in the page, as ``<data value="...">``.
"""

import base64
import io
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hcreg._version import __version__
from hcreg.files import write_text

_NOT_A_DEVICE = "research software, not a medical device"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Number:
    """A cell of a table: a value, rounded for the eye.

    Attributes
    ----------
    value : float
        NaN, infinity and None show as a dash.
    digits : int
        Decimals shown.
    spread : float, optional
        A standard deviation, shown as ``value ± spread`` where it is finite.
    signed : bool
        Show the plus of a positive value.
    reason : str
        Why the value may be missing; shown where it is.
    """

    value: float | None
    digits: int = 1
    spread: float | None = None
    signed: bool = False
    reason: str = "not computed in this run"


@dataclass(frozen=True)
class Table:
    """A table: columns (units in their names), rows of str, int, float or `Number`, a caption.

    ``collapsed``, a line of text, folds the table behind that line.
    """

    columns: tuple
    rows: tuple
    caption: str
    collapsed: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with two lines: ``caption`` (what is drawn) and ``look_for`` (what to see in it).

    ``image`` holds the bytes of a PNG file or a matplotlib Figure.
    """

    image: object
    caption: str
    look_for: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading, shown in the order of the attributes.

    Attributes
    ----------
    title : str
    paragraphs, points : sequence of str
        Running text, then a bulleted list.
    terms : mapping of str to str, optional
        A list of definitions.
    code : str
        Text shown as typed.
    tables : sequence of Table
    pictures : sequence of Picture
    """

    title: str
    paragraphs: tuple = ()
    points: tuple = ()
    terms: Mapping | None = None
    code: str = ""
    tables: tuple = ()
    pictures: tuple = ()


def write_report(path, title, sections, *, answer="", notices=()):
    """Write sections as one self-contained HTML file.

    Parameters
    ----------
    path : path-like
        The file to write; missing folders are made. An older report is replaced in one step, so a reader
        never meets half a page.
    title : str
        Heading of the page.
    sections : sequence of Section
    answer : str
        The one sentence a reader should take away; stands below the title.
    notices : sequence of str
        What must not be overlooked; stands below the answer.

    Returns
    -------
    pathlib.Path

    Notes
    -----
    All text is escaped, so no name or path can add markup. The page holds no date: equal input gives equal
    bytes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        title=str(title),
        answer=answer,
        notices=tuple(notices),
        sections=[_prepared(section) for section in sections],
        version=__version__,
        footer=f"{_NOT_A_DEVICE}.",
    )
    write_text(path, html)
    return Path(path)


def _prepared(section):
    if isinstance(section.paragraphs, str) or isinstance(section.points, str):
        raise ValueError(
            f"paragraphs and points of section {section.title!r} must be sequences of str, not one str: "
            "write paragraphs=(text,)."
        )
    return {
        "title": section.title,
        "paragraphs": section.paragraphs,
        "points": section.points,
        "terms": section.terms,
        "code": section.code,
        "tables": [_prepared_table(table) for table in section.tables],
        "pictures": [
            {"base64": _base64_png(picture), "caption": picture.caption, "look_for": picture.look_for}
            for picture in section.pictures
        ],
    }


def _prepared_table(table):
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"Each row of table {table.caption!r} must have {len(table.columns)} cells, "
                f"one a column. Received {len(row)}: {row!r}"
            )
    cells = [[_prepared_cell(cell) for cell in row] for row in table.rows]
    numeric = [bool(cells) and all(row[column]["number"] for row in cells) for column in range(len(table.columns))]
    reasons = dict.fromkeys(cell["reason"] for row in cells for cell in row if cell["missing"])
    return {
        "columns": table.columns,
        "cells": cells,
        "numeric": numeric,
        "caption": table.caption,
        "collapsed": table.collapsed,
        "reasons": tuple(reasons),
    }


def _finite(value):
    return value is not None and math.isfinite(value)


def _prepared_cell(cell):
    if isinstance(cell, str):
        return {"number": False, "missing": False, "value": None, "text": cell}
    if not isinstance(cell, Number):
        cell = Number(cell, digits=0 if isinstance(cell, int) else 1)
    if not _finite(cell.value):
        return {"number": True, "missing": True, "reason": cell.reason}
    prepared = {"number": True, "missing": False, "spread_text": ""}
    prepared |= {"value": repr(float(cell.value)), "text": _shown(cell.value, cell.digits, cell.signed)}
    if _finite(cell.spread):
        prepared |= {"spread": repr(float(cell.spread)), "spread_text": _shown(cell.spread, cell.digits)}
    return prepared


def _shown(value, digits=1, signed=False):
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:  # "-0.0" and "+0.0" say that there is a direction; there is none
        text = text.lstrip("+-")
    return text.replace("-", "−")


def _base64_png(picture):
    data = picture.image
    if hasattr(data, "savefig"):
        buffer = io.BytesIO()
        data.savefig(buffer, format="png", dpi="figure", metadata={"Software": None})
        data = buffer.getvalue()
    if not isinstance(data, bytes) or not data.startswith(_PNG_SIGNATURE):
        raise ValueError(
            f"The picture {picture.caption!r} must be a matplotlib Figure or the bytes of a PNG file. "
            f"Received: {type(data).__name__}"
        )
    return base64.b64encode(data).decode("ascii")


# Below: what a regression run is told with. Above: how any page is made.

# fmt: off
SUMMARY_KEYS = (
    "num_subjects", "num_examinations", "mae_mm", "mae_sd_mm", "median_ae_mm", "bias_mm", "p95_ae_mm",
    "mae_px", "mae_sd_px", "pmae_percent", "rmse_mm", "r2", "coverage", "mean_interval_width_mm",
    "constant_mae_mm", "constant_mae_px", "constant_pmae_percent", "fold_sd_mm",
)
# fmt: on
_TRIMESTERS = {1: "First", 2: "Second", 3: "Third"}
_NO_INTERVAL = "no finite interval: not made, or too few images to calibrate it"
_NO_CONSTANT = "not computed for the constant guess"

FIGURES = {
    "actual_against_predicted": (
        "Predicted against true head circumference (HC), one point an image.",
        "On the diagonal the prediction is right. Look for points far off it, and for a cloud flatter "
        "than it: that network drifts towards the middle and serves small and large heads badly.",
    ),
    "residuals": (
        "Error against true HC, error against predicted HC, and how the errors are distributed.",
        "A good cloud is level around zero. A slope means large heads are measured too small or small "
        "ones too large; a funnel means that the error grows with size.",
    ),
    "bland_altman": (
        "Bland-Altman plot: the difference of predicted and true HC against their mean.",
        "About 95 of 100 differences lie between the dashed limits. Ask whether limits that wide would "
        "change a decision, and whether the bias line is off zero; the bands are 95 % confidence "
        "intervals.",
    ),
    "error_by_trimester": (
        "Absolute errors by trimester: points are images, box the middle half, diamond the mean.",
        "Compare the mean with that of the constant guess below each box: a trimester with few training "
        "images often does worse.",
    ),
    "fold_spread": (
        "Absolute errors by cross-validation fold (box: middle half, diamond: mean); dashed: mean over all.",
        "Folds that differ little mean that the result does not hang on which images were left out.",
    ),
    "head_circumference_distribution": (
        "How head circumference is distributed in each group of images.",
        "The outlines should cover the same range: a network measures badly what it has not been shown.",
    ),
    "history_curves": (
        "Loss and mean absolute error during training, on training and validation images.",
        "The two curves should fall together. Validation rising while training falls is overfitting; the "
        "weights of the best epoch, the dotted line, are the ones used.",
    ),
    "worst_cases": (
        "The images with the largest errors, the worst first.",
        "Look for a cause they share: a head cut off by the border, a faint skull, an odd scale. Solid: "
        "annotated ellipse; dashed: the same ellipse scaled to the predicted HC, to compare sizes only.",
    ),
    "best_cases": (
        "The images with the smallest errors, the best first.",
        "What they have that the worst cases lack tells when the network can be relied on.",
    ),
}
_ERROR_FIGURES = (
    "actual_against_predicted",
    "residuals",
    "bland_altman",
    "error_by_trimester",
    "fold_spread",
)

GLOSSARY = {
    "HC, head circumference": (
        "The length of the outline of the fetal skull, taken as an ellipse, in mm. The true value comes from "
        "the annotation of a trained reader, or, in synthetic images, from the ellipse that was drawn."
    ),
    "px": (
        "Pixels of the original image. A length in px times the pixel size (mm) is the length in mm; "
        "pixel sizes differ between images, so errors in px and in mm rank images differently."
    ),
    "MAE, mean absolute error": (
        "The mean size of the error, whatever its sign. 0 is perfect. The SD beside it says how much the "
        "error differs from image to image."
    ),
    "PMAE, percentage mean absolute error": (
        "The error of each image as a percentage of its true HC, averaged over the images."
    ),
    "Bias": (
        "The mean of predicted minus true HC. Positive: the network measures too large on average. A bias"
        " near zero can hide large errors of both signs."
    ),
    "95th percentile": ("95 of 100 images have an error below it: what a bad case is like."),
    "RMSE, root mean squared error": ("Like the MAE, but large errors weigh more."),
    "R²": (
        "The share of the differences in HC between images that the predictions account for: 1 is "
        "perfect, 0 is no better than always saying the mean of these images, and it can be negative."
    ),
    "Constant guess": (
        "The same value for every image: the median of the training images. A network that has learned "
        "anything beats it clearly."
    ),
    "Bland-Altman limits of agreement": (
        "Bias ± 1.96 SD of the differences: about 95 of 100 differences between the network and the "
        "annotation lie between them."
    ),
    "Conformal interval": (
        "A range around a prediction, as wide as the errors on images set aside for calibration demand. "
        "It contains the true HC as often as promised if new images are like those."
    ),
    "SD, standard deviation": "How much single values differ from their mean.",
    "Fold": (
        "In cross-validation the images are divided into folds; each fold in turn is predicted by a network "
        "trained on the others, so that every image is predicted once."
    ),
    "Examination": (
        "One visit of one patient, with one or more images. All images of an examination stay in one part"
        " of the data, or the network would be tested on heads it has seen."
    ),
}


def regression_report(
    path,
    *,
    title,
    data_description,
    model_description,
    rows,
    summary,
    by_trimester,
    figures,
    provenance,
    history=(),
    splits=None,
    constant_summary=None,
    interval_level=None,
    synthetic=False,
    caveats=(),
    extra_sections=(),
):
    """Write the report of a network that predicts head circumference.

    Parameters
    ----------
    path : path-like
        The HTML file to write.
    title, data_description, model_description : str
        The descriptions are one paragraph each, for a reader who does not know the code.
    rows : sequence of dict
        The per-subject table (``predictions.csv``).
    summary : dict
        What `hcreg.evaluation.summarise` computes from `rows`, with the keys `SUMMARY_KEYS`; ``coverage``
        is a fraction, a NaN shows as a dash with its reason.
    by_trimester : mapping of int to dict
        The same for the images of each trimester.
    figures : mapping of str to Figure or bytes
        Any of `FIGURES`, as `hcreg.plotting.regression_figures` draws them.
    provenance : dict
        ``command``, ``seed``, ``versions`` (a dict), ``commit``, ``seconds``, and whatever else helps to
        repeat the run.
    history : sequence of dict
        Rows of ``history.csv``.
    splits : mapping of str to sequence, optional
        Name of each part of the data -> its records (`hcreg.datasets.HC18Record`, or rows with
        ``examination_id``, ``trimester``, and ``hc_mm`` or ``y_true_mm``). The report counts them, and says
        whether an examination is in two parts.
    constant_summary : dict, optional
        Summary of the same rows with the constant guess as prediction, which fills the column beside the
        network's; without it that column has only what `summary` holds.
    interval_level : float, optional
        How often the intervals promise to contain the true HC, as a fraction.
    synthetic : bool
        Whether the images are synthetic; the page then says so at the top.
    caveats : sequence of str
        Further ones of this run.
    extra_sections : sequence of Section
        Shown after the cases: an explanation of the network, say.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If a summary lacks a key, a figure has a name without a caption, or the coverage is no fraction.
    """
    _check_summary("summary", summary)
    for trimester, part in by_trimester.items():
        _check_summary(f"by_trimester[{trimester}]", part)
    if constant_summary:
        _check_summary("constant_summary", constant_summary)
    unknown = [name for name in figures if name not in FIGURES]
    if unknown:
        raise ValueError(
            f"No caption is known for the figures {unknown}. Known: {', '.join(FIGURES)}. "
            "Hand in others as pictures of a Section in extra_sections."
        )
    shared = _shared_examinations(splits)
    sections = [
        _results(summary, constant_summary, interval_level),
        _results_by_trimester(summary, by_trimester),
        Section("What the errors look like", pictures=_pictures(figures, _ERROR_FIGURES)),
        Section("Worst and best cases", pictures=_pictures(figures, ("worst_cases", "best_cases"))),
        *extra_sections,
        _data(data_description, splits, shared, figures),
        _network(model_description, history, figures),
        _each_image(rows),
        Section("Glossary", terms=GLOSSARY),
        _reproduce(provenance),
        _limits(synthetic, caveats),
    ]
    empty = Section("").__dict__
    sections = [section for section in sections if section.__dict__ != empty | {"title": section.title}]
    notices = [f"This is {_NOT_A_DEVICE}: do not base any decision on a patient on it."]
    if synthetic:
        notices.append(
            "The images are synthetic: drawn by a program, not taken from patients. The numbers show that "
            "the method runs and learns; they say nothing about its accuracy on real ultrasound."
        )
    if shared:
        notices.append(f"The test is not a fair one: {shared}")
    return write_report(path, title, sections, answer=headline(summary, unseen=not shared), notices=notices)


def _check_summary(name, summary):
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise ValueError(
            f"{name} lacks {', '.join(missing)}. Pass what hcreg.evaluation.summarise returns for the rows."
        )
    coverage = summary["coverage"]
    if _finite(coverage) and not 0 <= coverage <= 1:
        raise ValueError(f"{name}['coverage'] must be a fraction from 0 to 1. Received: {coverage}")


def headline(summary, unseen=True):
    """Return the answer of a run in one sentence, and a second one where the network is of no use.

    Parameters
    ----------
    summary : dict
        As in `regression_report`.
    unseen : bool
        Whether no examination of these images was trained on.

    Returns
    -------
    str
    """
    images = _count(summary["num_subjects"], f"{'unseen ' if unseen else ''}image")
    mae_mm, constant_mm = summary["mae_mm"], summary["constant_mae_mm"]
    if not _finite(mae_mm):
        return f"On {images} the error of the network could not be computed: not every image has a prediction."
    text = f"On {images} of {_count(summary['num_examinations'], 'examination')} the network missed "
    text += f"the head circumference by {_shown(mae_mm)} mm on average"
    if not _finite(constant_mm):
        return f"{text}."
    text += f" (constant guess: {_shown(constant_mm)} mm)."
    if mae_mm >= constant_mm:
        text += " It is no better than guessing the same value for every image."
    return text


def _count(number, noun):
    return f"{int(number)} {noun}{'' if number == 1 else 's'}"


def _pictures(figures, names):
    return tuple(Picture(figures[name], *FIGURES[name]) for name in names if name in figures)


def _results(summary, constant_summary, interval_level):
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
        f"The network on {_count(summary['num_subjects'], 'image')} of "
        f"{_count(summary['num_examinations'], 'examination')}, beside guessing the median of the training "
        "images for every image."
    )
    table = Table(("Measure (unit)", "Network", "Constant guess", "How to read it"), tuple(rows), caption)
    return Section("Result", tables=(table,))


def _same(a, b):
    return not (_finite(a) and _finite(b)) or math.isclose(a, b, rel_tol=1e-6)


def _shown_value(summary, key):
    """Coverage becomes a percentage; without finite intervals it says nothing, and is missing."""
    value = summary.get(key)
    if key != "coverage" or value is None:
        return value
    return 100 * value if _finite(summary.get("mean_interval_width_mm")) else None


def _results_by_trimester(summary, by_trimester):
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


def _shared_examinations(splits):
    """Say which examinations are in more than one part of the data; empty if none is."""
    parts_of = {}
    for name, records in (splits or {}).items():
        for examination in {_field(record, "examination_id") for record in records}:
            parts_of.setdefault(examination, []).append(name)
    shared = {examination: parts for examination, parts in parts_of.items() if len(parts) > 1}
    if not shared:
        return ""
    first = min(shared)
    what = f"{_count(len(shared), 'examination')} of {len(parts_of)} {'is' if len(shared) == 1 else 'are'}"
    where = " and ".join(map(str, shared[first]))
    return f"{what} in more than one part of the data, the first being {first} (in {where})."


def _data(description, splits, shared, figures):
    paragraphs, tables = [description], []
    if splits:
        rows = []
        for name, records in splits.items():
            hc_mm = [_field(record, "hc_mm", "y_true_mm") for record in records]
            hc_mm = sorted(float(value) for value in hc_mm if _finite(value))
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
    pictures = _pictures(figures, ("head_circumference_distribution",))
    return Section("Data and split", tuple(paragraphs), tables=tuple(tables), pictures=pictures)


def _network(description, history, figures):
    paragraphs = [description]
    history = list(history)
    if history:
        judge = "val_loss" if "val_loss" in history[0] else "loss"
        finite = [row for row in history if _finite(row[judge])]
        if finite:
            best = min(finite, key=lambda row: row[judge])
            kind = "validation" if judge == "val_loss" else "training"
            paragraphs.append(
                f"Training ran for {_count(len(history), 'epoch')} (passes over the training images). The "
                f"weights of epoch {int(best['epoch'])}, which has the lowest {kind} loss, were kept."
            )
    pictures = _pictures(figures, ("history_curves",))
    return Section("The network and its training", tuple(paragraphs), pictures=pictures)


def _each_image(rows):
    columns = ("Image", "Examination", "Fold", "Trimester", "Pixel size (mm)", "True HC (mm)")
    columns += ("Predicted HC (mm)", "Error (mm)", "Error (%)", "Constant guess (mm)")
    columns += ("Interval from (mm)", "to (mm)", "Contains the true HC")

    def error_mm(row):
        return row["y_pred_mm"] - row["y_true_mm"]

    def extremity(row):
        return (-abs(error_mm(row)) if _finite(error_mm(row)) else -math.inf, row["subject_id"])

    missing = "the network gave no prediction"
    table_rows = []
    for row in sorted(rows, key=extremity):
        low_mm, high_mm = row["interval_low_mm"], row["interval_high_mm"]
        holds = Number(None, reason=_NO_INTERVAL)
        if _finite(low_mm) and _finite(high_mm):
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
    folded = f"Show the table of {_count(len(table_rows), 'image')}"
    caption = "Every image, the largest error first; predictions.csv in the run's folder holds the same and more."
    return Section("Each image", tables=(Table(columns, tuple(table_rows), caption, collapsed=folded),))


def _reproduce(provenance):
    rows = []
    for key, value in provenance.items():
        if key == "command":
            continue
        if key == "seconds" and _finite(value):
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


def _limits(synthetic, caveats):
    points = [
        f"This is {_NOT_A_DEVICE}. Nobody has tested it for clinical use.",
        "The errors hold for images like these: other scanners, operators or populations may do worse.",
        "Mean errors hide single failures: look at the worst cases and at the 95th percentile.",
        "Intervals keep their promise over many images together, not for each kind of head by itself.",
    ]
    if synthetic:
        points.append("The images are synthetic; nothing here says how well the network would do on real ones.")
    else:
        points.append("The true values are annotations by a person, who has an error of measurement too.")
    return Section("What to keep in mind", points=(*points, *caveats))
