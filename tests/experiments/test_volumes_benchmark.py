"""The benchmark of cardiac volumes runs, and refuses to compare what is not the same; times are not asserted."""

import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from experiments.benchmarks import common, volumes
from hcreg import models
from hcreg.datasets.volume_cache import FramePreparation
from hcreg.preprocessing.volumes import Frame

SHAPE = (16, 16, 3, 1)
PARAMETERS, PEER_SECONDS = 100, 0.5


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


def goals_of(path):
    return {goal["goal"]: goal for goal in json.loads(path.read_text())["goals"]}


class SameNetwork:
    """In PyTorch's place: a network of Keras with the weights handed over, by name; every step takes 0.5 s."""

    def __init__(self, python, weights, stacks, volumes, threads, folder):
        self.stacks = stacks
        self.model = models.vgg3d(input_shape=stacks.shape[1:], seed=1)
        self.about = {"torch": "none", "parameters": sum(int(np.prod(w.shape)) for w in self.model.trainable_weights)}
        for layer in self.model.layers:
            for weight in layer.weights:
                if weights.get(f"{layer.name}/{weight.name}") is not None:
                    weight.assign(weights.pop(f"{layer.name}/{weight.name}"))
        assert not weights  # all were found, by the names of the layers

    def output(self, variant):
        return np.asarray(self.model(self.stacks, training=False))

    def ask(self, variant, do, repeats, batch):
        return [PEER_SECONDS / (1 + (variant == "channels_last"))] * repeats

    def close(self):
        self.closed = True


@pytest.mark.slow
def test_vgg3d_is_compared_in_turns_and_judged_by_the_better_of_pytorchs_formats(results, monkeypatch):
    monkeypatch.setattr(volumes, "Peer", SameNetwork)
    monkeypatch.setattr(volumes, "first_losses", lambda *_: [PEER_SECONDS] * volumes.CHECKED_STEPS)
    monkeypatch.setattr(volumes, "VARIANTS", ("plain",))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # put back afterwards
    arguments = "--parts pytorch inference --size 16x16x3 --batch-sizes 1 2 --inference-batch-sizes 2 --rounds 2"
    assert volumes.main([*arguments.split(), "--threads", "1"]) == 0
    goals = goals_of(results / "volumes.json")
    assert len(goals) == 5
    for batch_size in (1, 2):
        step = goals[
            f"vgg3d() over the same network in PyTorch, training step, 16 x 16 x 3, batch {batch_size}, <= 0.8"
        ]
        assert step["met"] == (step["measured"] <= 0.8)
        assert step["measured"] == pytest.approx(step["median_ms"]["vgg3d"] / 1000 / PEER_SECONDS, rel=0.1, abs=1e-3)
        assert step["largest_difference_of_volumes"] <= 1e-4
        assert goals[
            f"vgg3d() over the same network in PyTorch, inference, 16 x 16 x 3, batch {batch_size}, (no goal set)"
        ]["met"]
    patients = goals["patients a second through vgg2d(), 16 x 16 x 3, >= 50"]
    assert patients["met"] == (patients["measured"] >= 50)


def test_a_cohort_is_read_first_and_again(results, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setattr(volumes, "PREPARATIONS", {"small": FramePreparation(Frame(16, 16, 17.5))})
    assert volumes.main(["--parts", "loading", "--patients", "1", "--threads", "1"]) == 0
    (goal,) = goals_of(results / "volumes.json").values()
    assert goal["goal"] == "patients a second, files to stacks, small, after the first read, >= 10"
    assert goal["met"] == (goal["measured"] >= 10)
    assert goal["explanation"].startswith("1 synthetic patients, both phases; median of 3 reads; the first read ")


def test_parts_are_run_alone(results, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setitem(
        volumes.PARTS, "inference", lambda *_: [{"goal": "g", "measured": 1, "met": True, "explanation": ""}]
    )
    assert volumes.main(["--parts", "inference"]) == 0
    assert list(goals_of(results / "volumes.json")) == ["g"]


def test_the_better_format_counts_and_the_ratio_is_of_medians():
    found = {("vgg3d", "train", 2): [1.0, 3.0, 2.0], ("plain", "train", 2): [5.0, 5.0, 5.0]}
    found["channels_last", "train", 2] = [4.0, 2.0, 9.0]
    goal = volumes._goal_against_pytorch(found, "train", 2, SHAPE, 3, {}, 0.0)
    assert goal["measured"] == 0.5
    assert goal["met"]
    assert "2000 against 4000 ms (channels_last); turn by turn 0.22 to 1.50" in goal["explanation"]
    found["vgg3d", "train", 2] = [3.3] * 3
    assert not volumes._goal_against_pytorch(found, "train", 2, SHAPE, 3, {}, 0.0)["met"]


def stand_in(parameters=PARAMETERS, error=0.0, first_loss_error=0.0, loss_error=0.0):
    """A network and a peer that agree, but for what is asked."""
    stacks = np.zeros((2, *SHAPE), np.float32)
    model = SimpleNamespace(trainable_weights=[np.zeros(PARAMETERS)], predict_on_batch=lambda stacks: np.zeros((2, 3)))
    peer = SimpleNamespace(
        about={"parameters": parameters},
        output=lambda variant: np.full((2, 3), error),
        ask=lambda variant, do, repeats, batch: [0.5 + first_loss_error, 0.5, 0.5 + loss_error],
    )
    return model, peer, stacks, [0.5, 0.5, 0.5], "plain"


def test_the_same_network_passes_with_its_largest_difference():
    assert volumes.require_same_network(*stand_in(error=5e-5, loss_error=1e-3)) == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("departure", "message"),
    [
        ({"parameters": 5}, "vgg3d\\(\\) has 100 parameters, PyTorch's network 5"),
        ({"error": 2e-4}, r"volumes \(plain\) differ from vgg3d\(\)'s by 0.0002"),
        ({"error": np.nan}, r"volumes \(plain\) differ from vgg3d\(\)'s by nan"),
        ({"loss_error": 1e-2}, r"losses of the first steps differ: \[0.5, 0.5, 0.5\] with vgg3d.*\[0.5, 0.5, 0.51\]"),
        ({"first_loss_error": 1e-3}, "losses of the first steps differ"),
    ],
)
def test_another_network_is_not_compared(departure, message):
    with pytest.raises(AssertionError, match=message):
        volumes.require_same_network(*stand_in(**departure))


def test_a_python_without_pytorch_is_refused_by_words(tmp_path, monkeypatch):
    script = tmp_path / "peer.py"
    script.write_text("import no_such_framework")
    monkeypatch.setattr(volumes, "PEER", script)
    nothing = np.zeros((1, *SHAPE), np.float32)
    with pytest.raises(RuntimeError, match=r"No module named 'no_such_framework'\. --torch-python needs a Python with"):
        volumes.Peer(sys.executable, {}, nothing, nothing, 1, tmp_path)


@pytest.fixture
def torch_python():
    """A Python with PyTorch: HCREG_TORCH_PYTHON, or this one; skips where there is none."""
    python = os.environ.get("HCREG_TORCH_PYTHON", sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        pytest.skip("PyTorch is not installed; set HCREG_TORCH_PYTHON to a Python that has it to run this test")
    return python


POOLING = """
import sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from vgg3d_torch import pooled
with np.load(sys.argv[2]) as maps:
    found = {name: pooled(torch.from_numpy(x).permute(0, 4, 1, 2, 3)) for name, x in maps.items()}
np.savez(sys.argv[3], **{name: x.permute(0, 2, 3, 4, 1).numpy() for name, x in found.items()})
"""


def test_pytorch_pools_as_keras_does(torch_python, tmp_path):
    """Maps below 0, where padding with zeros would be seen; heights, widths and slices odd and even."""
    rng = np.random.default_rng(0)
    sizes = [(1, 2, 3), (4, 5, 6), (7, 8, 9), (9, 4, 2), (12, 11, 1), (5, 3, 8)]
    maps = {str(size): -rng.uniform(1, 2, (2, *size, 3)).astype(np.float32) for size in sizes}
    np.savez(tmp_path / "maps.npz", **maps)
    command = [torch_python, "-c", POOLING, volumes.PEER.parent, tmp_path / "maps.npz", tmp_path / "found.npz"]
    subprocess.run([str(word) for word in command], check=True, timeout=120)
    with np.load(tmp_path / "found.npz") as found:
        for name, x in maps.items():
            np.testing.assert_array_equal(found[name], keras.layers.MaxPooling3D(3, 2, padding="same")(x), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 24, 9, 1), (9, 13, 4, 1)], ids=str)
def test_pytorchs_network_is_vgg3d_and_learns_the_same(shape, torch_python, tmp_path):
    model = volumes.built(shape)
    stacks, targets = volumes.stacks_and_volumes(shape, batch_size=2)
    peer = volumes.Peer(torch_python, volumes.weights_of(model), stacks, targets, 1, tmp_path)
    try:
        losses = volumes.first_losses(shape, stacks, targets)
        for variant in volumes.VARIANTS:
            assert volumes.require_same_network(model, peer, stacks, losses, variant) < 1e-4
            assert all(seconds > 0 for seconds in peer.ask(variant, "train", repeats=2, batch=1))
        model.set_weights(models.vgg3d(input_shape=shape, seed=1).get_weights())
        with pytest.raises(AssertionError, match="differ from vgg3d"):
            volumes.require_same_network(model, peer, stacks, losses, "plain")
    finally:
        peer.close()
