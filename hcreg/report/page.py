"""Any page: sections of text, tables and pictures, made into one HTML file with nothing beside it.

Numbers are rounded for the eye and keep their full precision in the page, as ``<data value="...">``.
"""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hcreg._version import __version__
from hcreg.files import write_text

NOT_A_DEVICE = "research software, not a medical device"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Number:
    """A cell of a table: a value, rounded for the eye.

    Attributes
    ----------
    value : float
        NaN, infinity and None show as a dash.
    digits : int
        Decimals shown.
    spread : float, optional
        A standard deviation, shown as ``value ± spread`` where it is finite.
    signed : bool
        Show the plus of a positive value.
    reason : str
        Why the value may be missing; shown where it is.
    """

    value: float | None
    digits: int = 1
    spread: float | None = None
    signed: bool = False
    reason: str = "not computed in this run"


@dataclass(frozen=True)
class Table:
    """A table: columns (units in their names), rows of str, int, float or `Number`, a caption.

    ``collapsed``, a line of text, folds the table behind that line.
    """

    columns: tuple
    rows: tuple
    caption: str
    collapsed: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with two lines: ``caption`` (what is drawn) and ``look_for`` (what to see in it).

    ``image`` holds the bytes of a PNG file or a matplotlib Figure.
    """

    image: object
    caption: str
    look_for: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading, shown in the order of the attributes.

    Attributes
    ----------
    title : str
    paragraphs, points : sequence of str
        Running text, then a bulleted list.
    terms : mapping of str to str, optional
        A list of definitions.
    code : str
        Text shown as typed.
    tables : sequence of Table
    pictures : sequence of Picture
    """

    title: str
    paragraphs: tuple = ()
    points: tuple = ()
    terms: Mapping | None = None
    code: str = ""
    tables: tuple = ()
    pictures: tuple = ()


def write_report(path, title, sections, *, answer="", notices=()):
    """Write sections as one self-contained HTML file.

    Parameters
    ----------
    path : path-like
        The file to write; missing folders are made. An older report is replaced in one step, so a reader
        never meets half a page.
    title : str
        Heading of the page.
    sections : sequence of Section
    answer : str
        The one sentence a reader should take away; stands below the title.
    notices : sequence of str
        What must not be overlooked; stands below the answer.

    Returns
    -------
    pathlib.Path

    Notes
    -----
    All text is escaped, so no name or path can add markup. The page holds no date: equal input gives equal
    bytes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent.parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        title=str(title),
        answer=answer,
        notices=tuple(notices),
        sections=[_prepared(section) for section in sections],
        version=__version__,
        footer=f"{NOT_A_DEVICE}.",
    )
    write_text(path, html)
    return Path(path)


def _prepared(section):
    if isinstance(section.paragraphs, str) or isinstance(section.points, str):
        raise ValueError(
            f"paragraphs and points of section {section.title!r} must be sequences of str, not one str: "
            "write paragraphs=(text,)."
        )
    return {
        "title": section.title,
        "paragraphs": section.paragraphs,
        "points": section.points,
        "terms": section.terms,
        "code": section.code,
        "tables": [_prepared_table(table) for table in section.tables],
        "pictures": [
            {"base64": _base64_png(picture), "caption": picture.caption, "look_for": picture.look_for}
            for picture in section.pictures
        ],
    }


def _prepared_table(table):
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"Each row of table {table.caption!r} must have {len(table.columns)} cells, "
                f"one a column. Received {len(row)}: {row!r}"
            )
    cells = [[_prepared_cell(cell) for cell in row] for row in table.rows]
    numeric = [bool(cells) and all(row[column]["number"] for row in cells) for column in range(len(table.columns))]
    reasons = dict.fromkeys(cell["reason"] for row in cells for cell in row if cell["missing"])
    return {
        "columns": table.columns,
        "cells": cells,
        "numeric": numeric,
        "caption": table.caption,
        "collapsed": table.collapsed,
        "reasons": tuple(reasons),
    }


def is_finite(value):
    """Whether there is a number to show: neither None nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def _prepared_cell(cell):
    if isinstance(cell, str):
        return {"number": False, "missing": False, "value": None, "text": cell}
    if not isinstance(cell, Number):
        cell = Number(cell, digits=0 if isinstance(cell, int) else 1)
    if not is_finite(cell.value):
        return {"number": True, "missing": True, "reason": cell.reason}
    prepared = {"number": True, "missing": False, "spread_text": ""}
    prepared |= {"value": repr(float(cell.value)), "text": shown(cell.value, cell.digits, cell.signed)}
    if is_finite(cell.spread):
        prepared |= {"spread": repr(float(cell.spread)), "spread_text": shown(cell.spread, cell.digits)}
    return prepared


def shown(value, digits=1, signed=False):
    """A number as the page prints it: rounded, with a true minus, and no sign on a zero."""
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:  # "-0.0" and "+0.0" say that there is a direction; there is none
        text = text.lstrip("+-")
    return text.replace("-", "−")


def _base64_png(picture):
    data = picture.image
    if hasattr(data, "savefig"):
        buffer = io.BytesIO()
        data.savefig(buffer, format="png", dpi="figure", metadata={"Software": None})
        data = buffer.getvalue()
    if not isinstance(data, bytes) or not data.startswith(_PNG_SIGNATURE):
        raise ValueError(
            f"The picture {picture.caption!r} must be a matplotlib Figure or the bytes of a PNG file. "
            f"Received: {type(data).__name__}"
        )
    return base64.b64encode(data).decode("ascii")
