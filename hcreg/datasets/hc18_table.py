"""HC18's CSV file, read as downloaded: which image has which pixel size and circumference."""

import csv
import math

from hcreg.datasets.hc18_folder import NAME
from hcreg.datasets.problems import Problem

# Headers without case and spaces, for mirrors write `head circumference(mm)` and `head circumference (mm)`.
_COLUMNS = {
    "filename": "filename",
    "pixelsize(mm)": "pixel size(mm)",
    "headcircumference(mm)": "head circumference (mm)",
}
# Twice as far out as anything in HC18 (0.0494 to 0.3933 mm; 44.3 to 346.4 mm): a wrong unit, not a rare head.
_PIXEL_SIZE_RANGE_MM = (0.025, 0.8)
_HC_RANGE_MM = (20.0, 700.0)


def read_table(path, split):
    """Read the CSV file of a split.

    Parameters
    ----------
    path : pathlib.Path
    split : {"train", "test"}
        The training set's file has a third column, the circumference.

    Returns
    -------
    rows : dict of str to (int, float or None, float or None), or None
        File name -> line, pixel size (mm) and head circumference (mm), in the file's order; both numbers are None
        where either is wrong. None if the file is unreadable or its header another one.
    problems : list of Problem
        All that is wrong with it.
    """
    problems = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(
            Problem(path, f"is not readable as a UTF-8 CSV ({error}). Download it again.", "CSV unreadable")
        )
        return None, problems
    expected = list(_COLUMNS.values())[: 3 if split == "train" else 2]
    header = [_COLUMNS.get("".join(cell.split()).lower(), cell.strip()) for cell in lines[0][1]] if lines else []
    if any(header.count(column) != 1 for column in expected):
        message = f"expected the header '{','.join(expected)}'. Received: '{','.join(header)}'."
        problems.append(Problem(path, f"{message} A spreadsheet may have changed it: download it again.", "header"))
        return None, problems
    rows = {}
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            message = f"line {line} has {len(cells)} fields, expected {len(header)}: {','.join(cells)!r}."
            problems.append(Problem(path, f"{message} Numbers need a decimal point, not a comma.", "fields"))
            cells = (cells + [""] * len(header))[: len(header)]
            numbers = None
        else:
            numbers = dict(zip(header, cells))
        file_name = cells[header.index("filename")].strip()
        match = NAME.fullmatch(file_name)
        if match is None or match["annotation"]:
            message = f"line {line}: {file_name!r} is no image of HC18, expected a name like 010_2HC.png."
            problems.append(Problem(path, message, "name in CSV"))
        elif file_name in rows:
            first = rows[file_name][0]
            message = f"line {line}: {file_name} has a row already, in line {first}. Keep one of them."
            problems.append(Problem(path, message, "duplicate row"))
        elif numbers is None:
            rows[file_name] = (line, None, None)
        else:
            rows[file_name] = (line, *_numbers(path, split, line, file_name, numbers, problems))
    return rows, problems


def _numbers(path, split, line, file_name, cells, problems):
    """Pixel size and HC of a row; both None if either is wrong, which is added to the problems."""
    numbers = []
    ranges = (("pixel size(mm)", _PIXEL_SIZE_RANGE_MM), ("head circumference (mm)", _HC_RANGE_MM))
    for column, (low, high) in ranges[: 2 if split == "train" else 1]:
        cell = cells[column].strip()
        where = f"line {line} ({file_name}): {column}"
        try:
            value = float(cell)
        except ValueError:
            problems.append(Problem(path, f"{where} must be a number. Received: {cell!r}.", "no number"))
            continue
        if math.isnan(value):
            problems.append(Problem(path, f"{where} is NaN. Measure it, or remove the row and its image.", "NaN"))
        elif value <= 0:
            problems.append(Problem(path, f"{where} must be positive. Received: {cell}.", "not positive"))
        elif not low <= value <= high:
            message = f"{where} is implausible, expected {low:g} to {high:g} mm. Received: {cell}."
            problems.append(Problem(path, f"{message} Is it in another unit?", "implausible"))
        else:
            numbers.append(value)
    if split == "test":
        return (*numbers, None) if numbers else (None, None)
    return tuple(numbers) if len(numbers) == 2 else (None, None)
