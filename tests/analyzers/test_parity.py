"""hcreg's numbers against iNNvestigate's, on small networks here and on large ones in the committed table."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from experiments.explanations import networks as of_table
from experiments.explanations import parity
from experiments.explanations.tables import RESULTS, read
from hcreg.analyzers import create_analyzer
from hcreg.analyzers.innvestigate_process import Worker

ON = {
    # padding, batch normalisation, a projected shortcut and average pooling
    "resnet": ("gradient", "smoothgrad", "deconvnet", "deep_taylor", "lrp.z", "lrp.flat"),
    # batch normalisation in front of dense layers; rules for which iNNvestigate is slow to build its graph
    "cnn_263k": ("guided_backprop", "lrp.epsilon", "lrp.alpha_2_beta_1", "lrp.sequential_preset_a"),
    # a first convolution that touches the image
    "vgg_flatten": ("integrated_gradients", "deep_taylor.bounded", "lrp.w_square", "lrp.sequential_preset_b_flat"),
}


@pytest.fixture(scope="module")
def worker():
    """One process of iNNvestigate for all of this file."""
    try:
        worker = Worker()
    except ImportError as error:
        pytest.skip(str(error))
    with worker:
        yield worker


@pytest.fixture(scope="module")
def built(networks):
    """Networks by their names, with images."""
    small = networks.build("cnn_263k")
    return {
        "cnn_263k": (small, networks.images(small)),
        **{name: of_table.build(name) for name in ("resnet", "vgg_flatten")},
    }


def comparison_of(name):
    """The first comparison of that analyzer in the table, smaller."""
    found = next(comparison for comparison in parity.COMPARISONS if comparison.name == name)
    fewer = {"smoothgrad": {"augment_by_n": 3}, "integrated_gradients": {"steps": 4}}
    return parity.Comparison(name, {**found.options, **fewer.get(name, {})})


@pytest.mark.parametrize(("network", "name"), [(network, name) for network, names in ON.items() for name in names])
def test_numbers_of_innvestigate(network, name, worker, built, eager):
    difference, remark = parity.compare(comparison_of(name), *built[network], worker)
    assert not remark
    assert difference <= parity.LIMIT


def test_in_float64(worker, built, eager):
    model, images = built["resnet"]
    precise, images = of_table.in_float64(model), images.astype("float64")
    difference, remark = parity.compare(comparison_of("lrp.z"), precise, images, worker, "float64")
    assert not remark
    assert difference <= 1e-11


def test_a_refusal_is_told_in_its_own_words(worker, built):
    impossible = parity.Comparison("lrp.alpha_beta", {"alpha": 2, "beta": 3})
    difference, remark = parity.compare(impossible, *built["cnn_263k"], worker)
    assert math.isnan(difference)
    assert remark.startswith("iNNvestigate: ValueError: ")


@pytest.mark.parametrize("name", ["lrp.z", "lrp.alpha_2_beta_1", "deep_taylor.bounded"])
def test_the_correct_mode_gives_other_numbers(name, built, eager):
    model, images = built["resnet"]
    images = images[model.predict_on_batch(images)[:, 0] > 0]
    options = {"low": -6, "high": 6} if name == "deep_taylor.bounded" else {}
    maps = [create_analyzer(name, model, compat=compat, **options).analyze(images) for compat in (None, "innvestigate")]
    assert parity.relative_difference(*maps) > 0.1


def test_difference_of_maps():
    assert parity.relative_difference([3.0, 0.0], [0.0, 4.0]) == 5 / 4
    assert parity.relative_difference([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert parity.relative_difference([1.0, 0.0], [0.0, 0.0]) == math.inf


@pytest.mark.parametrize(
    ("single", "double", "hard", "verdict"),
    [
        (9e-6, 0.0, "no", "agrees"),
        (2e-5, 0.0, "no", "differs"),
        (4e-3, 1.0, "yes", "agrees"),
        (6e-3, 9e-6, "yes", "agrees in float64"),
        (6e-3, 2e-5, "yes", "differs"),
        (math.inf, 0.0, "no", "differs"),
        (math.nan, math.nan, "no", "not in iNNvestigate"),
        (math.nan, 0.0, "no", "differs"),
        (math.nan, 0.0, "yes", "agrees in float64"),
    ],
)
def test_verdict(single, double, hard, verdict):
    limit = parity.ILL_CONDITIONED_LIMIT if hard == "yes" else parity.LIMIT
    row = {"difference_float32": single, "difference_float64": double, "limit_float32": limit, "ill_conditioned": hard}
    assert parity.verdict(row) == verdict


def test_networks_are_random_everywhere_and_one_prediction_is_negative():
    for name, build in of_table.SMALL.items():
        model, images = of_table.build(name)
        assert [prediction < 0 for prediction in sorted(model.predict_on_batch(images)[:, 0])] == [True, False, False]
        for layer in model.layers:
            for weight in layer.weights:
                values = np.asarray(weight)
                assert not np.isin(values, [0.0, 1.0]).any(), (build, layer.name, weight.name)


def test_float64_copy_computes_what_the_model_does():
    model, images = of_table.build("cnn_1m")
    found = of_table.in_float64(model)(images.astype("float64"))
    assert "float64" in str(found.dtype)
    np.testing.assert_allclose(np.asarray(found), model.predict_on_batch(images), rtol=1e-4, atol=1e-5)


NOT_COMPARED = ("VGG16", "ResNet50", "densenet121_mae")  # iNNvestigate takes minutes for each analyzer


def committed():
    """The committed table with numbers as numbers."""
    rows = read(RESULTS / "parity.csv")
    numbers = ("difference_float32", "difference_float64", "limit_float32")
    return [{**row, **{name: float(row[name] or "nan") for name in numbers}} for row in rows]


def test_committed_table_is_complete():
    rows = committed()
    every = [name for name in (*of_table.SMALL, *of_table.LARGE, *of_table.TRAINED) if name not in NOT_COMPARED]
    wanted = {(name, comparison.label) for name in every for comparison in parity.COMPARISONS}
    assert Counter((row["model"], row["analyzer"]) for row in rows) == Counter(wanted)
    about = json.loads((RESULTS / "parity.json").read_text(encoding="utf-8"))
    assert set(about) == set(every)
    assert all(entry["versions"] and entry["commit"] for entry in about.values())


def test_committed_verdicts_follow_from_the_committed_numbers():
    for row in committed():
        assert row["verdict"] == parity.verdict(row), row
        hard = row["ill_conditioned"] == "yes"
        assert row["limit_float32"] == (parity.ILL_CONDITIONED_LIMIT if hard else parity.LIMIT)
        assert not hard or row["analyzer"] in parity.ILL_CONDITIONED, row
        assert row["remark"] or not math.isnan(row["difference_float32"]), row


def test_committed_numbers_agree_but_for_rounding():
    rows = committed()
    assert max(row["difference_float64"] for row in rows) < 1e-7
    apart = [row for row in rows if row["difference_float32"] > row["limit_float32"]]
    assert {row["model"] for row in apart} == {"densenet", "cnn_1m_mae"}  # behind batch normalisation
    assert max(row["difference_float32"] for row in apart) < 2e-3
    text = " ".join((RESULTS.parent / "README.rst").read_text(encoding="utf-8").split())
    agreeing = len(rows) - len(apart)
    assert f"{agreeing} of {len(rows)} comparisons keep the limit in float32" in text
    assert f"not compared yet: {', '.join(NOT_COMPARED)}." in text
