"""What is kept of a trial while it trains: metrics by epoch, best weights, the state another worker goes on from."""

import io
import sys
import time

import keras
import numpy as np

from hcreg import model_state
from hcreg.files import plain

_KEPT = (bool, int, float, str, type(None), np.floating, np.integer)
_LARGEST_SHARE = 0.1  # of the time of training that saving its state may take


class StateMisfit(ValueError):
    """The state of an earlier attempt is of another model."""


class Recorder(keras.callbacks.Callback):
    """Records each epoch of one execution of a trial, and goes on where an earlier attempt stopped.

    Parameters
    ----------
    store : hcreg.tuning.store.TrialStore
    checkpoints : hcreg.tuning.checkpoints.Checkpoints
    lease : hcreg.tuning.records.Lease
    heartbeat : hcreg.tuning.heartbeat.Heartbeat
    objective : keras_tuner.Objective
    callbacks : list of keras.callbacks.Callback
        The others; their counters (patience, best value) and best weights are part of the state.
    progress : Progress
        Of the trial: what is done; changed with each epoch.

    Notes
    -----
    The state is written after every epoch, unless writing it takes more than a tenth of the time; at most as many
    epochs are lost as pass meanwhile. Training stops where the objective is not finite, for it would not become so
    again, and where another worker has taken the trial over.
    """

    def __init__(self, store, checkpoints, lease, heartbeat, objective, callbacks, progress):
        super().__init__()
        self.store, self.checkpoints, self.lease, self.heartbeat = store, checkpoints, lease, heartbeat
        self.objective, self.others, self.progress = objective, callbacks, progress
        self._unsent, self._has_warned = [], False
        self._saved_at, self._saving_s = None, 0.0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()
        if self.progress.arrays is not None:
            if not self.model.built and self.progress.build_config:  # by its first batch, with TensorFlow
                self.model.build_from_config(self.progress.build_config)
            try:
                model_state.restore(self.model, self.progress.arrays, f"the state of trial {self.lease.number}")
            except ValueError as error:
                raise StateMisfit(str(error)) from None
            _restore_callbacks(self.others, self.progress.callbacks, self.progress.callback_weights)
            self.progress.arrays = None
            done = self.progress.num_epochs
            print(f"trial {self.lease.number}: going on after epoch {done}", file=sys.stderr)

    def on_train_batch_end(self, batch, logs=None):
        if self.heartbeat.lost:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in (logs or {}).items()}
        self.progress.add_epoch(logs)
        execution = len(self.progress.finished)
        self._unsent += [(execution, epoch + 1, name, value) for name, value in logs.items()]
        if self._unsent and not self._send():
            self.model.stop_training = True
            return
        value = self.objective.get_value(logs) if self.objective.has_value(logs) else None
        if value is not None and not np.isfinite(value):
            self.model.stop_training = True
            return
        best = self.progress.best_value
        # Where no epoch has the objective, the last is kept; where some have it (validation_freq), the best of those.
        if best is None or (value is not None and self.objective.better_than(value, best)):
            self.progress.best_value = value
            self.progress.best_weights = bytes(model_state.weights_bytes(self.model, with_optimizer=False))
        self.progress.has_stopped = bool(self.model.stop_training)
        if not self._unsent:  # else the database does not answer: training goes on without it
            self._save_state()

    def _send(self):
        """Write the epochs; where the database does not answer they go with the next ones. False: taken over."""
        try:
            is_held = self.store.record_epochs(self.lease, self._unsent)
        except OSError as error:
            if not self._has_warned:
                print(f"trial {self.lease.number}: metrics wait for the database: {error}", file=sys.stderr)
            self._has_warned = True
            return True
        self._unsent, self._has_warned = [], False
        return is_held

    def on_train_end(self, logs=None):
        until = time.monotonic() + self.store.database.patience_s
        while self._unsent and not self.heartbeat.lost:  # there is no later epoch for them to go with
            self._send()
            if time.monotonic() > until:
                return
            if self._unsent:
                time.sleep(1)

    def _save_state(self):
        now = time.monotonic()
        if self._saving_s > _LARGEST_SHARE * (now - self._saved_at):
            return
        try:
            self.checkpoints.save(self.lease, "state", self.progress.to_bytes(self.model, self.others))
        except OSError as error:
            print(f"trial {self.lease.number}: no state is saved, training goes on: {error}", file=sys.stderr)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - now


class Progress:
    """How far a trial has come: finished executions, epochs of the present one, the best weights of all.

    Attributes
    ----------
    finished : list
        Histories of the executions before, or what a custom ``fit`` returned instead.
    history : dict of str to list of float
        Of the present one.
    best_value : float or None
        Of the objective.
    best_weights : bytes or None
        A ``.weights.h5`` file.
    has_stopped : bool
        A callback ended the present execution: no epoch is to follow.
    build_config : dict or None
        Input shapes, for models that only training builds.
    """

    def __init__(self):
        self.finished, self.history = [], {}
        self.best_value = self.best_weights = None
        self.has_stopped, self.build_config = False, None
        self.arrays, self.callbacks, self.callback_weights = None, [], {}

    @property
    def num_epochs(self):
        """Epochs done of the present execution."""
        return max((len(values) for values in self.history.values()), default=0)

    def add_epoch(self, logs):
        """Append an epoch's metrics."""
        done = self.num_epochs
        for name, value in logs.items():
            values = self.history.setdefault(name, [])
            values += [float("nan")] * (done - len(values)) + [value]

    def end_execution(self, result):
        """Note the result of the execution, its history or what was returned instead, and begin the next."""
        self.finished.append(result)
        self.history, self.has_stopped = {}, False

    def to_bytes(self, model, callbacks):
        """The whole state, for `from_bytes`."""
        settings, weights = _callback_states(callbacks)
        extra = {
            "finished": self.finished,
            "history": self.history,
            "best_value": self.best_value,
            "has_stopped": self.has_stopped,
            "build_config": plain(model.get_build_config()),
            "callbacks": settings,
        }
        file = io.BytesIO()
        model_state.save_state(file, model, extra)
        other = io.BytesIO()
        best = np.frombuffer(self.best_weights or b"", np.uint8)
        np.savez(other, best=best, **weights)
        size = len(file.getbuffer()).to_bytes(8, "little")
        return size + file.getbuffer() + other.getbuffer()

    @classmethod
    def from_bytes(cls, content, name):
        """Read what `to_bytes` made.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        progress, size = cls(), int.from_bytes(content[:8], "little")
        progress.arrays, extra = model_state.load_state(io.BytesIO(content[8 : 8 + size]), name)
        try:
            with np.load(io.BytesIO(content[8 + size :])) as other:
                progress.best_weights = other["best"].tobytes() or None
                progress.callback_weights = {key: other[key] for key in other.files if key != "best"}
            progress.finished, progress.history = extra["finished"], extra["history"]
            progress.best_value, progress.callbacks = extra["best_value"], extra["callbacks"]
            progress.has_stopped, progress.build_config = extra["has_stopped"], extra["build_config"]
        except Exception as error:  # whatever a damaged file makes of it
            raise ValueError(f"{name} cannot be read ({error})") from error
        return progress


def _callback_states(callbacks):
    """Counters of each callback as JSON, and its lists of weights as arrays."""
    settings, weights = [], {}
    for index, callback in enumerate(callbacks):
        kept = {}
        for name, value in vars(callback).items():
            if isinstance(value, (np.floating, np.integer)):
                value = value.item()
            if isinstance(value, _KEPT) and not name.startswith("_"):
                kept[name] = value
            elif isinstance(value, list) and value and all(isinstance(array, np.ndarray) for array in value):
                weights |= {f"{index}.{name}.{number}": array for number, array in enumerate(value)}
        settings.append({"class": type(callback).__name__, "settings": kept})
    return settings, weights


def _restore_callbacks(callbacks, settings, weights):
    if [type(callback).__name__ for callback in callbacks] != [entry["class"] for entry in settings]:
        return  # other callbacks than before: theirs begin anew
    for callback, entry in zip(callbacks, settings):
        vars(callback).update(entry["settings"])
    arrays = {}
    for key, array in weights.items():
        index, name, number = key.split(".")
        arrays.setdefault((int(index), name), {})[int(number)] = array
    for (index, name), parts in arrays.items():
        setattr(callbacks[index], name, [parts[number] for number in range(len(parts))])
