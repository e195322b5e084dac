"""Flips and half turns of volumes: every voxel is found again, labels go with their image, eight orientations."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.augmentation import AxisFlips, HalfTurns, flips

SHAPES = st.tuples(*(st.integers(1, 5),) * 3)


def numbered(shape):
    """A volume in which each voxel knows its place."""
    return np.arange(np.prod(shape)).reshape(shape)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.tuples(*(st.booleans(),) * 3))
def test_a_flip_takes_each_voxel_to_its_mirrored_place(shape, flipped):
    moved = AxisFlips.apply(numbered(shape), flipped)
    for place in np.ndindex(*shape):
        mirrored = tuple(size - 1 - at if flip else at for at, size, flip in zip(place, shape, flipped))
        assert moved[mirrored] == numbered(shape)[place]


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from([0, 1, 2]))
def test_a_half_turn_is_a_rotation_by_180_degrees(shape, axis):
    plane = tuple(other for other in range(3) if other != axis)
    np.testing.assert_array_equal(HalfTurns.apply(numbered(shape), axis), np.rot90(numbered(shape), 2, plane))


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6), st.sampled_from([AxisFlips(), HalfTurns(1.0)]))
def test_labels_follow_exactly_and_twice_is_never(shape, seed, transform):
    image = np.random.default_rng(seed).normal(size=(*shape, 2))
    labels = (image[..., 0] > 0).astype(np.uint8)
    drawn = transform.draw(np.random.default_rng(seed), shape)
    moved, moved_labels = transform.apply(image, drawn), transform.apply(labels, drawn)
    np.testing.assert_array_equal(moved_labels, moved[..., 0] > 0)
    assert moved.shape == image.shape
    np.testing.assert_array_equal(transform.apply(moved, drawn), image)


def test_draws_are_as_frequent_as_said():
    rng = np.random.default_rng(0)
    drawn = np.array([AxisFlips(0.25).draw(rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), 0.25, atol=0.03)
    assert set(map(tuple, drawn.tolist())) == {tuple(map(bool, flags)) for flags in np.ndindex(2, 2, 2)}
    turns = [HalfTurns(0.6).draw(rng) for _ in range(4000)]
    for turn, share in ((None, 0.4), (0, 0.2), (1, 0.2), (2, 0.2)):
        assert turns.count(turn) / 4000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("transform", [AxisFlips, HalfTurns])
def test_a_probability_beyond_one_is_refused(transform):
    with pytest.raises(ValueError, match=rf"{transform.__name__} needs a probability of 0 to 1. Received: 1.5"):
        transform(1.5)


def test_examples_of_the_docstrings():
    assert doctest.testmod(flips).failed == 0
    assert doctest.testmod(flips).attempted >= 2
