"""The process in which iNNvestigate is loaded, seen from this side: started, asked, ended."""

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from multiprocessing import Pipe
from pathlib import Path

HOW_TO_INSTALL = "python -m pip install --no-deps --ignore-requires-python -r requirements-innvestigate.txt"
_SCRIPT = Path(__file__).with_name("innvestigate_worker.py")
_TAIL_LINES = 12


class InnvestigateError(RuntimeError):
    """iNNvestigate failed, told in its own words; or its process ended; or it would not explain the given model."""


class Worker:
    """A process of its own with iNNvestigate loaded.

    One serves any number of analyzers. It takes some seconds to start, and a hundred megabytes or two of memory.

    Parameters
    ----------
    python : path, optional
        Interpreter to run it with, such as that of an environment with what iNNvestigate's wheel asks for. By default
        the one that runs this.

    Attributes
    ----------
    pid : int
    versions : dict
        Of TensorFlow, tf_keras and iNNvestigate.

    Raises
    ------
    ImportError
        If iNNvestigate cannot be imported there.

    Notes
    -----
    It ends with `close`, when the object is forgotten, when this process ends or is killed, and when a call is
    interrupted, since its answer would then be taken for that of the next call. Ctrl-C does not reach it directly.

    Examples
    --------
    >>> with Worker() as worker:  # doctest: +SKIP
    ...     analyzers = [InnvestigateAnalyzer(name, model, worker=worker) for name in ("gradient", "lrp.z")]
    ...     maps = [analyzer.analyze(images) for analyzer in analyzers]
    """

    def __init__(self, python=None):
        python = str(python or sys.executable)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._connection, theirs = Pipe()
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        with contextlib.closing(theirs):
            process = subprocess.Popen(
                [python, str(_SCRIPT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._process, self._log = process, log
        self._end = weakref.finalize(self, _end_process, process, self._connection, log, os.getpid())
        self.pid = process.pid
        try:
            self.versions = self._started(python)
        except BaseException:
            self.close()
            raise

    def _started(self, python):
        state, value = self._receive()
        if state == "done":
            return value
        raise ImportError(
            f'engine="innvestigate" needs iNNvestigate 2.1.2, which {python} cannot import: {value["text"]}. '
            f'Install it with "{HOW_TO_INSTALL}", without what it says it requires: it runs on newer versions too. '
            'Or use engine="native".'
        )

    def new_number(self):
        """A number for a model, by which the process is asked about it.

        Returns
        -------
        int
        """
        return next(self._numbers)

    def ask(self, action, *arguments):
        """Have something done there, and wait for it as long as it takes.

        Parameters
        ----------
        action : str
            As of `hcreg.analyzers.innvestigate_worker`.
        *arguments
            Of the action.

        Returns
        -------
        object
            The action's answer.

        Raises
        ------
        InnvestigateError
            If it failed, or the process ended.
        """
        message = pickle.dumps((action, *arguments), protocol=5)
        with self._lock:
            if not self.is_open:
                raise InnvestigateError("The process of iNNvestigate was closed. Make the analyzer anew to go on.")
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen below, with the reason
                    self._connection.send_bytes(message)
                state, value = self._receive()
            except BaseException:
                self.close()
                raise
        if state == "done":
            return value
        if value["layer"]:
            raise InnvestigateError(
                f"The Keras that iNNvestigate runs on could not take over layer {value['layer']}: {value['text']}. "
                'Use engine="native".'
            )
        raise InnvestigateError(
            f'iNNvestigate itself failed: {value["text"]}\nFor what it cannot do, use engine="native". '
            f"The end of its traceback:\n{_tail(value['traceback'])}"
        )

    @property
    def is_open(self):
        """Whether it has not been closed yet; it may have died all the same."""
        return self._end.alive

    def close(self):
        """End the process, whatever it does; a second time is no error."""
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _receive(self):
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            code = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(timeout=10)
            self._log.seek(0)
            raise InnvestigateError(
                f"The process of iNNvestigate ended before it answered, with {_explained(code)}. "
                f"The end of what it wrote:\n{_tail(self._log.read().decode(errors='replace'))}"
            ) from None


def _tail(text):
    return "\n".join(text.strip().splitlines()[-_TAIL_LINES:]) or "(nothing)"


def _explained(code):
    """An exit code in words."""
    if code is None or code >= 0:
        return f"exit code {code}"
    advice = "; out of memory, perhaps: pass a smaller batch_size" if code == -signal.SIGKILL else ""
    return f"exit code {code} ({signal.Signals(-code).name}{advice})"


def _end_process(process, connection, log, owner):
    if os.getpid() != owner:  # in a fork: the process is not its child
        return
    connection.close()
    process.kill()  # it has nothing to save
    process.wait()
    log.close()
