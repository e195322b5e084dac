"""Loggers get what the history gets, one curve for a training that goes on; what is missing is said at once."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest

from hcreg import loggers
from hcreg.files import read_json, write_json


class Recorder(ModuleType):
    """Stands for wandb and for mlflow: keeps what it is told."""

    def __init__(self, name):
        super().__init__(name)
        self.told, self.opened = [], 0

    def init(self, **given):
        self.opened += 1
        self.told.append(("init", given))
        identity = given["id"] or f"new{self.opened}"
        return SimpleNamespace(
            id=identity,
            log=lambda values, step: self.told.append((identity, step, values)),
            finish=lambda: self.told.append("finish"),
        )

    def start_run(self, **given):
        self.opened += 1
        self.told.append(("start_run", given))
        return SimpleNamespace(info=SimpleNamespace(run_id=given["run_id"] or f"new{self.opened}"))

    def log_params(self, values):
        self.told.append(("params", values))

    def log_metrics(self, values, step):
        self.told.append(("metrics", step, values))

    def end_run(self):
        self.told.append("end_run")


@pytest.fixture
def packages(monkeypatch):
    found = {name: Recorder(name) for name in ("wandb", "mlflow")}
    for name, package in found.items():
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return SimpleNamespace(**found)


def train(folder, names, first_epoch=0, epochs=2, broken=False):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    followers = loggers.callbacks(names, folder)
    x = np.full((4, 1), np.nan if broken else 1.0)
    watchdogs = [keras.callbacks.LambdaCallback(on_epoch_end=_stop)] if broken else []
    try:
        model.fit(x, x, initial_epoch=first_epoch, epochs=epochs, verbose=0, callbacks=[*followers, *watchdogs])
    finally:
        for follower in followers:
            getattr(follower, "close", lambda: None)()


def _stop(epoch, logs):
    raise FloatingPointError(f"epoch {epoch}")


def test_each_epoch_is_told_under_its_number_and_a_resumed_run_is_the_same_run(packages, tmp_path):
    folder = tmp_path / "row" / "fold_0"
    write_json(folder / "run.json", {"arguments": {"epochs": 3, "build_arguments": {"trim": 1.25}}})
    train(folder, ["wandb", "mlflow"])
    train(folder, ["wandb", "mlflow"], first_epoch=2, epochs=3)

    arguments = {"epochs": 3, "build_arguments.trim": 1.25}
    (_, first), *epochs, finish = packages.wandb.told[:4]
    assert (first["name"], first["config"], first["project"]) == ("row/fold_0", arguments, "hcreg")
    assert [(identity, step, list(values)) for identity, step, values in epochs] == [
        ("new1", 1, ["loss"]),
        ("new1", 2, ["loss"]),
    ]
    assert finish == "finish"
    (_, again), third, _ = packages.wandb.told[4:]
    assert (again["id"], again["resume"], third[:2]) == ("new1", "allow", ("new1", 3))

    assert [told for told in packages.mlflow.told if told[0] == "params"] == [("params", arguments)]  # once
    assert [told[1] for told in packages.mlflow.told if told[0] == "metrics"] == [1, 2, 3]
    assert packages.mlflow.told.count("end_run") == 2
    assert read_json(folder / loggers.IDENTITIES) == {"wandb": "new1", "mlflow": "new1"}


def test_a_project_of_ones_own_is_taken(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "heads")
    train(tmp_path, ["wandb"], epochs=1)
    assert packages.wandb.told[0][1]["project"] == "heads"


def test_a_training_that_fails_closes_its_runs_once(packages, tmp_path):
    with pytest.raises(FloatingPointError, match="epoch 0"):
        train(tmp_path, ["wandb", "mlflow"], broken=True)
    assert packages.wandb.told.count("finish") == packages.mlflow.told.count("end_run") == 1
    train(tmp_path, ["wandb"], epochs=1)
    assert packages.wandb.told.count("finish") == 2


def test_names_are_checked_before_training(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"one of tensorboard, wandb, mlflow\. Received: 'comet'"):
        loggers.callbacks(["tensorboard", "comet"], tmp_path)
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(ImportError, match=rf'pip install "hcreg\[{name}\]"'):
            loggers.callbacks([name], tmp_path)
    assert loggers.callbacks([], tmp_path) == []
    assert loggers.checked("tensorboard") == ("tensorboard",)


@pytest.mark.proof
def test_mlflow_itself_keeps_the_curve(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason='needs pip install ".[mlflow]"')
    mlflow = importlib.import_module("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    folder = tmp_path / "row" / "fold_0"
    write_json(folder / "run.json", {"arguments": {"epochs": 3}})
    train(folder, ["mlflow"])
    train(folder, ["mlflow"], first_epoch=2, epochs=3)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "row/fold_0"
    assert run.data.params == {"epochs": "3"}
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3]


@pytest.mark.proof
def test_wandb_itself_keeps_the_curve_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason='needs pip install ".[wandb]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "row" / "fold_0"
    write_json(folder / "run.json", {"arguments": {"epochs": 2}})
    train(folder, ["wandb"])
    identity = read_json(folder / loggers.IDENTITIES)["wandb"]
    assert list((folder / "wandb").glob(f"offline-run-*-{identity}"))
