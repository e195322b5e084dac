"""The experiments of callanan2022heatmap run from images to tables; committed tables are what their models give."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.callanan2022 import comparison, experiment1, experiment2, open_questions, reporting, vgg16
from experiments.callanan2022.figures import distributions
from experiments.callanan2022.measures import label_effect, overlap_rows
from experiments.callanan2022.protocol import (
    ARMS,
    HEATMAP,
    HIGHEST_RATE,
    LOWEST_RATE,
    TAP,
    Data,
    images,
    inputs_of,
    learning_rates,
    train,
)
from hcreg import models
from hcreg.datasets import synthetic
from hcreg.files import read_rows

RESULTS = Path(reporting.__file__).parent / "results"
TINY = Data(2, num_train=16, num_validation=8, num_test=8)


def models_of(arm, hearts, labels, accepted=True):
    return [
        {
            "arm": arm,
            "model": number,
            "accepted": int(accepted),
            "finite": 1,
            reporting.HEART: heart,
            reporting.FAT: 0.0,
            reporting.LABEL: label,
            reporting.EFFECT: 1.0,
            "validation_accuracy": 0.99,
            "test_accuracy": 0.98,
            "seconds": 1.0,
            "inflation": 2.0,
            "heart_positive_grad_cam": heart,
        }
        for number, (heart, label) in enumerate(zip(hearts, labels, strict=True))
    ]


@pytest.mark.slow
def test_an_experiment_runs_from_images_to_its_report(tmp_path, capsys):
    arms = ["--arms", "cross_entropy", "heatmap", "cross_entropy_frozen"]
    common = ["--out", str(tmp_path), "--smoke", "--models", "1", *arms]
    assert experiment2.main(["run", *common]) == 0
    assert experiment2.main(["report", *common, "--save", str(tmp_path / "saved")]) == 0
    assert "cross_entropy_frozen" in capsys.readouterr().out
    saved = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"experiment2.csv", "experiment2_models.csv", "experiment2_tests.csv", "experiment2_maps.png"} <= saved
    rows = read_rows(tmp_path / "saved" / "experiment2_models.csv", text=("arm", "commit"))
    assert [row["arm"] for row in rows] == arms[1:]
    measured = tmp_path / "smoke" / "experiment2" / "heatmap" / "model_0" / "measures.json"
    before = measured.stat().st_mtime_ns
    assert experiment2.main(["run", *common]) == 0
    assert measured.stat().st_mtime_ns == before  # what is there is not made again


def test_a_report_names_what_is_missing_and_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"model_0 is not finished: the table needs 12 models of each of heatmap"):
        experiment1.main(["report", "--out", str(tmp_path), "--arms", "heatmap"])
    with pytest.raises(ValueError, match=r"seed_0 is not finished. Call run again, which goes on"):
        open_questions.main(["report", "--out", str(tmp_path), "--questions", "weights"])
    with pytest.raises(ValueError, match=r"run.json is missing. Call run for this arm"):
        vgg16.main(["report", "--out", str(tmp_path)])


def test_learning_rates_are_the_same_in_every_arm_and_within_the_range():
    rates = learning_rates(200)
    assert rates == learning_rates(200)
    assert min(rates) >= LOWEST_RATE
    assert max(rates) <= HIGHEST_RATE
    assert math.sqrt(LOWEST_RATE * HIGHEST_RATE) == pytest.approx(np.median(rates), rel=0.2)  # log-uniform


def test_parts_of_the_data_are_different_images_and_the_test_set_is_one_for_all():
    train_a, train_b = images(TINY, "train", 0), images(TINY, "train", 1)
    assert not np.array_equal(train_a.images, train_b.images)
    assert not np.array_equal(train_a.images[:8], images(TINY, "validation", 0).images)
    assert np.array_equal(images(TINY, "test", 0).images, images(TINY, "test", 1).images)


def test_shuffled_masks_are_other_images_masks():
    part = images(TINY, "train", 0)
    straight, shuffled = inputs_of(part)[0]["mask"], inputs_of(part, shuffled_masks=True)[0]["mask"]
    assert sorted(straight.sum((1, 2, 3))) == sorted(shuffled.sum((1, 2, 3)))
    assert not np.array_equal(straight, shuffled)


def test_frozen_convolutions_stay_as_they_came(tmp_path):
    blank = models.cnn_classifier(seed=3)
    convolutions = [layer for layer in blank.layers if layer.name.startswith("conv")]
    features = [layer.get_weights() for layer in convolutions]
    for name, stays in (("cross_entropy_frozen", True), ("cross_entropy_pretrained", False)):
        trained, record = train(ARMS[name], TINY, tmp_path / name, 5e-3, 1, 0, features)
        kept = [
            np.array_equal(trained.get_layer(layer.name).get_weights()[0], layer.get_weights()[0])
            for layer in convolutions
        ]
        assert all(kept) if stays else not any(kept)
        assert record["arguments"]["seed"] == 0
    again, _ = train(ARMS["cross_entropy_frozen"], TINY, tmp_path / "cross_entropy_frozen", 5e-3, 1, 0, features)
    assert np.array_equal(again.get_weights()[0], features[0][0])
    with pytest.raises(ValueError, match="holds a model trained otherwise: choose another --out"):
        train(ARMS["cross_entropy_frozen"], TINY, tmp_path / "cross_entropy_frozen", 4e-3, 1, 0, features)


def test_the_same_seed_gives_the_same_model(tmp_path):
    weights = [train(HEATMAP, TINY, tmp_path / name, 5e-3, 1, 7)[0].get_weights() for name in ("a", "b")]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_effect_of_the_label_is_zero_where_the_network_cannot_see_it():
    part = images(TINY, "test", 0)
    model = models.cnn_classifier(seed=0)
    assert label_effect(model, part)["logit_change"] > 0
    kernel, bias = model.get_layer("conv1").get_weights()
    model.get_layer("conv1").set_weights([kernel * 0, bias])
    assert label_effect(model, part) == {"logit_change": 0.0, "class_change": 0.0}


def test_overlap_is_over_all_images_and_accuracy_is_the_networks():
    part = images(TINY, "test", 0)
    model = models.cnn_classifier(seed=0)
    rows, accuracy = overlap_rows(model, TAP, part)
    heart = next(
        r for r in rows if (r["region"], r["part"], r["class_name"]) == ("heart", "absolute", "mean of classes")
    )
    assert heart["num_images"] == len(part.labels)
    predicted = model.predict(part.images[..., None].astype("float32") / 127.5 - 1, verbose=0).argmax(1)
    assert accuracy == np.mean(predicted == part.labels)


def test_tests_between_arms_are_worked_by_hand():
    accepted = {
        "cross_entropy": models_of("cross_entropy", [0.2, 0.3, 0.25, 0.22], [1e-5, 2e-5, 3e-5, 4e-5]),
        "heatmap": models_of("heatmap", [0.9, 0.8, 0.95, 0.85], [0.0, 0.0, 0.0, 1e-3]),
    }
    tests = reporting.comparisons(2, accepted)
    assert {(test["a"], test["b"]) for test in tests} == {("cross_entropy", "heatmap")}
    heart = next(test for test in tests if test["measure"] == reporting.HEART)
    assert heart["u"] == 0
    assert heart["common_language_effect_size"] == 0
    assert heart["mean_a"] == pytest.approx(0.2425)
    assert heart["mean_b"] == pytest.approx(0.875)
    labels = {test["fences"]: test for test in tests if test["measure"] == reporting.LABEL}
    assert labels["all values"]["num_b"] == 4
    assert labels["1.5 IQR"]["num_b"] == 3
    assert labels["all values"]["u"] == 12
    assert labels["1.5 IQR"]["common_language_effect_size"] == 1
    assert {test["models"] for test in tests} == {"accepted"}
    assert not reporting.comparisons(2, {**accepted, "heatmap": accepted["heatmap"][:2]})
    rejected = [{**row, "accepted": 0} for row in accepted["heatmap"]]
    assert {test["models"] for test in reporting.comparisons(2, {**accepted, "heatmap": rejected})} == {"all"}


def test_models_that_were_not_accepted_are_counted(tmp_path, capsys):
    rows = models_of("cross_entropy", [0.2, 0.3], [1e-5, 2e-5]) + models_of("heatmap", [0.9], [0.0], accepted=False)
    reporting.report(1, rows, ["cross_entropy", "heatmap"], tmp_path)
    table = read_rows(tmp_path / "experiment1.csv", text=("arm", "models"))
    assert [(row["num_accepted"], row["models"]) for row in table] == [(2, "accepted"), (0, "all")]
    assert table[0][f"{reporting.HEART}_mean"] == pytest.approx(0.25)
    assert re.search(r"heatmap +0/1 ", capsys.readouterr().out)


def test_a_value_of_zero_is_drawn_on_a_logarithmic_axis():
    (axes,) = distributions({"a": [0.0, 1e-3], "b": [1e-2, 1e-1]}, "share", {"a": 1e-5}, logarithmic=True).axes
    points = np.concatenate(
        [line.get_xdata() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    )
    assert axes.get_xscale() == "log"
    assert points.min() == pytest.approx(1e-12)


@pytest.mark.proof
@pytest.mark.slow
def test_open_questions_run_to_their_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(open_questions.QUESTIONS, "alignment", open_questions.QUESTIONS["alignment"][:3])
    common = ["--out", str(tmp_path), "--smoke", "--questions", "alignment"]
    assert open_questions.main(["run", *common]) == 0
    assert open_questions.main(["report", *common]) == 0
    assert "absolute_with_swap" in capsys.readouterr().out
    rows = read_rows(tmp_path / "smoke" / "open_questions" / "open_questions.csv", text=("question", "case", "commit"))
    assert [row["case"] for row in rows] == ["none", "absolute", "absolute_with_swap"]
    assert all(0 <= row["integrated_gradients_outside_share"] <= 1 for row in rows)


def test_every_case_of_the_open_questions_has_a_name_of_its_own():
    for cases in open_questions.QUESTIONS.values():
        assert len({case.name for case in cases}) == len(cases)


@pytest.mark.proof
@pytest.mark.slow
def test_vgg16_runs_to_its_table(tmp_path, capsys):
    common = ["--out", str(tmp_path), "--arms", "heatmap"]
    assert vgg16.main(["run", *common, "--smoke"]) == 0
    assert vgg16.main(["report", *common]) == 0
    assert "sex label" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", [1, 2])
def test_committed_tables_are_what_their_models_give(experiment, tmp_path):
    rows = read_rows(RESULTS / f"experiment{experiment}_models.csv", text=("arm", "commit"))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    reporting.report(experiment, rows, arms, tmp_path)
    for name in (f"experiment{experiment}.csv", f"experiment{experiment}_tests.csv"):
        text = ("arm", "models", "a", "b", "meaning", "measure", "fences", "test")
        committed, again = read_rows(RESULTS / name, text=text), read_rows(tmp_path / name, text=text)
        assert len(committed) == len(again) > 0
        for before, now in zip(committed, again, strict=True):
            assert list(before) == list(now)
            for column, value in before.items():
                same = (
                    value == now[column] if isinstance(value, str) else value == pytest.approx(now[column], nan_ok=True)
                )
                assert same, (name, column, value, now[column])


def test_committed_models_name_their_seeds_and_there_are_ten_accepted_of_each_loss():
    for experiment in (1, 2):
        rows = read_rows(RESULTS / f"experiment{experiment}_models.csv", text=("arm", "commit"))
        for arm in ("cross_entropy", "heatmap"):
            accepted = [row for row in rows if row["arm"] == arm and row["accepted"]]
            assert len(accepted) >= 10
            assert len({row["seed"] for row in accepted}) == len(accepted)
            assert all(row["finite"] for row in rows if row["arm"] == arm)


def test_comparison_and_synthetic_agree_on_the_regions():
    assert synthetic.HEART == (11, 12, 13, 14)
    assert comparison.NUM_MODELS >= 10


@pytest.mark.parametrize("experiment", [1, 2])
def test_readme_prints_the_table_of_arms(experiment):
    text = (RESULTS.parent / "README.rst").read_text(encoding="utf-8")
    table = read_rows(RESULTS / f"experiment{experiment}.csv", text=("arm", "models"))
    for line in reporting.table_lines(table):
        assert f"    {line}\n" in text, line


def test_readme_prints_the_table_of_open_questions():
    text = (RESULTS.parent / "README.rst").read_text(encoding="utf-8")
    rows = read_rows(RESULTS / "open_questions.csv", text=("question", "case", "commit"))
    assert {row["question"] for row in rows} == set(open_questions.QUESTIONS)
    for question, cases in open_questions.QUESTIONS.items():
        assert [row["case"] for row in rows if row["question"] == question] == [case.name for case in cases]
    for line in open_questions.table_lines(rows):
        assert f"    {line}\n" in text, line


def test_readme_prints_the_table_of_vgg16():
    text = (RESULTS.parent / "README.rst").read_text(encoding="utf-8")
    for line in vgg16.table_lines(read_rows(RESULTS / "vgg16.csv", text=("arm", "weights", "commit"))):
        assert f"    {line}\n" in text, line


def test_the_main_readme_prints_what_was_measured():
    text = (RESULTS.parents[2] / "README.rst").read_text(encoding="utf-8")
    rows = {row["arm"]: row for row in read_rows(RESULTS / "experiment2.csv", text=("arm", "models"))}
    plain, guided, thesis = (rows[arm] for arm in ("cross_entropy", "heatmap", "thesis_heatmap"))

    def short(value):
        return f"{value:.2f}".removeprefix("0")

    assert f"rises from {short(plain[f'{reporting.HEART}_mean'])} to {short(guided[f'{reporting.HEART}_mean'])}" in text
    assert f"falls from {plain[f'{reporting.LABEL}_median']:.3f} to 0".replace("0.", ".", 1) in text
    assert guided[f"{reporting.LABEL}_median"] == 0
    effects = [row[f"{reporting.EFFECT}_median"] for row in (guided, plain)]
    assert f"by {effects[0]:.2f} instead of {effects[1]:.2f}" in text
    assert f"leaves {thesis[f'{reporting.LABEL}_median']:.3f} in the label".replace("0.", ".", 1) in text
    assert guided["num_accepted"] == plain["num_accepted"] == 12
