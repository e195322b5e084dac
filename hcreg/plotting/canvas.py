"""What every figure shares: a canvas without window or state, colours, axes, and columns of the rows."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5A5A5A"
TRIMESTERS = {1: ("first trimester", BLUE, "o"), 2: ("second trimester", ORANGE, "s")}
TRIMESTERS[3] = ("third trimester", GREEN, "^")
UNKNOWN_TRIMESTER = ("trimester unknown", GREY, "D")
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
SKY = "#56B4E9"  # of Okabe and Ito too, for lines on tissue, where the darker blue is lost
FAILURE_COLOUR = "#B00000"

WIDTH_INCH = 9.0  # 1170 pixels: sharp at the width of the report's text
_DPI = 130

TRUE_LABEL = "true HC (mm)"
PREDICTED_LABEL = "predicted HC (mm)"
ERROR_LABEL = "error, predicted − true (mm)"
ABSOLUTE_ERROR_LABEL = "absolute error (mm)"


def save(figure, path, num_colours=None):
    """Write a figure as PNG; the same figure gives the same bytes every time.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Ends in ``.png``; missing folders are made.
    num_colours : int, 16 to 256, optional
        Write so many colours only: a picture of tissue then takes a third of the room.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If the path has another ending, or the colours are too few or too many.
    """
    path = Path(path)
    if num_colours is not None and not 16 <= num_colours <= 256:
        raise ValueError(f"A picture is written in 16 to 256 colours. Received: num_colours={num_colours}.")
    if path.suffix.lower() != ".png":
        raise ValueError(f"Figures are written as PNG. Expected a path that ends in .png, received: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if num_colours is None:
        figure.savefig(path, format="png", dpi="figure", metadata={"Software": None})
    else:
        figure.canvas.draw()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
        picture = picture.quantize(palette=_palette(picture, num_colours), dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
    return path


def _palette(picture, num_colours):
    """Colours for a picture: those of lines and text as they are, the others where most of its pixels are."""
    fixed = [int(colour[start : start + 2], 16) for colour in (*SERIES, SKY, FAILURE_COLOUR) for start in (1, 3, 5)]
    # Pillow's other methods tint the greys
    common = picture.quantize(num_colours - len(fixed) // 3, Image.Quantize.MEDIANCUT, kmeans=3).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed, *common])
    return palette


def new_figure(height_inch, num_rows=1, num_columns=1, **subplots):
    """A white figure of the common width, and its panels in reading order."""
    figure = Figure(
        figsize=(WIDTH_INCH, height_inch),
        dpi=_DPI,
        facecolor="white",
        edgecolor="white",
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(num_rows, num_columns, squeeze=False, **subplots)
    return figure, grid.ravel()


def dress(axes, x_label, y_label, title=None):
    """Labels, grid and spines in the common style."""
    axes.set_facecolor("white")
    axes.set_xlabel(x_label, fontsize=11, color="black")
    axes.set_ylabel(y_label, fontsize=11, color="black")
    if title:
        axes.set_title(title, fontsize=11, color="black")
    axes.tick_params(labelsize=10)
    axes.grid(True, color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def column_of(rows, name):
    """One column of the rows as floats; raises ValueError where there is no row, or one lacks the column."""
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


def true_and_predicted_mm(rows):
    """Return the drawable rows, their true and predicted HC, and a remark on what was left out."""
    rows = list(rows)
    y_true_mm, y_pred_mm = column_of(rows, "y_true_mm"), column_of(rows, "y_pred_mm")
    finite = np.isfinite(y_true_mm) & np.isfinite(y_pred_mm)
    if not finite.any():
        raise ValueError("No row has a finite y_true_mm and y_pred_mm, so there is nothing to draw.")
    missing = int((~finite).sum())
    remark = f"\n({missing} of {len(rows)} without a prediction, not drawn)" if missing else ""
    rows = [row for row, keep in zip(rows, finite) if keep]
    return rows, y_true_mm[finite], y_pred_mm[finite], remark


def groups_of(rows, column):
    """Sorted values of an integer column, each with the indices of its rows."""
    values = column_of(rows, column).astype(int)
    return {int(value): np.flatnonzero(values == value) for value in np.unique(values)}


def scatter_by_trimester(axes, rows, x, y):
    """Points, one an image, in the colour and marker of their trimester."""
    for trimester, members in groups_of(rows, "trimester").items():
        name, colour, marker = TRIMESTERS.get(trimester, UNKNOWN_TRIMESTER)
        label = f"{name} (n = {len(members)})"
        style = {"s": 28, "alpha": 0.8, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
        axes.scatter(x[members], y[members], color=colour, marker=marker, label=label, **style)
