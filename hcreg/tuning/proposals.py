"""Which values to try next: Bayesian optimisation, random search and grid search as functions of what is known.

A proposal depends on the search space, the study's trials and a small state that is kept with the study, and on nothing
else: any process can compute it, and two that know the same propose the same. Nothing here is read or written.
"""

import math
from dataclasses import asdict, dataclass
from numbers import Integral, Real

import numpy as np

from hcreg.files import plain
from hcreg.tuning import search_space
from hcreg.tuning.search_space import values_key

__all__ = ["Bayesian", "Grid", "Proposal", "Random", "SeenTrial", "values_key"]

STATES = ("waiting", "running", "completed", "diverged", "failed")
ENDED = ("completed", "diverged")
DIRECTIONS = ("min", "max")
NEAR = 1e-3  # of a range: what replaces a repeated proposal keeps this distance from all trials
MAX_COMBINATIONS = 10_000


@dataclass(frozen=True)
class SeenTrial:
    """What a proposal needs to know of a trial.

    Parameters
    ----------
    number : int
    values : dict
        Of its active hyperparameters.
    state : {"waiting", "running", "completed", "diverged", "failed"}
    objective : float or None
        Finite where the trial is completed, not looked at otherwise.

    Raises
    ------
    ValueError
        If the state is unknown, or the objective of a completed trial is not a finite number.
    """

    number: int
    values: dict
    state: str
    objective: float | None = None

    def __post_init__(self):
        if self.state not in STATES:
            raise ValueError(f"Trial {self.number} has the state {self.state!r}; the states are {', '.join(STATES)}.")
        if self.state != "completed":
            return
        if not isinstance(self.objective, Real) or not math.isfinite(self.objective):
            raise ValueError(
                f"Trial {self.number} is completed with the objective {self.objective!r}; the objective of a completed "
                "trial is a finite number. Record a trial whose objective is nan or inf as diverged."
            )


@dataclass(frozen=True)
class Proposal:
    """What to do next.

    Parameters
    ----------
    action : {"run", "wait", "stop"}
        Run a trial, ask again once another trial has ended, or end: nothing is left to try.
    values : dict or None
        To run with.
    state : dict
        JSON; to be kept with the study and handed to the next proposal.
    """

    action: str
    values: dict | None
    state: dict


def _count(name, value, least):
    """Check a whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {value!r}; give a whole number of at least {least}.")


def _check_seed(seed):
    _count("seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"seed is {seed}; give a whole number below 2**32.")


def _taken(space, trials):
    """Keys of the values that trials had, failed ones included: what failed once is not tried again."""
    return {values_key(search_space.active_values(space, trial.values)) for trial in trials}


def _draw(space, taken, seed, state):
    """Propose values drawn at random, or to stop."""
    values, num_draws = search_space.draw(space, taken, seed, state.get("num_draws", 0))
    return Proposal("stop" if values is None else "run", values, {**state, "num_draws": num_draws})


@dataclass(frozen=True)
class Random:
    """Random search: every value drawn evenly over its range, or over its logarithm.

    Parameters
    ----------
    seed : int, 0 to 2**32 - 1

    Raises
    ------
    ValueError
        If the seed is no such number.

    Notes
    -----
    Values equal those of ``keras_tuner.oracles.RandomSearchOracle`` of the same seed, number by number. Departures: the
    seed 0 is 0 (stock draws another seed), and the ends of a range are kept (`hcreg.tuning.search_space.value_at`).

    Examples
    --------
    >>> import keras_tuner
    >>> hyperparameters = keras_tuner.HyperParameters()
    >>> _ = hyperparameters.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    >>> proposal = Random(seed=1).propose(hyperparameters, [], {})
    >>> proposal.action, round(proposal.values["learning_rate"], 8), proposal.state
    ('run', 3.447e-05, {'num_draws': 1})
    """

    seed: int = 0

    def __post_init__(self):
        _check_seed(self.seed)

    def config(self):
        """What decides the values, as JSON.

        Returns
        -------
        dict
        """
        return plain({"algorithm": "random", **asdict(self)})

    def propose(self, hyperparameters, trials, state):
        """Draw values that no trial had.

        Parameters
        ----------
        hyperparameters : keras_tuner.HyperParameters
            The whole search space.
        trials : sequence of SeenTrial
            All trials of the study.
        state : dict
            Of the proposal before; ``{}`` at first.

        Returns
        -------
        Proposal
            "stop" after 21 draws in a row that trials had before.
        """
        space = hyperparameters.space
        return _draw(space, _taken(space, trials), self.seed, state)


@dataclass(frozen=True)
class Grid:
    """Grid search: every combination of values, the defaults first, the last hyperparameter fastest.

    Notes
    -----
    The order is that of ``keras_tuner.oracles.GridSearchOracle`` with one worker, also in that a ``Float`` without
    ``step`` is tried at its default and 10 more values, in no order. Departures: with several workers stock makes the
    third one wait until a trial ends, here the walk goes on; and hyperparameters that only appear when a trial runs do
    not end the search with a KeyError.
    """

    def config(self):
        """What decides the values, as JSON.

        Returns
        -------
        dict
        """
        return {"algorithm": "grid"}

    def propose(self, hyperparameters, trials, state):
        """The first combination that no trial had.

        Parameters
        ----------
        hyperparameters : keras_tuner.HyperParameters
            The whole search space, as far as it is known.
        trials : sequence of SeenTrial
            All trials of the study.
        state : dict
            Returned as it is.

        Returns
        -------
        Proposal
            After the last combination "wait" while a trial waits or runs, since it may show hyperparameters that are
            not known yet, then "stop".
        """
        space = hyperparameters.space
        taken = _taken(space, trials)
        for values in search_space.combinations(space):
            if values_key(values) not in taken:
                return Proposal("run", values, state)
        unfinished = any(trial.state in ("waiting", "running") for trial in trials)
        return Proposal("wait" if unfinished else "stop", None, state)


@dataclass(frozen=True)
class Bayesian:
    """Bayesian optimisation: a Gaussian process of the objective, and its lower confidence bound.

    Parameters
    ----------
    direction : {"min", "max"}
        Whether a low objective is good (a loss) or a high one (a score).
    seed : int, 0 to 2**32 - 1
    num_initial_points : int, optional
        Trials drawn at random before the first fit; by default 3 for each hyperparameter, at least 3.
    alpha : float, positive
        Variance of the objective's noise, of objectives scaled to variance 1.
    beta : float, not negative
        Standard deviations below the mean at which values are hoped for; larger explores more.

    Raises
    ------
    ValueError
        If one of them is out of its range.

    Notes
    -----
    With one worker and finite objectives the values equal those of ``keras_tuner.oracles.BayesianOptimizationOracle``
    of the same seed, number by number. Departures:

    - A diverged trial is neither 0 (stock's reading of an infinite loss, better than all others) nor forgotten (its
      reading of NaN): it has an objective as far above the worst as the worst is above the best. Diverged trials count
      as initial points, once one trial is completed.
    - So has a trial whose objective is finite but huge, lest all others look alike: more than 1000 times farther above
      the median than the best is below it, and above it by more than ten times the median. The median is that of trials
      which are apart from each other by 5 % of a range; without the outliers found it may show more.
    - Trials that run or wait are taken to end one standard deviation above what is expected of their values, by a
      process fitted without them (stock asks the process of an earlier time). So are failed trials, lest the next
      proposal is theirs again.
    - A proposal that repeats a trial's values is replaced: where the space is finite by the most hopeful combination
      that is left (where no more than 10 000 are), else by the next optimum, else by values drawn at random. A space in
      which nothing is left stops the search.
    - The seed 0 is 0, and the ends of a range are kept (`hcreg.tuning.search_space.value_at`).
    """

    direction: str = "min"
    seed: int = 0
    num_initial_points: int | None = None
    alpha: float = 1e-4
    beta: float = 2.6

    def __post_init__(self):
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"direction is {self.direction!r}; give 'min' where a low objective is good (a loss), 'max' where a "
                "high one is (a score)."
            )
        _check_seed(self.seed)
        if self.num_initial_points is not None:
            _count("num_initial_points", self.num_initial_points, 1)
        if not isinstance(self.alpha, Real) or not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha!r}; give a positive number, such as 1e-4: the noise's variance.")
        if not isinstance(self.beta, Real) or not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta!r}; give a number of at least 0, such as 2.6; more explores more.")

    def config(self):
        """What decides the values, as JSON.

        Returns
        -------
        dict
        """
        return plain({"algorithm": "bayesian", **asdict(self)})

    def propose(self, hyperparameters, trials, state):
        """Values from which the most can be hoped, or drawn at random while too little is known.

        Parameters
        ----------
        hyperparameters, trials, state
            As of `Random.propose`.

        Returns
        -------
        Proposal
            "stop" if there is nothing left to try; a space without anything to tune is tried once.
        """
        space = hyperparameters.space
        taken = _taken(space, trials)
        ended = [trial for trial in trials if trial.state in ENDED]
        others = [trial for trial in trials if trial.state not in ENDED]
        needed = self.num_initial_points or max(3 * len(space), 3)
        known = len(ended) >= needed and any(trial.state == "completed" for trial in ended)
        if not known or not search_space.tunable(space):
            return _draw(space, taken, self.seed, state)
        from hcreg.tuning.gaussian_process import starts_after

        num_drawn = state.get("num_starts_drawn", 0)
        starts = starts_after(num_drawn, len(search_space.tunable(space)), self.seed)
        state = {**state, "num_starts_drawn": num_drawn + starts.size}
        try:
            process = self._fit(space, ended, others)
        except np.linalg.LinAlgError:  # alpha is too small for trials so near to each other: go on, by chance
            return _draw(space, taken, self.seed, state)
        optima = process.most_hopeful(starts, self.beta)
        values = search_space.from_vector(space, optima[0])
        if values_key(values) not in taken:
            return Proposal("run", values, state)
        return self._instead(space, trials, taken, process, optima, state)

    def _fit(self, space, ended, others):
        """Fit to the trials that ended, then take the others to end somewhat worse than expected."""
        from hcreg.tuning.gaussian_process import GaussianProcess, penalised

        points = np.array([search_space.to_vector(space, trial.values) for trial in ended], float)
        sign = 1.0 if self.direction == "min" else -1.0
        diverged = [trial.state == "diverged" for trial in ended]
        objectives = [0.0 if bad else sign * trial.objective for trial, bad in zip(ended, diverged, strict=True)]
        objectives = penalised(points, objectives, diverged)
        process = GaussianProcess(points, objectives, self.alpha, self.seed)
        if not others:
            return process
        other_points = np.array([search_space.to_vector(space, trial.values) for trial in others], float)
        mean, std = process.predict(other_points)
        points, objectives = np.concatenate([points, other_points]), np.concatenate([objectives, mean + std])
        return GaussianProcess(points, objectives, self.alpha, self.seed, kernel=process.kernel)

    def _instead(self, space, trials, taken, process, optima, state):
        """Replace a proposal that a trial had."""
        left = _left(space, taken) if search_space.is_finite(space) else None
        if left == []:
            return Proposal("stop", None, state)
        if left:
            points = np.array([search_space.to_vector(space, values) for values in left], float)
            return Proposal("run", left[np.argmin(process.lower_bound(points, self.beta))], state)
        tried = np.array([search_space.to_vector(space, trial.values) for trial in trials], float)
        for optimum in optima[1:]:
            values = search_space.from_vector(space, optimum)
            distance = np.abs(tried - search_space.to_vector(space, values)).max(axis=1).min()
            if distance > NEAR:
                return Proposal("run", values, state)
        return _draw(space, taken, self.seed, state)


def _left(space, taken):
    """Combinations of a finite space that no trial had; None if there are more than can be looked at."""
    found = []
    for values in search_space.combinations(space):
        if values_key(values) not in taken:
            found.append(values)
        if len(found) > MAX_COMBINATIONS:
            return None
    return found
