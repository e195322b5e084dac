"""HC18's CSV file: headers of the mirrors understood, and each fault named with its line."""

import pytest

from hcreg.datasets.hc18_table import read_table

HEADER = "filename,pixel size(mm),head circumference (mm)"
ROWS = ("010_HC.png,0.5,110.52", "010_2HC.png,0.25,100", "200_HC.png,0.1,200")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training_set_pixel_size_and_HC.csv"


@pytest.mark.parametrize(
    "header",
    [
        "filename,pixel size(mm),head circumference(mm)",
        "Filename, pixel size (mm) , Head Circumference (mm)",
        "\ufefffilename,pixel size(mm),head circumference (mm)",
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_headers_of_the_mirrors_are_understood(path, header, newline):
    text = newline.join([header, *(f" {row} " for row in ROWS), "", ""])
    path.write_bytes(text.encode("utf-8"))
    rows = {"010_HC.png": (2, 0.5, 110.52), "010_2HC.png": (3, 0.25, 100.0), "200_HC.png": (4, 0.1, 200.0)}
    assert read_table(path, "train") == (rows, [])


def test_the_test_set_has_no_circumference(path):
    path.write_text("filename,pixel size(mm)\n000_HC.png,0.25\n001_HC.png,-1\n")
    rows, [problem] = read_table(path, "test")
    assert rows == {"000_HC.png": (2, 0.25, None), "001_HC.png": (3, None, None)}
    assert "line 3 (001_HC.png): pixel size(mm) must be positive" in problem.message


def test_csv_in_another_encoding(path):
    path.write_bytes(HEADER.encode("utf-16"))
    rows, [problem] = read_table(path, "train")
    assert rows is None
    assert problem.path == path
    assert "is not readable as a UTF-8 CSV" in problem.message


@pytest.mark.parametrize("header", ["filename;pixel size(mm);hc", "filename,pixel size(mm)", ""])
def test_unknown_header(path, header):
    path.write_text(header + "\n")
    rows, [problem] = read_table(path, "train")
    assert rows is None
    assert "expected the header 'filename,pixel size(mm),head circumference (mm)'" in problem.message


def test_duplicate_row(path):
    path.write_text("\n".join([HEADER, *ROWS, "200_HC.png,0.3,150"]))
    rows, [problem] = read_table(path, "train")
    assert "line 5: 200_HC.png has a row already, in line 4" in problem.message
    assert rows["200_HC.png"] == (4, 0.1, 200.0)


def test_row_that_names_no_image_of_hc18(path):
    path.write_text("\n".join([HEADER, *ROWS, "head.png,0.3,150"]))
    rows, [problem] = read_table(path, "train")
    assert "line 5: 'head.png' is no image of HC18, expected a name like 010_2HC.png" in problem.message
    assert len(rows) == 3
