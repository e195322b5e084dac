import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hcreg import measure
from hcreg.measurement import Measurement, TrainedRegressor


@pytest.fixture(scope="module")
def regressor(trained_run):
    return TrainedRegressor(trained_run["folder"])


def test_measuring_a_test_image_repeats_its_prediction(trained_run, regressor):
    records = {record.subject_id: record for record in trained_run["dataset"]}
    for row in trained_run["rows"]:
        record = records[row["subject_id"]]
        measured = regressor.measure(record.image_path, record.pixel_size_mm)
        assert measured.hc_mm == pytest.approx(row["y_pred_mm"], rel=1e-5)
        assert measured.hc_px == pytest.approx(row["y_pred_px"], rel=1e-5)
        assert measured.interval_mm == pytest.approx((row["interval_low_mm"], row["interval_high_mm"]), rel=1e-5)
        assert measured.ellipse is None


def test_path_and_array_and_run_folder_agree(trained_run, regressor):
    record = trained_run["dataset"][0]
    from_path = regressor.measure(str(record.image_path), record.pixel_size_mm)
    from_array = regressor.measure(record.image(), record.pixel_size_mm)
    through_function = measure(record.image(), trained_run["folder"], record.pixel_size_mm)
    assert from_path.hc_mm == from_array.hc_mm
    assert from_path.interval_mm == from_array.interval_mm
    assert through_function.hc_mm == pytest.approx(from_path.hc_mm, rel=1e-6)


def test_millimetres_grow_with_the_pixel_size(regressor, trained_run):
    image = trained_run["dataset"][0].image()
    small, large = regressor.measure(image, 0.1), regressor.measure(image, 0.2)
    assert large.hc_mm == pytest.approx(2 * small.hc_mm)
    assert large.hc_px == pytest.approx(small.hc_px)


def test_batches_and_single_images_agree(regressor, trained_run):
    records = list(trained_run["dataset"])[:5]
    images, sizes = [record.image() for record in records], [record.pixel_size_mm for record in records]
    together = regressor.measure_many(images, sizes, batch_size=2)
    alone = [regressor.measure(image, size) for image, size in zip(images, sizes)]
    np.testing.assert_allclose([m.hc_mm for m in together], [m.hc_mm for m in alone], rtol=1e-5)


def test_non_square_pixels_are_made_square_first(regressor, trained_run):
    image = trained_run["dataset"][0].image()
    squeezed = cv2.resize(image, (image.shape[1] // 2, image.shape[0]), interpolation=cv2.INTER_AREA)
    square, corrected = regressor.measure(image, 0.1), regressor.measure(squeezed, (0.2, 0.1))
    wrong = regressor.measure(squeezed, 0.1)
    assert corrected.hc_mm == pytest.approx(square.hc_mm, rel=0.05)
    assert abs(corrected.hc_mm - square.hc_mm) < abs(wrong.hc_mm - square.hc_mm)


def test_wider_coverage_gives_a_wider_interval(regressor, trained_run):
    image = trained_run["dataset"][0].image()
    narrow, wide = (regressor.measure(image, 0.1, coverage=coverage) for coverage in (0.1, 0.5))
    assert narrow.interval_mm[1] <= wide.interval_mm[1]
    assert narrow.coverage == 0.1


@pytest.mark.parametrize("size", [0.0, -0.1, float("nan"), (0.1, 0.0), (0.1, 0.1, 0.1)])
def test_bad_pixel_size(regressor, size):
    with pytest.raises(ValueError, match="pixel size is one positive number of mm, or two"):
        regressor.measure(np.eye(40, dtype=np.uint8) * 255, size)


@pytest.mark.parametrize("size", [135.0, 0.000135, (0.1, 100.0)])
def test_pixel_size_in_another_unit_is_refused(regressor, size):
    with pytest.raises(ValueError, match=r"a pixel of ultrasound is 0\.005 to 2\.0 mm wide.*Is it in another unit\?"):
        regressor.measure(np.eye(40, dtype=np.uint8) * 255, size)


def test_annotation_is_not_taken_for_an_image(regressor, trained_run):
    path = trained_run["dataset"][0].annotation_path
    with pytest.raises(ValueError, match=r"_Annotation\.png has only two grey values: it looks like an annotation"):
        regressor.measure(path, 0.1)


def test_colour_array_is_refused(regressor):
    with pytest.raises(ValueError, match=r"Received: an array of shape \(40, 40, 3\)"):
        regressor.measure(np.zeros((40, 40, 3), np.uint8), 0.1)


def test_grey_values_from_0_to_1_are_refused(regressor):
    with pytest.raises(ValueError, match="Grey values must be from 0 to 255"):
        regressor.measure(np.eye(40), 0.1)


def test_nan_pixels_are_refused(regressor):
    image = np.full((40, 40), 100.0)
    image[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        regressor.measure(image, 0.1)


def test_black_image_is_refused(regressor):
    with pytest.raises(ValueError, match="every pixel is the same"):
        regressor.measure(np.zeros((540, 800), np.uint8), 0.1)


def test_image_whose_contrast_is_lost_at_the_input_size_is_named(regressor, tmp_path):
    image = np.zeros((1080, 1600), np.uint8)
    image[500, 800] = 9  # one pixel among 25 x 17: below half a grey value
    path = tmp_path / "speck.png"
    cv2.imwrite(str(path), image)
    with pytest.raises(ValueError, match=r"speck\.png: every pixel is the same at the network's input size"):
        regressor.measure(path, 0.1)


def test_whole_numbers_of_any_type_measure_alike(regressor, trained_run):
    image = trained_run["dataset"][0].image()
    assert regressor.measure(image.astype(np.int64), 0.1).hc_mm == regressor.measure(image, 0.1).hc_mm


def test_image_without_pixels_is_refused(regressor):
    with pytest.raises(ValueError, match=r"has no pixels: it is an array of shape \(0, 800\)"):
        regressor.measure(np.zeros((0, 800), np.uint8), 0.1)


def test_images_and_pixel_sizes_must_be_as_many(regressor):
    with pytest.raises(ValueError, match=r"2 images need as many pixel sizes\. Received: 1"):
        regressor.measure_many([np.eye(40), np.eye(40)], [0.1])


def test_run_of_another_kind_is_refused(trained_run, tmp_path):
    text = (trained_run["folder"] / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"normalisation"', '"something"'))
    with pytest.raises(ValueError, match="is a run of another kind"):
        TrainedRegressor(tmp_path)


def test_missing_image_is_named(regressor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        regressor.measure(tmp_path / "nowhere.png", 0.1)


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        TrainedRegressor(tmp_path)


def test_unfinished_run_is_refused(trained_run, tmp_path):
    text = (trained_run["folder"] / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"finished"', '"running"'))
    with pytest.raises(ValueError, match="is not finished"):
        TrainedRegressor(tmp_path)


def test_checkpoint_of_another_model_is_refused(trained_run, tmp_path):
    for name in ("run.json", "checkpoint.weights.h5", "validation_predictions.csv"):
        (tmp_path / name).write_bytes((trained_run["folder"] / name).read_bytes())
    record = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(record.replace('"cnn_263k"', '"cnn_1m"'))
    with pytest.raises(ValueError, match=r"checkpoint.weights.h5 does not fit the model"):
        TrainedRegressor(tmp_path)


def test_unknown_builder_is_named(trained_run, tmp_path):
    record = (trained_run["folder"] / "run.json").read_text()
    (tmp_path / "run.json").write_text(record.replace('"cnn_263k"', '"cnn_of_tomorrow"'))
    with pytest.raises(ValueError, match="names the builder 'cnn_of_tomorrow'"):
        TrainedRegressor(tmp_path)


def test_direct_regressor_has_neither_mask_nor_failure(regressor, trained_run):
    measured = regressor.measure(trained_run["dataset"][0].image(), 0.1)
    assert not regressor.segments
    assert measured.mask is None
    assert measured.failure == ""


def test_bad_image_among_good_ones_fails_alone(regressor, trained_run, tmp_path):
    images = [record.image() for record in list(trained_run["dataset"])[:3]]
    images[1:1] = [tmp_path / "nowhere.png", np.zeros((40, 40), np.uint8)]
    measured = list(regressor.measure_each(images, [0.1] * 5, batch_size=2))
    assert [type(item) for item in measured] == [Measurement, FileNotFoundError, ValueError, Measurement, Measurement]
    assert "every pixel is the same" in str(measured[2])
    alone = [regressor.measure(images[index], 0.1).hc_mm for index in (0, 3, 4)]
    np.testing.assert_allclose([measured[index].hc_mm for index in (0, 3, 4)], alone, rtol=1e-5)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        regressor.measure_many(images, [0.1] * 5)


def test_output_that_is_no_number_is_a_failure(regressor, trained_run):
    broken = copy.copy(regressor)
    broken.model = SimpleNamespace(predict_on_batch=lambda inputs: np.full((len(inputs), 1), np.nan))
    measured = broken.measure(trained_run["dataset"][0].image(), 0.1)
    assert measured.failure == "the network gave no finite number (nan)."
    assert np.isnan(measured.gestational_age_weeks)
