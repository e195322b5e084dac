"""Padding to multiples and back: numbers by hand, a round trip of any size, errors."""

import doctest

import numpy as np
import pytest

import hcreg.preprocessing.padding as module
from hcreg.preprocessing.padding import crop, pad, padding_of


def test_the_papers_size_by_hand():
    """155 to 160 lacks five, two before and three after; 103 to 104 one; 176 none."""
    assert padding_of((155, 103, 176), 8) == ((2, 3), (0, 1), (0, 0))


@pytest.mark.parametrize("shape", [(8, 9, 15), (23, 17), (16, 16, 31, 2)], ids=str)
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_there_and_back(shape, mode):
    array = np.random.default_rng(0).normal(size=shape)
    padding = padding_of(shape[:3], 8)
    padded = pad(array, padding, mode)
    assert all(side % 8 == 0 for side in padded.shape[:3])
    assert padded.shape[3:] == shape[3:]  # channels stay
    np.testing.assert_array_equal(crop(padded, padding), array)


def test_what_is_new():
    array, padding = np.array([[1, 2, 3]]), ((1, 0), (0, 2))
    assert pad(array, padding).tolist() == [[0, 0, 0, 0, 0], [1, 2, 3, 0, 0]]
    assert pad(array, padding, value=7).tolist() == [[7, 7, 7, 7, 7], [1, 2, 3, 7, 7]]
    assert pad(array, padding, "edge").tolist() == [[1, 2, 3, 3, 3], [1, 2, 3, 3, 3]]
    assert pad(array.astype(np.uint8), padding).dtype == np.uint8


def test_channels_are_not_padded():
    assert pad(np.ones((7, 7, 7, 2)), padding_of((7, 7, 7), 4)).shape == (8, 8, 8, 2)


def test_a_volume_smaller_than_the_pooling_allows():
    with pytest.raises(
        ValueError, match=r"volume of 9 x 7 x 16 is smaller than the network's pooling allows: .*at least 8 voxels\."
    ):
        padding_of((9, 7, 16), 8)
    assert padding_of((9, 7, 16), 8, smallest=1) == ((3, 4), (0, 1), (0, 0))
    with pytest.raises(ValueError, match=r"volume of 0 x 8 is smaller .*at least 1 voxels"):
        padding_of((0, 8), 8, smallest=0)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"multiples of a whole number, 1 or more\. Received: 0"):
        padding_of((8, 8), 0)
    with pytest.raises(ValueError, match=r"mode='constant' or 'edge'\. Received: mode='wrap'"):
        pad(np.ones((2, 2)), ((0, 0), (0, 0)), "wrap")
    with pytest.raises(ValueError, match=r"is for 2 axes or more\. Received: an array of shape \(3,\)"):
        pad(np.ones(3), ((0, 0), (0, 0)))
    with pytest.raises(ValueError, match=r"nothing left of an array of shape \(3, 8\) .*not the array that was padded"):
        crop(np.ones((3, 8)), ((2, 3), (0, 0)))


def test_examples():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 5)
