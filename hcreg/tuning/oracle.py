"""Keras Tuner's oracle, with PostgreSQL for its memory: any number of processes search together."""

import os
import random
import socket
import sys
import time
import uuid
import warnings
from dataclasses import dataclass, field

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as kt_trial

from hcreg.provenance import git_commit, package_versions
from hcreg.tuning.proposals import Bayesian, Grid, Random, SeenTrial, values_key
from hcreg.tuning.records import Lease, Wish
from hcreg.tuning.store import TrialStore

POLL_S = 5
_RANDOM = random.SystemRandom()  # not Python's own, which workers of one seed share and trainings draw from
TURN_WAIT_S = 60
RELEASE_PATIENCE_S = 5
Status = kt_trial.TrialStatus
_STATUS = {
    "waiting": Status.INVALID,
    "running": Status.RUNNING,
    "completed": Status.COMPLETED,
    "diverged": Status.COMPLETED,
    "failed": Status.FAILED,
}


@dataclass
class Held:
    """A trial that this process runs.

    Attributes
    ----------
    lease : Lease
    trial : keras_tuner.engine.trial.Trial
    measures : dict of str to float
        Final metrics beside Keras's.
    divergence : str
        Why the trial is to be recorded as diverged, where it is.
    remark : str
        Recorded with a completed trial.
    """

    lease: Lease
    trial: kt_trial.Trial
    measures: dict = field(default_factory=dict)
    divergence: str = ""
    remark: str = ""


class PostgresOracle(keras_tuner.Oracle):
    """Chooses and keeps trials for every process that names the same study in the same database.

    Parameters
    ----------
    database : str, callable or TrialStore
        As of `TrialStore`.
    study : str
        Name of the search; whoever names it joins it.
    objective : str or keras_tuner.Objective
    max_trials : int, optional
        Of all processes together, exactly. Without it a grid is searched to its end, and other searches have none.
    algorithm : {"bayesian", "random", "grid"}
    seed : int
        Of the proposals. Zero is zero.
    hyperparameters, allow_new_entries, tune_new_entries, max_retries_per_trial, max_consecutive_failed_trials
        As of `keras_tuner.Oracle`.
    num_initial_points, alpha, beta
        As of `keras_tuner.oracles.BayesianOptimizationOracle`.
    lease_s : float, s
        For how long a trial stays with a worker that is not heard of.
    max_attempts : int
        A trial lost by so many workers is failed.
    poll_s : float, s
        Between looks whether a trial of others was lost, when none is left to begin.
    definition : dict, optional
        Whatever else must be the same for all who join.
    attributes : dict, optional
        Noted with a new study.
    accept_code_change : bool
        Join though the model function is another.

    Raises
    ------
    ValueError
        If an argument is out of its range; at the first trial, if the study is another search.

    Notes
    -----
    Departures from Keras Tuner's own oracles, each of which is a defect there: a trial is given to one worker only,
    whatever its ``tuner_id``; trials that diverge (an objective that is not finite) count as bad, not as excellent,
    and are recorded as such; a trial that was ended twice counts once; the Gaussian process is fitted on finished
    trials before those that run are imputed; a value is not proposed twice; a worker without work sleeps; trials of
    lost workers go to others. Files are not written: ``save`` and ``reload`` do nothing of their own.
    """

    def __init__(
        self,
        database,
        study,
        objective=None,
        max_trials=None,
        *,
        algorithm="bayesian",
        seed=0,
        hyperparameters=None,
        allow_new_entries=True,
        tune_new_entries=True,
        num_initial_points=None,
        alpha=1e-4,
        beta=2.6,
        lease_s=300,
        max_attempts=3,
        max_retries_per_trial=0,
        max_consecutive_failed_trials=3,
        poll_s=POLL_S,
        definition=None,
        attributes=None,
        accept_code_change=False,
    ):
        if max_trials is None and algorithm != "grid":
            raise ValueError(f"max_trials is needed: algorithm={algorithm!r} proposes without end.")
        if max_trials is not None and (not isinstance(max_trials, int) or max_trials < 1):
            raise ValueError(f"max_trials is a whole number of at least 1. Received: {max_trials!r}.")
        if not lease_s > 0 or max_attempts < 1:
            raise ValueError(
                f"lease_s is positive and max_attempts at least 1. Received: {lease_s!r} and {max_attempts!r}."
            )
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self.seed = seed
        proposers = {
            "bayesian": lambda: Bayesian(self.objective.direction, seed, num_initial_points, alpha, beta),
            "random": lambda: Random(seed),
            "grid": Grid,
        }
        if algorithm not in proposers:
            raise ValueError(f"algorithm is one of {', '.join(proposers)}. Received: {algorithm!r}.")
        self.algorithm, self.proposer = algorithm, proposers[algorithm]()
        self.store = database if isinstance(database, TrialStore) else TrialStore(database)
        self.study, self.study_id = study, None
        self.lease_s, self.max_attempts, self.poll_s = lease_s, max_attempts, poll_s
        self.definition, self.attributes = definition or {}, attributes or {}
        self.accept_code_change = accept_code_change
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self.held = {}
        self._about = None

    # -- joining

    def join(self, code=None, about=None):
        """Make the study or join it; called again it does nothing.

        Parameters
        ----------
        code : str, optional
            Source of the model function.
        about : dict, optional
            Of this worker's attempts: ``device``, and what else `TrialStore.take` knows.

        Raises
        ------
        ValueError
            If the study of this name is another search, showing the difference.
        """
        if self.study_id is not None:
            return
        if self.algorithm != "grid" and not self.hyperparameters.space:
            raise ValueError(
                "The search space is empty: the model function asks for no hyperparameter, so that there is nothing to "
                "search. Use its argument, as in hp.Float('learning_rate', 1e-5, 1e-1, sampling='log'), or give the "
                "oracle its hyperparameters."
            )
        definition = {
            **self.definition,
            "objective": self.objective.name,
            "direction": self.objective.direction,
            "algorithm": {"name": self.algorithm, **self.proposer.config()},
            "space": self.hyperparameters.get_config()["space"],
            "code": code,
        }
        self.study_id = self.store.join(
            self.study,
            definition,
            max_trials=self.max_trials,
            seed=self.seed,
            attributes={"commit": git_commit(), **self.attributes},
            accept_code_change=self.accept_code_change,
        )
        self._about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "versions": package_versions(("keras-tuner",)),
            "commit": git_commit(),
            **(about or {}),
        }

    # -- Keras Tuner's interface

    def create_trial(self, tuner_id):
        """Take a trial that waits or was lost, or make a new one.

        Parameters
        ----------
        tuner_id : str
            Not used: the worker is this oracle.

        Returns
        -------
        keras_tuner.engine.trial.Trial
            ``RUNNING``; ``IDLE``, after a pause, where others run the last trials; ``STOPPED`` where all are finished.
        """
        for held in self.held.values():  # several processes of one strategy ask for the same trial
            return held.trial
        self.join()
        has_turn, waited_since = False, time.monotonic()
        wish = None
        try:
            while True:
                snapshot = self._refresh()
                # Where a wish was refused though no trial was created since, its values were tried: go on from there.
                is_stuck = wish is not None and wish.number == snapshot.next_number
                state, wish = wish.proposer_state if is_stuck else snapshot.proposer_state, None
                if not snapshot.has_one_for(self.worker):
                    if snapshot.is_full:
                        return self._rest()
                    if self._is_costly() and not has_turn and time.monotonic() < waited_since + TURN_WAIT_S:
                        has_turn = self.store.try_turn(self.study_id)
                        if not has_turn:
                            time.sleep(_RANDOM.uniform(0.1, 0.3))
                            continue
                    proposal = self.proposer.propose(self.hyperparameters, self._seen(snapshot), state)
                    if proposal.action != "run":
                        return self._rest()
                    wish = Wish(proposal.values, values_key(proposal.values), snapshot.next_number, proposal.state)
                lease = self.store.take(
                    self.study_id,
                    self.worker,
                    wish,
                    lease_s=self.lease_s,
                    max_attempts=self.max_attempts,
                    about=self._about,
                )
                if lease is not None:
                    return self._hold(lease)
        finally:
            if has_turn:
                self.store.end_turn(self.study_id)

    def update_trial(self, trial_id, metrics, step=0):
        """Note metrics of a trial that this process runs.

        Parameters
        ----------
        trial_id : str
        metrics : dict of str to float
            With the objective.
        step : int
            Epoch, from 0.

        Returns
        -------
        keras_tuner.engine.trial.Trial
        """
        trial = self.held[trial_id].trial
        self._check_objective_found(metrics)
        for name, value in metrics.items():
            if not trial.metrics.exists(name):
                is_objective = name == self.objective.name
                trial.metrics.register(name, direction=self.objective.direction if is_objective else None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # that all values are NaN; it is recorded
                trial.metrics.update(name, float(value), step=step)
        return trial

    def end_trial(self, trial):
        """Write down how a trial ended, once.

        Parameters
        ----------
        trial : keras_tuner.engine.trial.Trial

        Returns
        -------
        bool
            Whether the trial is finished, by this worker: False where it goes to another, or went.

        Raises
        ------
        RuntimeError
            If this was the last of ``max_consecutive_failed_trials`` that failed one after the other.
        """
        held = self.held.get(trial.trial_id)
        if held is None:  # ended before
            return False
        self.update_space(trial.hyperparameters)
        if trial.status == Status.INVALID and self._may_be_tried_again(held):
            self.store.release(held.lease, trial.message, outcome="failed")
            del self.held[trial.trial_id]
            return False
        if trial.status == Status.COMPLETED:
            self.score_trial(trial)
            diverged = held.divergence or (
                "" if np.isfinite(trial.score) else f"{self.objective.name} is {trial.score}"
            )
            state, message = ("diverged", diverged) if diverged else ("completed", held.remark or None)
        else:
            trial.status, state, message = Status.FAILED, "failed", trial.message or "failed without a message"
        is_kept = self.store.end(
            held.lease,
            state,
            objective=trial.score if state == "completed" else None,
            best_epoch=None if trial.best_step is None or state == "failed" else trial.best_step + 1,
            metrics={**_last_values(trial.metrics), **held.measures},
            values=trial.hyperparameters.values,
            message=message,
        )
        del self.held[trial.trial_id]  # not before: what could not be written down goes back to the others
        if not is_kept:
            print(
                f"trial {held.lease.number} was taken over by another worker: its result here is dropped",
                file=sys.stderr,
            )
        elif state == "failed":
            self._stop_where_all_fail()
        if state == "diverged":
            trial.score, trial.message = self._worst, message
        return is_kept

    def release_all(self, message="interrupted"):
        """Give back what this process runs, for others or a later call to go on with.

        Where the database does not answer within seconds, the trials go to others once their leases run out.
        """
        database = self.store.database
        patience_s, database.patience_s = database.patience_s, min(RELEASE_PATIENCE_S, database.patience_s)
        try:
            while self.held:
                _, held = self.held.popitem()
                try:
                    self.store.release(held.lease, message)
                except OSError as error:
                    print(
                        f"trial {held.lease.number} could not be given back, it goes to another worker when its lease "
                        f"of {self.lease_s:g} s has run out: {error}",
                        file=sys.stderr,
                    )
        finally:
            database.patience_s = patience_s

    def score_trial(self, trial):
        """Set a trial's score; what is not finite counts as the worst.

        Parameters
        ----------
        trial : keras_tuner.engine.trial.Trial
        """
        score = None
        if trial.metrics.exists(self.objective.name):
            values = [observation.mean() for observation in trial.metrics.get_history(self.objective.name)]
            finite = [value for value in values if np.isfinite(value)]
            score = (min if self.objective.direction == "min" else max)(finite) if finite else None
        trial.score = self._worst if score is None else float(score)
        trial.best_step = None if score is None else trial.metrics.get_best_step(self.objective.name)

    def populate_space(self, trial_id):
        """Values of the next trial, as `create_trial` would choose them; nothing is recorded."""
        self.join()
        snapshot = self._refresh()
        proposal = self.proposer.propose(self.hyperparameters, self._seen(snapshot), snapshot.proposer_state)
        return {
            "status": {"run": Status.RUNNING, "wait": Status.IDLE, "stop": Status.STOPPED}[proposal.action],
            "values": proposal.values,
        }

    def update_space(self, hyperparameters):
        """Add hyperparameters to the space, also for the other workers."""
        num_known = len(self.hyperparameters.space)
        super().update_space(hyperparameters)
        if self.study_id is not None and len(self.hyperparameters.space) > num_known:
            self.store.grow_space(self.study_id, self.hyperparameters.get_config()["space"])

    def get_trial(self, trial_id):
        """The trial of this id, of whichever worker."""
        if trial_id in self.held:
            return self.held[trial_id].trial
        if trial_id not in self.trials:
            self.reload()
        return self.trials[trial_id]

    def get_best_trials(self, num_trials=1):
        """The best completed trials of all workers, the best first; none that diverged or failed."""
        self.reload()
        completed = [t for t in self.trials.values() if t.status == Status.COMPLETED and np.isfinite(t.score)]
        return sorted(completed, key=lambda trial: trial.score, reverse=self.objective.direction == "max")[:num_trials]

    def remaining_trials(self):
        """How many trials may still be created, None where there is no limit."""
        self.reload()
        return None if self.max_trials is None else max(0, self.max_trials - len(self.trials))

    def save(self):
        """Nothing to do: every change is in the database."""

    def reload(self):
        """Read the trials of all workers."""
        self.join()
        self._refresh()

    def get_state(self):
        """What identifies the search; its trials are in the database."""
        return {"study": self.study, "objective": self.objective.name, "seed": self.seed}

    def set_state(self, state):
        """Nothing to do: every change is in the database."""

    # -- inside

    @property
    def _worst(self):
        return float("inf") if self.objective.direction == "min" else float("-inf")

    def _is_costly(self):
        """Whether the next proposal fits a Gaussian process."""
        return self.algorithm == "bayesian" and sum(t.status == Status.COMPLETED for t in self.trials.values()) >= 3

    def _refresh(self):
        snapshot = self.store.snapshot(self.study_id)
        self.max_trials = snapshot.max_trials
        known = keras_tuner.HyperParameters.from_config({"space": snapshot.space, "values": {}})
        super().update_space(known)
        self.trials = {}
        for row in snapshot.trials:
            trial_id = _trial_id(row["number"])
            self.trials[trial_id] = self.held[trial_id].trial if trial_id in self.held else self._as_trial(row)
        return snapshot

    def _as_trial(self, row):
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(row["values"])
        trial = kt_trial.Trial(hyperparameters, _trial_id(row["number"]), _STATUS[row["state"]], row["message"])
        if row["state"] in ("completed", "diverged"):
            trial.score = self._worst if row["objective"] is None else row["objective"]
            trial.best_step = None if row["best_epoch"] is None else row["best_epoch"] - 1
        return trial

    def _seen(self, snapshot):
        return [SeenTrial(row["number"], row["values"], row["state"], row["objective"]) for row in snapshot.trials]

    def _hold(self, lease):
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(lease.values)
        trial = kt_trial.Trial(hyperparameters, _trial_id(lease.number), Status.RUNNING)
        self.held[trial.trial_id], self.trials[trial.trial_id] = Held(lease, trial), trial
        return trial

    def _rest(self):
        """Nothing to begin: the end, or a pause where trials of others may yet come back."""
        if all(trial.status in (Status.COMPLETED, Status.FAILED) for trial in self.trials.values()):
            return kt_trial.Trial(self.hyperparameters.copy(), "", Status.STOPPED)
        time.sleep(self.poll_s * _RANDOM.uniform(0.5, 1.5))
        return kt_trial.Trial(self.hyperparameters.copy(), "", Status.IDLE)

    def _may_be_tried_again(self, held):
        if not self.max_retries_per_trial:
            return False
        return self.store.count_outcomes(held.lease, "failed") < self.max_retries_per_trial

    def _stop_where_all_fail(self):
        limit = self.max_consecutive_failed_trials
        recent = self.store.recent_outcomes(self.study_id, limit)
        if len(recent) == limit and all(trial["state"] == "failed" for trial in recent):
            raise RuntimeError(
                f"The last {limit} trials of {self.study!r} failed one after the other, so the search stops; all "
                f"before is kept. Mend the cause and run it again (with accept_code_change=True where the model "
                f"function changed). The last message:\n{recent[0]['message']}"
            )


def _trial_id(number):
    return f"{number:04d}"


def _last_values(metrics):
    """Value of each metric at the step that was reported."""
    return {name: float(metrics.get_last_value(name)) for name in metrics.metrics}
