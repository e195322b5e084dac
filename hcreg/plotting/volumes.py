"""Charts of cardiac volumes: prediction against truth, and how they agree, a panel for each structure."""

import numpy as np

from hcreg import statistics
from hcreg.plotting.canvas import BLUE, RED, dress, new_figure
from hcreg.preprocessing.cardiac import STRUCTURES

PHASE_LOOKS = {"ED": (BLUE, "o"), "ES": (RED, "^")}
_MIN_PAIRS = 3  # below that there are no limits of agreement


def volume_agreement(rows, route="pred", title=""):
    """Draw the difference of predicted and true volumes against their mean, with the limits of agreement.

    Parameters
    ----------
    rows : sequence of dict
        Of ``predictions.csv`` of `hcreg.cardiac_volumes`.
    route : {"pred", "mask", "constant"}
        Whose volumes: predicted, of the predicted label map, or the mean of the training part.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each structure. Of each phase in its colour the points, solid the bias, dashed bias +- 1.96 SD; the
        numbers stand above. Fewer than three hearts have points alone.

    Raises
    ------
    ValueError
        If the rows hold no such volumes.

    See Also
    --------
    hcreg.statistics.bland_altman : where the numbers come from.
    """
    names = _names(rows, route)
    figure, panels = new_figure(4.2, 1, len(names))
    for axes, name in zip(panels, names):
        lines = [name]
        axes.axhline(0, color="black", linewidth=0.8)
        for phase, (true_ml, pred_ml) in _by_phase(rows, name, route).items():
            colour, marker = PHASE_LOOKS[phase]
            axes.scatter((true_ml + pred_ml) / 2, pred_ml - true_ml, s=18, color=colour, marker=marker, label=phase)
            if len(true_ml) < _MIN_PAIRS:
                lines.append(f"{phase}: {len(true_ml)} hearts, no limits")
                continue
            found = statistics.bland_altman(pred_ml, true_ml)
            for value_ml, line in ((found.upper, "--"), (found.bias, "-"), (found.lower, "--")):
                axes.axhline(value_ml, color=colour, linestyle=line, linewidth=1.3)
            numbers = f"{phase}: {found.bias:+.1f} ({found.lower:+.1f} to {found.upper:+.1f})"
            lines.append(numbers.replace("-", "\N{MINUS SIGN}"))
        label = "predicted \N{MINUS SIGN} true (ml)" if axes is panels[0] else ""
        dress(axes, "mean of both (ml)", label, "\n".join(lines))
    return _finished(figure, panels, title)


def volume_scatter(rows, route="pred", title=""):
    """Draw predicted against true volumes, with the identity line.

    Parameters
    ----------
    rows, route, title
        As for `volume_agreement`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each structure, its mean absolute error at each phase above.

    Raises
    ------
    ValueError
        If the rows hold no such volumes.
    """
    names = _names(rows, route)
    figure, panels = new_figure(4.2, 1, len(names))
    for axes, name in zip(panels, names):
        parts, lines = _by_phase(rows, name, route), [name]
        shown = np.concatenate([values for pair in parts.values() for values in pair])
        ends = np.array([min(0.0, shown.min()), 1.05 * shown.max()])
        axes.plot(ends, ends, color="black", linewidth=1.0)
        for phase, (true_ml, pred_ml) in parts.items():
            colour, marker = PHASE_LOOKS[phase]
            axes.scatter(true_ml, pred_ml, s=18, color=colour, marker=marker, label=phase)
            lines.append(f"{phase}: MAE {np.abs(pred_ml - true_ml).mean():.1f} ml")
        dress(axes, "true (ml)", "predicted (ml)" if axes is panels[0] else "", "\n".join(lines))
        axes.set_xlim(ends)
        axes.set_ylim(ends)
    return _finished(figure, panels, title)


def _names(rows, route):
    rows = list(rows)
    names = [name for name in (*STRUCTURES, "heart") if rows and f"{name}_{route}_ml" in rows[0]]
    if not names:
        raise ValueError(f"The rows hold no volumes of the route {route!r}: no column such as 'LV_{route}_ml'.")
    return names


def _by_phase(rows, name, route):
    parts = {}
    for phase in PHASE_LOOKS:
        pairs = [(row[f"{name}_true_ml"], row[f"{name}_{route}_ml"]) for row in rows if row["phase"] == phase]
        pairs = np.array([pair for pair in pairs if np.isfinite(pair).all()])
        if len(pairs):
            parts[phase] = pairs.T
    if not parts:
        raise ValueError(f"No row has both a true and a predicted volume of {name}: there is nothing to draw.")
    return parts


def _finished(figure, panels, title):
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
