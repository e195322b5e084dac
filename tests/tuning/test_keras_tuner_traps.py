"""The measured traps of Keras Tuner 1.4.8: stock falls into each, where that is cheap to show; ours does not."""

import copy
import threading
import time
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import psycopg2
import pytest

from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.store import TrialStore
from hcreg.tuning.tuner import PostgresTuner

SPACE = keras_tuner.HyperParameters()
SPACE.Float("learning_rate", 1e-5, 10.0, sampling="log")


def curve(rate):
    """Best at 1e-2, diverging above 1."""
    return float("inf") if rate > 1 else abs(np.log10(rate) + 2)


class Ours(PostgresTuner):
    """Runs a function of the learning rate in place of a training."""

    function = staticmethod(curve)

    def run_trial(self, trial, *args, **kwargs):
        return self.function(trial.hyperparameters.values["learning_rate"])


class Stock(keras_tuner.Tuner):
    function = staticmethod(curve)
    run_trial = Ours.run_trial


@pytest.fixture
def store(database):
    store = TrialStore(database)
    yield store
    store.close()


def our_oracle(database, max_trials=4, **options):
    options = {"algorithm": "random", "hyperparameters": SPACE.copy(), "poll_s": 0.05, "seed": 1, **options}
    return PostgresOracle(database, "s", keras_tuner.Objective("score", "min"), max_trials, **options)


def ours(database, function=curve, **options):
    tuner = Ours(our_oracle(database, **options), code="c")
    tuner.function = function
    return tuner


def stock_oracle(kind=keras_tuner.oracles.RandomSearchOracle, max_trials=4, **options):
    options = {"hyperparameters": SPACE.copy(), "seed": 1, **options}
    return kind(keras_tuner.Objective("score", "min"), max_trials=max_trials, **options)


def stock(folder, function=curve, kind=keras_tuner.oracles.RandomSearchOracle, **options):
    tuner = Stock(stock_oracle(kind, **options), directory=str(folder), project_name="p")
    tuner.oracle.verbose = 0
    tuner.function = function
    return tuner


def rate_of(trial):
    return trial.hyperparameters.values["learning_rate"]


def end(oracle, trial, score):
    trial.status = "COMPLETED"
    oracle.update_trial(trial.trial_id, {"score": score})
    oracle.end_trial(trial)


def test_1_two_processes_get_two_trials_whatever_their_names(database, tmp_path):
    stock_tuners = [stock(tmp_path), stock(tmp_path)]  # two notebooks, one folder
    assert stock_tuners[0].tuner_id == stock_tuners[1].tuner_id == "tuner0"
    same = [tuner.oracle.create_trial(tuner.tuner_id) for tuner in stock_tuners]
    assert same[0].trial_id == same[1].trial_id
    assert rate_of(same[0]) == rate_of(same[1])
    oracles = [our_oracle(database), our_oracle(database)]
    other = [oracle.create_trial("tuner0") for oracle in oracles]
    assert [trial.trial_id for trial in other] == ["0000", "0001"]
    assert rate_of(other[0]) != rate_of(other[1])


def test_1_workers_of_one_search_run_max_trials_together(database, store):
    """Stock runs max_trials in each of them."""
    tuners = [ours(database, lambda rate: time.sleep(0.01) or curve(rate), max_trials=12) for _ in range(4)]
    threads = [threading.Thread(target=tuner.search) for tuner in tuners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = store.table("s")
    assert [row["number"] for row in rows] == list(range(12))
    assert all(row["state"] in ("completed", "diverged") and row["attempts"] == 1 for row in rows)
    assert len({row["hp_learning_rate"] for row in rows}) == 12
    for tuner in tuners:
        assert tuner.remaining_trials == 0


def test_2_an_exception_leaves_no_lock_behind(database, monkeypatch):
    def hangs(call):
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(timeout=5)
        return thread.is_alive()

    def fail(*_, **__):
        raise OSError("the disk is full")

    oracle = our_oracle(database)
    with monkeypatch.context() as patched:
        patched.setattr(oracle.store, "take", fail)
        with pytest.raises(OSError, match="the disk is full"):
            oracle.create_trial("a")
    assert not hangs(lambda: oracle.create_trial("b"))
    stock_one = stock_oracle()
    monkeypatch.setattr(stock_one, "populate_space", fail)
    with pytest.raises(OSError, match="the disk is full"):
        stock_one.create_trial("a")

    def again():
        with pytest.raises(OSError, match="the disk is full"):
            stock_one.create_trial("b")

    thread = threading.Thread(target=again, daemon=True, name="another")
    thread.start()
    thread.join(timeout=0.5)
    assert thread.is_alive()  # for ever
    from keras_tuner.src.engine.oracle import LOCKS

    LOCKS[stock_one].release()  # here it is helped out
    thread.join(timeout=5)


def test_3_running_trials_of_others_do_not_disturb_a_proposal(database):
    first = our_oracle(database, max_trials=9, algorithm="bayesian", num_initial_points=2)
    for score in (1.0, 2.0):
        end(first, first.create_trial("a"), score)
    running = first.create_trial("a")
    second = our_oracle(database, max_trials=9, algorithm="bayesian", num_initial_points=2)
    proposed = second.create_trial("a")  # another process: it knows the running trial from the database only
    assert rate_of(proposed) != rate_of(running)
    assert second.get_trial(running.trial_id).score is None


def test_4_the_process_is_fitted_before_running_trials_are_imagined(database, monkeypatch):
    from hcreg.tuning import gaussian_process

    fitted, real = [], gaussian_process.GaussianProcess

    def noted(points, objectives, *args, **kwargs):
        fitted.append((len(points), kwargs.get("kernel")))
        return real(points, objectives, *args, **kwargs)

    monkeypatch.setattr(gaussian_process, "GaussianProcess", noted)
    oracles = [our_oracle(database, 9, algorithm="bayesian", num_initial_points=3) for _ in range(2)]
    for score in (1.0, 2.0, 1.5):
        end(oracles[0], oracles[0].create_trial("a"), score)
    oracles[0].create_trial("a")
    oracles[1].create_trial("a")
    # the second worker's: first of the 3 finished trials, then with the kernel found for them and the running one
    assert fitted[-2] == (3, None)
    assert fitted[-1][0] == 4
    assert fitted[-1][1] is not None


def test_5_an_infinite_loss_is_not_excellent(database, store, tmp_path):
    stock_tuner = stock(tmp_path, kind=keras_tuner.oracles.BayesianOptimizationOracle, max_trials=12)
    stock_tuner.search()
    stock_diverged = sum(rate_of(trial) > 1 for trial in stock_tuner.oracle.trials.values())
    ours(database, algorithm="bayesian", max_trials=12).search()
    rows = store.table("s")
    diverged = [row for row in rows if row["state"] == "diverged"]
    assert len(diverged) >= 1
    assert stock_diverged > 2 * len(diverged)
    assert all(row["message"] == "score is inf" and row["objective"] is None for row in diverged)
    assert abs(np.log10(store.best("s")[0]["hp_learning_rate"]) + 2) < 0.3


def test_5_nan_trials_do_not_end_the_search(database, store, tmp_path):
    with pytest.raises(RuntimeError, match="consecutive failures exceeded"):
        stock(tmp_path, lambda rate: float("nan")).search()
    tuner = ours(database, lambda rate: float("nan"))
    tuner.search()
    assert [row["state"] for row in store.table("s")] == ["diverged"] * 4
    assert tuner.oracle.get_best_trials(4) == []


def test_6_the_process_is_fitted_outside_of_locks(database, store, monkeypatch):
    waiting = []
    oracle = our_oracle(database, 9, algorithm="bayesian", num_initial_points=3)
    for score in (1.0, 2.0, 1.5):
        end(oracle, oracle.create_trial("a"), score)
    propose = oracle.proposer.propose

    def slow(*args):
        connection = psycopg2.connect(database)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
            cursor.execute("SELECT next_number FROM hcreg.study FOR UPDATE")  # it is free
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
            )
            waiting.append(cursor.fetchone()[0])
        connection.close()
        return propose(*args)

    object.__setattr__(oracle, "proposer", type("Slow", (), {"propose": staticmethod(slow)})())
    oracle.create_trial("a")
    assert waiting == [0]


def test_6_no_value_is_proposed_twice(database, store):
    space = keras_tuner.HyperParameters()
    space.Choice("learning_rate", [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    ours(database, algorithm="bayesian", num_initial_points=2, hyperparameters=space, max_trials=20).search()
    rows = store.table("s")  # fewer than max_trials: there is nothing else to try
    assert sorted(row["hp_learning_rate"] for row in rows) == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def test_7_a_trial_ended_twice_counts_once(database, store):
    stock_one = stock_oracle()
    stock_one._set_project_dir(".", ".")
    stock_one.save = stock_one._save_trial = lambda *_: None
    stock_one.verbose = 0
    trial = stock_one.create_trial("a")
    for _ in range(2):
        end(stock_one, trial, 1.0)
    assert len(stock_one.end_order) == 2
    oracle = our_oracle(database)
    trial = oracle.create_trial("a")
    lease = oracle.held[trial.trial_id].lease
    end(oracle, trial, 1.0)
    trial.score = 99.0
    assert oracle.end_trial(trial) is False
    assert oracle.store.end(lease, "completed", objective=1.0)  # as after a lost answer: it is done already
    rows = store.table("s")
    assert [(row["objective"], row["attempts"]) for row in rows] == [(1.0, 1)]
    assert oracle.remaining_trials() == 3


def test_7_failed_trials_count_once_and_their_values_do_not_come_back(database, store):
    count = iter(range(100))

    def at_times(rate):
        if next(count) % 2:
            raise ArithmeticError("at times")
        return curve(rate)

    ours(database, at_times, max_trials=6).search()
    rows = store.table("s")
    assert [row["state"] for row in rows if row["state"] == "failed"] == ["failed"] * 3
    assert len(rows) == len({row["hp_learning_rate"] for row in rows}) == 6


def test_7_a_race_for_a_number_has_one_winner(database, store):
    oracles = [our_oracle(database, max_trials=20) for _ in range(6)]
    taken = []

    def create(oracle):
        for _ in range(3):
            trial = oracle.create_trial("a")
            taken.append(trial.trial_id)
            end(oracle, trial, 1.0)

    threads = [threading.Thread(target=create, args=(oracle,)) for oracle in oracles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [f"{number:04d}" for number in range(18)]


def test_8_a_worker_without_work_sleeps(database, monkeypatch):
    from hcreg.tuning import oracle as module

    first, second = our_oracle(database, max_trials=1), our_oracle(database, max_trials=1, poll_s=7.0)
    running = first.create_trial("a")
    slept = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    assert second.create_trial("b").status == "IDLE"
    assert len(slept) == 1
    assert 3.5 <= slept[0] <= 10.5
    end(first, running, 1.0)
    assert second.create_trial("b").status == "STOPPED"


def test_8_an_interrupt_gives_the_trial_back(database, store, tmp_path):
    def interrupt(rate):
        raise KeyboardInterrupt

    stock_tuner = stock(tmp_path, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stock_tuner.search()
    assert [trial.status for trial in stock_tuner.oracle.trials.values()] == ["RUNNING"]
    with pytest.raises(KeyboardInterrupt):
        ours(database, interrupt).search()
    assert [row["state"] for row in store.table("s")] == ["waiting"]
    ours(database).search()
    assert len(store.table("s")) == 4


def test_8_another_process_sees_what_was_found(database):
    tuner = ours(database)
    tuner.search()
    other = ours(database)
    assert [t.trial_id for t in other.oracle.get_best_trials(4)] == [
        t.trial_id for t in tuner.oracle.get_best_trials(4)
    ]
    assert other.remaining_trials == 0
    assert other.get_best_hyperparameters()[0].values == tuner.get_best_hyperparameters()[0].values


def test_8_overwrite_deletes_nothing(database, store):
    ours(database).search()
    with pytest.raises(ValueError, match="overwrite=True would delete what other workers wrote"):
        Ours(our_oracle(database), code="c", overwrite=True)
    assert len(store.table("s")) == 4


def test_9_callbacks_that_hold_a_connection_are_copied(database, store):
    store.studies()

    class Holding(keras.callbacks.Callback):
        connection = None

    stock_one, our_one = Holding(), Holding()
    stock_one.connection = psycopg2.connect(database)
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy([stock_one])
    stock_one.connection.close()
    our_one.connection = store
    copied = copy.deepcopy([our_one])[0].connection
    assert copied is not store
    assert copied.studies() == store.studies()
    copied.close()


def test_10_a_seed_of_zero_is_zero(database, store):
    assert stock_oracle(seed=0).seed != 0
    oracles = []
    for name in ("a", "b"):
        oracle = PostgresOracle(
            database, name, "val_loss", 3, algorithm="random", seed=0, hyperparameters=SPACE.copy(), poll_s=0.05
        )
        assert oracle.seed == 0
        oracles.append(oracle)
    assert rate_of(oracles[0].create_trial("")) == rate_of(oracles[1].create_trial(""))
    assert store.study("a")["seed"] == 0


def test_10_a_dead_worker_holds_up_nobody(database, store):
    dead = our_oracle(database, max_trials=1, lease_s=0.3)
    dead.join("c")
    dead.create_trial("a")  # and is never heard of again
    ours(database, max_trials=1, lease_s=0.3).search()
    rows = store.table("s")
    assert [row["state"] in ("completed", "diverged") for row in rows] == [True]
    assert [record["outcome"] for record in store.trial("s", 0)["attempt_records"]] == ["lost", rows[0]["state"]]
