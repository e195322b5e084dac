"""Searches under disturbance, shortened; the measuring functions; and the committed figures are recomputed."""

import csv
import importlib.util
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.benchmarks import common, tuning, tuning_chaos, tuning_together
from experiments.benchmarks.tuning_chaos import KILL, PLANS, STOP, TRAINING, Plan, flaws, goal_of

RESULTS = Path(common.__file__).parent / "results"
SHORT = Plan(
    "short",
    num_workers=3,
    max_trials=12,
    epochs=3,
    epoch_s=0.15,
    lease_s=3,
    raising=(3, 9),
    num_killed=1,
    cut_s=1,
    server=STOP,
    # imported in half of TensorFlow's time; the trials train nothing
    keras_backend="jax" if importlib.util.find_spec("jax") else None,
)


@pytest.fixture(scope="module")
def server():
    from experiments.benchmarks.postgres_server import PostgresServer

    with PostgresServer() as running:
        yield running


@pytest.mark.proof
@pytest.mark.postgres
def test_a_search_loses_nothing_when_a_worker_is_killed_and_connections_and_the_server_break(server):
    rows, figures = tuning_chaos.run(SHORT, server, 180)
    assert flaws(rows, 12, 2) == []
    assert figures["exit_codes"] == [0, 0], figures.get("last_words")
    assert len(figures["killed_in"]) == 1
    assert figures["num_connections_cut"] > 0
    assert figures["outage_s"] > 0
    assert {row["number"] for row in rows if row["state"] == "failed"} == {3, 9}
    killed = rows[figures["killed_in"][0]]
    assert killed["lost"] >= 1
    assert killed["state"] == "completed"
    # what the known curve gives, whoever computed it
    for row in rows:
        if row["state"] == "completed":
            assert row["epochs"] == 3
            assert row["objective"] == pytest.approx(tuning_chaos_curve(row["learning_rate"], 3))
    goal = goal_of(SHORT, rows, figures)
    assert goal["met"]
    assert goal["measured"] == 12
    assert goal["flaws"] == []


def tuning_chaos_curve(learning_rate, epoch):
    from math import log

    return 1 + (log(learning_rate) / log(10) + 3) ** 2 + 1 / epoch


def row(number, **more):
    whole = {
        "search": "s",
        "number": number,
        "state": "completed",
        "learning_rate": 0.001 * (number + 1),
        "objective": 1.0,
        "attempts": 1,
        "lost": 0,
        "released": 0,
        "ended": 1,
        "ends_kept": 1,
        "epochs": 3,
        "epochs_run": 3,
    }
    return {**whole, **more}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0)], r"trials \[1\] are missing, or numbers are double"),
        ([row(0), row(1), row(1, learning_rate=0.5)], "numbers are double"),
        ([row(0), row(1, learning_rate=0.001)], "a value was tried twice"),
        ([row(0), row(1, state="running", ended=0, attempts=1)], "trial 1 is running"),
        ([row(0), row(1, attempts=2, ended=2)], "trial 1 ended 2 times, told to workers 1 times"),
        ([row(0), row(1, ends_kept=2)], "trial 1 ended 1 times, told to workers 2 times"),
        ([row(0), row(1, attempts=2)], "trial 1 has attempts that never ended"),
        ([row(0), row(1, state="failed")], "1 trials failed, 0 raised"),
    ],
)
def test_each_flaw_of_a_search_is_found(rows, words):
    assert any(re.search(words, flaw) for flaw in flaws(rows, 2, 0))


def test_a_search_with_a_flaw_or_a_bad_exit_misses_its_goal():
    plan = Plan("s", num_workers=2, max_trials=2, raising=(), num_killed=1)
    figures = {
        "seconds": 1.0,
        "exit_codes": [0],
        "killed_in": [1],
        "num_cuts": 3,
        "num_connections_cut": 5,
        "outage_s": None,
        "num_retried": 4,
    }
    rows = [row(0), row(1, attempts=2, lost=1, epochs_run=4)]
    whole = goal_of(plan, rows, figures)
    assert (whole["met"], whole["measured"], whole["num_epochs_repeated"]) == (True, 2.0, 1)
    assert "2 completed, 2 distinct values, 3 attempts, 1 lost; 3 cuts of 5 connections" in whole["explanation"]
    assert not goal_of(plan, rows[:1], figures)["met"]
    assert goal_of(plan, rows, {**figures, "exit_codes": [1]})["flaws"] == ["survivors ended with [1]"]
    assert goal_of(plan, rows, {**figures, "killed_in": []})["flaws"] == ["0 workers were killed"]


def test_a_tenth_of_the_trials_raises_and_never_three_in_a_row():
    for plan in PLANS:
        assert len(plan.raising) * 10 == plan.max_trials
        numbers = sorted(plan.raising)
        # more than the workers have under way at once lie between any two
        assert all(later - before > plan.num_workers for before, later in pairwise(numbers))
    assert [plan.server for plan in PLANS] == [None, STOP, KILL]


@pytest.mark.postgres
def test_workers_that_cannot_begin_are_told_of(server):
    with pytest.raises(RuntimeError, match=r"a worker ended before it was ready: (.|\n)*nonsense"):
        tuning_chaos.run(replace(SHORT, keras_backend="nonsense", num_workers=1), server, 60)


def test_a_meter_gives_each_operation_its_own(monkeypatch):
    from experiments.benchmarks import tuning_latency
    from experiments.benchmarks.tuning_latency import Meter

    now = iter([0.0, 1.0, 1.5, 4.0, 10.0, 12.0])
    monkeypatch.setattr(tuning_latency.time, "perf_counter", lambda: next(now))
    meter = Meter()
    with meter("outer"):  # from 0 to 4, of which 1 to 1.5 are the inner one's
        Meter.num_statements += 1
        with meter("inner"):
            Meter.num_statements += 2
        Meter.num_statements += 4
    with meter("inner"):
        pass
    assert meter.records == [{"inner": (2.5, 2), "outer": (3.5, 5)}]


@pytest.mark.proof
@pytest.mark.postgres
def test_what_a_trial_costs_beside_training_is_measured(server):
    from experiments.benchmarks import tuning_latency

    joining, trials = tuning_latency.metered_search(server.dsn(), "metered", 2, "random")
    assert joining["join"][1] > 0
    assert len(trials) == 2
    for record in trials:
        assert {
            "create_trial",
            "proposal",
            "training",
            "record_epochs",
            "save state",
            "save model",
            "end_trial",
        } <= set(record)
        assert record["training"][1] == record["proposal"][1] == record["recorder"][1] == 0
        assert record["record_epochs"][1] == record["end_trial"][1] == 1
        own = sum(seconds for name, (seconds, _) in record.items() if name not in ("training", "proposal"))
        assert tuning_latency.overhead_s(record) == pytest.approx(own)
    slow, fast = {"end_trial": (3.0, 1)}, {"end_trial": (1.0, 1), "training": (9.0, 0)}
    goal = tuning_latency.overhead_goal("far", {"join": (2.0, 7)}, [slow, fast, fast], 2.0)
    assert (goal["measured"], goal["met"]) == (1.0, True)
    assert "1 round trips: end_trial 1000 ms (1); once, to join: 2.00 s, 7 statements" in goal["explanation"]
    assert not tuning_latency.overhead_goal("far", {"join": (2.0, 7)}, [slow, slow, fast], 2.0)["met"]


@pytest.mark.postgres
def test_the_table_of_a_long_study_is_timed(server):
    from experiments.benchmarks import tuning_latency

    server.sql("CREATE DATABASE listed")
    goals = tuning_latency.list_goals(server.dsn(database="listed"), 40, 3, 2, repeats=1)
    assert [goal["measured"] for goal in goals] == [goal["seconds"][0] for goal in goals]
    assert all(goal["measured"] > 0 and goal["met"] == (goal["measured"] < 1) for goal in goals)
    assert "a study of 40 trials with 3 epochs of 2 metrics each, < 1" in goals[0]["goal"]


# -- the committed figures


@pytest.fixture(scope="module")
def committed():
    goals = json.loads((RESULTS / "tuning.json").read_text())["goals"]
    with open(RESULTS / "tuning.csv", newline="") as file:
        rows = [_typed(each) for each in csv.DictReader(file)]
    return {goal["goal"].split(":")[0].split(",")[0]: goal for goal in reversed(goals)}, rows


def _typed(cells):
    words, numbers = ("search", "state"), ("learning_rate", "objective")
    return {
        name: cell if name in words else (float(cell) if cell else None) if name in numbers else int(cell)
        for name, cell in cells.items()
    }


@pytest.mark.parametrize("plan", [*PLANS, TRAINING], ids=lambda plan: plan.name)
def test_the_committed_trials_bear_out_the_committed_figures(committed, plan):
    goals, rows = committed
    goal, mine = goals[plan.name], [each for each in rows if each["search"] == plan.name]
    assert flaws(mine, plan.max_trials, len(plan.raising)) == goal["flaws"] == []
    again = goal_of(plan, mine, {name: goal[name] for name in FIGURES})
    assert again == {name: goal[name] for name in again}
    assert goal["met"]
    assert goal["exit_codes"] == [0] * (plan.num_workers - plan.num_killed)
    assert all(mine[number]["lost"] >= 1 for number in goal["killed_in"])
    assert (goal["outage_s"] is None) == (plan.server is None)


FIGURES = ("seconds", "exit_codes", "killed_in", "num_cuts", "num_connections_cut", "outage_s", "num_retried")


def test_the_committed_training_that_was_killed_ended_as_one_that_was_not(committed):
    _, rows = committed
    found = [
        {each["learning_rate"]: each["objective"] for each in rows if each["search"] == name}
        for name in (TRAINING.name, f"{TRAINING.name}, one worker")
    ]
    assert len(found[0]) == TRAINING.max_trials
    assert found[0] == found[1]


def test_the_committed_run_was_of_everything():
    result = json.loads((RESULTS / "tuning.json").read_text())
    assert result["command"] == "python -m experiments.benchmarks.tuning"
    told = " ".join(goal["goal"] for goal in result["goals"])
    for words in ("same machine", "150 ms", "TrialStore.table", "hcreg trials list", "hcreg tune"):
        assert words in told
    assert len(result["goals"]) == len(tuning_chaos.PLANS) + 4 + 2 + 2 + 1
    assert set(tuning.PARTS) == {"disturbed", "training", "overhead", "list", "together"}
    assert "time.sleep" in tuning_together.SCRIPT
