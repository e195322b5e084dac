"""Preparation of volumes: intensities, grids, labels and the way back; and each bad input by its words."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_heads import SHAPE, SPACING_MM, HeadRecord

from hcreg import metrics
from hcreg.head_volumes import HeadPreparation, preparation
from hcreg.head_volumes.cache import HeadCache
from hcreg.head_volumes.preparation import largest_piece

IMAGE, LABELS = HeadRecord(0).image(), HeadRecord(0).label_map()
HALF = HeadPreparation(scale=0.5)


def with_array(volume, array):
    return replace(volume, array=array)


def test_intensities_run_from_0_to_1_whatever_their_unit():
    prepared = HALF.image(IMAGE)
    assert prepared.shape == (10, 9, 12)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(HALF.image(with_array(IMAGE, 7 * IMAGE.array - 300)), prepared, atol=1e-5)
    low, high = IMAGE.array.min(), IMAGE.array.max()
    same = HeadPreparation(scale=1.0).image(IMAGE)
    np.testing.assert_allclose(same, (IMAGE.array - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "shape", "spacing_mm"),
    [
        ({"scale": 0.5}, (10, 9, 12), (2.0, 2.4, 1.6)),
        ({"scale": None, "spacing_mm": 2.0}, (10, 11, 10), (2.0, 2.0, 2.0)),
        ({"scale": None, "size": (8, 16, 24)}, (8, 16, 24), (2.5, 1.35, 0.8)),
    ],
)
def test_grid_by_scale_spacing_or_size(options, shape, spacing_mm):
    found, found_mm = HeadPreparation(**options).grid(SHAPE, SPACING_MM)
    assert found == shape
    assert found_mm == pytest.approx(spacing_mm)
    assert HeadPreparation(**options).image(IMAGE).shape == shape


def test_the_papers_volume():
    assert HeadPreparation().grid((388, 258, 440), (0.38,) * 3) == ((155, 103, 176), pytest.approx((0.95,) * 3))


def test_labels_go_there_and_back():
    for options in ({"scale": 0.5}, {"scale": None, "size": (16, 16, 16)}):
        prepare = HeadPreparation(**options)
        coarse = prepare.label_map(LABELS)
        assert set(np.unique(coarse)) == {0, 1}
        back = prepare.back(coarse.astype(np.float32), SHAPE, SPACING_MM)
        assert back.shape == SHAPE
        assert back.dtype == np.uint8
        assert metrics.dice_score(LABELS.array, back) > 0.9


@settings(max_examples=10, deadline=None)
@given(st.tuples(*(st.integers(16, 30),) * 3), st.floats(0.5, 1.0))
def test_any_size_comes_back_at_its_own(shape, scale):
    prepare = HeadPreparation(scale=scale)
    coarse, _ = prepare.grid(shape, (1.0, 2.0, 0.5))
    assert (prepare.back(np.ones(coarse, np.float32), shape, (1.0, 2.0, 0.5)) == 1).all()
    assert (prepare.back(np.zeros(coarse, np.float32), shape, (1.0, 2.0, 0.5)) == 0).all()


def test_the_largest_piece_is_kept_where_asked():
    shares = np.zeros((10, 9, 12), np.float32)
    shares[2:7, 2:7, 2:7] = shares[9, 8, 10:12] = 1.0
    both, one = (HALF.back(shares, SHAPE, SPACING_MM, keep_largest=keep) for keep in (False, True))
    assert both[-1, -1, -1] == 1
    assert one[-1, -1, -1] == 0
    np.testing.assert_array_equal(one[:16], both[:16])
    np.testing.assert_array_equal(largest_piece(np.zeros((2, 2, 2))), 0)


def test_labels_above_0_are_one_head_if_declared():
    several = with_array(LABELS, LABELS.array * np.uint8(3))
    declared = replace(HALF, labels=(0, 1, 2, 3))
    np.testing.assert_array_equal(declared.label_map(several), HALF.label_map(LABELS))
    with pytest.raises(ValueError, match=r"head00_scan1.nii.gz has the label\(s\) 3; declared are 0, 1"):
        HALF(IMAGE, several)


def test_image_and_label_map_of_different_size_or_spacing_are_refused():
    with pytest.raises(ValueError, match=r"differs from its image head00_scan1.nii.gz in shape"):
        HALF(IMAGE, with_array(LABELS, LABELS.array[:-1]))
    with pytest.raises(ValueError, match=r"differs from its image head00_scan1.nii.gz in spacing"):
        HALF(IMAGE, replace(LABELS, spacing_mm=(1.0, 1.2, 0.9)))


def test_voxels_without_a_number_are_counted_and_refused():
    array = IMAGE.array.copy()
    array[3, 4, 5:7] = np.nan
    with pytest.raises(ValueError, match=r"head00_scan1.nii.gz has 2 voxel\(s\) that are NaN or infinite, of 8640"):
        HALF.image(with_array(IMAGE, array))


def test_volumes_of_one_intensity_or_other_axes_are_refused():
    with pytest.raises(ValueError, match="has one intensity, 5, in all its voxels"):
        HALF.image(with_array(IMAGE, np.full(SHAPE, 5.0)))
    with pytest.raises(ValueError, match=r"expected a volume of three axes. Received the shape \(20, 18\)"):
        HALF.image(with_array(IMAGE, IMAGE.array[..., 0]))


def test_volumes_too_small_for_the_pooling_are_refused():
    with pytest.raises(ValueError, match=r"20 x 18 x 24 voxels becomes 8 x 7 x 10 by scale=0.4: fewer than the 8"):
        HeadPreparation().image(IMAGE)


def test_labels_without_foreground_before_or_after_are_refused():
    with pytest.raises(ValueError, match="has no foreground: all its voxels are 0"):
        HALF.label_map(with_array(LABELS, np.zeros(SHAPE, np.uint8)))
    dot = np.zeros(SHAPE, np.uint8)
    dot[3, 3, 3] = 1
    with pytest.raises(ValueError, match=r"its 1 voxel\(s\) of foreground are lost on a grid of 10 x 9 x 12"):
        HALF.label_map(with_array(LABELS, dot))


def test_what_was_not_cropped_is_refused():
    with pytest.raises(ValueError, match=r"is prepared as 10 x 9 x 12; its foreground has the shape 16 x 16 x 16"):
        HALF.back(np.zeros((16, 16, 16)), SHAPE, SPACING_MM)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": None}, "one of scale, spacing_mm and size. Received: none"),
        ({"spacing_mm": 1.0}, "Received: scale=0.4, spacing_mm=1.0"),
        ({"scale": 0.0}, "scale of a preparation is a positive number. Received: 0.0"),
        (
            {"scale": None, "size": (8, 8)},
            r"size of a preparation is three whole numbers of voxels. Received: \(8, 8\)",
        ),
    ],
)
def test_preparations_of_no_size_or_two_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        HeadPreparation(**options)


def test_the_cache_pads_all_to_one_size_and_knows_the_volumes():
    records = [HeadRecord(0), HeadRecord(4)]
    cache = HeadCache(records, HALF)
    assert cache.shape == (16, 16, 16)
    assert len(cache) == 2
    np.testing.assert_array_equal(cache.padded(0, "image")[3:13, 3:12, 2:14], cache.volumes[0]["image"])
    assert cache.padded(1, "labels").sum() == cache.volumes[1]["labels"].sum()
    voxel_ml = 1.0 * 1.2 * 0.8 / 1000
    assert cache.volumes_ml == pytest.approx([record.label_map().array.sum() * voxel_ml for record in records])
    assert cache.index_of(["head01_scan2", "head00_scan1"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="no volume to read: the list of records is empty"):
        HeadCache([], HALF)


def test_examples_of_the_docstrings():
    assert doctest.testmod(preparation).failed == 0
    assert doctest.testmod(preparation).attempted >= 3
