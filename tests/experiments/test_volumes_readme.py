"""The tables under "Results of volumes" in the README of zhang2021 are those of the committed CSV files.

A table is a literal block (``::``), or a table of reStructuredText, of one of two forms. Lines of one group, between
empty lines, are of one folder of ``results``.

- Rows: its first line begins with "row" and names columns as a report does, or shorter (`SHORT`); "RV", "MYO" and "LV"
  as columns are mean absolute errors at both phases. A line has the row as in the CSV file, or "its label map" below
  the row whose label map it is; two spaces or more; structure and phase, where no column is of one; the figures, a dash
  where there is none; perhaps words.
- What is known: its first line has a meaning for each of `volume_errors.KNOWN`, the first as there; a line has
  structure, phase, and "MAE (bias)" for each, in that order.
"""

import re
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest

from experiments.zhang2021 import volume_errors
from hcreg.files import read_rows, write_rows
from hcreg.preprocessing.cardiac import STRUCTURES
from hcreg.tables.volumes import COLUMNS, FRACTION_COLUMNS

ZHANG2021 = Path(volume_errors.__file__).parent
SECTION = "results of volumes"
TEXT = ("row", "other_row", "structure", "phase", "route", "known")
PHASES = ("ED to ES", "ED", "ES", "both")
SHORT = {
    "MAE": "MAE (ml)",
    "SDf": "SD over folds",
    "lower": "lower limit",
    "upper": "upper limit",
    "PMAE": "PMAE (%)",
    "seconds": "training (s a fold)",
}
IN_WORDS = ("row", "structure", "phase")  # and the empty heading of a report


def blocks_of(text):
    """The tables of the section as lists of lines; commands are none."""
    document = docutils.core.publish_doctree(text, settings_overrides={"report_level": 5, "doctitle_xform": False})
    (section,) = (one for one in document.findall(docutils.nodes.section) if SECTION in one["names"])
    blocks = [node.astext().splitlines() for node in section.findall(docutils.nodes.literal_block)]
    for table in section.findall(docutils.nodes.table):
        rows = table.findall(docutils.nodes.row)
        blocks.append(["  ".join(cell.astext() for cell in row.findall(docutils.nodes.entry)) for row in rows])
    return [block for block in blocks if not block[0].lstrip().startswith("python -m ")]


def columns_of(heading):
    """Of each column of figures, the structure, or None, and the name in the CSV file."""
    words = [word for word in re.split(r"\s{2,}", heading.strip()) if word not in IN_WORDS]
    fractions = "MAE (points)" in words
    of_report = {shown: name for name, (shown, _) in (FRACTION_COLUMNS if fractions else COLUMNS).items()}
    columns = []
    for word in words:
        word = word if word in of_report else SHORT.get(word, word)
        if word == "n":
            columns.append((None, "num_subjects"))
        elif word in STRUCTURES:
            columns.append((word, "mae_ml"))
        elif word == "limits of agreement":
            columns += [(None, of_report["lower limit"]), (None, of_report["upper limit"])]
        else:
            assert word in of_report, f"no column of a table of volumes is headed {word!r}: {heading.strip()}"
            columns.append((None, of_report[word]))
    return columns


def is_figure(word):
    return re.fullmatch(r"[-+]?\d+(\.\d+)?|-", word) is not None


def shows(word, value):
    """Whether a figure as printed is a value, rounded."""
    if word == "-":
        return value != value
    digits = len(word.partition(".")[2])
    return abs(float(word) - value) <= 0.5 * 10**-digits + 1e-9


def cells_of(group, columns):
    """Of each line: itself, its row, and structure, phase, name and printed figure of each cell."""
    row = None
    for line in group:
        title, _, rest = re.sub(r"\s{2,}", "  ", line.strip()).partition("  ")
        if title == "its label map":
            title = f"{row}, label map"
        else:
            row = title
        structure = next((name for name in STRUCTURES if rest.startswith(f"{name} ")), None)
        rest = rest.removeprefix(structure or "").strip()
        phase = next((name for name in PHASES if rest.startswith(f"{name} ")), None)
        words = rest.removeprefix(phase or "").split()
        figures, remark = words[: len(columns)], words[len(columns) :]
        assert len(figures) == len(columns), f"fewer figures than columns: {line}"
        assert all(map(is_figure, figures)), f"words where figures should be: {line}"
        assert not (remark and is_figure(remark[0])), f"more figures than columns: {line}"
        yield (
            line,
            title,
            [(own or structure, phase or "both", name, word) for (own, name), word in zip(columns, figures)],
        )


def unlike_rows(group, columns, tables):
    """The lines of a group that no table of a folder has."""
    wrong = []
    for line, title, cells in cells_of(group, columns):
        found = [
            all(
                any(
                    (row["row"], row["structure"], row["phase"]) == (title, structure, phase)
                    and name in row
                    and shows(word, row[name])
                    for row in rows
                )
                for structure, phase, name, word in cells
            )
            for rows in tables
        ]
        wrong += [] if any(found) else [line]
    return wrong


def unlike_errors(group, tables):
    """The lines of a group that no table of errors, by what is known, has."""
    wrong = []
    for line in group:
        structure, phase, *words = line.split()
        words = [word.strip("()") for word in words]
        assert all(map(is_figure, words)), f"a line has structure, phase, and MAE (bias) for each: {line}"
        own = [[row for row in rows if (row["structure"], row["phase"]) == (structure, phase)] for rows in tables]
        values = [[value for row in rows for value in (row["mae_ml"], row["bias_ml"])] for rows in own]
        found = [len(words) == len(known) and all(map(shows, words, known)) for known in values]
        wrong += [] if any(found) else [line]
    return wrong


def complaints(text, results):
    """Groups of lines that no folder of results gives, each with the lines that the likeliest lacks."""
    rows, errors = {}, {}
    for folder in sorted(path for path in results.glob("volumes*") if path.is_dir()):
        names = [path for path in sorted(folder.glob("*.csv")) if re.match(r"(table1[0-4]|volumes)(_fr|\.)", path.name)]
        rows[folder.name] = [read_rows(path, text=TEXT) for path in names]
        errors[folder.name] = [read_rows(path, text=TEXT) for path in folder.glob("volume_errors.csv")]
    wrong = []
    for heading, *lines in blocks_of(text):
        groups = [part.splitlines() for part in "\n".join(line.rstrip() for line in lines).split("\n\n")]
        for group in groups:
            if heading.split()[0] == "row":
                columns = columns_of(heading)
                found = {name: unlike_rows(group, columns, tables) for name, tables in rows.items()}
            else:
                meanings = re.split(r"\s{2,}", heading.strip())[-len(volume_errors.KNOWN) :]
                assert meanings[0] == volume_errors.KNOWN["nothing"], f"no table of volumes is headed {heading!r}"
                found = {name: unlike_errors(group, tables) for name, tables in errors.items()}
            name, lacking = min(found.items(), key=lambda item: len(item[1]))
            wrong += [f"{name} has not: {line}" for line in lacking]
    return wrong


def test_tables_of_volumes_are_those_of_the_committed_results():
    text = (ZHANG2021 / "README.rst").read_text(encoding="utf-8")
    assert len(blocks_of(text)) > 1
    assert complaints(text, ZHANG2021 / "results") == []


README = """
Results of volumes
~~~~~~~~~~~~~~~~~~

Commands::

    python -m anything

Five folds::

    row                   phase   MAE   Dice    limits of agreement
    a row           RV    ED     12.3      -    -20.0   30.1
    its label map   RV    ED     11.2  0.912    -19.0   29.0

Means::

    row        RV    LV
    a row    12.5   8.1    table 10

    a row    99.0   8.1    another folder

Known::

          nothing of the truth    its most basal slice  its extent  both
    RV  ED   5.0 (-1.0)     4.0 (+1.0)      3.0 (+0.0)   2.0 (-0.5)
"""


@pytest.fixture
def results(tmp_path):
    """Two folders of results that README tells of."""

    def row(title, structure, phase, mae_ml, dice=float("nan"), lower_limit_ml=-20.04, upper_limit_ml=30.06):
        limits = {"lower_limit_ml": lower_limit_ml, "upper_limit_ml": upper_limit_ml}
        return {"row": title, "structure": structure, "phase": phase, "mae_ml": mae_ml, "dice": dice, **limits}

    both = [row("a row", "RV", "both", 12.53), row("a row", "LV", "both", 8.05001)]
    label_map = row("a row, label map", "RV", "ED", 11.2, 0.9124, -19.0, 29.0)
    write_rows(tmp_path / "volumes" / "volumes.csv", [row("a row", "RV", "ED", 12.25001), label_map, *both])
    write_rows(tmp_path / "volumes_other" / "table10.csv", [row("a row", "RV", "both", 99.0), both[1]])
    errors = zip(volume_errors.KNOWN, (5.0, 4.0, 3.0, 2.0), (-1.0, 1.0, 0.0, -0.5))
    write_rows(
        tmp_path / "volumes" / "volume_errors.csv",
        [{"structure": "RV", "phase": "ED", "known": k, "mae_ml": mae, "bias_ml": bias} for k, mae, bias in errors],
    )
    return tmp_path


def test_a_readme_that_tells_the_results_has_no_complaint(results):
    assert complaints(README, results) == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("ED     12.3", "ED     12.4", "a row           RV    ED     12.4"),
        ("RV    ED     12.3", "LV    ED     12.3", "a row           LV    ED     12.3"),
        ("RV    ED     12.3", "RV    ES     12.3", "a row           RV    ES     12.3"),
        ("   -    -20.0", "0.900    -20.0", "a row           RV    ED     12.3   0.900"),
        ("0.912 ", "0.911 ", "its label map   RV    ED     11.2  0.911"),
        ("30.1", "31.0", "a row           RV    ED     12.3      -    -20.0   31.0"),
        ("a row    12.5", "b row    12.5", "b row    12.5"),
        ("8.1    table", "8.0    table", "a row    12.5   8.0    table 10"),
        ("99.0   8.1", "12.5   8.0", "a row    12.5   8.0    another folder"),
        ("table 10\n\n", "table 10\n", "volumes has not: a row    99.0   8.1"),  # one group is of one folder
        ("4.0 (+1.0)", "4.0 (-1.0)", "RV  ED   5.0 (-1.0)     4.0 (-1.0)"),
        ("   2.0 (-0.5)", "", "RV  ED   5.0 (-1.0)     4.0 (+1.0)"),
    ],
)
def test_a_figure_that_no_table_has_is_named_by_its_line(right, wrong, complaint, results):
    assert README.count(right) == 1
    (found,) = complaints(README.replace(right, wrong), results)
    assert complaint in found


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("phase   MAE", "phase   MEA", "headed 'MEA'"),
        ("row        RV", "name       RV", "no table of volumes is headed 'name"),
        ("12.5   8.1    table", "12.5   table", "words where figures should be"),
        ("8.1    table", "8.1  3.3  table", "more figures than columns"),
        ("    table 10", "   7.0", "more figures than columns"),
        ("12.5   8.1    table 10", "12.5", "fewer figures than columns"),
    ],
)
def test_a_table_of_another_form_is_refused(right, wrong, message, results):
    assert README.count(right) == 1
    with pytest.raises(AssertionError, match=message):
        complaints(README.replace(right, wrong), results)
