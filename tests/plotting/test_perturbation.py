"""Pictures of perturbed regions show which, in which order; curves show means, intervals and baselines."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from hcreg import plotting
from hcreg.plotting.canvas import BLUE, ORANGE, SKY
from hcreg.plotting.perturbation import MAX_ANALYZERS


def boxes(axes):
    """(left, top, right, bottom, colour) of the outlines, px."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(*patch.get_bbox().extents.tolist(), patch.get_edgecolor()) for patch in found]


def rgba(colour):
    return (*(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)), 1.0)


@pytest.fixture
def sequence():
    """A clean image of 5 x 8 px, and three perturbed ones."""
    return np.stack([np.linspace(0, 1, 40).reshape(5, 8) + 2 * step for step in range(4)])


def test_regions_are_outlined_and_numbered_in_their_order(sequence):
    figure = plotting.perturbation_pictures(sequence, [3, 0, 1], regions=(2, 2))
    assert [axes.get_title() for axes in figure.axes] == ["clean", "1 region", "2 regions", "3 regions"]
    assert [len(boxes(axes)) for axes in figure.axes] == [0, 1, 2, 3]
    # 5 px in two parts: rows 0-1 and 2-4; pixel edges lie at halves
    assert boxes(figure.axes[1]) == [(3.5, 1.5, 7.5, 4.5, rgba(ORANGE))]
    assert boxes(figure.axes[2]) == [(3.5, 1.5, 7.5, 4.5, rgba(SKY)), (-0.5, -0.5, 3.5, 1.5, rgba(ORANGE))]
    texts = {text.get_text(): text.get_position() for text in figure.axes[3].texts}
    assert texts == {"1": (5.5, 3.0), "2": (1.5, 0.5), "3": (5.5, 0.5)}


def test_outlines_are_the_regions_that_the_analyzers_replace():
    grid = pytest.importorskip("hcreg.analyzers.aopc_regions").RegionGrid((11, 7), (3, 2))
    sequence = np.zeros((7, 11, 7, 1))
    figure = plotting.perturbation_pictures(sequence, range(6), regions=(3, 2))
    expected = [(c.start - 0.5, r.start - 0.5, c.stop - 0.5, r.stop - 0.5) for r, c in grid.slices]
    assert [box[:4] for box in boxes(figure.axes[6])] == expected


def test_all_pictures_have_the_window_of_the_clean_image(sequence):
    figure = plotting.perturbation_pictures(sequence, [3, 0, 1], regions=(2, 2))
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), sequence[0])
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), 1)


def test_steps_can_be_chosen_and_their_errors_stand_above(sequence):
    figure = plotting.perturbation_pictures(
        sequence, range(6), (2, 3), steps=(0, 3), regions_per_step=2, errors=[0, 1, 2, 12.345], unit="mm"
    )
    assert [axes.get_title() for axes in figure.axes] == ["clean\nerror 0.00 mm", "6 regions\nerror 12.3 mm"]
    colours = [box[4] for box in boxes(figure.axes[1])]
    assert colours == [rgba(SKY)] * 4 + [rgba(ORANGE)] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region_order": [0, 0, 1]}, r"each of the regions 0 to 3 at most once\. Received: \[0, 0, 1\]"),
        ({"region_order": [0, 1, 4]}, r"regions 0 to 3 at most once\. Received: \[0, 1, 4\]"),
        ({"region_order": [0, 1]}, r"After 3 steps 3 regions are replaced\. Received: a region_order of 2"),
        ({"steps": [4]}, r"has the steps 0 to 3\. Received: steps=\[4\]"),
        ({"steps": []}, r"has the steps 0 to 3\. Received: steps=\[\]"),
        ({"errors": [1.0]}, r"one number for each of the 4 pictures of the sequence\. Received: 1"),
        ({"sequence": []}, r"clean and after each step, in one size\. Received: sizes \[\]"),
        ({"sequence": [np.eye(4), np.eye(5)]}, r"in one size\. Received: sizes \[\(4, 4\), \(5, 5\)\]"),
        ({"sequence": [np.eye(4), np.full((4, 4), np.nan)]}, r"An image must be finite\. Received: 16 NaN"),
    ],
)
def test_what_does_not_fit_is_refused(sequence, changes, words):
    arguments = {"sequence": sequence, "region_order": [3, 0, 1], "regions": (2, 2)} | changes
    with pytest.raises(ValueError, match=words):
        plotting.perturbation_pictures(**arguments)


def curves(mean_errors, width, **more):
    mean_errors = np.asarray(mean_errors, float)
    return SimpleNamespace(
        mean_errors=mean_errors, errors_interval=np.stack([mean_errors - width, mean_errors + width]), **more
    )


@pytest.fixture
def make_result():
    def make(mean_errors, **changes):
        baselines = {"random": curves([1, 2, 3], 0.2), "least_relevant_first": curves([1, 1.1, 1.2], 0.1)}
        given = {"baselines": baselines, "unit": "mm", "mean_score": -2.345, "confidence": 0.9} | changes
        return curves(mean_errors, 0.5, **given)

    return make


def line(axes, label):
    (found,) = (found for found in axes.lines if found.get_label() == label)
    return found


def test_curves_have_bands_baselines_and_a_unit(make_result):
    figure = plotting.perturbation_curves(
        {"lrp.z": make_result([1, 4, 6]), "gradient": make_result([1, 3, 4])}, title="unet"
    )
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of perturbed regions", "mean error (mm)")
    assert axes.get_title() == "unet"
    np.testing.assert_array_equal(line(axes, "lrp.z").get_xydata(), [[0, 1], [1, 4], [2, 6]])
    assert line(axes, "lrp.z").get_color() == BLUE
    least = line(axes, "lrp.z, least relevant first")
    assert (least.get_linestyle(), least.get_color()) == ("--", BLUE)
    assert line(axes, "random order").get_linestyle() == ":"
    assert len(axes.lines) == 5  # two analyzers, each with its least relevant first, and random once
    bands = [found.get_paths()[0].get_extents().extents.tolist() for found in axes.collections]
    np.testing.assert_allclose(bands, [[0, 0.5, 2, 6.5], [0, 0.5, 2, 4.5], [0, 0.8, 2, 3.2]])
    texts = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert texts == [
        ["most relevant first, band: 90 % confidence interval", "random order", "least relevant first"],
        ["lrp.z: AOPC −2.35 mm", "gradient: AOPC −2.35 mm"],
    ]
    assert axes.get_ylim()[0] == 0


def test_baselines_can_be_left_out(make_result):
    figure = plotting.perturbation_curves({"lrp.z": make_result([1, 4, 6])}, baselines=False)
    assert len(figure.axes[0].lines) == 1
    assert len(figure.legends[0].get_texts()) == 1
    without = make_result([1, 4, 6], baselines={})
    assert len(plotting.perturbation_curves({"lrp.z": without}).axes[0].lines) == 1


def test_regions_are_counted_where_a_step_takes_several(make_result):
    result = make_result([1, 4, 6], perturbation=SimpleNamespace(regions_per_step=3), unit="")
    axes = plotting.perturbation_curves({"lrp.z": result}).axes[0]
    np.testing.assert_array_equal(line(axes, "lrp.z").get_xdata(), [0, 3, 6])
    assert axes.get_ylabel() == "mean error (unit of the network's output)"


def test_a_single_image_has_no_band(make_result):
    result = make_result([1, 4, 6], baselines={})
    result.errors_interval = np.full((2, 3), np.nan)
    assert not plotting.perturbation_curves({"lrp.z": result}).axes[0].collections


def test_as_many_analyzers_as_can_be_told_apart(make_result):
    results = {f"analyzer {number}": make_result([1, 4, 6]) for number in range(MAX_ANALYZERS)}
    axes = plotting.perturbation_curves(results, baselines=False).axes[0]
    styles = {(found.get_color(), found.get_markerfacecolor(), found.get_marker()) for found in axes.lines}
    assert len(styles) == MAX_ANALYZERS == 16
    with pytest.raises(ValueError, match=r"Curves of 1 to 16 analyzers fit one figure\. Received: 17"):
        plotting.perturbation_curves(results | {"more": make_result([1, 4, 6])})
    with pytest.raises(ValueError, match=r"Received: 0\. Draw them in groups"):
        plotting.perturbation_curves({})


def test_curves_that_do_not_compare_are_refused(make_result):
    with pytest.raises(ValueError, match=r"have one unit\. Received: \{'a': 'mm', 'b': 'px'\}"):
        plotting.perturbation_curves({"a": make_result([1, 2, 3]), "b": make_result([1, 2, 3], unit="px")})
    with pytest.raises(ValueError, match=r"mean errors of 'a' must be finite\. Received: \[1\.0, nan, 3\.0\]"):
        plotting.perturbation_curves({"a": make_result([1, np.nan, 3])})
