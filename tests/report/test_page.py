"""A page holds what it is given, whole and in one file, and refuses what it cannot show."""

import base64
import io

import pytest
from PIL import Image

from hcreg.report import Number, Picture, Section, Table, write_report


def test_a_zero_has_no_sign(read_page, tmp_path):
    rows = tuple((name, Number(value, 1, signed=True)) for name, value in (("a", -0.01), ("b", 0.0), ("c", 2)))
    page = read_page(write_report(tmp_path / "r.html", "t", [Section("s", tables=(Table(("", "mm"), rows, ""),))]))
    assert [line[1] for line in page.tables[0][1:]] == ["0.0", "0.0", "+2.0"]


def test_png_bytes_go_in_as_they_are(read_page, tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (3, 2)).save(buffer, format="PNG")
    picture = Picture(buffer.getvalue(), "a caption")
    page = read_page(write_report(tmp_path / "r.html", "t", [Section("s", pictures=(picture,))]))
    assert base64.b64decode(page.sources()[0].split(",")[1]) == buffer.getvalue()


def test_what_is_no_picture_is_refused(tmp_path):
    for image, received in ((b"GIF89a", "bytes"), ("figure.png", "str")):
        with pytest.raises(ValueError, match=f"'a caption' must be a matplotlib Figure or .* Received: {received}"):
            write_report(tmp_path / "r.html", "t", [Section("s", pictures=(Picture(image, "a caption"),))])
    assert not list(tmp_path.iterdir())


def test_path_with_special_characters(tmp_path):
    path = tmp_path / "müller & søn" / "<report> #1 %20?.html"
    assert write_report(path, "t", []) == path
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_numeric_columns_are_aligned_right(read_page, tmp_path):
    table = Table(("name", "mm"), (("a", 1.0), ("b", Number(None))), "c")
    page = read_page(write_report(tmp_path / "r.html", "t", [Section("s", tables=(table,))]))
    assert page.html.count('class="number"') == 3
    assert "text-align: right" in page.html


def test_a_table_with_ragged_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Each row of table 'c' must have 2 cells, one a column\. Received 1"):
        write_report(tmp_path / "r.html", "t", [Section("s", tables=(Table(("a", "b"), (("x",),), "c"),))])


def test_one_str_for_paragraphs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"section 's' must be sequences of str, not one str"):
        write_report(tmp_path / "r.html", "t", [Section("s", "text")])
