"""The contract of a trial store: no trial lost, none counted twice, a stale lease writes nothing."""

import concurrent.futures
import copy
import itertools
import math
import os
import threading

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from hcreg.tuning.database import Database
from hcreg.tuning.proposals import values_key
from hcreg.tuning.records import Lease, Wish
from hcreg.tuning.store import TrialStore

SPACE = [{"class_name": "Float", "config": {"name": "lr", "min_value": 1e-5, "max_value": 0.1, "sampling": "log"}}]
SCHEMA = f"contract_{os.getpid()}"  # several processes test on one named server
DEFINITION = {"objective": "val_loss", "direction": "min", "algorithm": {"name": "random"}, "space": SPACE, "code": "a"}
ABOUT = {"host": "gpu7", "pid": 7, "device": {"backend": "jax"}, "versions": {"keras": "3"}, "commit": "c0ffee"}


def wish(number, value=None, state=None):
    values = {"lr": number if value is None else value}
    return Wish(values, values_key(values), number, state or {})


def expire(store, lease):
    """As if the worker had not been heard of for its lease."""
    store.database.query(
        f"UPDATE {store.schema}.trial SET lease_expires_at = clock_timestamp() - interval '1 second' "
        "WHERE trial_id = %s AND state = 'running'",
        (lease.trial_id,),
    )


def content_of(store):
    """Every row of every table, as text."""
    tables = ("study", "trial", "attempt", "epoch_metric", "trial_metric", "artifact", "artifact_chunk")
    return {
        table: [row["t"] for row in store.database.query(f"SELECT t::text FROM {store.schema}.{table} t ORDER BY 1")]
        for table in tables
    }


class LosesAnswers(Database):
    """Of `num_lost` statements the answer is lost: they are done, and the connection breaks before that is heard."""

    num_lost = 0

    def _persist(self, work, patience_s):
        def and_lose(cursor):
            result = work(cursor)
            if self.num_lost > 0:
                self.num_lost -= 1
                self._connection.close()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")
            return result

        return super()._persist(and_lose, patience_s)


@pytest.fixture(scope="module")
def stores(postgres_server, server_16):
    """Stores by address, closed before their servers."""
    made = {}
    yield made
    for store in made.values():
        store.database.query(f"DROP SCHEMA {SCHEMA} CASCADE")
        store.close()


class TrialStoreContract:
    """What a trial store must do; a subclass has a fixture `dsn`, the address of a database."""

    @pytest.fixture
    def store(self, dsn, stores):
        if dsn not in stores:
            stores[dsn] = TrialStore(LosesAnswers(dsn, patience_s=60), SCHEMA)
        yield stores[dsn]
        stores[dsn].database.query(f"DELETE FROM {SCHEMA}.study")

    @pytest.fixture
    def study(self, store):
        return store.join("search", DEFINITION, max_trials=4)

    @pytest.fixture
    def other(self, store):
        """Another worker's store, with a connection of its own."""
        other = copy.deepcopy(store)
        yield other
        other.close()

    # -- studies

    def test_joining_makes_the_study_once(self, store, other):
        first = store.join("search", DEFINITION, max_trials=4, attributes={"data_path": "/data"})
        assert other.join("search", DEFINITION, max_trials=4, attributes={"data_path": "/mnt"}) == first
        assert store.study("search")["attributes"] == {"data_path": "/data"}
        assert store.join("another", DEFINITION) != first

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"objective": "val_mae"}, "objective is 'val_loss' there and 'val_mae' here"),
            ({"direction": "max"}, "direction is 'min' there and 'max' here"),
            ({"algorithm": {"name": "grid"}}, "algorithm.name is 'random' there and 'grid' here"),
            (
                {"space": [{"class_name": "Float", "config": {**SPACE[0]["config"], "max_value": 1.0}}]},
                "space.lr.max_value is 0.1 there and 1.0 here",
            ),
            ({"batch_size": 8}, "batch_size is None there and 8 here"),
            ({"code": "b"}, "code is 'a' there and 'b' here"),
            ({"code": "a\nb"}, r"code differs:\n--- there\n\+\+\+ here\n@@.*\n\+b"),
        ],
    )
    def test_another_search_of_that_name_is_refused(self, store, study, change, words):
        advice = "Use another study name, or the same settings"
        advice += r", or accept_code_change=True \(hcreg tune --acc" if "code" in change else r"\."
        with pytest.raises(ValueError, match=f"(?s)'search' is another search: .*{words}.*{advice}"):
            store.join("search", {**DEFINITION, **change}, max_trials=4)

    def test_another_seed_is_another_search(self, store, study):
        with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
            store.join("search", DEFINITION, max_trials=4, seed=1)

    def test_a_change_of_code_can_be_accepted_and_nothing_else(self, store, study):
        changed = {**DEFINITION, "code": "b"}
        assert store.join("search", changed, max_trials=4, accept_code_change=True) == study
        with pytest.raises(ValueError, match="direction is 'min'"):
            store.join("search", {**changed, "direction": "max"}, max_trials=4, accept_code_change=True)

    def test_max_trials_is_raised_not_lowered(self, store, study):
        with pytest.raises(ValueError, match=r"has max_trials=4\. Received: 3; it can be raised, not lowered"):
            store.join("search", DEFINITION, max_trials=3)
        for wanted in (4, 6, None):
            store.join("search", DEFINITION, max_trials=wanted)
            assert store.study("search")["max_trials"] == wanted
        with pytest.raises(ValueError, match=r"has max_trials=None\. Received: 6"):
            store.join("search", DEFINITION, max_trials=6)

    @pytest.mark.parametrize("name", ["", "  ", "x" * 201, None, 3])
    def test_a_study_has_a_name(self, store, name):
        with pytest.raises(ValueError, match="a name of 1 to 200 characters"):
            store.join(name, DEFINITION)

    def test_names_and_values_may_hold_anything_printable(self, store):
        name = 'a\'; DROP TABLE study; -- "%s" {s} \\ ö \U0001f642'
        study = store.join(name, {**DEFINITION, "objective": "val_'{%s}"}, max_trials=1)
        values = {"l'r %s {s}": "x"}
        lease = store.take(study, "w' %s {s}", Wish(values, values_key(values), 0, {"{s}": "%s"}))
        assert lease.values == values
        assert store.record_epochs(lease, [(0, 1, "m' %s {s}", 1.0)])
        assert store.end(lease, "completed", objective=1, metrics={"% {x}": 2}, message="{s} %s '")
        row = store.table(name)[0]
        assert (row["hp_l'r %s {s}"], row["metric_% {x}"], row["message"]) == ("x", 2.0, "{s} %s '")
        assert store.history(name)[0]["m' %s {s}"] == 1.0

    def test_a_deleted_study_is_gone_and_its_workers_hear_it(self, store, study):
        lease = store.take(study, "w", wish(0))
        store.delete_study("search")
        assert not store.beat(lease)
        assert not store.record_epochs(lease, [(0, 1, "loss", 1.0)])
        assert not store.save_artifact(lease, "model", b"weights")
        assert not store.end(lease, "completed", objective=1.0)
        for call in (
            lambda: store.snapshot(study),
            lambda: store.take(study, "w", wish(0)),
            lambda: store.grow_space(study, SPACE),
        ):
            with pytest.raises(ValueError, match="The study was deleted while it was searched"):
                call()
        with pytest.raises(ValueError, match="There is no study 'search'"):
            store.delete_study("search")

    def test_the_space_grows_and_keeps_what_it_had(self, store, study):
        more = {"class_name": "Int", "config": {"name": "units", "min_value": 1, "max_value": 8}}
        store.grow_space(study, [*SPACE, more])
        store.grow_space(study, [more])
        assert store.snapshot(study).space == [*SPACE, more]
        assert store.join("search", DEFINITION, max_trials=4) == study

    # -- taking trials

    def test_a_snapshot_tells_what_is_known(self, store, study):
        empty = store.snapshot(study)
        assert (empty.trials, empty.space, empty.proposer_state, empty.max_trials) == ([], SPACE, {}, 4)
        assert (empty.next_number, empty.is_full, empty.has_one_for("w")) == (0, False, False)
        first = store.take(study, "w", wish(0, 0.25, {"n": 1}))
        store.end(first, "completed", objective=0.125, best_epoch=3)
        second = store.take(study, "w", wish(1, 0.5, {"n": 2}))
        now = store.snapshot(study)
        assert now.proposer_state == {"n": 2}
        assert now.trials == [
            {
                "number": number,
                "state": state,
                "values": {"lr": value},
                "objective": objective,
                "best_epoch": best_epoch,
                "message": None,
                "attempt": 1,
                "owner": owner,
                "is_lost": False,
            }
            for number, state, value, objective, best_epoch, owner in [
                (0, "completed", 0.25, 0.125, 3, None),
                (1, "running", 0.5, None, None, "w"),
            ]
        ]
        assert now.has_one_for("w")
        assert not now.has_one_for("v")
        expire(store, second)
        assert store.snapshot(study).has_one_for("v")

    def test_a_wish_is_granted(self, store, study):
        lease = store.take(study, "w", wish(0, 0.25, {"drawn": 3}), about=ABOUT)
        assert (lease.number, lease.attempt, lease.owner, lease.values) == (0, 1, "w", {"lr": 0.25})
        record = store.trial("search", 0)["attempt_records"][0]
        assert {name: record[name] for name in ABOUT} == ABOUT
        assert (record["worker"], record["ended_at"], record["outcome"]) == ("w", None, None)

    def test_a_wish_that_comes_too_late_is_not(self, store, study, other):
        store.take(study, "w", wish(0, 0.25))
        before = content_of(store)
        assert other.take(study, "v", wish(0, 0.5)) is None
        assert other.take(study, "v", wish(2, 0.5)) is None
        assert content_of(store) == before
        assert other.take(study, "v", wish(1, 0.5)).number == 1

    def test_values_are_tried_once(self, store, study, other):
        lease = store.take(study, "w", wish(0, 0.25))
        before = content_of(store)
        assert other.take(study, "v", wish(1, 0.25)) is None
        assert content_of(store) == before
        store.end(lease, "completed", objective=1.0)
        assert other.take(study, "v", wish(1, 0.25)) is None
        assert store.snapshot(study).next_number == 1

    def test_values_of_a_failed_trial_may_be_tried_again(self, store, study):
        store.end(store.take(study, "w", wish(0, 0.25)), "failed", message="no reason")
        assert store.take(study, "w", wish(1, 0.25)).number == 1

    def test_other_studies_do_not_count(self, store, study):
        store.take(study, "w", wish(0, 0.25))
        another = store.join("another", DEFINITION, max_trials=1)
        lease = store.take(another, "v", wish(0, 0.25))
        assert lease.number == 0
        assert store.take(another, "u") is None

    def test_no_more_than_max_trials(self, store, study):
        for number in range(4):
            store.end(store.take(study, "w", wish(number)), "completed", objective=1.0)
        assert store.snapshot(study).is_full
        assert store.take(study, "w", wish(4)) is None
        store.join("search", DEFINITION, max_trials=5)
        assert store.take(study, "w", wish(4)).number == 4

    def test_without_a_wish_there_is_none_to_take(self, store, study, other):
        assert store.take(study, "w") is None
        store.take(study, "w", wish(0))
        assert other.take(study, "v") is None

    def test_a_worker_gets_its_own_trial_back(self, store, study):
        lease = store.take(study, "w", wish(0))
        expire(store, lease)
        assert store.take(study, "w", wish(1)) == lease
        assert not store.snapshot(study).trials[0]["is_lost"], "its lease begins anew"
        assert len(store.trial("search", 0)["attempt_records"]) == 1

    def test_the_first_that_waits_goes_before_a_wish(self, store, study, other):
        leases = [store.take(study, f"w{number}", wish(number)) for number in range(3)]
        for lease in leases[:0:-1]:
            assert store.release(lease, "interrupted")
        taken = other.take(study, "v", wish(3))
        assert (taken.number, taken.attempt, taken.values) == (1, 2, leases[1].values)
        records = store.trial("search", 1)["attempt_records"]
        assert [(record["outcome"], record["message"]) for record in records] == [
            ("released", "interrupted"),
            (None, None),
        ]
        assert store.snapshot(study).next_number == 3

    def test_a_lost_trial_goes_to_another(self, store, study, other):
        lease = store.take(study, "w", wish(0), lease_s=1000)
        assert other.take(study, "v") is None
        expire(store, lease)
        taken = other.take(study, "v")
        assert (taken.trial_id, taken.number, taken.attempt, taken.owner) == (lease.trial_id, 0, 2, "v")
        assert [record["outcome"] for record in store.trial("search", 0)["attempt_records"]] == ["lost", None]

    def test_a_trial_that_loses_its_workers_is_failed(self, store, study):
        for attempt in (1, 2, 3):
            lease = store.take(study, f"w{attempt}", wish(0))
            assert lease.attempt == attempt
            expire(store, lease)
        assert store.take(study, "w4") is None
        row = store.table("search")[0]
        assert (row["state"], row["message"]) == ("failed", "3 workers were lost while they ran it")
        assert row["finished_at"] is not None

    def test_released_attempts_do_not_count_as_lost(self, store, study):
        for number in range(4):
            assert store.release(store.take(study, f"w{number}", wish(0)))
        lease = store.take(study, "w")
        expire(store, lease)
        assert store.take(study, "v", max_attempts=2).attempt == 6

    def test_of_two_lost_trials_each_goes_to_one(self, store, study, other):
        for lease in [store.take(study, f"w{number}", wish(number)) for number in range(2)]:
            expire(store, lease)
        assert (store.take(study, "v").number, other.take(study, "u").number) == (0, 1)

    def test_exactly_max_trials_from_eight_at_once(self, store):
        study = store.join("crowd", DEFINITION, max_trials=20)
        barrier = threading.Barrier(8)

        def work(worker):
            mine = copy.deepcopy(store)
            taken = []
            barrier.wait()
            while not (snapshot := mine.snapshot(study)).is_full:
                # half of the wishes of all workers are of equal values
                value = snapshot.next_number + (worker / 10 if worker % 2 else 0)
                lease = mine.take(study, f"w{worker}", wish(snapshot.next_number, value))
                if lease is not None:
                    taken.append(lease)
                    assert mine.end(lease, "completed", objective=worker)
            mine.close()
            return taken

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            taken = list(itertools.chain(*pool.map(work, range(8))))
        assert sorted(lease.number for lease in taken) == list(range(20))
        rows = store.table("crowd")
        assert [row["number"] for row in rows] == list(range(20))
        assert {(row["state"], row["attempts"]) for row in rows} == {("completed", 1)}
        assert len({row["hp_lr"] for row in rows}) == 20

    def test_nothing_is_lost_while_connections_are_ended_at_random(self, store):
        study = store.join("disturbed", DEFINITION, max_trials=24)
        done = threading.Event()

        def disturb():
            killer = Database(store.database.database, patience_s=60)
            ended = 0
            while not ended or not done.wait(0.1):
                ended += len(
                    killer.query(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
                        "ORDER BY random() LIMIT 1",
                        (SCHEMA,),
                    )
                )
            killer.close()
            return ended

        def work(worker):
            mine = TrialStore(make_dsn(store.database.database, application_name=SCHEMA), SCHEMA, patience_s=60)
            while not (snapshot := mine.snapshot(study)).is_full:
                number = snapshot.next_number
                lease = mine.take(study, f"w{worker}", wish(number, number % 7 + worker / 10 + number))
                if lease is not None:
                    assert mine.record_epochs(lease, [(0, 1, "loss", 1.0)])
                    assert mine.save_artifact(lease, "state", b"state")
                    assert mine.save_artifact(lease, "model", b"model %d" % lease.number)
                    assert mine.beat(lease)
                    assert mine.end(lease, "completed", objective=lease.number, metrics={"loss": 1.0})
            mine.close()

        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            disturbing = pool.submit(disturb)
            try:
                list(pool.map(work, range(4)))
            finally:
                done.set()
            assert disturbing.result() > 0
        rows = store.table("disturbed")
        assert [(row["number"], row["state"], row["objective"]) for row in rows] == [
            (number, "completed", number) for number in range(24)
        ]
        assert [(row["attempts"], row["num_epochs"], row["metric_loss"]) for row in rows] == [(1, 1, 1.0)] * 24
        assert [store.load_artifact("disturbed", n) for n in range(24)] == [b"model %d" % n for n in range(24)]
        assert len(content_of(store)["artifact"]) == 24

    # -- fencing

    def test_a_lease_that_was_taken_over_writes_nothing(self, store, study, other):
        stale = store.take(study, "w", wish(0))
        store.record_epochs(stale, [(0, 1, "loss", 1.0)])
        expire(store, stale)
        lease = other.take(study, "v")
        other.record_epochs(lease, [(0, 2, "loss", 0.5)])
        for check in range(2):
            before = content_of(store)
            assert store.beat(stale) is False
            assert store.record_epochs(stale, [(0, 1, "loss", 9.0), (0, 9, "loss", 9.0)]) is False
            assert store.record_epochs(stale, []) is False
            assert store.save_artifact(stale, "model", b"stale") is False
            assert store.save_artifact(stale, "model", b"stale", "/shared/stale") is False
            assert store.end(stale, "completed", objective=9.0, metrics={"loss": 9.0}) is False
            assert store.release(stale) is False
            assert content_of(store) == before
            if not check:
                assert other.save_artifact(lease, "model", b"right")
                assert other.end(lease, "completed", objective=0.5, metrics={"loss": 0.25})
        assert store.load_artifact("search", 0) == b"right"

    @pytest.mark.parametrize("change", [{"attempt": 2}, {"owner": "v"}, {"trial_id": -1}])
    def test_a_lease_counts_whole(self, store, study, change):
        lease = store.take(study, "w", wish(0))
        wrong = Lease(**{**vars(lease), **change})
        assert not store.beat(wrong)
        assert not store.end(wrong, "failed")
        assert store.end(lease, "failed")

    def test_a_beat_extends_the_lease(self, store, study, other):
        lease = store.take(study, "w", wish(0))
        expire(store, lease)
        assert store.beat(lease, 1000) is True
        assert other.take(study, "v") is None
        left = "SELECT extract(epoch FROM lease_expires_at - clock_timestamp())::float AS s FROM {s}.trial"
        assert 900 < store._query(left)[0]["s"] <= 1000

    def test_a_stale_epoch_on_its_way_waits_for_the_taker(self, store, study, other):
        """The write has begun when the trial is taken over; whoever comes first, no epoch is of a stale worker."""
        stale = store.take(study, "w", wish(0))
        expire(store, stale)
        done = []

        def write():
            done.append(store.record_epochs(stale, [(0, 1, "loss", 9.0)]))

        def take_over(transaction):
            transaction.execute(f"SELECT FROM {store.schema}.trial FOR NO KEY UPDATE")
            thread.start()
            wait_for_lock(other)
            transaction.execute(
                f"UPDATE {store.schema}.trial SET attempt = 2, owner = 'v'; "
                f"UPDATE {store.schema}.attempt SET outcome = 'lost', ended_at = now()"
            )

        thread = threading.Thread(target=write)
        other.database.transaction(take_over)
        thread.join()
        assert done == [False]
        assert store.history("search") == []

    # -- ends

    @pytest.mark.parametrize("state", ["completed", "diverged", "failed"])
    def test_an_end_is_once(self, store, study, state):
        lease = store.take(study, "w", wish(0))
        given = {"objective": 0.5 if state == "completed" else None, "best_epoch": 2, "message": "said"}
        assert store.end(lease, state, metrics={"loss": 0.25, "dice": math.nan}, **given) is True
        before = content_of(store)
        assert store.end(lease, state, objective=0.125, metrics={"loss": 9}) is True, "told so again"
        assert store.end(lease, "failed" if state != "failed" else "diverged") is False
        assert store.release(lease) is False
        assert content_of(store) == before
        row = store.table("search")[0]
        assert (row["state"], row["objective"], row["best_epoch"], row["message"]) == (state, *given.values())
        assert row["metric_loss"] == 0.25
        assert math.isnan(row["metric_dice"])

    def test_an_end_may_reveal_values(self, store, study):
        lease = store.take(study, "w", wish(0, 0.25))
        assert store.end(lease, "completed", objective=1, values={"lr": 0.25, "units": 8})
        assert store.snapshot(study).trials[0]["values"] == {"lr": 0.25, "units": 8}
        assert store.take(study, "w", wish(1, 0.25)) is None, "what was wished stays the key"

    @pytest.mark.parametrize("objective", [None, math.nan, math.inf, -math.inf])
    def test_a_completed_trial_has_a_finite_objective(self, store, study, objective):
        lease = store.take(study, "w", wish(0))
        with pytest.raises(ValueError, match=rf"a finite number\. Received: {objective}"):
            store.end(lease, "completed", objective=objective)
        assert store.end(lease, "diverged", objective=objective)
        assert store.table("search")[0]["objective"] is None

    def test_a_trial_ends_in_one_of_three_states(self, store, study):
        with pytest.raises(ValueError, match=r"ends completed, diverged, failed\. Received: 'running'"):
            store.end(store.take(study, "w", wish(0)), "running")

    def test_a_message_of_any_kind_ends_the_trial(self, store, study):
        lease = store.take(study, "w", wish(0))
        assert store.end(lease, "failed", message="no file 'a\udcff\0b'")
        assert store.table("search")[0]["message"] == "no file 'a\\udcff\\x00b'"

    def test_recent_and_counted_outcomes(self, store, study):
        for number, state in enumerate(("completed", "failed", "diverged")):
            lease = store.take(study, "w", wish(number))
            store.end(lease, state, objective=1.0, message=state[0])
        retried = store.take(study, "w", wish(3))
        store.release(retried, "once", outcome="failed")
        retried = store.take(study, "w")
        assert (retried.number, store.count_outcomes(retried, "failed")) == (3, 1)
        assert store.recent_outcomes(study, 2) == [
            {"number": 2, "state": "diverged", "message": "d"},
            {"number": 1, "state": "failed", "message": "f"},
        ]

    def test_every_answer_may_be_lost(self, store):
        """Each step is done, the connection breaks before that is heard, and all is done once."""
        database = store.database

        def losing(function, *arguments, **settings):
            database.num_lost = 1
            result = function(*arguments, **settings)
            assert database.num_lost == 0
            return result

        study = losing(store.join, "search", DEFINITION, max_trials=4)
        lease = losing(store.take, study, "w", wish(0))
        assert (lease.number, lease.attempt) == (0, 1)
        losing(store.grow_space, study, [{"class_name": "Int", "config": {"name": "units"}}])
        assert losing(store.beat, lease)
        assert losing(store.record_epochs, lease, [(0, 1, "loss", 1.0)])
        assert losing(store.save_artifact, lease, "model", b"weights")
        assert losing(store.save_artifact, lease, "notes", b"text", "/shared/notes")
        assert losing(store.release, lease)
        lease = losing(store.take, study, "w")
        assert (lease.number, lease.attempt) == (0, 2)
        assert losing(store.end, lease, "completed", objective=0.5, metrics={"loss": 0.25})
        losing(store.add_metrics, "search", 0, {"test_loss": 0.75, "test_dice": math.nan})
        row = store.trial("search", 0)
        assert [record["outcome"] for record in row["attempt_records"]] == ["released", "completed"]
        assert (row["metric_loss"], row["metric_test_loss"], row["num_epochs"]) == (0.25, 0.75, 1)
        assert [len(rows) for rows in content_of(store).values()] == [1, 1, 2, 1, 3, 2, 1]

    def test_metrics_added_later(self, store, study):
        lease = store.take(study, "w", wish(0))
        with pytest.raises(ValueError, match="Trial 0 of 'search' is not finished"):
            store.add_metrics("search", 0, {"test_loss": 1})
        store.end(lease, "completed", objective=1.0, metrics={"loss": 0.25})
        store.add_metrics("search", 0, {"test_loss": 0.5, "test_dice": math.inf})
        before = content_of(store)
        with pytest.raises(ValueError, match="has a metric 'loss' of another value already; it does not change"):
            store.add_metrics("search", 0, {"test_mae": 1.0, "loss": 0.5})
        with pytest.raises(ValueError, match="'search' has no trial 7"):
            store.add_metrics("search", 7, {"test_loss": 1})
        store.add_metrics("search", 0, {"test_loss": 0.5, "test_dice": math.inf})
        assert content_of(store) == before
        row = store.table("search")[0]
        assert (row["metric_test_loss"], row["metric_test_dice"]) == (0.5, math.inf)

    def test_one_has_the_turn(self, store, study, other):
        assert store.try_turn(study)
        assert not other.try_turn(study)
        assert other.try_turn(study + 1)
        store.end_turn(study)
        assert other.try_turn(study)
        other.close()
        wait_until(lambda: store.try_turn(study))


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


def wait_for_lock(store):
    """Until somebody else waits for a lock; asked on a connection of its own, as the store's is in a transaction."""
    watcher = Database(store.database.database)
    wait_until(
        lambda: watcher.query(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )
    watcher.close()


class TestEmbeddedOrNamed(TrialStoreContract):
    """PostgreSQL 18 in a folder, or what HCREG_TEST_DATABASE names."""

    @pytest.fixture
    def dsn(self, postgres_server):
        return postgres_server()


class TestPostgreSQL16(TrialStoreContract):
    """Over TCP, with a password, as a role without any privilege but its own database."""

    @pytest.fixture
    def dsn(self, server_16):
        return server_16.dsn("ann", "secret", "trials")


@pytest.fixture(scope="module")
def server_16(make_tcp_server):
    server = make_tcp_server(16)
    server.sql("CREATE ROLE ann LOGIN PASSWORD 'secret'", "CREATE DATABASE trials OWNER ann")
    return server
