"""Learning curves, of one run or of several beside each other."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hcreg.plotting.canvas import BLUE, GREY, RED, SERIES, column_of, dress, new_figure

# column of history.csv -> label; a run has those its network is judged by
_MEASURES = {
    "loss": "loss (no unit)",
    "dice_score": "Dice score (no unit)",
    "mae_px": "mean absolute error (px)",
}
_LOG_RATIO = 10
_LEARNED_DICE = 0.6  # where one gets above, what lies below is left out: the first epochs would flatten the rest


def history_curves(history_rows):
    """Draw loss, Dice score and mean absolute error against the epoch, training beside validation.

    Parameters
    ----------
    history_rows : sequence of dict
        Rows of ``history.csv``: ``epoch`` (from 1), ``loss``, of ``dice_score`` and ``mae_px`` what the network is
        judged by and, where there was validation, the same with ``val_`` before it.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each. The best epoch, marked, has the lowest validation loss (the lowest training loss without
        validation): its weights are the ones a run keeps.
    """
    rows = list(history_rows)
    epochs = column_of(rows, "epoch")
    measures = [name for name in _MEASURES if name in rows[0] or name == "loss"]
    figure, panels = new_figure(3.7, 1, len(measures))
    judge, best = _best(rows)
    for axes, name in zip(panels, measures):
        curves = [("training", name, BLUE, "-"), ("validation", f"val_{name}", RED, "--")]
        drawn = []
        for series, column, colour, line in curves:
            if column in rows[0] or column == "loss":
                values = column_of(rows, column)
                drawn.append(values)
                axes.plot(epochs, values, line, color=colour, linewidth=1.8, label=series)
                if best is not None and (series == "validation" or judge == "loss"):
                    axes.plot(epochs[best], values[best], "o", color=colour, markersize=7, zorder=4)
        if best is not None:
            label_best = f"best epoch: {epochs[best]:.0f}"
            axes.axvline(epochs[best], color=GREY, linestyle=":", linewidth=1.4, label=label_best)
        _dress(axes, name, drawn)
        axes.legend(fontsize=10, frameon=False)
    return figure


def learning_curves(histories):
    """Draw the learning curves of several runs, a colour for each run and a panel for each measure.

    Parameters
    ----------
    histories : mapping of str to sequence of dict
        Name of a run -> its rows of ``history.csv``, as in `history_curves`; at most six runs.

    Returns
    -------
    matplotlib.figure.Figure
        Solid: training; dashed: validation; a dot at each run's best epoch. Losses are of different kinds, so only
        their course compares, not their height.

    Raises
    ------
    ValueError
        If there is no run, or more than there are colours.
    """
    histories = {name: list(rows) for name, rows in histories.items()}
    if not 0 < len(histories) <= len(SERIES):
        raise ValueError(
            f"Learning curves of 1 to {len(SERIES)} runs fit one figure. Received: {len(histories)}. "
            "Draw them in groups, such as one for each network."
        )
    present = {column for rows in histories.values() for row in rows[:1] for column in row}
    measures = [name for name in _MEASURES if name in present or name == "loss"]
    figure, panels = new_figure(4.0 + 0.2 * (len(histories) > 3), 1, len(measures))
    drawn = {name: [] for name in measures}
    handles = []
    for (run, rows), colour in zip(histories.items(), SERIES):
        epochs = column_of(rows, "epoch")
        _, best = _best(rows)
        for axes, name in zip(panels, measures):
            columns = [(column, line) for column, line in ((name, "-"), (f"val_{name}", "--")) if column in rows[0]]
            for column, line in columns:
                values = column_of(rows, column)
                drawn[name].append(values)
                axes.plot(epochs, values, line, color=colour, linewidth=1.5, label=f"{run}, {column}")
            if best is not None and columns:
                axes.plot(epochs[best], values[best], "o", color=colour, markersize=6, zorder=4)
        ending = "" if best is None else f" (best epoch: {epochs[best]:.0f})"
        handles.append(Line2D([], [], color=colour, linewidth=2.5, label=f"{run}{ending}"))
    for axes, name in zip(panels, measures):
        _dress(axes, name, drawn[name])
    styles = [
        Line2D([], [], color="black", linestyle=line, linewidth=1.5, label=label)
        for label, line in (("training", "-"), ("validation", "--"))
    ]
    panels[0].legend(handles=styles, fontsize=10, frameon=False, loc="upper right")
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3), fontsize=10, frameon=False)
    return figure


def _best(rows):
    """The column that chooses the epoch, and the position of the epoch it chooses; None where none is finite."""
    judge = "val_loss" if "val_loss" in rows[0] else "loss"
    losses = column_of(rows, judge)
    return judge, int(np.nanargmin(losses)) if np.isfinite(losses).any() else None


def _dress(axes, name, drawn):
    everything = np.concatenate(drawn)
    everything = everything[np.isfinite(everything)]
    low, high = (everything.min(), everything.max()) if everything.size else (0.0, 0.0)
    if name == "dice_score":
        if high > _LEARNED_DICE:
            axes.set_ylim(max(low, _LEARNED_DICE) - 0.02, 1.005)
    elif low > 0 and high > _LOG_RATIO * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    dress(axes, "epoch", _MEASURES[name])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
