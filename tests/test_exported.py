"""What was exported measures as the run it came from; what is missing or damaged is said by words."""

import json
import shutil

import keras
import numpy as np
import pytest

import hcreg
from hcreg import exported, models
from hcreg.cli import main
from hcreg.measurement import ExportedRegressor, TrainedRegressor, load_regressor

pytest.importorskip("onnxruntime", reason='needs pip install ".[onnx]"')
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def file(trained_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "deep" / "head.onnx"
    assert main(["export", str(trained_run["folder"]), "--output", str(path)]) == 0
    return path


def test_an_exported_run_measures_the_same(file, trained_run, capsys):
    records = list(trained_run["dataset"])[:3]
    images, sizes = [record.image_path for record in records], [record.pixel_size_mm for record in records]
    regressor, again = TrainedRegressor(trained_run["folder"]), load_regressor(file)
    assert isinstance(again, ExportedRegressor)
    for expected, found in zip(regressor.measure_many(images, sizes), again.measure_many(images, sizes)):
        assert found.hc_mm == pytest.approx(expected.hc_mm, rel=1e-4)
        assert found.interval_mm == pytest.approx(expected.interval_mm, rel=1e-4)
    by_name = hcreg.measure(images[0], file, sizes[0])
    command = ["measure", str(images[0]), "--pixel-size-mm", str(sizes[0]), "--model", str(file)]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert f",{by_name.hc_mm:.2f}," in printed.out
    assert f"note: {file} was trained on synthetic images" in printed.err


def test_a_direct_regressors_file_gives_no_masks(file, trained_run, tmp_path, capsys):
    image = next(iter(trained_run["dataset"])).image_path
    options = ["--pixel-size-mm", "0.1", "--model", str(file), "--masks", str(tmp_path / "masks")]
    assert main(["measure", str(image), *options]) == 1
    assert f"{file} is a direct regressor (cnn_263k), which finds no outline" in capsys.readouterr().err


def test_what_is_wrong_with_a_file_is_said(file, tmp_path, capsys, trained_run):
    def error_of(path):
        image = next(iter(trained_run["dataset"])).image_path
        assert main(["measure", str(image), "--pixel-size-mm", "0.1", "--model", str(path)]) == 1
        return capsys.readouterr().err

    copy = tmp_path / "head.onnx"
    assert f"There is no file {copy}. `hcreg export RUN --output head.onnx` writes one" in error_of(copy)
    shutil.copy(file, copy)
    assert f"{copy} lacks its description head.onnx.json" in error_of(copy)
    described = tmp_path / "head.onnx.json"
    described.write_text("{")
    assert f"{described} is not readable as JSON" in error_of(copy)
    record = json.loads(exported.description_path(file).read_text())
    described.write_text(json.dumps({name: value for name, value in record.items() if name != "scores_px"}))
    assert f"{described} is damaged: it lacks scores_px" in error_of(copy)
    described.write_text(json.dumps({**record, "format_version": 99}))
    assert "has the format 99, this version of hcreg reads up to 1. Install a newer hcreg" in error_of(copy)
    described.write_text(json.dumps(record))
    copy.write_bytes(b"no network")
    assert f"{copy} is no network that onnxruntime reads" in error_of(copy)


def test_export_says_what_it_cannot_do(trained_run, tmp_path, capsys, monkeypatch):
    assert main(["export", str(trained_run["folder"]), "--output", str(tmp_path / "head.h5")]) == 1
    assert f"is a file ending in .onnx. Received: {tmp_path / 'head.h5'}" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--output", str(tmp_path / "head.onnx")]) == 1
    assert f"There is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    assert main(["export", str(trained_run["folder"]), "--output", str(tmp_path / "head.onnx")]) == 1
    assert "needs the package tf2onnx, which is not installed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


BUILDERS = {
    "cnn_263k": lambda: models.cnn_263k(seed=0),
    "cnn_1m": lambda: models.cnn_1m(seed=0),
    "vgg16_regressor": lambda: models.vgg16_regressor(input_shape=(64, 64, 3), weights=None, seed=0),
    "resnet50_regressor": lambda: models.resnet50_regressor(input_shape=(64, 64, 3), weights=None, seed=0),
    "backbone_regressor": lambda: models.backbone_regressor("DenseNet121", (64, 64, 3), weights=None, seed=0),
    "unet": lambda: models.unet((64, 96, 1), filters=4, seed=0),
    "unet, ellipse": lambda: models.unet((64, 96, 1), filters=4, head="ellipse", seed=0),
    "vgg16_unet": lambda: models.vgg16_unet((64, 64, 3), weights=None, seed=0),
    "backbone_unet": lambda: models.backbone_unet("DenseNet121", (64, 64, 3), weights=None, seed=0),
    "direct_hc": lambda: models.direct_hc((64, 96, 1), trim=1.25, main_piece=True, seed=0),
    "cnn_classifier": lambda: models.cnn_classifier(seed=0),
    "vgg16_classifier": lambda: models.vgg16_classifier(seed=0),
    "hc18_direct": lambda: models.from_preset("hc18_direct"),
}


def largest_difference(model, path):
    import onnxruntime

    signature = [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="image")]
    model.export(str(path), format="onnx", verbose=False, input_signature=signature)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images})
    expected = [np.asarray(values) for values in keras.tree.flatten(model(images, training=False))]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(found, expected, strict=True))


def test_a_network_with_all_of_our_layers_gives_the_same_numbers(tmp_path):
    model = models.direct_hc((32, 48, 1), (2, 4), trim=1.25, main_piece=True, num_members=2, seed=0)
    assert largest_difference(model, tmp_path / "small.onnx") < 1e-4


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_2d_network_gives_the_same_numbers(name, tmp_path):
    assert largest_difference(BUILDERS[name](), tmp_path / "model.onnx") < 1e-4


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_2d_network_is_a_saved_model_too(name, tmp_path):
    import tensorflow as tf

    model = BUILDERS[name]()
    signature = [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="image")]
    model.export(str(tmp_path / "saved"), verbose=False, input_signature=signature)
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))  # kept: with it its variables go
    found = keras.tree.flatten(loaded.serve(images))
    expected = keras.tree.flatten(model(images, training=False))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, float(np.abs(b).max())))
