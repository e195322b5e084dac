"""The benchmark of distances in volumes runs, on masks whose distance is known; times are not asserted."""

import json

import numpy as np
import pytest

from experiments.benchmarks import common, surface
from hcreg import metrics

SHAPE, SPACING_MM = (40, 28, 46), 3.7


def test_the_pair_is_a_head_moved_with_a_leak(monkeypatch):
    monkeypatch.setattr(surface, "LEAK", 1)
    monkeypatch.setattr(surface, "MOVED", (0, 1, 0))
    mask_true, mask_pred = surface.heads(SHAPE, SPACING_MM)
    leak = np.zeros(SHAPE, bool)
    leak[3, 3, 3] = leak[2, 3, 3] = leak[4, 3, 3] = leak[3, 2, 3] = leak[3, 4, 3] = leak[3, 3, 2] = leak[3, 3, 4] = True
    np.testing.assert_array_equal(mask_pred, np.roll(mask_true, 1, 1) | leak)
    assert metrics.hausdorff_distance(mask_true, mask_pred & ~leak, SPACING_MM) == pytest.approx(SPACING_MM)


def test_it_is_measured_and_compared_with_simpleitk(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    assert surface.main(["--shape", *map(str, SHAPE), "--repeats", "1"]) == 0
    equal, unequal, difference = json.loads((tmp_path / "surface.json").read_text())["goals"]
    assert equal["goal"].startswith("seconds for Hausdorff and average distance of two masks of 40 x 28 x 46, equal")
    assert "unequal spacing" in unequal["goal"]
    assert difference["measured"] < 1e-3
    assert difference["met"]
