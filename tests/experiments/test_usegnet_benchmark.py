"""The benchmark of USegNet runs, and refuses to compare what is not the same; times are not asserted."""

import importlib.util
import json
import os
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from experiments.benchmarks import common, usegnet
from hcreg.models.usegnet import ABLATIONS

SHAPE = (16, 8, 24, 1)
OPTIONS = SimpleNamespace(rounds=3)


def test_the_volume_shows_the_ball_that_is_the_target():
    volume, targets = usegnet.volume_and_targets((16, 24, 16, 1))
    ball = targets["mask"][0, ..., 1]
    assert volume.shape == (1, 16, 24, 16, 1)
    assert ball.mean() == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.05)
    assert volume[0, ..., 0][ball == 1].min() >= 0.5 >= volume[0, ..., 0][ball == 0].max()


def test_weights_of_attention_modules_are_told_apart():
    model = usegnet.built(SHAPE, 2, upsample_attention=())
    weights = usegnet.weights_by_path(model)
    assert len(weights) == len(model.weights)
    assert {"skip1_attention/projection/kernel", "skip1_attention/fusion/bias", "up1_norm/gamma"} <= set(weights)
    assert all(np.all(weight != 0) for name, weight in weights.items() if name.endswith(("bias", "beta")))


def test_the_better_format_counts_and_the_ratio_is_of_medians():
    found = {("usegnet", "predict"): [1.0, 3.0, 2.0], ("plain", "predict"): [5.0, 5.0, 5.0]}
    found["channels_last", "predict"] = [4.0, 2.0, 9.0]
    goal = usegnet._goal_against_pytorch(found, "predict", SHAPE, OPTIONS, {}, 0.0)
    assert goal["goal"] == "usegnet() over the same network in PyTorch, forward, 16 x 8 x 24, <= 0.6"
    assert (goal["measured"], goal["met"]) == (0.5, True)
    assert "2000 against 4000 ms (channels_last); turn by turn 0.22 to 1.50" in goal["explanation"]
    found["usegnet", "predict"] = [2.5] * 3
    assert not usegnet._goal_against_pytorch(found, "predict", SHAPE, OPTIONS, {}, 0.0)["met"]


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """In the networks' place what takes no time; in the processes' place one that tells of its arguments."""
    commands = []

    def run(command, **_):
        commands.append(command)
        peak = 300.0 if "rematerialised" in command else 500.0
        return SimpleNamespace(returncode=0, stdout=f'a warning\n{{"start": 100.0, "peak": {peak}}}\n')

    def built(input_shape, filters, **arguments):
        return SimpleNamespace(train_on_batch=lambda *_: None, predict_on_batch=lambda *_: None, arguments=arguments)

    monkeypatch.setattr(usegnet, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(usegnet, "built", built)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # put back afterwards
    return commands


def test_attention_is_set_against_deep_supervision_alone(stand_ins, tmp_path):
    assert usegnet.main(["--parts", "attention", "--size", "16x8x8", "--rounds", "2", "--threads", "1"]) == 0
    goals = {goal["goal"]: goal for goal in json.loads((tmp_path / "usegnet.json").read_text())["goals"]}
    assert len(goals) == 6
    step = goals["USegNet-DS-HAS over USegNet-DS, training step, 16 x 8 x 8 (the paper: little; no goal set)"]
    assert step["measured"] > 0
    assert step["explanation"].startswith("median of 2 turns; ")


def test_multiplications_are_of_every_convolution_in_every_voxel():
    model = usegnet.built((8, 8, 8, 1), 1, **ABLATIONS["USegNet"])
    down = 512 * 2 * 27 + 64 * 27 * (2 + 4) + 8 * 2 * 500 + 1 * 2 * 500
    up = 1 * 500 + 8 * 125 * 4 * 2 + 64 * 27 * 4 * 1 + 512 * 2 * 2  # of a transposed convolution in its input's voxels
    assert usegnet.multiplications(model) == down + up


def test_the_attention_modules_multiplications_count():
    with_it = usegnet.built((8, 8, 8, 1), 1, skip_attention=(1,), upsample_attention=(), deep_supervision=False)
    without = usegnet.built((8, 8, 8, 1), 1, **ABLATIONS["USegNet"])
    wider = 512 * (2 - 1) * 2  # what it gives has two channels, not one: the logits see one more
    module = 512 * (1 + 27 + 27 + 27 * 2 * 2)
    assert usegnet.multiplications(with_it) - usegnet.multiplications(without) == module + wider


def test_arithmetic_is_set_against_a_product_of_matrices():
    options = SimpleNamespace(filters=1, matrix=8, rounds=2)
    (goal,) = usegnet.arithmetic((8, 8, 8, 1), options)
    assert goal["measured"] > 0
    assert "matrices of 8 x 8 in float32" in goal["explanation"]


def test_stitching_is_set_against_the_network_on_the_same_patches(monkeypatch):
    calls = []

    def predict(patches):
        calls.append(patches.shape)
        return np.ones((*patches.shape[:-1], 2), np.float32)

    monkeypatch.setattr(usegnet, "built", lambda *_, **__: SimpleNamespace(predict_on_batch=predict))
    options = SimpleNamespace(filters=1, volume="8x8x12", patch=8, rounds=2)
    (goal,) = usegnet.stitching(None, options)
    assert goal["goal"] == "2 patches of 8 voxels a side stitched, 8 x 8 x 12, over the network's own time, <= 1.2"
    assert goal["met"] == (goal["measured"] <= 1.2)
    assert calls == [(1, 8, 8, 8, 1)] * (1 + 2 * (2 + 2))


def test_memory_is_of_processes_of_their_own_less_their_start(stand_ins, tmp_path):
    assert usegnet.main(["--parts", "memory", "--memory-size", "16x8x8", "--filters", "4", "--threads", "1"]) == 0
    goals = {goal["goal"]: goal for goal in json.loads((tmp_path / "usegnet.json").read_text())["goals"]}
    name = "usegnet(), peak memory of a training step, {}, 16 x 8 x 8, over float32 (no goal set)"
    assert goals[name.format("rematerialised")]["measured"] == 0.5
    assert goals[name.format("mixed_bfloat16, rematerialised")]["measured"] == 1.0
    assert [command[4] for command in stand_ins] == list(usegnet.MEMORY)
    assert stand_ins[0][5:] == ["--memory-size", "16x8x8", "--filters", "4", "--threads", "1"]


def test_a_smoke_run_writes_nothing(stand_ins, tmp_path, capsys):
    assert usegnet.main(["--parts", "memory", "attention", "--smoke"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4 + 6
    assert not list(tmp_path.iterdir())
    assert stand_ins[0][5:9] == ["--memory-size", "16x8x16", "--filters", "2"]


def test_peak_memory_grows_from_the_start_on():
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(usegnet, "built", lambda *_, **__: SimpleNamespace(train_on_batch=lambda *_: None))
            found = usegnet.peak_growth_mb((8, 8, 8, 1), 1, "mixed_bfloat16")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert found["peak"] >= found["start"] > 0


def test_a_process_that_ends_is_told_of(monkeypatch):
    monkeypatch.setattr(usegnet, "sys", SimpleNamespace(executable="false"))
    with pytest.raises(RuntimeError, match="the process of float32 ended: without a word"):
        usegnet.memory(SHAPE, SimpleNamespace(memory_size="8x8x8", filters=1, threads=1))


@pytest.fixture
def torch_python():
    """A Python with PyTorch: HCREG_TORCH_PYTHON, or this one; skips where there is none."""
    python = os.environ.get("HCREG_TORCH_PYTHON", sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        pytest.skip("PyTorch is not installed; set HCREG_TORCH_PYTHON to a Python that has it to run this test")
    return python


@pytest.mark.slow
def test_pytorchs_network_is_usegnet_and_learns_the_same(torch_python, tmp_path):
    model = usegnet.built(SHAPE, 2)
    volume, targets = usegnet.volume_and_targets(SHAPE)
    weights = usegnet.weights_by_path(model)
    peer = usegnet.Peer(torch_python, weights, volume, targets, 1, tmp_path)
    try:
        assert usegnet.same_network(model, peer, volume, targets, 2) < 1e-4
        assert all(seconds > 0 for seconds in peer.ask("plain", "predict", repeats=2, batch=1))
        kernel = model.get_layer("up1_upconv").kernel
        kernel.assign(np.flip(np.asarray(kernel), 2))  # as if nothing were mirrored along one axis
        with pytest.raises(AssertionError, match=r"masks \(plain\) differ from usegnet\(\)'s by"):
            usegnet.same_network(model, peer, volume, targets, 2, ("plain",))
    finally:
        peer.close()
