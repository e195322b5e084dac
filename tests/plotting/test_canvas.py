"""A figure needs whole rows, and is saved as the same PNG every time."""

import io

import numpy as np
import pytest
from PIL import Image

from hcreg import plotting
from hcreg.geometry import Ellipse


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


def test_a_picture_in_few_colours_is_small_and_keeps_the_colours_of_its_lines(make_row, tmp_path):
    tissue = np.random.default_rng(0).integers(0, 255, (240, 400)).astype(np.uint8)

    def draw():
        return plotting.cases([make_row(0, 100.0, 90.0)], lambda _: tissue, lambda _: Ellipse(200.0, 120, 90, 60, 0.0))

    whole, small = plotting.save(draw(), tmp_path / "a.png"), plotting.save(draw(), tmp_path / "b.png", num_colours=64)
    assert small.stat().st_size < whole.stat().st_size / 2
    assert small.read_bytes() == plotting.save(draw(), tmp_path / "c.png", num_colours=64).read_bytes()
    with Image.open(whole) as picture, Image.open(small) as reduced:
        picture, reduced = (np.asarray(item.convert("RGB"), int) for item in (picture, reduced))
    assert reduced.shape == picture.shape
    assert len(np.unique(reduced.reshape(-1, 3), axis=0)) <= 64
    assert np.abs(reduced - picture).mean() < 4
    orange = np.all(picture == [0xE6, 0x9F, 0x00], axis=-1)
    assert orange.sum() > 100
    assert np.all(reduced[orange] == [0xE6, 0x9F, 0x00])


@pytest.mark.parametrize("num_colours", [2, 257])
def test_too_few_or_too_many_colours_are_refused(rows, tmp_path, num_colours):
    with pytest.raises(ValueError, match=f"16 to 256 colours. Received: num_colours={num_colours}"):
        plotting.save(plotting.residuals(rows), tmp_path / "a.png", num_colours=num_colours)
