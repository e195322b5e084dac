"""The benchmark of the heatmap loss runs and judges by its goals; what it measures is not asserted."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmarks import common, heatmap

SIZE = (32, 40)


@pytest.mark.proof
@pytest.mark.slow
def test_a_step_and_its_memory_are_compared_with_those_of_cross_entropy(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # put back afterwards
    few = "--batch-size 4 --size 32 40 --rounds 1 2 --steps 1 2 --memory-rounds 1 --threads 1"
    assert heatmap.main(["--networks", "cnn_classifier", *few.split()]) == 0
    result = json.loads((tmp_path / "heatmap.json").read_text())
    assert result["command"].startswith("python -m experiments.benchmarks.heatmap")
    memory, time, *others = result["goals"]
    assert memory["goal"].endswith("<= 1.1")
    assert memory["met"] == (memory["measured"] <= 1.1)
    for found in memory["processes_mb"].values():
        assert 0 < found[0]["start"] <= found[0]["peak"]
    assert time["goal"].endswith("<= 1.05")
    assert time["met"] == (time["measured"] <= 1.05)
    assert len(others) == 3
    assert all("no goal set" in goal["goal"] and goal["met"] and goal["measured"] > 0 for goal in others)


def test_ratios_are_those_of_each_turn():
    assert heatmap.ratios([2.0, 3.0, 8.0], [1.0, 2.0, 2.0]) == {"median": 2.0, "lowest": 1.5, "highest": 4.0}


def test_every_second_turn_goes_backwards():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in "abc"}
    clock, cpu = heatmap.seconds_in_turns(functions, 2)
    assert "".join(order) == "abccba"
    assert all(len(times[name]) == 2 for times in (clock, cpu) for name in "abc")


def test_two_passes_give_what_one_does():
    built = {variant: heatmap.compiled("cnn_classifier", variant, SIZE) for variant in ("heatmap", "two_passes")}
    inputs, labels = heatmap.data_for("cnn_classifier", "heatmap", 4, SIZE)
    one, two = (np.asarray(model(inputs)) for model in built.values())
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert inputs["image"].shape == inputs["mask"].shape == (4, *SIZE, 1)
    assert 0 < inputs["mask"].mean() < 0.5
    assert len(labels) == 4


def test_a_process_that_ends_is_told_of(monkeypatch):
    ended = SimpleNamespace(returncode=1, stderr="Traceback\nMemoryError: no\n", stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    options = SimpleNamespace(memory_rounds=1, size=SIZE, batch_size=4, threads=1)
    with pytest.raises(RuntimeError, match="the process of cnn_classifier, cross_entropy ended: MemoryError: no"):
        heatmap.memory_goals("cnn_classifier", options)
