import numpy as np
from PIL import Image

from hcreg.geometry import Ellipse
from hcreg.plotting.mask_files import write_mask, write_overlay

BLUE, ORANGE = (86, 180, 233), (230, 159, 0)
DISC = Ellipse(40.0, 30.0, 20.0, 20.0, 0.0)


def test_mask_is_0_and_255_and_its_folder_is_made(tmp_path):
    mask = DISC.mask((61, 81))
    write_mask(tmp_path / "new" / "mask.png", mask)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "new" / "mask.png")), 255 * mask.astype(np.uint8))


def test_overlay_shows_border_and_ellipse_and_leaves_the_rest(tmp_path):
    image = np.full((61, 81), 50, np.uint8)
    mask = np.zeros((61, 81), bool)
    mask[5:56, 10:71] = True
    write_overlay(tmp_path / "overlay.png", image, mask, DISC)
    picture = np.array(Image.open(tmp_path / "overlay.png"))
    assert picture.shape == (61, 81, 3)
    assert tuple(picture[5, 10]) == tuple(picture[55, 70]) == BLUE  # the outermost pixels of the mask
    for row, column in (
        (30, 60),
        (30, 20),
        (10, 40),
        (50, 40),
    ):  # ends of the disc's axes, anti-aliased
        np.testing.assert_allclose(picture[row, column], ORANGE, atol=45)
    assert tuple(picture[30, 40]) == tuple(picture[0, 0]) == (50, 50, 50)
    assert (image == 50).all()


def test_overlay_of_an_empty_mask_is_the_image(tmp_path):
    image = np.arange(61 * 81, dtype=np.uint32).reshape(61, 81).astype(np.uint8)
    write_overlay(tmp_path / "overlay.png", image, np.zeros((61, 81), bool))
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "overlay.png")), np.repeat(image[..., None], 3, -1))
