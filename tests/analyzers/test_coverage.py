"""Which analyzer explains which network: tried on small ones here, on every one in the committed table."""

import json
import re
from collections import Counter

import keras
import numpy as np
import pytest

from experiments.explanations import coverage
from experiments.explanations import networks as of_table
from experiments.explanations.tables import RESULTS, read
from hcreg import models
from hcreg.analyzers import ANALYZERS

IMAGE = (32, 32, 3)
OWN = {
    "cnn_263k": lambda: models.cnn_263k((16, 16, 1)),
    "cnn_1m": lambda: models.cnn_1m((16, 16, 1)),
    "unet": lambda: models.unet((32, 32, 1), filters=4, head="ellipse"),
}
FEW = ("guided_backprop", "lrp.z", "hires_cam")
BACKBONES = {
    "MobileNetV2": ({"alpha": 0.35, "input_shape": IMAGE}, FEW),
    "DenseNet121": ({"input_shape": IMAGE}, ("deconvnet", "lrp.sequential_preset_a")),
    "VGG16": ({"input_shape": IMAGE}, ("deep_taylor.bounded", "grad_cam")),
}

# Larger members of families of which others were tried.
NOT_TRIED = ("ConvNeXtLarge", "ConvNeXtXLarge", "EfficientNetB7", "EfficientNetV2L", "ResNet152", "ResNet152V2")


def with_images(model):
    """A model, normalised as by training, and images for it."""
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    coverage.normalise(model, images)
    return model, images


@pytest.mark.parametrize("name", OWN)
def test_own_networks_are_explained_by_every_analyzer(name, eager):
    keras.utils.set_random_seed(1)
    model, images = with_images(OWN[name]())
    results = {analyzer: coverage.cover(analyzer, model, images) for analyzer in ANALYZERS}
    assert results == dict.fromkeys(ANALYZERS, ("explained", ""))


@pytest.mark.proof
@pytest.mark.parametrize(
    ("name", "analyzer"), [(name, analyzer) for name, (_, analyzers) in BACKBONES.items() for analyzer in analyzers]
)
def test_backbones_are_explained(name, analyzer, eager):
    assert coverage.cover(analyzer, *coverage.build(name, **BACKBONES[name][0])) == ("explained", "")


def test_three_dimensions(eager):
    keras.utils.set_random_seed(0)
    model, images = with_images(of_table.randomised(of_table.conv3d((4, 8, 8, 1))))
    results = {
        analyzer: coverage.cover(analyzer, model, images)[0] for analyzer in ANALYZERS if analyzer != "occlusion"
    }
    assert set(results.values()) == {"explained"}


def test_products_of_tensors_are_refused_with_the_layer_and_the_reason(eager):
    model, images = with_images(models.backbone_regressor("MobileNetV3Small", IMAGE, minimalistic=False))
    result, why = coverage.cover("lrp.z", model, images)
    assert result == "refused"
    assert re.search(r"is not defined for layer 'add(_\d+)?' \(Add\)", why)  # Keras counts layers over a process
    assert "guided_backprop" not in why  # advice is left out
    result, why = coverage.cover("guided_backprop", model, images)
    assert (result, "hard_silu" in why) == ("refused", True)


def test_crashes_are_told_from_refusals(eager, monkeypatch):
    model, images = with_images(OWN["cnn_263k"]())

    class Broken:
        def analyze(self, images):
            return np.zeros_like(images)

    monkeypatch.setattr(coverage, "create_analyzer", lambda name, model, **options: Broken())
    assert coverage.cover("gradient", model, images) == ("crash", "the maps are 0 everywhere")
    monkeypatch.setattr(Broken, "analyze", lambda self, images: np.full_like(images, np.nan))
    assert coverage.cover("gradient", model, images) == ("crash", "a map is not finite")
    monkeypatch.setattr(Broken, "analyze", lambda self, images: {}["no"])
    assert coverage.cover("gradient", model, images) == ("crash", "KeyError: 'no'")


def test_normalising_gives_each_layer_mean_0_and_variance_1():
    model, images = with_images(models.cnn_1m((16, 16, 1), dropout_rate=0.0))
    first = keras.Model(model.inputs[0], model.get_layer("block1_bn").output)
    maps = np.asarray(first(images))
    np.testing.assert_allclose(maps.mean(axis=(0, 1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(maps.std(axis=(0, 1, 2)), 1.0, atol=5e-2)
    assert model.get_layer("block1_bn").momentum == 0.99


def test_committed_table_covers_every_network_with_every_analyzer():
    rows = read(RESULTS / "coverage.csv")
    tried = [name for name in coverage.names() if name not in NOT_TRIED]
    wanted = [(name, analyzer) for name in tried for analyzer in ANALYZERS]
    assert Counter((row["model"], row["analyzer"]) for row in rows) == Counter(wanted)
    assert {row["result"] for row in rows} == {"explained", "refused"}
    about = json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))
    assert set(about) == set(tried)
    text = " ".join((RESULTS.parent / "README.rst").read_text(encoding="utf-8").split())
    assert f"not tried yet: {', '.join(NOT_TRIED)}." in text


def test_committed_refusals_name_a_layer_and_a_reason():
    refused = [row for row in read(RESULTS / "coverage.csv") if row["result"] == "refused"]
    assert refused
    for row in refused:
        assert "ayer '" in row["reason"], row
        assert row["analyzer"] in row["reason"], row


def test_methods_for_every_network_are_refused_nowhere():
    everywhere = ("gradient", "smoothgrad", "input_t_gradient", "integrated_gradients", "hires_cam", "occlusion")
    rows = [row for row in read(RESULTS / "coverage.csv") if row["analyzer"] in everywhere]
    assert {row["result"] for row in rows} == {"explained"}
