"""Charts of a run: its predictions and its errors."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator

from hcreg import statistics
from hcreg.plotting.canvas import (
    ABSOLUTE_ERROR_LABEL,
    BLUE,
    ERROR_LABEL,
    GREY,
    PREDICTED_LABEL,
    PURPLE,
    RED,
    SERIES,
    TRIMESTERS,
    TRUE_LABEL,
    UNKNOWN_TRIMESTER,
    column_of,
    dress,
    groups_of,
    new_figure,
    scatter_by_trimester,
    true_and_predicted_mm,
)


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
    rows, y_true_mm, y_pred_mm, remark = true_and_predicted_mm(rows)
    figure, (axes,) = new_figure(6.0)
    low_mm, high_mm = column_of(rows, "interval_low_mm"), column_of(rows, "interval_high_mm")
    bounded = np.isfinite(low_mm) & np.isfinite(high_mm)
    shown_mm = np.concatenate([y_true_mm, y_pred_mm, low_mm[bounded], high_mm[bounded]])
    margin_mm = 0.03 * np.ptp(shown_mm) + 1
    ends = np.array([shown_mm.min() - margin_mm, shown_mm.max() + margin_mm])
    axes.plot(ends, ends, color="black", linewidth=1.2, label="perfect: predicted = true")
    if bounded.any():
        bars = y_true_mm[bounded], low_mm[bounded], high_mm[bounded]
        axes.vlines(*bars, color=GREY, alpha=0.35, linewidth=1, label="prediction interval")
    scatter_by_trimester(axes, rows, y_true_mm, y_pred_mm)
    mae_mm = np.abs(y_pred_mm - y_true_mm).mean()
    dress(axes, TRUE_LABEL, PREDICTED_LABEL, f"{len(rows)} images, MAE {mae_mm:.1f} mm{remark}")
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
    rows, y_true_mm, y_pred_mm, remark = true_and_predicted_mm(rows)
    errors_mm = y_pred_mm - y_true_mm
    figure, panels = new_figure(4.0, 1, 3, sharey=True)
    for axes, x, label in zip(panels, (y_true_mm, y_pred_mm), (TRUE_LABEL, PREDICTED_LABEL)):
        axes.axhline(0, color="black", linewidth=1)
        scatter_by_trimester(axes, rows, x, errors_mm)
        dress(axes, label, ERROR_LABEL if axes is panels[0] else "")
    bins = np.histogram_bin_edges(errors_mm, bins=min(30, max(6, int(2 * np.sqrt(len(rows))))))
    panels[2].hist(errors_mm, bins=bins, orientation="horizontal", color=BLUE, alpha=0.75, edgecolor="white")
    mean_mm, sd_mm = errors_mm.mean(), _sd(errors_mm)
    panels[2].axhline(mean_mm, color=RED, linewidth=1.6, label=f"mean {mean_mm:+.1f} mm".replace("-", "−"))
    if np.isfinite(sd_mm):
        for sign, label in ((1, f"mean ± SD ({sd_mm:.1f} mm)"), (-1, None)):
            panels[2].axhline(mean_mm + sign * sd_mm, color=RED, linestyle="--", linewidth=1.2, label=label)
    dress(panels[2], "number of images", "")
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
        _, y_true_mm, y_pred_mm, _ = true_and_predicted_mm(parts)
        parts = {"true": y_true_mm, "predicted": y_pred_mm}
    parts = {name: np.asarray(values, dtype=float).ravel() for name, values in parts.items()}
    parts = {name: values[np.isfinite(values)] for name, values in parts.items()}
    empty = [name for name, values in parts.items() if not values.size]
    if empty or not parts:
        raise ValueError(f"Each part needs at least one finite head circumference. Without one: {empty or 'all'}.")
    figure, (axes,) = new_figure(3.7)
    together = np.concatenate(list(parts.values()))
    smallest = min(len(values) for values in parts.values())
    bins = np.histogram_bin_edges(together, bins=min(25, max(6, int(2 * np.sqrt(smallest)))))
    lines = ("-", "--", "-.", ":")
    for index, (name, values) in enumerate(parts.items()):
        colour = SERIES[index % len(SERIES)]
        shares_percent = np.full(len(values), 100 / len(values))
        label = f"{name} (n = {len(values)}, median {np.median(values):.0f} mm)"
        axes.hist(values, bins=bins, weights=shares_percent, color=colour, alpha=0.12)
        outline = {"histtype": "step", "linewidth": 2, "linestyle": lines[index % len(lines)]}
        axes.hist(values, bins=bins, weights=shares_percent, color=colour, label=label, **outline)
    dress(axes, "head circumference (mm)", "share of the part's images (%)")
    axes.legend(fontsize=10, frameon=False)
    return figure


def bland_altman(rows):
    """Draw the difference of predicted and true HC against their mean, with the limits of agreement.

    Parameters
    ----------
    rows : sequence of dict, or mapping of str to sequence of dict
        The per-subject table, at least three images. Of several runs by their names: a panel each, on one scale.

    Returns
    -------
    matplotlib.figure.Figure
        Solid line: bias (mean difference); dashed: bias ± 1.96 SD; bands: their confidence intervals.

    See Also
    --------
    hcreg.statistics.bland_altman : where the numbers come from.
    """
    runs = rows if isinstance(rows, Mapping) else {"": rows}
    figure, panels = new_figure(4.4, 1, len(runs), sharex=True, sharey=True)
    for axes, (name, run_rows) in zip(panels, runs.items()):
        remark = _draw_agreement(axes, run_rows, name)
        label = ERROR_LABEL if axes is panels[0] else ""
        dress(axes, "mean of true and predicted HC (mm)", label, remark.strip())
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    return figure


def _draw_agreement(axes, rows, name):
    """Draw one run; a name, and then the numbers, go into the title, since on a common scale labels may collide."""
    rows, y_true_mm, y_pred_mm, remark = true_and_predicted_mm(rows)
    result = statistics.bland_altman(y_pred_mm, y_true_mm)
    scatter_by_trimester(axes, rows, (y_true_mm + y_pred_mm) / 2, y_pred_mm - y_true_mm)
    axes.axhline(0, color="black", linewidth=0.8)
    lines = (
        ("upper limit", result.upper, result.upper_interval, RED, "--"),
        ("bias", result.bias, result.bias_interval, PURPLE, "-"),
        ("lower limit", result.lower, result.lower_interval, RED, "--"),
    )
    for label, value_mm, (low_mm, high_mm), colour, line in lines:
        axes.axhspan(low_mm, high_mm, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(value_mm, color=colour, linestyle=line, linewidth=1.6)
        if not name:
            text = f" {label}\n {value_mm:+.1f} mm".replace("-", "−")
            style = {"xycoords": ("axes fraction", "data"), "fontsize": 10, "color": "black", "va": "center"}
            axes.annotate(text, (1, value_mm), **style)
    numbers = f"bias {result.bias:+.1f}, limits {result.lower:+.1f} to {result.upper:+.1f} mm".replace("-", "−")
    return f"{name}\n{numbers}{remark}" if name else remark


def _absolute_error_boxes(rows, column, name_of, colour_of):
    rows, y_true_mm, y_pred_mm, remark = true_and_predicted_mm(rows)
    errors_mm = np.abs(y_pred_mm - y_true_mm)
    constant_mm = np.abs(column_of(rows, "constant_mm") - y_true_mm)
    figure, (axes,) = new_figure(4.2)
    groups = groups_of(rows, column)
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
    dress(axes, "", ABSOLUTE_ERROR_LABEL, remark.strip())
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
        return TRIMESTERS.get(value, UNKNOWN_TRIMESTER)

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
