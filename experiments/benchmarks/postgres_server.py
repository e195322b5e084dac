"""A PostgreSQL as a laboratory runs it, on 127.0.0.1 and with passwords, for one measurement and removed after it."""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from hcreg.tuning.server_programs import (
    ROLE,
    data_argument,
    installations,
    make_cluster,
    reachable_programs,
    run_program,
    server_user,
)
from hcreg.tuning.server_watch import is_running, open_lock, start_watcher, stop_server

HOST = "127.0.0.1"
START_S = 60


class PostgresServer:
    """A PostgreSQL server that listens on 127.0.0.1 alone and asks everybody for a password, by scram-sha-256.

    Parameters
    ----------
    version : int, optional
        Major version, 16 or 18; by default the newest.
    settings : dict of str to str, optional
        Further settings, for instance ``{"max_connections": "10"}``.

    Attributes
    ----------
    port : int
        The same over restarts.
    folder : pathlib.Path
        Of the data, until :meth:`remove`.

    Examples
    --------
    >>> import psycopg2
    >>> with PostgresServer() as server:
    ...     server.sql("CREATE ROLE ada LOGIN PASSWORD 'secret'", "CREATE DATABASE trials OWNER ada")
    ...     connection = psycopg2.connect(server.dsn("ada", "secret", "trials"))
    ...     with connection.cursor() as cursor:
    ...         cursor.execute("SELECT current_user")
    ...         cursor.fetchone()
    ...     connection.close()
    ('ada',)
    """

    def __init__(self, version=None, settings=None):
        self.version = version or max(installations())
        self.settings = dict(settings or {})
        self.password = secrets.token_urlsafe(12)
        self.folder = Path(tempfile.mkdtemp(prefix="hcreg-tcp-"))
        self._user = server_user(self.folder)
        self._log = open(self.folder / "server.log", "a")  # noqa: SIM115
        # as for an embedded database: killed ourselves, we leave no server behind
        self._using = open_lock(self.folder, "users")
        fcntl.flock(self._using, fcntl.LOCK_SH)
        programs = tempfile.mkdtemp(prefix="programs-", dir=self.folder)
        if self._user.switch:
            self.folder.chmod(0o711)
            os.chmod(programs, 0o711)
        self._programs = reachable_programs(installations()[self.version], self._user, programs)
        self.port = _free_port()
        self._make()
        self.start()

    def _make(self):
        password = self.folder / "password"
        password.write_text(self.password)
        if self._user.switch:
            os.chown(password, self._user.uid, self._user.gid)
        options = ["--pwfile", password, "--auth=scram-sha-256", "--no-sync", "--wal-segsize=1"]
        if not make_cluster(self._programs, self._user, self.folder / "data", options, self._log):
            raise OSError(f"no cluster was made: {self.log()}")
        password.unlink()

    def start(self):
        """Start the server, and wait until it answers."""
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "port": str(self.port),
            "cluster_name": self.folder.name,
            "timezone": "UTC",
            "lc_messages": "C",
            **self.settings,
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        data = self.folder / "data"
        lock = open_lock(self.folder, "server")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.pwrite(lock, self.folder.name.encode(), 0)
            (data / "postmaster.pid").unlink(missing_ok=True)  # of a server that was killed
            start_watcher(self.folder)
            command = [self._programs / "pg_ctl", "start", "-w", "-s", "-t", START_S, "-o", options]
            command += ["-D", data_argument(self._user, data)]
            if run_program(self._user, command, data, self._log, inherited=(lock,)):
                raise OSError(f"the server did not start: {self.log()}")
        finally:
            os.close(lock)

    def stop(self):
        """Stop the server, every connection with it."""
        stop_server(self.folder)

    def restart(self):
        """Stop and start."""
        self.stop()
        self.start()

    def kill(self):
        """Kill the server and all its children with SIGKILL, as a power cut does."""
        while is_running(self.folder):
            for number in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.01)

    def processes(self):
        """Numbers of the server's processes.

        Returns
        -------
        list of int
            Empty where it does not run.
        """
        data = os.stat(self.folder / "data")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
                if os.path.samestat(os.stat(entry / "cwd"), data):
                    found.append(int(entry.name))
        return found

    def dsn(self, user=ROLE, password=None, database=ROLE, host=HOST, port=None):
        """Address with password; by default the superuser's.

        Parameters
        ----------
        user, password, database : str
        host, port : str, int
            Those of a proxy, where the connection shall go through one.

        Returns
        -------
        str
        """
        password = self.password if password is None else password
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{host}:{port or self.port}/{quote(database)}"

    def sql(self, *statements, database=ROLE):
        """Run statements as superuser, each by itself.

        Returns
        -------
        list of tuple or None
            What the last one returned.
        """
        import psycopg2

        connection = psycopg2.connect(self.dsn(database=database))
        connection.autocommit = True  # CREATE DATABASE runs in no transaction
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def log(self):
        """What the server has said so far.

        Returns
        -------
        str
        """
        return (self.folder / "server.log").read_text(errors="replace")

    def remove(self):
        """Stop the server, and remove its data."""
        if self._log.closed:
            return
        self.stop()
        self._log.close()
        os.close(self._using)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def __repr__(self):
        return f"PostgresServer(version={self.version}, port={self.port})"


def _free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
