"""The benchmarks of networks and masks run, and refuse to compare what is not the same; times are not asserted."""

import importlib.util
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmarks import common, masks, segmentation
from hcreg import geometry, models
from hcreg.preprocessing.maps import map_to_image

TRAINABLE, PEER_SECONDS = 1_943_761, 0.5


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


def goals_of(path):
    return {goal["goal"]: goal for goal in json.loads(path.read_text())["goals"]}


class SameNetwork:
    """In PyTorch's place: a network of Keras with the weights handed over, by name; every step takes 0.5 s."""

    def __init__(self, python, weights, images, masks, threads, folder):
        self.images = images
        self.about = {"torch": "none", "parameters": TRAINABLE}
        self.model = models.unet(input_shape=images.shape[1:], seed=1)
        for layer in self.model.layers:
            for weight in layer.weights:
                if weights.get(f"{layer.name}/{weight.name}") is not None:
                    weight.assign(weights.pop(f"{layer.name}/{weight.name}"))
        assert not weights  # all were found, by the names of the layers

    def mask(self, variant):
        return np.asarray(self.model(self.images, training=False))

    def ask(self, variant, do, repeats, batch=None):
        return [0.5] * repeats  # losses or seconds

    def close(self):
        self.closed = True


@pytest.mark.proof
@pytest.mark.slow
def test_unet_is_compared_in_turns_and_judged_by_the_better_of_pytorchs_formats(results, monkeypatch):
    monkeypatch.setattr(segmentation, "Peer", SameNetwork)
    monkeypatch.setattr(segmentation, "first_losses", lambda *_: [0.5] * segmentation.CHECKED_STEPS)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # put back afterwards
    assert segmentation.main(["--sizes", "16x32", "--batch-size", "2", "--rounds", "1", "--threads", "1"]) == 0
    goals = goals_of(results / "segmentation.json")
    assert len(goals) == 3
    for called in ("training step", "inference"):
        goal = goals[f"unet() over the same network in PyTorch, {called}, 16 x 32, batch 2, <= 0.9"]
        assert goal["met"] == (goal["measured"] <= 0.9)
        assert goal["measured"] == pytest.approx(goal["median_ms"]["unet"] / 1000 / PEER_SECONDS, rel=0.1, abs=1e-3)
        assert goal["largest_difference_of_masks"] <= 1e-4
    assert goals['unet(head="ellipse") over unet(), training step, 16 x 32, batch 2 (no goal set)']["measured"] > 0


def stand_in(monkeypatch, parameters=TRAINABLE, mask_error=0.0, first_loss_error=0.0, loss_error=0.0):
    """A network and a peer that agree, but for what is asked."""
    images = np.zeros((2, 16, 16, 1), np.float32)
    model = SimpleNamespace(trainable_weights=[np.zeros(TRAINABLE)], predict_on_batch=lambda images: images)
    peer = SimpleNamespace(
        about={"parameters": parameters},
        mask=lambda variant: images + mask_error,
        ask=lambda variant, do, repeats, batch: [0.5 + first_loss_error, 0.5, 0.5 + loss_error],
    )
    return model, peer, images, [0.5, 0.5, 0.5], "plain"


def test_the_same_network_passes_with_its_largest_difference(monkeypatch):
    difference = segmentation.require_same_network(*stand_in(monkeypatch, mask_error=5e-5, loss_error=1e-3))
    assert difference == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("departure", "message"),
    [
        ({"parameters": 5}, "unet\\(\\) has 1943761 parameters, PyTorch's network 5"),
        ({"mask_error": 2e-4}, r"masks \(plain\) differ from unet\(\)'s by 0.0002"),
        ({"mask_error": np.nan}, r"masks \(plain\) differ from unet\(\)'s by nan"),
        (
            {"loss_error": 1e-2},
            r"losses of the first steps differ: \[0.5, 0.5, 0.5\] with unet.*\[0.5, 0.5, 0.51\]",
        ),
        ({"first_loss_error": 1e-3}, "losses of the first steps differ"),
    ],
)
def test_another_network_is_not_compared(monkeypatch, departure, message):
    with pytest.raises(AssertionError, match=message):
        segmentation.require_same_network(*stand_in(monkeypatch, **departure))


def test_a_python_without_pytorch_is_refused_by_words(tmp_path, monkeypatch):
    script = tmp_path / "peer.py"
    script.write_text("import no_such_framework")
    monkeypatch.setattr(segmentation, "PEER", script)
    nothing = np.zeros((1, 16, 16, 1), np.float32)
    with pytest.raises(RuntimeError, match=r"No module named 'no_such_framework'\. --torch-python needs a Python with"):
        segmentation.Peer(sys.executable, {}, nothing, nothing, 1, tmp_path)


def test_requests_are_answered_in_order_by_a_process_of_its_own(tmp_path, monkeypatch):
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, sys\n"
        "print(json.dumps({'parameters': len(sys.argv)}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps([json.loads(line)['repeats']]), flush=True)\n"
    )
    monkeypatch.setattr(segmentation, "PEER", script)
    nothing = np.zeros((1, 16, 16, 1), np.float32)
    peer = segmentation.Peer(sys.executable, {}, nothing, nothing, 1, tmp_path)
    assert peer.about == {"parameters": 4}  # the script, weights, data, threads
    assert [peer.ask("plain", "train", repeats=repeats) for repeats in (3, 5)] == [[3], [5]]
    peer.close()
    assert peer.process.returncode == 0


@pytest.fixture
def torch_python():
    """A Python with PyTorch: HCREG_TORCH_PYTHON, or this one; skips where there is none."""
    python = os.environ.get("HCREG_TORCH_PYTHON", sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        pytest.skip("PyTorch is not installed; set HCREG_TORCH_PYTHON to a Python that has it to run this test")
    return python


@pytest.mark.slow
def test_pytorchs_network_is_unet_and_learns_the_same(torch_python, tmp_path):
    shape = (32, 48, 1)
    model = segmentation.built(shape)
    images, true_masks, _ = segmentation.heads(shape, batch_size=2)
    peer = segmentation.Peer(torch_python, segmentation.weights_of(model), images, true_masks, 1, tmp_path)
    try:
        losses = segmentation.first_losses(shape, images, true_masks)
        assert losses[2] < losses[1] < losses[0]
        for variant in ("plain", "channels_last"):
            assert segmentation.require_same_network(model, peer, images, losses, variant) < 1e-4
            assert all(seconds > 0 for seconds in peer.ask(variant, "train", repeats=2))
        model.set_weights(models.unet(input_shape=shape, seed=1).get_weights())
        with pytest.raises(AssertionError, match="differ from unet"):
            segmentation.require_same_network(model, peer, images, losses, "plain")
    finally:
        peer.close()


def test_mask_benchmark_measures_heads_rightly():
    ellipses = masks.heads(3, seed=0)
    for ellipse, probabilities in zip(ellipses, masks.soft_maps(ellipses, (96, 128))):
        assert probabilities.shape == (96, 128, 1)
        measured = geometry.measure_mask(map_to_image(probabilities, (540, 800)), masks.PIXEL_SIZE_MM)
        assert measured.hc_mm == pytest.approx(ellipse.circumference_mm(masks.PIXEL_SIZE_MM), abs=0.5)


def test_mask_benchmark_judges_by_its_goals(results, monkeypatch):
    monkeypatch.setattr(masks, "NUM_MAPS", 2)
    assert masks.main(["--sizes", "32x48", "--pairs", "2", "--repeats", "1"]) == 0
    goals = goals_of(results / "masks.json")
    scored = goals.pop("seconds for Dice and Hausdorff distance of 2 pairs of masks of 800 x 540 px, < 10")
    assert scored["met"] == (scored["measured"] < 10)
    assert scored["explanation"].endswith("5.00 px")  # they are shifted by 3 and 4 px
    assert len(goals) == 2
    for goal in goals.values():
        assert goal["met"] == (goal["measured"] >= 10)


def test_the_ellipse_head_is_trained_on_both():
    _, true_masks, hc_fraction = segmentation.heads((96, 128, 1), batch_size=2)
    assert true_masks.shape == (2, 96, 128, 1)
    for mask, hc in zip(true_masks, hc_fraction):
        reference = geometry.measure_mask(map_to_image(mask, (540, 800)))
        assert hc == pytest.approx(reference.hc_px / 800, rel=2e-3)
