"""Maps keep their sign, their scale and their place: symmetric limits, robust percentiles, one panel each."""

import doctest
import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from hcreg import plotting
from hcreg.plotting import saliency


@pytest.fixture
def image():
    return np.linspace(-1, 3, 48).reshape(6, 8)


@pytest.fixture
def signed():
    """99 values of 0 to 0.98 in alternating sign, and an outlier of 50."""
    values = np.arange(100) / 100 * np.where(np.arange(100) % 2, 1, -1)
    values[99] = 50
    return values.reshape(10, 10)


def limits(axes):
    return axes.images[1].get_clim()


def test_a_signed_map_has_symmetric_robust_limits_and_a_bar(signed):
    figure = plotting.saliency_overlay(np.ones((10, 10)), signed, "lrp.z", percentile=90, label="relevance (mm)")
    axes, bar = figure.axes
    # of 0, 0.01 to 0.98 and 50 nine tenths lie at or below the value at place 89.1
    assert limits(axes) == pytest.approx((-0.891, 0.891))
    assert axes.get_title() == "lrp.z"
    assert bar.get_ylabel() == "relevance (mm)"
    assert "saturate at the 90th percentile" in figure.get_supxlabel()
    np.testing.assert_array_equal(axes.images[1].get_array(), signed)


def test_a_map_without_negative_values_begins_at_zero(signed):
    figure = plotting.saliency_overlay(np.ones((10, 10)), np.abs(signed), percentile=100)
    assert limits(figure.axes[0]) == (0, 50)
    assert figure.axes[0].images[1].get_cmap() is saliency.UNSIGNED
    rounding = np.abs(signed)
    rounding[0, 0] = -1e-6
    assert limits(plotting.saliency_overlay(np.ones((10, 10)), rounding).axes[0])[0] == 0
    rounding[0, 0] = -0.1
    assert limits(plotting.saliency_overlay(np.ones((10, 10)), rounding).axes[0])[0] < -0.1


def test_colours_tell_the_sign_and_opacity_the_magnitude():
    table = saliency.SIGNED(np.linspace(0, 1, 5))  # -1, -0.5, 0, 0.5, 1
    np.testing.assert_allclose(table[:, 3], table[::-1, 3], atol=1e-6)
    assert table[2, 3] == 0
    assert 0 < table[3, 3] < table[4, 3] < 1
    assert table[4, 0] > table[4, 2]  # orange
    assert table[0, 2] > table[0, 0]  # blue
    np.testing.assert_allclose(saliency.UNSIGNED(np.array([0.0, 0.5, 1.0]))[:, 3], [0, 0.475, 0.95], atol=1e-3)


def test_channels_of_a_map_are_summed_and_those_of_an_image_averaged(image):
    relevance = np.stack([image, -2 * image, image + 1], axis=-1)
    figure = plotting.saliency_overlay(np.stack([image, image + 2], axis=-1), relevance)
    grey, drawn = (found.get_array() for found in figure.axes[0].images)
    np.testing.assert_allclose(drawn, 1.0)
    np.testing.assert_allclose(grey, np.linspace(0, 1, 48).reshape(6, 8))


def test_a_grid_has_a_line_for_each_image_and_a_column_for_each_analyzer(image, signed):
    images = {"000_HC": np.ones((10, 10)), "001_HC": np.eye(10)}
    maps = {"gradient": [np.abs(signed), 2 * np.abs(signed)], "lrp.z": [np.abs(signed), 3 * signed]}
    figure = plotting.saliency_grid(images, maps, percentile=100)
    panels, bars = np.reshape(figure.axes[:6], (2, 3)), figure.axes[6:]
    assert [axes.get_title() for axes in panels[0]] == ["image", "gradient", "lrp.z"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["000_HC", "001_HC"]
    assert [len(axes.images) for axes in panels.ravel()] == [1, 2, 2, 1, 2, 2]
    # an analyzer is signed if one of its maps is
    assert [limits(axes) for axes in panels[:, 1:].ravel()] == [(0, 50), (-50, 50), (0, 100), (-150, 150)]
    assert [axes.get_xlabel() for axes in panels[:, 1:].ravel()] == ["s = 50", "s = 50", "s = 100", "s = 150"]
    ticks = [[text.get_text() for text in bar.get_xticklabels()] for bar in bars[1:]]
    assert ticks == [["0", "s"], ["−s", "0", "s"]]
    assert figure.get_supxlabel() == "Colours saturate at s, the 100th percentile of each map's absolute values."
    np.testing.assert_array_equal(panels[1, 2].images[0].get_array(), np.eye(10))


def test_a_column_may_share_its_scale(signed):
    images = [np.ones((10, 10))] * 2
    figure = plotting.saliency_grid(images, {"a": [signed, 3 * signed], "b": [signed, signed]}, 100, scale="column")
    panels = np.reshape(figure.axes[:6], (2, 3))
    assert [limits(axes) for axes in panels[:, 1]] == [(-150, 150)] * 2
    assert [limits(axes) for axes in panels[:, 2]] == [(-50, 50)] * 2
    assert [text.get_text() for text in figure.axes[7].get_xticklabels()] == ["−150", "0", "150"]
    assert [axes.get_xlabel() for axes in panels.ravel()] == [""] * 6
    assert "of the absolute values of all maps of an analyzer" in figure.get_supxlabel()


def test_maps_stand_on_black_where_no_overlay_is_wanted(signed, image):
    figure = plotting.saliency_grid([np.eye(10)], {"a": [signed]}, overlay=False)
    assert figure.axes[0].images[0].get_array().max() == 1
    assert not figure.axes[1].images[0].get_array().any()


def test_a_map_of_zeros_says_so():
    figure = plotting.saliency_grid([np.eye(4)], {"deep_taylor": [np.zeros((4, 4))]})
    assert figure.axes[1].get_xlabel() == "0 everywhere"
    assert limits(figure.axes[1]) == (0, 1)


def test_a_map_of_few_values_is_scaled_by_its_largest():
    few = np.zeros((100, 100))
    few[0, :3] = 5
    assert limits(plotting.saliency_overlay(np.ones((100, 100)), few).axes[0]) == (0, 5)


def test_eight_analyzers_stay_readable(signed):
    names = ["gradient", "integrated_gradients", "deep_taylor.bounded", *"abcde"]
    large = np.kron(signed, np.ones((30, 30)))
    figure = plotting.saliency_grid([np.ones((300, 300))], {name: [large] for name in names})
    titles = [axes.get_title() for axes in figure.axes[:9]]
    assert titles[:4] == ["image", "gradient", "integrated_\ngradients", "deep_taylor.\nbounded"]
    assert titles[2].replace("\n", "") == "integrated_gradients"
    assert figure.dpi == 300  # else 300 px would share 120
    figure.canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes[:9]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    panels = [axes.get_window_extent() for axes in figure.axes[:9]]
    assert len({round(panel.y0) for panel in panels}) == 1
    assert np.ptp([panel.width for panel in panels]) < 2


def test_the_same_maps_give_the_same_picture(tmp_path, signed):
    def draw(name):
        figure = plotting.saliency_grid([np.eye(10)], {"a": [signed]})
        return plotting.save(figure, tmp_path / name).read_bytes()

    assert draw("a.png") == draw("b.png")
    with Image.open(io.BytesIO(draw("a.png"))) as picture:
        assert picture.width == 1170


# Errors


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_maps_that_are_not_finite_are_refused(bad):
    values = np.zeros((4, 4))
    values[1, 2] = bad
    with pytest.raises(ValueError, match=r"The map must be finite\. Received: 1 NaN or infinite of 16 values"):
        plotting.saliency_overlay(np.eye(4), values)
    with pytest.raises(ValueError, match=r"Map 1 of 'lrp\.z' must be finite"):
        plotting.saliency_grid([np.eye(4)] * 2, {"lrp.z": [np.eye(4), values]})
    with pytest.raises(ValueError, match=r"An image must be finite\. Received: 1 NaN"):
        plotting.saliency_overlay(values, np.eye(4))


@pytest.mark.parametrize(
    ("images", "maps", "options", "words"),
    [
        ([], {"a": []}, {}, r"at least one image and one analyzer\. Received: 0 image\(s\) and 1 analyzer"),
        ([np.eye(4)], {}, {}, r"Received: 1 image\(s\) and 0 analyzer\(s\)"),
        ([np.eye(4)], {"a": []}, {}, r"one map for each image\. Received: 0 map\(s\) of 'a' for 1 image"),
        ([np.eye(4)], {"a": [np.eye(5)]}, {}, r"Map 0 of 'a' must have its image's size, .*\(4, 4\)\. .*\(5, 5\)"),
        ([np.eye(4)], {"a": [np.ones(4)]}, {}, r"Map 0 of 'a' must have its image's size, .*Received: \(4,\)"),
        ([np.ones(4)], {"a": [np.eye(4)]}, {}, r"image is of shape \(height, width\) or .*Received: \(4,\)"),
        ([np.eye(4)], {"a": [np.eye(4)]}, {"scale": "row"}, r"scale is one of panel, column\. Received: 'row'"),
        ([np.eye(4)], {"a": [np.eye(4)]}, {"percentile": 50}, r"above 50 and at most 100\. Received: 50"),
        ([np.eye(4)], {"a": [np.eye(4)]}, {"percentile": 101}, r"above 50 and at most 100\. Received: 101"),
    ],
)
def test_wrong_arguments(images, maps, options, words):
    with pytest.raises(ValueError, match=words):
        plotting.saliency_grid(images, maps, **options)


def test_examples():
    results = doctest.testmod(saliency)
    assert (results.failed, results.attempted) == (0, 2)
