"""Tables of a trial store: wrong states are impossible whoever writes them; versions follow one another."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

import hcreg
from hcreg.tuning import schema as tables
from hcreg.tuning.database import Database
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

# several processes test on one named server
CONSTRAINTS, OLDER, NEWER, AT_ONCE, BROKEN, OWN_TABLES = (
    f"{name}_{os.getpid()}" for name in ("constraints", "older", "newer", "at_once", "broken", "own_tables")
)
DEFINITION = {"objective": "val_loss", "direction": "min", "algorithm": {}, "space": [], "code": None}


@pytest.fixture(scope="module")
def filled(postgres_server):
    """A connection to a schema of its own: trial 0 is completed, 1 runs, 2 waits, 3 is failed, of max_trials=5."""
    store = TrialStore(postgres_server(), CONSTRAINTS)
    study = store.join("search", DEFINITION, max_trials=5)
    leases = [store.take(study, f"worker {n}", Wish({"lr": n}, f"key {n}", n, {})) for n in range(4)]
    for lease in leases:
        assert store.record_epochs(lease, [(0, 1, "val_loss", 0.5)])
        assert store.save_artifact(lease, "model", b"weights")
    store.end(leases[0], "completed", objective=0.5, metrics={"loss": 0.25})
    store.release(leases[2])
    store.end(leases[3], "failed", message="no reason")
    connection = psycopg2.connect(postgres_server(), options=f"-c search_path={CONSTRAINTS}")
    yield connection
    connection.rollback()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA {CONSTRAINTS} CASCADE")
    connection.close()
    store.close()


def trial(number):
    return f"(SELECT trial_id FROM trial WHERE number = {number})"


NEW = "INSERT INTO trial (study_id, number, state, values, values_key, objective, finished_at, attempt, owner, lease_expires_at) SELECT study_id, "  # noqa: E501
EPOCH = "INSERT INTO epoch_metric (trial_id, execution, epoch, name, value, not_finite, attempt) SELECT trial_id, "
IMPOSSIBLE = {
    "completed without objective": (
        "UPDATE trial SET state = 'completed', finished_at = now(), owner = NULL, lease_expires_at = NULL "
        "WHERE number = 1",
        "check constraint",
    ),
    "an objective that is NaN": (
        "UPDATE trial SET state = 'completed', finished_at = now(), owner = NULL, lease_expires_at = NULL, "
        "objective = 'NaN' WHERE number = 1",
        "trial_objective_check",
    ),
    "an objective that is infinite": (
        "UPDATE trial SET state = 'completed', finished_at = now(), owner = NULL, lease_expires_at = NULL, "
        "objective = '-Infinity' WHERE number = 1",
        "trial_objective_check",
    ),
    "running with an objective": ("UPDATE trial SET objective = 1 WHERE number = 1", "check constraint"),
    "running without owner": ("UPDATE trial SET owner = NULL WHERE number = 1", "check constraint"),
    "running without lease": ("UPDATE trial SET lease_expires_at = NULL WHERE number = 1", "check constraint"),
    "running, never attempted": (
        f"{NEW} 4, 'running', '{{}}', 'k', NULL, NULL, 0, 'w', now() FROM study",
        "check constraint",
    ),
    "failed without time": (
        "UPDATE trial SET state = 'failed', owner = NULL, lease_expires_at = NULL WHERE number = 1",
        "check constraint",
    ),
    "waiting with owner": ("UPDATE trial SET owner = 'w' WHERE number = 2", "check constraint"),
    "an unknown state": (
        "UPDATE trial SET state = 'paused', owner = NULL, lease_expires_at = NULL WHERE number = 1",
        "trial_state_check",
    ),
    "from waiting to completed": (
        "UPDATE trial SET state = 'completed', objective = 1, finished_at = now() WHERE number = 2",
        "cannot go from waiting to completed",
    ),
    "an earlier fencing token": ("UPDATE trial SET attempt = 0 WHERE number = 1", "cannot go from running to running"),
    "another number": ("UPDATE trial SET number = 9 WHERE number = 1", "keeps its number and its values"),
    "other values": ("UPDATE trial SET values_key = 'x' WHERE number = 1", "keeps its number and its values"),
    "a finished trial changes": ("UPDATE trial SET objective = 0.1 WHERE number = 0", "is finished and does not"),
    "a finished trial runs again": (
        "UPDATE trial SET state = 'waiting', finished_at = NULL WHERE number = 3",
        "trial 3 of study .* is finished and does not change",
    ),
    "a trial deleted": ("DELETE FROM trial WHERE number = 2", "a trial is not deleted alone: trial 2"),
    "a finished trial deleted": ("DELETE FROM trial WHERE number = 0", "a trial is not deleted alone: trial 0"),
    "a number twice": (f"{NEW} 2, 'waiting', '{{}}', 'k', NULL, NULL, 0, NULL, NULL FROM study", "study_id_number_key"),
    "a number left out": (
        f"{NEW} 6, 'waiting', '{{}}', 'k', NULL, NULL, 0, NULL, NULL FROM study",
        "trial 6 of study .* has not the next number",
    ),
    "more trials than max_trials": (
        f"{NEW} n, 'waiting', '{{}}', 'k' || n, NULL, NULL, 0, NULL, NULL FROM study, generate_series(4, 5) n",
        "check constraint",
    ),
    "next_number beyond max_trials": ("UPDATE study SET next_number = 6", "check constraint"),
    "max_trials below what there is": ("UPDATE study SET max_trials = 3", "check constraint"),
    "two equal live values": (
        f"{NEW} 4, 'waiting', '{{}}', 'key 0', NULL, NULL, 0, NULL, NULL FROM study",
        'unique constraint "trial_values"',
    ),
    "two live attempts": (
        "INSERT INTO attempt (trial_id, number, worker, host, pid, device, versions) "
        f"VALUES ({trial(1)}, 2, 'w', 'h', 1, '{{}}', '{{}}')",
        'unique constraint "attempt_live"',
    ),
    "an attempt of a finished trial": (
        "INSERT INTO attempt (trial_id, number, worker, host, pid, device, versions) "
        f"VALUES ({trial(0)}, 2, 'w', 'h', 1, '{{}}', '{{}}')",
        "is finished and is not attempted",
    ),
    "an ended attempt changes": (
        f"UPDATE attempt SET host = 'elsewhere' WHERE trial_id = {trial(0)}",
        "has ended and does not change",
    ),
    "an attempt deleted, and with it its epochs": (
        f"DELETE FROM attempt WHERE trial_id = {trial(0)}",
        "an attempt is not deleted alone",
    ),
    "an outcome without time": (
        f"UPDATE attempt SET outcome = 'lost' WHERE trial_id = {trial(1)}",
        "check constraint",
    ),
    "a final metric changes": ("UPDATE trial_metric SET value = 0", "a final metric does not change: loss"),
    "a final metric deleted": ("DELETE FROM trial_metric", "a final metric does not change: loss"),
    "a final metric that is NaN": (
        f"INSERT INTO trial_metric VALUES ({trial(0)}, 'dice', 'NaN', NULL)",
        "check constraint",
    ),
    "a final metric without value or flag": (
        f"INSERT INTO trial_metric VALUES ({trial(0)}, 'dice', NULL, NULL)",
        "check constraint",
    ),
    "an epoch of a finished trial": (f"{EPOCH} 0, 2, 'loss', 1, NULL, 1 FROM trial WHERE number = 0", "is finished"),
    "an epoch of a finished trial changes": (
        f"UPDATE epoch_metric SET value = 0 WHERE trial_id = {trial(0)}",
        "the trial of val_loss is finished",
    ),
    "an epoch of a finished trial deleted": (f"DELETE FROM epoch_metric WHERE trial_id = {trial(0)}", "is finished"),
    "an epoch with value and flag": (
        f"{EPOCH} 0, 2, 'loss', 1, 'nan', 1 FROM trial WHERE number = 1",
        "check constraint",
    ),
    "an infinite epoch": (
        f"{EPOCH} 0, 2, 'loss', 'Infinity', NULL, 1 FROM trial WHERE number = 1",
        "epoch_metric_value_check",
    ),
    "an epoch 0": (f"{EPOCH} 0, 0, 'loss', 1, NULL, 1 FROM trial WHERE number = 1", "epoch_metric_epoch_check"),
    "an epoch of no attempt": (f"{EPOCH} 0, 2, 'loss', 1, NULL, 7 FROM trial WHERE number = 1", "foreign key"),
    "the model of a finished trial changes": (
        f"UPDATE artifact SET sha256 = repeat('0', 64) WHERE trial_id = {trial(0)}",
        "the trial of model is finished",
    ),
    "the model of a finished trial deleted": (f"DELETE FROM artifact WHERE trial_id = {trial(0)}", "is finished"),
    "a checksum that is none": (
        f"UPDATE artifact SET sha256 = 'abc' WHERE trial_id = {trial(1)}",
        "artifact_sha256_check",
    ),
    "a study of no name": ("UPDATE study SET name = ''", "study_name_check"),
    "a direction of its own": ("UPDATE study SET direction = 'up'", "study_direction_check"),
    "a study twice": (
        "INSERT INTO study (name, objective, direction, seed, definition, space) "
        "VALUES ('search', 'loss', 'min', 0, '{}', '[]')",
        "study_name_key",
    ),
}


@pytest.mark.parametrize(("statement", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_wrong_states_are_impossible(filled, statement, words):
    try:
        with filled.cursor() as cursor, pytest.raises(psycopg2.Error, match=words):
            cursor.execute(statement)
    finally:
        filled.rollback()


def test_the_right_states_are_possible(filled):
    """The statements above fail for what is wrong in them: each kind passes where it is right."""
    right = [
        f"{NEW} 4, 'waiting', '{{}}', 'key 3', NULL, NULL, 0, NULL, NULL FROM study",  # the values of a failed trial
        f"{EPOCH} 0, 2, 'loss', 1, NULL, 1 FROM trial WHERE number = 1",
        f"{EPOCH} 0, 2, 'val_loss', NULL, 'nan', 1 FROM trial WHERE number = 1",
        f"INSERT INTO trial_metric VALUES ({trial(0)}, 'dice', NULL, '-inf')",
        f"UPDATE attempt SET outcome = 'released', ended_at = now() WHERE trial_id = {trial(1)}",
        "UPDATE trial SET state = 'completed', objective = 1, finished_at = now(), owner = NULL, "
        "lease_expires_at = NULL WHERE number = 1",
    ]
    try:
        with filled.cursor() as cursor:
            for statement in right:
                cursor.execute(statement)
                assert cursor.rowcount == 1
            cursor.execute("SELECT next_number FROM study")
            assert cursor.fetchall() == [(5,)]
    finally:
        filled.rollback()


def test_a_study_takes_all_with_it(filled):
    kept = ("study", "trial", "attempt", "epoch_metric", "trial_metric", "artifact", "artifact_chunk")
    try:
        with filled.cursor() as cursor:
            for table in kept:
                cursor.execute(f"SELECT count(*) FROM {table}")
                assert cursor.fetchone()[0] > 0, table
            cursor.execute("DELETE FROM study WHERE name = 'search'")
            for table in kept:
                cursor.execute(f"SELECT count(*) FROM {table}")
                assert cursor.fetchone()[0] == 0, table
    finally:
        filled.rollback()


@pytest.fixture(scope="module")
def server(postgres_server):
    database = Database(postgres_server)
    yield database
    for name in (OLDER, NEWER, AT_ONCE, BROKEN, OWN_TABLES):
        database.query(f"DROP SCHEMA IF EXISTS {name} CASCADE")
    database.close()


class TestVersions:
    def test_older_tables_are_brought_up_and_keep_their_content(self, server, monkeypatch):
        store = TrialStore(server, OLDER)
        store.join("search", DEFINITION)
        more = "ALTER TABLE {schema}.study ADD COLUMN note text NOT NULL DEFAULT '{{}} 100 %'"
        monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, more])
        TrialStore(server, OLDER)
        TrialStore(server, OLDER)
        assert server.query(f"SELECT name, note FROM {OLDER}.study") == [{"name": "search", "note": "{} 100 %"}]
        versions = server.query(f"SELECT version FROM {OLDER}.schema_version ORDER BY 1")
        assert [row["version"] for row in versions] == list(range(1, len(tables.MIGRATIONS) + 1))

    def test_newer_tables_are_refused(self, server):
        TrialStore(server, NEWER)
        server.query(f"INSERT INTO {NEWER}.schema_version (version) VALUES (%s)", (len(tables.MIGRATIONS) + 1,))
        words = (
            rf"'{NEWER}' is of version {len(tables.MIGRATIONS) + 1}; this hcreg knows versions up to "
            rf"{len(tables.MIGRATIONS)}\. Install a newer hcreg .*or name another schema"
        )
        with pytest.raises(ValueError, match=words):
            TrialStore(server, NEWER)
        assert server.query(f"SELECT count(*) FROM {NEWER}.schema_version") == [{"count": len(tables.MIGRATIONS) + 1}]

    def test_a_migration_that_fails_changes_nothing(self, server, monkeypatch):
        monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, "CREATE TABLE {schema}.study ()"])
        with pytest.raises(ValueError, match='relation "study" already exists'):
            TrialStore(server, BROKEN)
        assert server.query("SELECT FROM pg_namespace WHERE nspname = %s", (BROKEN,)) == []

    def test_two_processes_at_once(self, server, postgres_server):
        code = (
            "import sys; from hcreg.tuning.store import TrialStore; sys.stdin.readline(); "
            "print(TrialStore(*sys.argv[1:]).studies())"
        )
        command = [sys.executable, "-c", code, postgres_server(), AT_ONCE]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen(command, cwd=Path(hcreg.__file__).parents[1], **pipes) for _ in range(3)]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate() for process in processes] == [("[]\n", "")] * 3
        assert server.query(f"SELECT count(*) FROM {AT_ONCE}.schema_version")[0]["count"] == len(tables.MIGRATIONS)

    def test_tables_of_others_are_left_alone(self, server):
        server.query(f"CREATE SCHEMA {OWN_TABLES}; CREATE TABLE {OWN_TABLES}.trial (number int)")
        with pytest.raises(ValueError, match='relation "trial" already exists'):
            TrialStore(server, OWN_TABLES)
        assert server.query(f"SELECT relname FROM pg_class WHERE relnamespace = '{OWN_TABLES}'::regnamespace") == [
            {"relname": "trial"}
        ]


@pytest.mark.parametrize("name", ["", "Trials", "a b", 'x"; DROP SCHEMA public', "1st", "a" * 64, "a.b", "ä"])
def test_a_schema_is_named_without_quotes(name):
    with pytest.raises(ValueError, match="lower-case letters, digits and underscores"):
        tables.checked_name(name)
    assert tables.checked_name("lab_2") == "lab_2"
