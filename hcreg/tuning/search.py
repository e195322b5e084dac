"""A learning-rate search in one call, which any number of processes may join."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from hcreg.progress import progress_bar
from hcreg.tuning.checkpoints import IN_STORE
from hcreg.tuning.database import DATABASE_VARIABLE
from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.server import embedded_database
from hcreg.tuning.store import TrialStore
from hcreg.tuning.tuner import PostgresTuner, source_of

HYPERPARAMETER = "learning_rate"
_DIRECTIONS = {
    "min": {"loss", "error", "mae", "mse", "mape", "msle", "rmse", "crossentropy", "hinge", "divergence"},
    "max": {"accuracy", "acc", "auc", "precision", "recall"},
}


@dataclass(frozen=True)
class LearningRateSearch:
    """What a search found.

    Attributes
    ----------
    store : TrialStore
    study : str
    tuner : PostgresTuner
        That ran it here.
    """

    store: TrialStore
    study: str
    tuner: PostgresTuner

    @property
    def table(self):
        """Rows of `TrialStore.table`."""
        return self.store.table(self.study)

    @property
    def best(self):
        """The row of the best trial.

        Raises
        ------
        ValueError
            If no trial was completed.
        """
        best = self.store.best(self.study)
        if not best:
            states = [row["state"] for row in self.table]
            counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trial yet"
            raise ValueError(
                f"No trial of {self.study!r} was completed ({counts}). Look at `hcreg trials list {self.study}`; "
                "where all diverged, search lower learning rates under another study name."
            )
        return best[0]

    @property
    def best_learning_rate(self):
        """The learning rate of the best trial."""
        return self.best[f"hp_{HYPERPARAMETER}"]

    def figure(self):
        """Objective against learning rate.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from hcreg.plotting.trials import learning_rate_curve

        objective = self.tuner.oracle.objective
        return learning_rate_curve(self.table, direction=objective.direction, label=objective.name)

    def best_model(self):
        """The model of the best trial, with its best weights.

        Returns
        -------
        keras.Model
        """
        return self.tuner.load_model(self.tuner.oracle.get_trial(f"{self.best['number']:04d}"))


class _Search(keras_tuner.HyperModel):
    """Asks for a learning rate, builds the model and trains it."""

    def __init__(self, build_model, low, high, fit):
        super().__init__(name="learning_rate_search")
        self.build_model, self.low, self.high, self.train = build_model, low, high, fit

    def build(self, hp):
        learning_rate = hp.Float(HYPERPARAMETER, self.low, self.high, sampling="log")
        model = self.build_model(learning_rate)
        if isinstance(model, keras.Model) and not model.compiled:
            raise keras_tuner.errors.FatalValueError(
                f"build_model({learning_rate:.3g}) returned a model that is not compiled. Compile it with an optimiser "
                "of that learning rate."
            )
        return model

    def fit(self, hp, model, *args, **kwargs):
        return self.train(model, **kwargs)


def learning_rate_search(
    build_model,
    train,
    validation,
    low,
    high,
    max_trials,
    epochs,
    study,
    database=None,
    *,
    folder="runs/tuning",
    checkpoints=None,
    objective="val_loss",
    direction=None,
    algorithm="bayesian",
    seed=0,
    batch_size=32,
    patience=None,
    executions_per_trial=1,
    measures=None,
    callbacks=(),
    strategy=None,
    definition=None,
    attributes=None,
    accept_code_change=False,
    lease_s=300,
    show_progress=True,
):
    """Search the learning rate with which a model is best on validation data.

    Called in several processes, on one machine or many, with one study name and database, it is one search: they share
    its trials, and none is lost when one of them dies. Called again after a stop it goes on; called again after the end
    it returns what was found.

    Parameters
    ----------
    build_model : callable
        Gets a learning rate, returns a compiled `keras.Model`.
    train, validation : tuple (x, y) or (x, y, sample_weight), keras.utils.PyDataset or tf.data.Dataset
    low, high : float
        Range, searched over its logarithm.
    max_trials : int
        Of all processes together. More than before extends a study.
    epochs : int
        At most, of each trial.
    study : str
    database : str or callable, optional
        A DSN, the name of an environment variable that holds one, or a callable that returns one. By default what the
        environment variable HCREG_DATABASE holds; where it is not set, a PostgreSQL of its own in `folder`/database,
        for the processes of this machine.
    folder : path-like
        Of the search's own database, where none is named, and then of weights and states of training.
    checkpoints : path-like or "store", optional
        Where weights and states go: a folder that all workers reach, or the database; the latter by default, where one
        is named.
    objective : str
        A metric of training, by its name in Keras's logs.
    direction : {"min", "max"}, optional
        Needed where the objective's name does not tell: losses and errors are minimised; accuracy, AUC, precision and
        recall maximised.
    algorithm : {"bayesian", "random", "grid"}
    seed : int
        Of the proposals and, with the number of the trial, of weights and order.
    batch_size : int
        Of data given as arrays.
    patience : int, optional
        Stop a trial when its objective has not improved for so many epochs.
    executions_per_trial : int
        Trainings of each learning rate; their mean counts.
    measures : callable, optional
        Gets each trained model with its best weights, returns a dict of numbers for the record.
    callbacks : sequence of keras.callbacks.Callback
        Copied for each trial.
    strategy : tf.distribute.Strategy, optional
        Each trial runs under it.
    definition : dict, optional
        Whatever else must be the same for all who join, such as the augmentation.
    attributes : dict, optional
        Noted with a new study, such as ``{"data_path": ...}``.
    accept_code_change : bool
        Join though `build_model` is another.
    lease_s : float, s
        A worker not heard of for so long loses its trial.
    show_progress : bool

    Returns
    -------
    LearningRateSearch

    Raises
    ------
    ValueError
        If an argument is out of range, or the study is another search: other data, range, epochs, objective or model.
    OSError
        If the database cannot be reached.
    RuntimeError
        If three trials in a row failed, with the reason of the last.

    References
    ----------
    .. [1] callanan2022heatmap: Bayesian optimisation over a log-uniform learning rate, trials kept in PostgreSQL.
    """
    if not 0 < low < high < float("inf"):
        raise ValueError(f"The range is 0 < low < high. Received: low={low!r}, high={high!r}.")
    counts = {"max_trials": max_trials, "epochs": epochs, "batch_size": batch_size}
    counts |= {"executions_per_trial": executions_per_trial} | ({} if patience is None else {"patience": patience})
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a whole number of at least 1. Received: {value!r}.")
    data, fit_data = _described_data(train, validation, batch_size), _fit_data(train, validation, batch_size)
    chosen = keras_tuner.Objective(objective, _direction(objective, direction))
    is_embedded = database is None and DATABASE_VARIABLE not in os.environ
    if checkpoints is None:
        checkpoints = Path(folder) / "trials" if is_embedded else IN_STORE
    store = open_store(database, folder)
    oracle = PostgresOracle(
        store,
        study,
        chosen,
        max_trials,
        algorithm=algorithm,
        seed=seed,
        lease_s=lease_s,
        attributes=attributes,
        accept_code_change=accept_code_change,
        definition={
            **(definition or {}),
            "training": {"epochs": epochs, "patience": patience, "executions_per_trial": executions_per_trial, **data},
        },
    )
    fit_callbacks = list(callbacks)
    if patience is not None:
        mode = oracle.objective.direction
        fit_callbacks.append(keras.callbacks.EarlyStopping(objective, patience=patience, mode=mode))
    tuner = PostgresTuner(
        oracle,
        _Search(build_model, float(low), float(high), lambda model, **options: model.fit(**fit_data, **options)),
        checkpoints=checkpoints,
        measures=measures,
        code=source_of(build_model),
        distribution_strategy=strategy,
        executions_per_trial=executions_per_trial,
    )
    with _Shown(tuner, show_progress) as shown:
        tuner.on_search_progress = shown.update
        tuner.search(epochs=epochs, callbacks=fit_callbacks, verbose=0)
    return LearningRateSearch(store, study, tuner)


def open_store(database=None, folder="runs/tuning"):
    """The trial store that a search without more words uses.

    Parameters
    ----------
    database : str or callable, optional
        By default what HCREG_DATABASE holds, else the embedded server in `folder`/database.
    folder : path-like

    Returns
    -------
    TrialStore
    """
    if database is None:
        database = (
            DATABASE_VARIABLE if DATABASE_VARIABLE in os.environ else embedded_database(Path(folder) / "database")
        )
    return TrialStore(database)


def _direction(objective, direction):
    """Of an objective by its name: Keras Tuner's own guess minimises val_dice and val_r2_score."""
    if direction is None:
        words = set(objective.lower().split("_"))
        direction = next((found for found, known in _DIRECTIONS.items() if words & known), None)
    if direction not in _DIRECTIONS:
        raise ValueError(
            f"direction is 'min' where a low {objective!r} is good, 'max' where a high one is. Received: {direction!r}"
            + (", and the name does not tell." if direction is None else ".")
        )
    return direction


def _fit_data(train, validation, batch_size):
    if not isinstance(train, (tuple, list)):
        return {"x": train, "validation_data": validation}
    return {
        **dict(zip(("x", "y", "sample_weight"), train)),
        "validation_data": tuple(validation) if isinstance(validation, list) else validation,
        "batch_size": batch_size,
    }


def _described_data(train, validation, batch_size):
    """What tells one set of data from another: checksums of arrays, the length of a stream."""
    described = {"batch_size": batch_size} if isinstance(train, (tuple, list)) else {}
    for name, part in (("train", train), ("validation", validation)):
        if part is None:
            raise ValueError(f"{name} data are needed: a tuple (x, y), a PyDataset or a tf.data.Dataset.")
        if isinstance(part, (tuple, list)):
            if not 2 <= len(part) <= 3:
                raise ValueError(f"{name} is (x, y) or (x, y, sample_weight). Received: {len(part)} parts.")
            sizes = sorted({array.shape[0] if array.ndim else None for array in _leaves(part)}, key=str)
            if len(sizes) != 1 or not sizes[0]:
                raise ValueError(
                    f"{name} holds arrays of one number of samples, at least 1. Received: "
                    f"{', '.join(str(array.shape) for array in _leaves(part)[:4])}."
                )
            described[name] = {"checksum": _checksum(part), "num_samples": sizes[0]}
        elif hasattr(part, "__next__"):
            raise ValueError(
                f"{name} is read once an epoch, by every trial; a generator ends after the first. Give a tuple (x, y), "
                "a PyDataset or a tf.data.Dataset."
            )
        else:
            described[name] = {"kind": type(part).__name__, "num_batches": _length(part, name)}
    return described


def _leaves(tree):
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in _leaves(tree[name])]
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in _leaves(part)]
    return [np.asarray(tree)]


def _checksum(tree):
    digest = hashlib.sha256()
    for array in _leaves(tree):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _length(stream, name):
    if hasattr(stream, "num_batches"):
        return stream.num_batches
    try:
        return len(stream)
    except TypeError as error:
        if "infinite" in str(error):
            raise ValueError(f"{name} repeats without end, so that no epoch would end. Drop its repeat().") from None
        return None


class _Shown:
    """Shows how many trials are finished, by all workers, and the best so far."""

    def __init__(self, tuner, show):
        self.tuner, self.show = tuner, show
        self.bar = progress_bar(show)

    def __enter__(self):
        self.bar.start()
        self.tuner.reload()
        num_done = sum(trial.status in ("COMPLETED", "FAILED") for trial in self.tuner.oracle.trials.values())
        total = self.tuner.oracle.max_trials
        self.task = self.bar.add_task(self.tuner.oracle.study, total=total, completed=num_done)
        return self

    def __exit__(self, *error):
        self.bar.stop()

    def update(self, ended):
        oracle = self.tuner.oracle
        finished = [t for t in oracle.trials.values() if t.status in ("COMPLETED", "FAILED")]
        scores = [t.score for t in finished if t.score is not None and np.isfinite(t.score)]
        best = (min if oracle.objective.direction == "min" else max)(scores, default=None)
        text = f"{oracle.study}: {len(finished)} of {oracle.max_trials or '?'} trials finished"
        if best is not None:
            text += f", best {oracle.objective.name} {best:.4g}"
        self.bar.update(self.task, completed=len(finished), total=oracle.max_trials, description=text)
        if self.bar.disable and self.show:
            rate = ended.hyperparameters.values.get(HYPERPARAMETER)
            outcome = ended.message.strip().splitlines()[-1] if ended.message else f"{ended.score:.4g}"
            line = f"trial {int(ended.trial_id)}, learning rate {rate:.3g}: {outcome}; {text}"
            print(line, file=sys.stderr, flush=True)
