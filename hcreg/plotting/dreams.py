"""The sheet of deep dreams: an image, and what it becomes for each group of layers."""

import numpy as np

from hcreg.plotting.canvas import WIDTH_INCH, new_figure
from hcreg.plotting.saliency import draw_image, shown

WINDOWS = ("image", "own")


def deep_dream_sheet(image, dreams, num_columns=3, window="image", note=""):
    """Draw an image beside its deep dreams, as figure 17 of zhang2021biometrics.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
    dreams : mapping of str to array-like of the shape of `image`
        Title -> what `hcreg.analyzers.deep_dream` made of it: by the line, such as shallow, deep and all layers of the
        encoder, then of the decoder.
    num_columns : int
        Dreams in a line.
    window : {"image", "own"}
        Which intensities are black and white: those of the image for all pictures, so that they compare and what goes
        beyond is cut, or the 0.5th and 99.5th percentile of each picture.
    note : str
        Stands below: how the dreams were made.

    Returns
    -------
    matplotlib.figure.Figure
        The image to the left, the dreams beside it; below each title the mean absolute change of a pixel, in
        standard deviations of the image.

    Raises
    ------
    ValueError
        If there is no dream, or one is not of the image's shape or not finite.
    """
    if window not in WINDOWS:
        raise ValueError(f"window is one of {', '.join(WINDOWS)}. Received: {window!r}.")
    if not dreams or num_columns < 1:
        raise ValueError(
            "A sheet needs at least one dream and one column. "
            f"Received: {len(dreams)} dream(s) and num_columns={num_columns}."
        )
    original = np.asarray(image, float)
    pictures = {"image": shown(original)}
    sd = float(original.std()) or 1.0
    for title, dream in dreams.items():
        dream = np.asarray(dream, float)
        if dream.shape != original.shape:
            raise ValueError(
                f"A dream has the shape of its image, {original.shape}. Received: {dream.shape} for {title!r}."
            )
        change = np.abs(dream - original).mean() / sd
        pictures[f"{title}\nchange {change:.2f} SD"] = shown(dream)
    num_columns = min(num_columns, len(dreams))
    num_lines = -(-len(dreams) // num_columns)
    height, width = original.shape[:2]
    panel_inch = (WIDTH_INCH - 0.1) / (num_columns + 1)
    figure_inch = (panel_inch * height / width + 0.42) * num_lines + 0.1 + 0.25 * bool(note)
    figure, panels = new_figure(figure_inch, num_lines, num_columns + 1)
    panels = panels.reshape(num_lines, -1)
    for axes in panels[1:, 0]:
        axes.remove()
    panels[0, 0].set_subplotspec(panels[0, 0].get_gridspec()[:, 0])  # in the middle of the left side
    places = [panels[0, 0], *panels[:, 1:].ravel()]
    for axes in places[len(pictures) :]:
        axes.set_axis_off()
    for axes, (title, picture) in zip(places, pictures.items()):
        ends = pictures["image"] if window == "image" else np.percentile(picture, (0.5, 99.5))
        draw_image(axes, picture, (float(np.min(ends)), float(np.max(ends))))
        axes.set_title(title, fontsize=9, color="black")
    if note:
        figure.supxlabel(note, fontsize=8, color="black")
    return figure
