"""Figures of a regression run, drawn from its saved rows: each function returns a matplotlib Figure.

Rows are the per-subject table of a run folder (``predictions.csv``): dicts with ``subject_id``,
``examination_id``, ``fold``, ``trimester``, ``pixel_size_mm``, ``y_true_px``, ``y_pred_px``, ``y_true_mm``,
``y_pred_mm``, ``constant_px``, ``constant_mm``, ``interval_low_mm`` and ``interval_high_mm``.

Everything uses matplotlib's object interface: no window, no pyplot state and no change of rcParams, so the
functions are safe in a script, a server or a notebook with a style of its own. Colours are those of Okabe and
Ito, told apart with any colour vision, and trimesters differ in their marker too. A row without a finite
prediction cannot be drawn; the figure then says how many are left out.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from hcreg import statistics

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5A5A5A"
_TRIMESTERS = {1: ("first trimester", BLUE, "o"), 2: ("second trimester", ORANGE, "s")}
_TRIMESTERS[3] = ("third trimester", GREEN, "^")
_UNKNOWN_TRIMESTER = ("trimester unknown", GREY, "D")
_SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)

_WIDTH_INCH = 9.0  # 1170 pixels: sharp at the width of the report's text
_DPI = 130
_SCALE_BAR_MM = 20

TRUE_LABEL = "true HC (mm)"
PREDICTED_LABEL = "predicted HC (mm)"
ERROR_LABEL = "error, predicted − true (mm)"
ABSOLUTE_ERROR_LABEL = "absolute error (mm)"


def save(figure, path):
    """Write a figure as PNG; the same figure gives the same bytes every time.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Ends in ``.png``; missing folders are made.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If the path has another ending.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"Figures are written as PNG. Expected a path that ends in .png, received: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi="figure", metadata={"Software": None})
    return path


def _new(height_inch, num_rows=1, num_columns=1, **subplots):
    figure = Figure(
        figsize=(_WIDTH_INCH, height_inch),
        dpi=_DPI,
        facecolor="white",
        edgecolor="white",
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(num_rows, num_columns, squeeze=False, **subplots)
    return figure, grid.ravel()


def _dress(axes, x_label, y_label, title=None):
    axes.set_facecolor("white")
    axes.set_xlabel(x_label, fontsize=11, color="black")
    axes.set_ylabel(y_label, fontsize=11, color="black")
    if title:
        axes.set_title(title, fontsize=11, color="black")
    axes.tick_params(labelsize=10)
    axes.grid(True, color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _column(rows, name):
    rows = list(rows)
    if not rows:
        raise ValueError("A figure needs at least one row of the per-subject table. Received: none.")
    for row in rows:
        if name not in row:
            raise ValueError(
                f"Each row must have the column {name!r} of predictions.csv. "
                f"The row of subject {row.get('subject_id', '?')} has: {', '.join(map(str, row))}."
            )
    return np.array([row[name] for row in rows], dtype=float)


def _true_and_predicted_mm(rows):
    """Return the drawable rows, their true and predicted HC, and a remark on what was left out."""
    rows = list(rows)
    y_true_mm, y_pred_mm = _column(rows, "y_true_mm"), _column(rows, "y_pred_mm")
    finite = np.isfinite(y_true_mm) & np.isfinite(y_pred_mm)
    if not finite.any():
        raise ValueError("No row has a finite y_true_mm and y_pred_mm, so there is nothing to draw.")
    missing = int((~finite).sum())
    remark = f"\n({missing} of {len(rows)} without a prediction, not drawn)" if missing else ""
    rows = [row for row, keep in zip(rows, finite) if keep]
    return rows, y_true_mm[finite], y_pred_mm[finite], remark


def _groups(rows, column):
    """Sorted values of an integer column, each with the indices of its rows."""
    values = _column(rows, column).astype(int)
    return {int(value): np.flatnonzero(values == value) for value in np.unique(values)}


def _scatter_by_trimester(axes, rows, x, y):
    for trimester, members in _groups(rows, "trimester").items():
        name, colour, marker = _TRIMESTERS.get(trimester, _UNKNOWN_TRIMESTER)
        label = f"{name} (n = {len(members)})"
        style = {"s": 28, "alpha": 0.8, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
        axes.scatter(x[members], y[members], color=colour, marker=marker, label=label, **style)


def history_curves(history_rows):
    """Draw loss and mean absolute error against the epoch, training beside validation.

    Parameters
    ----------
    history_rows : sequence of dict
        Rows of ``history.csv``: ``epoch`` (from 1), ``loss``, ``mae_px`` and, where there was validation,
        ``val_loss``, ``val_mae_px``.

    Returns
    -------
    matplotlib.figure.Figure
        The best epoch, marked, has the lowest validation loss (the lowest training loss without validation):
        its weights are the ones a run keeps.
    """
    rows = list(history_rows)
    epochs = _column(rows, "epoch")
    figure, panels = _new(3.7, 1, 2)
    judge = "val_loss" if "val_loss" in rows[0] else "loss"
    losses = _column(rows, judge)
    best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else None
    names = (("loss", "loss (no unit)"), ("mae_px", "mean absolute error (px)"))
    for axes, (name, label) in zip(panels, names):
        curves = [("training", name, BLUE, "-"), ("validation", f"val_{name}", RED, "--")]
        drawn = []
        for series, column, colour, line in curves:
            if column in rows[0]:
                values = _column(rows, column)
                drawn.append(values)
                axes.plot(epochs, values, line, color=colour, linewidth=1.8, label=series)
                if best is not None and (series == "validation" or judge == "loss"):
                    axes.plot(epochs[best], values[best], "o", color=colour, markersize=7, zorder=4)
        if best is not None:
            label_best = f"best epoch: {epochs[best]:.0f}"
            axes.axvline(epochs[best], color=GREY, linestyle=":", linewidth=1.4, label=label_best)
        everything = np.concatenate(drawn)
        everything = everything[np.isfinite(everything)]
        if everything.size and everything.min() > 0 and everything.max() > 30 * everything.min():
            axes.set_yscale("log")
        _dress(axes, "epoch", label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=10, frameon=False)
    return figure


def actual_against_predicted(rows):
    """Draw predicted against true head circumference, with the identity line and prediction intervals.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table.

    Returns
    -------
    matplotlib.figure.Figure
        One point an image, coloured by trimester; thin bars are the intervals, where the rows have them.
    """
    rows, y_true_mm, y_pred_mm, remark = _true_and_predicted_mm(rows)
    figure, (axes,) = _new(6.0)
    low_mm, high_mm = _column(rows, "interval_low_mm"), _column(rows, "interval_high_mm")
    bounded = np.isfinite(low_mm) & np.isfinite(high_mm)
    shown_mm = np.concatenate([y_true_mm, y_pred_mm, low_mm[bounded], high_mm[bounded]])
    margin_mm = 0.03 * np.ptp(shown_mm) + 1
    ends = np.array([shown_mm.min() - margin_mm, shown_mm.max() + margin_mm])
    axes.plot(ends, ends, color="black", linewidth=1.2, label="perfect: predicted = true")
    if bounded.any():
        bars = y_true_mm[bounded], low_mm[bounded], high_mm[bounded]
        axes.vlines(*bars, color=GREY, alpha=0.35, linewidth=1, label="prediction interval")
    _scatter_by_trimester(axes, rows, y_true_mm, y_pred_mm)
    mae_mm = np.abs(y_pred_mm - y_true_mm).mean()
    _dress(axes, TRUE_LABEL, PREDICTED_LABEL, f"{len(rows)} images, MAE {mae_mm:.1f} mm{remark}")
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal", adjustable="box")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.legend(fontsize=10, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def residuals(rows):
    """Draw the error against true and against predicted HC, and its histogram with mean and SD.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels with one error axis.
    """
    rows, y_true_mm, y_pred_mm, remark = _true_and_predicted_mm(rows)
    errors_mm = y_pred_mm - y_true_mm
    figure, panels = _new(4.0, 1, 3, sharey=True)
    for axes, x, label in zip(panels, (y_true_mm, y_pred_mm), (TRUE_LABEL, PREDICTED_LABEL)):
        axes.axhline(0, color="black", linewidth=1)
        _scatter_by_trimester(axes, rows, x, errors_mm)
        _dress(axes, label, ERROR_LABEL if axes is panels[0] else "")
    bins = np.histogram_bin_edges(errors_mm, bins=min(30, max(6, int(2 * np.sqrt(len(rows))))))
    panels[2].hist(errors_mm, bins=bins, orientation="horizontal", color=BLUE, alpha=0.75, edgecolor="white")
    mean_mm, sd_mm = errors_mm.mean(), _sd(errors_mm)
    panels[2].axhline(mean_mm, color=RED, linewidth=1.6, label=f"mean {mean_mm:+.1f} mm".replace("-", "−"))
    if np.isfinite(sd_mm):
        for sign, label in ((1, f"mean ± SD ({sd_mm:.1f} mm)"), (-1, None)):
            panels[2].axhline(mean_mm + sign * sd_mm, color=RED, linestyle="--", linewidth=1.2, label=label)
    _dress(panels[2], "number of images", "")
    panels[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = panels[0].get_legend_handles_labels()
    more, more_labels = panels[2].get_legend_handles_labels()
    figure.legend(handles + more, labels + more_labels, loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    if remark:
        figure.suptitle(remark.strip(), fontsize=11)
    return figure


def _sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def head_circumference_distribution(parts):
    """Draw how head circumference is distributed in each part of the data.

    Parameters
    ----------
    parts : mapping of str to array-like of shape (num_images,), mm, or sequence of dict
        Name of a part ("train", "validation", "test") -> its circumferences. Given the per-subject table
        instead, the true and the predicted values are compared.

    Returns
    -------
    matplotlib.figure.Figure
        Per part, the share of its images in each bin, so that parts of unequal size compare.
    """
    if not isinstance(parts, Mapping):
        _, y_true_mm, y_pred_mm, _ = _true_and_predicted_mm(parts)
        parts = {"true": y_true_mm, "predicted": y_pred_mm}
    parts = {name: np.asarray(values, dtype=float).ravel() for name, values in parts.items()}
    parts = {name: values[np.isfinite(values)] for name, values in parts.items()}
    empty = [name for name, values in parts.items() if not values.size]
    if empty or not parts:
        raise ValueError(f"Each part needs at least one finite head circumference. Without one: {empty or 'all'}.")
    figure, (axes,) = _new(3.7)
    together = np.concatenate(list(parts.values()))
    smallest = min(len(values) for values in parts.values())
    bins = np.histogram_bin_edges(together, bins=min(25, max(6, int(2 * np.sqrt(smallest)))))
    lines = ("-", "--", "-.", ":")
    for index, (name, values) in enumerate(parts.items()):
        colour = _SERIES[index % len(_SERIES)]
        shares_percent = np.full(len(values), 100 / len(values))
        label = f"{name} (n = {len(values)}, median {np.median(values):.0f} mm)"
        axes.hist(values, bins=bins, weights=shares_percent, color=colour, alpha=0.12)
        outline = {"histtype": "step", "linewidth": 2, "linestyle": lines[index % len(lines)]}
        axes.hist(values, bins=bins, weights=shares_percent, color=colour, label=label, **outline)
    _dress(axes, "head circumference (mm)", "share of the part's images (%)")
    axes.legend(fontsize=10, frameon=False)
    return figure


def bland_altman(rows):
    """Draw the difference of predicted and true HC against their mean, with the limits of agreement.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table, at least three images.

    Returns
    -------
    matplotlib.figure.Figure
        Solid line: bias (mean difference); dashed: bias ± 1.96 SD; bands: their confidence intervals.

    See Also
    --------
    hcreg.statistics.bland_altman : where the numbers come from.
    """
    rows, y_true_mm, y_pred_mm, remark = _true_and_predicted_mm(rows)
    result = statistics.bland_altman(y_pred_mm, y_true_mm)
    figure, (axes,) = _new(4.4)
    _scatter_by_trimester(axes, rows, (y_true_mm + y_pred_mm) / 2, y_pred_mm - y_true_mm)
    axes.axhline(0, color="black", linewidth=0.8)
    lines = (
        ("upper limit", result.upper, result.upper_interval, RED, "--"),
        ("bias", result.bias, result.bias_interval, PURPLE, "-"),
        ("lower limit", result.lower, result.lower_interval, RED, "--"),
    )
    for name, value_mm, (low_mm, high_mm), colour, line in lines:
        axes.axhspan(low_mm, high_mm, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(value_mm, color=colour, linestyle=line, linewidth=1.6)
        text = f" {name}\n {value_mm:+.1f} mm".replace("-", "−")
        axes.annotate(text, (1, value_mm), xycoords=("axes fraction", "data"), fontsize=10, color="black", va="center")
    _dress(axes, "mean of true and predicted HC (mm)", ERROR_LABEL, remark.strip())
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    return figure


def _absolute_error_boxes(rows, column, name_of, colour_of):
    rows, y_true_mm, y_pred_mm, remark = _true_and_predicted_mm(rows)
    errors_mm = np.abs(y_pred_mm - y_true_mm)
    constant_mm = np.abs(_column(rows, "constant_mm") - y_true_mm)
    figure, (axes,) = _new(4.2)
    groups = _groups(rows, column)
    generator = np.random.default_rng(0)  # where the points lie across their box carries no meaning
    labels = []
    for position, (value, members) in enumerate(groups.items()):
        colour = colour_of(value)
        axes.boxplot(
            errors_mm[members],
            positions=[position],
            widths=0.5,
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.6},
        )
        across = position + generator.uniform(-0.17, 0.17, len(members))
        axes.scatter(across, errors_mm[members], s=16, color=colour, alpha=0.6, linewidths=0, zorder=3)
        mean_mm = errors_mm[members].mean()
        axes.scatter(position, mean_mm, marker="D", s=60, color="black", edgecolors="white", zorder=4)
        guess = f"\nconstant guess {constant_mm[members].mean():.1f} mm"
        guess = guess if np.isfinite(constant_mm[members]).all() else ""
        labels.append(f"{name_of(value)} (n = {len(members)})\nMAE {mean_mm:.1f} mm{guess}")
    _dress(axes, "", ABSOLUTE_ERROR_LABEL, remark.strip())
    axes.set_xticks(range(len(groups)), labels, fontsize=10 if len(groups) < 5 else 8)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(bottom=0)
    axes.grid(False, axis="x")
    return figure, axes, errors_mm


def error_by_trimester(rows):
    """Draw the absolute errors of each trimester as points and box, with their mean as a diamond.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table.

    Returns
    -------
    matplotlib.figure.Figure
        Below each box: number of images, mean absolute error, and that of the constant guess.
    """

    def entry(value):
        return _TRIMESTERS.get(value, _UNKNOWN_TRIMESTER)

    return _absolute_error_boxes(rows, "trimester", lambda value: entry(value)[0], lambda value: entry(value)[1])[0]


def fold_spread(rows):
    """Draw the absolute errors of each cross-validation fold, and the mean over all folds as a line.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table of all folds.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes, errors_mm = _absolute_error_boxes(rows, "fold", lambda value: f"fold {value}", lambda value: BLUE)
    mean_mm = errors_mm.mean()
    axes.axhline(mean_mm, color=RED, linestyle="--", linewidth=1.4, label=f"all folds: MAE {mean_mm:.1f} mm")
    axes.legend(fontsize=10, frameon=False)
    return figure


def rank_cases(rows, worst=True, num=6):
    """Return the rows with the largest (or smallest) absolute error in mm, the most extreme first.

    A row without a finite prediction is the worst there is, and never among the best. Equal errors are
    ordered by subject.
    """

    def error_mm(row):
        error = abs(float(row["y_pred_mm"]) - float(row["y_true_mm"]))
        return error if np.isfinite(error) else np.inf

    if worst:
        return sorted(rows, key=lambda row: (-error_mm(row), row["subject_id"]))[:num]
    drawable = [row for row in rows if np.isfinite(error_mm(row))]
    return sorted(drawable, key=lambda row: (error_mm(row), row["subject_id"]))[:num]


def cases(rows, load_image, load_ellipse=None, worst=True, num=6):
    """Draw the images with the largest (or smallest) absolute error, with true and predicted HC.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table.
    load_image : callable
        ``subject_id`` -> uint8 image of shape (height, width), in original pixels.
    load_ellipse : callable, optional
        ``subject_id`` -> the annotated `hcreg.geometry.Ellipse` in original pixels, or None.
    worst : bool
        The worst cases, or else the best ones.
    num : int
        How many images, at most.

    Returns
    -------
    matplotlib.figure.Figure
        The annotated ellipse is drawn solid; dashed is the same ellipse grown or shrunk to the predicted
        circumference. A direct regressor predicts a length and no place: the dashed line compares sizes only.

    Raises
    ------
    ValueError
        If there is no row, or, among the best cases, none with a prediction.
    """
    _column(rows, "y_pred_mm")
    chosen = rank_cases(rows, worst, num)
    if not chosen:
        raise ValueError("No row has a finite prediction, so there are no best cases to draw.")
    images = [np.asarray(load_image(row["subject_id"])) for row in chosen]
    num_rows = -(-len(chosen) // 3)
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    figure, panels = _new((_WIDTH_INCH / 3 * tallest + 0.65) * num_rows + 0.4, num_rows, 3)
    drawn = {}
    for axes, row, image in zip(panels, chosen, images):
        axes.set_anchor("N")
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        ellipse = load_ellipse(row["subject_id"]) if load_ellipse else None
        ratio = row["y_pred_mm"] / row["y_true_mm"]
        if ellipse is not None:
            contour = np.asarray(ellipse.contour(200))
            contour = np.vstack([contour, contour[:1]])
            center = np.array([ellipse.center_x_px, ellipse.center_y_px])
            (drawn["annotated ellipse"],) = axes.plot(*contour.T, "-", color="#56B4E9", linewidth=1.5)
            if np.isfinite(ratio) and ratio > 0:
                scaled = center + ratio * (contour - center)
                (drawn["scaled to the predicted HC"],) = axes.plot(*scaled.T, "--", color=ORANGE, linewidth=1.5)
        _scale_bar(axes, image.shape, float(row["pixel_size_mm"]))
        axes.set_title(_case_title(row), fontsize=9, linespacing=1.35)
        axes.set_xlim(-0.5, image.shape[1] - 0.5)
        axes.set_ylim(image.shape[0] - 0.5, -0.5)
    for axes in panels:
        axes.set_axis_off()
    if drawn:
        figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=2, fontsize=10, frameon=False)
    return figure


def _case_title(row):
    true_mm, pred_mm = float(row["y_true_mm"]), float(row["y_pred_mm"])
    low_mm, high_mm = float(row.get("interval_low_mm", "nan")), float(row.get("interval_high_mm", "nan"))
    lines = [f"{row['subject_id']}, trimester {row['trimester']}", f"true {true_mm:.1f} mm, no prediction"]
    if np.isfinite(pred_mm):
        error = f"{pred_mm - true_mm:+.1f}".replace("-", "−")
        lines[1] = f"true {true_mm:.1f}, predicted {pred_mm:.1f} mm ({error})"
    if np.isfinite(low_mm) and np.isfinite(high_mm):
        inside = "holds" if low_mm <= true_mm <= high_mm else "misses"
        lines.append(f"interval {low_mm:.0f} to {high_mm:.0f} mm {inside} the true HC")
    return "\n".join(lines)


def _scale_bar(axes, shape, pixel_size_mm):
    height, width = shape[:2]
    length_px = _SCALE_BAR_MM / pixel_size_mm
    if np.isfinite(length_px) and length_px < 0.8 * width:
        right, y = 0.97 * width, 0.95 * height
        dark_edge = [withStroke(linewidth=4, foreground="black")]  # seen on bright tissue too
        bar = [right - length_px, right], [y, y]
        axes.plot(*bar, "-", color="white", linewidth=2.5, path_effects=dark_edge, solid_capstyle="butt")
        style = {"color": "white", "fontsize": 8, "ha": "right", "va": "bottom", "path_effects": dark_edge}
        axes.text(right, y - 0.015 * height, f"{_SCALE_BAR_MM} mm", **style)


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
    if len(_true_and_predicted_mm(rows)[0]) > 2:
        figures["bland_altman"] = bland_altman(rows)
    figures["error_by_trimester"] = error_by_trimester(rows)
    if len(_groups(rows, "fold")) > 1:
        figures["fold_spread"] = fold_spread(rows)
    figures["head_circumference_distribution"] = head_circumference_distribution(parts or rows)
    if history_rows:
        figures["history_curves"] = history_curves(history_rows)
    if load_image is not None:
        figures["worst_cases"] = cases(rows, load_image, load_ellipse, True, num_cases)
        figures["best_cases"] = cases(rows, load_image, load_ellipse, False, num_cases)
    return figures
