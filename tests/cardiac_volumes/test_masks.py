"""From maps on a frame to a label map: what goes in comes out, and what lies apart goes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hcreg.cardiac_volumes.masks import label_map_of, mask_columns
from hcreg.preprocessing.cardiac import voxel_counts
from hcreg.preprocessing.nifti import Volume
from hcreg.preprocessing.volumes import Frame

SPACING_MM = (2.0, 2.0, 5.0)


def heart(shape=(24, 30, 4)):
    """An RV of 3 x 4, a ring of myocardium around an LV of 2 x 2, in two slices."""
    labels = np.zeros(shape, np.uint8)
    labels[10:14, 12:16, 1:3] = 2
    labels[11:13, 13:15, 1:3] = 3
    labels[10:13, 8:12, 1:3] = 1
    return labels


def shares_of(labels):
    return np.eye(4, dtype=np.float32)[labels]


def record_of(labels, has_label_map=True):
    volume = Volume(labels, SPACING_MM, np.eye(4), Path("heart_gt.nii.gz"))
    return SimpleNamespace(
        label_map_path=volume.path if has_label_map else None, label_map=lambda: volume, image=lambda: volume
    )


def test_a_label_map_on_its_own_grid_comes_back_as_it_was():
    frame = Frame(24, 30, 2.0)
    np.testing.assert_array_equal(label_map_of(shares_of(heart()), frame, (24, 30, 4), SPACING_MM), heart())


def test_a_finer_frame_of_another_size_brings_back_the_same_labels():
    volume = Volume(heart(), SPACING_MM, np.eye(4), None)
    frame = Frame(64, 56, 1.0)
    labels = label_map_of(frame.label_fractions(volume), frame, volume.array.shape, SPACING_MM)
    np.testing.assert_array_equal(labels, heart())


def test_the_larger_of_two_hearts_is_kept():
    labels = heart()
    labels[1:3, 20:22, 1] = 3  # another organ
    found = label_map_of(shares_of(labels), Frame(24, 30, 2.0), (24, 30, 4), SPACING_MM)
    np.testing.assert_array_equal(found, heart())


def test_parts_that_touch_at_a_corner_of_the_next_slice_are_one_heart():
    labels = heart()
    labels[14, 16, 3] = 3
    found = label_map_of(shares_of(labels), Frame(24, 30, 2.0), (24, 30, 4), SPACING_MM)
    np.testing.assert_array_equal(found, labels)


def test_an_empty_map_stays_empty():
    labels = np.zeros((24, 30, 4), np.uint8)
    assert not label_map_of(shares_of(labels), Frame(24, 30, 2.0), labels.shape, SPACING_MM).any()


def test_volumes_are_counted_voxels_and_a_perfect_map_has_dice_1():
    columns = mask_columns(shares_of(heart()), Frame(24, 30, 2.0), record_of(heart()))
    assert voxel_counts(heart()) == {"RV": 24, "MYO": 24, "LV": 8}
    assert columns == pytest.approx(  # a voxel has 20 cubic mm
        {"RV_mask_ml": 0.48, "MYO_mask_ml": 0.48, "LV_mask_ml": 0.16, "RV_dice": 1, "MYO_dice": 1, "LV_dice": 1}
    )


def test_dice_is_of_the_whole_stack():
    missed = heart()
    missed[11:13, 13:15, 2] = 2  # half of the LV taken for myocardium: Dice 2 * 4 / (8 + 4), and 2 * 24 / (24 + 28)
    columns = mask_columns(shares_of(missed), Frame(24, 30, 2.0), record_of(heart()))
    assert (columns["LV_dice"], columns["MYO_dice"]) == pytest.approx((2 / 3, 12 / 13))


def test_without_a_label_map_there_are_volumes_and_no_dice():
    columns = mask_columns(shares_of(heart()), Frame(24, 30, 2.0), record_of(heart(), has_label_map=False))
    assert columns["LV_mask_ml"] == pytest.approx(0.16)
    assert np.isnan(columns["LV_dice"])
