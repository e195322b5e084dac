"""Run folders: what may go on, what is refused, what is found."""

import json

import numpy as np
import pytest

from hcreg import runs
from hcreg.datasets.splits import read_split

SPLIT = {"training": ["001_HC", "002_HC"], "validation": ["003_HC"], "test": ["004_HC"]}
LOSS = {"name": "Huber", "delta": 1.0}
ARGUMENTS = {"row": "cnn", "learning_rate": 0.001, "input_shape": (128, 128, 1), "loss": LOSS}


@pytest.fixture
def opened(tmp_path):
    folder = tmp_path / "cnn" / "fold_0"
    runs.open_run(folder, ARGUMENTS, SPLIT)
    return folder


def test_a_new_run_records_what_decides_its_result(tmp_path):
    record = runs.open_run(tmp_path / "run", ARGUMENTS, SPLIT)
    assert record["status"] == "running"
    assert record["arguments"] == {**ARGUMENTS, "input_shape": [128, 128, 1]}
    assert record["versions"]["numpy"] == np.__version__
    assert record["device"]["backend"] in {"tensorflow", "jax"}
    assert {"commit", "started", "split_checksum"} <= set(record)
    assert record == json.loads((tmp_path / "run" / "run.json").read_text())
    assert read_split(tmp_path / "run" / "split.csv") == SPLIT


def test_the_same_arguments_go_on_with_it_tuples_and_numpy_numbers_too(opened):
    before = (opened / "run.json").read_bytes()
    again = {**ARGUMENTS, "learning_rate": np.float64(0.001)}
    assert runs.open_run(opened, again, SPLIT)["status"] == "running"
    assert (opened / "run.json").read_bytes() == before


def test_the_order_of_subjects_in_a_part_does_not_matter(opened):
    before = runs.read_run(opened)
    assert runs.open_run(opened, ARGUMENTS, {**SPLIT, "training": ["002_HC", "001_HC"]}) == before


def test_a_finished_run_is_read_back_with_its_results(opened):
    record = runs.open_run(opened, ARGUMENTS, SPLIT)
    runs.close_run(opened, record, epochs_run=np.int64(7), peak_memory_mb=float("nan"))
    closed = runs.open_run(opened, ARGUMENTS, SPLIT)
    assert closed["status"] == "finished"
    assert (closed["epochs_run"], closed["peak_memory_mb"]) == (7, None)
    assert {name: closed[name] for name in record if name != "status"} == {
        name: record[name] for name in record if name != "status"
    }


def test_another_split_is_refused(opened):
    swapped = {**SPLIT, "training": ["001_HC", "004_HC"], "test": ["002_HC"]}
    words = r"fold_0 holds a run on another split \(checksum \w{16}, now \w{16}\).*test images may be among"
    with pytest.raises(ValueError, match=words):
        runs.open_run(opened, ARGUMENTS, swapped)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.01}, r"learning_rate was 0\.001 and is now 0\.01\. Use the same arguments to go on"),
        ({"loss": {"name": "Huber", "delta": 0.5}}, r"loss\.delta was 1\.0 and is now 0\.5"),
        ({"augmentation": "none"}, r"augmentation was None and is now 'none'"),
        ({"input_shape": (64, 64, 1)}, r"input_shape was \[128, 128, 1\] and is now \[64, 64, 1\]"),
        ({"row": "a", "learning_rate": 1}, r"learning_rate was 0\.001 and is now 1; row was 'cnn' and is now 'a'"),
    ],
)
def test_other_arguments_are_refused_with_the_difference(opened, change, words):
    before = (opened / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run of other arguments: " + words):
        runs.open_run(opened, {**ARGUMENTS, **change}, SPLIT)
    assert (opened / "run.json").read_bytes() == before


def test_a_finished_run_of_other_arguments_is_refused_too(opened):
    runs.close_run(opened, runs.read_run(opened))
    with pytest.raises(ValueError, match="fold was None and is now 1"):
        runs.open_run(opened, {**ARGUMENTS, "fold": 1}, SPLIT)


def test_find_run_finds_the_folder_itself_or_the_one_below(opened, tmp_path):
    assert runs.find_run(opened) == opened
    assert runs.find_run(str(opened)) == opened
    assert runs.find_run(tmp_path) == opened


def test_find_run_names_one_of_many(opened, tmp_path):
    runs.open_run(tmp_path / "cnn" / "fold_1", ARGUMENTS, SPLIT)
    with pytest.raises(ValueError, match=r"holds 2 runs; name one of them, such as .*fold_0\."):
        runs.find_run(tmp_path)
    assert runs.find_run(opened) == opened


def test_find_run_takes_a_named_folder_though_runs_lie_below(opened):
    runs.open_run(opened / "nested", ARGUMENTS, SPLIT)
    assert runs.find_run(opened) == opened


def test_find_run_says_where_there_is_none(tmp_path):
    words = rf"{tmp_path} is not a run folder: it has no run\.json\. A run folder is"
    with pytest.raises(FileNotFoundError, match=words):
        runs.find_run(tmp_path)


def test_read_run_points_to_the_folder_that_was_meant(opened, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a run folder.*Did you mean .*fold_0\?"):
        runs.read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"status": "fin', r"run\.json is not readable as JSON"),
        ('{"status": "finished"}', r"run\.json lacks arguments, split_checksum: .*cut off"),
        ("3", r"run\.json lacks status, arguments, split_checksum"),
        ('"status arguments split_checksum"', r"run\.json lacks status, arguments, split_checksum"),
    ],
)
def test_a_damaged_run_file_is_named(opened, content, words):
    (opened / "run.json").write_text(content)
    for function in (runs.read_run, runs.find_run, lambda folder: runs.open_run(folder, ARGUMENTS, SPLIT)):
        with pytest.raises(ValueError, match=words):
            function(opened)


def test_what_is_named_instead_of_a_run_folder_is_said(tmp_path):
    file = tmp_path / "checkpoint.weights.h5"
    file.write_text("")
    with pytest.raises(FileNotFoundError, match=rf"is a file\. Name the run folder it lies in: {tmp_path}\."):
        runs.find_run(file)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere, so no run in it"):
        runs.find_run(tmp_path / "nowhere")
