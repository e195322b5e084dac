"""The file that the HC18 challenge takes for its test set: an ellipse for each image."""

import math
from collections import Counter

from hcreg.files import write_rows

SUBMISSION_COLUMNS = (
    "filename",
    "center_x_mm",
    "center_y_mm",
    "semi_axes_a_mm",
    "semi_axes_b_mm",
    "angle_rad",
)


def submission_row(filename, ellipse, pixel_size_mm):
    """One image's row of a submission.

    Parameters
    ----------
    filename : str
        Name of the test image, such as ``010_2HC.png``, without a folder.
    ellipse : hcreg.geometry.Ellipse or None
        In pixels of the original image. None, for an image on which nothing was found, gives a row of NaN, which
        `write_submission` refuses.
    pixel_size_mm : float, mm
        From ``test_set_pixel_size.csv``.

    Returns
    -------
    dict
        Of `SUBMISSION_COLUMNS`.

    Raises
    ------
    ValueError
        If the pixel size is not positive, or the file name has a folder.

    Notes
    -----
    Known from the challenge's page: the columns, their order, and that there is one row for each of the 335 test
    images; names and units say *semi*-axes, millimetres and radians. How the page's figure draws origin and angle
    could not be read here.

    Taken from public submission scripts, which agree: x to the right and y down from the top left of the image; a is
    the longer semi-axis; the angle runs from the x axis to a, positive towards y, so clockwise as seen, in [0, pi).
    That is `Ellipse`'s own convention.

    Decided: the *centre* of the top-left pixel is the origin, as in those scripts, which multiply OpenCV's
    coordinates by the pixel size. Were it the pixel's corner, or its centre (1, 1), ellipses would lie half a pixel
    or one pixel off, some 0.1 mm. Circumference and axes do not depend on it.

    References
    ----------
    .. [1] heuvel2018hc18; https://hc18.grand-challenge.org, evaluation.

    Examples
    --------
    >>> from hcreg.geometry import Ellipse
    >>> row = submission_row("000_HC.png", Ellipse(400.0, 270.0, 200.0, 150.0, 0.5), 0.1)
    >>> [round(row[name], 6) for name in SUBMISSION_COLUMNS[1:]]
    [40.0, 27.0, 20.0, 15.0, 0.5]
    """
    if not (math.isfinite(pixel_size_mm) and pixel_size_mm > 0):
        raise ValueError(f"{filename}: the pixel size must be a positive number of mm. Received: {pixel_size_mm}.")
    if not filename or "/" in filename or "\\" in filename:
        raise ValueError(f"Expected a file name without its folder, such as 010_2HC.png. Received: {filename!r}.")
    if ellipse is None:
        numbers = [math.nan] * 5
    else:
        lengths_px = (ellipse.center_x_px, ellipse.center_y_px, ellipse.semi_axis_a_px, ellipse.semi_axis_b_px)
        numbers = [length_px * pixel_size_mm for length_px in lengths_px] + [ellipse.angle_rad]
    return dict(zip(SUBMISSION_COLUMNS, [filename, *map(float, numbers)]))


def write_submission(path, rows):
    """Write a submission, whole; nothing is written if a row is unusable.

    Parameters
    ----------
    path : path-like
        Of the CSV file.
    rows : iterable of dict
        Of `submission_row`, one for each image; they are sorted by file name.

    Raises
    ------
    ValueError
        If there are no rows, a row has other columns, a file name has two rows, or a number is NaN or infinite,
        naming the files.
    """
    rows = sorted(rows, key=lambda row: row.get("filename", ""))
    if not rows:
        raise ValueError("There is nothing to submit: no rows. Measure the test images first.")
    for row in rows:
        if tuple(row) != SUBMISSION_COLUMNS:
            raise ValueError(
                f"Expected the columns {','.join(SUBMISSION_COLUMNS)}. Received: {','.join(row)}. "
                "Make the rows with submission_row."
            )
    twice = [name for name, count in Counter(row["filename"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} file(s) have more than one row: {_listed(twice)}. Keep one of each.")
    unusable = [row["filename"] for row in rows if not all(math.isfinite(row[name]) for name in SUBMISSION_COLUMNS[1:])]
    if unusable:
        raise ValueError(
            f"{len(unusable)} of {len(rows)} images have no ellipse: {_listed(unusable)}. The challenge needs one for "
            "each: look at these images' masks, and measure them with another model or by hand."
        )
    write_rows(path, rows)


def _listed(names, limit=10):
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
