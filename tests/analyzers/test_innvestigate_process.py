"""The life of the other process, told with stand-ins for it: how it starts, fails, dies, never outlives its owner."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import venv
from multiprocessing import Pipe
from pathlib import Path

import pytest

from hcreg.analyzers import innvestigate_process
from hcreg.analyzers.innvestigate_process import InnvestigateError, Worker

SOURCE = Path(innvestigate_process.__file__)
# Without the rest of the package, which takes longer to import.
LOAD = (
    "import importlib.util, os, signal\n"
    "from pathlib import Path\n"
    f"spec = importlib.util.spec_from_file_location('innvestigate_process', {str(SOURCE)!r})\n"
    "innvestigate_process = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(innvestigate_process)\n"
)
READY = "connection.send(('done', {'innvestigate': '2.1.2'}))\n"


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Run other lines in place of the script that loads iNNvestigate."""

    def use(lines):
        script = tmp_path / "stand_in.py"
        script.write_text(
            "import sys, time\nfrom multiprocessing.connection import Connection\n"
            "connection = Connection(int(sys.argv[1]))\n" + lines,
            encoding="utf-8",
        )
        monkeypatch.setattr(innvestigate_process, "_SCRIPT", script)

    return use


def is_running(pid):
    """Whether a process computes or waits; one that ended and was not yet asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ends(pid, timeout_s=60):
    stop = time.monotonic() + timeout_s
    while is_running(pid) and time.monotonic() < stop:
        time.sleep(0.05)
    return not is_running(pid)


def test_answers_come_back(stand_in):
    stand_in(READY + "action, *rest = connection.recv()\nconnection.send(('done', [action, rest]))\nconnection.recv()")
    with Worker() as worker:
        assert worker.versions == {"innvestigate": "2.1.2"}
        assert worker.ask("explain", 3, "images") == ["explain", [3, "images"]]
        assert is_running(worker.pid)
    assert not is_running(worker.pid)
    assert not worker.is_open


def test_what_it_prints_is_no_answer(stand_in):
    stand_in("print('1/1 [=====]', flush=True)\n" + READY + "connection.recv()\nconnection.send(('done', 7))")
    with Worker() as worker:
        assert worker.ask("predict") == 7


def test_a_python_without_the_packages_says_how_to_install_them(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(ImportError) as caught:
        Worker(python)
    message = str(caught.value)
    assert f"{python} cannot import: ImportError: no package tensorflow, tf_keras, innvestigate." in message
    assert "pip install --no-deps --ignore-requires-python -r requirements-innvestigate.txt" in message
    assert 'use engine="native"' in message


def test_a_package_that_breaks_when_imported_is_told_with_its_own_words(stand_in):
    stand_in("connection.send(('failed', {'text': 'AttributeError: no attribute tf', 'traceback': ''}))")
    with pytest.raises(ImportError, match=r"cannot import: AttributeError: no attribute tf\. Install it with"):
        Worker()


def test_a_failure_is_told_as_that_of_innvestigate_with_the_end_of_its_traceback(stand_in):
    lines = "\\n".join(f"line {number}" for number in range(40))
    failed = f"('failed', {{'layer': None, 'text': 'TypeError: no such rule', 'traceback': '{lines}'}})"
    stand_in(READY + f"while True:\n    connection.recv()\n    connection.send({failed})")
    with Worker() as worker:
        with pytest.raises(InnvestigateError, match=r"iNNvestigate itself failed: TypeError: no such rule\n") as caught:
            worker.ask("explain")
        assert str(caught.value).endswith("line 38\nline 39")
        assert "line 20" not in str(caught.value)
        with pytest.raises(InnvestigateError):  # it goes on after a failure
            worker.ask("explain")
        assert is_running(worker.pid)


def test_a_layer_that_could_not_be_taken_over_is_named(stand_in):
    failed = "('failed', {'layer': \"'conv' (Conv2D)\", 'text': 'ValueError: groups', 'traceback': ''})"
    stand_in(READY + f"connection.recv()\nconnection.send({failed})")
    with (
        Worker() as worker,
        pytest.raises(InnvestigateError, match=r"could not take over layer 'conv' \(Conv2D\): ValueError: groups"),
    ):
        worker.ask("translate")


def test_a_process_that_ends_by_itself_is_told_with_its_exit_code_and_last_words(stand_in):
    stand_in(READY + "connection.recv()\nprint('cannot allocate', file=sys.stderr, flush=True)\nsys.exit(3)")
    worker = Worker()
    with pytest.raises(InnvestigateError, match=r"ended before it answered, with exit code 3\. .*\ncannot allocate"):
        worker.ask("explain")
    with pytest.raises(InnvestigateError, match=r"was closed\. Make the analyzer anew"):
        worker.ask("explain")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_is_told_by_the_name_of_the_signal(stand_in, number):
    stand_in(READY + "time.sleep(60)")
    worker = Worker()
    os.kill(worker.pid, number)
    with pytest.raises(InnvestigateError) as caught:
        worker.ask("explain")
    assert f"with exit code -{int(number)} ({number.name}" in str(caught.value)
    assert ("pass a smaller batch_size" in str(caught.value)) == (number == signal.SIGKILL)


def test_an_interrupted_call_ends_the_process(stand_in):
    stand_in(READY + "time.sleep(60)")
    worker = Worker()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            worker.ask("explain")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not is_running(worker.pid)


def test_a_forgotten_worker_ends_its_process(stand_in):
    stand_in(READY + "time.sleep(60)")
    worker = Worker()
    pid = worker.pid
    del worker
    gc.collect()
    assert not is_running(pid)


def test_a_request_that_cannot_be_sent_leaves_the_process_be(stand_in):
    stand_in(READY + "connection.recv()\nconnection.send(('done', 1))")
    with Worker() as worker:
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            worker.ask("create_analyzer", {"rule": lambda layer: layer})
        assert worker.ask("names") == 1


def test_the_real_script_ends_when_nobody_holds_the_other_side():
    ours, theirs = Pipe()
    script = SOURCE.with_name("innvestigate_worker.py")
    process = subprocess.Popen([sys.executable, script, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    ours.close()  # while it still imports
    assert process.wait(timeout=60) is not None


@pytest.mark.slow
def test_the_process_does_not_outlive_a_killed_owner():
    code = LOAD + (
        "try:\n"
        "    worker = innvestigate_process.Worker()\n"
        "except ImportError:\n"
        "    raise SystemExit\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    owner = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if not owner.stdout:
        pytest.skip("iNNvestigate is not installed")
    assert owner.returncode == -signal.SIGKILL
    assert ends(int(owner.stdout))


def test_a_finished_script_leaves_no_process(stand_in, tmp_path):
    stand_in(READY + "time.sleep(60)")
    code = LOAD + (
        f"innvestigate_process._SCRIPT = Path({str(innvestigate_process._SCRIPT)!r})\n"
        "worker = innvestigate_process.Worker()\n"
        "print(worker.pid, flush=True)\n"
        "raise RuntimeError('in the middle')\n"
    )
    owner = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "in the middle" in owner.stderr
    assert ends(int(owner.stdout), timeout_s=5)
