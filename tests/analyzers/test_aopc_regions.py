"""Regions: they tile the image, differ by a pixel at most, and score as loops do."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.analyzers import aopc_regions
from hcreg.analyzers.aopc_regions import REGION_SCORES, RegionGrid, ranked

PROPERTIES = settings(deadline=None, derandomize=True)


def test_examples():
    assert doctest.testmod(aopc_regions).attempted > 0
    assert doctest.testmod(aopc_regions).failed == 0


def test_the_paper_s_grid_has_16_regions_of_32_by_32():
    grid = RegionGrid((128, 128), (4, 4))
    assert grid.num_regions == 16
    assert grid.slices[6] == (slice(32, 64), slice(64, 96))


def test_one_number_holds_for_all_axes():
    assert RegionGrid((8, 8, 8), 2).shape == (2, 2, 2)
    assert RegionGrid((8, 9), 2) == RegionGrid((8, 9), (2, 2)) != RegionGrid((8, 8), (2, 2))
    assert hash(RegionGrid((8, 9), 2)) == hash(RegionGrid((8, 9), (2, 2)))
    assert repr(RegionGrid((8, 9), 2)) == "RegionGrid((8, 9), (2, 2))"


@PROPERTIES
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=3))
def test_regions_tile_the_image_and_differ_by_a_pixel_at_most(axes):
    counts, sizes = [count for count, _ in axes], [count + more for count, more in axes]
    grid = RegionGrid(sizes, counts)
    times_covered = np.zeros(sizes, int)
    for region in grid.slices:
        times_covered[region] += 1
    assert (times_covered == 1).all()
    for axis in range(len(axes)):
        lengths = {region[axis].stop - region[axis].start for region in grid.slices}
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("how", REGION_SCORES)
@pytest.mark.parametrize(("sizes", "counts"), [((7, 10), (2, 3)), ((5, 4, 6), (2, 2, 4))])
def test_scores_are_those_of_loops_over_pixels(how, sizes, counts):
    maps = np.random.default_rng(0).normal(size=(2, *sizes, 3))
    grid = RegionGrid(sizes, counts)
    found = grid.scores(maps, how)
    assert found.shape == (2, grid.num_regions)
    for number, image in enumerate(maps):
        for region, where in enumerate(grid.slices):
            pixels = [
                np.mean(np.abs(pixel) if how == "mean_absolute" else pixel) for pixel in image[where].reshape(-1, 3)
            ]
            expected = {"sum": sum, "max": max}.get(how, np.mean)(pixels)
            assert found[number, region] == pytest.approx(expected, rel=1e-12)


def test_scores_by_hand():
    # Channel means of the four pixels: 2, -2, 4, 0; two regions, left and right.
    relevance = np.array([[[[1.0, 3.0], [-4.0, 0.0]], [[4.0, 4.0], [-1.0, 1.0]]]])
    grid = RegionGrid((2, 2), (1, 2))
    assert grid.scores(relevance, "mean").tolist() == [[3.0, -1.0]]
    assert grid.scores(relevance, "sum").tolist() == [[6.0, -2.0]]
    assert grid.scores(relevance, "max").tolist() == [[4.0, 0.0]]
    assert grid.scores(relevance, "mean_absolute").tolist() == [[3.0, 1.5]]


@PROPERTIES
@given(st.floats(-1e6, 1e6, width=32), st.integers(4, 11), st.integers(1, 3))
def test_a_constant_map_scores_alike_everywhere_whatever_the_sizes_of_regions(value, size, channels):
    scores = RegionGrid((size, size), (3, 4)).scores(np.full((1, size, size, channels), value, np.float32))
    assert len(set(scores[0].tolist())) == 1


def test_ranking_is_from_high_to_low_and_ties_go_as_told():
    assert ranked(np.array([0.0, 5.0, -1.0, 5.0]), np.array([3, 2, 1, 0])).tolist() == [3, 1, 0, 2]
    assert ranked(np.array([0.0, 5.0, -1.0, 5.0]), np.array([0, 1, 2, 3])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("sizes", "regions", "words"),
    [
        ((3, 8), (4, 4), r"An image of \(3, 8\) pixels is smaller than the grid of \(4, 4\) regions"),
        ((8, 8, 8), (4, 4), r"one number for each of the 3 spatial axes of the images \(8, 8, 8\). Received: \(4, 4\)"),
        ((8, 8), (4, 0), r"regions are positive integers. Received: \(4, 0\)"),
        ((8, 8), (4, 2.0), r"regions are positive integers. Received: \(4, 2.0\)"),
    ],
)
def test_bad_grids_are_refused(sizes, regions, words):
    with pytest.raises(ValueError, match=words):
        RegionGrid(sizes, regions)
