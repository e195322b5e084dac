"""Searches of models that train in an instant, for the tests of the tuner and of what it records."""

import keras
import numpy as np
import pytest

from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.tuner import PostgresTuner

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
DATA = {"x": X, "y": Y, "validation_data": (X, Y)}


class Quick(keras.Sequential):
    """A model whose epoch is one batch without tf.data and graphs, which take seconds to make."""

    script = None  # gives the validation loss of an epoch, where set

    def fit(self, x, y, validation_data, epochs=1, initial_epoch=0, callbacks=(), verbose=0, validation_freq=1):
        listed = keras.callbacks.CallbackList(list(callbacks), add_history=True, model=self)
        self.stop_training = False
        listed.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            listed.on_epoch_begin(epoch)
            self.reset_metrics()
            logs = {"loss": float(self.train_on_batch(x, y))}
            listed.on_train_batch_end(0, logs)
            self.reset_metrics()
            if (epoch + 1) % validation_freq == 0:
                logs["val_loss"] = float(self.test_on_batch(*validation_data))
                if self.script is not None:
                    logs["val_loss"] = self.script(epoch + 1)
            listed.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        listed.on_train_end()
        return self.history


def quick(learning_rate=0.01, units=1, script=None):
    model = Quick([keras.Input((4,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(learning_rate), "mse", run_eagerly=True)
    model.script = script
    return model


def build(hp):
    return quick(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log"))


def scripted(script):
    """A model function whose validation losses are script(learning rate, epoch)."""

    def build(hp):
        rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
        return quick(rate, script=lambda epoch: script(rate, epoch))

    return build


class At(keras.callbacks.Callback):
    """Does something at a moment of training, each time it comes or only the first."""

    def __init__(self, moment, action, epoch=None, once=True):
        super().__init__()
        self._moment, self._action, self._epoch, self._once = moment, action, epoch, once

    def __deepcopy__(self, memo):
        return self

    def _happens(self, moment, epoch=None):
        if moment == self._moment and epoch == self._epoch and self._action is not None:
            action = self._action
            if self._once:
                self._action = None
            action()

    def on_epoch_begin(self, epoch, logs=None):
        self._happens("epoch_begin", epoch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self._happens("epoch_end", epoch + 1)

    def on_train_end(self, logs=None):
        self._happens("train_end")


class Watch(keras.callbacks.Callback):
    """Notes with which epochs training goes on, and the state of model and optimiser at their beginning."""

    def __init__(self):
        super().__init__()
        self._seen = []

    def __deepcopy__(self, memo):
        return self

    @property
    def epochs(self):
        return [epoch for epoch, _ in self._seen]

    @property
    def states(self):
        return dict(self._seen)

    def on_epoch_begin(self, epoch, logs=None):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self._seen.append((epoch + 1, [keras.ops.convert_to_numpy(variable).copy() for variable in variables]))


def interrupt():
    raise KeyboardInterrupt


def make_tuner(database, hypermodel=build, *, max_trials=1, study="s", **options):
    of_tuner = {
        name: options.pop(name)
        for name in ("checkpoints", "measures", "code", "executions_per_trial", "heartbeat_s", "distribution_strategy")
        if name in options
    }
    options = {"algorithm": "random", "seed": 1, "lease_s": 60, "poll_s": 0.05, **options}
    oracle = PostgresOracle(database, study, options.pop("objective", "val_loss"), max_trials, **options)
    return PostgresTuner(oracle, hypermodel, **{"code": "the code", **of_tuner})


def search(tuner, epochs=3, callbacks=(), **options):
    tuner.search(**DATA, epochs=epochs, callbacks=list(callbacks), verbose=0, **options)


def interrupted(tuner, moment="epoch_begin", epoch=4, epochs=6, callbacks=(), **options):
    """Search until a Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        search(tuner, epochs, [*callbacks, At(moment, interrupt, epoch)], **options)


def states_of(store, study="s"):
    return [row["state"] for row in store.table(study)]
