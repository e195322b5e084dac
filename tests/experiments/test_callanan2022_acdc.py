"""NOR against diseased on ACDC: the script runs from stacks to its tables; batches, measures and tests by hand."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from experiments.callanan2022 import acdc, acdc_training
from experiments.callanan2022.acdc_measures import answer_rows, cam_measures, gradient_shares, score_model, swap_effect
from experiments.callanan2022.acdc_protocol import (
    ARMS,
    SMOKE,
    TAP,
    Augmentation,
    Protocol,
    class_weights,
    epoch_batches,
    folds_of,
    hearts_of,
    images_of,
    labels_of,
)
from experiments.callanan2022.acdc_reporting import (
    ArmRuns,
    arm_row,
    commits_of,
    comparisons,
    constant_row,
    patient_rows,
    table_lines,
    training_measures,
    with_correction,
)
from experiments.callanan2022.acdc_statistics import auc, auc_within_folds, balanced_accuracy, mcnemar
from experiments.callanan2022.acdc_training import train
from experiments.callanan2022.protocol import compiled
from hcreg.cardiac_volumes.running import read_stacks
from hcreg.datasets import synthetic
from hcreg.datasets.acdc import ACDC, ACDCRecord
from hcreg.datasets.volume_cache import FramePreparation
from hcreg.files import read_json, read_rows
from hcreg.training import load_weights

HERE = Path(acdc.__file__).parent


def record(number, group, phase="ED"):
    return ACDCRecord(f"patient{number:03d}_{phase}", f"patient{number:03d}", phase, 1, group, None, None, None, None)


def cohort(groups):
    return [record(number, group, phase) for number, group in enumerate(groups, 1) for phase in ("ED", "ES")]


def prediction(patient, phase, diseased, probability, fold=0, **measures):
    return {
        "fold": fold,
        "seed": 0,
        "subject_id": f"{patient}_{phase}",
        "patient_id": patient,
        "phase": phase,
        "group": "DCM" if diseased else "NOR",
        "diseased": diseased,
        "probability": probability,
        "logit": math.log(probability / (1 - probability)),
        "share_hires_cam": 0.5,
        "share_gradient": 0.25,
        "share_chance": 0.1,
        "relevance": 2.0,
        "swap_logit_change": 1.0,
        "swap_class_change": 0.0,
        **measures,
    }


def predictions(probabilities, **measures):
    """Two phases of each patient, 0.02 apart; patient a to c are healthy."""
    return [
        prediction(name, phase, int(name > "c"), probability + shift, fold=number % 2, **measures)
        for number, (name, probability) in enumerate(zip("abcdefgh", probabilities))
        for phase, shift in (("ED", 0.01), ("ES", -0.01))
    ]


TEXT = ("arm", "subject_id", "patient_id", "phase", "group")
A = predictions([0.2, 0.6, 0.3, 0.7, 0.9, 0.4, 0.8, 0.55])
B = predictions([0.1, 0.2, 0.3, 0.8, 0.9, 0.7, 0.85, 0.6], share_hires_cam=0.9)
RECORD = {
    "arguments": {"protocol": {"epochs": 3}},
    "training_seconds": 4.0,
    "num_parameters": 7,
    "commit": "0",
}
TRAINING = [
    {**prediction(name, "ED", int(name > "c"), value, fold), "share_hires_cam": share}
    for fold, share, answers in ((0, 0.2, {"a": 0.2, "d": 0.3, "e": 0.7}), (1, 0.4, {"b": 0.6, "f": 0.5, "g": 0.9}))
    for name, value in answers.items()
]
HISTORY = [
    {"fold": fold, "seed": 0, "epoch": epoch, "loss": loss, "accuracy": loss / 2}
    for fold, losses in enumerate(((1.0, 0.4), (1.0, 0.8)))
    for epoch, loss in enumerate(losses, 1)
]
RUNS = ArmRuns(A, TRAINING, HISTORY, [RECORD, {**RECORD, "training_seconds": 6.0}])


@pytest.fixture(scope="module")
def cohort_of_hearts(tmp_path_factory):
    return synthetic.cardiac_volumes(tmp_path_factory.mktemp("hearts"), 6, seed=1, num_workers=1)


@pytest.fixture(scope="module")
def cache(cohort_of_hearts):
    return read_stacks(ACDC(cohort_of_hearts), FramePreparation(SMOKE.frame))


def without_a_graph(*arguments):
    """A training twin that takes its few steps sooner than a graph of them would be drawn up."""
    guided = compiled(*arguments)
    guided.run_eagerly = True
    return guided


def test_the_script_runs_from_stacks_to_its_tables(cohort_of_hearts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(acdc_training, "compiled", without_a_graph)
    common = ["--smoke", "--out", str(tmp_path), "--folds", "0", "--arms", "cross_entropy", "heatmap_default"]
    run = ["run", *common, "--data", str(cohort_of_hearts), "--cache", str(tmp_path / "cache")]
    with pytest.raises(ValueError, match=r"fold_0 is not finished: the table needs seeds 0 and folds 0 of cross_entr"):
        acdc.main(["report", *common])
    assert acdc.main(run) == 0
    saved = tmp_path / "saved"
    assert acdc.main(["report", *common, "--save", str(saved)]) == 0
    assert "cross_entropy - heatmap_default, share_hires_cam" in capsys.readouterr().out
    tables = {"acdc.csv", "acdc_tests.csv", "acdc_predictions.csv", "acdc_history.csv"}
    assert {path.name for path in saved.iterdir()} == {*tables, "acdc.json", "acdc_maps.png"}
    rows = read_rows(saved / "acdc_predictions.csv", text=TEXT)
    assert len(rows) == 2 * 6
    assert all(0 <= row["share_hires_cam"] <= 1 and row["swap_logit_change"] >= 0 for row in rows)
    history = read_rows(saved / "acdc_history.csv", text=("arm",))
    assert [(row["arm"], row["seed"], row["fold"], row["epoch"]) for row in history] == [
        ("cross_entropy", 0, 0, 1),
        ("heatmap_default", 0, 0, 1),
    ]
    made = read_json(saved / "acdc.json")
    assert made["data"]["synthetic"]
    words = f"--out {tmp_path} --smoke --arms cross_entropy heatmap_default --seeds 0 --folds 0 --save {saved}"
    assert made["command"] == f"python -m experiments.callanan2022.acdc report {words}"
    place = tmp_path / "smoke" / "acdc" / "heatmap_default" / "seed_0" / "fold_0"
    records = [read_json(place.parents[2] / arm / "seed_0" / "fold_0" / "run.json") for arm in common[-2:]]
    assert made["commits_of_runs"] == commits_of(records)
    (place / "training_state.npz").touch()  # as a kill right after the run was closed leaves it
    before = (place / "model.weights.h5").stat().st_mtime_ns
    assert acdc.main(run) == 0
    assert (place / "model.weights.h5").stat().st_mtime_ns == before  # what is there is not made again
    assert not (place / "training_state.npz").exists()
    with pytest.raises(ValueError, match=r"run of other arguments: protocol.epochs was 1 and is now 2"):
        acdc.main([*run, "--epochs", "2"])


def test_a_stopped_training_goes_on_and_nothing_is_left_over_from_the_run_before(cache, tmp_path, monkeypatch):
    protocol = replace(SMOKE, epochs=2)
    split = folds_of(cache.records, protocol)[1]
    arguments = (ARMS["heatmap_default"], protocol, cache, split)

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(acdc_training, "compiled", without_a_graph)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, tmp_path / "stopped", 1, 3, on_epoch=stop)
    epochs = []
    train(*arguments, tmp_path / "stopped", 1, 3, on_epoch=lambda: epochs.append(1))
    assert len(epochs) == 1
    assert keras.layers.Dense(1).name == "dense"  # each training counts its layers from the start
    record = train(*arguments, tmp_path / "whole", 1, 3)
    assert keras.layers.Dense(1).name == "dense"
    assert record["status"] == "finished"
    assert record["num_stacks"] == {"training": len(split["training"]), "test": len(split["test"])}
    places = tmp_path / "stopped", tmp_path / "whole"
    histories = [read_rows(place / "history.csv") for place in places]
    assert [row["epoch"] for row in histories[0]] == [1, 2]
    for name in ("history.csv", "training_predictions.csv", "predictions.csv"):
        for one, other in zip(*(read_rows(place / name) for place in places), strict=True):
            numbers = [name for name, value in one.items() if not isinstance(value, str) and name != "seconds"]
            assert [one[name] for name in numbers] == pytest.approx(
                [other[name] for name in numbers], rel=1e-3, abs=1e-5, nan_ok=True
            )
    assert {path.name for path in places[0].iterdir()} == {
        "run.json",
        "split.csv",
        "history.csv",
        "model.weights.h5",
        "training_predictions.csv",
        "predictions.csv",
    }
    told = read_rows(places[0] / "training_predictions.csv")
    assert [row["subject_id"] for row in told] == list(split["training"])
    assert {(row["fold"], row["seed"]) for row in told} == {(1, 3)}
    model = protocol.network(0)
    load_weights(model, places[0] / "model.weights.h5")
    images = images_of(cache, cache.index_of(split["training"]))[..., None]
    by_moving_statistics = keras.ops.convert_to_numpy(model(images, training=False))[:, 0]
    assert [row["probability"] for row in told] == pytest.approx(by_moving_statistics, rel=1e-4)


def test_a_training_that_diverges_names_the_setting(cache, tmp_path, monkeypatch):
    class Diverging:
        def train_on_batch(self, *_, **__):
            return {"loss": math.nan}

    monkeypatch.setattr(acdc_training, "compiled", lambda *_: Diverging())
    split = folds_of(cache.records, SMOKE)[0]
    words = r"became nan in epoch 1 of .*run\. Lower Protocol\.learning_rate, which is 0\.002, and train into another"
    with pytest.raises(FloatingPointError, match=words):
        train(ARMS["cross_entropy"], SMOKE, cache, split, tmp_path / "run", 0, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"learning_rate": 0.0}, r"Protocol\.learning_rate is a number above 0, such as 2e-3\. Received: 0\.0"),
        ({"learning_rate": math.nan}, r"Protocol\.learning_rate is a number above 0.*Received: nan"),
        ({"epochs": 0}, r"Protocol\.epochs is a whole number, 1 or more\. Received: 0"),
        ({"batch_size": 0}, r"Protocol\.batch_size is a whole number, 1 or more\. Received: 0"),
    ],
    ids=str,
)
def test_a_protocol_that_is_none_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Protocol(**arguments)


def test_moving_statistics_have_the_protocols_momentum():
    layers = [each for each in SMOKE.network(0).layers if isinstance(each, keras.layers.BatchNormalization)]
    assert len(layers) == 4
    assert {layer.momentum for layer in layers} == {0.9} == {Protocol().momentum}


def test_hearts_are_what_is_not_background_and_need_a_label_map():
    shares = np.zeros((1, 1, 3, 4), np.uint8)
    shares[0, 0, :, 0] = 255, 51, 0
    records = [SimpleNamespace(image_path=f"patient00{number}_frame01.nii.gz") for number in (1, 2)]
    cache = SimpleNamespace(stacks=[{"shares": shares}, {"image": shares}], records=records)
    assert hearts_of(cache, [0])[0, 0, 0] == pytest.approx([0.0, 0.8, 1.0])
    with pytest.raises(ValueError, match=r"patient002_frame01\.nii\.gz has no label map.*Put it beside the image"):
        hearts_of(cache, [0, 1])


def test_the_command_line_says_what_it_needs(tmp_path, capsys):
    for arguments, words in (
        (["run", "--out", str(tmp_path)], "--data is needed, ACDC's folder as downloaded; or --smoke"),
        (["report", "--out", str(tmp_path), "--folds", "5"], "--folds are numbers from 0 to 4. Received: 5."),
        (["run", "--smoke", "--out", str(tmp_path), "--epochs", "0"], "--epochs is 1 or more. Received: 0."),
    ):
        with pytest.raises(SystemExit):
            acdc.main(arguments)
        assert words in " ".join(capsys.readouterr().err.split())


def test_folds_test_each_patient_once_with_both_phases_and_hold_nothing_back():
    records = cohort(["NOR"] * 5 + ["DCM"] * 5 + ["RV"] * 5)
    folds = folds_of(records, Protocol())
    tested = [subject for fold in folds for subject in fold["test"]]
    assert sorted(tested) == sorted(each.subject_id for each in records)
    for fold in folds:
        patients = {part: {subject[:10] for subject in fold[part]} for part in fold}
        assert not patients["test"] & patients["training"]
        assert fold["validation"] == []
        groups = sorted(each.group for each in records if each.subject_id in fold["test"])
        assert groups == ["DCM", "DCM", "NOR", "NOR", "RV", "RV"]


def test_folds_need_groups_and_both_classes():
    with pytest.raises(ValueError, match=r"1 patient\(s\) have no group in Info.cfg, the first: patient005"):
        folds_of(cohort(["NOR", "DCM", "NOR", "DCM", None]), SMOKE)
    with pytest.raises(ValueError, match=r"holds NOR alone or none of it\. Both classes are needed"):
        folds_of(cohort(["NOR", "DCM", "DCM", "DCM"]), SMOKE)


def test_labels_and_weights_make_both_classes_weigh_alike():
    labels = labels_of(cohort(["NOR", "DCM", "HCM", "NOR", "RV", "MINF"]))
    assert labels.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    weights = class_weights(labels)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_batches_are_a_function_of_seed_and_epoch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 16, 16, 3)).astype("float32")
    hearts = np.zeros_like(images)
    labels = np.array([0, 1, 1, 0, 1], "float32")
    first, again, next_epoch, other_seed = (
        list(epoch_batches(images, hearts, labels, 2, epoch, seed, Augmentation()))
        for epoch, seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    assert [len(y) for _, y, _ in first] == [2, 2, 1]
    assert all(np.array_equal(a[0]["image"], b[0]["image"]) for a, b in zip(first, again))
    assert not np.array_equal(first[0][0]["image"], next_epoch[0][0]["image"])
    assert not np.array_equal(first[0][0]["image"], other_seed[0][0]["image"])
    plain = np.concatenate([x["image"][..., 0] for x, _, _ in epoch_batches(images, hearts, labels, 2, 0, 1)])
    assert sorted(plain.sum((1, 2, 3))) == pytest.approx(sorted(images.sum((1, 2, 3))))


def test_a_row_of_a_batch_is_one_stack_with_its_mask_label_and_weight():
    values = np.arange(5, dtype="float32")
    images = np.tile(values[:, None, None, None], (1, 16, 16, 3))
    labels = np.array([0, 1, 1, 0, 1], "float32")
    weights = np.where(labels == 1, 5 / (2 * 3), 5 / (2 * 2))
    seen = []
    for x, y, weight in epoch_batches(images, images / 10, labels, 2, 4, 7):
        assert x["image"].shape == x["mask"].shape == (len(y), 16, 16, 3, 1)
        rows = x["image"][:, 0, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(x["image"], images[rows][..., None])
        np.testing.assert_array_equal(x["mask"], (images / 10)[rows][..., None])
        np.testing.assert_array_equal(y, labels[rows])
        np.testing.assert_allclose(weight, weights[rows], rtol=1e-6)
        seen += rows.tolist()
    assert sorted(seen) == [0, 1, 2, 3, 4] != seen
    augment = Augmentation()
    augmented = np.concatenate([x["image"] for x, _, _ in epoch_batches(images, images, labels, 2, 4, 7, augment)])
    for row, found in zip(seen, augmented):  # whatever else is in the batch
        expected, _ = augment(images[row], images[row], np.random.default_rng([7, 4, row]))
        np.testing.assert_array_equal(found[..., 0], expected)


def test_the_mask_moves_with_its_image():
    image = np.zeros((64, 64, 5), "float32")
    image[20:40, 24:44] = 1.0
    augment = Augmentation()
    quiet = Augmentation(noise=type(augment.noise)((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0.0))
    for seed in range(4):
        moved, mask = quiet(image, image, np.random.default_rng(seed))
        np.testing.assert_allclose(moved, mask, atol=1e-5)
        assert not np.array_equal(moved, image)
        assert mask.sum((0, 1)) == pytest.approx(image.sum((0, 1)), rel=0.25)  # rotated, bent a little, never scaled
        noisy, same = augment(image, image, np.random.default_rng(seed))
        np.testing.assert_array_equal(same, mask)
        assert 0 < np.std(noisy - moved) < 0.21


@pytest.fixture(scope="module")
def network():
    return SMOKE.network(seed=0)


@pytest.fixture(scope="module")
def stacks():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(4, 32, 32, 5)).astype("float32")
    hearts = np.zeros_like(images)
    hearts[:, 8:20, 8:24, 1:4] = 1.0
    hearts[:, 20:23, 8:24, 1:4] = 0.5
    return images, hearts


def test_cam_measures_are_those_of_the_map_worked_out_from_the_head(network, stacks):
    images, hearts = stacks
    logits, shares, relevance = cam_measures(network, images, hearts)
    tapped = keras.Model(network.input, network.get_layer(TAP).output)
    maps = keras.ops.convert_to_numpy(tapped(images[..., None]))
    hidden, last = network.get_layer("head_dense").get_weights(), network.get_layer("logits").get_weights()
    units = maps.mean((1, 2, 3)) @ hidden[0] + hidden[1]
    slope = ((units > 0) * last[0][:, 0]) @ hidden[0].T / math.prod(maps.shape[1:4])
    cells = np.abs((maps * slope[:, None, None, None]).sum(-1))
    mask = hearts.reshape(4, 16, 2, 16, 2, 5).mean((2, 4))
    np.testing.assert_allclose(logits, np.maximum(units, 0) @ last[0][:, 0] + last[1][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shares, (cells * mask).sum((1, 2, 3)) / cells.sum((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(relevance, cells.sum((1, 2, 3)), rtol=1e-4)


def test_answers_are_those_of_the_network_to_each_stack(cache, network):
    rows = answer_rows(network, cache, [3, 0])
    assert [row["subject_id"] for row in rows] == [cache.records[3].subject_id, cache.records[0].subject_id]
    told = keras.ops.convert_to_numpy(network(images_of(cache, [3, 0])[..., None], training=False))[:, 0]
    assert [row["probability"] for row in rows] == pytest.approx(told, rel=1e-5)
    assert [row["diseased"] for row in rows] == [int(cache.records[index].group != "NOR") for index in (3, 0)]
    assert rows[1]["share_chance"] == pytest.approx(hearts_of(cache, [0]).mean())


def test_gradients_of_a_linear_score_lie_where_its_weights_do():
    image = keras.Input((2, 2, 1, 1))
    score = keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(image))
    scores = keras.Model(image, score)
    scores.set_weights([np.array([[1.0], [-3.0], [2.0], [0.0]])])
    images = np.zeros((9, 2, 2, 1), "float32")
    hearts = np.tile(np.array([[0.0, 1.0], [0.5, 0.0]])[..., None], (9, 1, 1, 1))
    assert gradient_shares(scores, images, hearts) == pytest.approx([4 / 6] * 9)
    scores.set_weights([np.zeros((4, 1))])
    assert np.isnan(gradient_shares(scores, images, hearts)).all()


def test_swapping_the_outside_is_worked_by_hand():
    image = keras.Input((1, 3, 1, 1))
    total = keras.layers.Flatten()(image)
    scores = keras.Model(image, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(total))
    images = np.array([[1.0, 2.0, -1.0], [1.0, 5.0, 3.0], [9.0, 9.0, 9.0]])[:, None, :, None]
    hearts = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])[:, None, :, None]
    records = [record(1, "NOR"), record(2, "NOR"), record(3, "NOR", "ES")]
    change, class_change = swap_effect(scores, images, hearts, records, np.array([2.0, -9.0, 27.0]))
    # The third voxel is in the other's heart and stays; the first is 1 in both; the ES stack has no partner.
    np.testing.assert_allclose(change, [0.0, 18.0, np.nan])
    np.testing.assert_allclose(class_change, [0.0, 1.0, np.nan])
    hearts[1, 0, 2] = 0.0
    change, _ = swap_effect(scores, images, hearts, records, np.array([2.0, 9.0, 27.0]))
    np.testing.assert_allclose(change, [4.0, 4.0, np.nan])


def test_the_networks_score_is_its_probabilities_logit(network, stacks):
    images = stacks[0][..., None]
    logits, probabilities = (keras.ops.convert_to_numpy(each(images)) for each in (score_model(network), network))
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_patients_are_means_of_their_stacks():
    rows = patient_rows([prediction("b", "ED", 1, 0.9), prediction("b", "ES", 1, 0.5), prediction("a", "ED", 0, 0.8)])
    assert [row["patient_id"] for row in rows] == ["a", "b"]
    assert rows[1]["probability"] == pytest.approx(0.7)
    assert rows[1]["log_loss"] == pytest.approx(-math.log(0.7))
    assert rows[0]["log_loss"] == pytest.approx(-math.log(0.2))
    assert [row["correct"] for row in rows] == [0, 1]


def test_the_arms_row_is_worked_by_hand():
    row = arm_row("a", RUNS)
    # Healthy .2 .6 .3, diseased .7 .9 .4 .8 .55: of 15 pairs 13 are in order.
    assert row["auc"] == pytest.approx(13 / 15)
    assert row["sensitivity"] == pytest.approx(4 / 5)
    assert row["specificity"] == pytest.approx(2 / 3)
    assert row["balanced_accuracy"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert row["auc_lower"] < row["auc"] < row["auc_upper"] <= 1
    # Fold 0 has .2 .3 against .9 .8; fold 1 has .6 against .7 .4 .55.
    assert row["auc_within_folds"] == pytest.approx((4 + 1) / (4 + 3))
    healthy, diseased = (0.2, 0.6, 0.3), (0.7, 0.9, 0.4, 0.8, 0.55)
    losses = [np.mean([-math.log(1 - p) for p in healthy]), np.mean([-math.log(p) for p in diseased])]
    assert row["log_loss_of_classes"] == pytest.approx(np.mean(losses))
    assert (row["num_patients"], row["num_stacks"], row["num_seeds"]) == (8, 16, 1)
    assert (row["share_hires_cam"], row["swap_logit_change"], row["training_seconds_of_fold"]) == (0.5, 1.0, 5.0)
    assert (row["last_epoch_loss"], row["last_epoch_accuracy"]) == pytest.approx((0.6, 0.3))
    assert row["training_auc"] == 0.75
    spread = np.std([each["logit"] for each in patient_rows(A)], ddof=1)
    assert row["swap_change_over_sd"] == pytest.approx(1 / spread)


def test_what_networks_know_of_their_training_part_is_worked_by_hand():
    # Fold 0 has .2 against .3 and .7, all in order; fold 1 has .6 against .5 and .9, one of two.
    # Balanced: of fold 0 (1 + 1/2) / 2, of fold 1 (0 + 1/2) / 2, .5 being no "diseased" yet.
    found = training_measures(TRAINING)
    assert found["training_auc"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["training_balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found["training_share_hires_cam"] == pytest.approx((0.2 + 0.4) / 2)
    # Two seeds of one fold are two networks, and their answers are not joined.
    twice = training_measures([*TRAINING, *({**row, "seed": 1, "probability": 0.4} for row in TRAINING)])
    assert twice["training_auc"] == pytest.approx((1 + 1 / 2 + 1 / 2 + 1 / 2) / 4)


def test_commits_are_named_once():
    assert commits_of([{"commit": "b"}, {"commit": "a+"}, {"commit": "b"}, {"commit": None}]) == ["a+", "b", "unknown"]
    records = [{**RECORD, "commit": name} for name in "bab"]
    assert arm_row("a", replace(RUNS, records=records))["commit"] == "a b"


def test_the_constant_is_chance_and_has_the_columns_of_an_arm():
    row = arm_row("a", RUNS)
    constant = constant_row(row)
    assert list(constant) == list(row)
    assert (constant["auc"], constant["sensitivity"], constant["specificity"]) == (0.5, 1.0, 0.0)
    assert (constant["training_auc"], constant["training_balanced_accuracy"]) == (0.5, 0.5)
    assert constant["training_share_hires_cam"] is None
    always = arm_row("", replace(RUNS, rows=predictions([0.5001] * 8)))
    assert constant["log_loss_of_classes"] == pytest.approx(always["log_loss_of_classes"], abs=1e-3)
    assert len(table_lines([row, constant], with_correction(comparisons(A, B, "a", "b")))) == 3 + 7


def test_auc_counts_pairs_and_a_missing_class_tells_nothing():
    assert auc([[0, 0.1], [1, 0.4], [0, 0.4], [1, 0.9]]) == pytest.approx(3.5 / 4)
    drawn = np.random.default_rng(0).integers(0, 6, (40, 2)) * [1, 0.1] % [2, 1]  # with ties
    assert auc(drawn) == pytest.approx(roc_auc_score(*drawn.T))
    assert auc([[1, 0.1], [1, 0.4]]) == 0.5
    assert balanced_accuracy([[1, 0.9], [1, 0.2]]) == 0.5
    assert balanced_accuracy([[1, 0.9], [0, 0.2], [0, 0.7]]) == 0.75
    assert math.isnan(auc_within_folds([{"fold": 0, "diseased": 1, "probability": 0.3}]))


def test_tests_between_arms_are_worked_by_hand():
    corrected = with_correction(comparisons(A, B, "a", "b"))
    tests = {test["measure"]: test for test in corrected}
    # A has b and f wrong, B none: two patients, both to one side.
    assert tests["correct"]["p_value"] == pytest.approx(0.5)
    # The share is .4 larger for all eight patients.
    assert tests["share_hires_cam"]["p_value"] == pytest.approx(2 / 2**8)
    losses = [[row["log_loss"] for row in patient_rows(rows)] for rows in (A, B)]
    differences = np.subtract(*losses)
    differences = differences[np.abs(differences) > 1e-12]
    assert tests["log_loss"]["p_value"] == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=0.2)
    # Six tests: the smallest p is multiplied by six.
    assert tests["share_hires_cam"]["p_value_holm"] == pytest.approx(6 * 2 / 2**8)
    assert tests["share_gradient"]["p_value_holm"] == 1
    assert tests["auc"]["mean_b"] - tests["auc"]["mean_a"] == pytest.approx(2 / 15)
    assert tests["auc"]["difference_lower"] >= 0
    assert tests["auc"]["p_value"] is tests["auc"]["p_value_holm"] is None
    # Of two pairs of arms they are one family.
    both = with_correction([*comparisons(A, B, "a", "b"), *comparisons(A, A, "a", "c")])
    share = next(test for test in both if test["measure"] == "share_hires_cam")
    assert share["p_value_holm"] == pytest.approx(12 * 2 / 2**8)
    with pytest.raises(ValueError, match="a and b were not tested on the same patients: 8 and 7"):
        comparisons(A, B[:-2], "a", "b")


def test_mcnemar_looks_at_the_patients_that_one_arm_alone_has_right():
    a, b = np.array([1] * 6 + [0] * 4), np.array([0] * 5 + [1] * 5)
    # Five to four of nine.
    assert mcnemar(a, b)["p_value"] == 1.0
    assert mcnemar(a, np.zeros(10))["p_value"] == pytest.approx(2 / 2**6)
    assert mcnemar(a, a)["p_value"] == 1.0


def test_runs_of_other_settings_are_not_put_into_one_table():
    one = {"arguments": {"protocol": {"epochs": 1}, "augmentation": {}, "data": {"digest": "x"}}}
    two = {"arguments": {**one["arguments"], "protocol": {"epochs": 2}}}
    acdc.check_alike([one, one])
    with pytest.raises(ValueError, match="The runs are not alike in their protocol"):
        acdc.check_alike([one, two])


# What is committed


def committed(name):
    rows = read_rows(HERE / "results" / name, text=(*TEXT, "a", "b", "measure", "test", "commit"))
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in rows
    ]


def test_the_readme_has_the_committed_table_and_the_commands_that_make_it():
    readme = (HERE / "README.rst").read_text(encoding="utf-8").splitlines()
    table = committed("acdc.csv")
    for line in table_lines(table, []):
        assert f"    {line.rstrip()}" in readme
    made = read_json(HERE / "results" / "acdc.json")
    assert f"    {made['command']}" in readme
    arms = " ".join(row["arm"] for row in table[:-1])
    assert f"report --out runs/callanan2022 --arms {arms} " in made["command"]
    assert (
        f"    python -m experiments.callanan2022.acdc run --data ACDC --out runs/callanan2022 --arms {arms}" in readme
    )
    assert made["commits_of_runs"] == sorted({name for row in table[:-1] for name in row["commit"].split()})


def test_the_committed_table_is_recomputed_from_the_committed_predictions_and_histories():
    rows, history, table = (committed(name) for name in ("acdc_predictions.csv", "acdc_history.csv", "acdc.csv"))
    for row in table[:-1]:
        of_arm = [[each for each in kind if each["arm"] == row["arm"]] for kind in (rows, history)]
        assert max(each["epoch"] for each in of_arm[1]) == row["epochs"]
        record = {"arguments": {"protocol": {"epochs": 0}}, **dict.fromkeys(("training_seconds", "num_parameters"), 0)}
        found = arm_row(row["arm"], ArmRuns(of_arm[0], TRAINING, of_arm[1], [{**record, "commit": ""}]))
        of_runs = {"epochs", "commit", "num_parameters", "training_seconds_of_fold"}
        assert found.pop("arm") == row["arm"]
        for name in set(found) - of_runs - set(training_measures(TRAINING)):
            assert found[name] == pytest.approx(row[name], rel=1e-9), name
