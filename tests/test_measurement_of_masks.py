"""Measuring with segmentation networks: trained ones repeat their predictions, phantoms have known answers."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

from hcreg import measure
from hcreg.geometry import Ellipse
from hcreg.mask_measures import ellipse_of_row
from hcreg.measurement import TrainedRegressor

HEAD = Ellipse(420.0, 250.0, 200.0, 150.0, 0.6)


def phantom(ellipse, shape):
    """A bright head on black, its border anti-aliased."""
    return np.round(220 * ellipse.coverage(shape)).astype(np.uint8)


def speck(shape=(540, 800)):
    """An image with contrast and without a head."""
    return phantom(Ellipse(100.0, 100.0, 12.0, 12.0, 0.0), shape)


def numbers(ellipse):
    return [getattr(ellipse, name) for name in vars(ellipse)]


@pytest.mark.parametrize("name", ["trained_segmentation_run", "trained_ellipse_run"])
def test_measuring_a_test_image_repeats_its_prediction(name, request):
    run = request.getfixturevalue(name)
    records = {record.subject_id: record for record in run["records"]}
    regressor = TrainedRegressor(run["folder"])
    assert regressor.segments
    rows = run["rows"]
    assert any(ellipse_of_row(row) is not None for row in rows), "the small network learned nothing to compare"
    tested = [records[row["subject_id"]] for row in rows]
    measurements = regressor.measure_many([r.image_path for r in tested], [r.pixel_size_mm for r in tested])
    for row, record, measured in zip(rows, tested, measurements):
        assert measured.hc_mm == pytest.approx(row["y_pred_mm"], rel=1e-4, nan_ok=True)
        assert measured.hc_px == pytest.approx(row["y_pred_px"], rel=1e-4, nan_ok=True)
        interval_mm = row["interval_low_mm"], row["interval_high_mm"]
        assert measured.interval_mm == pytest.approx(interval_mm, rel=1e-4, nan_ok=True)
        assert measured.failure == row["failure"]
        expected = ellipse_of_row(row)
        if expected is None:
            assert measured.ellipse is None
        else:
            assert numbers(measured.ellipse) == pytest.approx(numbers(expected), rel=1e-4, abs=1e-4)
        assert measured.mask.shape == record.image().shape


def test_ellipse_and_mask_are_those_of_the_image(phantom_regressor):
    measured = phantom_regressor.measure(phantom(HEAD, (540, 800)), 0.2)
    assert numbers(measured.ellipse) == pytest.approx(numbers(HEAD), rel=2e-3)
    assert measured.hc_mm == pytest.approx(measured.ellipse.circumference_px * 0.2, rel=1e-9)
    assert measured.hc_mm == pytest.approx(HEAD.circumference_px * 0.2, rel=1e-3)
    assert measured.hc_px == pytest.approx(HEAD.circumference_px, rel=1e-3)
    assert np.mean(measured.mask != HEAD.mask((540, 800))) < 2e-3
    assert measured.failure == ""


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "head"),
    [
        ((300, 700), (0.1, 0.25), Ellipse(300.0, 160.0, 210.0, 100.0, 0.3)),  # becomes 750 x 700
        ((601, 401), (0.2, 0.1), Ellipse(210.0, 300.0, 180.0, 110.0, 2.0)),  # becomes 601 x 802
        ((333, 512), (0.13, 0.17), Ellipse(260.0, 170.0, 140.0, 120.0, 1.0)),  # whole pixels do not fit the ratio
    ],
)
def test_oblong_pixels_are_measured_along_both_axes(phantom_regressor, shape, spacing_mm, head):
    measured = phantom_regressor.measure(phantom(head, shape), spacing_mm)
    assert numbers(measured.ellipse) == pytest.approx(numbers(head), rel=0.01)
    # in mm the head is the ellipse of these points, whatever the pixels
    points_mm = head.contour(10_000) * spacing_mm
    length_mm = np.linalg.norm(np.diff(points_mm, axis=0, append=points_mm[:1]), axis=1).sum()
    assert measured.hc_mm == pytest.approx(length_mm, rel=5e-3)
    assert measured.hc_mm == pytest.approx(measured.ellipse.circumference_mm(spacing_mm), rel=1e-9)
    assert measured.hc_px == pytest.approx(measured.hc_mm / min(spacing_mm))
    assert measured.mask.shape == shape
    assert np.mean(measured.mask != head.mask(shape)) < 0.01


def test_mask_without_an_outline_gives_a_reason_and_no_number(phantom_regressor):
    measured = phantom_regressor.measure(speck(), 0.2)
    assert measured.failure == "the mask is empty: no pixel of it lies above the threshold."
    assert measured.ellipse is None
    assert not measured.mask.any()
    nothing = [measured.hc_mm, measured.hc_px, *measured.interval_mm, measured.gestational_age_weeks]
    assert np.all(np.isnan(nothing))


def test_map_that_is_not_a_number_gives_a_reason(phantom_regressor):
    broken = copy.copy(phantom_regressor)
    broken.model = SimpleNamespace(predict_on_batch=lambda inputs: np.full_like(inputs, np.nan))
    assert "the mask is NaN or infinite in 432000 of 432000 pixels" in broken.measure(speck(), 0.2).failure


def ellipse_network(regressor, fraction):
    """The phantom network with a circumference of its own."""
    network = copy.copy(regressor)

    def predict_on_batch(inputs):
        mask = regressor.model.predict_on_batch(inputs)
        return {"mask": mask, "hc_fraction": np.full((len(inputs), 1), fraction, np.float32)}

    network.model = SimpleNamespace(predict_on_batch=predict_on_batch)
    return network


def test_the_networks_own_circumference_goes_first(phantom_regressor):
    assert phantom_regressor.scale_px == 800  # a fraction of the frame's width
    measured = ellipse_network(phantom_regressor, 0.5).measure(phantom(HEAD, (540, 800)), 0.2)
    assert measured.hc_mm == pytest.approx(0.5 * 800 * 0.2, rel=1e-6)
    assert numbers(measured.ellipse) == pytest.approx(numbers(HEAD), rel=2e-3)
    # twice the pixels in the frame: the same fraction is twice as many of them
    large = ellipse_network(phantom_regressor, 0.5).measure(phantom(HEAD, (1080, 1600)), 0.2)
    assert large.hc_px == pytest.approx(800, rel=1e-6)


def test_the_networks_own_circumference_of_an_empty_mask_is_no_measurement(phantom_regressor):
    measured = ellipse_network(phantom_regressor, 0.5).measure(speck(), 0.2)
    assert np.isnan(measured.hc_mm)
    assert measured.ellipse is None
    assert "the mask is empty" in measured.failure


def test_masks_do_not_stand_in_the_way_of_comparing_and_printing(phantom_regressor):
    first, second = phantom_regressor.measure_many([phantom(HEAD, (540, 800))] * 2, [0.2, 0.2])
    assert first == second
    assert "mask" not in repr(first)


def test_validation_images_without_a_measurement_widen_the_interval(trained_segmentation_run, tmp_path):
    folder = trained_segmentation_run["folder"]
    for name in ("run.json", "checkpoint.weights.h5"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    header, *lines = (folder / "validation_predictions.csv").read_text().splitlines()
    position = header.split(",").index("y_pred_mm")
    blank = [",".join("" if n == position else cell for n, cell in enumerate(line.split(","))) for line in lines]
    (tmp_path / "validation_predictions.csv").write_text("\n".join([header, *blank]) + "\n")
    record = trained_segmentation_run["records"][0]
    measured = measure(record.image_path, tmp_path, record.pixel_size_mm, coverage=0.5)
    assert np.isnan(measured.hc_mm) or measured.interval_mm == (0.0, np.inf)
    assert np.all(np.isinf(TrainedRegressor(tmp_path).scores_px))


def test_network_of_several_masks_is_refused(trained_segmentation_run, tmp_path):
    record = json.loads((trained_segmentation_run["folder"] / "run.json").read_text())
    record["arguments"]["build_arguments"]["classes"] = 3
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"run of another kind: .* the mask of one head, but with \(None, 64, 96, 3\)"):
        TrainedRegressor(tmp_path)
