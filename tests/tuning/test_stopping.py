"""A search that is stopped gives its trial back, also where nobody can be told any more."""

import sys

import pytest

from hcreg.tuning import PostgresOracle, PostgresTuner, TrialStore

pytestmark = pytest.mark.postgres


class ClosedTerminal:
    """Standard error of a terminal that was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")

    def flush(self):
        raise OSError(5, "Input/output error")


class Stopped(PostgresTuner):
    """Is stopped in its first trial, by the end of the terminal."""

    def run_trial(self, trial, *args, **kwargs):
        trial.hyperparameters.Float("rate", 0.0, 1.0)
        sys.stderr = ClosedTerminal()
        raise KeyboardInterrupt


class Whole(PostgresTuner):
    """Runs a trial to its end."""

    def run_trial(self, trial, *args, **kwargs):
        return trial.hyperparameters.Float("rate", 0.0, 1.0)


def tuner_of(kind, database, hyperparameters):
    oracle = PostgresOracle(database, "s", "loss", 1, algorithm="random", hyperparameters=hyperparameters, poll_s=0.05)
    return kind(oracle, code="the code")


def test_the_trial_goes_back_though_the_terminal_is_closed(database, monkeypatch):
    import keras_tuner

    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("rate", 0.0, 1.0)
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # put back afterwards
    with pytest.raises(KeyboardInterrupt):
        tuner_of(Stopped, database, hyperparameters).search()
    monkeypatch.undo()
    store = TrialStore(database)
    (row,) = store.table("s")
    assert (row["state"], row["message"]) == ("waiting", "interrupted")
    tuner_of(Whole, database, hyperparameters).search()
    (row,) = store.table("s")
    assert (row["state"], row["attempts"], row["message"]) == (
        "completed",
        2,
        None,
    )  # of the interruption nothing is left
    assert [attempt["message"] for attempt in store.trial("s", 0)["attempt_records"]] == ["interrupted", None]
