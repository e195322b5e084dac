"""The worst and the best images of a run, with the head as annotated and as large as predicted."""

import numpy as np
from matplotlib.patheffects import withStroke

from hcreg.plotting.canvas import (
    ORANGE,
    WIDTH_INCH,
    column_of,
    new_figure,
)

_SCALE_BAR_MM = 20


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
    column_of(rows, "y_pred_mm")
    chosen = rank_cases(rows, worst, num)
    if not chosen:
        raise ValueError("No row has a finite prediction, so there are no best cases to draw.")
    images = [np.asarray(load_image(row["subject_id"])) for row in chosen]
    num_rows = -(-len(chosen) // 3)
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    figure, panels = new_figure((WIDTH_INCH / 3 * tallest + 0.65) * num_rows + 0.4, num_rows, 3)
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
