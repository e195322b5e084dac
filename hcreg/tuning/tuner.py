"""Keras Tuner's tuner for trials in PostgreSQL: heartbeats, resume inside a trial, nothing lost when it is stopped."""

import contextlib
import copy
import inspect
import os
import sys
import tempfile
import textwrap
import traceback
import warnings
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.src.engine import tuner_utils  # has no public name; TunerCallback calls the hooks of subclasses

from hcreg import backend
from hcreg.files import read_json, write_json
from hcreg.tuning.checkpoints import IN_STORE, Checkpoints
from hcreg.tuning.heartbeat import HEARTBEAT_S, Heartbeat
from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.outcome import outcome_of
from hcreg.tuning.recorder import Progress, Recorder, StateMisfit


class PostgresTuner(keras_tuner.Tuner):
    """Runs the trials of a `PostgresOracle`, beside any number of other processes that do.

    Parameters
    ----------
    oracle : PostgresOracle
    hypermodel : callable or keras_tuner.HyperModel, optional
        ``build(hp)`` returns a compiled model. Subclasses that override `run_trial` need none.
    checkpoints : path-like or "store"
        Where weights and the state of training go: a folder that all workers reach, or the database.
    measures : callable, optional
        Gets the trained model with its best weights and returns a dict of numbers, recorded with the trial.
    heartbeat_s : float, optional, s
        Between signs of life, 30 or what fits five times into the oracle's lease.
    code : str, optional
        What tells one model function from another; its source by default.
    seed_trials : bool
        Seed Python, NumPy and Keras before each model is built, from the oracle's seed and the trial's number.
    **kwargs
        Of `keras_tuner.Tuner`: ``executions_per_trial``, ``distribution_strategy``, ``max_model_size``, ``optimizer``,
        ``loss``, ``metrics``.

    Raises
    ------
    ValueError
        If the oracle is another, if ``overwrite`` is asked for, or the study is another search.

    Notes
    -----
    `search` may be interrupted at any moment: the trial goes back, and the next who takes it goes on after its last
    epoch.
    """

    def __init__(
        self,
        oracle,
        hypermodel=None,
        *,
        checkpoints=IN_STORE,
        measures=None,
        heartbeat_s=None,
        code=None,
        seed_trials=True,
        **kwargs,
    ):
        if not isinstance(oracle, PostgresOracle):
            raise ValueError(f"PostgresTuner runs the trials of a PostgresOracle. Received: {type(oracle).__name__}.")
        if kwargs.pop("overwrite", False):
            raise ValueError(
                "overwrite=True would delete what other workers wrote. Choose another study name, or "
                "TrialStore(database).delete_study(name)."
            )
        self._scratch = tempfile.TemporaryDirectory(prefix="hcreg_tuning_")
        super().__init__(oracle, hypermodel, directory=self._scratch.name, project_name="tuner", **kwargs)
        self.tuner_id = oracle.worker
        self.measures, self.seed_trials = measures, seed_trials
        self.on_search_progress = lambda trial: None
        self.heartbeat = Heartbeat(
            oracle.store, oracle.lease_s, min(HEARTBEAT_S, oracle.lease_s / 5) if heartbeat_s is None else heartbeat_s
        )
        self.checkpoints = Checkpoints(oracle.store, oracle.study, checkpoints)
        oracle.join(source_of(hypermodel or type(self)) if code is None else code, {"device": backend.device_report()})

    def search(self, *fit_args, **fit_kwargs):
        """Run trials until all of the study are finished, by whichever worker.

        Parameters
        ----------
        *fit_args, **fit_kwargs
            Of `run_trial`, and so of ``model.fit``.
        """
        try:
            super().search(*fit_args, **fit_kwargs)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            numbers = [held.lease.number for held in self.oracle.held.values()]
            self.oracle.release_all("interrupted" if interrupted else f"{type(error).__name__}: {error}")
            with contextlib.suppress(OSError):  # of a terminal that was closed
                for number in numbers:
                    print(f"trial {number} goes back and is gone on with by the next worker", file=sys.stderr)
            raise
        finally:
            self.heartbeat.stop()

    def on_trial_begin(self, trial):
        """Called at the beginning of a trial."""
        self.heartbeat.start(self.oracle.held[trial.trial_id].lease)

    def on_trial_end(self, trial):
        """Called at the end of a trial."""
        try:
            is_finished = self.oracle.end_trial(trial)
        finally:
            self.heartbeat.stop()
        if is_finished:  # else whoever goes on with it needs them
            self.checkpoints.remove_states(int(trial.trial_id))
        self.on_search_progress(trial)

    def run_trial(self, trial, *args, **kwargs):
        """Train the model of a trial, or go on where an earlier attempt stopped.

        Parameters
        ----------
        trial : keras_tuner.engine.trial.Trial
        *args, **kwargs
            Of ``model.fit``.

        Returns
        -------
        list of dict, float or keras.callbacks.History
            One result an execution.
        """
        held = self.oracle.held[trial.trial_id]
        progress = self._progress_of(held.lease)
        try:
            results = self._run_executions(trial, held, progress, *args, **kwargs)
        except StateMisfit as error:  # the model function was changed since, and the change accepted
            print(f"trial {held.lease.number} begins anew: {error}", file=sys.stderr)
            progress = Progress()
            results = self._run_executions(trial, held, progress, *args, **kwargs)
        self._keep_model(trial, held, progress)
        return results

    def _run_executions(self, trial, held, progress, *args, **kwargs):
        original = kwargs.pop("callbacks", None) or []
        results = list(progress.finished)
        for execution in range(len(progress.finished), self.executions_per_trial):
            if self.seed_trials:
                backend.seed_everything(trial_seed(self.oracle.seed, held.lease.number, execution))
            callbacks = self._deepcopy_callbacks(original)
            self._configure_tensorboard_dir(callbacks, trial, execution)
            callbacks.append(tuner_utils.TunerCallback(self, trial))
            recorder = Recorder(
                self.oracle.store,
                self.checkpoints,
                held.lease,
                self.heartbeat,
                self.oracle.objective,
                [callback for callback in callbacks if not isinstance(callback, tuner_utils.TunerCallback)],
                progress,
            )
            callbacks.append(recorder)
            options = {**kwargs, "callbacks": callbacks}
            if progress.num_epochs:
                options["initial_epoch"] = (kwargs.get("initial_epoch") or 0) + progress.num_epochs
                if progress.has_stopped:  # early, in its last epoch
                    options["epochs"] = options["initial_epoch"]
            result = self._build_and_fit_model(trial, *args, **options)
            results.append(_plain(progress.history if hasattr(result, "history") and progress.history else result))
            progress.end_execution(results[-1])
            if self.heartbeat.lost:
                break
        return results

    def load_model(self, trial):
        """The model of a trial with its best weights.

        Parameters
        ----------
        trial : keras_tuner.engine.trial.Trial
            Finished.

        Returns
        -------
        keras.Model

        Raises
        ------
        FileNotFoundError
            If its weights were not saved, or are not where they were written.
        ValueError
            If they are damaged.
        """
        number = int(trial.trial_id)
        weights = self.checkpoints.load(number, "model")
        if weights is None:
            raise FileNotFoundError(
                f"Trial {number} of {self.oracle.study!r} has no weights: it is {trial.status.lower()}."
            )
        model = self._try_build(trial.hyperparameters)
        config = self.checkpoints.load(number, "build_config")
        if config is not None and not model.built:
            path = Path(self._scratch.name) / "build_config.json"
            path.write_bytes(config)
            model.build_from_config(read_json(path))
        self._set_weights(model, weights)
        return model

    def results_summary(self, num_trials=10):
        """Print the best trials."""
        print(f"Study {self.oracle.study!r} in {self.oracle.store!r}, best by {self.oracle.objective.name}")
        for trial in self.oracle.get_best_trials(num_trials):
            print()
            trial.summary()

    def save(self):
        """Nothing to do: every change is in the database."""

    def reload(self):
        """Read the trials of all workers."""
        self.oracle.reload()

    # -- inside

    def _get_tuner_fname(self):
        return os.path.join(self._scratch.name, "none", "tuner.json")  # never there: nothing is reloaded from files

    def _run_and_update_trial(self, trial, *fit_args, **fit_kwargs):
        results = self.run_trial(trial, *fit_args, **fit_kwargs)
        tuner_utils.validate_trial_results(
            [result for result in _listed(results) if not isinstance(result, dict)] or 0.0,
            self.oracle.objective,
            "Tuner.run_trial()",
        )
        try:
            metrics, step, divergence = outcome_of(_listed(results), self.oracle.objective)
        except ValueError as error:  # a wrong name: no further trial would do better
            if self.heartbeat.lost:  # or no whole epoch, of a trial that is another worker's now
                return
            raise keras_tuner.errors.FatalValueError(str(error)) from None
        held = self.oracle.held.get(trial.trial_id)
        if held is not None:
            held.divergence = divergence
            self.oracle.update_trial(trial.trial_id, metrics, step)

    def _build_and_fit_model(self, trial, *args, **kwargs):
        hyperparameters = trial.hyperparameters
        model = self._try_build(hyperparameters)
        was_built = model.built
        result = self.hypermodel.fit(hyperparameters, model, *args, **kwargs)
        tuner_utils.validate_trial_results(result, self.oracle.objective, "HyperModel.fit()")
        if not was_built and model.built:
            path = Path(self._scratch.name) / "build_config.json"
            write_json(path, model.get_build_config())
            self.checkpoints.save(self.oracle.held[trial.trial_id].lease, "build_config", path.read_bytes())
        self._trained = model
        return result

    def _progress_of(self, lease):
        """Of an earlier attempt, where there was one and its state can be read; else from the beginning."""
        if lease.attempt > 1:
            try:
                content = self.checkpoints.load(lease.number, "state")
                if content is not None:
                    return Progress.from_bytes(content, f"the state of trial {lease.number}")
            except (OSError, ValueError) as error:
                print(f"trial {lease.number} begins anew: {error}", file=sys.stderr)
        return Progress()

    def _keep_model(self, trial, held, progress):
        """Save the best weights, and measure the model that has them."""
        if self.heartbeat.lost or progress.best_weights is None:
            return
        self.checkpoints.save(held.lease, "model", progress.best_weights)
        if self.measures is None:
            return
        model = self._trained
        try:
            self._set_weights(model, progress.best_weights)
            held.measures = {name: float(value) for name, value in self.measures(model).items()}
        except Exception:  # the training it measures is not lost for it
            held.remark = f"measures failed: {traceback.format_exc()}"
            print(f"trial {held.lease.number}: {held.remark}", file=sys.stderr)

    def _set_weights(self, model, weights):
        path = Path(self._scratch.name) / "loaded.weights.h5"
        path.write_bytes(weights)
        strategy = self.distribution_strategy
        with contextlib.nullcontext() if strategy is None else strategy.scope(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # whose state is not asked for
            model.load_weights(str(path))


def trial_seed(seed, number, execution=0):
    """The seed that a trial's model is built and trained with.

    Parameters
    ----------
    seed : int
        Of the study.
    number, execution : int

    Returns
    -------
    int
        Of 31 bits; different for each.

    Examples
    --------
    >>> trial_seed(0, 3) == trial_seed(0, 3), trial_seed(0, 3) == trial_seed(0, 4)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, number, execution]).generate_state(1)[0] >> 1)


def source_of(hypermodel):
    """The source of a model function, to tell one search from another.

    Parameters
    ----------
    hypermodel : callable, class or keras_tuner.HyperModel

    Returns
    -------
    str
        Its name where the source cannot be found, as in an interactive interpreter.
    """
    function = hypermodel
    if isinstance(function, keras_tuner.HyperModel):
        function = type(function)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    if not inspect.isclass(function) and not inspect.isroutine(function):
        function = type(function)
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return f"{function.__module__}.{function.__qualname__} (its source is not known)"


def _plain(result):
    """A result as JSON can hold it: numbers, and dicts of numbers or lists of them."""
    result = getattr(result, "history", result)
    if isinstance(result, dict):
        return {name: np.asarray(values, float).tolist() for name, values in result.items()}
    return float(result)


def _listed(results):
    return copy.copy(results) if isinstance(results, list) else [results]
