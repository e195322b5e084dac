"""Figures of segmentation runs: their masks on the same images, and what post-processing does to them.

Rows are those of `hcreg.plotting`, with the columns that a mask adds (`hcreg.mask_measures.mask_columns`).
"""

import numpy as np

from hcreg.geometry.masks import largest_component
from hcreg.mask_measures import ellipse_of_row
from hcreg.plotting.canvas import FAILURE_COLOUR, RED, WIDTH_INCH, column_of, dress, new_figure, scatter_by_trimester
from hcreg.plotting.image_panels import (
    add_legend,
    draw_fitted_ellipse,
    draw_mask,
    draw_true_ellipse,
    show_image,
    signed_mm,
    wrapped,
)

_NOTEWORTHY_MM = 0.1  # below, a change of HC is one of rounding
_MISSED_DICE = 0.5
_LETTERS = 150  # of a title's size, across a figure


def overlays(rows_by_network, subjects, load_image, load_ellipse=None, load_mask=None):
    """Draw the segmentation of the same images by several networks.

    Parameters
    ----------
    rows_by_network : mapping of str to sequence of dict
        The per-subject table of each network.
    subjects : sequence of str, or mapping of str to str
        Subject ids of the images; of a mapping, the text that stands above each.
    load_image, load_ellipse : callable
        ``subject_id`` -> image, annotated ellipse or None, as in `hcreg.plotting.cases`.
    load_mask : callable, optional
        ``(network, subject_id)`` -> predicted mask, bool of the image's shape, or None.

    Returns
    -------
    matplotlib.figure.Figure
        A line of panels for each network, a column for each image. Above a panel the Dice score of the fitted ellipse
        and the error of the head circumference, or why there is none.

    Raises
    ------
    ValueError
        If there is no network or no image, or a network has no row of an image.
    """
    subjects = dict(subjects) if hasattr(subjects, "keys") else dict.fromkeys(subjects, "")
    if not rows_by_network or not subjects:
        raise ValueError(
            "Overlays need at least one network and one image. "
            f"Received: {len(rows_by_network)} network(s) and {len(subjects)} image(s)."
        )
    images = {subject: np.asarray(load_image(subject)) for subject in subjects}
    shape = (len(rows_by_network), len(subjects))
    titles, shown = np.empty(shape, object), np.empty(shape, object)
    for line, (network, rows) in enumerate(rows_by_network.items()):
        by_subject = {row["subject_id"]: row for row in rows}
        missing = [subject for subject in subjects if subject not in by_subject]
        if missing:
            raise ValueError(f"The rows of {network} lack {', '.join(missing)}: take images that all networks tested.")
        for column, (subject, text) in enumerate(subjects.items()):
            row = by_subject[subject]
            head = f"{subject}, HC {row['y_true_mm']:.1f} mm\n{text}\n" if line == 0 else ""
            result = _result(row, "ellipse", row["y_pred_mm"], _LETTERS // len(subjects))
            titles[line, column], shown[line, column] = head + result, (network, subject, row)
    figure, panels = _grid(titles, images.values())
    drawn = {}
    for axes, title, (network, subject, row) in zip(panels.ravel(), titles.ravel(), shown.ravel()):
        show_image(axes, images[subject], float(row["pixel_size_mm"]))
        drawn |= draw_mask(axes, load_mask(network, subject) if load_mask else None)
        drawn |= draw_fitted_ellipse(axes, ellipse_of_row(row))
        drawn |= draw_true_ellipse(axes, load_ellipse(subject) if load_ellipse else None)
        _label(axes, title, row, "ellipse")
    for axes, network in zip(panels[:, 0], rows_by_network):
        axes.set_ylabel(network, fontsize=10)
    add_legend(figure, drawn)
    return figure


def rank_post_processing(rows, num=3):
    """Return the rows in which post-processing changes the head circumference most, the largest change first.

    A row that only one of the two ways can measure comes before all others; equal changes are ordered by that of the
    Dice score, then by subject.
    """

    def rank(row):
        return -_change_mm(row), -abs(row["dice_original"] - row["dice_ellipse"]), row["subject_id"]

    return sorted(rows, key=rank)[:num]


def _change_mm(row):
    """Change of HC by post-processing; infinite where one way alone measures, -1 where none does."""
    known = [np.isfinite(row[name]) for name in ("hc_original_mm", "hc_ellipse_mm")]
    if all(known):
        return abs(row["hc_original_mm"] - row["hc_ellipse_mm"])
    return np.inf if any(known) else -1.0


def post_processing(rows, load_image, load_mask, load_ellipse=None, num=3):
    """Draw masks before and after post-processing, where it changes the head circumference most.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table of a segmentation network.
    load_image, load_mask, load_ellipse : callable
        ``subject_id`` -> image, predicted mask (bool of the image's shape, or None), annotated ellipse or None.
    num : int
        How many images, at most.

    Returns
    -------
    matplotlib.figure.Figure
        Above: the mask as it is, what post-processing removes in red; its HC is the sum over all components. Below:
        the largest component and the ellipse fitted to it.

    Raises
    ------
    ValueError
        If there is no row, or the rows are a direct regressor's.
    """
    for name in ("hc_original_mm", "hc_ellipse_mm"):
        column_of(rows, name)  # refuses what is no table of a segmentation network
    chosen = rank_post_processing(rows, num)
    images = [np.asarray(load_image(row["subject_id"])) for row in chosen]
    routes = (("original", "failure_original"), ("ellipse", "failure"))
    titles = np.empty((2, len(chosen)), object)
    for column, row in enumerate(chosen):
        for line, (route, failure) in enumerate(routes):
            head = f"{row['subject_id']}, HC {row['y_true_mm']:.1f} mm\n" if line == 0 else ""
            result = _result(row, route, row[f"hc_{route}_mm"], _LETTERS // len(chosen), failure)
            titles[line, column] = head + result
    figure, panels = _grid(titles, images)
    drawn = {}
    for (before, after), row, image, title in zip(panels.T, chosen, images, titles.T):
        subject = row["subject_id"]
        kept, removed = _split(load_mask(subject))
        for axes in (before, after):
            show_image(axes, image, float(row["pixel_size_mm"]))
            drawn |= draw_mask(axes, kept)
        drawn |= draw_mask(before, removed, "removed by post-processing", RED)
        drawn |= draw_fitted_ellipse(after, ellipse_of_row(row))
        for axes, text, (route, failure) in zip((before, after), title, routes):
            drawn |= draw_true_ellipse(axes, load_ellipse(subject) if load_ellipse else None)
            _label(axes, text, row, route, failure)
    for axes, text in zip(panels[:, 0], ("mask as it is", "after post-processing")):
        axes.set_ylabel(text, fontsize=10)
    changed = sum(_change_mm(row) > _NOTEWORTHY_MM for row in rows)
    share = f"HC differs by more than {_NOTEWORTHY_MM} mm in {changed} of {len(rows)} images"
    add_legend(figure, drawn, f"{share}; the {len(chosen)} most changed")
    return figure


def post_processing_errors(rows):
    """Draw the absolute error of the ellipse fitted to the largest component against that of the mask as it is.

    Parameters
    ----------
    rows : sequence of dict
        The per-subject table of a segmentation network.

    Returns
    -------
    matplotlib.figure.Figure
        One point an image, on logarithmic axes; below the diagonal post-processing brings HC nearer to the truth.

    Raises
    ------
    ValueError
        If there is no row that both ways can measure, or the rows are a direct regressor's.
    """
    rows = list(rows)
    true_mm = column_of(rows, "y_true_mm")
    before_mm = np.abs(column_of(rows, "hc_original_mm") - true_mm)
    after_mm = np.abs(column_of(rows, "hc_ellipse_mm") - true_mm)
    finite = np.isfinite(before_mm) & np.isfinite(after_mm)
    if not finite.any():
        raise ValueError("No row has a finite hc_original_mm and hc_ellipse_mm, so there is nothing to draw.")
    shown = [row for row, keep in zip(rows, finite) if keep]
    before_mm, after_mm = before_mm[finite], after_mm[finite]
    figure, (axes,) = new_figure(5.6)
    lowest = 0.01  # what is nearer to the truth stands on the edge
    ends = np.array([lowest * 0.8, max(before_mm.max(), after_mm.max(), 1.0) * 1.4])
    axes.plot(ends, ends, color="black", linewidth=1.2, label="no change")
    scatter_by_trimester(axes, shown, np.maximum(before_mm, lowest), np.maximum(after_mm, lowest))
    remark = f"\n({len(rows) - len(shown)} of {len(rows)} measured by one way or none, not drawn)"
    means = f"MAE {before_mm.mean():.2f} mm before, {after_mm.mean():.2f} mm after"
    title = f"{len(shown)} images: {means}{remark if len(shown) < len(rows) else ''}"
    dress(axes, "absolute error, mask as it is (mm)", "absolute error, fitted ellipse (mm)", title)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal", adjustable="box")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.legend(fontsize=10, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def _split(mask):
    """The mask's largest component, holes filled, and the rest; None twice where there is no mask."""
    if mask is None or not np.any(mask):
        return None, None
    mask = np.asarray(mask, bool)
    component, (left, top) = largest_component(mask)
    kept = np.zeros(mask.shape, bool)
    kept[top : top + component.shape[0], left : left + component.shape[1]] = component > 0
    return kept, mask & ~kept


def _result(row, route, hc_mm, width, failure="failure"):
    """Dice score and error of one way from mask to HC, or why there is none."""
    reason = wrapped(f"failed: {row[failure]}", width) if row.get(failure) else ""
    if not np.isfinite(hc_mm):
        return reason or "failed: no finite HC"
    measured = f"Dice {row[f'dice_{route}']:.3f}, HC {signed_mm(hc_mm - row['y_true_mm'])}"
    return f"{measured}\n{reason}" if reason else measured


def _grid(titles, images):
    """A figure just high enough for a panel below each title, and its panels in the titles' shape."""
    num_lines, num_columns = titles.shape
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    picture_inch = ((WIDTH_INCH - 0.3) / num_columns - 0.09) * tallest + 0.12
    text_inch = sum(0.146 * (max(title.count("\n") for title in line) + 1) + 0.1 for line in titles)
    figure, panels = new_figure(picture_inch * num_lines + text_inch + 0.45, num_lines, num_columns)
    return figure, panels.reshape(titles.shape)


def _label(axes, title, row, route, failure="failure"):
    """Title, in red where nothing was measured or something else than the head; no ticks, no frame."""
    missed = row.get(failure) or not row[f"dice_{route}"] >= _MISSED_DICE
    axes.set_title(title, fontsize=8, linespacing=1.3, color=FAILURE_COLOUR if missed else "black")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
