"""What a network sees of a stack: the frame in mm and the way back, and the paper's crop, by hand."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.datasets import ACDC
from hcreg.preprocessing import volumes
from hcreg.preprocessing.nifti import Volume
from hcreg.preprocessing.volumes import (
    PAPER_BOX,
    Frame,
    heart_box,
    paper_crop,
    paper_slices,
    standardise,
)


def volume(array, spacing_mm=(1.5, 1.5, 10.0)):
    return Volume(np.asarray(array), spacing_mm, np.eye(4), Path("patient001.nii.gz"))


def disc_stack(shape=(120, 100, 8), radius_px=25.0, top=60.0, left=45.0):
    """Label map of a wall about a cavity beside a second one, smaller from slice to slice."""
    row, column, number = np.indices(shape)
    distance = np.hypot(row - top, column - left) / (1 - 0.05 * number)
    labels = np.where(distance < 0.7 * radius_px, 3, np.where(distance < radius_px, 2, 0))
    labels[(labels == 0) & (np.hypot(row - top, column - left + radius_px) < 0.6 * radius_px)] = 1
    return labels.astype(np.uint8)


def hearts_of(sizes):
    """A label map whose slices hold so many voxels of heart."""
    labels = np.zeros((max(sizes) + 1, 2, len(sizes)), np.uint8)
    for number, size in enumerate(sizes):
        labels[:size, 1, number] = 2
    return labels


# The frame


def test_a_frame_has_square_pixels_and_the_slices_of_the_stack():
    assert Frame(96, 80, 2.0).grid(11, (1.4, 1.3, 8.0)) == ((96, 80, 11), (2.0, 2.0, 8.0))
    assert Frame(96, 80, 2.0, 9, 7.0).grid(11, (1.4, 1.3, 8.0)) == ((96, 80, 9), (2.0, 2.0, 7.0))


def test_the_middle_of_the_stack_is_in_the_middle_of_the_frame():
    image = np.zeros((21, 31, 5), np.float32)
    image[10, 15, 2] = 1.0
    framed = Frame(11, 13, 2.0, 3, 10.0).image(volume(image, (2.0, 2.0, 10.0)))
    assert framed.shape == (11, 13, 3)
    assert np.argwhere(framed).tolist() == [[5, 6, 1]]


def test_beyond_the_image_its_border_goes_on_and_beyond_the_labels_is_background():
    frame = Frame(8, 6, 1.0)
    image = frame.image(volume(np.full((4, 4, 2), 5.0), (1.0, 1.0, 10.0)))
    np.testing.assert_array_equal(image, np.full((8, 6, 2), 5.0))
    shares = frame.label_fractions(volume(np.full((4, 4, 2), 3, np.uint8), (1.0, 1.0, 10.0)))
    assert shares[..., 3].sum() == 32
    np.testing.assert_array_equal(shares[2:6, 1:5, :, 3], 1)
    np.testing.assert_array_equal(shares[:2, ..., 0], 1)


@pytest.mark.parametrize("frame", [Frame(128, 112, 1.5), Frame(130, 120, 1.4), Frame(110, 100, 1.75, 16, 5.0)])
def test_labels_come_back_from_the_frame(frame):
    labels = disc_stack()
    shares = frame.label_fractions(volume(labels))
    back = frame.back(shares, labels.shape, (1.5, 1.5, 10.0))
    assert back.shape == (*labels.shape, 4)
    found = back.argmax(-1)
    for label in (1, 2, 3):
        overlap = 2 * np.sum((found == label) & (labels == label)) / (np.sum(found == label) + np.sum(labels == label))
        assert overlap > 0.96, label
    if frame.pixel_mm == 1.5:
        np.testing.assert_array_equal(found, labels)


def test_a_smaller_frame_crops_and_comes_back_with_its_border_repeated():
    image = np.arange(36.0).reshape(6, 6, 1)
    frame = Frame(2, 2, 1.0)
    np.testing.assert_array_equal(frame.image(volume(image, (1.0, 1.0, 9.0))), image[2:4, 2:4])
    back = frame.back(image[2:4, 2:4, :, None], (6, 6, 1), (1.0, 1.0, 9.0))[..., 0, 0]
    np.testing.assert_array_equal(back[2:4, 2:4], image[2:4, 2:4, 0])
    assert back[0, 0] == image[2, 2]
    assert back[5, 5] == image[3, 3]


@pytest.mark.parametrize("frame", [Frame(0, 8, 1.0), Frame(8, 8, 0.0), Frame(8, 8, 1.0, 0)])
def test_a_frame_without_size_is_refused(frame):
    with pytest.raises(ValueError, match=r"one sample or more\. Received|Spacings must be positive"):
        frame.image(volume(np.zeros((4, 4, 2))))


# Grey values


def test_standardised_has_mean_0_and_sd_1():
    array = np.random.default_rng(0).gamma(2.0, 50.0, (20, 20, 5))
    whole = standardise(array, None)
    assert whole.dtype == np.float32
    assert whole.mean() == pytest.approx(0, abs=1e-5)
    assert whole.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(whole, (array - array.mean()) / array.std(), atol=1e-4)


def test_rare_extremes_are_clipped_first():
    array = np.tile(np.arange(100.0), 100).reshape(100, 100, 1)
    array[0, 0, 0] = 1e6
    assert standardise(array).max() < 2
    assert standardise(array, None).max() > 90


@settings(max_examples=25, deadline=None)
@given(st.floats(-1e4, 1e4, width=32))
def test_a_stack_of_one_value_is_refused(value):
    with pytest.raises(ValueError, match=r"Every voxel of the stack has the value .*: there is nothing to measure"):
        standardise(np.full((3, 5, 7), value))


def test_a_stack_of_one_value_is_refused_on_a_frame_too():
    """Resampling leaves rounding errors, which standardised would look like an image."""
    framed = Frame(37, 41, 1.37, 7, 8.1).image(volume(np.full((30, 31, 9), 123.4)))
    with pytest.raises(ValueError, match=r"Every voxel of the stack has the value 123\.4"):
        standardise(framed)


# The paper's crop


def test_the_box_holds_every_slices_heart_and_no_more():
    labels = np.zeros((10, 12, 3), np.uint8)
    labels[2, 5, 0], labels[6, 7, 1], labels[4, 3, 2] = 1, 2, 3
    assert heart_box(labels) == (2, 7, 3, 8)


def test_the_crop_is_about_the_heart():
    labels = np.zeros((20, 20, 1), np.uint8)
    labels[8:12, 5:9] = 3
    image = np.arange(400).reshape(20, 20, 1)
    np.testing.assert_array_equal(paper_crop(image, labels, (6, 8)), image[7:13, 3:11])
    np.testing.assert_array_equal(paper_crop(image, labels, (2, 2)), image[9:11, 6:8])  # cut, not shrunk


def test_where_the_box_leaves_the_image_the_border_is_repeated():
    labels = np.zeros((4, 4, 1), np.uint8)
    labels[0, 0] = labels[1, 1] = 1
    image = np.arange(16).reshape(4, 4, 1)
    expected = [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]
    assert paper_crop(image, labels, (4, 4))[..., 0].tolist() == expected
    crop = paper_crop(image, np.flip(labels, (0, 1)), (4, 4))[..., 0]
    assert crop.tolist() == [[5, 6, 7, 7], [9, 10, 11, 11], [13, 14, 15, 15], [13, 14, 15, 15]]


def test_the_papers_box_by_default():
    labels = disc_stack()
    assert paper_crop(labels, labels).shape == (186, 147, 8)
    assert (paper_crop(labels, labels) > 0).sum() == (labels > 0).sum()


def test_slices_of_background_go_first():
    assert paper_slices(hearts_of((0, 3, 2, 1, 0)), 3).tolist() == [1, 2, 3]


def test_too_many_slices_lose_the_smallest_or_the_tail():
    hearts = hearts_of((1, 5, 4, 3, 2))
    assert paper_slices(hearts, 3).tolist() == [1, 2, 3]
    assert paper_slices(hearts, 3, "tail").tolist() == [0, 1, 2]
    assert paper_slices(hearts_of((2, 2, 2)), 2).tolist() == [0, 1]  # of equals the later goes


def test_too_few_slices_repeat_the_smallest_in_its_place():
    assert paper_slices(hearts_of((0, 1, 3, 2)), 5).tolist() == [1, 1, 1, 2, 3]
    assert paper_slices(hearts_of((3, 2, 1)), 3, "tail").tolist() == [0, 1, 2]
    assert len(paper_slices(hearts_of((3, 2, 1)))) == 9


def test_without_a_heart_there_is_no_crop():
    empty = np.zeros((4, 4, 2), np.uint8)
    with pytest.raises(ValueError, match="background alone: there is no heart to crop to"):
        paper_crop(empty, empty)
    with pytest.raises(ValueError, match="background alone: no slice shows a heart"):
        paper_slices(empty)
    with pytest.raises(ValueError, match=r"'smallest' slices or the 'tail'\. Received: removed='first'"):
        paper_slices(hearts_of((1,)), removed="first")


@pytest.mark.data
def test_the_papers_box_is_the_union_of_the_cohorts_hearts_but_one_patients(acdc_root):
    """Rows 21 to 206 and columns 28 to 174 of the image's own grid hold every heart but that of patient057 alone."""
    records = ACDC(acdc_root)
    boxes = {record.subject_id: heart_box(record.label_map().array) for record in records}
    outside = [
        name
        for name, (top, bottom, left, right) in boxes.items()
        if top < 21 or bottom > 207 or left < 28 or right > 175
    ]
    assert {name[:10] for name in outside} <= {"patient057"}
    # the largest heart is that patient's, of 512 x 428 pixels of 0.7 mm, and is wider than the box
    sizes = {name: (bottom - top, right - left) for name, (top, bottom, left, right) in boxes.items()}
    wider = [name for name, (rows, columns) in sizes.items() if rows > PAPER_BOX[0] or columns > PAPER_BOX[1]]
    assert set(wider) <= {"patient057_ED"}
    if "patient057_ED" in sizes:
        assert sizes["patient057_ED"] == (145, 162)


def test_examples():
    result = doctest.testmod(volumes)
    assert (result.failed, result.attempted) == (0, 4)
