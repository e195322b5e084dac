"""Questions to a trial store: tables, the best, histories, files, and names that are not there."""

import csv
import datetime
import math
import os

import pytest

from hcreg.tuning.reader import check_content, device_in_words
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

COLUMNS = [
    "number",
    "state",
    "objective",
    "best_epoch",
    "num_epochs",
    "seconds",
    "attempts",
    "started_at",
    "finished_at",
    "host",
    "device",
    "commit",
    "model_path",
    "model_sha256",
    "message",
]
SCHEMA = f"questions_{os.getpid()}"  # several processes test on one named server
GPU = {"backend": "tensorflow", "accelerators": ["NVIDIA H200", "NVIDIA H200"], "cpu_count": 16}


def definition(direction):
    return {"objective": "val_loss", "direction": direction, "algorithm": {}, "space": [], "code": None}


@pytest.fixture(scope="module")
def store(postgres_server):
    """Study "lowest": 0 completed, 1 diverged, 2 failed, 3 runs, 4 waits, 5 completed, 6 completed as 0; and others."""
    store = TrialStore(postgres_server(), SCHEMA)
    study = store.join("lowest", definition("min"), max_trials=10, seed=4, attributes={"data_path": "/data"})

    def taken(number, **values):
        about = {"host": f"gpu{number}", "device": GPU, "commit": "c0ffee"}
        return store.take(
            study, f"worker {number}", Wish({"lr": number / 8, **values}, str(number), number, {}), about=about
        )

    leases = [taken(0), taken(1), taken(2, units=8), taken(3), taken(4), taken(5), taken(6)]
    store.record_epochs(leases[0], [(0, 1, "loss", 0.5), (0, 1, "val_loss", 0.1), (0, 2, "loss", 0.3)])
    store.record_epochs(leases[0], [(1, 1, "loss", 1 / 3), (1, 1, "val_loss", 5e-324)])
    store.record_epochs(leases[1], [(0, 1, "loss", math.inf), (0, 2, "loss", -math.inf), (0, 3, "loss", math.nan)])
    store.save_artifact(leases[0], "model", b"weights", "/shared/model.weights.h5")
    store.save_artifact(leases[0], "notes", b"in the store")
    store.end(leases[0], "completed", objective=0.1, best_epoch=1, metrics={"dice": 0.7, "loss": 0.5})
    store.end(leases[1], "diverged", message="loss is inf", metrics={"loss": math.nan, "peak": math.inf})
    store.end(leases[2], "failed", message="raised\n'a', \"b\"")
    store.release(leases[4], "interrupted")
    store.end(leases[5], "completed", objective=-1e300)
    store.end(leases[6], "completed", objective=0.1)
    highest = store.join("highest", definition("max"))
    for number, objective in enumerate((0.5, 0.75, 0.75, 0.25)):
        lease = store.take(highest, "w", Wish({"lr": number}, str(number), number, {}))
        store.end(lease, "completed", objective=objective)
    store.join("empty", definition("max"))
    yield store
    store.database.query(f"DROP SCHEMA {SCHEMA} CASCADE")
    store.close()


def test_studies_the_newest_first(store):
    names = ("name", "direction", "max_trials", "waiting", "running", "completed", "diverged", "failed", "best")
    assert [tuple(study[name] for name in names) for study in store.studies()] == [
        ("empty", "max", None, 0, 0, 0, 0, 0, None),
        ("highest", "max", None, 0, 0, 4, 0, 0, 0.75),
        ("lowest", "min", 10, 1, 1, 3, 1, 1, -1e300),
    ]
    assert {study["objective"] for study in store.studies()} == {"val_loss"}
    assert all(study["created_at"].tzinfo for study in store.studies())


def test_a_study(store):
    study = store.study("lowest")
    assert study["definition"] == definition("min")
    wanted = {"name": "lowest", "objective": "val_loss", "direction": "min", "space": [], "max_trials": 10, "seed": 4}
    assert {name: study[name] for name in wanted} == wanted
    assert study["attributes"] == {"data_path": "/data"}


def test_the_table(store):
    rows = store.table("lowest")
    assert [row["number"] for row in rows] == list(range(7))
    assert [row["state"] for row in rows] == [
        *("completed", "diverged", "failed", "running", "waiting", "completed", "completed")
    ]
    for row in rows:
        assert list(row) == [*COLUMNS, "hp_lr", "hp_units", "metric_dice", "metric_loss", "metric_peak"]
    first, diverged, failed, running, waiting, *_ = rows
    assert (first["objective"], first["best_epoch"], first["num_epochs"], first["attempts"]) == (0.1, 1, 3, 1)
    assert (first["host"], first["commit"]) == ("gpu0", "c0ffee")
    assert first["device"] == "tensorflow: NVIDIA H200, NVIDIA H200"
    assert first["model_path"] == "/shared/model.weights.h5"
    assert [row["objective"] for row in rows] == [0.1, None, None, None, None, -1e300, 0.1]
    assert [row["hp_lr"] for row in rows] == [number / 8 for number in range(7)]
    assert [row["hp_units"] for row in rows] == [None, None, 8, None, None, None, None]
    assert (first["metric_dice"], first["metric_loss"], first["metric_peak"]) == (0.7, 0.5, None)
    assert math.isnan(diverged["metric_loss"])
    assert diverged["metric_peak"] == math.inf
    assert failed["message"] == "raised\n'a', \"b\""
    assert failed["num_epochs"] == 0
    assert running["finished_at"] is waiting["finished_at"] is None
    assert waiting["message"] == "interrupted"
    for row in rows:
        assert row["seconds"] >= 0
        assert row["finished_at"] is None or row["finished_at"] >= row["started_at"]


def test_seconds_are_those_of_all_attempts(store):
    study = store.join("timed", definition("min"))
    lease = store.take(study, "w", Wish({}, "", 0, {}))
    store._query("UPDATE {s}.attempt SET started_at = now() - interval '1 hour' WHERE trial_id = %s", (lease.trial_id,))
    store.release(lease)
    lease = store.take(study, "w")
    store._query(
        "UPDATE {s}.attempt SET started_at = now() - interval '1 minute' WHERE trial_id = %s AND outcome IS NULL",
        (lease.trial_id,),
    )
    [row] = store.table("timed")
    assert row["seconds"] == pytest.approx(3660, abs=30)
    assert row["attempts"] == 2
    age = datetime.datetime.now(datetime.UTC) - row["started_at"]
    assert age.total_seconds() == pytest.approx(3600, abs=300)
    store.delete_study("timed")


def test_the_table_as_csv(store, tmp_path):
    store.write_csv("lowest", tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(row) for row in store.table("lowest")]
    assert [float(row["objective"]) for row in rows if row["objective"]] == [0.1, -1e300, 0.1]
    assert rows[2]["message"] == "raised\n'a', \"b\""
    assert rows[1]["metric_peak"] == "inf"
    assert datetime.datetime.fromisoformat(rows[0]["finished_at"]) == store.table("lowest")[0]["finished_at"]
    store.write_csv("empty", tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text().strip() == ""


def test_the_best_are_completed_and_of_equals_the_first(store):
    assert [row["number"] for row in store.best("lowest", 9)] == [5, 0, 6]
    assert [row["number"] for row in store.best("highest", 3)] == [1, 2, 0]
    assert store.best("highest") == [store.table("highest")[1]]
    assert store.best("empty") == []


def test_a_trial(store):
    trial = store.trial("lowest", 0)
    row = store.table("lowest")[0]
    assert {name: trial[name] for name in row} == row
    [attempt] = trial["attempt_records"]
    assert list(attempt) == [
        *("number", "worker", "host", "pid", "device", "versions", "commit", "code", "started_at", "ended_at"),
        *("outcome", "message"),
    ]
    assert (attempt["worker"], attempt["device"], attempt["outcome"]) == ("worker 0", GPU, "completed")
    assert [(each["name"], each["path"], each["num_bytes"], each["in_store"]) for each in trial["artifacts"]] == [
        ("model", "/shared/model.weights.h5", 7, False),
        ("notes", None, 12, True),
    ]


def test_the_history(store):
    assert store.history("lowest", 0) == [
        {"number": 0, "execution": 0, "epoch": 1, "loss": 0.5, "val_loss": 0.1},
        {"number": 0, "execution": 0, "epoch": 2, "loss": 0.3, "val_loss": None},
        {"number": 0, "execution": 1, "epoch": 1, "loss": 1 / 3, "val_loss": 5e-324},
    ]
    diverged = [row["loss"] for row in store.history("lowest", 1)]
    assert diverged[:2] == [math.inf, -math.inf]
    assert math.isnan(diverged[2])
    assert [row["number"] for row in store.history("lowest")] == [0, 0, 0, 1, 1, 1]
    assert store.history("lowest", 3) == store.history("empty") == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.study("lowes"),
        lambda store: store.table("lowes"),
        lambda store: store.best("lowes"),
        lambda store: store.trial("lowes", 0),
        lambda store: store.history("lowes"),
        lambda store: store.write_csv("lowes", "/no/such/file"),
        lambda store: store.delete_study("lowes"),
    ],
)
def test_an_unknown_study_names_those_there_are(store, ask):
    with pytest.raises(ValueError, match=r"no study 'lowes' in <.*>\. It has 'empty', 'highest', 'lowest'\."):
        ask(store)


def test_unknown_trials_and_files(store):
    with pytest.raises(ValueError, match=r"The study 'lowest' has no trial 7: its trials are 0 to 6\."):
        store.trial("lowest", 7)
    with pytest.raises(ValueError, match="The study 'empty' has no trial 0: it has none yet"):
        store.trial("empty", 0)
    with pytest.raises(FileNotFoundError, match="Trial 7 of 'lowest' has no artifact 'model'"):
        store.load_artifact("lowest", 7)
    assert store.load_artifact("lowest", 0, "notes") == b"in the store"
    assert store.find_artifact("lowest", 0, "plan") is None


def test_a_store_without_studies(postgres_server):
    empty = TrialStore(postgres_server(), f"no_{SCHEMA}")
    assert empty.studies() == []
    with pytest.raises(ValueError, match=r"There is no study 'a' in .* It has none yet"):
        empty.table("a")
    empty.database.query(f"DROP SCHEMA no_{SCHEMA} CASCADE")
    empty.close()


def test_500_trials_are_listed_by_few_questions(store):
    """However many trials: the table is one answer, not one for each trial."""
    study = store.join("many", definition("min"))
    store._query(
        "INSERT INTO {s}.trial (study_id, number, state, values, values_key, objective, finished_at) "
        "SELECT %s, n, 'completed', jsonb_build_object('lr', n / 512.0), n::text, n, now() "
        "FROM generate_series(0, 499) n",
        (study,),
    )
    asked, database = [], store.database
    query = database.query
    try:
        database.query = lambda *arguments: asked.append(0) or query(*arguments)
        rows = store.table("many")
        assert [row["hp_lr"] for row in rows] == [number / 512 for number in range(500)]
        assert len(asked) == 2
    finally:
        del database.query
        store.delete_study("many")


def test_another_content_is_refused_with_both_sums():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    check_content(b"", {"sha256": empty, "num_bytes": 0}, "it")
    with pytest.raises(
        ValueError, match=r"it is damaged .* SHA-256 is ca978112ca1b\.\.\., e3b0c44298fc\.\.\. of 1,234 "
    ):
        check_content(b"a", {"sha256": empty, "num_bytes": 1234}, "it")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (None, None),
        ({}, None),
        (GPU, "tensorflow: NVIDIA H200, NVIDIA H200"),
        ({"backend": "jax", "accelerators": [], "cpu_count": 2}, "jax: 2 CPU cores"),
        ({"backend": "torch"}, "torch: ? CPU cores"),
    ],
)
def test_a_device_in_words(device, words):
    assert device_in_words(device) == words
