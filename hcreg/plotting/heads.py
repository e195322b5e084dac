"""Charts of whole heads: volumes against truth, repeated scans, and where the surface of a prediction is wrong."""

import numpy as np

from hcreg import statistics
from hcreg.plotting.canvas import BLUE, ORANGE, PURPLE, RED, column_of, dress, new_figure

_MIN_PAIRS = 3  # below that there are no limits of agreement
_NUM_POINTS = 6000  # of one surface that are drawn


def head_volumes(rows, title=""):
    """Draw predicted against true volumes, and their difference against their mean: correlation and Bland-Altman.

    Parameters
    ----------
    rows : sequence of dict
        Of ``predictions.csv`` of `hcreg.head_volumes`, three volumes or more.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Left the points with the identity line and Pearson's r; right solid the bias, dashed bias +- 1.96 SD, as bands
        their confidence intervals.

    Raises
    ------
    ValueError
        If there are fewer than three rows, or one has no volumes.

    References
    ----------
    .. [1] yang2020has, Figure 8.
    """
    rows = list(rows)
    true_ml, pred_ml = column_of(rows, "volume_true_ml"), column_of(rows, "volume_pred_ml")
    if len(rows) < _MIN_PAIRS:
        raise ValueError(f"Limits of agreement need {_MIN_PAIRS} volumes or more. Received: {len(rows)}.")
    figure, (left, right) = new_figure(4.4, 1, 2)
    ends = np.array([0.95, 1.05]) * [min(true_ml.min(), pred_ml.min()), max(true_ml.max(), pred_ml.max())]
    left.plot(ends, ends, color="black", linewidth=1.0)
    left.scatter(true_ml, pred_ml, s=22, color=BLUE)
    left.set_xlim(ends)
    left.set_ylim(ends)
    varies = np.ptp(true_ml) > 0 and np.ptp(pred_ml) > 0
    correlation = f"r = {np.corrcoef(true_ml, pred_ml)[0, 1]:.4f}" if varies else "volumes do not vary"
    dress(left, "true volume (ml)", "predicted volume (ml)", f"{len(rows)} volumes, {correlation}")
    found = statistics.bland_altman(pred_ml, true_ml)
    right.axhline(0, color="black", linewidth=0.8)
    right.scatter((true_ml + pred_ml) / 2, pred_ml - true_ml, s=22, color=BLUE)
    for value, interval, colour, line in (
        (found.upper, found.upper_interval, RED, "--"),
        (found.bias, found.bias_interval, PURPLE, "-"),
        (found.lower, found.lower_interval, RED, "--"),
    ):
        right.axhspan(*interval, color=colour, alpha=0.13, linewidth=0)
        right.axhline(value, color=colour, linestyle=line, linewidth=1.5)
    numbers = f"bias {found.bias:+.1f}, limits {found.lower:+.1f} to {found.upper:+.1f} ml"
    minus = "\N{MINUS SIGN}"
    dress(right, "mean of both (ml)", f"predicted {minus} true (ml)", numbers.replace("-", minus))
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def repeated_scans(rows, title=""):
    """Draw the predicted and true volume of each scan, head by head.

    Parameters
    ----------
    rows : sequence of dict
        Of ``predictions.csv`` of `hcreg.head_volumes`, of one run.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Of each head, ordered by its true volume, a point for each scan, and a bar from the least to the greatest.

    Raises
    ------
    ValueError
        If there are no rows, or no head has two scans.

    See Also
    --------
    hcreg.head_volumes.summaries.reproducibility : the numbers.

    References
    ----------
    .. [1] yang2020has, Figure 9.
    """
    rows = list(rows)
    column_of(rows, "volume_pred_ml")
    heads = {}
    for row in rows:
        heads.setdefault(row["patient_id"], []).append((row["volume_true_ml"], row["volume_pred_ml"]))
    heads = {name: np.array(scans) for name, scans in heads.items() if len(scans) > 1}
    if not heads:
        raise ValueError("Repeated scans need a head with two scans or more; each has one.")
    figure, (axes,) = new_figure(4.4)
    names = sorted(heads, key=lambda name: heads[name][:, 0].mean())
    for kind, (label, colour, shift) in enumerate((("true", ORANGE, -0.12), ("predicted", BLUE, 0.12))):
        for place, name in enumerate(names):
            values = heads[name][:, kind]
            first = {"label": label} if place == 0 else {}
            axes.vlines(place + shift, values.min(), values.max(), color=colour, linewidth=2, alpha=0.5)
            axes.scatter(np.full(len(values), place + shift), values, s=16, color=colour, **first)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 12 else 0, fontsize=8)
    deviation = np.mean([np.std(heads[name][:, 1], ddof=1) for name in names])
    dress(axes, "", "volume (ml)", f"{len(names)} heads, mean SD of the scans of a head: {deviation:.1f} ml")
    axes.legend(fontsize=10, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def surface_errors(surfaces, title=""):
    """Draw surfaces of predicted heads, each point in the colour of its distance to the true surface.

    Parameters
    ----------
    surfaces : dict of str to tuple (points_mm, distances_mm)
        By what stands above each: places (num_points, 3) and distances (num_points,), in mm; see
        `hcreg.metrics.surface.point_distances`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        One panel each, three in a row, on one scale of colours from 0 to the greatest 99th percentile. Of large
        surfaces an even part is drawn.

    Raises
    ------
    ValueError
        If there are no surfaces, or one has no points.

    References
    ----------
    .. [1] yang2020has, Figures 4 and 5.
    """
    if not surfaces:
        raise ValueError("There are no surfaces to draw.")
    empty = [name for name, (points, _) in surfaces.items() if not len(points)]
    if empty:
        raise ValueError(f"A surface has points; without any: {', '.join(empty)}.")
    num_columns = min(3, len(surfaces))
    num_rows = -(-len(surfaces) // num_columns)
    figure, panels = new_figure(3.4 * num_rows, num_rows, num_columns, subplot_kw={"projection": "3d"})
    top = max(float(np.percentile(distances, 99)) for _, distances in surfaces.values()) or 1.0
    for axes, (name, (points, distances)) in zip(panels, surfaces.items()):
        step = -(-len(points) // _NUM_POINTS)
        points, shown = np.asarray(points)[::step], np.asarray(distances)[::step]
        drawn = axes.scatter(*points.T, c=shown, s=5, cmap="viridis", vmin=0, vmax=top, linewidths=0)
        axes.set_box_aspect(np.ptp(points, axis=0) + 1e-6)
        axes.set_axis_off()
        axes.set_title(f"{name}\nmean {np.mean(distances):.2f}, greatest {np.max(distances):.1f} mm", fontsize=9)
    for axes in panels[len(surfaces) :]:
        axes.set_axis_off()
    figure.colorbar(drawn, ax=list(panels), shrink=0.7, label="distance to the true surface (mm)")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
