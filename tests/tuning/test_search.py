"""The learning-rate search in one call: its arguments, its default database, what it returns, who may join."""

from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest

from hcreg.tuning import search
from hcreg.tuning.search import learning_rate_search, open_store
from hcreg.tuning.store import TrialStore

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
TRAIN, VALIDATION = (X, Y), (X[:4], Y[:4])


class Quick(keras.Sequential):
    """A model that notes what it is asked to fit and returns a known history."""

    asked = []  # noqa: RUF012

    def fit(self, x, y=None, *, epochs, callbacks, initial_epoch=0, **options):
        self.asked.append({"x": x, "y": y, "epochs": epochs, **options})
        listed = keras.callbacks.CallbackList(list(callbacks), add_history=True, model=self)
        self.stop_training = False
        listed.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            distance = abs(np.log10(self.rate) + 2)
            listed.on_epoch_begin(epoch)
            logs = {"loss": distance, "val_loss": distance + abs(epoch - 1), "val_accuracy": 1 / (1 + distance)}
            listed.on_epoch_end(epoch, {name: value if self.rate < 0.5 else np.nan for name, value in logs.items()})
            if self.stop_training:
                break
        listed.on_train_end()
        return self.history


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Without the two full garbage collections before every model."""
    for module in ("keras_tuner.src.engine.tuner", "keras.src.backend.common.global_state"):
        monkeypatch.setattr(f"{module}.gc", SimpleNamespace(collect=lambda: None))


@pytest.fixture
def asked(monkeypatch):
    """What each fit was asked for."""
    found = []
    monkeypatch.setattr(Quick, "asked", found)
    return found


def build(learning_rate):
    model = Quick([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    model.rate = learning_rate
    return model


def run(database, **changed):
    settings = {"build_model": build, "train": TRAIN, "validation": VALIDATION, "low": 1e-4, "high": 1e-1}
    settings |= {"max_trials": 3, "epochs": 3, "study": "s", "algorithm": "random", "seed": 1}
    settings |= {"show_progress": False, "database": database, **changed}
    return learning_rate_search(**settings)


class TestResult:
    def test_what_is_found(self, database, asked, capsys):
        found = run(database, measures=lambda model: {"rate": model.rate}, show_progress=True)
        rows = found.table
        assert [row["state"] for row in rows] == ["completed"] * 3
        for row in rows:
            assert 1e-4 <= row["hp_learning_rate"] <= 1e-1
            assert row["objective"] == pytest.approx(abs(np.log10(row["hp_learning_rate"]) + 2))
            assert (row["best_epoch"], row["num_epochs"]) == (2, 3)
            assert row["metric_rate"] == row["hp_learning_rate"]
        best = min(rows, key=lambda row: row["objective"])
        assert found.best["number"] == best["number"]
        assert found.best_learning_rate == best["hp_learning_rate"]
        assert found.best_model().rate == best["hp_learning_rate"]
        message = capsys.readouterr().err
        assert "s: 3 of 3 trials finished, best val_loss" in message
        assert all(f"trial {number}, learning rate " in message for number in range(3))
        assert [fit["epochs"] for fit in asked] == [3] * 3
        assert all(fit["batch_size"] == 32 and fit["verbose"] == 0 for fit in asked)
        axes = found.figure().axes[0]
        assert axes.get_xscale() == "log"

    def test_called_again_a_finished_search_returns_at_once(self, database, asked):
        first = run(database)
        num_fits = len(asked)
        again = run(database)
        assert len(asked) == num_fits
        assert again.best == first.best
        assert len(run(database, max_trials=4).table) == 4  # and more extends it
        with pytest.raises(ValueError, match=r"max_trials=4\. Received: 3; it can be raised, not lowered"):
            run(database)

    def test_where_all_diverged_there_is_no_best(self, database, asked):
        found = run(database, low=1.0, high=10.0, max_trials=4)
        for get in (lambda: found.best, lambda: found.best_learning_rate, found.best_model):
            with pytest.raises(
                ValueError, match=r"No trial of 's' was completed \(4 diverged\).*search lower learning"
            ):
                get()
        assert [row["num_epochs"] for row in found.table] == [1] * 4

    def test_a_score_is_maximised(self, database, asked):
        found = run(database, objective="val_accuracy", patience=1)
        assert found.best["objective"] == max(row["objective"] for row in found.table)
        # it stays as it is from the first epoch on: with patience the second is the last, for it is no higher
        assert [row["num_epochs"] for row in found.table] == [2] * 3

    @pytest.mark.parametrize("algorithm", ["grid", "bayesian"])
    def test_other_algorithms(self, database, asked, algorithm):
        rows = run(database, algorithm=algorithm, max_trials=4).table
        assert len({row["hp_learning_rate"] for row in rows}) == 4

    def test_a_seed_of_zero_is_a_seed(self, database, asked):
        rates = [[row["hp_learning_rate"] for row in run(database, study=name, seed=0).table] for name in "ab"]
        assert rates[0] == rates[1]

    def test_a_model_that_fails_for_some_rates_costs_those(self, database, asked):
        def picky(learning_rate):
            if learning_rate > 5e-3:
                raise ArithmeticError("too hot")
            return build(learning_rate)

        rows = run(database, build_model=picky, max_trials=4).table
        failed = [row for row in rows if row["state"] == "failed"]
        assert failed
        assert all(row["hp_learning_rate"] > 5e-3 and "ArithmeticError: too hot" in row["message"] for row in failed)
        assert all(row["hp_learning_rate"] <= 5e-3 for row in rows if row["state"] == "completed")

    def test_a_model_that_is_not_compiled_stops_at_once(self, database):
        def forgot(learning_rate):
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

        with pytest.raises(keras_tuner.errors.FatalValueError, match=r"build_model\(0.0001\) returned.*not compiled"):
            run(database, build_model=forgot)

    def test_no_model_stops_at_once(self, database):
        with pytest.raises(keras_tuner.errors.FatalTypeError, match="valid Keras Model"):
            run(database, build_model=lambda learning_rate: None)

    def test_patience_stops_by_the_direction_of_the_search(self, database, asked):
        rows = run(database, objective="val_odd_score", direction="max", patience=1, build_model=odd).table
        assert [row["num_epochs"] for row in rows] == [3, 3, 3]  # it rises; by Keras's own guess it would stop


def odd(learning_rate):
    class Odd(Quick):
        def fit(self, *args, callbacks, **options):
            class Name(keras.callbacks.Callback):
                def on_epoch_end(self, epoch, logs):
                    logs["val_odd_score"] = float(epoch)

            return super().fit(*args, callbacks=[Name(), *callbacks], **options)

    model = Odd([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    model.rate = learning_rate
    return model


class TestJoining:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"epochs": 4}, "training.epochs is 3 there and 4 here"),
            ({"patience": 2}, "training.patience is None there and 2 here"),
            ({"batch_size": 8}, "training.batch_size is 32 there and 8 here"),
            ({"high": 1.0}, "space.learning_rate.max_value is 0.1 there and 1.0 here"),
            ({"objective": "loss"}, "objective is 'val_loss' there and 'loss' here"),
            ({"train": (X, Y + 1)}, "training.train.checksum is '"),
            ({"validation": (X[:3], Y[:3])}, "training.validation.num_samples is 4 there and 3 here"),
            ({"executions_per_trial": 2}, "training.executions_per_trial is 1 there and 2 here"),
            ({"seed": 2}, "seed is 1 there and 2 here"),
            ({"build_model": odd}, "-def build\\(learning_rate\\)"),
        ],
    )
    def test_another_search_is_refused_with_the_difference(self, database, asked, changed, words):
        run(database, max_trials=1)
        with pytest.raises(ValueError, match=f"(?s)The study 's' is another search: .*{words}"):
            run(database, max_trials=1, **changed)

    def test_a_change_of_code_may_be_accepted(self, database, asked):
        run(database, max_trials=1)

        def changed(learning_rate):
            return build(learning_rate)

        with pytest.raises(ValueError, match="accept_code_change=True"):
            run(database, max_trials=2, build_model=changed)
        assert len(run(database, max_trials=2, build_model=changed, accept_code_change=True).table) == 2


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


class TestData:
    def test_forms(self, database, asked):
        import tensorflow as tf

        weights = np.ones(8)
        forms = {
            "tuple": (TRAIN, VALIDATION),
            "list": (list(TRAIN), list(VALIDATION)),
            "weighted": ((X, Y, weights), (X, Y, weights)),
            "named": (({"a": X, "b": X}, Y), ({"a": X, "b": X}, Y)),
            "batches": (Batches(), Batches()),
            "stream": (tf.data.Dataset.from_tensor_slices(TRAIN).batch(4), VALIDATION),
        }
        for name, (train, validation) in forms.items():
            run(database, study=name, train=train, validation=validation, max_trials=1)
        fits = dict(zip(forms, asked))
        for name in ("tuple", "list"):
            assert fits[name]["x"] is X
            assert fits[name]["y"] is Y
            assert isinstance(fits[name]["validation_data"], tuple)
        assert fits["weighted"]["sample_weight"] is weights
        assert fits["batches"]["y"] is None
        assert "batch_size" not in fits["batches"]
        store = TrialStore(database)
        described = {name: store.study(name)["definition"]["training"] for name in forms}
        assert described["tuple"] == described["list"]
        assert described["tuple"]["train"]["checksum"] != described["weighted"]["train"]["checksum"]
        assert described["batches"]["train"] == {"kind": "Batches", "num_batches": 2}
        assert described["stream"]["train"]["num_batches"] == 2
        store.close()

    def test_checksums_tell_values_shapes_and_types_apart(self):
        forms = [(X, Y), (X, Y + 1), (X[::-1], Y), (X.astype("float64"), Y), (X.reshape(8, 2, 2), Y), (Y, X), (X, Y, Y)]
        assert len({search._checksum(form) for form in forms}) == len(forms)
        assert search._checksum((X, Y)) == search._checksum([X.copy(order="F"), Y.copy()])

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"low": 0}, "The range is 0 < low < high. Received: low=0, high=0.1"),
            ({"low": 0.1, "high": 0.1}, "Received: low=0.1, high=0.1"),
            ({"low": -1.0}, "Received: low=-1.0"),
            ({"high": float("inf")}, "high=inf"),
            ({"low": float("nan")}, "low=nan"),
            ({"max_trials": 0}, "max_trials is a whole number of at least 1. Received: 0"),
            ({"epochs": 2.0}, "epochs is a whole number of at least 1. Received: 2.0"),
            ({"batch_size": 0}, "batch_size is a whole number"),
            ({"executions_per_trial": 0}, "executions_per_trial is a whole number of at least 1. Received: 0"),
            ({"patience": 0}, "patience is a whole number of at least 1. Received: 0"),
            ({"train": None}, r"train data are needed: a tuple \(x, y\), a PyDataset or a tf.data.Dataset"),
            ({"validation": None}, "validation data are needed"),
            ({"train": (X,)}, r"train is \(x, y\) or \(x, y, sample_weight\). Received: 1 parts"),
            ({"validation": (X, Y, Y, Y)}, "validation is .* Received: 4 parts"),
            (
                {"train": (X, Y[:5])},
                r"train holds arrays of one number of samples, at least 1. Received: \(8, 4\), \(5, 1\)",
            ),
            ({"train": (X[:0], Y[:0])}, r"Received: \(0, 4\), \(0, 1\)"),
            ({"train": (X, 3.0)}, r"Received: \(8, 4\), \(\)"),
            (
                {"train": ((x, y) for x, y in zip(X, Y))},
                "train is read once an epoch, by every trial; a generator ends",
            ),
            (
                {"objective": "val_dice"},
                "where a low 'val_dice' is good, .* Received: None, and the name does not tell",
            ),
            ({"direction": "down"}, "direction is 'min' where a low 'val_loss' is good.*Received: 'down'"),
            ({"algorithm": "hyperband"}, "algorithm is one of bayesian, random, grid"),
            ({"study": " "}, "A study has a name of 1 to 200 characters"),
        ],
    )
    def test_bad_arguments(self, database, changed, words):
        with pytest.raises(ValueError, match=words):
            run(database, **changed)

    @pytest.mark.parametrize(
        ("objective", "direction"),
        [
            ("val_loss", "min"),
            ("loss", "min"),
            ("val_mean_absolute_error", "min"),
            ("val_mae", "min"),
            ("val_auc", "max"),
        ],
    )
    def test_names_that_tell_the_direction(self, objective, direction):
        assert search._direction(objective, None) == direction
        assert search._direction(objective, "max") == "max"

    def test_a_stream_without_end_is_refused(self):
        import tensorflow as tf

        endless = tf.data.Dataset.from_tensor_slices(TRAIN).batch(4).repeat()
        with pytest.raises(ValueError, match=r"train repeats without end.*Drop its repeat"):
            run("dbname=never_asked", train=endless)


class TestDatabase:
    def test_the_environment_names_it(self, database, asked, monkeypatch, tmp_path):
        monkeypatch.setenv("HCREG_DATABASE", database)
        found = run(None, folder=tmp_path, max_trials=1)
        assert list(tmp_path.iterdir()) == []  # weights are in the store
        assert found.store.trial("s", 0)["artifacts"][0]["in_store"]
        store = open_store(folder=tmp_path)
        assert store.study("s")["max_trials"] == 1
        store.close()

    def test_else_it_is_embedded_in_the_folder(self, asked, monkeypatch, tmp_path):
        monkeypatch.delenv("HCREG_DATABASE", raising=False)
        found = run(None, folder=tmp_path, max_trials=1)
        assert (tmp_path / "database").is_dir()
        artifact = next(entry for entry in found.store.trial("s", 0)["artifacts"] if entry["name"] == "model")
        assert artifact["path"].startswith(str(tmp_path / "trials" / "s" / "trial_0000"))
        assert found.best_model().rate == found.best_learning_rate
        found.store.database.database.stop()

    def test_a_dsn_may_come_from_a_callable(self, database, asked):
        assert len(run(lambda: database, max_trials=1).table) == 1
