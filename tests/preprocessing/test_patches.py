"""Patches: drawn where foreground is, laid over any volume, stitched by weights that sum to one in each voxel."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.preprocessing import patches
from hcreg.preprocessing.patches import Tiles, cut_patch, draw_patch

SHAPES = st.tuples(*(st.integers(1, 17),) * 3)
PATCHES = st.tuples(*(st.integers(1, 8),) * 3)


@settings(max_examples=50, deadline=None)
@given(SHAPES, PATCHES, st.floats(0, 0.9), st.sampled_from(["gaussian", "uniform"]))
def test_weights_of_all_tiles_sum_to_one_in_every_voxel(shape, patch_shape, overlap, window):
    tiles = Tiles(shape, patch_shape, overlap, window)
    total = np.zeros(np.array(shape) + 16)
    for number, start in enumerate(tiles.starts):
        place = tuple(slice(8 + first, 8 + first + side) for first, side in zip(start, patch_shape))
        total[place] += tiles.weights(number)
    inside = tuple(slice(8, 8 + size) for size in shape)
    np.testing.assert_allclose(total[inside], 1, atol=1e-6)
    total[inside] = 0
    assert (total == 0).all()


@settings(max_examples=25, deadline=None)
@given(SHAPES, PATCHES, st.floats(0, 0.9), st.sampled_from(["gaussian", "uniform"]), st.integers(1, 3))
def test_stitching_what_is_the_same_from_every_tile_gives_it_back(shape, patch_shape, overlap, window, batch_size):
    volume = np.random.default_rng(sum(shape)).normal(size=(*shape, 2)).astype(np.float32)
    sizes = set()

    def identity(batch):
        sizes.add(len(batch))
        return batch

    stitched = Tiles(shape, patch_shape, overlap, window).stitch(volume, identity, batch_size)
    # hundreds of tiles may lie over a voxel, and each rounds its share to float32
    np.testing.assert_allclose(stitched, volume, rtol=5e-6, atol=2e-6)
    assert sizes == {batch_size}  # no other size, that would be traced anew


def test_stitched_values_are_weighted_means_of_the_tiles():
    tiles = Tiles((6, 1, 1), (4, 1, 1), overlap=0.5, window="uniform")
    assert tiles.starts == [(0, 0, 0), (2, 0, 0)]
    numbers = iter([1.0, 2.0])
    stitched = tiles.stitch(np.zeros((6, 1, 1, 1)), lambda batch: np.full(batch.shape, next(numbers)))
    np.testing.assert_allclose(stitched.ravel(), [1, 1, 1.5, 1.5, 2, 2])
    gaussian = Tiles((6, 1, 1), (4, 1, 1), overlap=0.5).weights(0).ravel()
    near, far = np.exp(-0.5 * (0.5 / 0.5) ** 2), np.exp(-0.5 * (1.5 / 0.5) ** 2)
    np.testing.assert_allclose(gaussian, [1, 1, near / (near + far), far / (near + far)], rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(SHAPES, PATCHES, st.integers(0, 10**6), st.floats(0, 1))
def test_training_patches_lie_within_the_volume_or_hold_it(shape, patch_shape, seed, foreground_probability):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(size // 2 for size in shape)] = 1
    start = draw_patch(np.random.default_rng(seed), labels, patch_shape, foreground_probability)
    for first, side, size in zip(start, patch_shape, shape):
        assert (0 <= first <= size - side) if side <= size else (first == (size - side) // 2)
    again = draw_patch(np.random.default_rng(seed), labels, patch_shape, foreground_probability)
    assert start == again


def test_foreground_is_in_the_patch_as_often_as_said():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[3:5, 30, 21] = 1
    for probability, least, most in ((1.0, 1.0, 1.0), (0.4, 0.35, 0.46), (0.0, 0.0, 0.01)):
        rng = np.random.default_rng(0)
        starts = [draw_patch(rng, labels, (4, 4, 4), probability) for _ in range(600)]
        seen = np.mean([cut_patch(labels, start, (4, 4, 4)).any() for start in starts])
        assert least <= seen <= most


def test_without_foreground_a_patch_is_drawn_anywhere():
    rng = np.random.default_rng(0)
    starts = {draw_patch(rng, np.zeros((5, 4, 4)), (4, 4, 4), 1.0) for _ in range(30)}
    assert starts == {(0, 0, 0), (1, 0, 0)}


@settings(max_examples=40, deadline=None)
@given(SHAPES, PATCHES, st.tuples(*(st.integers(-9, 18),) * 3))
def test_a_patch_is_the_volume_where_it_lies_and_zero_elsewhere(shape, patch_shape, start):
    volume = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    patch = cut_patch(volume, start, patch_shape)
    assert patch.shape == patch_shape
    for place in np.ndindex(*patch_shape):
        at = tuple(np.add(place, start))
        inside = all(0 <= value < size for value, size in zip(at, shape))
        assert patch[place] == (volume[at] if inside else 0)


def test_wrong_shapes_are_refused():
    tiles = Tiles((4, 4, 4), (2, 2, 2))
    with pytest.raises(ValueError, match=r"cover a volume of \(4, 4, 4\). Received: \(4, 4, 5, 1\)"):
        tiles.stitch(np.zeros((4, 4, 5, 1)), None)
    with pytest.raises(ValueError, match=r"of the shape \(1, 2, 2, 2\) and classes. Received: \(1, 2, 2, 1, 1\)"):
        tiles.stitch(np.zeros((4, 4, 4, 1)), lambda batch: batch[:, :, :, :1])
    with pytest.raises(ValueError, match=r"one patch or more. Received: batch_size=0"):
        tiles.stitch(np.zeros((4, 4, 4, 1)), None, batch_size=0)
    with pytest.raises(ValueError, match=r"three sides of 1 voxel or more. Received: patch_shape=\(2, 2\)"):
        Tiles((4, 4, 4), (2, 2))
    with pytest.raises(ValueError, match=r"three positive sides. Received: shape=\(4, 0, 4\)"):
        Tiles((4, 0, 4), (2, 2, 2))
    with pytest.raises(ValueError, match=r"from 0 to below 1. Received: overlap=1"):
        Tiles((4, 4, 4), (2, 2, 2), overlap=1)
    with pytest.raises(ValueError, match=r"one of gaussian, uniform. Received: 'hann'"):
        Tiles((4, 4, 4), (2, 2, 2), window="hann")
    with pytest.raises(ValueError, match=r"foreground_probability is 0 to 1. Received: 2"):
        draw_patch(np.random.default_rng(0), np.zeros((4, 4, 4)), (2, 2, 2), 2)


def test_examples_of_the_docstrings():
    result = doctest.testmod(patches)
    assert result.failed == 0
    assert result.attempted >= 8
