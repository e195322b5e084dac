"""The network that comes with the package is whole, and is found by its name everywhere a run folder is."""

from importlib import resources

import keras
import numpy as np
import pytest

import hcreg
from hcreg import models, presets
from hcreg.cli import main
from hcreg.datasets import synthetic
from hcreg.datasets.hc18 import HC18
from hcreg.explanation import Explainer
from hcreg.files import read_json, read_rows
from hcreg.geometry import Ellipse
from hcreg.measurement import TrainedRegressor

NAME = "hc18_direct"


@pytest.fixture(scope="module")
def regressor():
    return TrainedRegressor(NAME)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    synthetic.fetal_head(folder, num_examinations=8, seed=3)
    return list(HC18(folder))


def test_a_preset_is_a_finished_run_with_a_card():
    files = {path.name for path in resources.files("hcreg.presets").joinpath(NAME).iterdir()}
    assert {"run.json", "checkpoint.weights.h5", "validation_predictions.csv", "MODEL_CARD.rst"} <= files
    card = resources.files("hcreg.presets").joinpath(NAME, "MODEL_CARD.rst").read_text()
    for words in ("Not a medical device", "CC BY 4.0", "trimester 1", "Limits"):
        assert words in card


def test_the_card_tells_the_errors_of_the_predictions_beside_it():
    folder = presets.folder(NAME)
    rows = read_rows(folder / "validation_predictions.csv")
    mae_mm = np.mean([abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows])
    assert read_json(folder / "run.json")["out_of_fold"]["mae_mm"] == pytest.approx(mae_mm)
    (line,) = [line for line in (folder / "MODEL_CARD.rst").read_text().splitlines() if line.split()[:1] == ["all"]]
    assert line.split()[1:3] == [str(len(rows)), f"{mae_mm:.2f}"]


def test_from_preset_is_the_network_that_measures(regressor):
    model = models.from_preset(NAME)
    images = np.random.default_rng(0).normal(size=(2, *regressor.input_shape)).astype(np.float32)
    found, expected = (keras.ops.convert_to_numpy(each(images)["hc_fraction"]) for each in (model, regressor.model))
    np.testing.assert_array_equal(found, expected)
    assert model.count_params() == regressor.record["num_parameters"]


def test_heads_of_another_make_are_measured_too(regressor, records):
    measured = regressor.measure_many(
        [record.image_path for record in records], [record.pixel_size_mm for record in records]
    )
    errors = [found.hc_mm / record.hc_mm - 1 for found, record in zip(measured, records)]
    assert np.median(np.abs(errors)) < 0.1
    assert all(low < found.hc_mm < high for found in measured for low, high in [found.interval_mm])


def test_a_name_measures_by_the_api_and_by_the_command(records, capsys, regressor):
    record = records[0]
    found = hcreg.measure(record.image_path, NAME, record.pixel_size_mm)
    assert found.hc_mm == regressor.measure(record.image_path, record.pixel_size_mm).hc_mm
    assert isinstance(found.ellipse, Ellipse)
    # no --model: the preset is the default
    assert main(["measure", str(record.image_path), "--pixel-size-mm", str(record.pixel_size_mm)]) == 0
    assert f",{found.hc_mm:.2f}," in capsys.readouterr().out


def test_the_preset_can_be_explained(regressor, records):
    explainer = Explainer(NAME, ["gradient"])
    (found,) = explainer.explain_each([records[0].image_path], [records[0].pixel_size_mm], 1)
    assert found.maps["gradient"].std() > 0
    assert found.prediction_mm == pytest.approx(
        regressor.measure(records[0].image_path, records[0].pixel_size_mm).hc_mm, rel=1e-4
    )


def test_a_folder_of_a_presets_name_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert presets.located(NAME) == presets.folder(NAME)
    (tmp_path / NAME).mkdir()
    assert presets.located(NAME).resolve() == tmp_path / NAME
    assert str(presets.located("runs/other")) == "runs/other"


def test_unknown_names_are_said_with_those_there_are(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"no preset 'hc19_direct'\. The package comes with: hc18_direct"):
        models.from_preset("hc19_direct")
    image = tmp_path / "none.png"
    assert main(["measure", str(image), "--pixel-size-mm", "0.1", "--model", "hc19_direct"]) == 1
    assert "no folder hc19_direct, so no run in it, and no preset of that name (there is hc18_direct" in (
        capsys.readouterr().err
    )
