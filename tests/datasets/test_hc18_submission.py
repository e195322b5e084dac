"""The submission file: what a reader of it draws is the ellipse that was measured, and no row is unusable."""

import csv
import doctest
import math

import cv2
import numpy as np
import pytest

from hcreg.datasets import hc18_submission
from hcreg.datasets.hc18_submission import SUBMISSION_COLUMNS, submission_row, write_submission
from hcreg.geometry import Ellipse, ellipse_circumference

HEAD = Ellipse(380.5, 260.25, 200.0, 150.0, 2.4)


def test_the_header_is_the_challenges():
    assert ",".join(SUBMISSION_COLUMNS) == ("filename,center_x_mm,center_y_mm,semi_axes_a_mm,semi_axes_b_mm,angle_rad")


def test_lengths_are_in_mm_and_the_angle_is_not_scaled():
    row = submission_row("000_HC.png", HEAD, 0.2)
    assert tuple(row) == SUBMISSION_COLUMNS
    assert row["filename"] == "000_HC.png"
    assert [row[name] for name in SUBMISSION_COLUMNS[1:]] == pytest.approx([76.1, 52.05, 40.0, 30.0, 2.4], rel=1e-12)
    hc_mm = ellipse_circumference(row["semi_axes_a_mm"], row["semi_axes_b_mm"])
    assert hc_mm == pytest.approx(HEAD.circumference_mm(0.2), rel=1e-12)


@pytest.mark.parametrize("angle_rad", [0.0, 0.4, 1.2, 1.7, 3.0])
def test_the_row_is_what_opencv_fits_to_the_mask_as_public_scripts_write_it(angle_rad):
    head = Ellipse(400.0, 260.0, 200.0, 150.0, angle_rad)
    row = submission_row("000_HC.png", head, 0.1)
    contours, _ = cv2.findContours(head.mask((540, 800)).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (x, y), (width, height), degrees = cv2.fitEllipse(contours[0])
    # OpenCV's angle is that of the width, clockwise as seen, in degrees; the longer axis may be the height.
    major = math.radians(degrees + (90 if height > width else 0)) % math.pi
    assert [row["center_x_mm"], row["center_y_mm"]] == pytest.approx([0.1 * x, 0.1 * y], abs=0.01)
    assert row["semi_axes_a_mm"] == pytest.approx(0.05 * max(width, height), abs=0.1)
    assert row["semi_axes_b_mm"] == pytest.approx(0.05 * min(width, height), abs=0.1)
    assert 0 <= row["angle_rad"] < math.pi
    assert abs(math.sin(row["angle_rad"] - major)) < 0.01


def test_a_file_is_written_sorted_and_read_back_exactly(tmp_path):
    rows = [submission_row(name, HEAD, size) for name, size in (("010_2HC.png", 0.1), ("001_HC.png", 1 / 7))]
    path = tmp_path / "submission.csv"
    write_submission(path, rows)
    assert path.read_text().splitlines()[0] == ",".join(SUBMISSION_COLUMNS)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["filename"] for row in read] == ["001_HC.png", "010_2HC.png"]
    assert {name: float(read[0][name]) for name in SUBMISSION_COLUMNS[1:]} == {
        name: rows[1][name] for name in SUBMISSION_COLUMNS[1:]
    }


def test_images_without_an_ellipse_are_named_and_nothing_is_written(tmp_path):
    rows = [submission_row("000_HC.png", HEAD, 0.1), submission_row("001_HC.png", None, 0.1)]
    assert math.isnan(rows[1]["semi_axes_a_mm"])
    path = tmp_path / "submission.csv"
    with pytest.raises(ValueError, match=r"1 of 2 images have no ellipse: 001_HC\.png\. The challenge needs one"):
        write_submission(path, rows)
    rows += [submission_row(f"{number:03d}_HC.png", None, 0.1) for number in range(2, 14)]
    with pytest.raises(ValueError, match=r"13 of 14 images have no ellipse: 001_HC\.png, .*010_HC\.png and 3 more"):
        write_submission(path, rows)
    with pytest.raises(ValueError, match=r"1 of 1 images have no ellipse: 005_HC\.png"):
        write_submission(path, [submission_row("005_HC.png", HEAD, 0.1) | {"angle_rad": math.inf}])
    assert not list(tmp_path.iterdir())


def test_rows_that_are_none_are_refused(tmp_path):
    path = tmp_path / "submission.csv"
    row = submission_row("000_HC.png", HEAD, 0.1)
    with pytest.raises(ValueError, match="nothing to submit: no rows"):
        write_submission(path, [])
    with pytest.raises(ValueError, match=r"1 file\(s\) have more than one row: 000_HC\.png\. Keep one"):
        write_submission(path, [row, dict(row)])
    with pytest.raises(ValueError, match=r"Expected the columns filename,center_x_mm.*Received: filename,hc_mm"):
        write_submission(path, [{"filename": "000_HC.png", "hc_mm": 170.0}])


@pytest.mark.parametrize("pixel_size_mm", [0.0, -0.1, math.nan, math.inf])
def test_a_pixel_size_that_is_none_is_refused(pixel_size_mm):
    with pytest.raises(ValueError, match=r"000_HC\.png: the pixel size must be a positive number of mm"):
        submission_row("000_HC.png", HEAD, pixel_size_mm)


@pytest.mark.parametrize("filename", ["", "test_set/000_HC.png", "test_set\\000_HC.png"])
def test_a_file_name_with_a_folder_is_refused(filename):
    with pytest.raises(ValueError, match="Expected a file name without its folder"):
        submission_row(filename, HEAD, 0.1)


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(hc18_submission)
    assert results.attempted >= 3
    assert results.failed == 0
