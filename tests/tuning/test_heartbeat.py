"""A lease is extended while a trial runs, and a lost one is noticed; nothing that happens there stops the training."""

import copy
import threading
import time

import psycopg2
import pytest

from hcreg.tuning.heartbeat import Heartbeat
from hcreg.tuning.records import Lease, Wish
from hcreg.tuning.store import TrialStore

DEFINITION = {"objective": "val_loss", "direction": "min", "space": []}
LEASE = Lease(1, 0, 1, "me", {})


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def lease_left_s(database):
    connection = psycopg2.connect(database)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM hcreg.trial")
            return float(cursor.fetchone()[0])
    finally:
        connection.close()


@pytest.fixture
def taken(database):
    """A store and its lease on a trial, for 1 s."""
    store = TrialStore(database)
    study_id = store.join("s", DEFINITION, max_trials=1)
    yield store, study_id, store.take(study_id, "me", Wish({}, "k", 0, {}), lease_s=1)
    store.close()


class Scripted(Heartbeat):
    """Beats on a store that answers as told: True, False or an exception."""

    def __init__(self, answers):
        super().__init__(None, 1, 0.01)
        self.answers, self.num_beats = iter(answers), 0

    def _copy(self):
        return self

    def beat(self, lease, lease_s):
        self.num_beats += 1
        answer = next(self.answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_lease_outlives_its_time_while_the_heart_beats(database, taken):
    store, study_id, lease = taken
    heartbeat = Heartbeat(store, lease_s=50, heartbeat_s=0.1)
    heartbeat.start(lease)
    wait_until(lambda: lease_left_s(database) > 40)
    heartbeat.stop()
    assert not heartbeat.lost
    assert store.take(study_id, "another") is None


def test_a_trial_taken_over_is_noticed(taken):
    store, study_id, lease = taken
    heartbeat = Heartbeat(store, lease_s=10, heartbeat_s=0.05)
    store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
    assert store.take(study_id, "another").attempt == 2
    heartbeat.start(lease)
    wait_until(lambda: heartbeat.lost)
    assert store.snapshot(study_id).trials[0]["owner"] == "another"  # the late beat gave its lease nothing
    heartbeat.start(Lease(99, 0, 1, "me", {}))
    assert not heartbeat.lost  # a new trial, a new life
    heartbeat.stop()


def test_beats_have_a_connection_of_their_own(database, taken):
    store, _, lease = taken
    before = store.database._connection
    heartbeat = Heartbeat(store, lease_s=50, heartbeat_s=0.05)
    for _ in range(3):  # trial after trial the same one
        heartbeat.start(lease)
        wait_until(lambda: lease_left_s(database) > 40)
        heartbeat.stop()
    assert store.database._connection is before
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hcreg' AND datname = current_database()"
        )
        assert cursor.fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("error", [OSError("away"), ValueError("odd"), RuntimeError("worse"), MemoryError()])
def test_no_exception_stops_the_beats(error, capsys):
    heartbeat = Scripted([True, error, error, error, True, False])
    heartbeat.start(LEASE)
    wait_until(lambda: heartbeat.lost)
    assert heartbeat.num_beats == 6
    assert capsys.readouterr().err.count("heartbeat of trial 0") == 1  # said once, not at every beat


def test_terminated_connections_come_back(database, taken):
    store, _, lease = taken
    heartbeat = Heartbeat(store, lease_s=50, heartbeat_s=0.05)
    heartbeat.start(lease)
    wait_until(lambda: lease_left_s(database) > 40)
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hcreg'")
        cursor.execute("UPDATE hcreg.trial SET lease_expires_at = clock_timestamp() + interval '5 s'")
    connection.close()
    wait_until(lambda: lease_left_s(database) > 40)
    assert not heartbeat.lost
    heartbeat.stop()


def test_stop_ends_the_thread():
    heartbeat = Scripted([])
    heartbeat.start(Lease(1, 77, 1, "me", {}))
    wait_until(lambda: heartbeat.num_beats > 1)
    heartbeat.stop()
    wait_until(lambda: not any(thread.name == "heartbeat of trial 77" for thread in threading.enumerate()))
    num_beats = heartbeat.num_beats
    heartbeat.stop()  # twice is once
    assert heartbeat.num_beats == num_beats
    assert not heartbeat.lost


@pytest.mark.parametrize(("lease_s", "heartbeat_s"), [(10, 6), (10, 0), (10, -1)])
def test_two_beats_must_fit_into_a_lease(lease_s, heartbeat_s):
    with pytest.raises(ValueError, match=f"At least two heartbeats must fit.*heartbeat_s={heartbeat_s}, lease_s=10"):
        Heartbeat(None, lease_s, heartbeat_s)


def test_a_store_in_use_can_be_copied(taken):
    store, study_id, _ = taken
    copied = copy.deepcopy({"callback": store})["callback"]
    assert copied.database._connection is None
    assert len(copied.snapshot(study_id).trials) == 1
    copied.close()
