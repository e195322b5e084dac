"""The benchmarks run and judge by their goals; what they measure is not asserted, since machines are noisy."""

import json

import pytest

from experiments.benchmarks import common, evaluation, measuring, training
from hcreg.datasets import hc18


def test_goals_are_printed_and_kept_with_their_circumstances(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(evaluation, "NUM_MASKS", 3)
    assert evaluation.main() == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["command"].startswith("python -m experiments.benchmarks.evaluation")
    assert result["versions"]["numpy"]
    for goal in result["goals"]:
        assert goal["met"] == (goal["measured"] >= 200)
    assert capsys.readouterr().out.count("masks of 800 x 540 px") == len(result["goals"])


@pytest.mark.proof
def test_the_measuring_benchmark_measures_every_image(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(measuring, "NUM_IMAGES", 6)
    monkeypatch.setattr(measuring, "REPEATS", 1)
    assert measuring.main() == 0
    (goal,) = json.loads((tmp_path / "measuring.json").read_text())["goals"]
    assert goal["explanation"].startswith("6 images in ")
    assert goal["met"] == (goal["measured"] >= 30)


@pytest.mark.proof
@pytest.mark.slow
def test_training_benchmark_decodes_each_image_once(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setattr(training, "INPUT_SHAPE", (32, 32, 1))
    monkeypatch.setattr(hc18, "read_image", hc18.read_image)  # the benchmark wraps it; this puts it back
    assert training.main(["--data", str(cohort), "--images", "16", "--repeats", "1"]) == 0
    goals = {goal["goal"]: goal for goal in json.loads((tmp_path / "training.json").read_text())["goals"]}
    assert goals["decodes of one image in this whole run, = 1"]["measured"] == 1
    assert all(goal["measured"] > 0 for goal in goals.values())
