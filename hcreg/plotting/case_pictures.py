"""The worst and the best images of a run, with the head as annotated and as predicted."""

import numpy as np

from hcreg.mask_measures import ellipse_of_row
from hcreg.plotting.canvas import FAILURE_COLOUR, ORANGE, SKY, WIDTH_INCH, column_of, new_figure
from hcreg.plotting.image_panels import (
    add_legend,
    closed_contour,
    draw_fitted_ellipse,
    draw_mask,
    draw_true_ellipse,
    show_image,
    signed_mm,
    wrapped,
)


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


def cases(rows, load_image, load_ellipse=None, worst=True, num=6, load_mask=None):
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
    load_mask : callable, optional
        ``subject_id`` -> the mask a segmentation network predicted, bool of the image's shape, or None.

    Returns
    -------
    matplotlib.figure.Figure
        Of a segmentation network, by the columns of its rows: the annotated ellipse dashed, the mask, and the ellipse
        fitted to it. Of a direct regressor, which predicts a length and no place: the annotated ellipse solid, and
        dashed the same ellipse grown or shrunk to the predicted circumference, which compares sizes only.

    Raises
    ------
    ValueError
        If there is no row, or, among the best cases, none with a prediction; if a mask is not of its image's size.
    """
    column_of(rows, "y_pred_mm")
    chosen = rank_cases(rows, worst, num)
    if not chosen:
        raise ValueError("No row has a finite prediction, so there are no best cases to draw.")
    images = [np.asarray(load_image(row["subject_id"])) for row in chosen]
    num_rows = -(-len(chosen) // 3)
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    title_lines = max(_case_title(row).count("\n") for row in chosen) + 1
    height = (WIDTH_INCH / 3 * tallest + 0.17 * title_lines + 0.14) * num_rows + 0.4
    figure, panels = new_figure(height, num_rows, 3)
    drawn = {}
    for axes, row, image in zip(panels, chosen, images):
        show_image(axes, image, float(row["pixel_size_mm"]))
        ellipse = load_ellipse(row["subject_id"]) if load_ellipse else None
        if "dice_ellipse" in row:
            drawn |= draw_mask(axes, load_mask(row["subject_id"]) if load_mask else None)
            drawn |= draw_fitted_ellipse(axes, ellipse_of_row(row)) | draw_true_ellipse(axes, ellipse)
        elif ellipse is not None:
            drawn |= _compare_sizes(axes, ellipse, row["y_pred_mm"] / row["y_true_mm"])
        failed = row.get("failure") or not np.isfinite(row["y_pred_mm"])
        style = {"fontsize": 9, "linespacing": 1.35, "color": FAILURE_COLOUR if failed else "black"}
        axes.set_title(_case_title(row), **style)
    for axes in panels:
        axes.set_axis_off()
    add_legend(figure, drawn)
    return figure


def _compare_sizes(axes, ellipse, ratio):
    contour = closed_contour(ellipse)
    drawn = {}
    center = np.array([ellipse.center_x_px, ellipse.center_y_px])
    (drawn["annotated ellipse"],) = axes.plot(*contour.T, "-", color=SKY, linewidth=1.5)
    if np.isfinite(ratio) and ratio > 0:
        scaled = center + ratio * (contour - center)
        (drawn["scaled to the predicted HC"],) = axes.plot(*scaled.T, "--", color=ORANGE, linewidth=1.5)
    return drawn


def _case_title(row):
    true_mm, pred_mm = float(row["y_true_mm"]), float(row["y_pred_mm"])
    low_mm, high_mm = float(row.get("interval_low_mm", "nan")), float(row.get("interval_high_mm", "nan"))
    dice = float(row.get("dice_ellipse", "nan"))
    overlap = f", Dice {dice:.3f}" if np.isfinite(dice) else ""
    lines = [f"{row['subject_id']}, trimester {row['trimester']}{overlap}", f"true {true_mm:.1f} mm, no prediction"]
    if np.isfinite(pred_mm):
        error = signed_mm(pred_mm - true_mm).removesuffix(" mm")
        lines[1] = f"true {true_mm:.1f}, predicted {pred_mm:.1f} mm ({error})"
    if np.isfinite(low_mm) and np.isfinite(high_mm):
        inside = "holds" if low_mm <= true_mm <= high_mm else "misses"
        lines.append(f"interval {low_mm:.0f} to {high_mm:.0f} mm {inside} the true HC")
    if row.get("failure"):
        lines.append(wrapped(row["failure"], 46))
    return "\n".join(lines)
