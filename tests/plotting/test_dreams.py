"""The sheet of dreams: the image at the left, each dream with its title, all in one window of intensities."""

import numpy as np
import pytest

from hcreg import plotting

TITLES = [f"{part}, {depth}" for part in ("encoder", "decoder") for depth in ("shallow", "deep", "all")]


@pytest.fixture
def image():
    return np.linspace(-1, 1, 48).reshape(6, 8, 1)


def test_six_dreams_stand_beside_their_image(image):
    figure = plotting.deep_dream_sheet(image, dict.fromkeys(TITLES, image + 0.5), note="3 octaves")
    assert len(figure.axes) == 7
    titles = [axes.get_title().split("\n") for axes in figure.axes]
    assert [title[0] for title in titles] == ["image", *TITLES]
    assert titles[1][1] == f"change {0.5 / image.std():.2f} SD"
    assert figure.get_supxlabel() == "3 octaves"
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(boxes[0].x1 < box.x0 for box in boxes[1:])
    assert boxes[4].y1 < boxes[1].y0  # the decoder below the encoder
    assert boxes[4].y0 < boxes[0].y0 < boxes[0].y1 < boxes[1].y1  # the image between the two lines


def test_all_pictures_share_the_window_of_the_image(image):
    figure = plotting.deep_dream_sheet(image, {"more": image + 1, "none": image})
    more, none = (axes.images[0].get_array() for axes in figure.axes[1:])
    np.testing.assert_allclose(more, np.clip((image[..., 0] + 2) / 2, 0, 1))
    np.testing.assert_allclose(none, (image[..., 0] + 1) / 2)


def test_or_each_has_its_own(image):
    figure = plotting.deep_dream_sheet(image, {"more": 5 * image + 1}, window="own")
    shown = figure.axes[1].images[0].get_array()
    assert (shown.min(), shown.max()) == (0, 1)
    low, high = np.percentile(image, (0.5, 99.5))
    np.testing.assert_allclose(shown, np.clip((image[..., 0] - low) / (high - low), 0, 1), atol=1e-9)


def test_a_dream_in_colour_is_shown_in_colour(image):
    grey = np.repeat(image, 3, axis=-1)
    figure = plotting.deep_dream_sheet(grey, {"red": grey * [1, 0.5, 0], "grey": grey + 0.1})
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(6, 8), (6, 8, 3), (6, 8)]


def test_an_odd_number_leaves_an_empty_place(image):
    figure = plotting.deep_dream_sheet(image, dict.fromkeys(TITLES[:5], image), num_columns=3)
    assert [axes.axison for axes in figure.axes] == [True] * 6 + [False]


def test_wrong_arguments(image):
    with pytest.raises(ValueError, match=r"shape of its image, \(6, 8, 1\)\. Received: \(6, 7, 1\) for 'deep'"):
        plotting.deep_dream_sheet(image, {"deep": image[:, :7]})
    with pytest.raises(ValueError, match=r"An image must be finite\. Received: 48 NaN"):
        plotting.deep_dream_sheet(image, {"deep": image * np.nan})
    with pytest.raises(ValueError, match=r"at least one dream and one column\. Received: 0 dream\(s\)"):
        plotting.deep_dream_sheet(image, {})
    with pytest.raises(ValueError, match=r"window is one of image, own\. Received: 'all'"):
        plotting.deep_dream_sheet(image, {"deep": image}, window="all")
