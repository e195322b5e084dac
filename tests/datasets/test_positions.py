"""Positions of subjects, in the order asked for."""

from types import SimpleNamespace

import pytest

from hcreg.datasets.positions import positions

RECORDS = [SimpleNamespace(subject_id=name) for name in ("patient001_ED", "patient001_ES", "patient002_ED")]


def test_positions_come_in_the_order_asked_for():
    found = positions(RECORDS, ["patient002_ED", "patient001_ED"])
    assert found.tolist() == [2, 0]
    assert found.dtype.kind == positions(RECORDS, []).dtype.kind == "i"


def test_absent_subjects_are_counted_and_named():
    with pytest.raises(ValueError, match=r"2 subject\(s\) are not in the cache, the first: \['x', 'y'\]"):
        positions(RECORDS, ["x", "patient001_ED", "y"])
