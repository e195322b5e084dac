"""Voxels counted and volumes worked by hand."""

import doctest
import math

import numpy as np
import pytest

from hcreg.preprocessing import cardiac
from hcreg.preprocessing.cardiac import (
    LABELS,
    NUM_CLASSES,
    STRUCTURES,
    ejection_fraction_percent,
    volumes_ml,
    voxel_counts,
    voxel_volume_ml,
)


@pytest.fixture
def label_map():
    """Two slices: RV 3 voxels, myocardium 4, LV 2, and a background of 3."""
    return np.array([[[0, 1], [1, 1], [2, 2]], [[3, 2], [2, 3], [0, 0]]], np.uint8)


def test_labels_are_acdcs():
    assert dict(LABELS) == {"RV": 1, "MYO": 2, "LV": 3}
    assert tuple(LABELS) == STRUCTURES
    assert NUM_CLASSES == 4


def test_voxels_are_counted_by_structure(label_map):
    counts = voxel_counts(label_map)
    assert counts == {"RV": 3, "MYO": 4, "LV": 2}
    assert all(type(count) is int for count in counts.values())


def test_a_structure_that_is_absent_counts_zero():
    assert voxel_counts(np.zeros((2, 3, 4), np.uint8)) == {"RV": 0, "MYO": 0, "LV": 0}
    assert voxel_counts(np.full((5,), 2)) == {"RV": 0, "MYO": 5, "LV": 0}


def test_a_voxel_of_1000_cubic_mm_is_1_ml():
    assert voxel_volume_ml((10, 10, 10)) == 1.0
    # 1.5625 x 1.5625 x 10 = 24.4140625 cubic mm, exact in binary
    assert voxel_volume_ml(np.array([1.5625, 1.5625, 10.0], np.float32)) == 0.0244140625


def test_volumes_by_hand(label_map):
    # 2.0 x 2.5 x 8.0 = 40 cubic mm a voxel
    assert volumes_ml(label_map, (2.0, 2.5, 8.0)) == pytest.approx({"RV": 0.12, "MYO": 0.16, "LV": 0.08}, rel=1e-12)


def test_volume_is_of_all_three_sides_and_of_every_voxel(label_map):
    once = volumes_ml(label_map, (1.0, 1.0, 1.0))
    for axis in range(3):
        spacing_mm = [1.0, 1.0, 1.0]
        spacing_mm[axis] = 3.0
        wider = volumes_ml(label_map, spacing_mm)
        denser = volumes_ml(np.repeat(label_map, 3, axis=axis), (1.0, 1.0, 1.0))
        for name in STRUCTURES:
            assert wider[name] == pytest.approx(3 * once[name])
            assert denser[name] == pytest.approx(wider[name])


def test_ejection_fraction_by_hand():
    assert ejection_fraction_percent(160.0, 40.0) == 75.0
    assert ejection_fraction_percent(80.0, 100.0) == -25.0
    assert ejection_fraction_percent(80.0, 80.0) == 0.0
    for ed_ml in (0.0, -1.0, math.nan):
        assert math.isnan(ejection_fraction_percent(ed_ml, 0.5))


def test_examples_of_the_docstrings():
    failed, attempted = doctest.testmod(cardiac)
    assert failed == 0
    assert attempted >= 4
