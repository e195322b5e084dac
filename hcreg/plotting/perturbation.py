"""Pictures of the perturbation of regions: what the network was shown, and how its error grows."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from hcreg.plotting.canvas import ORANGE, SERIES, SKY, WIDTH_INCH, dress, new_figure
from hcreg.plotting.saliency import draw_image, shown

_COLUMNS = 6
_DARK_EDGE = (withStroke(linewidth=2.2, foreground="black"),)
_COLOURS = (*SERIES, SKY, "black")  # eight; the next eight analyzers have white markers
_MARKERS = "osD^vPX*"
MAX_ANALYZERS = 2 * len(_COLOURS)


def perturbation_pictures(sequence, region_order, regions=(4, 4), steps=None, regions_per_step=1, errors=None, unit=""):
    """Draw an image with none, one, two, ... regions replaced, as figure 15 of zhang2021biometrics.

    Parameters
    ----------
    sequence : array-like of shape (num_steps + 1, height, width) or (num_steps + 1, height, width, channels)
        The clean image, and what it is after each step (`hcreg.analyzers.perturbation_sequence`).
    region_order : sequence of int
        Numbers of the regions in the order they were replaced, counted line by line from the top left.
    regions : (int, int)
        Regions along the height and along the width.
    steps : sequence of int, optional
        Which to draw; all by default.
    regions_per_step : int
    errors : sequence of float, optional
        Of the prediction for each picture of `sequence`; stands above it.
    unit : str
        Of the errors.

    Returns
    -------
    matplotlib.figure.Figure
        Regions are outlined and numbered in their order, those of the last step thick and orange. All pictures have
        the clean image's window of intensities.

    Raises
    ------
    ValueError
        If the sequence, the order, the steps and the errors do not fit each other.
    """
    sequence = [shown(image) for image in sequence]
    order = [int(number) for number in region_order]
    steps = list(range(len(sequence))) if steps is None else [int(step) for step in steps]
    _check_sequence(sequence, order, regions, steps, regions_per_step, errors)
    num_columns = min(_COLUMNS, len(steps))
    num_lines = -(-len(steps) // num_columns)
    height, width = sequence[0].shape[:2]
    panel_inch = WIDTH_INCH / max(num_columns, 3)
    figure, panels = new_figure((panel_inch * height / width + 0.22) * num_lines + 0.1, num_lines, num_columns)
    window = sequence[0].min(), sequence[0].max()
    for axes, step in zip(panels, steps):
        draw_image(axes, sequence[step], window)
        num_replaced = step * regions_per_step
        for place, number in enumerate(order[:num_replaced], start=1):
            is_last = place > num_replaced - regions_per_step
            _outline(axes, _box(number, regions, (height, width)), place, is_last, regions[1] * num_columns)
        title = "clean" if step == 0 else f"{num_replaced} region{'s' if num_replaced > 1 else ''}"
        if errors is not None:
            number = f"{errors[step]:#.3g}" if abs(errors[step]) < 99.95 else f"{errors[step]:.0f}"
            title += f"\nerror {number} {unit}".rstrip()
        axes.set_title(title, fontsize=8, color="black")
    for axes in panels[len(steps) :]:
        axes.set_axis_off()
    return figure


def perturbation_curves(results, baselines=True, title=None):
    """Draw the mean error against the number of perturbed regions, as figure 16 of zhang2021biometrics.

    Parameters
    ----------
    results : mapping of str to result of `hcreg.analyzers.aopc`
        By the analyzers' names. Used of each: ``mean_errors`` (num_steps + 1,), ``errors_interval`` (2, num_steps + 1),
        ``mean_score``, ``unit``, ``baselines`` (curves by their order) and, where there, ``confidence`` and
        ``perturbation.regions_per_step``.
    baselines : bool
        Draw the other orders too: regions at random, once, and for each analyzer its least relevant ones first.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        Solid, with a confidence band: most relevant regions first. Dashed: least relevant first, in the colour of the
        analyzer. Dotted: at random. The legend holds each AOPC; more negative is better.

    Raises
    ------
    ValueError
        If there is no result, more than there are colours and markers, or they differ in their unit, or a mean error
        is not finite.
    """
    results = dict(results)
    _check_results(results)
    first = next(iter(results.values()))
    unit = f" ({first.unit})" if first.unit else " (unit of the network's output)"
    figure, (axes,) = new_figure(5.2)
    handles, random = [], None
    opacity = 0.13 if len(results) < 5 else 0.07  # bands over each other become mud
    for number, (name, result) in enumerate(results.items()):
        regions = np.arange(len(result.mean_errors)) * _regions_per_step(result)
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        face = colour if number < len(_COLOURS) else "white"
        _band(axes, regions, result, colour, opacity)
        style = {"color": colour, "marker": marker, "markersize": 5, "markerfacecolor": face, "linewidth": 1.7}
        score = f"{result.mean_score:.3g}".replace("-", "−")
        axes.plot(regions, result.mean_errors, zorder=4, label=name, **style)
        handles.append(Line2D([], [], label=f"{name}: AOPC {score} {first.unit}".rstrip(), **style))
        if baselines:
            least = result.baselines.get("least_relevant_first")
            if least is not None:
                style = {"color": colour, "linestyle": "--", "linewidth": 1.0, "label": f"{name}, least relevant first"}
                axes.plot(regions, least.mean_errors, zorder=3, **style)
            random = random or (regions, result.baselines.get("random"))
    labels = [("-", "black", "most relevant first, band: confidence interval")]
    if baselines and random[1] is not None:
        _band(axes, *random, "black", opacity)
        axes.plot(random[0], random[1].mean_errors, ":", color="black", linewidth=2.4, zorder=5, label="random order")
        labels.append((":", "black", "random order"))
    if baselines and any("least_relevant_first" in result.baselines for result in results.values()):
        labels.append(("--", "black", "least relevant first"))
    confidence = getattr(first, "confidence", None)
    if confidence:
        labels[0] = ("-", "black", f"most relevant first, band: {100 * confidence:g} % confidence interval")
    kinds = [Line2D([], [], color=colour, linestyle=line, label=label) for line, colour, label in labels]
    dress(axes, "number of perturbed regions", f"mean error{unit}", title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    if axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)
    style = {"fontsize": 9, "frameon": False}
    figure.legend(handles=kinds, loc="outside lower center", ncols=len(kinds), **style)
    figure.legend(handles=handles, loc="outside right upper", **style)
    return figure


def _box(number, regions, shape):
    """(left, top, width, height) of a region, px; regions differ by a pixel where the sides do not divide."""
    starts = [[index * side // count for index in range(count + 1)] for side, count in zip(shape, regions)]
    row, column = divmod(number, regions[1])
    top, left = starts[0][row], starts[1][column]
    return left, top, starts[1][column + 1] - left, starts[0][row + 1] - top


def _outline(axes, box, place, is_last, num_across):
    left, top, width, height = box
    colour, line = (ORANGE, 1.8) if is_last else (SKY, 0.8)
    zorder = 4 if is_last else 3
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line, zorder=zorder))
    size = float(np.clip(160 / num_across, 4, 11))
    style = {"ha": "center", "va": "center", "path_effects": _DARK_EDGE, "fontsize": size, "fontweight": "bold"}
    centre = (left + (width - 1) / 2, top + (height - 1) / 2)
    axes.text(*centre, str(place), color=colour, zorder=zorder, **style)


def _band(axes, regions, curves, colour, opacity):
    low, high = np.asarray(curves.errors_interval, float)
    if np.isfinite(low).all() and np.isfinite(high).all():  # of a single image there is none
        axes.fill_between(regions, low, high, color=colour, alpha=opacity, linewidth=0, zorder=2)


def _regions_per_step(result):
    return getattr(getattr(result, "perturbation", None), "regions_per_step", 1)


def _check_results(results):
    if not 0 < len(results) <= MAX_ANALYZERS:
        raise ValueError(
            f"Curves of 1 to {MAX_ANALYZERS} analyzers fit one figure. Received: {len(results)}. Draw them in groups."
        )
    units = {name: result.unit for name, result in results.items()}
    if len(set(units.values())) > 1:
        raise ValueError(f"The errors of one figure have one unit. Received: {units}. Measure all in the same.")
    for name, result in results.items():
        if not np.isfinite(result.mean_errors).all():
            raise ValueError(
                f"The mean errors of {name!r} must be finite. Received: {np.asarray(result.mean_errors).tolist()}."
            )


def _check_sequence(sequence, order, regions, steps, regions_per_step, errors):
    if not sequence or len({image.shape[:2] for image in sequence}) != 1:
        raise ValueError(
            "A sequence holds one image, clean and after each step, in one size. Received: sizes "
            f"{[image.shape[:2] for image in sequence]}."
        )
    num_regions = regions[0] * regions[1]
    if len(set(order)) != len(order) or not set(order) <= set(range(num_regions)):
        raise ValueError(
            f"region_order names each of the regions 0 to {num_regions - 1} at most once. Received: {order}."
        )
    if not steps or not set(steps) <= set(range(len(sequence))):
        raise ValueError(f"The sequence has the steps 0 to {len(sequence) - 1}. Received: steps={steps}.")
    if max(steps) * regions_per_step > len(order):
        raise ValueError(
            f"After {max(steps)} steps {max(steps) * regions_per_step} regions are replaced. Received: a region_order "
            f"of {len(order)}."
        )
    if errors is not None and len(errors) != len(sequence):
        raise ValueError(
            f"errors has one number for each of the {len(sequence)} pictures of the sequence. Received: {len(errors)}."
        )
