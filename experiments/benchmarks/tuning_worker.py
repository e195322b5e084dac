"""A worker of the searches that `tuning_chaos` disturbs: a process of its own, which prints what it did.

python -m experiments.benchmarks.tuning_worker STUDY SETTINGS

It says when it is ready and begins at a line on standard input, so that all begin together.
"""

import json
import math
import os
import sys
import time

import keras_tuner

from hcreg.tuning.database import Database
from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.store import TrialStore
from hcreg.tuning.tuner import PostgresTuner

DATABASE_VARIABLE = "HCREG_BENCHMARK_DATABASE"
LOW, HIGH = 1e-5, 1e-1
BEST_EXPONENT = -3.0
RAISES_IN_EPOCH = 2
PATIENCE_S = 120  # not for ever: whoever started the worker may be gone


def say(event, **more):
    """Print a line of JSON with the time by the clock that all processes of a machine share."""
    print(json.dumps({"event": event, "at_s": time.monotonic(), "pid": os.getpid(), **more}), flush=True)


def curve(learning_rate, epoch):
    """Loss after an epoch: a parabola over the logarithm of the learning rate, lower with every epoch.

    Parameters
    ----------
    learning_rate : float
    epoch : int
        From 1.

    Returns
    -------
    float

    Examples
    --------
    >>> curve(1e-3, 1), round(curve(1e-2, 2), 9)
    (2.0, 2.5)
    """
    return 1 + (math.log10(learning_rate) - BEST_EXPONENT) ** 2 + 1 / epoch


class RetryingDatabase(Database):
    """Counts, over all connections of the process, how often a statement or transaction was left and begun again."""

    num_retried = 0

    def _leave_transaction(self):
        RetryingDatabase.num_retried += 1
        super()._leave_transaction()


class ToldStore(TrialStore):
    """Says which of the ends of trials counted."""

    def end(self, lease, state, **more):
        """As of `TrialStore`."""
        is_kept = super().end(lease, state, **more)
        say("end", number=lease.number, attempt=lease.attempt, state=state, is_kept=is_kept)
        return is_kept


class CurveTuner(PostgresTuner):
    """Runs trials that compute a curve slowly, and writes what a trial with training would."""

    def __init__(self, oracle, epochs, epoch_s, raising):
        super().__init__(oracle, code="curve")
        self.epochs, self.epoch_s, self.raising = epochs, epoch_s, frozenset(raising)

    def run_trial(self, trial, *args, **kwargs):
        """Epoch by epoch, on from the last one whose state was saved."""
        lease = self.oracle.held[trial.trial_id].lease
        state = self.checkpoints.load(lease.number, "state") if lease.attempt > 1 else None
        losses, unsent = ([] if state is None else json.loads(state)), []
        while len(losses) < self.epochs:
            time.sleep(self.epoch_s)
            epoch = len(losses) + 1
            if lease.number in self.raising and epoch == RAISES_IN_EPOCH:
                raise RuntimeError(f"trial {lease.number} raises on purpose")
            losses.append(curve(lease.values["learning_rate"], epoch))
            say("epoch", number=lease.number, attempt=lease.attempt, epoch=epoch)
            unsent += [(0, epoch, "val_loss", losses[-1]), (0, epoch, "excess", losses[-1] - 1)]
            try:
                is_held = self.oracle.store.record_epochs(lease, unsent)
            except OSError:  # the server is away for longer than this call waits: they go with the next ones
                continue
            unsent = []
            if not is_held or not self.checkpoints.save(lease, "state", json.dumps(losses).encode()):
                break
        if unsent:
            self.oracle.store.record_epochs(lease, unsent)
        self.checkpoints.save(lease, "model", json.dumps(losses).encode())
        return {"val_loss": losses}


def network(hp):
    """A network that trains in no time.

    Parameters
    ----------
    hp : keras_tuner.HyperParameters

    Returns
    -------
    keras.Model
    """
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("learning_rate", LOW, HIGH, sampling="log")), loss="mse")
    return model


def data():
    """Inputs and a target that depends on them.

    Returns
    -------
    dict
        Of ``model.fit``; not shuffled, so that the batches of a training are the same though it was interrupted.
    """
    import numpy as np

    x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    y = (x @ [1.0, -2.0, 0.5, 0.0] + np.abs(x[:, 3])).astype("float32")[:, None]
    return {"x": x[:64], "y": y[:64], "validation_data": (x[64:], y[64:]), "shuffle": False, "batch_size": 8}


def slow_epochs(epoch_s):
    """A callback that makes epochs last, and says which were run.

    Parameters
    ----------
    epoch_s : float, s

    Returns
    -------
    keras.callbacks.Callback
    """
    import keras

    class Slow(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            time.sleep(epoch_s)

        def on_epoch_end(self, epoch, logs=None):
            say("epoch", epoch=epoch + 1, number=self.number, attempt=self.attempt)

    return Slow()


class TrainingTuner(PostgresTuner):
    """Trains `network`."""

    def __init__(self, oracle, epochs, epoch_s):
        super().__init__(oracle, network)
        self.epochs, self.epoch_s = epochs, epoch_s

    def run_trial(self, trial, *args, **kwargs):
        """As of `PostgresTuner`, with `data` and slow epochs."""
        lease = self.oracle.held[trial.trial_id].lease
        slow = slow_epochs(self.epoch_s)
        slow.number, slow.attempt = lease.number, lease.attempt
        return super().run_trial(trial, epochs=self.epochs, callbacks=[slow], verbose=0, **data())


def search(study, settings):
    """Take part in a search until it is at its end.

    Parameters
    ----------
    study : str
    settings : dict
        ``kind`` ("curve" or "training"), ``max_trials``, ``epochs``, ``epoch_s``, ``raising`` (numbers of trials),
        ``lease_s``, ``algorithm``, ``seed``.
    """
    space = keras_tuner.HyperParameters()
    space.Float("learning_rate", LOW, HIGH, sampling="log")
    oracle = PostgresOracle(
        ToldStore(RetryingDatabase(DATABASE_VARIABLE, PATIENCE_S)),
        study,
        keras_tuner.Objective("val_loss", "min"),
        settings["max_trials"],
        algorithm=settings["algorithm"],
        seed=settings["seed"],
        hyperparameters=space,
        lease_s=settings["lease_s"],
        poll_s=1,
    )
    if settings["kind"] == "curve":
        tuner = CurveTuner(oracle, settings["epochs"], settings["epoch_s"], settings["raising"])
    else:
        tuner = TrainingTuner(oracle, settings["epochs"], settings["epoch_s"])
    tuner.search(verbose=0)


def main(arguments=None):
    """Say that everything is imported, wait for a line, search."""
    study, settings = sys.argv[1:] if arguments is None else arguments
    say("ready")
    if not sys.stdin.readline():  # whoever started this is gone
        return 1
    search(study, json.loads(settings))
    say("done", num_retried=RetryingDatabase.num_retried)
    return 0


if __name__ == "__main__":
    sys.exit(main())
