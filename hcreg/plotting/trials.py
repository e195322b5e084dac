"""A search in pictures: the objective against the learning rate, and how the trials came to it."""

import math
from collections import Counter

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hcreg.plotting.canvas import BLUE, FAILURE_COLOUR, GREY, ORANGE, dress, new_figure

DIRECTIONS = ("min", "max")
STATES = ("completed", "diverged", "failed", "running", "waiting")
_DECADE = 10
_MAX_RATIO = 1e4  # of the values on a logarithmic axis; of a linear one see _limit
_MAX_SPANS = 20
_EDGE = 0.965  # of the axes' height, for what has no place on the axis
_CROSS = {"marker": "X", "color": FAILURE_COLOUR, "s": 48, "linewidths": 0, "zorder": 4}
_DOT = {"s": 40, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}


def learning_rate_curve(
    rows, objective="objective", hyperparameter="hp_learning_rate", *, direction="min", label=None, title=None
):
    """Draw the objective of each trial of a study against its learning rate.

    Parameters
    ----------
    rows : sequence of dict
        The table of a study: ``number``, ``state`` ("waiting", "running", "completed", "diverged" or "failed"), and
        the two columns named next; None where a trial lacks a value.
    objective : str
        Column to draw: the objective, or a metric such as "metric_val_mae".
    hyperparameter : str
        Column of the learning rate, or of another number that was searched for.
    direction : {"min", "max"}
        Whether the lowest or the highest value is best.
    label : str, optional
        Of the vertical axis, with the unit; the column's name by default.
    title : str, optional
        Stands before the counts of trials.

    Returns
    -------
    matplotlib.figure.Figure
        Completed trials are dots, coloured by their number; the best has a ring, and its value stands above. Diverged
        trials have no objective: they are crosses at the edge of the worst values. Failed and unfinished ones are
        counted in the title. Before any trial has completed or diverged the figure says so.

    Raises
    ------
    ValueError
        If the direction is none, a row lacks a column, or a trial's hyperparameter is no number.

    Notes
    -----
    The learning rate is on a logarithmic axis, another hyperparameter where it spans more than a decade. So is an
    objective to be lowered that spans more than a decade: the trials that matter lie close together at its foot. One
    to be raised has them at the top, where a logarithm is of no use. A value so far off that it would flatten the
    others, beyond 10,000 times the best on a logarithmic axis, is a triangle at the edge of the worst values.
    """
    _check_direction(direction)
    rows = list(rows)
    for row in rows:
        for column in ("number", "state", objective, hyperparameter):
            if column not in row:
                raise ValueError(
                    f"Each trial must have the column {column!r}. Trial {row.get('number', '?')} has: {_listed(row)}."
                )
    name = hyperparameter.removeprefix("hp_").replace("_", " ")
    figure, (axes,) = new_figure(4.6)
    dress(axes, name, label or objective, f"{title}, {_counts(rows)}" if title else _counts(rows))
    completed = _points(rows, "completed", hyperparameter, objective)
    diverged = _points(rows, "diverged", hyperparameter)
    if not completed and not diverged:
        return _said(figure, axes, "no trial has finished yet")
    places = np.array([x for _, x, *_ in (*completed, *diverged)])
    low, high = places.min(), places.max()
    if low > 0 and (name == "learning rate" or high > _DECADE * low):
        axes.set_xscale("log")
        margin = max(high / low, 10.0) ** 0.05
        axes.set_xlim(low / margin, high * margin)
    else:
        margin = 0.05 * ((high - low) or abs(high) or 1.0)
        axes.set_xlim(low - margin, high + margin)
    if completed:
        numbers, x, y = np.array(completed).T
        inside = _scale_y(axes, y, direction)
        _draw_completed(figure, axes, numbers.astype(int), x, y, inside, direction)
    else:
        axes.set_yticks([])
    if diverged:
        x = [place for _, place in diverged]
        _at_edge(axes, direction, x, f"diverged (n = {len(x)})", **_CROSS)
    figure.legend(loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    return figure


def trial_histories(history_rows, metric, *, direction="min", best=None, title=None):
    """Draw a metric against the epoch, a curve for each trial of a study.

    Parameters
    ----------
    history_rows : sequence of dict
        ``number`` of the trial, ``epoch`` (from 1) and the metrics by Keras's log names; ``execution`` where a trial
        was trained several times.
    metric : str
        What to draw, such as "val_loss".
    direction : {"min", "max"}
        Whether the lowest or the highest value is best.
    best : int, optional
        Number of the trial to bring out; by default the one with the best single epoch.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        The best trial is the thick line, with a dot on its best epoch. A cross at the edge of the worst values marks
        each epoch whose value was NaN or infinite. Without a row the figure says so.

    Raises
    ------
    ValueError
        If the direction is none, no epoch has the metric, or `best` is none of the trials.

    Notes
    -----
    The vertical axis is scaled and cut off as in `learning_rate_curve`, by the worst epoch.
    """
    _check_direction(direction)
    rows = list(history_rows)
    figure, (axes,) = new_figure(4.6)
    dress(axes, "epoch", metric, title)
    if not rows:
        return _said(figure, axes, "no trial has finished an epoch yet")
    curves = _curves(rows, metric)
    numbers = {number for number, _ in curves}
    sign = _sign(direction)
    if best is not None and best not in numbers:
        raise ValueError(f"No trial {best} has epochs with {metric!r}; the trials that have: {_listed(numbers)}.")
    lowest = {key: min((sign * y[np.isfinite(y)]).tolist(), default=math.inf) for key, (_, y) in curves.items()}
    chosen = min((key for key in curves if best in (None, key[0])), key=lowest.get)
    best = chosen[0] if math.isfinite(lowest[chosen]) else None
    for key, (epochs, y) in curves.items():
        if key[0] != best:
            _draw_history(axes, epochs, y, color=GREY, linewidth=1, alpha=max(0.12, min(0.7, 12 / len(curves))))
    for key, (epochs, y) in curves.items():
        if key[0] == best:
            _draw_history(axes, epochs, y, color=BLUE, linewidth=2.4, zorder=4)
    num_others = len(numbers) - (best is not None)
    if best is not None:
        epochs, y = curves[chosen]
        at = int(np.nanargmin(np.where(np.isfinite(y), sign * y, np.nan)))
        text = f"best: {y[at]:.4g} in epoch {epochs[at]:.0f} (trial {best})"
        axes.plot(epochs[at], y[at], "o-", color=BLUE, markersize=8, linewidth=2.4, label=text, zorder=5)
    if num_others:
        text = f"{num_others}{' other' if best is not None else ''} trial{'s' if num_others > 1 else ''}"
        axes.plot([], [], color=GREY, linewidth=1, label=text)
    values = np.concatenate([y for _, y in curves.values()])
    if np.isfinite(values).any():
        _scale_y(axes, values[np.isfinite(values)], direction)
    else:
        axes.set_yticks([])
    lost = [(epoch, key[0]) for key, (epochs, y) in curves.items() for epoch in epochs[~np.isfinite(y)]]
    if lost:
        num_lost = len({number for _, number in lost})
        text = f"NaN or infinite (in {num_lost} trial{'s' if num_lost > 1 else ''})"
        _at_edge(axes, direction, [epoch for epoch, _ in lost], text, **_CROSS)
    last = max(epochs.max() for epochs, _ in curves.values())
    margin = max(0.03 * last, 0.2)
    axes.set_xlim(1 - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside upper center", ncols=3, fontsize=10, frameon=False)
    return figure


def _draw_completed(figure, axes, numbers, x, y, inside, direction):
    order = {"vmin": numbers.min(), "vmax": max(numbers.max(), numbers.min() + 1), "cmap": "viridis"}
    label = f"completed (n = {len(numbers)})"
    dots = axes.scatter(x[inside], y[inside], c=numbers[inside], label=label, **order, **_DOT)
    if not inside.all():
        text = f"beyond the axis (n = {(~inside).sum()})"
        _at_edge(
            axes, direction, x[~inside], text, c=numbers[~inside], marker="^v"[direction == "max"], **order, **_DOT
        )
    best = int(np.argmin(_sign(direction) * y))
    text = f"best: {y[best]:.4g} at {x[best]:.3g} (trial {numbers[best]})"
    axes.axvline(x[best], color=ORANGE, linestyle=":", linewidth=1.4, zorder=2)
    ring = {"facecolors": "none", "edgecolors": ORANGE, "linewidths": 2.2, "zorder": 5}
    axes.scatter(x[best], y[best], s=150, label=text, **ring)
    if len(numbers) > 1:
        bar = figure.colorbar(dots, ax=axes, pad=0.01, aspect=30)
        bar.set_label("number of the trial", fontsize=10)
        bar.locator = MaxNLocator(integer=True, nbins=6)
        bar.update_ticks()
        bar.ax.tick_params(labelsize=9)
        bar.outline.set_visible(False)


def _draw_history(axes, epochs, y, **style):
    """A line that a value which is not finite interrupts; a single epoch would be no line."""
    axes.plot(epochs, np.where(np.isfinite(y), y, np.nan), marker="o" if len(y) == 1 else None, markersize=4, **style)


def _points(rows, state, *columns):
    """Number and values of the trials in a state that have them all."""
    points = []
    for row in rows:
        if row["state"] != state:
            continue
        values = [_number(row, column) for column in columns]
        if all(math.isfinite(value) for value in values):
            points.append((row["number"], *values))
    return points


def _number(row, column):
    value = row[column]
    if value is None:
        return math.nan
    if isinstance(value, (bool, str)):
        raise ValueError(f"{column} must be a number to be drawn on an axis. Trial {row['number']} has: {value!r}.")
    return float(value)


def _curves(rows, metric):
    """(number, execution) -> epochs and values, by epoch."""
    collected = {}
    for row in rows:
        if row.get(metric) is not None:
            collected.setdefault((row["number"], row.get("execution") or 0), []).append((row["epoch"], row[metric]))
    if not collected:
        names = {name for row in rows for name in row} - {"number", "execution", "epoch"}
        raise ValueError(f"No epoch has the metric {metric!r}; they have: {_listed(names)}.")
    return {key: np.array(sorted(collected[key]), float).T for key in sorted(collected)}


def _scale_y(axes, y, direction):
    """Choose the scale and limits of the vertical axis; return which of the values lie on it."""
    is_log = direction == "min" and y.min() > 0 and y.max() > _DECADE * y.min()
    limit = _limit(_sign(direction) * y, is_log)
    inside = _sign(direction) * y <= limit
    low, high = y[inside].min(), y[inside].max()
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        if high < 1e3 * low:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or abs(high) or 1.0
    near, far = 0.06 * span, 0.12 * span  # room for the marks at the edge of the worst values
    ends = (low - near, high + far) if direction == "min" else (low - far, high + near)
    axes.set_ylim([10**end for end in ends] if is_log else ends)
    return inside


def _limit(y, is_log):
    """The worst value still drawn, of values of which the lowest is best."""
    if is_log:
        return _MAX_RATIO * y.min()
    span = float(np.median(y) - y.min())
    return y.min() + _MAX_SPANS * span if span > 0 else y.max()


def _at_edge(axes, direction, x, label, **style):
    edge = _EDGE if direction == "min" else 1 - _EDGE
    axes.scatter(x, [edge] * len(x), transform=axes.get_xaxis_transform(), label=label, **style)


def _said(figure, axes, text):
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=12, color=GREY)
    return figure


def _counts(rows):
    """Such as "30 trials: 24 completed, 4 diverged, 2 failed"."""
    counts = Counter(row["state"] for row in rows)
    parts = ", ".join(
        f"{counts[state]} {state}" for state in (*STATES, *sorted(set(counts) - set(STATES))) if counts[state]
    )
    return f"{len(rows)} trial{'' if len(rows) == 1 else 's'}" + (f": {parts}" if parts else "")


def _sign(direction):
    return 1 if direction == "min" else -1


def _check_direction(direction):
    if direction not in DIRECTIONS:
        raise ValueError(f"A direction is 'min' (lower is better) or 'max'. Received: {direction!r}.")


def _listed(names):
    return ", ".join(map(str, sorted(names, key=str))) or "nothing"
