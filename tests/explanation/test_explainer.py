"""Explaining images with trained runs: maps in mm, of direct regressors and of segmentation networks."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from hcreg.analyzers import ANALYZERS
from hcreg.datasets import HC18
from hcreg.explanation import ALL_ANALYZERS, DEFAULT_ANALYZERS, Explainer, Explanation, explain
from hcreg.geometry import Ellipse
from hcreg.measurement import Measurement, TrainedRegressor


@pytest.fixture(scope="module")
def records(cohort):
    return list(HC18(cohort))[:3]


@pytest.fixture(scope="module")
def regressor(trained_run):
    return TrainedRegressor(trained_run["folder"])


@pytest.fixture(scope="module")
def explained(regressor, records):
    return explain(*images_of(records, regressor), ["gradient", "input_t_gradient", "hires_cam"])


def images_of(records, regressor):
    return [r.image_path for r in records], regressor, [r.pixel_size_mm for r in records]


def by_hand(shape=(540, 800), square_shape=None, maps=None, ellipse=None, frame=(54, 80)):
    """An explanation that no network gave."""
    nothing = float("nan")
    return Explanation(
        "by hand",
        image=np.zeros(shape, np.uint8),
        inputs=np.zeros((*frame, 1), np.float32),
        prediction_mm=100.0,
        measurement=Measurement(100.0, 1000.0, (90.0, 110.0), 0.9, nothing, ellipse),
        maps=maps or {},
        units={},
        reasons={},
        mm_per_output=1.0,
        square_shape=square_shape or shape,
    )


# What is explained


def test_the_prediction_is_the_measurement(explained, regressor, records):
    measured = regressor.measure_many([r.image_path for r in records], [r.pixel_size_mm for r in records])
    for found, expected, record in zip(explained, measured, records):
        assert found.prediction_mm == pytest.approx(expected.hc_mm, rel=1e-5)
        assert found.measurement.hc_mm == pytest.approx(expected.hc_mm, rel=1e-5)
        assert found.image_id == str(record.image_path)
        np.testing.assert_array_equal(found.image, record.image())


def test_gradients_are_mm_per_unit_of_input(explained, regressor):
    found = explained[0]
    assert found.units == {
        "gradient": "mm per unit of input",
        "input_t_gradient": "mm",
        "hires_cam": "mm per pixel of the layer",
    }
    np.testing.assert_allclose(found.maps["input_t_gradient"], found.inputs * found.maps["gradient"], rtol=1e-5)


def test_the_gradient_is_the_slope_of_the_prediction_in_mm(regressor):
    # of noise: where pixels are equal, as in black, the largest of them has no gradient
    image = np.random.default_rng(0).integers(0, 255, (540, 800)).astype(np.uint8)
    (found,) = explain([image], regressor, [0.1], ["gradient"])
    norm = np.linalg.norm(found.maps["gradient"])
    step = 1e-4 * found.maps["gradient"] / norm
    low, high = regressor.model.predict_on_batch(np.stack([found.inputs - step, found.inputs + step])).reshape(-1)
    assert float(high - low) * found.mm_per_output == pytest.approx(2e-4 * norm, rel=0.02)


def test_the_same_millimetres_for_twice_the_pixel(regressor, records):
    image = records[0].image()
    coarse, fine = explain([image, image], regressor, [0.2, 0.1], ["gradient"])
    assert coarse.prediction_mm == pytest.approx(2 * fine.prediction_mm)
    np.testing.assert_allclose(coarse.maps["gradient"], 2 * fine.maps["gradient"], rtol=1e-5)
    assert (coarse.image_id, fine.image_id) == ("image 0", "image 1")


def test_an_image_alone_has_the_map_it_has_among_others(explained, regressor, records):
    (alone,) = explain(*images_of(records[2:], regressor), ["gradient"])
    scale = np.abs(alone.maps["gradient"]).max()
    np.testing.assert_allclose(alone.maps["gradient"], explained[2].maps["gradient"], atol=1e-5 * scale)


def test_numbers_of_innvestigate_keep_the_networks_unit(regressor, records, explained):
    (found,) = explain(*images_of(records[:1], regressor), ["gradient", "lrp.z"], compat="innvestigate")
    assert found.units == {"gradient": "unit of output per unit of input", "lrp.z": "unit of output"}
    expected = explained[0].maps["gradient"] / explained[0].mm_per_output
    np.testing.assert_allclose(found.maps["gradient"], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["trained_segmentation_run", "trained_ellipse_run"])
def test_segmentation_networks_are_explained_through_the_ellipse_of_their_mask(name, request):
    run = request.getfixturevalue(name)
    measurable = [row for row in run["rows"] if not row["failure"]]
    assert measurable, "the small network learned nothing to explain"
    record = next(r for r in run["records"] if r.subject_id == measurable[0]["subject_id"])
    explainer = Explainer(run["folder"], ["gradient", "hires_cam"])
    (found,) = explainer.explain_each([record.image_path], [record.pixel_size_mm])
    assert not found.reasons
    assert all(np.abs(values).max() > 0 for values in found.maps.values())
    if name == "trained_ellipse_run":
        assert explainer.model is explainer.regressor.model
        assert found.prediction_mm == pytest.approx(found.measurement.hc_mm, rel=1e-5)
    else:  # no weight is made anew
        assert {id(v) for v in explainer.model.weights} == {id(v) for v in explainer.regressor.model.weights}
        # of a mask with soft edges, and of a network that has seen little: of the same order of size
        assert 1 / 3 < found.prediction_mm / found.measurement.hc_mm < 3
    assert 0 < found.share_inside("gradient") < 1


# What cannot be explained


def test_a_bad_image_fails_alone(regressor, records, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    images = [records[0].image_path, bad, tmp_path / "none.png", records[1].image_path]
    found = list(Explainer(regressor, ["gradient"]).explain_each(images, [0.1] * 4, batch_size=2))
    assert [type(item).__name__ for item in found] == [
        "Explanation",
        "ValueError",
        "FileNotFoundError",
        "Explanation",
    ]
    with pytest.raises(ValueError, match=r"bad\.png is not a PNG"):
        explain(images, regressor, [0.1] * 4, ["gradient"])


def test_an_empty_mask_has_no_circumference_to_explain(regressor, records, monkeypatch):
    measure = TrainedRegressor.measure_prepared

    def with_one_failure(self, prepared):
        first, *others = measure(self, prepared)
        return [replace(first, hc_mm=float("nan"), failure="the mask is empty."), *others]

    monkeypatch.setattr(TrainedRegressor, "measure_prepared", with_one_failure)
    images, _, sizes = images_of(records[:2], regressor)
    failed, found = Explainer(regressor, ["gradient"]).explain_each(images, sizes)
    assert str(failed) == f"{images[0]}: there is no circumference to explain: the mask is empty."
    assert found.image_id == str(images[1])


def test_a_method_that_is_not_defined_for_one_prediction_says_so_there_alone(trained_run, records):
    regressor = TrainedRegressor(trained_run["folder"])
    images, _, sizes = images_of(records, regressor)
    inputs = np.concatenate([regressor.prepared_or_error(*pair).inputs for pair in zip(images, sizes)])
    predictions = np.sort(regressor.model.predict_on_batch(inputs).reshape(-1))
    last = next(layer for layer in reversed(regressor.model.layers) if isinstance(layer, keras.layers.Dense))
    last.bias.assign(last.bias - (predictions[0] + predictions[1]) / 2)  # one prediction is negative now
    found = list(Explainer(regressor, ["gradient", "deep_taylor"]).explain_each(images, sizes))
    assert sorted("deep_taylor" in item.maps for item in found) == [False, True, True]
    assert all("gradient" in item.maps for item in found)
    (refused,) = [item for item in found if item.prediction_mm <= 0]
    assert "positive" in refused.reasons["deep_taylor"]


def test_a_method_that_is_not_defined_for_the_network_does_not_stop_the_others(regressor, records, monkeypatch):
    from hcreg.explanation import explainer

    create = explainer.create_analyzer

    def refusing(name, *arguments, **options):
        if name == "lrp.z":
            raise ValueError("no rule for the layer 'odd'.")
        return create(name, *arguments, **options)

    monkeypatch.setattr(explainer, "create_analyzer", refusing)
    (found,) = explain(*images_of(records[:1], regressor), ["lrp.z", "gradient"])
    assert set(found.maps) == set(found.units) == {"gradient"}
    assert found.reasons == {"lrp.z": "no rule for the layer 'odd'."}


@pytest.mark.parametrize(
    ("analyzers", "message"),
    [
        (["gradiant"], r"Unknown analyzer 'gradiant'\. Did you mean 'gradient'"),
        ("gradient", r"a sequence of names\. Received: one str\. Write \['gradient'\]"),
        ([], r"Name at least one analyzer, of gradient, smoothgrad"),
        ({"smoothgrad": {"noise": 0.1, "steps": 3}}, r"smoothgrad takes .*Received: 'steps'"),
    ],
)
def test_wrong_analyzers_are_refused(regressor, analyzers, message):
    with pytest.raises(ValueError, match=message):
        Explainer(regressor, analyzers)


def test_every_image_needs_a_pixel_size(regressor):
    with pytest.raises(ValueError, match=r"2 images need as many pixel sizes\. Received: 1\."):
        explain(["a.png", "b.png"], regressor, [0.1], ["gradient"])


def test_lists_of_analyzers_hold_known_names():
    assert set(DEFAULT_ANALYZERS) < set(ALL_ANALYZERS)
    assert set(ANALYZERS) - set(ALL_ANALYZERS) == {"lrp.alpha_beta"}


# Where the relevance lies


def test_an_even_map_has_the_share_of_the_area():
    head = Ellipse(400.0, 270.0, 200.0, 100.0, 0.4)
    found = by_hand(maps={"even": np.ones((54, 80, 1), np.float32)}, ellipse=head)
    expected = np.pi * 200 * 100 / (540 * 800)
    assert found.area_inside() == pytest.approx(expected, rel=1e-3)
    assert found.share_inside("even") == pytest.approx(expected, rel=1e-3)
    assert found.share_on_border("even") == 0
    assert found.sum_of_absolutes("even") == 54 * 80


def test_shares_are_of_absolute_relevance_with_channels_summed():
    values = np.zeros((54, 80, 2), np.float32)
    values[27, 40] = -2.0, -1.0  # the pixel in the middle of the head
    values[0, 0] = 1.0, 0.0
    values[5, 5] = 4.0, -4.0
    found = by_hand(maps={"spots": values})
    assert np.isnan(found.share_inside("spots"))
    assert found.share_inside("spots", Ellipse(400.0, 270.0, 100.0, 90.0, 0.0)) == pytest.approx(0.75)
    assert found.sum_of_absolutes("spots") == pytest.approx(4.0)
    assert np.isnan(by_hand(maps={"none": np.zeros((54, 80, 1))}).share_on_border("none"))


def test_half_of_a_narrow_images_frame_is_border():
    values = np.ones((54, 80, 1), np.float32)
    values[:, :20] = -3.0  # the left border
    found = by_hand((540, 400), maps={"even": np.ones((54, 80, 1)), "left": values})
    assert found.share_on_border("even") == pytest.approx(0.5)
    assert found.share_on_border("left") == pytest.approx((20 * 3 + 20) / (20 * 3 + 60))
    assert found.at_image("left").shape == (540, 400)
    assert found.at_image("left")[:, 5:].min() == pytest.approx(1.0)  # the border is cut off


def test_maps_of_oblong_pixels_come_back_to_the_images_own():
    values = np.zeros((54, 80, 1), np.float32)
    values[27:, :] = 1.0
    found = by_hand((270, 800), square_shape=(540, 800), maps={"below": values})
    at_image = found.at_image("below")
    assert at_image.shape == (270, 800)
    assert (at_image[100, 400], at_image[170, 400]) == (0.0, 1.0)
    x, y = found.frame_matrix @ (399.5, 134.5, 1.0)  # the middle
    assert (x, y) == pytest.approx((39.5, 26.5))
    head = Ellipse(399.5, 134.5, 200.0, 100.0, 0.0)  # in oblong pixels: in square ones a circle
    assert found.area_inside(head) == pytest.approx(np.pi * 200**2 / (540 * 800), rel=2e-3)


def test_a_bright_spot_on_the_image_is_where_its_relevance_is(regressor):
    """The placing back is the inverse of the preparation."""
    image = np.tile(np.linspace(40, 60, 500).astype(np.uint8), (300, 1))
    cv2.circle(image, (120, 200), 25, 255, -1)
    prepared = regressor.prepared_or_error(image, 0.2)
    found = by_hand(image.shape, maps={"input": prepared.inputs[0]}, frame=prepared.inputs.shape[1:3])
    at_image = found.at_image("input")
    y, x = np.unravel_index(cv2.blur(at_image, (31, 31)).argmax(), image.shape)
    assert abs(x - 120) < 8
    assert abs(y - 200) < 8
