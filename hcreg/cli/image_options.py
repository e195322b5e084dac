"""What the commands that read images share: their pixel sizes, and names that do not collide."""

import csv
from collections import Counter


def pixel_sizes(options, whole_table=False):
    """Pixel sizes of the images that a command was given.

    Parameters
    ----------
    options : argparse.Namespace
        With ``images``, and either ``pixel_size_mm`` or ``pixel_size_csv``, the other None.
    whole_table : bool
        Whether every image that the CSV names must be given (``--submission``).

    Returns
    -------
    list of float or (float, float), mm

    Raises
    ------
    ValueError
        If the CSV is no such table, lacks an image or its size, or names images that were not given.
    """
    if options.pixel_size_csv is None:
        return [options.pixel_size_mm] * len(options.images)
    try:
        with open(options.pixel_size_csv, newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{options.pixel_size_csv} is not a CSV file of text ({error}).") from error
    names = {name.replace(" ", ""): name for name in (table[0] if table else {}) if name}
    if not {"filename", "pixelsize(mm)"} <= set(names):
        raise ValueError(
            f"{options.pixel_size_csv} needs the columns 'filename' and 'pixel size(mm)' and at least one row. "
            f"Found: {', '.join(names.values()) or 'nothing'}."
        )
    sizes = {(row[names["filename"]] or "").strip(): row[names["pixelsize(mm)"]] for row in table}
    missing = [path.name for path in options.images if path.name not in sizes]
    if missing:
        raise ValueError(f"{options.pixel_size_csv} has no row for {len(missing)} image(s), the first: {missing[0]}.")
    unnamed = set(sizes) - {path.name for path in options.images} - {""}
    if whole_table and unnamed:
        raise ValueError(
            f"--submission needs every image of {options.pixel_size_csv}: {len(unnamed)} of its {len(sizes)} are not "
            f"among the images given, the first: {min(unnamed)}. Give the whole folder, such as test_set/*.png."
        )
    found = []
    for path in options.images:
        try:
            found.append(float(sizes[path.name]))
        except (TypeError, ValueError) as error:  # None where the line ends early
            raise ValueError(
                f"{options.pixel_size_csv}: the pixel size of {path.name} is not a number: {sizes[path.name]!r}."
            ) from error
    return found


def refuse_twins(option, names):
    """Refuse images whose results would have one name.

    Parameters
    ----------
    option : str
        That needs the names, for the message.
    names : sequence of str
        Of the files that would be written.

    Raises
    ------
    ValueError
    """
    twins = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twins:
        raise ValueError(
            f"{option} needs images of different names. {len(twins)} name(s) stand for several, the first: {twins[0]}. "
            "Take each folder by itself."
        )
