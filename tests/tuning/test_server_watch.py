"""Locks that say what runs, and the watcher, without a server: a sleeping process takes its part."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from hcreg.tuning import server_watch
from hcreg.tuning.server_watch import (
    is_file_of,
    is_running,
    mutex,
    open_lock,
    postmaster,
    remove_temporary,
    start_watcher,
    status,
    stop_server,
    taken,
    temporary_folder,
    watch,
)

TOKEN = f"{server_watch.TEMPORARY_PREFIX}of-a-test"


def write_pid(folder, number, state="ready   "):
    (folder / "data").mkdir(exist_ok=True)
    lines = [number, "/elsewhere", 1700000000, 5432, "/tmp", "", "  1 2", state]
    (folder / "data" / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")


@pytest.fixture
def sleeper(tmp_path):
    """A process that holds the server's lock until SIGINT, and has the temporary folder in its command."""
    lock = open_lock(tmp_path, "server")
    os.pwrite(lock, TOKEN.encode(), 0)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code, TOKEN], pass_fds=(lock,), stdout=subprocess.PIPE)
    os.close(lock)
    process.stdout.readline()
    write_pid(tmp_path, process.pid)
    yield process
    process.kill()
    process.communicate()


def test_the_lock_of_what_runs_ends_with_it_however_it_ends(tmp_path, sleeper):
    assert is_running(tmp_path)
    assert postmaster(tmp_path) == sleeper.pid
    sleeper.kill()
    sleeper.wait()
    assert not is_running(tmp_path)


def test_stopping_asks_the_one_process_that_is_meant(tmp_path, sleeper):
    stop_server(tmp_path)
    assert sleeper.wait() == 0
    assert not is_running(tmp_path)
    stop_server(tmp_path)  # nothing to do


def test_a_process_that_does_not_listen_is_asked_ever_more_firmly(tmp_path, monkeypatch):
    monkeypatch.setattr(server_watch, "STOP_S", 0.1)
    lock = open_lock(tmp_path, "server")
    os.pwrite(lock, TOKEN.encode(), 0)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code, TOKEN], pass_fds=(lock,), stdout=subprocess.PIPE)
    os.close(lock)
    process.stdout.readline()
    write_pid(tmp_path, process.pid)
    stop_server(tmp_path)
    assert process.wait() == -signal.SIGQUIT
    process.stdout.close()


def test_the_number_of_another_process_is_never_signalled(tmp_path, sleeper, monkeypatch):
    monkeypatch.setattr(server_watch, "ORPHANS_S", 0.05)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_pid(tmp_path, bystander.pid)
    assert postmaster(tmp_path) is None
    with pytest.raises(TimeoutError, match=r"cannot be stopped from here.*end the processes named postgres"):
        stop_server(tmp_path)
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_what_postmaster_pid_says(tmp_path):
    assert status(tmp_path) == (None, "")
    write_pid(tmp_path, 12, "stopping")
    assert status(tmp_path) == (12, "stopping")
    (tmp_path / "data" / "postmaster.pid").write_text("13\n/elsewhere\n")
    assert status(tmp_path) == (13, "starting")
    (tmp_path / "data" / "postmaster.pid").write_text("")
    assert status(tmp_path) == (None, "")
    write_pid(tmp_path, 2**30)
    assert postmaster(tmp_path) is None  # nothing has started here


def test_a_lock_is_taken_once_or_shared(tmp_path):
    first, second = open_lock(tmp_path, "users"), open_lock(tmp_path, "users")
    assert taken(first, fcntl.LOCK_SH)
    assert taken(second, fcntl.LOCK_SH)
    assert not taken(second, fcntl.LOCK_EX)
    os.close(first)
    assert taken(second, fcntl.LOCK_EX)
    os.close(second)


def test_a_lock_is_no_link_to_somewhere_else(tmp_path):
    (tmp_path / "users").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        open_lock(tmp_path, "users")
    assert not (tmp_path / "precious").exists()


def test_the_mutex_is_let_go_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), mutex(tmp_path):
        raise ZeroDivisionError
    with mutex(tmp_path):
        other = open_lock(tmp_path, "hcreg.lock")
        assert not taken(other, fcntl.LOCK_EX)
        os.close(other)


def test_a_file_that_was_replaced_is_another(tmp_path):
    file = open_lock(tmp_path, "users")
    assert is_file_of(file, tmp_path / "users")
    (tmp_path / "users").unlink()
    assert not is_file_of(file, tmp_path / "users")
    (tmp_path / "users").touch()
    assert not is_file_of(file, tmp_path / "users")
    os.close(file)


def test_only_temporary_folders_of_ours_are_removed(tmp_path):
    assert temporary_folder(tmp_path) == ""
    for name, gone in ((TOKEN, True), ("precious", False)):
        (tmp_path / name).mkdir()
        (tmp_path / "server").write_text(str(tmp_path / name))
        assert temporary_folder(tmp_path) == str(tmp_path / name)
        remove_temporary(tmp_path)
        assert (tmp_path / name).exists() is not gone


def test_the_watcher_waits_for_the_last_user(tmp_path, sleeper):
    users = [open_lock(tmp_path, "users") for _ in range(2)]
    for file in users:
        fcntl.flock(file, fcntl.LOCK_SH)
    start_watcher(tmp_path)
    start_watcher(tmp_path)  # one is enough
    os.close(users[0])
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.3)
    os.close(users[1])
    assert sleeper.wait(30) == 0
    watcher = open_lock(tmp_path, "watcher")
    end = time.monotonic() + 30
    while not taken(watcher, fcntl.LOCK_EX):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.close(watcher)


def test_the_watcher_of_a_removed_folder_leaves_its_successor_alone(tmp_path, sleeper):
    users, watcher = open_lock(tmp_path, "users"), open_lock(tmp_path, "watcher")
    (tmp_path / "users").unlink()
    (tmp_path / "users").touch()
    watch(tmp_path, users, watcher)
    assert sleeper.poll() is None
    assert is_running(tmp_path)


def test_where_no_watcher_can_be_started_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    start_watcher(tmp_path)
    watcher = open_lock(tmp_path, "watcher")
    assert taken(watcher, fcntl.LOCK_EX)
    os.close(watcher)
