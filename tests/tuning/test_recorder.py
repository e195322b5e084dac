"""Trials go on where they stopped, with weights, optimiser and patience; each epoch is recorded once."""

import copy
import shutil
import time
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
from quick_searches import (
    DATA,
    At,
    Watch,
    X,
    Y,
    build,
    interrupt,
    interrupted,
    make_tuner,
    quick,
    scripted,
    search,
    states_of,
)

from hcreg.tuning import recorder as recorder_module
from hcreg.tuning.recorder import Progress, Recorder
from hcreg.tuning.records import Lease
from hcreg.tuning.store import TrialStore


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """States after every epoch, and without the two full garbage collections before every model."""
    monkeypatch.setattr(recorder_module, "_LARGEST_SHARE", float("inf"))
    for module in ("keras_tuner.src.engine.tuner", "keras.src.backend.common.global_state"):
        monkeypatch.setattr(f"{module}.gc", SimpleNamespace(collect=lambda: None))


@pytest.fixture
def store(database):
    store = TrialStore(database)
    yield store
    store.close()


class TestResume:
    @pytest.mark.parametrize("in_folder", [True, False])
    def test_an_interrupted_trial_goes_on_where_it_stopped(self, database, store, tmp_path, capsys, in_folder):
        place = {"checkpoints": tmp_path} if in_folder else {}
        whole = make_tuner(database, study="uninterrupted", **place)
        search(whole, 6)
        before, after = Watch(), Watch()
        interrupted(make_tuner(database, **place), callbacks=[before])
        assert states_of(store) == ["waiting"]
        assert "trial 0 goes back and is gone on with by the next worker" in capsys.readouterr().err
        other = make_tuner(database, **place)
        search(other, 6, [after])
        assert "trial 0: going on after epoch 3" in capsys.readouterr().err
        assert (before.epochs, after.epochs) == ([1, 2, 3, 4], [4, 5, 6])
        assert len(after.states[4]) == len(before.states[4]) > 4
        for saved, restored in zip(before.states[4], after.states[4]):
            np.testing.assert_array_equal(saved, restored)
        history = store.history("s")
        assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]  # each once
        expected = store.history("uninterrupted")
        assert [row["val_loss"] for row in history] == [row["val_loss"] for row in expected]
        row = store.trial("s", 0)
        assert row["objective"] == min(row["val_loss"] for row in history)
        assert (row["attempts"], row["num_epochs"]) == (2, 6)
        assert [record["outcome"] for record in row["attempt_records"]] == ["released", "completed"]
        assert row["attempt_records"][0]["message"] == "interrupted"
        assert [entry["name"] for entry in row["artifacts"]] == ["model"]  # no state is left
        assert not list(tmp_path.rglob("state_*"))
        best = other.get_best_models()[0]
        assert best.evaluate(X, Y, verbose=0) == pytest.approx(row["objective"], rel=1e-5)

    def test_patience_counts_over_both_parts(self, database, store):
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=4)
        model = scripted(lambda rate, epoch: 1.0)
        interrupted(make_tuner(database, model), callbacks=[stopping], epochs=20)
        search(make_tuner(database, model), 20, [stopping, At("train_end", None)])
        # the first epoch is the best, the four after it are no better; counted anew it would be 8
        assert [row["epoch"] for row in store.history("s")] == [1, 2, 3, 4, 5]

    def test_the_best_weights_of_the_first_part_are_kept(self, database, store):
        losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 4.0}
        model = scripted(lambda rate, epoch: losses[epoch])
        watch = Watch()
        interrupted(make_tuner(database, model), callbacks=[watch], epochs=5)
        search(make_tuner(database, model), 5)
        row = store.best("s")[0]
        assert (row["objective"], row["best_epoch"]) == (1.0, 2)
        weights = make_tuner(database, model).get_best_models()[0].get_weights()
        for found, expected in zip(weights, watch.states[3]):  # after epoch 2
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("moment", ["ran out", "stopped early"])
    def test_with_no_epoch_left_the_trial_ends_without_another(self, database, store, moment):
        epochs = 3 if moment == "ran out" else 20
        model = scripted(lambda rate, epoch: 1.0)
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=2)
        interrupted(make_tuner(database, model), "train_end", None, epochs, [stopping])
        watch = Watch()
        search(make_tuner(database, model), epochs, [stopping, At("train_end", None), watch])
        assert watch.epochs == []
        row = store.table("s")[0]
        assert (row["state"], row["objective"], row["num_epochs"]) == ("completed", 1.0, 3)

    def test_executions_before_are_not_trained_again(self, database, store):
        watch, count = Watch(), iter(range(100))

        def second():
            if next(count) == 1:
                interrupt()

        with pytest.raises(KeyboardInterrupt):
            search(
                make_tuner(database, executions_per_trial=2),
                4,
                [watch, At("epoch_begin", second, 3, once=False)],
            )
        assert watch.epochs == [1, 2, 3, 4, 1, 2, 3]
        again = Watch()
        search(make_tuner(database, executions_per_trial=2), 4, [again])
        assert again.epochs == [3, 4]
        history = store.history("s")
        assert [(row["execution"], row["epoch"]) for row in history] == [(e, n) for e in (0, 1) for n in (1, 2, 3, 4)]
        best = [min(row["val_loss"] for row in history if row["execution"] == execution) for execution in (0, 1)]
        assert best[0] != best[1]  # their weights began otherwise
        assert store.table("s")[0]["objective"] == pytest.approx(np.mean(best))

    def test_a_number_from_a_custom_fit_is_kept_over_a_resume(self, database, store):
        results = iter([3.0, 5.0, 100.0])

        class Custom(keras_tuner.HyperModel):
            def build(self, hp):
                return build(hp)

            def fit(self, hp, model, **options):
                model.fit(**options)
                return np.float32(next(results))

        count = iter(range(100))
        action = At("epoch_begin", lambda: interrupt() if next(count) == 1 else None, 2, once=False)
        with pytest.raises(KeyboardInterrupt):
            search(make_tuner(database, Custom(), objective=None, executions_per_trial=2), 2, [action])
        search(make_tuner(database, Custom(), objective=None, executions_per_trial=2), 2)
        assert store.table("s")[0]["objective"] == 4.0  # of 3 and 5

    @pytest.mark.parametrize("what", ["damaged", "missing"])
    def test_without_a_whole_state_the_trial_begins_anew(self, database, store, tmp_path, capsys, what):
        interrupted(make_tuner(database, checkpoints=tmp_path))
        for path in tmp_path.rglob("state_*"):
            path.write_bytes(b"PK damaged") if what == "damaged" else path.unlink()
        watch = Watch()
        search(make_tuner(database, checkpoints=tmp_path), 6, [watch])
        words = {"damaged": "damaged or was replaced", "missing": "is not there"}[what]
        message = capsys.readouterr().err
        assert "trial 0 begins anew: " in message
        assert words in message
        assert watch.epochs == [1, 2, 3, 4, 5, 6]
        assert states_of(store) == ["completed"]

    def test_a_folder_mounted_elsewhere_is_gone_on_with(self, database, store, tmp_path):
        interrupted(make_tuner(database, checkpoints=tmp_path / "here"))
        shutil.move(tmp_path / "here", tmp_path / "there")
        watch = Watch()
        search(make_tuner(database, checkpoints=tmp_path / "there"), 6, [watch])
        assert watch.epochs == [4, 5, 6]

    def test_after_an_accepted_change_of_the_model_the_trial_begins_anew(self, database, store, capsys):
        interrupted(make_tuner(database))
        watch = Watch()

        def wider(hp):
            return quick(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log"), units=3)

        search(make_tuner(database, wider, code="other", accept_code_change=True), 6, [watch])
        message = capsys.readouterr().err
        assert "trial 0 begins anew: the state of trial 0 does not fit the model" in message
        assert watch.epochs == [1, 2, 3, 4, 5, 6]
        assert states_of(store) == ["completed"]

    def test_a_state_that_is_no_state_is_a_value_error(self):
        model, callbacks = quick(), []
        content = Progress().to_bytes(model, callbacks)
        assert Progress.from_bytes(content, "it").history == {}
        for damaged in (b"", b"\0" * 9, content[:100], content[:-200], b"\xff" + content):
            with pytest.raises(ValueError, match="it cannot be read"):
                Progress.from_bytes(damaged, "it")

    def test_an_own_initial_epoch_is_added_to(self, database):
        watch = Watch()
        interrupted(make_tuner(database), initial_epoch=1, epoch=4, callbacks=[watch])
        again = Watch()
        search(make_tuner(database), 6, [again], initial_epoch=1)
        assert (watch.epochs, again.epochs) == ([2, 3, 4], [4, 5, 6])

    @pytest.mark.parametrize(("freq", "expected"), [(2, 1.0), (1, 0.5)])
    def test_the_best_weights_are_of_the_best_epoch_that_was_validated(self, database, store, freq, expected):
        losses = {1: 3.0, 2: 1.0, 3: 0.5, 4: 2.0, 5: 4.0}
        watch = Watch()
        model = scripted(lambda rate, epoch: losses[epoch])
        made = make_tuner(database, model)
        search(made, 5, [watch], validation_freq=freq)
        row = store.table("s")[0]
        assert row["objective"] == expected
        for found, at_best in zip(made.get_best_models()[0].get_weights(), watch.states[row["best_epoch"] + 1]):
            np.testing.assert_array_equal(found, at_best)


class TestRecords:
    """Without a database: a store that answers as told."""

    def recorder(self, answers=(), lost=False, objective="val_loss", callbacks=()):
        sent, saved, answers = [], [], iter(answers)

        def record_epochs(lease, rows):
            answer = next(answers, True)
            if isinstance(answer, Exception):
                raise answer
            sent.extend(rows)
            return answer

        store = SimpleNamespace(record_epochs=record_epochs, database=SimpleNamespace(patience_s=60))
        checkpoints = SimpleNamespace(save=lambda lease, name, content: saved.append(content))
        made = Recorder(
            store,
            checkpoints,
            Lease(1, 0, 1, "me", {}),
            SimpleNamespace(lost=lost),
            keras_tuner.Objective(objective, "min"),
            list(callbacks),
            Progress(),
        )
        made.sent, made.saved = sent, saved
        return made

    def fit(self, recorder, epochs=3, script=None, **options):
        return quick(script=script).fit(**DATA, epochs=epochs, callbacks=[recorder], **options)

    def test_epochs_that_could_not_be_sent_go_with_the_next(self, capsys):
        away = ConnectionError("nothing answers")
        recorder = self.recorder([True, away, away, True])
        self.fit(recorder, 5)
        assert [row[:3] for row in recorder.sent] == [
            (0, epoch, name) for epoch in (1, 2, 3, 4, 5) for name in ("loss", "val_loss")
        ]
        message = capsys.readouterr().err
        assert message.count("trial 0: metrics wait for the database: nothing answers") == 1
        assert len(recorder.saved) == 3  # a state would have waited for the database as well

    def test_those_of_the_last_epoch_are_waited_for(self, monkeypatch):
        slept = []
        monkeypatch.setattr(recorder_module, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
        recorder = self.recorder([True, *[ConnectionError("away")] * 4, True])
        self.fit(recorder, 2)
        assert [row[1] for row in recorder.sent] == [1, 1, 2, 2]
        assert len(slept) == 3

    def test_but_not_for_ever(self, monkeypatch):
        recorder = self.recorder([ConnectionError("away")] * 1000)
        recorder.store.database.patience_s = 0
        self.fit(recorder, 1)
        assert recorder.sent == []

    def test_a_trial_taken_over_stops_with_its_batch(self):
        recorder = self.recorder([False])
        history = self.fit(recorder, 5).history
        assert len(history["loss"]) == 1
        assert recorder.saved == []

    def test_an_objective_that_is_not_finite_stops(self):
        recorder = self.recorder()
        history = self.fit(recorder, 5, script=lambda epoch: 1.0 if epoch < 3 else float("inf")).history
        assert history["val_loss"] == [1.0, 1.0, float("inf")]
        assert len(recorder.sent) == 6
        assert len(recorder.saved) == 2  # what diverged is nothing to go on from

    def test_where_saving_takes_long_it_is_done_seldom(self, monkeypatch):
        monkeypatch.setattr(recorder_module, "_LARGEST_SHARE", 0.1)
        clock = [0.0]
        monkeypatch.setattr(recorder_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        recorder = self.recorder()
        saved_after = []

        def save(lease, name, content):
            clock[0] += 2.0  # s
            saved_after.append(recorder.progress.num_epochs)

        def epoch_of_5_s(epoch):
            clock[0] += 5.0
            return 1.0

        recorder.checkpoints.save = save
        self.fit(recorder, 10, script=epoch_of_5_s)
        assert saved_after == [1, 5, 9]  # 2 s are a tenth of 20 s, 4 epochs

    def test_a_state_that_cannot_be_saved_stops_nothing(self, capsys):
        recorder = self.recorder()
        recorder.checkpoints.save = lambda *_: (_ for _ in ()).throw(OSError("disk full"))
        assert len(self.fit(recorder, 2).history["loss"]) == 2
        assert "trial 0: no state is saved, training goes on: disk full" in capsys.readouterr().err

    def test_it_is_not_copied(self):
        recorder = self.recorder()
        assert copy.deepcopy([recorder]) == [recorder]

    def test_counters_and_weights_of_callbacks_come_back(self):
        def stopping():
            return [
                keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau(),
            ]

        before, model = stopping(), quick()
        before[0].wait, before[0].best, before[0].best_weights = 2, np.float32(0.5), model.get_weights()
        before[1].cooldown_counter = 7
        progress = Progress()
        progress.add_epoch({"loss": 1.0})
        progress.add_epoch({"loss": 0.5, "val_loss": float("nan")})
        read = Progress.from_bytes(progress.to_bytes(model, before), "it")
        assert read.num_epochs == 2
        assert read.history["loss"] == [1.0, 0.5]
        assert np.isnan(read.history["val_loss"]).tolist() == [True, True]
        recorder, after = self.recorder(), stopping()
        recorder.others, recorder.progress = after, read
        recorder.set_model(model)
        recorder.on_train_begin()
        assert (after[0].wait, after[0].best, after[1].cooldown_counter) == (2, 0.5, 7)
        for found, expected in zip(after[0].best_weights, before[0].best_weights):
            np.testing.assert_array_equal(found, expected)
        read = Progress.from_bytes(progress.to_bytes(model, before), "it")
        recorder.others, recorder.progress = [stopping()[1], stopping()[0]], read
        recorder.on_train_begin()  # in another order they are others, and begin anew
        assert (recorder.others[0].cooldown_counter, recorder.others[1].wait) == (0, 0)


class TestInterrupted:
    def test_without_a_database_the_interrupt_still_comes_through(self, database, monkeypatch, capsys):
        made = make_tuner(database)

        def fail(*_, **__):
            raise ConnectionError("nothing answers there")

        monkeypatch.setattr(made.oracle.store, "release", fail)
        interrupted(made, epoch=1)
        message = capsys.readouterr().err
        assert (
            "trial 0 could not be given back, it goes to another worker when its lease of 60 s has run out" in message
        )
        assert made.oracle.store.database.patience_s == 3600  # of later calls

    def test_what_could_not_be_written_down_goes_back(self, database, store, monkeypatch):
        made = make_tuner(database)
        monkeypatch.setattr(made.oracle.store, "end", lambda *_, **__: interrupt())
        with pytest.raises(KeyboardInterrupt):
            search(made, 1)
        assert states_of(store) == ["waiting"]
        watch = Watch()
        search(make_tuner(database), 1, [watch])
        assert watch.epochs == []  # all its epochs were done
        assert states_of(store) == ["completed"]
