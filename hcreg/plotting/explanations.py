"""One image explained by several analyzers: the picture that ``hcreg explain`` writes."""

import numpy as np

from hcreg.plotting.canvas import FAILURE_COLOUR, WIDTH_INCH, new_figure
from hcreg.plotting.image_panels import closed_contour, draw_fitted_ellipse, show_image, wrapped
from hcreg.plotting.saliency import SIGNED, UNSIGNED, draw_image

_COLUMNS = 4
_PERCENTILE = 99.5  # as saliency_grid's
_NOTHING = 1e-6  # a share of a map's largest value below which a negative one is rounding


def explanation_panels(image, maps, title, pixel_size_mm, units=None, ellipse=None, reasons=None):
    """Draw an image, and on it the map of each analyzer, each on a scale of its own.

    Parameters
    ----------
    image : array-like of shape (height, width)
        Grey values 0 to 255.
    maps : mapping of str to array-like of shape (height, width)
        By analyzer; at the image's size.
    title : str
    pixel_size_mm : float
        Along x; for the scale bar.
    units : mapping of str to str, optional
        Of each map; stands at its colour bar.
    ellipse : hcreg.geometry.Ellipse, optional
        The measured head, in pixels of the image.
    reasons : mapping of str to str, optional
        By analyzer, why there is no map; stands in its place.

    Returns
    -------
    matplotlib.figure.Figure
        Colours as of `hcreg.plotting.saliency.saliency_overlay`.

    Raises
    ------
    ValueError
        If a map is not of the image's size, or there is neither a map nor a reason.

    Notes
    -----
    Colours saturate at the 99.5th percentile of each map's absolute values, and maps of different analyzers cannot be
    compared by their colours.
    """
    image, units, reasons = np.asarray(image), dict(units or {}), dict(reasons or {})
    if not maps and not reasons:
        raise ValueError("An explanation needs the map of one analyzer at least. Received: none.")
    for name, values in maps.items():
        if np.shape(values) != image.shape:
            raise ValueError(
                f"The map of {name!r} must have its image's size, (height, width) = {image.shape}. "
                f"Received: {np.shape(values)}. hcreg.preprocessing.maps.relevance_to_image brings a map to it."
            )
    num_panels = 1 + len(maps) + len(reasons)
    num_columns = min(_COLUMNS, num_panels)
    num_lines = -(-num_panels // num_columns)
    panel_inch = WIDTH_INCH / num_columns
    height = (panel_inch * image.shape[0] / image.shape[1] + 0.62) * num_lines + 0.8
    figure, panels = new_figure(height, num_lines, num_columns)
    figure.set_dpi(float(np.clip(image.shape[1] / panel_inch, 130, 220)))
    show_image(panels[0], image, pixel_size_mm)
    draw_fitted_ellipse(panels[0], ellipse)
    panels[0].set_title("image" if ellipse is None else "image and measured ellipse", fontsize=9)
    for axes in panels:
        axes.set_axis_off()
    for axes, (name, values) in zip(panels[1:], maps.items()):
        draw_image(axes, image.astype(float))
        _draw(figure, axes, np.asarray(values, float), units.get(name, ""))
        if ellipse is not None:
            axes.plot(*closed_contour(ellipse).T, ":", color="white", linewidth=0.8, alpha=0.8, zorder=3)
        axes.set_title(name, fontsize=9, color="black")
        axes.set_anchor("N")
    for axes, (name, reason) in zip(panels[1 + len(maps) :], reasons.items()):
        axes.set_title(name, fontsize=9, color=FAILURE_COLOUR)
        style = {"transform": axes.transAxes, "fontsize": 7, "va": "top", "ha": "left", "color": FAILURE_COLOUR}
        axes.text(0.02, 0.95, "no map:\n" + wrapped(reason, 44), **style)
    figure.suptitle(title, fontsize=11, color="black")
    figure.supxlabel(
        "Relevance (mm): orange speaks for a longer circumference, blue for a shorter one; red to yellow: no sign.\n"
        "Gradients (mm per unit of input): where brighter pixels would lengthen (orange) or shorten (blue) it.\n"
        "Each map has a scale of its own, up to the 99.5th percentile: compare places, not colours, between analyzers.",
        fontsize=8,
        color="black",
    )
    return figure


def _draw(figure, axes, values, unit):
    magnitudes = np.abs(values)
    limit = float(np.percentile(magnitudes, _PERCENTILE) or magnitudes.max() or 1.0)
    signed = values.min() < -_NOTHING * magnitudes.max()
    low, colours = (-limit, SIGNED) if signed else (0.0, UNSIGNED)
    drawn = axes.imshow(values, cmap=colours, vmin=low, vmax=limit, interpolation="nearest", zorder=2)
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.85, pad=0.02, aspect=18)
    bar.ax.set_facecolor("black")
    number = f"{limit:.2g}".replace("-", "−")
    ticks = {-limit: f"−{number}", 0.0: "", limit: number} if signed else {0.0: "0", limit: number}
    bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=7)
    bar.set_label(unit, fontsize=7, labelpad=-8)
