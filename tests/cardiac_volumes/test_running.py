"""Runs of both kinds of recipe on synthetic hearts: what they leave, and when they are refused."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from hcreg import runs, training
from hcreg.cardiac_volumes import load_network, patient_folds, predict, run, running
from hcreg.datasets.splits import read_split
from hcreg.files import read_rows, write_rows
from hcreg.preprocessing.volumes import Frame

STRUCTURES = ("RV", "MYO", "LV")


def test_rows_are_the_test_part_with_true_volumes_of_the_label_maps(stack_run, hearts):
    rows = stack_run["rows"]
    assert [row["subject_id"] for row in rows] == stack_run["split"]["test"]
    truth = {record.subject_id: record.volumes_ml() for record in hearts}
    for row in rows:
        assert [row[f"{name}_true_ml"] for name in STRUCTURES] == pytest.approx(list(truth[row["subject_id"]].values()))
        assert row["subject_id"] == f"{row['patient_id']}_{row['phase']}"
        assert row["fold"] == 1
    assert read_rows(stack_run["folder"] / "predictions.csv") == rows
    kinds = ("true", "pred", "constant")
    assert {f"{name}_{kind}_ml" for name in STRUCTURES for kind in kinds} | {
        *("subject_id", "patient_id", "phase", "group", "fold")
    } == set(rows[0])


def test_slices_are_counted_and_segmented(slice_run):
    row = slice_run["rows"][0]
    assert {f"{name}_{kind}" for name in STRUCTURES for kind in ("true_ml", "pred_ml", "mask_ml", "dice")} < set(row)
    assert all(0 <= row[f"{name}_dice"] <= 1 for row in slice_run["rows"] for name in STRUCTURES)
    assert read_rows(slice_run["folder"] / "predictions.csv") == slice_run["rows"]


def owners(images, cache):
    """Whose stacks, or slices, images are: every heart of the cohort looks its own way."""
    known = {}
    for record, stack in zip(cache.records, cache.stacks, strict=True):
        known |= {np.ascontiguousarray(part).tobytes(): record.subject_id for part in np.moveaxis(stack["image"], 2, 0)}
    middles = images[:, :, :, images.shape[3] // 2]  # of slices with their neighbours, and of stacks
    return [known[np.ascontiguousarray(np.squeeze(middle)).tobytes()] for middle in middles]


@pytest.mark.parametrize("kind", ["stack_run", "slice_run"])
def test_each_part_of_the_split_reaches_its_own_use(kind, request, tmp_path, monkeypatch):
    finished = request.getfixturevalue(kind)
    recipe, cache, split = replace(finished["recipe"], augmentation="none"), finished["cache"], finished["split"]
    shown = {}

    def fit(model, batches, validation, folder, **keywords):
        shown["training"] = [
            name for number in range(batches.num_batches) for name in owners(batches[number][0], cache)
        ]
        shown["validation"] = owners(validation[0], cache)
        return [{"epoch": 1, "val_loss": 0.0, "seconds": 0.0}]

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(type(finished["recipe"]), "measure", measured_by_number)
    run(recipe, cache, split, tmp_path, fold=1, progress=False)
    parts = {part: set(names) for part, names in read_split(tmp_path / "split.csv").items()}
    assert parts == {part: set(names) for part, names in split.items()}
    assert set(shown["training"]) == parts["training"]
    assert set(shown["validation"]) == parts["validation"]
    slices = 3 if kind == "slice_run" else 1
    assert len(shown["training"]) == slices * len(parts["training"])
    assert len(shown["validation"]) == slices * len(parts["validation"])
    assert runs.read_run(tmp_path)["num_stacks"] == {part: len(names) for part, names in parts.items()}
    for name, part in (("predictions", "test"), ("validation_predictions", "validation")):
        rows = read_rows(tmp_path / f"{name}.csv")
        assert [row["subject_id"] for row in rows] == split[part]
        assert [row["LV_pred_ml"] for row in rows] == list(cache.index_of(split[part]))


def measured_by_number(recipe, networks, cache, indices):
    return [dict.fromkeys((f"{name}_pred_ml" for name in STRUCTURES), float(index)) for index in indices]


def test_volumes_keep_their_precision(stack_run, tmp_path):
    cache = stack_run["cache"]
    network = SimpleNamespace(predict=lambda inputs, **_: np.full((len(inputs), 3), 1 / 3))
    scale = np.array([100.123456789, 200.1, 300.7])
    cache = SimpleNamespace(records=cache.records, stacks=cache.stacks, volumes_ml=cache.volumes_ml / 3)
    constant = {phase: {"LV_constant_ml": 100 / 7} for phase in ("ED", "ES")}
    rows = predict(stack_run["recipe"], [(network, scale)], cache, range(20), constant=constant)
    write_rows(tmp_path / "predictions.csv", rows)
    for index, row in enumerate(read_rows(tmp_path / "predictions.csv")):
        for position, name in enumerate(STRUCTURES):
            assert row[f"{name}_pred_ml"] == pytest.approx(scale[position] / 3, rel=1e-12)
            assert row[f"{name}_true_ml"] == pytest.approx(cache.volumes_ml[index, position], rel=1e-12)
        assert row["LV_constant_ml"] == pytest.approx(100 / 7, rel=1e-12)


def test_run_folder_holds_record_history_and_both_predictions(stack_run):
    record = json.loads((stack_run["folder"] / "run.json").read_text())
    assert (record["status"], record["epochs_run"]) == ("finished", 2)
    assert record["arguments"]["data"]["num_stacks"] == 20
    training_part = stack_run["cache"].index_of(stack_run["split"]["training"])
    assert record["target_scale"] == pytest.approx(stack_run["cache"].volumes_ml[training_part].max(0))
    assert sum(record["num_stacks"].values()) == 20
    validation = read_rows(stack_run["folder"] / "validation_predictions.csv")
    assert [row["subject_id"] for row in validation] == stack_run["split"]["validation"]
    assert len(read_rows(stack_run["folder"] / "history.csv")) == 2
    assert not (stack_run["folder"] / "training_state.npz").exists()


def test_constant_is_the_mean_of_the_training_part_at_each_phase(stack_run, hearts):
    trained = set(stack_run["split"]["training"])
    for phase in ("ED", "ES"):
        volumes = [r.volumes_ml()["LV"] for r in hearts if r.subject_id in trained and r.phase == phase]
        found = [row["LV_constant_ml"] for row in stack_run["rows"] if row["phase"] == phase]
        assert found == pytest.approx([np.mean(volumes)] * 5)


def test_total_volume_has_one_column(stack_run):
    recipe = replace(stack_run["recipe"], build_arguments={"variant": "single_label"})
    constant = running.constant_predictor(recipe, stack_run["cache"], np.array([0, 1]))
    volumes = stack_run["cache"].volumes_ml.sum(1)
    assert constant == {"ED": {"heart_constant_ml": volumes[0]}, "ES": {"heart_constant_ml": volumes[1]}}
    network = SimpleNamespace(predict=lambda inputs, **_: np.full((len(inputs), 1), 2.0))
    (row,) = predict(recipe, [(network, np.array([50.0]))], stack_run["cache"], [1], constant=constant)
    assert row["heart_true_ml"] == pytest.approx(volumes[1])
    assert (row["heart_pred_ml"], row["heart_constant_ml"]) == (100.0, volumes[1])


def test_finished_run_is_read_not_repeated(stack_run, monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    arguments = [stack_run[name] for name in ("recipe", "cache", "split", "folder")]
    assert run(*arguments, fold=1, progress=False) == stack_run["rows"]


def test_stops_after_training_cost_nothing_and_the_same_seed_gives_the_same_predictions(
    stack_run, tmp_path, monkeypatch
):
    arguments = [stack_run[name] for name in ("recipe", "cache", "split")]

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "predict", stop)
        with pytest.raises(KeyboardInterrupt):
            run(*arguments, tmp_path, fold=1, progress=False)
    assert runs.read_run(tmp_path)["status"] == "running"
    assert not (tmp_path / "predictions.csv").exists()
    assert (tmp_path / "training_state.npz").exists()
    monkeypatch.setattr(keras.Model, "fit", stop)  # from here on nothing is trained
    assert run(*arguments, tmp_path, fold=1, progress=False) == stack_run["rows"]
    assert runs.read_run(tmp_path)["status"] == "finished"
    assert not (tmp_path / "training_state.npz").exists()


@pytest.mark.parametrize("kind", ["stack_run", "slice_run"])
def test_loaded_network_predicts_what_the_run_did(kind, request):
    finished = request.getfixturevalue(kind)
    network = load_network(finished["recipe"], finished["folder"])
    indices = finished["cache"].index_of(finished["split"]["test"])
    rows = predict(finished["recipe"], [network], finished["cache"], indices, fold=1)
    for again, before in zip(rows, finished["rows"], strict=True):
        for name in (column for column in again if column.endswith(("_ml", "_dice"))):
            assert again[name] == pytest.approx(before[name], rel=1e-4, abs=1e-3)


def test_loading_needs_no_weights_it_began_with(slice_run):
    seen = []

    def network(weights, **keywords):
        seen.append(weights)
        return slice_run["recipe"].build(**keywords)

    build_arguments = {**slice_run["recipe"].build_arguments, "weights": "nowhere.weights.h5"}
    load_network(replace(slice_run["recipe"], build=network, build_arguments=build_arguments), slice_run["folder"])
    assert seen == [None]


def test_network_of_another_recipe_or_unfinished_is_refused(stack_run, tmp_path):
    with pytest.raises(ValueError, match="holds a run of stacks, finished; expected a finished run of other"):
        load_network(replace(stack_run["recipe"], name="other"), stack_run["folder"])
    record = (stack_run["folder"] / "run.json").read_text()
    (tmp_path / "run.json").write_text(record.replace('"finished"', '"running"'))
    with pytest.raises(ValueError, match="holds a run of stacks, running; expected a finished run of stacks"):
        load_network(stack_run["recipe"], tmp_path)


def test_folder_of_other_arguments_or_split_is_refused(stack_run, slice_run):
    arguments = [stack_run[name] for name in ("cache", "split", "folder")]
    with pytest.raises(ValueError, match=r"learning_rate was 0\.01 and is now 0\.5"):
        run(replace(stack_run["recipe"], learning_rate=0.5), *arguments, fold=1)
    with pytest.raises(ValueError, match="fold was 1 and is now 0"):
        run(stack_run["recipe"], *arguments)
    other = {**stack_run["split"], "training": stack_run["split"]["test"], "test": stack_run["split"]["training"]}
    with pytest.raises(ValueError, match="holds a run on another split"):
        run(stack_run["recipe"], stack_run["cache"], other, stack_run["folder"], fold=1)
    with pytest.raises(ValueError, match="is now 'SliceRecipe'"):
        run(slice_run["recipe"], slice_run["cache"], slice_run["split"], stack_run["folder"], fold=1)


def test_folds_keep_both_phases_of_a_patient_together_and_test_every_group(hearts):
    patient = {record.subject_id: record.patient_id for record in hearts}
    group = {record.patient_id: record.group for record in hearts}
    folds = patient_folds(hearts, k=2)
    assert sorted(subject for split in folds for subject in split["test"]) == sorted(patient)
    for split in folds:
        parts = [{patient[subject] for subject in split[part]} for part in ("training", "validation", "test")]
        assert sum(map(len, parts)) == 10 == len(set.union(*parts))
        assert sum(map(len, split.values())) == 20
        assert sorted(group[name] for name in parts[2]) == ["DCM", "HCM", "MINF", "NOR", "RV"]


def test_data_are_known_by_their_subjects_and_spacings(hearts):
    described = running.describe_data(hearts)
    assert described == running.describe_data(list(hearts)[::-1])
    assert described["num_stacks"] == 20
    assert described["digest"] != running.describe_data(list(hearts)[1:])["digest"]


def test_data_are_called_synthetic_where_a_cohort_was_drawn(hearts, tmp_path):
    assert running.describe_data(hearts)["synthetic"] is False
    image = tmp_path / "training" / "patient001" / "patient001_frame01.nii.gz"
    drawn = replace(hearts[0], image_path=image)
    assert running.describe_data([drawn])["synthetic"] is False
    (tmp_path / "cohort.json").write_text("{}")
    assert running.describe_data([drawn])["synthetic"] is True


def test_a_row_measures_with_the_networks_of_another(slice_run, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)  # nothing is trained
    shutil.copytree(slice_run["folder"], tmp_path / "slices" / "fold_1")
    arguments = [slice_run[name] for name in ("cache", "split")]
    same = replace(slice_run["recipe"], name="same", trained_as="slices")
    rows = run(same, *arguments, tmp_path / "same" / "fold_1", fold=1, progress=False)
    for again, before in zip(rows, slice_run["rows"], strict=True):
        for name, value in before.items():
            assert again[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-3))
    record = runs.read_run(tmp_path / "same" / "fold_1")
    assert (record["arguments"]["trained_as"], record["epochs_run"]) == ("slices", 1)
    assert load_network(same, tmp_path / "same" / "fold_1")[0].count_params() == record["num_parameters"]
    assert read_rows(tmp_path / "same" / "fold_1" / "history.csv") == read_rows(slice_run["folder"] / "history.csv")
    turned = replace(same, name="turned", views=((90.0, 1.0),))
    other = run(turned, *arguments, tmp_path / "turned" / "fold_1", fold=1, progress=False)
    assert any(row["LV_pred_ml"] != pytest.approx(before["LV_pred_ml"]) for row, before in zip(other, rows))


@pytest.fixture
def beside(slice_run, tmp_path):
    """A folder of runs that holds the finished run of slices; a row that measures with its network; how to run such."""
    shutil.copytree(slice_run["folder"], tmp_path / "slices" / "fold_1")
    recipe = replace(slice_run["recipe"], name="same", trained_as="slices")

    def borrow(recipe, seed=0):
        folder = tmp_path / recipe.name / "fold_1"
        return run(recipe, slice_run["cache"], slice_run["split"], folder, fold=1, seed=seed, progress=False)

    return SimpleNamespace(recipe=recipe, borrow=borrow, source=tmp_path / "slices" / "fold_1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate was 0\.01 and is now 0\.5\. Use"),
        ({"epochs": 3, "batch_size": 4}, r"batch_size was 8 and is now 4; epochs was 1 and is now 3\. Use"),
        ({"loss_weights": {"areas_cm2": 1.0}}, r"loss_weights\.areas_cm2 was 0\.02 and is now 1\.0\. Use"),
        ({"loss": {"mask": keras.losses.MeanSquaredError()}}, r"loss\.areas_cm2 was \{.*\} and is now None"),
        ({"build_arguments": {"filters": 3}}, r"build_arguments\.filters was 2 and is now 3\. Use"),
        ({"frame": Frame(20, 20, 4.0)}, r"frame\.pixel_mm was 8\.0 and is now 4\.0\. Use"),
        ({"crop_px": 10}, r"crop_px was None and is now 10\. Use"),
        ({"augmentation": "strong"}, r"augmentation was 'none' and is now 'strong'\. Use"),
    ],
)
def test_networks_trained_otherwise_than_a_row_says_are_refused_naming_the_difference(beside, changes, message):
    with pytest.raises(ValueError, match=rf"trained otherwise than it says: in .*slices/fold_1 {message}"):
        beside.borrow(replace(beside.recipe, **changes))
    assert runs.read_run(beside.source.parent.parent / "same" / "fold_1")["status"] == "running"


def test_networks_of_another_seed_or_unfinished_are_refused(beside):
    with pytest.raises(ValueError, match=r"slices/fold_1 seed was 0 and is now 1\. Use"):
        beside.borrow(beside.recipe, seed=1)
    record = beside.source / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    with pytest.raises(ValueError, match=r"a run of slices, running; expected a finished run of slices"):
        beside.borrow(replace(beside.recipe, name="other"))


def test_the_weights_a_network_began_with_are_no_difference(beside):
    record = beside.source / "run.json"
    record.write_text(record.read_text().replace('"filters": 2', '"filters": 2, "weights": "file.weights.h5"'))
    begun = replace(beside.recipe, build_arguments={"filters": 2, "weights": None})
    assert len(beside.borrow(begun)) == 10


def test_networks_of_another_row_must_be_there_and_of_the_same_split(slice_run, tmp_path):
    recipe = replace(slice_run["recipe"], name="same", trained_as="slices")
    arguments = [slice_run[name] for name in ("cache", "split")]
    with pytest.raises(
        FileNotFoundError,
        match=r"same goes on from the networks of slices, and there is no run of it in .*slices/fold_1",
    ):
        run(recipe, *arguments, tmp_path / "same" / "fold_1", fold=1, progress=False)
    shutil.copytree(slice_run["folder"], tmp_path / "slices" / "fold_1")
    other = {**slice_run["split"], "training": slice_run["split"]["test"], "test": slice_run["split"]["training"]}
    with pytest.raises(ValueError, match=r"another split than .*same2/fold_1: what this one is tested on may be among"):
        run(recipe, slice_run["cache"], other, tmp_path / "same2" / "fold_1", fold=1, progress=False)
