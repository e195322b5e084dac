"""What runs in a database's folder, told by locks, and the watcher that stops the server when its last user has gone.

The kernel lets go of a lock on a file however the process that holds it ends, so no number of a process is trusted:

``hcreg.lock``
    held by whoever starts or stops the server, for so long.
``server``
    held by the server itself, which inherits it, and by its children: free means that nothing touches the data.
    It says which temporary folder has the socket.
``users``
    shared by all processes that use the server. The watcher sleeps until nobody holds it.
``watcher``
    held by the watcher.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, refused in words when a database is asked for
    fcntl = None

# the watcher is this file run by itself, without hcreg: the standard library only

TEMPORARY_PREFIX = "hcreg-postgresql-"
STOP_S = 30  # of a fast shutdown; the last checkpoint may have much to write
ORPHANS_S = 10  # the children of a killed server end by themselves


def open_lock(folder, name):
    """Open one of the folder's files, made where there is none, for the folder's owner alone."""
    owner = os.stat(folder)
    # an ordinary user's folder opened by root: no link of theirs is followed, and what is made is theirs
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


def taken(file, kind):
    """Take a lock of an open file at once; whether that went."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def mutex(folder):
    """Only one process, and one thread of it, starts or stops the server at a time.

    Raises
    ------
    OSError
        If the disk has no file locks.
    """
    file = open_lock(folder, "hcreg.lock")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # FUSE and some network disks
            raise OSError(
                error.errno,
                f"the disk of {folder} has no file locks ({error.strerror}). Use a folder on a local disk, "
                "or name a PostgreSQL server of yours in database=",
            ) from error
        yield
    finally:
        os.close(file)


def is_file_of(file, path):
    """Whether an open file is still what the path names: not where the folder was removed, and perhaps made again."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def is_running(folder):
    """Whether a server, or what is left of it, uses the data."""
    try:
        file = os.open(folder / "server", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not taken(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def status(folder):
    """What postmaster.pid says.

    Returns
    -------
    int or None, str
        Number of a process; what it does: "starting", "ready", "stopping", or "" where there is no such file.
    """
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"
    except (OSError, ValueError, IndexError):
        return None, ""


def postmaster(folder):
    """Number of the server's process.

    Returns
    -------
    int or None
        None where the number in the file is by now that of another process, here or on another machine.
    """
    number, _ = status(folder)
    temporary = temporary_folder(folder)
    if number is None or not temporary:
        return None
    if os.path.isdir("/proc/self"):
        with contextlib.suppress(OSError):
            return number if temporary in os.fsdecode(Path(f"/proc/{number}/cmdline").read_bytes()) else None
        return None
    command = ["ps", "-ww", "-o", "command=", "-p", str(number)]
    return number if temporary in subprocess.run(command, capture_output=True, text=True, check=False).stdout else None


def stop_server(folder):
    """Stop what uses the data, if anything does; return when nothing does. Under the mutex, or as the last user.

    Raises
    ------
    TimeoutError
        If it cannot be stopped from here.
    """
    for request, seconds in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        asked, begin = None, time.monotonic()
        while is_running(folder):
            number = postmaster(folder)
            if number not in (None, asked):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, request)
                asked = number
            waited_s = time.monotonic() - begin
            if waited_s > seconds or (asked is None and waited_s > ORPHANS_S):
                break
            time.sleep(0.01)
        else:
            remove_temporary(folder)
            return
        if asked is None:
            break
    raise TimeoutError(
        f"the data in {folder} are used by a server that cannot be stopped from here. If it runs on another machine or "
        "in another container, use it from there, or name a PostgreSQL server of yours in database=; if not, end the "
        "processes named postgres"
    )


def temporary_folder(folder):
    """Temporary folder of the server that runs, or ran last; an empty str where there was none. Part of its command."""
    with contextlib.suppress(FileNotFoundError):
        return os.fsdecode((folder / "server").read_bytes())
    return ""


def remove_temporary(folder):
    """Remove the temporary folder of the server that ran last."""
    temporary = temporary_folder(folder)
    if os.path.basename(temporary).startswith(TEMPORARY_PREFIX):
        shutil.rmtree(temporary, ignore_errors=True)


def start_watcher(folder):
    """See that a watcher waits for the last user to go. Where it is killed, the last one to close does its work."""
    watcher, users = open_lock(folder, "watcher"), open_lock(folder, "users")
    try:
        if taken(watcher, fcntl.LOCK_EX):
            with contextlib.suppress(OSError):
                subprocess.run(
                    [sys.executable, "-I", "-S", __file__, str(folder), str(users), str(watcher)],
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(users, watcher),
                    check=False,
                )
    finally:
        os.close(users)
        os.close(watcher)


def watch(folder, users, watcher):
    """Wait until nobody holds `users`, and stop the server.

    Parameters
    ----------
    folder : pathlib.Path
    users, watcher : int
        The two files, open; `watcher` locked.
    """
    fcntl.flock(users, fcntl.LOCK_EX)
    if is_file_of(users, folder / "users"):  # else the folder was removed, and what it holds now is not our charge
        with contextlib.suppress(OSError):
            stop_server(folder)
    os.close(watcher)  # before `users`: who comes next and finds no server must find no watcher either
    os.close(users)


if __name__ == "__main__":
    if os.fork() == 0:  # nobody has to wait for the watcher's end
        watch(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
