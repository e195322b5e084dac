"""Training on masks, alone and beside the circumference they give: losses, history, resume, what is refused.

The stops of every kind are proven in test_training.py, on a regressor.
"""

import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from hcreg import backend, files, losses, metrics, models, training
from hcreg.geometry import Ellipse
from hcreg.layers import EllipseMoments

SHAPE = (24, 32)
EPOCHS, BATCHES, SCALE = 3, 2, 800.0
BOTH = {"mask": losses.Dice(), "hc_fraction": losses.RelativeError()}


def samples(rng, count):
    """Noisy images of heads, their masks and their circumferences over the width of the frame."""
    heads = [
        Ellipse(*rng.uniform((13, 10), (18, 13)), *sorted(rng.uniform(5, 9, 2))[::-1], rng.uniform(0, 3))
        for _ in range(count)
    ]
    masks = np.stack([head.coverage(SHAPE) for head in heads])[..., None]
    images = masks + rng.normal(0, 0.3, masks.shape)
    lengths = np.array([[head.circumference_px / SHAPE[1]] for head in heads])
    return images.astype("float32"), {"mask": masks, "hc_fraction": lengths.astype("float32")}


def only(targets, outputs):
    return {name: targets[name] for name in outputs} if len(outputs) > 1 else targets[outputs[0]]


class Toy(keras.utils.PyDataset):
    """Batches that depend on epoch and number only."""

    batch_size = 4
    num_batches = BATCHES

    def __init__(self, outputs, on_batch=None):
        super().__init__()
        self.epoch, self.outputs, self.on_batch = 0, outputs, on_batch

    def __getitem__(self, batch):
        if self.on_batch is not None:
            self.on_batch(self.epoch, batch)
        images, targets = samples(np.random.default_rng([7, self.epoch, batch]), self.batch_size)
        return images, only(targets, self.outputs)


VALIDATION = samples(np.random.default_rng(1), 5)  # 5 images in batches of 4: the last is smaller


def build(head="ellipse", dropout=0.2):
    backend.seed_everything(11)
    image = keras.Input((*SHAPE, 1))
    features = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(image)
    features = keras.layers.Dropout(dropout)(keras.layers.BatchNormalization(momentum=0.5)(features))
    mask = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="mask")(features)
    if head == "mask":
        return keras.Model(image, mask, name="toy")
    length = EllipseMoments(1 / SHAPE[1], name="moments")(mask)["circumference"]
    length = keras.layers.Identity(name="hc_fraction")(length)
    return keras.Model(image, {"mask": mask, "hc_fraction": length}, name="toy")


def fit(folder, head="ellipse", toy=None, model=None, **options):
    model = model or build(head)
    outputs = training.outputs_of(model)
    options = {"loss": BOTH if head == "ellipse" else losses.Dice(), "learning_rate": 0.02, **options}
    options = {"epochs": EPOCHS, "patience": EPOCHS, "schedule": "cosine", "progress": False, **options}
    validation = VALIDATION[0], only(VALIDATION[1], outputs)
    return model, training.fit(model, toy or Toy(outputs), validation, folder, target_scale_px=SCALE, **options)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def dice_losses(predicted):
    """Of each validation image: 1 - 2 sum(p g) / (sum(p) + sum(g))."""
    truth = VALIDATION[1]["mask"]
    return [1 - 2 * np.sum(p * g) / (np.sum(p) + np.sum(g)) for p, g in zip(predicted.astype(float), truth)]


def relative_errors(predicted):
    truth = VALIDATION[1]["hc_fraction"]
    return np.abs(predicted - truth)[:, 0] / truth[:, 0]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing stops, of the network with two outputs."""
    folder = tmp_path_factory.mktemp("reference")
    return *fit(folder), folder


@pytest.fixture(scope="module")
def mask_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask")
    return *fit(folder, "mask"), folder


# ---- outputs and history ----


def test_outputs_by_name():
    assert training.outputs_of(build("mask")) == ("mask",)
    assert set(training.outputs_of(build("ellipse"))) == {"mask", "hc_fraction"}
    assert training.outputs_of(models.cnn_263k((16, 16, 1))) == ("hc_fraction",)
    layers = [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(1, name="age")]
    assert training.outputs_of(keras.Sequential(layers)) == ("age",)

    class Subclass(keras.Model):
        def call(self, images):
            return images

    assert training.outputs_of(Subclass()) == ("output",)


def test_history_has_the_columns_of_the_outputs(reference, mask_run):
    dice = ["dice_score", "val_dice_score"]
    for (_, history, folder), shown in ((reference, {"mae_px", "val_mae_px", *dice}), (mask_run, {*dice})):
        rows = files.read_rows(folder / training.HISTORY)
        assert rows == history
        assert len(rows) == EPOCHS
        for row in rows:
            assert list(row)[:3] == ["epoch", "loss", "val_loss"]
            assert list(row)[-2:] == ["learning_rate", "seconds"]
            assert set(list(row)[3:-2]) == shown


def test_both_networks_learn(reference, mask_run):
    for _, history, _ in (reference, mask_run):
        assert history[-1]["val_loss"] < history[0]["val_loss"]


def test_validation_figures_are_over_the_images_of_the_kept_weights(reference):
    model, history, _ = reference
    predicted = model.predict(VALIDATION[0], verbose=0)
    best = min(history, key=lambda row: row["val_loss"])
    expected = [metrics.dice_score(g > 0.5, p > 0.5) for g, p in zip(VALIDATION[1]["mask"], predicted["mask"])]
    assert best["val_dice_score"] == pytest.approx(np.mean(expected), rel=1e-5)
    error_px = SCALE * np.abs(predicted["hc_fraction"] - VALIDATION[1]["hc_fraction"])
    assert best["val_mae_px"] == pytest.approx(error_px.mean(), rel=1e-4)
    both = np.mean(dice_losses(predicted["mask"])) + np.mean(relative_errors(predicted["hc_fraction"]))
    assert best["val_loss"] == pytest.approx(both, rel=1e-4)


def test_training_dice_is_the_mean_over_all_images_of_the_epoch(tmp_path):
    """At a rate too small to move the weights: neither the mean of batches nor of pooled pixels."""
    model = build("mask", dropout=0.0)
    _, (row,) = fit(tmp_path, "mask", model=model, epochs=1, learning_rate=1e-12, schedule="constant")
    toy = Toy(("mask",))
    scores = []
    for batch in range(BATCHES):
        images, masks = toy[batch]
        predicted = np.asarray(model(images, training=True))
        scores += [metrics.dice_score(g > 0.5, p > 0.5) for g, p in zip(masks, predicted)]
    assert np.std(scores) > 0.01
    assert row["dice_score"] == pytest.approx(np.mean(scores), abs=1e-4)


def test_dice_of_an_image_by_hand():
    true, pred = np.zeros((4, 2, 3, 1), "float32"), np.zeros((4, 2, 3, 1), "float32")
    true[0, 0] = 1.0  # three pixels, of which two are found, and one beside them
    pred[0, 0, :2] = pred[0, 1, 0] = 0.6
    true[1, 0] = 0.9  # nothing is found
    pred[1] = 0.5
    pred[2, 0, 0] = 1.0  # nothing is there; image 3 is empty in both
    found = keras.ops.convert_to_numpy(training.dice_score(true, pred))
    assert found == pytest.approx([2 * 2 / 6, 0.0, 0.0, 1.0])
    classes = np.concatenate([true, np.ones_like(true)], -1), np.concatenate([pred, np.ones_like(pred)], -1)
    assert keras.ops.convert_to_numpy(training.dice_score(*classes)) == pytest.approx((found + 1) / 2)
    after_background = [mask[..., ::-1] for mask in classes]
    assert keras.ops.convert_to_numpy(training.dice_score(*after_background, background=True)) == pytest.approx(found)


def test_dice_of_a_volume_is_over_all_its_voxels():
    """Not the mean over its slices: one has both, one neither."""
    true, pred = np.zeros((1, 2, 2, 2, 1), "float32"), np.zeros((1, 2, 2, 2, 1), "float32")
    true[0, :, :, 0] = 1.0
    pred[0, :, 0, :] = 1.0
    found = keras.ops.convert_to_numpy(training.dice_score(true, pred))
    assert found == pytest.approx([2 * 2 / 8])


def test_progress_says_what_the_network_is_for(tmp_path, capfd):
    words = {
        "ellipse": r"validation error [\d.]+ px, Dice 0\.\d{4} \(best loss in epoch 1: error [\d.]+ px, Dice 0\.",
        "mask": r"validation Dice 0\.\d{4} \(best loss in epoch 1: Dice 0\.\d{4}\)",
    }
    for head, expected in words.items():
        fit(tmp_path / head, head, epochs=1, progress=head)
        printed = capfd.readouterr().err
        assert re.search(rf"{head}: epoch 1/1, {expected}", printed), printed


# ---- stopped and resumed ----


def test_interrupted_resume_of_two_outputs_is_exact(tmp_path, reference):
    def on_batch(epoch, batch):
        if (epoch, batch) == (2, 1):
            raise RuntimeError("stopped here")

    with pytest.raises(Exception, match="stopped here"):
        fit(tmp_path, toy=Toy(("mask", "hc_fraction"), on_batch))
    assert len(files.read_rows(tmp_path / training.HISTORY)) == 2
    model, history = fit(tmp_path)
    expected_model, expected_history, expected_folder = reference
    assert without_seconds(history) == without_seconds(expected_history)
    assert without_seconds(files.read_rows(tmp_path / training.HISTORY)) == without_seconds(expected_history)
    for ours, expected in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        assert np.array_equal(ours, expected)
    with np.load(tmp_path / training.STATE) as ours, np.load(expected_folder / training.STATE) as expected:
        assert set(ours.files) == set(expected.files)
        names = [name for name in expected.files if name != "extra"]
        assert all(np.array_equal(ours[name], expected[name]) for name in names)


def test_finished_training_is_not_repeated(tmp_path, reference):
    folder = Path(shutil.copytree(reference[2], tmp_path / "copy"))

    def on_batch(epoch, batch):
        raise AssertionError("trained again")

    _, history = fit(folder, toy=Toy(("mask", "hc_fraction"), on_batch))
    assert history == files.read_rows(reference[2] / training.HISTORY)


def test_a_trained_network_is_saved_and_loaded_whole(tmp_path, mask_run, reference):
    for number, (model, _, _) in enumerate((mask_run, reference)):
        model.save(tmp_path / f"{number}.keras")
        loaded = keras.models.load_model(tmp_path / f"{number}.keras")
        ours, theirs = (each.predict(VALIDATION[0], verbose=0) for each in (model, loaded))
        for name in ours if isinstance(ours, dict) else [...]:
            assert np.array_equal(ours[name], theirs[name])


# ---- losses of some outputs, and their weights ----


def last_val_loss(folder, **options):
    """val_loss of one epoch, and the predictions of the weights that had it."""
    model, (row,) = fit(folder, epochs=1, **options)
    return row["val_loss"], model.predict(VALIDATION[0], verbose=0)


@pytest.mark.parametrize("name", ["mask", "hc_fraction"])
def test_a_loss_of_one_output_only(tmp_path, name):
    """The other output is measured all the same."""
    val_loss, predicted = last_val_loss(tmp_path, loss={name: BOTH[name]})
    by_hand = {"mask": dice_losses, "hc_fraction": relative_errors}[name](predicted[name])
    assert val_loss == pytest.approx(np.mean(by_hand), rel=1e-4)
    (row,) = files.read_rows(tmp_path / training.HISTORY)
    assert {"mae_px", "val_mae_px", "dice_score", "val_dice_score"} <= set(row)


@pytest.mark.parametrize(
    ("weights", "of_mask", "of_length"),
    [({"hc_fraction": 0.25, "mask": 2.0}, 2.0, 0.25), ({"hc_fraction": 3.0}, 1.0, 3.0)],
)
def test_weights_go_by_the_outputs_name_and_are_one_by_default(tmp_path, weights, of_mask, of_length):
    val_loss, predicted = last_val_loss(tmp_path, loss_weights=weights)
    by_hand = of_mask * np.mean(dice_losses(predicted["mask"]))
    by_hand += of_length * np.mean(relative_errors(predicted["hc_fraction"]))
    assert val_loss == pytest.approx(by_hand, rel=1e-4)


def test_a_single_output_takes_a_dict_and_a_weight_too(tmp_path):
    options = [{}, {"loss": {"mask": losses.Dice()}}, {"loss_weights": {"mask": 2.0}}]
    plain, named, doubled = (
        fit(tmp_path / str(number), "mask", epochs=1, **each)[1][0] for number, each in enumerate(options)
    )
    assert without_seconds([named]) == without_seconds([plain])
    assert doubled["loss"] > 1.5 * plain["loss"]


@pytest.mark.parametrize(
    ("head", "options", "words"),
    [
        (
            "ellipse",
            {"loss": losses.Dice()},
            r"has the outputs mask, hc_fraction: name the loss .*loss=\{'mask': \.\.\.\}",
        ),
        ("ellipse", {"loss": {"masks": losses.Dice()}}, r"^Each loss goes by .* mask, hc_fraction\. Received: masks\."),
        ("ellipse", {"loss": {}}, r"^Each loss goes by .* outputs mask, hc_fraction\. Received: no name\."),
        ("mask", {"loss": {"hc_fraction": losses.Dice()}}, r"^Each loss goes by .* mask\. Received: hc_fraction\."),
        (
            "ellipse",
            {"loss_weights": {"dice": 1.0}},
            r"^Each loss weight goes by .* mask, hc_fraction\. Received: dice",
        ),
        (
            "ellipse",
            {"loss": {"mask": losses.Dice()}, "loss_weights": {"hc_fraction": 2.0}},
            r"^Each loss weight goes by the name of one of the outputs mask\. Received: hc_fraction\.",
        ),
        ("mask", {"loss_weights": {"hc_fraction": 2.0}}, r"^Each loss weight goes .* mask\. Received: hc_fraction\."),
    ],
)
def test_losses_and_weights_of_no_output_are_refused(tmp_path, head, options, words):
    """Keras takes a weight of an unknown name for that of another output, by its position."""
    with pytest.raises(ValueError, match=words):
        fit(tmp_path, head, **options)
    assert not os.listdir(tmp_path)
