"""An Optuna study of the finished trials: values, distributions, curves, states, and what belongs to them."""

import math
import sys

import pytest

from hcreg.tuning.optuna_export import export
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("error")

FLOAT = {"name": "lr", "default": 1e-5, "conditions": [], "min_value": 1e-5, "max_value": 0.1, "step": None}
SPACE = [
    {"class_name": "Float", "config": {**FLOAT, "sampling": "log"}},
    {"class_name": "Float", "config": {**FLOAT, "name": "dropout", "max_value": 0.5, "sampling": "linear"}},
    {"class_name": "Float", "config": {**FLOAT, "name": "decay", "sampling": "reverse_log"}},
    {
        "class_name": "Int",
        "config": {"name": "units", "min_value": 8, "max_value": 31, "step": 8, "sampling": "linear"},
    },
    {"class_name": "Int", "config": {"name": "filters", "min_value": 1, "max_value": 64, "step": 2, "sampling": "log"}},
    {"class_name": "Choice", "config": {"name": "optimizer", "values": ["adam", "sgd"], "ordered": False}},
    {"class_name": "Boolean", "config": {"name": "augment", "default": False}},
    {"class_name": "Fixed", "config": {"name": "batch_size", "value": 8}},
]
VALUES = {
    "lr": 1e-3,
    "dropout": 0.25,
    "decay": 0.01,
    "units": 24,
    "filters": 16,
    "optimizer": "sgd",
    "augment": True,
    "batch_size": 8,
}


@pytest.fixture
def store(database):
    """One trial of each state, 0 to 4, with the best at 3."""
    store = TrialStore(database)
    study = store.join("search", {"objective": "val_acc", "direction": "max", "space": SPACE}, max_trials=9)
    values = [{**VALUES, "lr": lr} for lr in (1e-3, 1e-1, 1e-5, 1e-4, 1e-2)]
    values[3] |= {"revealed": 7}
    leases = [store.take(study, f"w{n}", Wish(values[n], str(n), n, {}), about={"host": f"gpu{n}"}) for n in range(5)]
    store.record_epochs(leases[0], [(0, 1, "val_acc", 0.5), (0, 2, "val_acc", 0.75), (0, 1, "loss", 3.0)])
    store.record_epochs(leases[0], [(1, 1, "val_acc", 0.25)])
    store.record_epochs(leases[1], [(0, 1, "val_acc", math.nan)])
    store.end(leases[0], "completed", objective=0.75, best_epoch=2, metrics={"test_acc": 0.5, "dice": math.nan})
    store.end(leases[1], "diverged", message="val_acc is nan")
    store.end(leases[2], "failed", message="it raised")
    store.end(leases[3], "completed", objective=0.875)
    yield store
    store.close()


def test_finished_trials_are_copied(store, tmp_path):
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    assert store.export_optuna("search", storage).study_name == "search"
    study = optuna.load_study(study_name="search", storage=storage)
    states = optuna.trial.TrialState
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.user_attrs == {"objective": "val_acc"}
    assert [trial.user_attrs["number"] for trial in study.trials] == [0, 1, 2, 3]
    assert [trial.state for trial in study.trials] == [states.COMPLETE, states.FAIL, states.FAIL, states.COMPLETE]
    assert [trial.value for trial in study.trials] == [0.75, None, None, 0.875]
    assert (study.best_trial.number, study.best_params["lr"]) == (3, 1e-4)
    first, diverged, failed, best = study.trials
    assert first.intermediate_values == {1: 0.375, 2: 0.75}
    assert list(diverged.intermediate_values) == [1]
    assert first.params == VALUES
    assert best.params == {**VALUES, "lr": 1e-4, "revealed": 7}
    assert (first.user_attrs["test_acc"], first.user_attrs["best_epoch"]) == (0.5, 2)
    assert math.isnan(first.user_attrs["dice"])
    assert [diverged.user_attrs[name] for name in ("state", "message", "host")] == [
        "diverged",
        "val_acc is nan",
        "gpu1",
    ]
    assert [failed.user_attrs[name] for name in ("state", "message", "host")] == ["failed", "it raised", "gpu2"]
    row = store.table("search")[0]
    assert first.datetime_start.astimezone() == row["started_at"]
    assert first.datetime_complete.astimezone() == row["finished_at"]


def test_distributions_are_those_of_the_space(store):
    kinds = optuna.distributions
    study = export(store, "search", None)
    assert study.trials[3].distributions == {
        "lr": kinds.FloatDistribution(1e-5, 0.1, log=True),
        "dropout": kinds.FloatDistribution(1e-5, 0.5),
        "decay": kinds.FloatDistribution(1e-5, 0.1),
        "units": kinds.IntDistribution(8, 24, step=8),  # 31 is no step of 8 from 8
        "filters": kinds.IntDistribution(1, 64, log=True),
        "optimizer": kinds.CategoricalDistribution(("adam", "sgd")),
        "augment": kinds.CategoricalDistribution((False, True)),
        "batch_size": kinds.CategoricalDistribution((8,)),
        "revealed": kinds.CategoricalDistribution((7,)),
    }
    optuna.importance.get_param_importances(study, params=["lr"])


def test_a_study_of_that_name_is_left_as_it_is(store, tmp_path):
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    store.export_optuna("search", storage)
    with pytest.raises(ValueError, match=r"The storage has a study 'search' already\. Name another storage, or delete"):
        store.export_optuna("search", storage)
    assert len(optuna.load_study(study_name="search", storage=storage).trials) == 4


def test_a_broken_export_leaves_nothing(store, tmp_path, monkeypatch):
    def breaks(self, trials):
        self.add_trial(trials[0])
        raise OSError("disk full")

    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    monkeypatch.setattr(optuna.Study, "add_trials", breaks)
    with pytest.raises(OSError, match="disk full"):
        store.export_optuna("search", storage)
    assert optuna.get_all_study_names(storage) == []


def test_an_unknown_study_makes_none(store, tmp_path):
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    with pytest.raises(ValueError, match="There is no study 'other'"):
        store.export_optuna("other", storage)
    assert optuna.get_all_study_names(storage) == []


def test_a_study_without_trials(store):
    store.join("empty", {"objective": "loss", "direction": "min", "space": SPACE})
    study = export(store, "empty", None)
    assert study.trials == []
    assert study.direction == optuna.study.StudyDirection.MINIMIZE


def test_without_optuna_it_says_so(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="The export needs Optuna: pip install optuna"):
        store.export_optuna("search", None)
