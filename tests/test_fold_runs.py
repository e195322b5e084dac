"""A run of one row and fold: made once, read ever after, and closed with what came of it."""

import math

import pytest

from hcreg import fold_runs, runs
from hcreg.datasets.synthetic import cohort

SPLIT = {"training": ["a"], "validation": ["b"], "test": ["c"]}
ROWS = {part: [{"subject_id": name, "fold": 2, "value": 1.5}] for part, name in (("validation", "b"), ("test", "c"))}
HISTORY = [{"epoch": 1, "val_loss": 0.5, "seconds": 2.0}, {"epoch": 2, "val_loss": 0.7, "seconds": 3.0}]


def opened(folder, row="first"):
    return runs.open_run(folder, {"row": row, "seed": 0}, SPLIT)


def test_a_run_is_made_once_and_read_ever_after(tmp_path):
    made = []

    def make():
        made.append(runs.read_run(tmp_path)["status"])
        return ROWS, HISTORY, {"num_parameters": 7}

    assert fold_runs.complete(tmp_path, opened(tmp_path), 0, make) == ROWS["test"]
    (tmp_path / "training_state.npz").write_bytes(b"left by a kill right after the run was closed")
    assert fold_runs.complete(tmp_path, opened(tmp_path), 0, make) == ROWS["test"]
    assert made == ["running"]
    assert not (tmp_path / "training_state.npz").exists()
    record = runs.read_run(tmp_path)
    assert record["status"] == "finished"
    assert (record["num_parameters"], record["epochs_run"], record["best_epoch"]) == (7, 2, 1)
    assert record["training_seconds"] == 5
    assert (tmp_path / "validation_predictions.csv").read_text() == "subject_id,fold,value\nb,2,1.5\n"


def test_facts_come_before_what_the_history_says(tmp_path):
    fold_runs.complete(tmp_path, opened(tmp_path), 0, lambda: (ROWS, HISTORY, {"training_seconds": 9.0}))
    assert runs.read_run(tmp_path)["training_seconds"] == 9


def test_what_fails_leaves_the_run_open(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fold_runs.complete(tmp_path, opened(tmp_path), 0, stop)
    assert runs.read_run(tmp_path)["status"] == "running"
    with pytest.raises(ValueError, match="holds a run of first, running; expected a finished run of first"):
        fold_runs.finished(tmp_path, "first")


def test_only_a_finished_run_of_the_row_is_gone_on_with(tmp_path):
    fold_runs.complete(tmp_path, opened(tmp_path), 0, lambda: (ROWS, HISTORY, {}))
    assert fold_runs.finished(tmp_path, "first")["arguments"]["row"] == "first"
    with pytest.raises(ValueError, match="holds a run of first, finished; expected a finished run of second"):
        fold_runs.finished(tmp_path, "second")


class Record:
    def __init__(self, subject_id, spacing_mm=(1.0, 1.0, 2.0)):
        self.subject_id, self.spacing_mm = subject_id, spacing_mm


def test_data_are_known_by_subjects_spacings_and_where_they_lie(tmp_path):
    records = [Record("a"), Record("b", (1.0, 1.0, math.pi))]
    described = fold_runs.describe_volumes(records, [tmp_path])
    assert described == fold_runs.describe_volumes(records[::-1], [tmp_path])
    assert (described["num_stacks"], described["synthetic"]) == (2, False)
    other = fold_runs.describe_volumes([records[0], Record("b")], [tmp_path])
    assert other["digest"] != described["digest"]
    cohort.claim(tmp_path / "drawn", {})
    assert fold_runs.describe_volumes(records, [tmp_path, tmp_path / "drawn"])["synthetic"] is True
