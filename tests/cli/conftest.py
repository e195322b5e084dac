"""A database of studies to look into: an embedded server, filled as workers of a search would."""

import math
import tempfile

import pytest

TRACEBACK = 'Traceback (most recent call last):\n  File "model.py", line 3, in build\nValueError: [bold] is no number\n'
SPACE = [
    {
        "class_name": "Float",
        "config": {"name": "learning_rate", "min_value": 1e-5, "max_value": 0.1, "sampling": "log", "conditions": []},
    }
]


@pytest.fixture(scope="session")
def embedded():
    """An embedded server, stopped at the end."""
    from hcreg.tuning.server import embedded_database

    with tempfile.TemporaryDirectory(prefix="hcreg-cli-") as folder, embedded_database(folder) as database:
        yield database


@pytest.fixture(scope="session")
def new_database(embedded):
    """Give what makes an empty database of a name, and its DSN."""
    import psycopg2

    def make(name):
        connection = psycopg2.connect(embedded())
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        return embedded().replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(scope="session")
def studies(new_database):
    """DSN of a database with the studies "night" (5 trials of 4 states), "long" (500) and "begun" (none)."""
    from hcreg.tuning.store import TrialStore

    dsn = new_database("studies")
    store = TrialStore(dsn)
    fill_night(store)
    rates = [10 ** (-5 + 4 * number / 500) for number in range(500)]
    trials = [(rate, {"objective": 1 + math.log10(rate / 1e-3) ** 2}) for rate in rates]
    fill(store, "long", trials, max_trials=500)
    fill(store, "begun", [], direction="max", objective="val_r2")
    store.close()
    return dsn


def fill_night(store):
    nan = float("nan")
    trials = [
        (1e-4, {"objective": 9.0, "epochs": [12.0, 9.0], "metrics": {"val_mae_mm": 0.9}}),
        (2e-3, {"objective": 4.5, "epochs": [8.0, 4.5, 5.0], "metrics": {"val_mae_mm": 0.45}, "model": b"weights"}),
        (5e-2, {"state": "diverged", "epochs": [30.0, nan], "message": "val_mae_px became nan in epoch 2"}),
        (3e-4, {"state": "failed", "message": TRACEBACK}),
        (4e-4, {"state": "running"}),
    ]
    fill(store, "night", trials, attributes={"data": "HC18", "num_training": 600})


def fill(store, name, trials, *, objective="val_mae_px", direction="min", max_trials=30, attributes=None):
    """Make a study and its trials: (learning rate, what became of it) each, three workers in turn."""
    from hcreg.tuning.records import Wish
    from hcreg.tuning.search_space import values_key

    definition = {
        "objective": objective,
        "direction": direction,
        "algorithm": {"name": "bayesian", "beta": 2.6, "num_initial_points": None},
        "training": {"epochs": 20, "train": {"num_samples": 600}},
        "space": SPACE,
        "code": "def build_model(learning_rate):\n    return small(learning_rate)\n",
    }
    study = store.join(name, definition, max_trials=max_trials, seed=3, attributes=attributes)
    for number, (rate, outcome) in enumerate(trials):
        outcome = dict(outcome)
        state = outcome.pop("state", "completed")
        values = {"learning_rate": rate}
        about = {
            "host": f"gpu{number % 3}",
            "pid": 1000 + number % 3,
            "device": {"backend": "tensorflow", "accelerators": ["A100"]},
            "versions": {"keras": "3.15"},
            "commit": "0123abc",
            "code": "fedc",
        }
        wish = Wish(values, values_key(values), number, {})
        lease = store.take(study, f"worker {number}", wish, about=about)
        epochs = outcome.pop("epochs", [])
        if epochs:
            store.record_epochs(lease, [(0, epoch, objective, value) for epoch, value in enumerate(epochs, 1)])
            if state == "completed":
                outcome["best_epoch"] = epochs.index(min(epochs)) + 1
        if "model" in outcome:
            store.save_artifact(lease, "model", outcome.pop("model"))
        if state != "running":
            assert store.end(lease, state, **outcome)
