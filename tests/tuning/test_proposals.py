"""Proposals equal those of stock Keras Tuner where it is right, and keep away from divergence where it is not."""

import json
import math
import random

import keras_tuner
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from experiments.benchmarks.tuning_search import search, stock_oracle, stock_search
from hcreg.tuning import proposals, search_space
from hcreg.tuning.proposals import Bayesian, Grid, Proposal, Random, SeenTrial, values_key


def learning_rate(low=1e-6, high=1e-1):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("learning_rate", low, high, sampling="log")
    return hyperparameters


def two():
    hyperparameters = learning_rate()
    hyperparameters.Float("dropout", 0.0, 0.5)
    return hyperparameters


def mixed():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("optimizer", ["sgd", "adam"])
    hyperparameters.Int("units", 8, 640)
    hyperparameters.Boolean("bias")
    hyperparameters.Fixed("epochs", 3)
    with hyperparameters.conditional_scope("optimizer", ["sgd"]):
        hyperparameters.Float("momentum", 0.0, 0.99)
    hyperparameters.Int("batch_size", 1, 64, sampling="log")
    return hyperparameters


def choices(values=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("learning_rate", list(values))
    return hyperparameters


def bowl(values):
    exponent = math.log10(values["learning_rate"])
    return (exponent + 3.3) ** 2 + 0.1 * math.sin(5 * exponent) + 5 * (values.get("dropout", 0.2) - 0.2) ** 2


def of_mixed(values):
    found = (values["units"] - 410) ** 2 / 1e4 + values["bias"] + abs(math.log(values["batch_size"]) - 2)
    return found + (values["momentum"] if values["optimizer"] == "sgd" else 0.4)


def completed(rates, objective=bowl, state="completed"):
    found = [{"learning_rate": rate} for rate in rates]
    return [SeenTrial(number, values, state, objective(values)) for number, values in enumerate(found)]


SEARCHES = {
    "learning rate, min": (learning_rate, bowl, "min", 5, {}, 18),
    "two, max": (two, lambda values: 10 - bowl(values), "max", 1, {}, 12),
    "mixed": (mixed, of_mixed, "min", 5, {"num_initial_points": 8}, 11),
    "settings": (two, bowl, "min", 4, {"num_initial_points": 3, "alpha": 1e-2, "beta": 1.0}, 8),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_bayesian_values_are_those_of_stock(case, tmp_path):
    make, objective, direction, seed, options, num_trials = SEARCHES[case]
    ours = search(Bayesian(direction, seed, **options), make(), objective, num_trials)
    name, options = "BayesianOptimizationOracle", {"max_trials": num_trials, "seed": seed, **options}
    stock = stock_search(stock_oracle(name, make(), tmp_path, direction, **options), objective)
    assert [values for values, _ in ours] == [values for values, _ in stock]
    assert len({values_key(values) for values, _ in stock}) == num_trials, "take a case in which stock repeats nothing"


@pytest.mark.parametrize(("make", "num_trials"), [(learning_rate, 30), (mixed, 30), (choices, 5)])
def test_random_values_are_those_of_stock(make, num_trials, tmp_path):
    ours = search(Random(3), make(), lambda values: 1.0, 30)
    oracle = stock_oracle("RandomSearchOracle", make(), tmp_path, max_trials=30, seed=3)
    assert ours == stock_search(oracle, lambda values: 1.0)
    assert len(ours) == num_trials


@pytest.mark.parametrize(("make", "num_trials"), [(learning_rate, 11), (mixed, 40), (choices, 5)])
def test_grid_values_are_those_of_stock(make, num_trials, tmp_path):
    ours = search(Grid(), make(), lambda values: 1.0, 40)
    assert ours == stock_search(stock_oracle("GridSearchOracle", make(), tmp_path, max_trials=40), lambda values: 1.0)
    assert len(ours) == num_trials


@pytest.mark.parametrize("algorithm", [Bayesian, Random])
def test_seed_0_is_0(algorithm):
    rate = algorithm(seed=0).propose(learning_rate(), [], {}).values["learning_rate"]
    assert rate == pytest.approx(1e-6 * 1e5 ** random.Random(0).random())


def test_a_proposal_follows_from_what_is_known_alone():
    algorithm, state, trials = Bayesian(seed=2), {}, []
    for number in range(6):
        proposal = algorithm.propose(two(), trials, state)
        elsewhere = Bayesian(**{name: value for name, value in algorithm.config().items() if name != "algorithm"})
        kept = json.loads(json.dumps([trial.values for trial in trials]))
        again = [SeenTrial(trial.number, values, trial.state, trial.objective) for trial, values in zip(trials, kept)]
        assert elsewhere.propose(two(), again, json.loads(json.dumps(state))) == proposal
        state = proposal.state
        trials.append(SeenTrial(number, proposal.values, "completed", bowl(proposal.values)))
    assert state == {"num_draws": 12}
    assert algorithm.propose(two(), trials, state).state == {"num_draws": 12, "num_starts_drawn": 100}


def test_neither_state_nor_hyperparameters_are_changed():
    hyperparameters, state, trials = two(), {"num_draws": 4}, completed([1e-5, 1e-4, 1e-3, 1e-2, 2e-2, 3e-2])
    before = hyperparameters.get_config()
    for algorithm in (Bayesian(), Random(), Grid()):
        algorithm.propose(hyperparameters, trials, state)
    assert state == {"num_draws": 4}
    assert hyperparameters.get_config() == before


def test_configurations_are_json():
    assert Bayesian("max", np.int64(3)).config() == {
        "algorithm": "bayesian",
        "direction": "max",
        "seed": 3,
        "num_initial_points": None,
        "alpha": 1e-4,
        "beta": 2.6,
    }
    assert json.loads(json.dumps(Bayesian(seed=np.int64(3)).config()))["seed"] == 3
    assert Random(7).config() == {"algorithm": "random", "seed": 7}
    assert Grid().config() == {"algorithm": "grid"}


DIVERGING = {
    "nan": lambda exponent: math.nan,
    "inf": lambda exponent: math.inf,
    "huge": lambda exponent: 10 ** (20 + 8 * exponent),
}


@pytest.mark.parametrize("beyond", DIVERGING)
def test_a_search_keeps_away_from_divergence(beyond):
    def objective(values):
        exponent = math.log10(values["learning_rate"])
        return DIVERGING[beyond](exponent) if exponent > -2.5 else bowl(values)

    chosen = [values["learning_rate"] for values, _ in search(Bayesian(seed=1000), learning_rate(), objective, 20)]
    assert sum(rate > 10**-2.5 for rate in chosen[3:]) <= 3
    best = scipy.optimize.minimize_scalar(
        lambda exponent: bowl({"learning_rate": 10**exponent}), bounds=(-4, -2.5), method="bounded"
    )
    assert min(abs(math.log10(rate) - best.x) for rate in chosen) < 0.2


def test_a_score_that_diverged_is_penalised_downwards():
    trials = completed([1e-5, 1e-4, 1e-3], lambda values: -bowl(values))
    trials += [
        SeenTrial(3, {"learning_rate": 1e-1}, "diverged", math.inf),
        SeenTrial(4, {"learning_rate": 5e-2}, "diverged"),
    ]
    for direction, sign in (("max", 1), ("min", -1)):
        trials = [
            SeenTrial(t.number, t.values, t.state, t.objective * sign if t.state == "completed" else None)
            for t in trials
        ]
        assert Bayesian(direction).propose(learning_rate(), trials, {}).values["learning_rate"] < 1e-2


def test_diverged_trials_count_as_initial_points_once_one_is_completed():
    diverged = completed([1e-1, 5e-2, 2e-2], lambda values: None, "diverged")
    assert "num_starts_drawn" not in Bayesian().propose(learning_rate(), diverged, {}).state
    one = [*diverged, SeenTrial(3, {"learning_rate": 1e-4}, "completed", 0.3)]
    proposal = Bayesian().propose(learning_rate(), one, {})
    assert proposal.state == {"num_starts_drawn": 50}
    assert proposal.values["learning_rate"] < 1e-2


def test_trials_of_others_are_taken_to_end_worse_than_expected():
    """Written anew with scikit-learn: fit to the completed, then add mean plus deviation of the others, kernel kept."""
    rates, others = [1e-6, 1e-5, 4e-5, 2e-4, 2e-3, 2e-2, 1e-1], {"running": 6e-4, "waiting": 2e-5, "failed": 9e-3}
    trials = [SeenTrial(0, {"learning_rate": others["running"]}, "running"), *completed(rates)]
    trials += [SeenTrial(9, {"learning_rate": others[state]}, state) for state in ("waiting", "failed")]

    def share(values):
        return np.array([[math.log(value / 1e-6) / math.log(1e5)] for value in values])

    fitted = GaussianProcessRegressor(
        Matern(nu=2.5), alpha=1e-4, n_restarts_optimizer=20, normalize_y=True, random_state=1
    )
    objectives = [bowl({"learning_rate": rate}) for rate in rates]
    fitted.fit(share(rates), objectives)
    mean, std = fitted.predict(share(others.values()), return_std=True)
    kept = GaussianProcessRegressor(fitted.kernel_, alpha=1e-4, optimizer=None, normalize_y=True)
    kept.fit(np.concatenate([share(rates), share(others.values())]), [*objectives, *(mean + std)])
    grid = np.linspace(0, 1, 20001).reshape(-1, 1)
    grid_mean, grid_std = kept.predict(grid, return_std=True)
    expected = grid[np.argmin(grid_mean - 2.6 * grid_std), 0]
    found = Bayesian(seed=1).propose(learning_rate(), trials, {}).values["learning_rate"]
    assert share([found])[0, 0] == pytest.approx(expected, abs=2e-4)
    alone = Bayesian(seed=1).propose(learning_rate(), completed(rates), {}).values["learning_rate"]
    assert abs(share([alone])[0, 0] - expected) > 1e-2


def test_many_workers_at_once_get_values_apart():
    trials, state = completed([1e-5, 1e-4, 2e-3, 5e-2]), {}
    for number in range(4, 10):
        proposal = Bayesian().propose(learning_rate(), trials, state)
        trials, state = [*trials, SeenTrial(number, proposal.values, "running")], proposal.state
    exponents = sorted(math.log10(trial.values["learning_rate"]) for trial in trials[4:])
    assert min(np.diff(exponents)) > 0.02


def test_what_failed_is_not_tried_again_at_once():
    trials = completed([1e-5, 1e-4, 2e-3, 5e-2])
    first = Bayesian().propose(learning_rate(), trials, {})
    failed = [*trials, SeenTrial(4, first.values, "failed")]
    second = Bayesian().propose(learning_rate(), failed, first.state)
    assert abs(math.log10(second.values["learning_rate"] / first.values["learning_rate"])) > 0.1


def test_a_finite_space_is_tried_whole_and_once(tmp_path):
    def rising(values):
        return values["learning_rate"]

    tried = [values["learning_rate"] for values, _ in search(Bayesian(seed=1), choices(), rising, 20)]
    assert sorted(tried) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    stock = stock_oracle("BayesianOptimizationOracle", choices(), tmp_path, max_trials=8, seed=1)
    assert len({values["learning_rate"] for values, _ in stock_search(stock, rising)}) < 8


def test_of_a_finite_space_the_most_hopeful_of_what_is_left_is_tried():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 0, 20)
    seen = [SeenTrial(n, {"units": n}, "completed", float((n - 9) ** 2)) for n in (0, 4, 9, 14, 20, 7, 11)]
    for number in (7, 8):  # the least expected is at 9, which was tried, then beside it
        units = Bayesian(beta=0.0).propose(hyperparameters, seen, {}).values["units"]
        seen.append(SeenTrial(number, {"units": units}, "completed", float((units - 9) ** 2)))
    assert {trial.values["units"] for trial in seen[7:]} == {8, 10}


def test_of_a_large_finite_space_another_optimum_or_a_draw_is_tried(monkeypatch):
    monkeypatch.setattr(proposals, "MAX_COMBINATIONS", 3)
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 0, 20)
    seen = [SeenTrial(n, {"units": n}, "completed", float((n - 9) ** 2)) for n in (0, 4, 9, 14, 20, 7, 11)]
    proposal = Bayesian(beta=0.0).propose(hyperparameters, seen, {})
    assert proposal.action == "run"
    assert proposal.values["units"] not in {0, 4, 9, 14, 20, 7, 11}


def test_values_that_stock_repeats_are_replaced(tmp_path):
    """The least of a rising line is at the end of the range, where stock goes again and again."""

    def rising(values):
        return math.log10(values["learning_rate"])

    stock = stock_oracle("BayesianOptimizationOracle", learning_rate(), tmp_path, max_trials=12, seed=1)
    stock = [values["learning_rate"] for values, _ in stock_search(stock, rising)]
    ours = [values["learning_rate"] for values, _ in search(Bayesian(seed=1), learning_rate(), rising, 12)]
    assert len(set(stock)) < 12
    assert len(set(ours)) == 12
    assert 1e-6 in ours


@pytest.mark.parametrize("algorithm", [Bayesian(num_initial_points=1), Random(), Grid()])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_space_without_anything_to_tune_is_tried_once(algorithm, fixed):
    hyperparameters = keras_tuner.HyperParameters()
    if fixed:
        hyperparameters.Fixed("learning_rate", 1e-3)
    first = algorithm.propose(hyperparameters, [], {})
    assert (first.action, first.values) == ("run", {"learning_rate": 1e-3} if fixed else {})
    second = algorithm.propose(hyperparameters, [SeenTrial(0, first.values, "completed", 1.0)], first.state)
    assert (second.action, second.values) == ("stop", None)


def test_a_kernel_that_cannot_be_inverted_does_not_end_the_search():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("dropout", 0.0, 1.0)
    trials = [SeenTrial(n, {"dropout": 0.5 + n * 1e-12}, "completed", float(n % 2)) for n in range(30)]
    proposal = Bayesian(seed=3, alpha=1e-300).propose(hyperparameters, trials, {})
    assert proposal.action == "run"
    assert proposal.values["dropout"] == random.Random(3).random()


def test_grid_waits_for_trials_that_may_show_more_then_stops():
    trials = [
        SeenTrial(n, {"learning_rate": rate}, "completed", 1.0) for n, rate in enumerate([1e-5, 1e-4, 1e-3, 1e-2])
    ]
    assert Grid().propose(choices(), trials, {"a": 1}) == Proposal("run", {"learning_rate": 1e-1}, {"a": 1})
    for state, action in (("running", "wait"), ("waiting", "wait"), ("failed", "stop"), ("diverged", "stop")):
        assert Grid().propose(choices(), [*trials, SeenTrial(4, {"learning_rate": 1e-1}, state)], {}).action == action


def test_grid_goes_on_with_hyperparameters_that_a_trial_showed():
    hyperparameters = choices([1e-3, 1e-2])
    trials = [SeenTrial(n, {"learning_rate": rate}, "completed", 1.0) for n, rate in enumerate([1e-3, 1e-2])]
    assert Grid().propose(hyperparameters, trials, {}).action == "stop"
    hyperparameters.Boolean("bias")
    assert Grid().propose(hyperparameters, trials, {}).values == {"learning_rate": 1e-3, "bias": True}


SPACES = st.fixed_dictionaries(
    {
        "low": st.floats(1e-8, 1e-3),
        "span": st.floats(1.5, 1e6),
        "units": st.tuples(st.integers(1, 50), st.integers(0, 300)),
        "sampling": st.sampled_from(["linear", "log", "reverse_log"]),
    }
)


@settings(max_examples=6, deadline=None)
@given(SPACES, st.integers(0, 2**32 - 1), st.booleans())
def test_proposals_lie_inside_the_ranges_and_differ(sizes, seed, at_the_ends):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("learning_rate", sizes["low"], sizes["low"] * sizes["span"], sampling=sizes["sampling"])
    first, more = sizes["units"]
    hyperparameters.Int("units", first, first + more, sampling=sizes["sampling"])
    hyperparameters.Boolean("bias")

    def objective(values):
        sign = 1 if at_the_ends else -1
        return sign * math.log(values["units"]) + sign * math.log(values["learning_rate"])

    for algorithm in (Bayesian(seed=seed, num_initial_points=2), Random(seed), Grid()):
        found = search(algorithm, hyperparameters, objective, 4)
        assert len(found) == 4
        assert len({values_key(values) for values, _ in found}) == 4
        for values, _ in found:
            assert set(values) == {"learning_rate", "units", "bias"}
            for one in hyperparameters.space[:2]:
                assert one.min_value <= values[one.name] <= one.max_value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": "minimize"}, r"direction is 'minimize'; give 'min' .*\(a loss\), 'max'"),
        ({"alpha": 0}, r"alpha is 0; give a positive number"),
        ({"alpha": math.nan}, r"alpha is nan; give a positive number"),
        ({"beta": -1}, r"beta is -1; give a number of at least 0"),
        ({"beta": math.inf}, r"beta is inf; give a number of at least 0"),
        ({"num_initial_points": 0}, r"num_initial_points is 0; give a whole number of at least 1"),
        ({"num_initial_points": 2.5}, r"num_initial_points is 2.5; give a whole number"),
        ({"seed": -1}, r"seed is -1; give a whole number of at least 0"),
        ({"seed": None}, r"seed is None; give a whole number"),
        ({"seed": True}, r"seed is True; give a whole number"),
        ({"seed": 2**32}, r"seed is 4294967296; give a whole number below 2\*\*32"),
    ],
)
def test_settings_out_of_range_are_refused_by_words(options, words):
    with pytest.raises(ValueError, match=words):
        Bayesian(**options)
    if "seed" in options:
        with pytest.raises(ValueError, match=words):
            Random(**options)


@pytest.mark.parametrize("objective", [None, math.nan, math.inf, "0.3"])
def test_a_completed_trial_has_a_finite_objective(objective):
    with pytest.raises(ValueError, match=r"Trial 3 is completed with the objective .* Record .* as diverged"):
        SeenTrial(3, {}, "completed", objective)


def test_an_unknown_state_is_refused_by_words():
    with pytest.raises(
        ValueError, match=r"Trial 3 has the state 'COMPLETED'; the states are waiting, running, completed"
    ):
        SeenTrial(3, {}, "COMPLETED", 1.0)


def test_a_key_can_be_had_from_here():
    assert values_key is search_space.values_key
