"""Charts of whole heads show what the rows and surfaces hold."""

import numpy as np
import pytest

from hcreg import plotting
from hcreg.metrics.surface import hausdorff_distance, point_distances


@pytest.fixture
def scans():
    """Two heads of three scans: errors 1, 2, 3 and -1, -1, 2 ml; a third of one scan."""
    errors = {"head01": (1.0, 2.0, 3.0), "head00": (-1.0, -1.0, 2.0), "head02": (0.0,)}
    return [
        {"patient_id": name, "subject_id": f"{name}_{number}", "volume_true_ml": true_ml, "volume_pred_ml": true_ml + e}
        for (name, found), true_ml in zip(errors.items(), (450.0, 400.0, 425.0))
        for number, e in enumerate(found)
    ]


def test_volumes_against_truth_and_their_agreement(scans):
    left, right = plotting.head_volumes(scans[:3], title="row").axes
    np.testing.assert_allclose(left.collections[0].get_offsets(), [[450, 451], [450, 452], [450, 453]])
    assert "3 volumes, volumes do not vary" in left.get_title()
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 1], [1, 2, 3])
    assert right.get_title() == "bias +2.0, limits +0.0 to +4.0 ml"
    left, _ = plotting.head_volumes(scans).axes
    assert "7 volumes, r = 0.99" in left.get_title()
    with pytest.raises(ValueError, match=r"need 3 volumes or more. Received: 2"):
        plotting.head_volumes(scans[:2])
    with pytest.raises(ValueError, match="must have the column 'volume_true_ml'"):
        plotting.head_volumes([{"subject_id": "a"}])


def test_scans_of_a_head_stand_together(scans):
    (axes,) = plotting.repeated_scans(scans).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "head00",
        "head01",
    ]  # by volume; two or more scans
    deviation = (1.0 + np.std([-1, -1, 2], ddof=1)) / 2
    assert axes.get_title() == f"2 heads, mean SD of the scans of a head: {deviation:.1f} ml"
    with pytest.raises(ValueError, match="a head with two scans or more; each has one"):
        plotting.repeated_scans(scans[-1:])


def test_surfaces_have_a_panel_each_on_one_scale():
    truth, predicted = np.zeros((2, 6, 6, 6), bool)
    truth[1:4, 1:4, 1:4] = predicted[1:4, 1:4, 1:5] = True
    points, distances = point_distances(truth, predicted, (0.5, 1.0, 1.0))
    assert distances.max() == pytest.approx(0.5)  # one voxel along the last axis, whose spacing is named first
    assert hausdorff_distance(truth, predicted, (0.5, 1.0, 1.0)) == pytest.approx(0.5)
    figure = plotting.surface_errors({"a": (points, distances), "b": (points, 2 * distances)}, title="worst")
    first, second, scale = figure.axes
    assert first.get_title().startswith("a\nmean 0.")
    assert second.get_title().endswith("greatest 1.0 mm")
    assert scale.get_ylabel() == "distance to the true surface (mm)"
    assert [part.get_clim() for axes in (first, second) for part in axes.collections] == [(0, 1.0)] * 2
    with pytest.raises(ValueError, match="no surfaces to draw"):
        plotting.surface_errors({})
    with pytest.raises(ValueError, match="A surface has points; without any: a"):
        plotting.surface_errors({"a": (np.zeros((0, 3)), np.zeros(0))})
    with pytest.raises(ValueError, match="without one: the predicted mask"):
        point_distances(truth, np.zeros_like(truth))
