"""Erasing around the head: boxes hold a voxel of the border, are set to zero, and leave the label map as it was."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.augmentation import AxisFlips, HalfTurns, HeadAugmentation, RandomErasing, erasing, yang2020_augmentation

ALWAYS = RandomErasing(probability=1.0)


def ball(shape=(14, 12, 16), radius=4.5):
    place = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return (np.sqrt((place**2).sum(0)) < radius).astype(np.uint8)


def border_of(head):
    """Foreground with a background voxel among its six neighbours, one by one."""
    padded = np.pad(head > 0, 1)
    border = np.zeros(head.shape, bool)
    for place in np.argwhere(head):
        steps = [step * np.eye(3, dtype=int)[axis] for axis in range(3) for step in (-1, 1)]
        border[tuple(place)] = any(not padded[tuple(place + 1 + step)] for step in steps)
    return border


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_each_box_holds_a_voxel_of_the_border_and_is_as_large_as_said(seed):
    head = ball()
    boxes = ALWAYS.draw(np.random.default_rng(seed), head)
    assert 1 <= len(boxes) <= 3
    border = border_of(head)
    for start, stop in boxes:
        assert border[tuple(map(slice, start, stop))].any()
        sides = np.subtract(stop, start)
        assert (sides >= 1).all()
        assert (sides <= np.ceil(0.4 * 9)).all()  # the ball is 8 or 9 voxels wide
        assert (np.array(start) >= 0).all()
        assert (np.array(stop) <= head.shape).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_boxes_are_zero_and_all_else_is_as_it_was(seed):
    image = np.random.default_rng(seed).uniform(0.5, 1.0, (*ball().shape, 1))
    before = image.copy()
    boxes = ALWAYS.draw(np.random.default_rng(seed), ball())
    erased = RandomErasing.apply(image, boxes)
    inside = np.zeros(ball().shape, bool)
    for start, stop in boxes:
        inside[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]] = True
    assert (erased[inside] == 0).all()
    np.testing.assert_array_equal(erased[~inside], before[~inside])
    np.testing.assert_array_equal(image, before)


def test_a_head_that_fills_the_volume_is_erased_at_its_border():
    boxes = ALWAYS.draw(np.random.default_rng(0), np.ones((6, 6, 6)))
    assert all(0 in start or 6 in stop for start, stop in boxes)


def test_boxes_are_as_frequent_as_said():
    rng, sometimes = np.random.default_rng(0), RandomErasing(probability=0.3, max_boxes=2)
    counts = np.array([len(sometimes.draw(rng, ball())) for _ in range(1000)])
    np.testing.assert_allclose([np.mean(counts == n) for n in range(3)], [0.7, 0.15, 0.15], atol=0.04)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_label_map_moves_with_its_image_and_is_never_erased(seed):
    head = ball()
    head[0, 0, 0] = 1  # no longer its own mirror image
    augmentation = HeadAugmentation((AxisFlips(), HalfTurns()), ALWAYS)
    drawn = augmentation.draw(np.random.default_rng(seed), head)
    assert drawn == augmentation.draw(np.random.default_rng(seed), head)
    image, labels = augmentation.apply(head.astype(np.float32), head, drawn)
    assert labels.sum() == head.sum()
    assert (image <= labels).all()  # where the image still shows head, the labels say so
    assert image.sum() < labels.sum()
    unerased = augmentation.apply(head, head, {**drawn, "boxes": ()})
    np.testing.assert_array_equal(*unerased)
    np.testing.assert_array_equal(unerased[1], labels)


def test_the_papers_augmentation_flips_turns_and_erases():
    augmentation = yang2020_augmentation()
    assert [type(move) for move in augmentation.moves] == [AxisFlips, HalfTurns]
    assert isinstance(augmentation.erasing, RandomErasing)
    assert HeadAugmentation(erasing=None).draw(np.random.default_rng(0), ball())["boxes"] == ()


def test_a_label_map_without_head_is_refused():
    with pytest.raises(ValueError, match="border of the head; this label map has no foreground"):
        ALWAYS.draw(np.random.default_rng(0), np.zeros((4, 4, 4)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"probability": -0.1}, "a probability of 0 to 1. Received: -0.1"),
        ({"max_boxes": 0}, "max_boxes of 1 or more. Received: 0"),
        ({"size_range": (0.5, 0.2)}, r"0 < low <= high. Received: \(0.5, 0.2\)"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=f"RandomErasing needs .*{words}"):
        RandomErasing(**arguments)


def test_examples_of_the_docstrings():
    result = doctest.testmod(erasing)
    assert (result.failed, result.attempted) == (0, 5)
