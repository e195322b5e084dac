"""Label pyramids: blocks by hand, against a count of each block, what vanishes, targets, errors."""

import doctest

import numpy as np
import pytest

import hcreg.preprocessing.label_pyramids as module
from hcreg.preprocessing.label_pyramids import label_pyramid, pyramid_targets


def test_the_majority_of_a_block_by_hand():
    """Of 1, 1, 2, 0 it is 1; of 0, 0, 2, 2 as many are either: the larger; of three 0 and a 2 it is 0."""
    label_map = np.array([[1, 1, 0, 0, 0, 0], [2, 0, 2, 2, 0, 2]])
    assert label_pyramid(label_map, 2)[1].tolist() == [[1, 2, 0]]


def test_the_nearest_is_the_voxel_after_the_middle():
    label_map = np.arange(64).reshape(8, 8)
    assert label_pyramid(label_map, 3, "nearest", "accept")[1].tolist() == label_map[1::2, 1::2].tolist()
    assert label_pyramid(label_map, 3, "nearest", "accept")[2].tolist() == [[18, 22], [50, 54]]


@pytest.mark.parametrize("shape", [(16, 8, 24), (8, 12)], ids=str)
def test_majorities_against_a_count_of_each_block(shape):
    label_map = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    levels = label_pyramid(label_map, 3, vanishing="accept")
    assert np.array_equal(levels[0], label_map)
    for number, level in enumerate(levels):
        step = 2**number
        assert level.shape == tuple(side // step for side in shape)
        assert level.dtype == np.uint8
        for place in np.ndindex(*level.shape):
            block = label_map[tuple(slice(index * step, (index + 1) * step) for index in place)]
            counts = np.bincount(block.ravel(), minlength=4)
            assert counts[level[place]] == counts.max()
            assert level[place] == np.flatnonzero(counts == counts.max())[-1]


def test_a_ball_keeps_its_volume():
    grid = np.indices((32, 32, 32)) - np.array([15.1, 14.8, 15.6]).reshape(3, 1, 1, 1)
    ball = ((grid**2).sum(0) <= 12**2).astype(np.uint8)
    for method in module.METHODS:
        for number, level in enumerate(label_pyramid(ball, 3, method)):
            assert int(level.sum()) * 8**number == pytest.approx(int(ball.sum()), rel=0.05)


def test_foreground_that_vanishes_is_refused():
    label_map = np.zeros((8, 8, 8), np.uint8)
    label_map[:6] = 1
    label_map[7, 7, 7] = 2
    words = (
        r"At 1/2 of the size .*lost its foreground: class 2 of 8 x 8 x 8 voxels is on none of 4 x 4 x 4 \(majority\)"
    )
    with pytest.raises(ValueError, match=words):
        label_pyramid(label_map)
    assert [int(level.max()) for level in label_pyramid(label_map, vanishing="accept")] == [2, 1, 1]
    label_map[7, 7, 7] = 0
    label_map[4, 4, 4] = 3  # on the quarter's grid is (2, 2, 2) of each block of four, on the half's (1, 1, 1)
    with pytest.raises(ValueError, match=r"At 1/2 .*class 3 .*\(nearest\)\. Use fewer levels or smaller voxels"):
        label_pyramid(label_map, method="nearest")


def test_background_alone_has_nothing_to_lose():
    assert [level.sum() for level in label_pyramid(np.zeros((8, 8), np.uint8))] == [0, 0, 0]


def test_targets_by_output():
    label_map = np.zeros((8, 8, 8), np.uint8)
    label_map[:4] = 1
    targets = pyramid_targets(label_map, classes=3)
    assert {name: target.shape for name, target in targets.items()} == {
        "mask": (8, 8, 8, 3),
        "mask_half": (4, 4, 4, 3),
        "mask_quarter": (2, 2, 2, 3),
    }
    for target in targets.values():
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target.sum(-1), 1)
        np.testing.assert_array_equal(target.mean((0, 1, 2)), [0.5, 0.5, 0])
    assert list(pyramid_targets(label_map, num_levels=1)) == ["mask"]


def test_outputs_are_those_of_losses_and_networks():
    from hcreg.losses.deep_supervision import OUTPUTS

    assert module.OUTPUTS == OUTPUTS  # networks have them from here


@pytest.mark.parametrize(
    ("label_map", "arguments", "words"),
    [
        (np.zeros((8, 6), int), {}, r"halved 2 times, every side .*multiple of 4\. Received: 8 x 6\. Pad it with"),
        (np.zeros((8, 8)), {}, r"whole numbers from 0, the background\. Received: an array of float64"),
        (np.full((8, 8), -1), {}, r"Received: an array of int64 from -1 on"),
        (np.zeros(8, int), {}, r"of a label map \(height, width\) or .*Received: an array of shape \(8,\)"),
        (np.zeros((0, 8), int), {}, r"Received: an array of shape \(0, 8\)"),
        (np.zeros((8, 8), int), {"method": "linear"}, r"method .*'majority' or 'nearest'\. Received: 'linear'"),
        (np.zeros((8, 8), int), {"vanishing": "warn"}, r"vanishing .*'refuse' or 'accept'\. Received: 'warn'"),
        (np.zeros((8, 8), int), {"num_levels": 0}, r"num_levels .*whole number, 1 or more\. Received: 0"),
    ],
    ids=str,
)
def test_wrong_arguments(label_map, arguments, words):
    with pytest.raises(ValueError, match=words):
        label_pyramid(label_map, **arguments)


def test_targets_of_other_labels_are_refused():
    with pytest.raises(ValueError, match=r"network of 2 classes .*labels from 0 to 1\. Received: a label 2\. Join"):
        pyramid_targets(np.full((8, 8), 2))
    with pytest.raises(ValueError, match=r"1 to 3 levels, mask, mask_half, mask_quarter\. Received: 4"):
        pyramid_targets(np.ones((8, 8), int), num_levels=4)


def test_examples():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 7)
