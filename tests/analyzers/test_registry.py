"""Every name makes its analyzer, and what is misspelt is answered with what there is."""

import doctest
import importlib

import keras
import pytest

import hcreg
from hcreg.analyzers import ANALYZERS, create_analyzer
from hcreg.analyzers.base import Analyzer

OF_INNVESTIGATE = (
    "gradient",
    "smoothgrad",
    "input_t_gradient",
    "integrated_gradients",
    "deconvnet",
    "guided_backprop",
    "deep_taylor",
    "deep_taylor.bounded",
    "lrp.z",
    "lrp.epsilon",
    "lrp.alpha_2_beta_1",
    "lrp.alpha_1_beta_0",
    "lrp.sequential_preset_a",
    "lrp.sequential_preset_b",
    "lrp.sequential_preset_a_flat",
    "lrp.sequential_preset_b_flat",
    "lrp.w_square",
    "lrp.flat",
    "lrp.alpha_beta",
)


@pytest.fixture(scope="module")
def model():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def options_of(name):
    return {"alpha": 2.0} if name == "lrp.alpha_beta" else {}


def test_there_are_innvestigates_names_and_three_more():
    assert {*OF_INNVESTIGATE, "hires_cam", "grad_cam", "occlusion"} <= set(ANALYZERS)
    assert all(isinstance(description, str) and description for description in ANALYZERS.values())
    assert len(set(ANALYZERS.values())) == len(ANALYZERS)


@pytest.mark.parametrize("compat", [None, "innvestigate"])
@pytest.mark.parametrize("name", ANALYZERS)
def test_every_name_makes_an_analyzer_of_that_name(name, compat, model):
    analyzer = create_analyzer(name, model, compat=compat, **options_of(name))
    assert isinstance(analyzer, Analyzer)
    assert analyzer.name == name
    assert analyzer.model is model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradient", {"postprocess": "abs"}),
        ("smoothgrad", {"augment_by_n": 2, "noise_scale": 0.1, "postprocess": "square", "seed": 1, "noise": None}),
        ("input_t_gradient", {"postprocess": "abs"}),
        ("integrated_gradients", {"steps": 2, "reference_inputs": -1, "postprocess": "abs"}),
        ("deep_taylor", {"lowest_output": -1.0}),
        ("deep_taylor.bounded", {"low": -1, "high": 1, "lowest_output": -1.0}),
        ("lrp.z", {"bias": False, "input_layer_rule": "Flat"}),
        ("lrp.epsilon", {"epsilon": 0.1, "bias": False, "input_layer_rule": "Z"}),
        ("lrp.alpha_beta", {"alpha": 2, "beta": 1, "bias": False, "input_layer_rule": (-1, 1)}),
        ("lrp.sequential_preset_a", {"epsilon": 0.1, "input_layer_rule": "Flat"}),
        ("hires_cam", {"layer": None, "resize": False}),
        ("occlusion", {"patch_size": 2, "strides": 1, "fill": 0.0}),
    ],
)
def test_options_that_are_taken(name, options, model):
    assert create_analyzer(name, model, **options).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gradiant", r"Unknown analyzer 'gradiant'\. Did you mean 'gradient'"),
        ("lrp_z", r"Unknown analyzer 'lrp_z'\. Did you mean 'lrp\.z'"),
        ("smooth_grad", r"'smooth_grad'\. Did you mean 'smoothgrad'"),
        ("lrp.alpha2beta1", r"Did you mean 'lrp\.alpha_2_beta_1'"),
        ("LRP.Z", "There are gradient, smoothgrad, "),
        ("", r"Unknown analyzer ''\. There are gradient, "),
        (None, "Unknown analyzer None"),
    ],
)
def test_an_unknown_analyzer_is_answered_with_the_nearest_names(name, message, model):
    with pytest.raises(ValueError, match=message):
        create_analyzer(name, model)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("smoothgrad", "noise_scales", r"smoothgrad takes augment_by_n, .*'noise_scales'\. Did you mean 'noise_scale'"),
        ("lrp.z", "epsilon", r"lrp\.z takes bias, input_layer_rule\. Received: 'epsilon'\.$"),
        ("gradient", "abs", r"gradient takes postprocess\. Received: 'abs'"),
        ("deconvnet", "steps", r"deconvnet takes no options\. Received: 'steps'"),
        ("deep_taylor", "lowest", r"takes lowest_output\. Received: 'lowest'\. Did you mean 'lowest_output'"),
        ("lrp.alpha_2_beta_1", "alpha", r"lrp\.alpha_2_beta_1 takes bias, input_layer_rule\. Received: 'alpha'"),
        ("guided_backprop", "times_value", r"guided_backprop takes no options\. Received: 'times_value'"),
        ("hires_cam", "layers", "Did you mean 'layer'"),
        ("occlusion", "patch", "Did you mean 'patch_size'"),
    ],
)
def test_an_unknown_option_is_answered_with_those_there_are(name, option, message, model):
    with pytest.raises(ValueError, match=message):
        create_analyzer(name, model, **{option: 1})


def test_unknown_engines_and_modes(model):
    with pytest.raises(ValueError, match=r'engine is "native" or "innvestigate"\. Received: \'torch\''):
        create_analyzer("gradient", model, engine="torch")
    with pytest.raises(ValueError, match=r'compat is None or "innvestigate"\. Received: \'2\.1\.2\''):
        create_analyzer("gradient", model, compat="2.1.2")


def test_names_that_the_analyzers_modules_give_in_their_examples():
    for module in ("registry", "base", "parts", "rules", "walk", "canonization", "relevance", "gradient"):
        module = importlib.import_module(f"hcreg.analyzers.{module}")
        assert doctest.testmod(module).failed == 0


def test_every_analyzer_is_reached_from_the_package():
    assert hcreg.analyzers.create_analyzer is create_analyzer
    assert hcreg.analyzers.ANALYZERS is ANALYZERS
