"""Searches over a real PostgreSQL: trials go on where they stopped, and nothing that goes wrong loses one."""

import doctest
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import psycopg2
import pytest
from quick_searches import (
    At,
    Watch,
    X,
    Y,
    build,
    interrupted,
    make_tuner,
    quick,
    scripted,
    search,
    states_of,
)

import hcreg
from hcreg.tuning import recorder, tuner
from hcreg.tuning.checkpoints import Checkpoints
from hcreg.tuning.oracle import PostgresOracle
from hcreg.tuning.store import TrialStore
from hcreg.tuning.tuner import PostgresTuner, source_of, trial_seed

ROOT = Path(hcreg.__file__).parent.parent


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """States after every epoch, and without the two full garbage collections before every model."""
    monkeypatch.setattr(recorder, "_LARGEST_SHARE", float("inf"))
    for module in ("keras_tuner.src.engine.tuner", "keras.src.backend.common.global_state"):
        monkeypatch.setattr(f"{module}.gc", SimpleNamespace(collect=lambda: None))


@pytest.fixture
def store(database):
    store = TrialStore(database)
    yield store
    store.close()


def execute(database, statement):
    connection = psycopg2.connect(database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


class TestModels:
    def test_a_model_without_input_is_built_at_load(self, database, store):
        def build(hp):
            model = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")), "mse")
            return model

        # with Keras's own fit: after Ctrl-C it goes on too, though the model is built only by fit
        interrupted(make_tuner(database, build), epoch=2, epochs=2)
        watch, other = Watch(), make_tuner(database, build)
        search(other, 2, [watch])
        assert watch.epochs == [2]
        best = other.get_best_models()[0]
        assert best.evaluate(X, Y, verbose=0) == pytest.approx(store.best("s")[0]["objective"], rel=1e-4)

    def test_same_seed_same_weights_whichever_worker(self, database):
        first, second, others = Watch(), Watch(), Watch()
        search(make_tuner(database, max_trials=2), 1, [first])
        interrupted(make_tuner(database, max_trials=2, study="again"), epoch=1, epochs=1)
        search(make_tuner(database, max_trials=2, study="again"), 1, [second])
        search(make_tuner(database, max_trials=2, study="other", seed=2), 1, [others])
        kernels = [[arrays[0] for _, arrays in watch._seen] for watch in (first, second, others)]
        for trial in (0, 1):
            np.testing.assert_array_equal(kernels[0][trial], kernels[1][trial])
            assert np.abs(kernels[0][trial] - kernels[2][trial]).max() > 0
        assert np.abs(kernels[0][0] - kernels[0][1]).max() > 0

    def test_measures_are_recorded_and_their_failure_keeps_the_trial(self, database, store, capsys):
        made = make_tuner(database, measures=lambda model: {"bias": model.get_weights()[-1][0]})
        search(made)
        row = store.table("s")[0]
        assert row["metric_bias"] == made.get_best_models()[0].get_weights()[-1][0]

        def broken(model):
            raise ZeroDivisionError("no anatomy in sight")

        search(make_tuner(database, study="broken", measures=broken))
        row = store.table("broken")[0]
        assert row["state"] == "completed"
        assert row["message"].startswith("measures failed: ")
        assert "no anatomy in sight" in row["message"]
        assert "no anatomy in sight" in capsys.readouterr().err

    def test_a_strategy_trains_each_trial(self, database, store):
        import tensorflow as tf

        strategy, seen = tf.distribute.MirroredStrategy(["/cpu:0"]), []

        def build(hp):
            seen.append(tf.distribute.get_strategy() is strategy)
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")), "mse")
            return model

        made = make_tuner(database, build, distribution_strategy=strategy)
        search(made, 2)
        assert seen == [False, True]  # the first asks for the search space only
        assert states_of(store) == ["completed"]
        best = made.get_best_models()[0]
        assert best.evaluate(X, Y, verbose=0) == pytest.approx(store.best("s")[0]["objective"], rel=1e-4)


class TestDivergence:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("when", [1, 3])
    def test_a_diverged_trial_is_recorded_and_never_the_best(self, database, store, value, when):
        def losses(rate, epoch):
            return value if epoch == when and rate == diverging else 2.0 - epoch / 10

        diverging = make_tuner(database, study="probe").oracle.populate_space("")["values"]["learning_rate"]
        made = make_tuner(database, scripted(losses), max_trials=3)
        search(made, 3)
        assert states_of(store) == ["diverged", "completed", "completed"]
        row = store.table("s")[0]
        assert row["objective"] is None
        assert row["num_epochs"] == when  # no epoch is trained after it
        assert row["message"] == f"val_loss is {value}" + (" in epoch 3" if when > 1 else "")
        assert str(store.history("s", 0)[-1]["val_loss"]) == str(value)
        assert [trial.trial_id for trial in made.oracle.get_best_trials(3)] == ["0001", "0002"]
        assert len(made.get_best_models(3)) == 2

    def test_where_all_diverged_there_is_no_best(self, database, store):
        made = make_tuner(database, scripted(lambda rate, epoch: float("nan")), max_trials=4)
        search(made, 2)  # more than three in a row do not end the search
        assert states_of(store) == ["diverged"] * 4
        assert made.oracle.get_best_trials() == []
        assert made.get_best_models() == []
        with pytest.raises(FileNotFoundError, match=r"Trial 0 of 's' has no weights"):
            made.load_model(made.oracle.get_trial("0000"))


class TestFailures:
    def test_a_model_function_that_raises_at_times_costs_those_trials(self, database, store):
        count = iter(range(100))

        class Flaky(keras_tuner.HyperModel):
            def build(self, hp):
                return build(hp)

            def fit(self, hp, model, **options):
                if next(count) % 4 == 1:
                    raise ArithmeticError("a bad\x00 day \ud800")  # neither of which PostgreSQL stores
                return model.fit(**options)

        search(make_tuner(database, Flaky(), max_trials=6), 1)
        assert states_of(store) == ["completed", "failed", "completed", "completed", "completed", "failed"]
        message = store.table("s")[1]["message"]
        assert "Traceback" in message
        assert "ArithmeticError: a bad\\x00 day \\ud800" in message

    def test_one_that_always_raises_stops_the_search_with_its_message(self, database, store):
        count = iter(range(100))

        def bad(hp):
            hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
            if next(count):
                raise ArithmeticError(f"bad day {next(count)}")
            return quick()

        made = make_tuner(database, bad, max_trials=9)
        with pytest.raises(RuntimeError, match=r"(?s)last 3 trials of 's' failed.*Mend the cause.*bad day 6"):
            search(made)
        assert states_of(store) == ["failed"] * 3
        assert made.oracle.held == {}
        search(make_tuner(database, max_trials=9), 1)  # mended
        assert states_of(store) == ["failed"] * 3 + ["completed"] * 6

    def test_a_failed_trial_is_retried_where_asked(self, database, store):
        count = iter(range(100))

        class Flaky(keras_tuner.HyperModel):
            def build(self, hp):
                return build(hp)

            def fit(self, hp, model, callbacks, **options):
                if next(count) == 0:
                    callbacks = [At("epoch_end", lambda: 1 / 0, 2), *callbacks]
                return model.fit(callbacks=callbacks, **options)

        watch = Watch()
        search(make_tuner(database, Flaky(), max_retries_per_trial=1), 3, [watch])
        assert watch.epochs == [1, 2, 2, 3]  # epoch 2 failed before its state was saved
        records = store.trial("s", 0)["attempt_records"]
        assert [record["outcome"] for record in records] == ["failed", "completed"]
        assert "ZeroDivisionError" in records[0]["message"]

    @pytest.mark.parametrize("returned", [None, "a model"])
    def test_no_model_stops_at_once(self, database, store, returned):
        def bad(hp):
            hp.Float("learning_rate", 1e-3, 1e-1)
            return returned

        with pytest.raises(keras_tuner.errors.FatalTypeError, match="return a valid Keras Model"):
            search(make_tuner(database, bad, max_trials=5))
        assert states_of(store) == ["waiting"]
        assert "FatalTypeError" in store.trial("s", 0)["attempt_records"][0]["message"]

    def test_a_wrong_objective_stops_at_once_and_names_those_there_are(self, database, store):
        objective = keras_tuner.Objective("val_dice", "max")
        with pytest.raises(
            keras_tuner.errors.FatalValueError, match=r"'val_dice' is not among.*: loss, val_loss\. Name"
        ):
            search(make_tuner(database, objective=objective, max_trials=5), 1)
        assert states_of(store) == ["waiting"]

    def test_other_arguments_are_refused(self, database):
        oracle = PostgresOracle(database, "s", "val_loss", 3)
        with pytest.raises(ValueError, match=r"overwrite=True would delete.*delete_study"):
            PostgresTuner(oracle, build, overwrite=True)
        with pytest.raises(ValueError, match=r"runs the trials of a PostgresOracle.*RandomSearchOracle"):
            PostgresTuner(keras_tuner.oracles.RandomSearchOracle("val_loss"), build)


class TestOthers:
    def test_a_trial_taken_over_in_training_is_dropped_and_the_worker_goes_on(self, database, store, tmp_path, capsys):
        thief = {}

        def steal():
            store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
            thief["lease"] = store.take(1, "thief")
            Checkpoints(store, "s", tmp_path).save(thief["lease"], "state", b"the thief's")

        watch = Watch()
        made = make_tuner(database, max_trials=2, checkpoints=tmp_path)

        def end_the_other(trial):
            if trial.trial_id == "0000":
                thief["state"] = Checkpoints(store, "s", tmp_path).load(0, "state")
                assert store.end(thief["lease"], "completed", objective=0.125)

        made.on_search_progress = end_the_other
        search(made, 5, [At("epoch_begin", steal, 3), watch])
        assert watch.epochs == [1, 2, 3, 1, 2, 3, 4, 5]
        assert thief["state"] == b"the thief's"  # the loser left it alone
        assert "trial 0 was taken over by another worker: its result here is dropped" in capsys.readouterr().err
        rows = store.table("s")
        assert [row["state"] for row in rows] == ["completed"] * 2
        assert rows[0]["objective"] == 0.125
        assert [row["epoch"] for row in store.history("s", 0)] == [1, 2]

    def test_a_lost_lease_stops_training_by_the_heartbeat(self, database, store):
        made = make_tuner(database, max_trials=1, heartbeat_s=0.05)
        thief = {}

        def steal():
            store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
            thief["lease"] = store.take(1, "thief")
            end = time.monotonic() + 20
            while not made.heartbeat.lost:
                assert time.monotonic() < end
                time.sleep(0.02)

        made.on_search_progress = lambda trial: store.end(thief["lease"], "failed", message="so be it")
        watch = Watch()
        search(made, 5, [At("epoch_begin", steal, 1), watch])
        assert watch.epochs == [1]
        assert states_of(store) == ["failed"]

    def test_terminated_connections_lose_nothing(self, database, store):
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'hcreg' AND datname = current_database()"
        )
        counts = []

        def count_and_kill():
            counts.append(len(execute(database, kill)))

        watch = Watch()
        store.close()
        made = make_tuner(database, max_trials=2, heartbeat_s=0.02)
        search(made, 4, [watch, *(At("epoch_end", count_and_kill, epoch, once=False) for epoch in (1, 2, 4))])
        assert max(counts) <= 2  # connections of a worker
        assert watch.epochs == [1, 2, 3, 4] * 2
        rows = store.history("s")
        assert [(row["number"], row["epoch"]) for row in rows] == [(n, e) for n in (0, 1) for e in (1, 2, 3, 4)]
        assert states_of(store) == ["completed"] * 2
        assert [row["attempts"] for row in store.table("s")] == [1, 1]

    def test_a_server_away_for_a_moment_loses_nothing(self, tcp_server):
        dsn = tcp_server.dsn()

        def away():
            tcp_server.stop()
            timer = threading.Timer(1.0, tcp_server.start)
            timer.start()

        watch = Watch()
        made = make_tuner(dsn, max_trials=1, heartbeat_s=0.1)
        search(made, 3, [watch, At("epoch_begin", away, 2)])
        assert watch.epochs == [1, 2, 3]
        store = TrialStore(dsn)
        assert [row["epoch"] for row in store.history("s")] == [1, 2, 3]
        assert states_of(store) == ["completed"]
        store.close()

    def test_a_folder_lost_in_mid_search_sends_the_files_to_the_store(self, database, store, tmp_path, capsys):
        folder = tmp_path / "shared"

        def lose():
            shutil.rmtree(folder)
            folder.write_text("not a folder any more")

        made = make_tuner(database, max_trials=2, checkpoints=folder)
        interrupted(made, epoch=4, epochs=5, callbacks=[At("epoch_begin", lose, 2)])
        watch = Watch()
        made = make_tuner(database, max_trials=2, checkpoints=folder)
        search(made, 5, [watch])
        assert watch.epochs == [4, 5, 1, 2, 3, 4, 5]
        assert "The files of trials go into the database for now." in capsys.readouterr().err
        assert states_of(store) == ["completed"] * 2
        assert len(made.get_best_models(2)) == 2
        assert all(entry["in_store"] for number in (0, 1) for entry in store.trial("s", number)["artifacts"])

    def test_callbacks_that_hold_a_store_are_copied(self, database, store):
        class Note(keras.callbacks.Callback):
            def __init__(self, store):
                super().__init__()
                self.store = store

            def on_epoch_end(self, epoch, logs=None):
                assert self.store is not store
                assert len(self.store.table("s")) == 1

        store.studies()  # it is connected
        search(make_tuner(database, max_trials=1), 2, [Note(store)])
        assert states_of(store) == ["completed"]


WORKER = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts this may have it ignored
    import keras, numpy as np
    from hcreg.tuning import PostgresOracle, PostgresTuner
    from hcreg.tuning import recorder
    recorder._LARGEST_SHARE = float("inf")

    class Slow(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            print("epoch", epoch + 1, flush=True)
            time.sleep(600 if epoch == 2 else 0)

    def build(hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")), "mse")
        return model

    def search():
        oracle = PostgresOracle(sys.argv[1], "s", "val_loss", 2, algorithm="random", seed=1, lease_s=3)
        tuner = PostgresTuner(oracle, build, code="the code")
        tuner.search(x, y, validation_data=(x, y), epochs=4, callbacks=[Slow()], verbose=0)
        return tuner

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = x[:, :1]
"""


def test_an_interrupted_process_gives_its_trial_back_and_a_killed_one_loses_it(database, store):
    command = [sys.executable, "-c", textwrap.dedent(WORKER) + "search()", database]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": settings}
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    try:
        for worker in workers:  # both are in the third epoch of a trial of their own
            lines = [worker.stdout.readline() for _ in range(3)]
            assert lines == ["epoch 1\n", "epoch 2\n", "epoch 3\n"], worker.communicate()[1]
        assert states_of(store) == ["running"] * 2
        workers[0].send_signal(signal.SIGINT)
        message = workers[0].communicate(timeout=60)[1]
        assert workers[0].returncode not in (0, None)
        assert "KeyboardInterrupt" in message
        assert sorted(states_of(store)) == ["running", "waiting"]
        workers[1].kill()
        workers[1].communicate()
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()
    watch = Watch()

    def same(hp):
        return quick(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log"), units=2)

    search(make_tuner(database, same, max_trials=2, lease_s=3), 4, [watch])
    assert watch.epochs == [3, 4, 3, 4]
    outcomes = [[r["outcome"] for r in store.trial("s", number)["attempt_records"]] for number in (0, 1)]
    assert sorted(outcomes) == [["lost", "completed"], ["released", "completed"]]
    assert [row["epoch"] for row in store.history("s")] == [1, 2, 3, 4] * 2


def test_a_search_runs_on_jax(database, store):
    pytest.importorskip("jax")
    code = WORKER.replace("time.sleep(600 if epoch == 2 else 0)", "self.hold(epoch)")
    code += """
    calls = iter(range(100))
    def hold(self, epoch):
        if epoch == 2 and next(calls) == 0:
            raise KeyboardInterrupt
    Slow.hold = hold
    try:
        search()
    except KeyboardInterrupt:
        tuner = search()
    best = tuner.oracle.get_best_trials()[0]
    assert abs(tuner.load_model(best).evaluate(x, y, verbose=0) - best.score) < 1e-5 * best.score
    """
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(code), database]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1::2] == ["1", "2", "3", "3", "4", "1", "2", "3", "4"]  # it goes on after an interrupt
    rows = store.table("s")
    assert [row["state"] for row in rows] == ["completed"] * 2
    assert rows[0]["device"].startswith("jax")
    losses = [row["val_loss"] for row in store.history("s", 0)]
    assert len(losses) == 4
    assert losses[2] < losses[1] < losses[0]


class TestParts:
    def test_doctests(self):
        assert doctest.testmod(tuner).failed == 0

    def test_seeds_differ_between_studies_trials_and_executions(self):
        seeds = {trial_seed(*key) for key in np.ndindex(4, 10, 3)}
        assert len(seeds) == 4 * 10 * 3
        assert all(0 <= seed < 2**31 for seed in seeds)

    def test_the_source_tells_model_functions_apart(self):
        import functools

        class Model(keras_tuner.HyperModel):
            def build(self, hp):
                return "this"

        class Called:
            def __call__(self, hp):
                return "that"

        assert source_of(build) == source_of(functools.partial(functools.partial(build), 1))
        assert source_of(build).startswith("def build(hp):")
        assert 'return "this"' in source_of(Model()) == source_of(Model)
        assert 'return "that"' in source_of(Called())
        assert source_of(len) == "builtins.len (its source is not known)"
        space = {}
        exec("def typed(hp): pass", space)
        assert source_of(space["typed"]).endswith("typed (its source is not known)")
        assert json.dumps(source_of(build))
