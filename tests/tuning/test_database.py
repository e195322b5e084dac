"""A connection that comes back: what is tried again and what is not, and errors that say what to do."""

import copy
import errno
import os
import pickle
import signal
import socket
import threading
import time
import traceback

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from hcreg.tuning import database as module
from hcreg.tuning.database import Database, described, resolve
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

SECRET = "s3cret/p@ss word%"
ENCODED = "s3cret%2Fp%40ss%20word%25"


def everything_said(error):
    """The error's words and traceback with those of all that led to it, hidden or not."""
    said = "".join(traceback.format_exception(error))
    for before in (error.__cause__, error.__context__):
        said += everything_said(before) if before is not None else ""
    return said


@pytest.fixture
def dsn(postgres_server):
    return postgres_server()


@pytest.fixture
def connected(dsn):
    """A database with an empty table of its own, and a second connection to the same."""
    schema = f"kept_{os.getpid()}"  # several processes test on one named server
    inside = psycopg2.extensions.make_dsn(dsn, options=f"-c search_path={schema}")
    with_table, admin = Database(inside, patience_s=30), Database(inside, patience_s=30)
    admin.query(f"CREATE SCHEMA {schema}; CREATE TABLE kept (number int)")
    yield with_table, admin
    admin.query(f"DROP SCHEMA {schema} CASCADE")
    with_table.close()
    admin.close()


def backend(database):
    return database.query("SELECT pg_backend_pid() AS pid")[0]["pid"]


def kept(admin):
    return [row["number"] for row in admin.query("SELECT number FROM kept ORDER BY 1")]


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestAddress:
    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://ann@db.example.org/trials",
            "postgres://ann:pw@h1:1,h2:2/trials?target_session_attrs=read-write",
            f"postgresql://ann:{ENCODED}@h/trials",
            "postgresql:///trials",
            "host=localhost dbname=trials password='a b@c'",
            "service=lab",
            "dbname=a@b",
        ],
    )
    def test_a_dsn_in_all_its_forms(self, dsn, monkeypatch):
        monkeypatch.setenv("HCREG_NAMED", dsn)
        assert resolve(dsn) == resolve("HCREG_NAMED") == resolve(lambda: dsn) == dsn

    @pytest.mark.parametrize("given", [None, 3, "", "  ", b"host=a", ["host=a"]])
    def test_something_else(self, given):
        with pytest.raises(ValueError, match=rf"database takes a DSN .* Received: {type(given).__name__}\."):
            resolve(given)

    def test_a_variable_that_is_not_set(self, monkeypatch):
        monkeypatch.delenv("HCREG_NAMED", raising=False)
        with pytest.raises(ValueError, match=r"no environment variable of that name. Set HCREG_NAMED to a DSN"):
            resolve("HCREG_NAMED")

    @pytest.mark.parametrize(
        "wrong",
        [
            f"postgresql://ann:{SECRET}@db/trials",
            "postgresql://ann:s3cret@p@db/trials",
            "postgresql://ann:s3cret/p@db/trials",
            "postgresql://ann:%s3cret@db/trials",
            "postgresql://ann:s3cret@db/trials?sslmod=require",
            "ann:s3cret@db/trials",
            "mysql://ann:s3cret@db/trials",
            "host=db password=s3 cret",
            "host=db pasword=s3cret",
        ],
    )
    def test_a_wrong_dsn_is_not_shown(self, wrong, monkeypatch):
        monkeypatch.setenv("HCREG_NAMED", wrong)
        sources = {
            wrong: "What database holds",
            "HCREG_NAMED": "What the environment variable HCREG_NAMED holds",
            (lambda: wrong): "What the callable given as database holds",
        }
        for source, words in sources.items():
            with pytest.raises(ValueError, match=f"{words} is not a DSN. .*percent-encoded") as caught:
                Database(source).query("SELECT 1")
            said = everything_said(caught.value)
            assert "s3" not in said
            assert "cret" not in said
            assert "s3" not in repr(Database(source))

    @pytest.mark.parametrize("held", ["", "  ", None, 3])
    def test_an_empty_variable_is_not_the_local_server(self, held, monkeypatch):
        with pytest.raises(ValueError, match=r"the callable given as database holds is not a DSN"):
            resolve(lambda: held)
        if isinstance(held, str):
            monkeypatch.setenv("HCREG_NAMED", held)
            with pytest.raises(ValueError, match=r"variable HCREG_NAMED holds is not a DSN"):
                resolve("HCREG_NAMED")

    def test_described_without_password(self):
        assert described(f"postgresql://ann:{ENCODED}@db:6/trials") == "database 'trials' of role 'ann' at db:6"
        assert described("dbname=trials password=s3cret") == "database 'trials' at the local socket"

    def test_a_short_password_is_hidden_where_it_stands_alone(self):
        database = Database("postgresql://ann@h/trials")
        database._dsn = "postgresql://ann:d@h/trials"
        assert database.without_password("the database: d, 'd' ann:d@h") == "the database: ***, '***' ann:***@h"
        database._dsn = "postgresql://ann:secret@h/trials"
        assert database.without_password("mysecret1 secret") == "my***1 ***"

    def test_timeouts_are_set_and_the_dsn_goes_before_them(self, dsn):
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name")
        asked = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in names)
        assert list(Database(dsn).query(asked)[0].values()) == ["1min", "30s", "1min", "hcreg"]
        own = psycopg2.extensions.make_dsn(dsn, options="-c lock_timeout=7s", application_name="lab")
        assert list(Database(own).query(asked)[0].values()) == ["1min", "7s", "1min", "lab"]
        assert Database(dsn).query("SHOW client_encoding") == [{"client_encoding": "UTF8"}]


class TestTransactions:
    def test_rows_are_dicts_and_other_statements_give_none(self, connected):
        database, _ = connected
        assert database.query("INSERT INTO kept VALUES (%s), (%s)", (1, 2)) == []
        assert database.query("SELECT number, '%' AS sign FROM kept ORDER BY 1") == [
            {"number": 1, "sign": "%"},
            {"number": 2, "sign": "%"},
        ]
        assert database.query("SELECT %(a)s AS a", {"a": "ö"}) == [{"a": "ö"}]

    def test_several_statements_of_a_query_are_one_transaction(self, connected):
        database, admin = connected
        with pytest.raises(ValueError, match=r"refused a statement .*division by zero"):
            database.query("INSERT INTO kept VALUES (1); SELECT 1 / 0")
        assert kept(admin) == []

    def test_a_transaction_is_whole(self, connected):
        database, admin = connected

        def two(transaction):
            transaction.execute("INSERT INTO kept VALUES (1)")
            assert kept(admin) == []
            return transaction.execute("INSERT INTO kept VALUES (2) RETURNING number")

        assert database.transaction(two) == [{"number": 2}]
        assert kept(admin) == [1, 2]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_interrupted_it_is_undone(self, connected, kind):
        database, admin = connected
        number = backend(database)

        def interrupted(transaction):
            transaction.execute("INSERT INTO kept VALUES (1)")
            raise kind("now")

        with pytest.raises(kind, match=r"now"):
            database.transaction(interrupted)
        state = admin.query("SELECT state FROM pg_stat_activity WHERE pid = %s", (number,))
        assert state == [{"state": "idle"}]
        assert kept(admin) == []
        assert backend(database) == number

    @pytest.mark.parametrize("when", ["before", "within"])
    def test_a_connection_that_is_ended_is_made_anew(self, connected, when):
        database, admin = connected
        first, runs = backend(database), []

        def end(number):
            admin.query("SELECT pg_terminate_backend(%s)", (number,))

        if when == "before":
            end(first)

        def two(transaction):
            runs.append(transaction.execute("INSERT INTO kept VALUES (1) RETURNING pg_backend_pid() AS pid")[0]["pid"])
            if when == "within" and len(runs) < 3:
                end(runs[-1])
            transaction.execute("INSERT INTO kept VALUES (2)")
            return len(runs)

        assert database.transaction(two) == {"before": 1, "within": 3}[when]
        assert kept(admin) == [1, 2]
        assert runs[-1] != first

    def test_a_process_that_slept_in_a_transaction_begins_it_again(self, connected):
        database, admin = connected
        runs = []

        def slow(transaction):
            runs.append(0)
            transaction.execute("SET LOCAL idle_in_transaction_session_timeout = 30; INSERT INTO kept VALUES (1)")
            if len(runs) == 1:
                time.sleep(0.3)
            transaction.execute("INSERT INTO kept VALUES (2)")

        database.transaction(slow)
        assert len(runs) == 2
        assert kept(admin) == [1, 2]

    def test_a_broken_line_is_one_whatever_the_error_is_called(self, connected):
        database, admin = connected
        runs = []

        def broken_at_first(transaction):
            runs.append(0)
            transaction.execute("INSERT INTO kept VALUES (1)")
            if len(runs) == 1:
                database._connection.close()
                raise psycopg2.DatabaseError("lost synchronization with server: got message type")

        database.transaction(broken_at_first)
        assert len(runs) == 2
        assert kept(admin) == [1]

    def test_what_cannot_be_serialised_is_tried_again(self, connected):
        database, admin = connected
        admin.query("INSERT INTO kept VALUES (1)")
        runs = []

        def add(transaction):
            runs.append(transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT number FROM kept"))
            if len(runs) == 1:
                admin.query("UPDATE kept SET number = number + 10")
            transaction.execute("UPDATE kept SET number = number + 100")

        database.transaction(add)
        assert [run[0]["number"] for run in runs] == [1, 11]
        assert kept(admin) == [111]

    def test_of_two_that_block_each_other_both_finish(self, connected):
        database, admin = connected
        admin.query("INSERT INTO kept VALUES (1), (2)")
        barrier, runs = threading.Barrier(2), []

        def both(first, second):
            def add(transaction):
                runs.append(first)
                transaction.execute("SET LOCAL deadlock_timeout = '10ms'")
                transaction.execute("UPDATE kept SET number = number + 10 WHERE mod(number, 10) = %s", (first,))
                if runs.count(first) == 1:
                    barrier.wait()
                transaction.execute("UPDATE kept SET number = number + 10 WHERE mod(number, 10) = %s", (second,))

            return add

        threads = [
            threading.Thread(target=each.transaction, args=(both(*order),))
            for each, order in [(database, (1, 2)), (admin, (2, 1))]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept(admin) == [21, 22]
        assert len(runs) > 2

    def test_threads_take_turns(self, connected):
        database, admin = connected
        admin.query("INSERT INTO kept VALUES (0)")

        def add(transaction):
            number = transaction.execute("SELECT number FROM kept")[0]["number"]
            transaction.execute("UPDATE kept SET number = %s", (number + 1,))

        threads = [threading.Thread(target=lambda: [database.transaction(add) for _ in range(10)]) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept(admin) == [50]


class TestCopies:
    def test_copies_open_their_own(self, connected):
        database, _ = connected
        database.query("SELECT 1")
        copied = [copy.deepcopy(database), copy.deepcopy({"a": [database]})["a"][0]]
        copied.append(pickle.loads(pickle.dumps(database)))
        numbers = {backend(each) for each in [database, *copied]}
        assert len(numbers) == 4
        assert {(each.database, each.patience_s) for each in copied} == {(database.database, database.patience_s)}

    def test_a_pickle_holds_no_connection(self):
        database = Database("HCREG_NAMED", patience_s=7)
        database._connection = threading.Lock()  # as little to be pickled as a connection
        assert vars(pickle.loads(pickle.dumps(database)))["_connection"] is None

    def test_closed_it_opens_again(self, connected):
        database, _ = connected
        database.close()
        assert database.query("SELECT 1 AS one") == [{"one": 1}]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    @pytest.mark.parametrize("busy", [False, True])
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_leaves_its_parents_line_alone(self, connected, busy):
        database, admin = connected
        number = backend(database)
        asleep = threading.Thread(target=database.query, args=("SELECT pg_sleep(0.5)",))
        if busy:  # another thread speaks, and holds the lock that the child inherits
            asleep.start()
            while not admin.query("SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'", (number,)):
                time.sleep(0.01)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                theirs = backend(database)
                database.close()
                os.write(writing, str(theirs).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            theirs = int(pipe.read())
        os.waitpid(child, 0)
        if busy:
            asleep.join()
        assert theirs != number
        assert backend(database) == number


class TestPatience:
    def test_at_first_contact_it_ends_at_once(self):
        database = Database(f"postgresql://ann:s3cret@127.0.0.1:{closed_port()}/trials", patience_s=3600)
        with pytest.raises(
            ConnectionError, match=r"^database 'trials' of role 'ann' at .*: nothing answers there\. Do"
        ):
            database.query("SELECT 1")

    def test_once_reached_it_is_tried_again_until_patience_ends(self, dsn, capsys, monkeypatch):
        monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.1)
        now = [dsn]
        database = Database(lambda: now[0], patience_s=3600)
        database.query("SELECT 1")
        database.close()
        now[0] = f"postgresql://ann:s3cret@127.0.0.1:{closed_port()}/trials"
        with pytest.raises(ConnectionError, match=r"at 127\.0\.0\.1:\d+: nothing answers there.*\(tried for 1 s\)"):
            database.query("SELECT 1", patience_s=1.2)
        said = capsys.readouterr().err
        assert said.count("waiting for the database: database 'trials' of role 'ann'") == 1
        assert "s3cret" not in said
        now[0] = dsn
        assert database.query("SELECT 1 AS one") == [{"one": 1}]

    def test_an_address_that_is_not_known_for_a_while(self, dsn):
        answers = [dsn, OSError("the tunnel s3cret is down"), KeyError("url"), "", dsn]

        def ask():
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        database = Database(ask, patience_s=30)
        backend(database)
        database.close()
        backend(database)
        assert answers == []

    def test_an_address_that_is_never_known_is_the_callers_error(self):
        def ask():
            raise OSError("the tunnel is down")

        with pytest.raises(OSError, match=r"the tunnel is down"):
            Database(ask).query("SELECT 1")

    def test_a_name_is_not_asked_for_an_address(self):
        def ask():
            raise AssertionError("asked")

        assert repr(Database(ask)) == "<Database>"

    def test_what_will_not_pass_is_not_tried_again(self, dsn):
        database, runs = Database(dsn, patience_s=3600), []

        def wrong(transaction):
            runs.append(0)
            transaction.execute("SELECT no_such_column FROM pg_class")

        with pytest.raises(ValueError, match=r"a table of hcreg is missing or of another version .*no_such_column"):
            database.transaction(wrong)
        assert len(runs) == 1
        with pytest.raises(ValueError, match=r"a table of hcreg is missing"):
            database.query("SELECT FROM no_such_table")

    def test_a_full_disk(self, dsn):
        database = Database(dsn, patience_s=0)
        with pytest.raises(OSError, match=r"the database's disk is full \(could not extend file.*Free space") as caught:
            database.query("DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$")
        assert caught.value.errno == errno.ENOSPC
        runs = []

        def full_at_first(transaction):
            runs.append(0)
            code = "disk_full" if len(runs) < 3 else "successful_completion"
            transaction.execute(
                f"DO $$ BEGIN IF '{code}' = 'disk_full' THEN RAISE 'full' USING ERRCODE = 'disk_full'; END IF; END $$"
            )

        database.transaction(full_at_first, patience_s=30)
        assert len(runs) == 3


class TestServer:
    """A server as a laboratory runs it, with passwords and roles."""

    @pytest.fixture(autouse=True)
    def _quickly(self, monkeypatch):
        monkeypatch.setattr(module, "PATIENCE_S", 20)

    @pytest.mark.parametrize(
        ("change", "kind", "words"),
        [
            ({"password": "wr0ng"}, PermissionError, "the password is wrong or missing. Check the DSN, the environ"),
            ({"password": ""}, PermissionError, "a password is needed. Put it in the environment variable or ~/.pg"),
            ({"user": "nobody"}, PermissionError, "the password is wrong or missing"),
            ({"dbname": "other"}, ValueError, "the server has no such database. Make it with createdb, or check"),
            ({"user": "barred"}, PermissionError, "the role may not log in. Let its owner run ALTER ROLE"),
            ({"dbname": "closed"}, PermissionError, "the role may not connect to this database. Ask its owner"),
            ({"port": "1"}, ConnectionError, "nothing answers there. Does the server run, and the tunnel to it?"),
            ({"host": "/no/such"}, ConnectionError, "no server has its socket there. Does it run?"),
            ({"sslmode": "require"}, ConnectionError, "server does not support SSL, but SSL was required"),
            ({"options": "-c nonsense=1"}, ConnectionError, 'unrecognized configuration parameter "nonsense"'),
        ],
    )
    def test_who_is_not_let_in_is_told_why(self, lab, change, kind, words):
        given = psycopg2.extensions.make_dsn(lab.dsn("ann", SECRET, "trials"), **change)
        with pytest.raises(kind) as caught:
            TrialStore(given)
        said = everything_said(caught.value)
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{described(given)}: ")
        for hidden in (SECRET, ENCODED, "wr0ng"):
            assert hidden not in said

    def test_an_unknown_role_on_a_server_that_trusts(self, dsn):
        if "HCREG_TEST_DATABASE" in os.environ:
            pytest.skip("may ask for a password")
        with pytest.raises(OSError, match=r"role 'nobody_there'") as caught:
            TrialStore(psycopg2.extensions.make_dsn(dsn, user="nobody_there"))
        assert isinstance(caught.value, (PermissionError, ConnectionError))

    def test_a_role_without_rights_is_told_what_to_ask_for(self, lab):
        with pytest.raises(
            PermissionError,
            match=r"the role may not do that \(permission denied for database trials\)\. Let the database's owner run "
            "CREATE SCHEMA hcreg AUTHORIZATION dan",
        ):
            TrialStore(lab.dsn("dan", "d", "trials"))
        lab.sql("CREATE SCHEMA hcreg AUTHORIZATION dan", database="trials")
        store = TrialStore(lab.dsn("dan", "d", "trials"))
        assert store.studies() == []
        with pytest.raises(
            PermissionError, match=r"permission denied for schema hcreg.*another role made its tables, c"
        ):
            TrialStore(lab.dsn("eve", "e", "trials"))
        lab.sql("GRANT USAGE ON SCHEMA hcreg TO eve", database="trials")
        with pytest.raises(PermissionError, match=r"permission denied for table schema_version.*connect as that one"):
            TrialStore(lab.dsn("eve", "e", "trials"))
        store.close()
        lab.sql("DROP SCHEMA hcreg CASCADE", database="trials")

    def test_a_server_that_takes_no_writes(self, lab):
        given = psycopg2.extensions.make_dsn(
            lab.dsn("ann", SECRET, "trials"), options="-c default_transaction_read_only=on"
        )
        with pytest.raises(
            PermissionError, match=r"the database takes no writes .*Name the primary server, not a repl"
        ):
            TrialStore(given, "read_only")

    def test_a_server_that_moves_is_followed(self, lab):
        asked = []

        def ask():
            asked.append(lab.port)
            return lab.dsn("ann", SECRET, "trials")

        database = Database(ask, patience_s=60)
        database.query("CREATE TABLE moved (number int)")
        runs = []

        def move_within(transaction):
            runs.append(transaction.execute("INSERT INTO moved VALUES (1) RETURNING number"))
            if len(runs) == 1:
                lab.stop()
                lab.port = closed_port()
                lab.start()
            transaction.execute("INSERT INTO moved VALUES (2)")

        database.transaction(move_within)
        assert [row["number"] for row in database.query("SELECT number FROM moved ORDER BY 1")] == [1, 2]
        assert len(asked) == 2
        assert asked[0] != asked[1]
        database.close()

    def test_no_password_is_kept_or_printed(self, lab, capfd):
        """A whole study, with a trial whose error quotes the address, and a disturbed connection."""
        given = lab.dsn("ann", SECRET, "trials")
        assert parse_dsn(given)["password"] == SECRET
        store = TrialStore(given, "study_of_ann")
        definition = {"objective": "loss", "direction": "min", "algorithm": {}, "space": [], "code": "def f(): ..."}
        study = store.join("search", definition, max_trials=3, attributes={"data_path": "/data"})
        for number in range(3):
            lease = store.take(study, f"w{number}", Wish({"lr": number}, str(number), number, {}))
            store.record_epochs(lease, [(0, 1, "loss", 0.5)])
            store.save_artifact(lease, "model", b"weights")
            lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'")
            store.end(lease, "failed", message=f"cannot read {given}: {SECRET}", metrics={"loss": 0.5})
        assert store.table("search")[0]["message"] == (
            f"cannot read postgresql://ann:***@127.0.0.1:{lab.port}/trials: ***"
        )
        print(store, repr(store), repr(store.database), store.studies(), store.trial("search", 0))
        with pytest.raises(
            ValueError, match=r"There is no study 'other' in <Database: database 'trials' of role 'ann'"
        ):
            store.table("other")
        tables = store.database.query(
            "SELECT format('%%I.%%I', table_schema, table_name) AS name FROM information_schema.tables "
            "WHERE table_schema = %s",
            ("study_of_ann",),
        )
        assert len(tables) == 8
        shown = capfd.readouterr()
        kept = shown.out + shown.err
        for table in tables:
            rows = store.database.query(f"SELECT t::text AS row FROM {table['name']} t")
            assert rows
            kept += "".join(row["row"] for row in rows)
        for hidden in (SECRET, ENCODED, "s3cret"):
            assert hidden not in kept
        store.close()


@pytest.fixture(scope="module")
def lab(make_tcp_server):
    server = make_tcp_server()
    server.sql(
        f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}'",
        "CREATE ROLE dan LOGIN PASSWORD 'd'",
        "CREATE ROLE eve LOGIN PASSWORD 'e'",
        f"CREATE ROLE barred NOLOGIN PASSWORD '{SECRET}'",
        "CREATE DATABASE trials OWNER ann",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
    )
    return server
