"""What pictures of cases are made of: an image with a scale bar, outlines of heads on it, and their legend."""

import textwrap

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from hcreg.plotting.canvas import GREEN, ORANGE, SKY

_PREDICTED_MASK, _FITTED, _ANNOTATED = "predicted mask", "ellipse fitted to the mask", "annotated ellipse"
_SCALE_BAR_MM = 20
_DARK_EDGE = (withStroke(linewidth=4, foreground="black"),)  # seen on bright tissue too
_FILL_OPACITY = 0.16


def show_image(axes, image, pixel_size_mm):
    """Show a grey image of any size, with a scale bar and without axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    image : uint8 array of shape (height, width)
    pixel_size_mm : float
    """
    axes.set_anchor("N")
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    _scale_bar(axes, image.shape, pixel_size_mm)
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)


def closed_contour(ellipse, num_points=200):
    """Points round an ellipse, the first one again at the end: (num_points + 1, 2) of (x, y), px."""
    contour = ellipse.contour(num_points)
    return np.vstack([contour, contour[:1]])


def draw_true_ellipse(axes, ellipse):
    """Draw the annotated head; gives its part of the legend, none where there is no ellipse."""
    return _draw_ellipse(axes, ellipse, _ANNOTATED, "--", GREEN, zorder=5)


def draw_fitted_ellipse(axes, ellipse):
    """Draw the ellipse fitted to a predicted mask; gives its part of the legend, as `draw_true_ellipse`."""
    return _draw_ellipse(axes, ellipse, _FITTED, "-", ORANGE, zorder=4)


def draw_mask(axes, mask, label=_PREDICTED_MASK, colour=SKY):
    """Draw a predicted mask: its outermost pixels as a line, and thinly its inside.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    mask : bool array of shape (height, width), or None
        At the image's own size.
    label, colour : str

    Returns
    -------
    dict of str to artist
        For the legend; empty where there is nothing to draw.

    Raises
    ------
    ValueError
        If the mask is not of the image's size.
    """
    if mask is None or not np.any(mask):
        return {}
    mask = np.asarray(mask, bool)
    expected = axes.images[0].get_array().shape
    if mask.shape != expected:
        raise ValueError(
            f"A mask must have its image's size, (height, width) = {expected}. Received: {mask.shape}. "
            "hcreg.preprocessing.maps.map_to_image brings a network's map to it."
        )
    tint = np.zeros((*mask.shape, 4), np.float32)
    tint[mask] = (*to_rgb(colour), _FILL_OPACITY)
    axes.imshow(tint, interpolation="antialiased", zorder=2)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        points = np.vstack([contour[:, 0], contour[:1, 0]])
        (line,) = axes.plot(*points.T, "-", color=colour, linewidth=1.1, zorder=3)
    return {label: line}


def add_legend(figure, drawn, title=None):
    """Put the legend of what was drawn above all panels, below its title if it has one.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    drawn : dict of str to artist
    title : str, optional
    """
    if drawn or title:
        last = [name for name in (_FITTED, _ANNOTATED) if name in drawn]  # in one order, whatever panel came first
        drawn = {name: drawn[name] for name in [*(name for name in drawn if name not in last), *last]}
        style = {"loc": "outside upper center", "ncols": max(len(drawn), 1), "fontsize": 10, "frameon": False}
        figure.legend(drawn.values(), drawn.keys(), title=title, title_fontsize=11, **style)


def signed_mm(value_mm):
    """A difference as text, with its sign: +1.5 mm.

    Examples
    --------
    >>> signed_mm(-1.52)
    '−1.5 mm'
    """
    return f"{round(value_mm, 1) + 0.0:+.1f} mm".replace("-", "−")  # + 0.0: no negative zero


def wrapped(reason, width):
    """Why a measurement failed, in two short lines at most.

    Examples
    --------
    >>> wrapped("the mask is empty: no pixel of it lies above the threshold.", 20)
    'the mask is empty:\\nno pixel of it …'
    """
    lines = textwrap.wrap(reason, width - 2)
    return "\n".join([lines[0], f"{lines[1]} …"] if len(lines) > 2 else lines)


def _draw_ellipse(axes, ellipse, label, line, colour, zorder):
    if ellipse is None:
        return {}
    (drawn,) = axes.plot(*closed_contour(ellipse).T, line, color=colour, linewidth=1.5, zorder=zorder)
    return {label: drawn}


def _scale_bar(axes, shape, pixel_size_mm):
    height, width = shape[:2]
    length_px = _SCALE_BAR_MM / pixel_size_mm
    if np.isfinite(length_px) and length_px < 0.8 * width:
        right, y = 0.97 * width, 0.95 * height
        bar = [right - length_px, right], [y, y]
        axes.plot(*bar, "-", color="white", linewidth=2.5, path_effects=_DARK_EDGE, solid_capstyle="butt")
        style = {"color": "white", "fontsize": 8, "ha": "right", "va": "bottom", "path_effects": _DARK_EDGE}
        axes.text(right, y - 0.015 * height, f"{_SCALE_BAR_MM} mm", **style)
