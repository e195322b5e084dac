"""The search finds what random search does not, also in short, and the benchmark judges by its goals."""

import csv
import json
import math

import pytest

from experiments.benchmarks import common, tuning_search
from hcreg.tuning.proposals import Bayesian, Grid, Random


@pytest.mark.proof
def test_bayesian_search_beats_random_search_where_training_diverges():
    curve, median = "huge, inf, nan", []
    for make in (Bayesian, Random):
        rows = [
            tuning_search.row_of(
                curve,
                make.__name__,
                seed,
                tuning_search.search(
                    make(seed=seed), tuning_search.learning_rates(), lambda v: tuning_search.loss(curve, v), 14
                ),
                14,
            )
            for seed in tuning_search.SEEDS[:10]
        ]
        median.append(sorted(row["excess"] for row in rows)[4:6])
    assert sum(median[0]) < 0.2 * sum(median[1])


def test_stock_is_drawn_into_divergence(tmp_path):
    def objective(values):
        return tuning_search.loss("inf", values)

    ours = tuning_search.search(Bayesian(seed=1000), tuning_search.learning_rates(), objective, 12)
    name, options = "BayesianOptimizationOracle", {"max_trials": 12, "seed": 1000}
    oracle = tuning_search.stock_oracle(name, tuning_search.learning_rates(), tmp_path, **options)
    stock = tuning_search.stock_search(oracle, objective)
    rows = [tuning_search.row_of("inf", "either", 1000, trials, 12) for trials in (ours, stock)]
    assert rows[0]["percent_diverging"] < 40 < 80 < rows[1]["percent_diverging"]
    assert ours[:3] == stock[:3]


def test_three_failed_trials_end_the_search_of_stock(tmp_path):
    options = {"max_trials": 9, "seed": 1}
    oracle = tuning_search.stock_oracle("RandomSearchOracle", tuning_search.learning_rates(), tmp_path, **options)
    assert len(tuning_search.stock_search(oracle, lambda values: math.nan)) == 3


def test_the_curve_is_a_parabola_up_to_its_edge():
    assert tuning_search.loss("nan", {"learning_rate": 10**-3.2}) == pytest.approx(0.25)
    assert tuning_search.loss("nan", {"learning_rate": 10**-5.2}) == pytest.approx(0.73)
    assert math.isnan(tuning_search.loss("nan", {"learning_rate": 10**-2.4}))
    assert tuning_search.loss("finite", {"learning_rate": 10**-2.2}) == pytest.approx(0.37)
    assert tuning_search.loss("huge", {"learning_rate": 10**-2.25}) == pytest.approx(1e6)
    assert tuning_search.loss("huge, inf, nan", {"learning_rate": 10**-2.0001}) == pytest.approx(1e7, rel=0.01)
    assert tuning_search.loss("huge, inf, nan", {"learning_rate": 10**-1.8}) == math.inf
    assert math.isnan(tuning_search.loss("huge, inf, nan", {"learning_rate": 1.0}))


def test_a_row_leaves_out_the_initial_points():
    rates = [0.5, 0.5, 0.5, 1e-3, 1e-3, 0.5, 1e-3]
    trials = [({"learning_rate": rate}, math.inf if rate > 1e-2 else 0.3) for rate in rates]
    row = tuning_search.row_of("inf", "random", 1, trials, 9)
    assert row["percent_diverging"] == 25
    assert row["excess"] == pytest.approx(0.05)
    assert (row["num_trials"], row["ended_early"]) == (7, 1)


def test_a_difference_is_that_of_numbers_or_infinite():
    assert tuning_search.difference({"a": 1.0, "b": "x"}, {"b": "x", "a": 1.5}) == 0.5
    assert tuning_search.difference({"a": 1.0, "b": "x"}, {"b": "y", "a": 1.0}) == math.inf
    assert tuning_search.difference({"a": 1.0}, {"b": 1.0}) == math.inf


def test_a_search_ends_where_nothing_is_left():
    assert len(tuning_search.search(Grid(), tuning_search.learning_rates(), lambda values: 1.0, 99)) == 11


def test_goals_and_every_search_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    few = "--curves nan finite --seeds 1 --trials 6 --compared-trials 6 --timed-trials 8 --repeats 1"
    assert tuning_search.main(few.split()) == 0
    result = json.loads((tmp_path / "tuning_search.json").read_text())
    assert result["command"].startswith("python -m experiments.benchmarks.tuning_search")
    assert result["versions"]["scikit-learn"]
    nan, finite, equal, time = result["goals"]
    assert nan["goal"].startswith("nan: median excess")
    assert finite["met"] == (finite["measured"] < 1)
    assert equal["measured"] == 0
    assert equal["met"]
    assert time["met"] == (time["measured"] <= 1)
    with open(tmp_path / "tuning_search.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["algorithm"] for row in rows] == ["bayesian", "random", "stock bayesian"] * 2
    assert {row["seed"] for row in rows} == {"1000"}
