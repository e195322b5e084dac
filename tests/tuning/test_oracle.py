"""The oracle: values equal to stock's, one study for all who join, trials of everybody, errors by their words."""

import threading
import time

import keras_tuner
import numpy as np
import pytest

from hcreg.tuning import oracle as module
from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.proposals import values_key
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore
from hcreg.tuning.tuner import PostgresTuner

SCORE = keras_tuner.Objective("score", "min")


@pytest.fixture
def store(database):
    store = TrialStore(database)
    yield store
    store.close()


def rate_space():
    space = keras_tuner.HyperParameters()
    space.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    return space


def mixed_space():
    space = rate_space()
    space.Choice("optimiser", ["sgd", "adam", "rmsprop"])
    space.Int("units", 4, 16, step=4)
    space.Boolean("bias")
    return space


def make_oracle(database, study="s", objective=SCORE, max_trials=4, hyperparameters=None, **options):
    options = {"algorithm": "random", "seed": 1, "poll_s": 0.05, **options}
    return PostgresOracle(
        database, study, objective, max_trials, hyperparameters=hyperparameters or rate_space(), **options
    )


def end(oracle, trial, **metrics):
    trial.status = "COMPLETED"
    oracle.update_trial(trial.trial_id, metrics)
    return oracle.end_trial(trial)


def fail(oracle, trial, message, status="FAILED"):
    trial.status, trial.message = status, message
    return oracle.end_trial(trial)


def function(values):
    """A known one: a bowl in the logarithm of the rate, offsets for the rest."""
    offset = {"sgd": 0.3, "adam": 0.0, "rmsprop": 0.1}.get(values.get("optimiser"), 0.0)
    return (
        (np.log10(values["learning_rate"]) + 2.2) ** 2
        + offset
        + values.get("units", 0) / 50
        - values.get("bias", 0) / 9
    )


class TestEqualToStock:
    @pytest.mark.parametrize(
        ("algorithm", "stock", "space", "max_trials"),
        [
            ("bayesian", keras_tuner.oracles.BayesianOptimizationOracle, rate_space, 10),
            ("random", keras_tuner.oracles.RandomSearchOracle, mixed_space, 12),
            ("grid", keras_tuner.oracles.GridSearchOracle, mixed_space, 12),
        ],
    )
    def test_one_worker_of_the_same_seed_tries_the_same_values(
        self, database, tmp_path, algorithm, stock, space, max_trials
    ):
        tried = []

        def run_trial(self, trial, *args, **kwargs):
            tried.append(dict(trial.hyperparameters.values))
            return function(trial.hyperparameters.values)

        ours = type("Ours", (PostgresTuner,), {"run_trial": run_trial})
        theirs = type("Theirs", (keras_tuner.Tuner,), {"run_trial": run_trial})
        ours(
            make_oracle(database, algorithm=algorithm, seed=7, max_trials=max_trials, hyperparameters=space())
        ).search()
        found, tried = tried, []
        theirs(stock(SCORE, max_trials, seed=7, hyperparameters=space()), directory=str(tmp_path)).search(verbose=0)
        assert len(found) == len(tried) == max_trials
        for one, other in zip(found, tried):
            assert one.keys() == other.keys()
            assert one == pytest.approx(other) if algorithm == "bayesian" else one == other
        scores = [function(values) for values in found]
        assert TrialStore(database).best("s")[0]["objective"] == min(scores)


class TestJoining:
    def test_a_study_is_made_once_and_joined(self, database, store):
        oracles = [make_oracle(database) for _ in range(2)]
        for oracle in oracles:
            oracle.join("code", {"device": {"backend": "x"}})
            oracle.join("other code")  # it has joined
        assert oracles[0].study_id == oracles[1].study_id
        definition = store.study("s")["definition"]
        assert (definition["objective"], definition["direction"], definition["code"]) == ("score", "min", "code")
        assert definition["algorithm"]["name"] == "random"
        assert definition["space"][0]["config"]["name"] == "learning_rate"

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"objective": keras_tuner.Objective("other", "min")}, "objective is 'score' there and 'other' here"),
            ({"objective": keras_tuner.Objective("score", "max")}, "direction is 'min' there and 'max' here"),
            ({"seed": 2}, "seed is 1 there and 2 here"),
            ({"algorithm": "grid"}, "algorithm.name is 'random' there and 'grid' here"),
            ({"hyperparameters": mixed_space()}, r"space\.units is None there and \{"),
            ({"definition": {"training": {"epochs": 9}}}, "training is None there and {'epochs': 9} here"),
        ],
    )
    def test_another_search_of_that_name_is_refused_with_the_difference(self, database, changed, words):
        make_oracle(database).join("code")
        with pytest.raises(ValueError, match=f"(?s)The study 's' is another search: .*{words}.*Use another study name"):
            make_oracle(database, **changed).join("code")

    def test_other_code_is_refused_and_accepted_on_request(self, database):
        make_oracle(database).join("def build(hp):\n    return 1\n")
        other = "def build(hp):\n    return 2\n"
        with pytest.raises(
            ValueError, match=r"(?s)code differs:.*-    return 1.*\+    return 2.*accept_code_change=True"
        ):
            make_oracle(database).join(other)
        make_oracle(database, accept_code_change=True).join(other)

    def test_another_range_of_a_hyperparameter_is_shown(self, database):
        make_oracle(database).join()
        space = keras_tuner.HyperParameters()
        space.Float("learning_rate", 1e-4, 1.0, sampling="log")
        with pytest.raises(ValueError, match=r"space\.learning_rate\.max_value is 0\.1 there and 1\.0 here"):
            make_oracle(database, hyperparameters=space).join()

    def test_more_trials_extend_and_fewer_are_refused(self, database, store):
        first = make_oracle(database, max_trials=2)
        for score in (1.0, 2.0):
            end(first, first.create_trial(""), score=score)
        assert first.create_trial("").status == "STOPPED"
        more = make_oracle(database, max_trials=3)
        assert more.create_trial("").trial_id == "0002"
        with pytest.raises(ValueError, match=r"has max_trials=3\. Received: 2; it can be raised, not lowered"):
            make_oracle(database, max_trials=2).join()
        more.release_all()
        assert first.create_trial("").trial_id == "0002"  # who was there before goes on as well

    def test_an_empty_space_is_refused(self, database):
        oracle = PostgresOracle(database, "s", SCORE, 3)
        with pytest.raises(ValueError, match=r"The search space is empty.*hp\.Float.*or give the oracle its hyper"):
            oracle.join()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"max_trials": None}, "max_trials is needed: algorithm='random' proposes without end"),
            ({"max_trials": 0}, "max_trials is a whole number of at least 1. Received: 0"),
            ({"max_trials": 2.5}, "Received: 2.5"),
            ({"lease_s": 0}, "lease_s is positive and max_attempts at least 1. Received: 0 and 3"),
            ({"max_attempts": 0}, "Received: 300 and 0"),
            ({"algorithm": "hyperband"}, "algorithm is one of bayesian, random, grid. Received: 'hyperband'"),
            ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ],
    )
    def test_arguments_out_of_range(self, options, words):
        with pytest.raises(ValueError, match=words):
            make_oracle("dbname=never_asked", **options)


class TestTrials:
    def test_of_one_worker(self, database, store):
        oracle = make_oracle(database, max_trials=2)
        trial = oracle.create_trial("any")
        assert (trial.trial_id, trial.status) == ("0000", "RUNNING")
        assert oracle.create_trial("any") is trial  # it has that one
        assert oracle.get_trial("0000") is trial
        assert oracle.remaining_trials() == 1
        oracle.update_trial("0000", {"score": 0.5, "loss": 2.0}, step=3)
        trial.status = "COMPLETED"
        assert oracle.end_trial(trial) is True
        row = store.table("s")[0]
        assert (row["objective"], row["best_epoch"], row["metric_loss"]) == (0.5, 4, 2.0)
        assert row["hp_learning_rate"] == trial.hyperparameters.values["learning_rate"]
        assert (row["state"], row["message"]) == ("completed", None)

    def test_the_objective_must_be_among_the_metrics(self, database):
        oracle = make_oracle(database)
        trial = oracle.create_trial("")
        with pytest.raises(ValueError, match="Objective value missing in metrics reported to the Oracle"):
            oracle.update_trial(trial.trial_id, {"loss": 1.0})

    @pytest.mark.parametrize("direction", ["min", "max"])
    def test_the_best_of_all_workers_first(self, database, direction):
        objective = keras_tuner.Objective("score", direction)
        oracles = [make_oracle(database, objective=objective, max_trials=6) for _ in range(2)]
        scores = [3.0, float("nan"), 1.0, 2.0, float("inf")]
        for number, score in enumerate(scores):
            end(oracles[number % 2], oracles[number % 2].create_trial(""), score=score)
        failed = oracles[0].create_trial("")
        fail(oracles[0], failed, "no luck")
        for oracle in oracles:
            best = oracle.get_best_trials(9)  # neither diverged nor failed ones fill it up
            assert [trial.score for trial in best] == sorted([1.0, 2.0, 3.0], reverse=direction == "max")
            diverged = oracle.get_trial("0001")
            assert diverged.score == (np.inf if direction == "min" else -np.inf)
            assert oracle.get_trial("0005").status == "FAILED"

    def test_a_late_end_of_a_lost_trial_is_dropped(self, database, store, capsys):
        late, other = make_oracle(database), make_oracle(database)
        lost = late.create_trial("")
        store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
        assert other.create_trial("").trial_id == lost.trial_id
        assert end(late, lost, score=1.0) is False
        assert "trial 0 was taken over by another worker: its result here is dropped" in capsys.readouterr().err
        assert store.table("s")[0]["state"] == "running"
        assert end(other, other.held["0000"].trial, score=2.0) is True
        assert store.table("s")[0]["objective"] == 2.0

    def test_a_trial_that_kills_its_workers_is_failed(self, database, store):
        for _ in range(2):
            make_oracle(database, max_trials=1, max_attempts=2).create_trial("")
            store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
        assert make_oracle(database, max_trials=1, max_attempts=2).create_trial("").status == "STOPPED"
        row = store.table("s")[0]
        assert (row["state"], row["message"]) == ("failed", "2 workers were lost while they ran it")

    def test_released_trials_are_taken_before_new_ones(self, database, store):
        first, second = make_oracle(database), make_oracle(database)
        values = first.create_trial("").hyperparameters.values
        first.release_all("my reason")
        assert first.held == {}
        taken = second.create_trial("")
        assert (taken.trial_id, taken.hyperparameters.values) == ("0000", values)
        assert store.trial("s", 0)["attempt_records"][0]["message"] == "my reason"

    def test_three_failures_in_a_row_of_any_workers_stop(self, database):
        oracles = [make_oracle(database, max_trials=9) for _ in range(2)]
        fail(oracles[0], oracles[0].create_trial(""), "first")
        end(oracles[1], oracles[1].create_trial(""), score=1.0)
        fail(oracles[0], oracles[0].create_trial(""), "second")
        fail(oracles[1], oracles[1].create_trial(""), "third")
        last = oracles[0].create_trial("")
        with pytest.raises(RuntimeError, match=r"The last 3 trials of 's' failed.*\n.*fourth"):
            fail(oracles[0], last, "fourth\x00")
        assert oracles[0].held == {}

    def test_an_invalid_trial_is_retried_as_often_as_asked(self, database, store):
        oracle = make_oracle(database, max_trials=1, max_retries_per_trial=2)
        for attempt in (1, 2, 3):
            trial = oracle.create_trial("")
            assert trial.trial_id == "0000"
            assert fail(oracle, trial, f"attempt {attempt}", "INVALID") is (attempt == 3)
        assert store.table("s")[0]["state"] == "failed"
        assert [record["message"] for record in store.trial("s", 0)["attempt_records"]] == [
            "attempt 1",
            "attempt 2",
            "attempt 3",
        ]

    def test_an_end_that_could_not_be_written_keeps_the_trial_held(self, database, store, monkeypatch):
        oracle = make_oracle(database)
        trial = oracle.create_trial("")
        with monkeypatch.context() as patched:
            patched.setattr(oracle.store, "end", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                end(oracle, trial, score=1.0)
        oracle.release_all()
        assert store.table("s")[0]["state"] == "waiting"

    def test_a_grid_needs_no_number_of_trials(self, database, store):
        space = keras_tuner.HyperParameters()
        space.Choice("a", [1, 2])
        space.Boolean("b")
        oracle = make_oracle(database, algorithm="grid", max_trials=None, hyperparameters=space)
        assert oracle.remaining_trials() is None
        while (trial := oracle.create_trial("")).status == "RUNNING":
            end(oracle, trial, score=1.0)
        assert trial.status == "STOPPED"
        assert sorted((row["hp_a"], row["hp_b"]) for row in store.table("s")) == [
            (1, False),
            (1, True),
            (2, False),
            (2, True),
        ]

    def test_values_the_store_knows_by_another_name_do_not_hold_a_worker_up(self, database, store):
        oracle = make_oracle(database)
        values = oracle.populate_space("0")["values"]
        # by its key the store has these values already, by what is written in the trial they are others
        assert store.take(oracle.study_id, "another", Wish({"learning_rate": 0.05}, values_key(values), 0, {}))
        trial = oracle.create_trial("w")
        assert trial.status == "RUNNING"
        assert trial.hyperparameters.values["learning_rate"] not in (0.05, values["learning_rate"])

    def test_populate_space_tells_what_would_come(self, database, store):
        oracle = make_oracle(database, max_trials=1)
        told = oracle.populate_space("")
        assert told["status"] == "RUNNING"
        assert store.table("s") == []
        assert oracle.create_trial("").hyperparameters.values == told["values"]


class TestSpace:
    def test_what_a_trial_reveals_reaches_the_others(self, database, store):
        first, second = (make_oracle(database, max_trials=9, seed=3) for _ in range(2))
        trial = first.create_trial("")
        with trial.hyperparameters.conditional_scope("learning_rate", [trial.hyperparameters.get("learning_rate")]):
            pass
        hp = trial.hyperparameters
        kind = hp.Choice("kind", ["plain", "deep"])
        with hp.conditional_scope("kind", ["deep"]):
            hp.Int("depth", 2, 5)
        hp.Boolean("bias")
        assert kind == "plain"
        end(first, trial, score=1.0)
        row = store.table("s")[0]
        assert (row["hp_kind"], row["hp_bias"]) == ("plain", False)
        seen = []
        for number in range(1, 9):
            oracle = (first, second)[number % 2]
            trial = oracle.create_trial("")
            values = trial.hyperparameters.values
            seen.append(values)
            assert values["kind"] in ("plain", "deep")
            assert isinstance(values["bias"], bool)
            end(oracle, trial, score=1.0)
        assert {values["kind"] for values in seen} == {"plain", "deep"}
        assert {values["depth"] for values in seen if values["kind"] == "deep"} <= {2, 3, 4, 5}
        late = make_oracle(database, max_trials=9, seed=3)  # starts with the space of the beginning
        late.reload()
        assert [entry.name for entry in late.get_space().space] == ["learning_rate", "kind", "depth", "bias"]
        assert store.study("s")["definition"]["space"][0]["config"]["name"] == "learning_rate"

    def test_the_whole_space_of_a_hypermodel_is_known_before_the_first_trial(self, database, store):
        import keras

        def build(hp):
            kind = hp.Choice("kind", ["plain", "deep"])
            with hp.conditional_scope("kind", ["deep"]):
                if kind == "deep":
                    hp.Int("depth", 2, 5)
            return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

        PostgresTuner(PostgresOracle(database, "s", "val_loss", 3), build)
        assert [entry["config"]["name"] for entry in store.study("s")["definition"]["space"]] == ["kind", "depth"]


class TestTurns:
    def test_one_worker_computes_at_a_time_and_others_do_not_wait_for_ever(self, database, monkeypatch):
        monkeypatch.setattr(module, "TURN_WAIT_S", 0.5)
        first, second = (make_oracle(database, max_trials=9, algorithm="bayesian") for _ in range(2))
        for score in (1.0, 2.0, 3.0):
            end(first, first.create_trial(""), score=score)
        assert first.store.try_turn(first.study_id)  # and never gives it back
        assert second.create_trial("").status == "RUNNING"
        first.store.end_turn(first.study_id)
        third = make_oracle(database, max_trials=9, algorithm="bayesian")
        monkeypatch.setattr(module, "TURN_WAIT_S", 60)
        assert third.create_trial("").status == "RUNNING"
        assert first.store.try_turn(first.study_id)  # it was given back
        first.store.end_turn(first.study_id)

    def test_bayesian_workers_share_max_trials_exactly(self, database, store):
        oracles = [make_oracle(database, max_trials=8, algorithm="bayesian", num_initial_points=5) for _ in range(4)]

        def work(oracle):
            while (trial := oracle.create_trial("")).status != "STOPPED":
                if trial.status == "RUNNING":
                    time.sleep(0.01)
                    end(oracle, trial, score=function(trial.hyperparameters.values))

        threads = [threading.Thread(target=work, args=(oracle,)) for oracle in oracles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = store.table("s")
        assert [row["state"] for row in rows] == ["completed"] * 8
        assert len({row["hp_learning_rate"] for row in rows}) == 8
