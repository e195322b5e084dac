"""A figure needs whole rows, and is saved as the same PNG every time."""

import io

import pytest
from PIL import Image

from hcreg import plotting


def test_rows_are_checked(rows):
    with pytest.raises(ValueError, match=r"needs at least one row of the per-subject table\. Received: none"):
        plotting.residuals([])
    del rows[2]["y_pred_mm"]
    with pytest.raises(ValueError, match=r"column 'y_pred_mm' of predictions.csv. The row of subject 002_HC has"):
        plotting.residuals(rows)


def test_save_writes_the_same_png_every_time(rows, tmp_path):
    paths = [plotting.save(plotting.residuals(rows), tmp_path / name / "a.png") for name in ("1", "2")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(io.BytesIO(paths[0].read_bytes())) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 1170
        assert not {"Software", "Creation Time", "date"} & set(picture.info)


def test_save_refuses_other_endings(rows, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a path that ends in \.png, received: .*a\.pdf"):
        plotting.save(plotting.residuals(rows), tmp_path / "a.pdf")
