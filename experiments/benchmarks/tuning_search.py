"""Does the Bayesian search find a learning rate where training diverges above some of them, and what does it cost?

python -m experiments.benchmarks.tuning_search

Known curves of the loss over the learning rate take the place of training. Compared are ours, random search, and stock
Keras Tuner driven as its tuner drives it.
"""

import argparse
import importlib.metadata
import math
import statistics
import sys
import tempfile
import time
import warnings

import numpy as np

from experiments.benchmarks.common import save
from hcreg.files import write_rows
from hcreg.tuning.proposals import Bayesian, Random, SeenTrial

LOW, HIGH = 1e-6, 1.0
BEST_EXPONENT, LOWEST_LOSS = -3.2, 0.25
EDGE_EXPONENT = -2.5  # training diverges above 10 to this power
BEYOND_THE_EDGE = {
    "nan": lambda excess: math.nan,
    "inf": lambda excess: math.inf,
    "huge": lambda excess: 10.0 ** min(4 + 8 * excess, 30),
    "huge, inf, nan": lambda excess: 1e4 * 1e6**excess if excess < 0.5 else math.inf if excess < 1 else math.nan,
}
FINITE = "finite"  # the bowl goes on
SEEDS = [1000 * number for number in range(1, 11)]  # far apart: the random draws of seeds 1 and 2 are mostly the same
NUM_INITIAL_POINTS = 3


def loss(curve, values):
    """Loss at a learning rate: a parabola over its logarithm, then something else.

    Parameters
    ----------
    curve : str
        Of `BEYOND_THE_EDGE`, or `FINITE`.
    values : dict
        With ``learning_rate``.

    Returns
    -------
    float
    """
    exponent = math.log10(values["learning_rate"])
    if curve != FINITE and exponent > EDGE_EXPONENT:
        return BEYOND_THE_EDGE[curve](exponent - EDGE_EXPONENT)
    return LOWEST_LOSS + 0.12 * (exponent - BEST_EXPONENT) ** 2


def learning_rates():
    """The space of one learning rate.

    Returns
    -------
    keras_tuner.HyperParameters
    """
    import keras_tuner

    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("learning_rate", LOW, HIGH, sampling="log")
    return hyperparameters


def search(algorithm, hyperparameters, objective, num_trials):
    """Run a search of ours, one trial after the other.

    Parameters
    ----------
    algorithm : Bayesian, Random or Grid
    hyperparameters : keras_tuner.HyperParameters
    objective : callable
        Of the values; nan and inf are a trial that diverged.
    num_trials : int

    Returns
    -------
    list of (dict, float)
        Values and objective of each trial.
    """
    trials, state = [], {}
    for number in range(num_trials):
        proposal = algorithm.propose(hyperparameters, trials, state)
        if proposal.action != "run":
            break
        found, state = objective(proposal.values), proposal.state
        trials.append(
            SeenTrial(number, proposal.values, "completed" if math.isfinite(found) else "diverged", float(found))
        )
    return [(trial.values, trial.objective) for trial in trials]


def stock_oracle(name, hyperparameters, folder, direction="min", **options):
    """An oracle of stock Keras Tuner that writes to a folder and prints nothing.

    Parameters
    ----------
    name : str
        Of ``keras_tuner.oracles``.
    hyperparameters : keras_tuner.HyperParameters
    folder : path-like
    direction : {"min", "max"}
    **options
        Of the oracle.

    Returns
    -------
    keras_tuner.Oracle
    """
    import keras_tuner

    goal = keras_tuner.Objective("objective", direction)
    oracle = getattr(keras_tuner.oracles, name)(goal, hyperparameters=hyperparameters, **options)
    oracle._set_project_dir(str(folder), "stock")
    oracle.verbose = 0
    return oracle


def stock_search(oracle, objective):
    """Run a search of stock Keras Tuner as its tuner does: a NaN is reported like any other objective.

    Parameters
    ----------
    oracle : keras_tuner.Oracle
        With ``max_trials``.
    objective : callable
        Of the values.

    Returns
    -------
    list of (dict, float)
        Values and objective of each trial; fewer than ``max_trials`` where three failed in a row, which ends a search.
    """
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each fit, of a length scale at its bound, and one for each NaN
        while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
            values = dict(trial.hyperparameters.values)
            found.append((values, objective(values)))
            oracle.update_trial(trial.trial_id, {"objective": found[-1][1]})
            trial.status = "COMPLETED"
            try:
                oracle.end_trial(trial)
            except RuntimeError:
                break
    return found


def row_of(curve, algorithm, seed, trials, num_trials):
    """What came of one search.

    Parameters
    ----------
    curve, algorithm : str
    seed : int
    trials : list of (dict, float)
    num_trials : int
        Asked for.

    Returns
    -------
    dict
        ``excess`` is the best loss less the lowest there is, inf if all diverged; ``percent_diverging`` counts the
        trials above the edge among those after the initial points, which are drawn at random.
    """
    chosen = [values["learning_rate"] for values, _ in trials[NUM_INITIAL_POINTS:]]
    above = [rate > 10**EDGE_EXPONENT for rate in chosen]
    finite = [found for _, found in trials if math.isfinite(found)]
    return {
        "curve": curve,
        "algorithm": algorithm,
        "seed": seed,
        "num_trials": len(trials),
        "excess": min(finite, default=math.inf) - LOWEST_LOSS,
        "percent_diverging": 100 * statistics.mean(above) if above else math.nan,
        "ended_early": int(len(trials) < num_trials),
    }


def compare_on(curve, seeds, num_trials):
    """Search one curve with every algorithm and seed.

    Parameters
    ----------
    curve : str
    seeds : sequence of int
    num_trials : int

    Returns
    -------
    list of dict
        Rows.
    """
    rows = []
    for seed in seeds:
        found = {
            "bayesian": search(Bayesian(seed=seed), learning_rates(), lambda v: loss(curve, v), num_trials),
            "random": search(Random(seed=seed), learning_rates(), lambda v: loss(curve, v), num_trials),
        }
        with tempfile.TemporaryDirectory() as folder:
            name = "BayesianOptimizationOracle"
            oracle = stock_oracle(name, learning_rates(), folder, max_trials=num_trials, seed=seed)
            found["stock bayesian"] = stock_search(oracle, lambda v: loss(curve, v))
        rows += [row_of(curve, algorithm, seed, trials, num_trials) for algorithm, trials in found.items()]
    return rows


def goals_of(rows):
    """Median over the seeds, ours against random and stock.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    list of dict
        Goals.
    """
    goals = []
    for curve in dict.fromkeys(row["curve"] for row in rows):
        part = [row for row in rows if row["curve"] == curve]
        excess, shares, early = {}, {}, {}
        for name in ("bayesian", "random", "stock bayesian"):
            mine = [row for row in part if row["algorithm"] == name]
            excess[name] = statistics.median(row["excess"] for row in mine)
            shares[name] = statistics.mean([row["percent_diverging"] for row in mine if row["num_trials"] > 3] or [0.0])
            early[name] = sum(row["ended_early"] for row in mine)
        ratio = excess["bayesian"] / excess["random"]
        told = ", ".join(f"{name} {value:.2g}" for name, value in excess.items())
        above = ", ".join(f"{name} {value:.0f} %" for name, value in shares.items())
        goals.append(
            {
                "goal": f"{curve}: median excess of the best loss, ours over random search's, < 1",
                "measured": ratio,
                "met": ratio < 1,
                "explanation": f"{told}; proposals above the edge: {above}; "
                f"stock ended early in {early['stock bayesian']} of {len(part) // 3} searches",
            }
        )
    return goals


def spaces():
    """Spaces and objectives on which ours must equal stock, trial by trial.

    Returns
    -------
    dict of str to (callable, callable)
        Function that makes the space; objective.
    """

    def wider():
        hyperparameters = learning_rates()
        hyperparameters.Float("dropout", 0.0, 0.6)
        hyperparameters.Choice("optimizer", ["sgd", "adam"])
        with hyperparameters.conditional_scope("optimizer", ["sgd"]):
            hyperparameters.Float("momentum", 0.0, 0.99)
        return hyperparameters

    def of_wider(values):
        return loss(FINITE, values) + (values["dropout"] - 0.2) ** 2 + abs(values.get("momentum", 0.5) - 0.8)

    return {"learning rate": (learning_rates, lambda v: loss(FINITE, v)), "four, one conditional": (wider, of_wider)}


def largest_difference(seeds, num_trials):
    """Compare ours with stock's proposals for finite objectives.

    Parameters
    ----------
    seeds : sequence of int
    num_trials : int

    Returns
    -------
    difference : float
        Largest absolute difference of a value, infinite if the searches propose different choices.
    num_compared : int
        Trials; those of a search from where stock repeats itself on are left out, since ours never does.
    """
    largest, num_compared = 0.0, 0
    for make, objective in spaces().values():
        for seed in seeds:
            direction = "min" if seed == seeds[0] else "max"
            sign = 1 if direction == "min" else -1
            ours = search(Bayesian(direction, seed), make(), lambda v: sign * objective(v), num_trials)  # noqa: B023
            with tempfile.TemporaryDirectory() as folder:
                name = "BayesianOptimizationOracle"
                oracle = stock_oracle(name, make(), folder, direction, max_trials=num_trials, seed=seed)
                stock = stock_search(oracle, lambda v: sign * objective(v))  # noqa: B023
            seen = []
            for (mine, _), (theirs, _) in zip(ours, stock, strict=True):
                if theirs in seen:
                    break
                seen.append(theirs)
                largest, num_compared = max(largest, difference(mine, theirs)), num_compared + 1
    return largest, num_compared


def difference(values, others):
    """Largest absolute difference of numbers, infinite where names or choices differ.

    Parameters
    ----------
    values, others : dict

    Returns
    -------
    float
    """
    if set(values) != set(others):
        return math.inf
    return max(
        abs(value - others[name]) if isinstance(value, int | float) else 0.0 if value == others[name] else math.inf
        for name, value in values.items()
    )


def seconds_of_a_proposal(num_trials, repeats):
    """Time one proposal of ours and of stock, with as many trials behind them.

    Parameters
    ----------
    num_trials, repeats : int

    Returns
    -------
    dict of str to float
        Median seconds of the processor, by "ours" and "stock", which take turns.
    """
    from keras_tuner.engine.trial import Trial

    hyperparameters = learning_rates()
    exponents = np.random.default_rng(0).uniform(math.log10(LOW), math.log10(HIGH), num_trials)
    known = [{"learning_rate": float(10**exponent)} for exponent in exponents]
    seen = [SeenTrial(number, values, "completed", loss(FINITE, values)) for number, values in enumerate(known)]
    with tempfile.TemporaryDirectory() as folder:
        oracle = stock_oracle("BayesianOptimizationOracle", hyperparameters, folder, max_trials=None, seed=1)
        for trial in seen:
            theirs = hyperparameters.copy()
            theirs.values = trial.values
            name = str(trial.number)
            oracle.trials[name] = Trial(theirs, trial_id=name, status="COMPLETED")
            oracle.trials[name].score = trial.objective
        calls = {
            "ours": lambda: Bayesian(seed=1).propose(hyperparameters, seen, {}),
            "stock": lambda: oracle.populate_space("next"),
        }
        seconds = {name: [] for name in calls}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(repeats):
                for name, call in calls.items():
                    started = time.process_time()  # a search shares its machine; the clock would tell of the others
                    call()
                    seconds[name].append(time.process_time() - started)
        return {name: statistics.median(times) for name, times in seconds.items()}


def main(arguments=None):
    """Measure and write results/tuning_search.json and, of every search, results/tuning_search.csv."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.tuning_search")
    parser.add_argument("--curves", nargs="+", choices=[*BEYOND_THE_EDGE, FINITE], default=[*BEYOND_THE_EDGE, FINITE])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help=f"how many, up to {len(SEEDS)}")
    parser.add_argument("--trials", type=int, default=20, help="of each search")
    parser.add_argument("--compared-trials", type=int, default=30, help="of each search that is compared with stock")
    parser.add_argument("--timed-trials", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args(arguments)
    rows = []
    for curve in options.curves:
        rows += compare_on(curve, SEEDS[: options.seeds], options.trials)
    goals = goals_of(rows)
    largest, num_compared = largest_difference(SEEDS[: min(3, options.seeds)], options.compared_trials)
    goals.append(
        {
            "goal": "largest difference of a value from stock's, finite objectives, = 0",
            "measured": largest,
            "met": largest == 0,
            "explanation": f"{num_compared} trials of {len(spaces())} spaces, to lower and to raise the objective; "
            f"keras-tuner {importlib.metadata.version('keras-tuner')}",
        }
    )
    for num_trials in options.timed_trials:
        seconds = seconds_of_a_proposal(num_trials, options.repeats)
        goals.append(
            {
                "goal": f"processor's time of a proposal after {num_trials} trials against stock's, <= 1",
                "measured": seconds["ours"] / seconds["stock"],
                "met": seconds["ours"] <= seconds["stock"],
                "explanation": f"{seconds['ours']:.2f} against {seconds['stock']:.2f} s, one learning rate",
            }
        )
    path = save("tuning_search", goals)
    write_rows(path.with_suffix(".csv"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
