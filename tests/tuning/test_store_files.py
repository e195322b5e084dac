"""Files and epochs of trials: whole or not at all, of whoever holds the trial, and nobody waits for them; copies."""

import copy
import hashlib
import math
import os
import pickle

import pytest

from hcreg.tuning import store as module
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

SCHEMA = f"files_{os.getpid()}"  # several processes test on one named server
DEFINITION = {"objective": "val_loss", "direction": "min", "algorithm": {}, "space": [], "code": None}


@pytest.fixture(scope="module", params=["embedded or named", "PostgreSQL 16"])
def servers_store(request, postgres_server, make_tcp_server):
    store = TrialStore(postgres_server if "named" in request.param else make_tcp_server(16).dsn(), SCHEMA)
    yield store
    store.database.query(f"DROP SCHEMA {SCHEMA} CASCADE")
    store.close()


@pytest.fixture
def store(servers_store):
    yield servers_store
    servers_store.database.query(f"DELETE FROM {SCHEMA}.study")


@pytest.fixture
def study(store):
    return store.join("search", DEFINITION, max_trials=4)


@pytest.fixture
def other(store):
    """Another worker's store, with a connection of its own."""
    other = copy.deepcopy(store)
    yield other
    other.close()


def wish(number):
    return Wish({"lr": number}, f"key {number}", number, {})


def num_rows(store, table):
    return store.database.query(f"SELECT count(*) FROM {SCHEMA}.{table}")[0]["count"]


@pytest.mark.parametrize("num_bytes", [0, 1, 9, 10, 11, 95])
def test_files_come_back_as_they_were(store, study, monkeypatch, num_bytes):
    monkeypatch.setattr(module, "CHUNK_BYTES", 10)
    lease = store.take(study, "w", wish(0))
    content = bytes(range(161, 161 + num_bytes)) if num_bytes < 95 else bytes(range(95))
    assert store.save_artifact(lease, "model", b"an older one, of two chunks")
    assert store.save_artifact(lease, "model", memoryview(content))
    assert store.load_artifact("search", 0) == content
    [artifact] = store.trial("search", 0)["artifacts"]
    sha256 = hashlib.sha256(content).hexdigest()
    assert artifact == {"name": "model", "path": None, "sha256": sha256, "num_bytes": num_bytes, "in_store": True}
    assert num_rows(store, "artifact_chunk") == -(-num_bytes // 10)


def test_a_file_elsewhere_is_recorded(store, study):
    lease = store.take(study, "w", wish(0))
    assert store.save_artifact(lease, "model", b"in the store")
    assert store.save_artifact(lease, "model", b"weights", "/shared/model.h5")
    row = store.table("search")[0]
    assert (row["model_path"], row["model_sha256"]) == ("/shared/model.h5", hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(FileNotFoundError, match="no artifact 'model' in the store: it was written to /shared/mod"):
        store.load_artifact("search", 0)
    with pytest.raises(FileNotFoundError, match="Trial 0 of 'search' has no artifact 'state'"):
        store.load_artifact("search", 0, "state")
    assert num_rows(store, "artifact_chunk") == 0


def test_a_damaged_file_is_refused(store, study):
    store.save_artifact(store.take(study, "w", wish(0)), "model", b"weights")
    store._query("UPDATE {s}.artifact_chunk SET content = 'other'::bytea")
    with pytest.raises(ValueError, match="artifact 'model' of trial 0 of 'search' is damaged or was replaced"):
        store.load_artifact("search", 0)


def test_a_state_is_gone_with_the_end_and_stays_with_a_release(store, study):
    lease = store.take(study, "w", wish(0))
    for name in ("state", "model"):
        assert store.save_artifact(lease, name, name.encode())
    store.release(lease)
    assert store.load_artifact("search", 0, "state") == b"state"
    lease = store.take(study, "w")
    store.end(lease, "completed", objective=1.0)
    assert [artifact["name"] for artifact in store.trial("search", 0)["artifacts"]] == ["model"]
    assert store.load_artifact("search", 0) == b"model"


def test_a_long_upload_hinders_nobody_and_comes_too_late(store, study, other, monkeypatch):
    """The worker stalls while its file is on the way: others take trials meanwhile, and this one."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 4)
    stale = store.take(study, "w", wish(0))
    store.save_artifact(stale, "state", b"after one epoch")
    real, beaten = module.psycopg2.Binary, []

    def stalls(chunk):
        if bytes(chunk) == b"last":
            beaten.append(other.beat(stale))
            assert other.take(study, "v", wish(1)).number == 1
            other.database.query(f"UPDATE {SCHEMA}.trial SET lease_expires_at = now() WHERE number = 0")
            lease = other.take(study, "u")
            assert lease.number == 0
            assert other.save_artifact(lease, "state", b"u's")
        return real(chunk)

    monkeypatch.setattr(module.psycopg2, "Binary", stalls)
    assert store.save_artifact(stale, "state", b"w's last") is False
    assert beaten == [True]
    assert other.load_artifact("search", 0, "state") == b"u's"
    assert num_rows(store, "artifact") == 1


def test_epochs_are_kept_over_those_of_an_earlier_attempt(store, study):
    lease = store.take(study, "w", wish(0))
    assert store.record_epochs(lease, [(0, 1, "loss", 1.0), (0, 2, "loss", math.nan), (0, 2, "lr", -math.inf)])
    store.release(lease)
    lease = store.take(study, "w")
    assert store.record_epochs(lease, [(0, 2, "loss", math.inf), (1, 1, "loss", 0.5)])
    assert store.record_epochs(lease, [])
    assert store.history("search") == [
        {"number": 0, "execution": 0, "epoch": 1, "loss": 1.0, "lr": None},
        {"number": 0, "execution": 0, "epoch": 2, "loss": math.inf, "lr": -math.inf},
        {"number": 0, "execution": 1, "epoch": 1, "loss": 0.5, "lr": None},
    ]


def test_copies_have_connections_of_their_own(store, study):
    copied = [copy.deepcopy(store), pickle.loads(pickle.dumps(store))]
    backends = {each.database.query("SELECT pg_backend_pid() AS pid")[0]["pid"] for each in [store, *copied]}
    assert len(backends) == 3
    for each in copied:
        assert each.take(study, "w", wish(0)).number == 0
        each.close()


def test_epochs_of_an_earlier_attempt_beyond_the_last_are_gone_with_the_end(store, study):
    first = store.take(study, "first", wish(0))
    store.record_epochs(first, [(0, epoch, "loss", 1.0 / epoch) for epoch in (1, 2, 3, 4)])
    store.release(first)
    second = store.take(study, "second")
    store.record_epochs(second, [(0, 1, "loss", 9.0), (0, 2, "loss", float("nan"))])  # it began anew, and diverged
    assert store.end(second, "diverged", message="loss is nan in epoch 2")
    assert store.history("search")[0]["loss"] == 9.0
    assert [row["epoch"] for row in store.history("search")] == [1, 2]
    assert store.table("search")[0]["num_epochs"] == 2


@pytest.mark.parametrize("goes_on_after", [2, 4])
def test_epochs_that_a_resumed_attempt_goes_on_from_stay(store, study, goes_on_after):
    first = store.take(study, "first", wish(0))
    store.record_epochs(first, [(0, epoch, "loss", 1.0) for epoch in (1, 2, 3, 4)])
    store.release(first)
    second = store.take(study, "second")
    store.record_epochs(second, [(0, epoch, "loss", 2.0) for epoch in range(goes_on_after + 1, 5)])
    assert store.end(second, "completed", objective=1.0, best_epoch=1)
    assert [row["loss"] for row in store.history("search")] == [1.0] * goes_on_after + [2.0] * (4 - goes_on_after)
