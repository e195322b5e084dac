"""Pictures of attribution maps: one on its image, or images by analyzers, with colours that tell the sign."""

import re
from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize

from hcreg.plotting.canvas import ORANGE, RED, SKY, WIDTH_INCH, new_figure

SCALES = ("panel", "column")
_YELLOW = "#F0E442"
_STRONGEST = 0.95  # opacity
_NOTHING = 1e-6  # a share of a map's largest value below which a negative one is rounding
_DPI_RANGE = (130, 300)
_BAR_INCH = 0.1
_OVERLAY_INCH = 6.0


def _with_opacity(colours, opacity):
    """A colour map that is clear at 0, so that tissue stays in sight."""
    table = LinearSegmentedColormap.from_list("", colours)(np.linspace(0, 1, 257))
    table[:, 3] = _STRONGEST * opacity
    return ListedColormap(table)


# Sky blue and orange are told apart with any colour vision, and on black as on grey.
# Positive and negative values of a signed map are thin on the ground and mixed: they are made stronger.
SIGNED = _with_opacity((SKY, SKY, ORANGE, ORANGE), np.abs(np.linspace(-1, 1, 257)) ** 0.7)
UNSIGNED = _with_opacity((RED, ORANGE, _YELLOW), np.linspace(0, 1, 257))


def saliency_overlay(image, saliency_map, title=None, percentile=99.5, label="relevance"):
    """Draw one map on its image, with a colour bar.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels), any intensities
        Shown in grey, as the mean of its channels, from its lowest to its highest value.
    saliency_map : array-like of shape (height, width) or (height, width, channels)
        Channels are summed.
    title : str, optional
    percentile : float above 50, at most 100
        Colours saturate at this percentile of the map's absolute values.
    label : str
        What the map holds, with its unit; stands at the colour bar.

    Returns
    -------
    matplotlib.figure.Figure
        Orange: positive, blue: negative, with limits symmetric about 0; a map without negative values is red to
        yellow, from 0. The opacity grows with the magnitude.

    Raises
    ------
    ValueError
        If the map is not of the image's size or not finite, or the percentile is out of range.
    """
    _check_percentile(percentile)
    image = shown(image)
    values = _checked_map(saliency_map, image.shape[:2], "The map")
    height, width = image.shape[0] / max(image.shape), image.shape[1] / max(image.shape)
    figure, (axes,) = new_figure(_OVERLAY_INCH * height + 0.6)
    figure.set_figwidth(_OVERLAY_INCH * width + 1.5)
    draw_image(axes, image)
    drawn = _draw_map(axes, values, _is_signed([values]), _limit([values], percentile))
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9, pad=0.02, extend=_extension(values, drawn))
    bar.ax.set_facecolor("black")
    bar.set_label(label, fontsize=10)
    bar.ax.tick_params(labelsize=9)
    if title:
        axes.set_title(title, fontsize=11, color="black")
    caption = f"Colours saturate at the {_ordinal(percentile)} of the absolute values."
    figure.supxlabel(caption, fontsize=8, color="black")
    return figure


def saliency_grid(images, maps, percentile=99.5, scale="panel", overlay=True):
    """Draw maps of several images by several analyzers, as figure 14 of zhang2021biometrics.

    Parameters
    ----------
    images : sequence of array-like, or mapping of str to array-like; each (height, width[, channels])
        A line of panels for each: several images, or one image for several models. A mapping's keys stand beside the
        lines.
    maps : mapping of str to sequence of array-like, each (height, width[, channels])
        Name of an analyzer -> its map of each image; a column of panels for each, after that of the images. Channels
        are summed.
    percentile : float above 50, at most 100
        Colours saturate at this percentile of the absolute values.
    scale : {"panel", "column"}
        Whether each map has a scale of its own, named below it, or all maps of an analyzer share one. Analyzers never
        share one: their units differ.
    overlay : bool
        On the image, or else on black.

    Returns
    -------
    matplotlib.figure.Figure
        Colours as of `saliency_overlay`; an analyzer is signed if any of its maps is. A colour bar for each analyzer.

    Raises
    ------
    ValueError
        If there is no image or no analyzer, an analyzer has not one map for each image, a map is not of its image's
        size or not finite, or the percentile or the scale is unknown.
    """
    _check_percentile(percentile)
    if scale not in SCALES:
        raise ValueError(f"scale is one of {', '.join(SCALES)}. Received: {scale!r}.")
    names = list(images) if isinstance(images, Mapping) else [""] * len(images)
    images = [shown(image) for image in (images.values() if isinstance(images, Mapping) else images)]
    if not images or not maps:
        raise ValueError(
            "A grid of maps needs at least one image and one analyzer. "
            f"Received: {len(images)} image(s) and {len(maps)} analyzer(s)."
        )
    columns = {name: _column(name, column, images) for name, column in maps.items()}
    panel_inch = (WIDTH_INCH - 0.3) / (len(columns) + 1) - 0.08
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    text_inch = 0.14 if scale == "panel" else 0.0
    height = (panel_inch * tallest + text_inch) * len(images) + 0.9
    ratios = {"height_ratios": [panel_inch * tallest] * len(images) + [_BAR_INCH]}
    figure, panels = new_figure(height, len(images) + 1, len(columns) + 1, gridspec_kw=ratios)
    figure.get_layout_engine().set(hspace=0.02, h_pad=0.03)
    widest = max(image.shape[1] for image in images)
    figure.set_dpi(float(np.clip(1.1 * widest / panel_inch, *_DPI_RANGE)))  # a map's pixel is not lost in the picture
    panels, bars = np.split(panels.reshape(len(images) + 1, -1), [len(images)])
    bars[0, 0].set_axis_off()
    width = int(panel_inch * 15)  # letters of a title
    for axes, image, name in zip(panels[:, 0], images, names):
        draw_image(axes, image)
        height_inch = panel_inch * image.shape[0] / image.shape[1]
        axes.set_ylabel(_broken(name, max(8, int(height_inch * 15))), fontsize=8)
    panels[0, 0].set_title("image", fontsize=8, color="black")
    for column, bar, (name, column_maps) in zip(panels.T[1:], bars[0, 1:], columns.items()):
        signed, shared = _is_signed(column_maps), _limit(column_maps, percentile)
        for axes, image, values in zip(column, images, column_maps):
            draw_image(axes, image if overlay else np.zeros_like(image))
            limit = _limit([values], percentile) if scale == "panel" else shared
            _draw_map(axes, values, signed, limit)
            text = f"s = {_number(limit)}" if scale == "panel" else ""
            axes.set_xlabel(text if values.any() else "0 everywhere", fontsize=6, labelpad=1.5)
        column[0].set_title(_broken(name, width), fontsize=8, color="black", linespacing=1.1)
        _colour_bar(figure, bar, signed, shared if scale == "column" else None)
    whose = "each map's absolute values" if scale == "panel" else "the absolute values of all maps of an analyzer"
    saturates = "s, the" if scale == "panel" else "the"
    figure.supxlabel(f"Colours saturate at {saturates} {_ordinal(percentile)} of {whose}.", fontsize=8, color="black")
    return figure


def shown(image):
    """A checked image to draw: (height, width), or (height, width, 3) where its channels differ.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)

    Returns
    -------
    float array
        Of three equal channels, or of any other number of them, the mean.

    Raises
    ------
    ValueError
        If it is no image or not finite.
    """
    image = np.asarray(image, float)
    if image.ndim not in {2, 3} or not image.size:
        raise ValueError(f"An image is of shape (height, width) or (height, width, channels). Received: {image.shape}.")
    if not np.isfinite(image).all():
        raise ValueError(f"An image must be finite. Received: {np.sum(~np.isfinite(image))} NaN or infinite values.")
    coloured = image.ndim == 3 and image.shape[2] == 3 and np.ptp(image, axis=2).any()
    return image if coloured or image.ndim == 2 else image.mean(axis=2)


def draw_image(axes, image, window=None):
    """Show an image without ticks and frame, its window's ends black and white.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    image : array of `shown`
    window : (low, high), optional
        By default from the image's lowest to its highest value.
    """
    low, high = window or (image.min(), image.max())
    scaled = np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros_like(image)
    axes.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _column(name, column, images):
    column = list(column)
    if len(column) != len(images):
        raise ValueError(
            f"Each analyzer needs one map for each image. Received: {len(column)} map(s) of {name!r} for "
            f"{len(images)} image(s)."
        )
    return [
        _checked_map(values, image.shape[:2], f"Map {number} of {name!r}")
        for number, (values, image) in enumerate(zip(column, images))
    ]


def _checked_map(values, shape, what):
    """A map (height, width) of finite numbers, its channels summed."""
    values = np.asarray(values, float)
    if values.ndim not in {2, 3} or values.shape[:2] != shape:
        raise ValueError(
            f"{what} must have its image's size, (height, width[, channels]) of {shape}. Received: {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{what} must be finite. Received: {np.sum(~np.isfinite(values))} NaN or infinite of {values.size} values."
        )
    return values if values.ndim == 2 else values.sum(axis=2)


def _check_percentile(percentile):
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile must be above 50 and at most 100. Received: {percentile}.")


def _is_signed(maps):
    return any(values.min() < -_NOTHING * np.abs(values).max() for values in maps)


def _limit(maps, percentile):
    """Where colours saturate; the largest value where the percentile is 0, and 1 where that is 0 too."""
    magnitudes = np.abs(np.concatenate([values.ravel() for values in maps]))
    return float(np.percentile(magnitudes, percentile) or magnitudes.max() or 1.0)


def _draw_map(axes, values, signed, limit):
    low, colours = (-limit, SIGNED) if signed else (0.0, UNSIGNED)
    return axes.imshow(values, cmap=colours, vmin=low, vmax=limit, interpolation="nearest", zorder=2)


def _extension(values, drawn):
    """Whether values lie beyond the colour bar's ends."""
    low, high = drawn.get_clim()
    below, above = low < 0 and values.min() < low, values.max() > high
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _colour_bar(figure, axes, signed, limit):
    """Of a column: in its own values, or in parts of each map's s where there is no common limit."""
    high = limit or 1.0
    mappable = ScalarMappable(Normalize(-high if signed else 0.0, high), SIGNED if signed else UNSIGNED)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal")
    bar.ax.set_facecolor("black")
    number = _number(high) if limit else "s"
    ticks = {-high: f"−{number}", 0.0: "0", high: number} if signed else {0.0: "0", high: number}
    bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=7)
    first, *_, last = bar.ax.get_xticklabels()
    first.set_ha("left")  # within the column: outside they would push the columns apart
    last.set_ha("right")


def _number(value):
    """A positive number of two digits, as short as it gets.

    Examples
    --------
    >>> _number(0.00123), _number(0.25), _number(268.0), _number(340000.0)
    ('1.2e−3', '0.25', '270', '3.4e5')
    """
    mantissa, exponent = f"{value:.1e}".split("e")
    if -2 <= int(exponent) <= 3:
        return f"{float(f'{value:.1e}'):g}"
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def _ordinal(percentile):
    return f"{percentile:g}th percentile"


def _broken(name, width):
    """A name broken after underscores and points where it is too long for its column.

    Examples
    --------
    >>> _broken("integrated_gradients", 12)
    'integrated_\\ngradients'
    """
    lines = [""]
    for part in re.findall(r"[^_.\s]+[_.\s]*", name) or [name]:
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
