"""A connection to PostgreSQL that comes back: transactions are tried again whole, errors say what to do.

One `Database` holds one connection, opened when first needed, which threads use in turn. Copies (deepcopy, pickle) and
forked processes open their own.
"""

import contextlib
import errno
import os
import random
import re
import sys
import threading
import time
import weakref
from urllib.parse import quote

from hcreg.tuning.libpq import errors, extensions, psycopg2

DATABASE_VARIABLE = "HCREG_DATABASE"  # named where no database is
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60
PATIENCE_S = 3600
_LONGEST_PAUSE_S = 10
_RANDOM = random.SystemRandom()  # not Python's own: a pause must not move the seeded numbers of a training
_BETWEEN_NOTES_S = 60
# A server that is starting, stopping, full or out of slots may serve a minute later; so may a broken line.
_PASSING = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)


def resolve(database):
    """The DSN that a ``database=`` argument stands for.

    Parameters
    ----------
    database : str or callable
        A DSN (``postgresql://user:password@host/name`` or ``host=... dbname=...``), the name of an environment variable
        that holds one, or a callable without arguments that returns one.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is none of these, or the variable is not set, or what they hold is not a DSN.

    Examples
    --------
    >>> resolve("host=localhost dbname=trials")
    'host=localhost dbname=trials'
    >>> resolve(lambda: "postgresql://localhost:6543/trials")
    'postgresql://localhost:6543/trials'
    """
    if callable(database):
        dsn, source = database(), "the callable given as database"
    elif not isinstance(database, str) or not database.strip():
        raise ValueError(
            "database takes a DSN such as postgresql://user@host/name, the name of an environment variable that holds "
            f"one, or a callable that returns one. Received: {type(database).__name__}."
        )
    elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
        if database not in os.environ:
            raise ValueError(
                f"database={database!r} is not a DSN (postgresql://user@host/name), and there is no environment "
                f"variable of that name. Set {database} to a DSN, or give one."
            )
        dsn, source = os.environ[database], f"the environment variable {database}"
    else:
        dsn, source = database, "database"
    if not _is_dsn(dsn):  # its words are not shown: they may hold the password
        raise ValueError(
            f"What {source} holds is not a DSN. Expected postgresql://user:password@host:port/name, with special "
            "characters of the password percent-encoded (@ is %40, / is %2F), or host=... port=... dbname=... user=..."
        )
    return dsn


def _is_dsn(text):
    try:
        parts = extensions.parse_dsn(text)
    except (psycopg2.ProgrammingError, TypeError):
        return False
    # a password with an @ or / that is not encoded ends up in the host, the port or the name, and then in messages
    misplaced = any("@" in parts.get(name, "") for name in ("host", "port", "dbname"))
    return bool(parts) and not ("://" in text and misplaced)


def described(dsn):
    """A DSN without its password, for messages.

    Parameters
    ----------
    dsn : str

    Returns
    -------
    str

    Examples
    --------
    >>> described("postgresql://ann:secret@db.example.org:6543/trials")
    "database 'trials' of role 'ann' at db.example.org:6543"
    """
    parts = extensions.parse_dsn(dsn)
    place = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = f":{parts['port']}" if "port" in parts else ""
    role = f" of role {parts['user']!r}" if "user" in parts else ""
    return f"database {parts.get('dbname', parts.get('user', ''))!r}{role} at {place}{port}"


class Transaction:
    """One transaction in progress: what `Database.transaction` hands to its function.

    BEGIN travels with the first statement, so that a transaction of n statements takes n + 1 round trips.
    """

    def __init__(self, cursor):
        self._cursor, self._prefix = cursor, "BEGIN; "

    def execute(self, statement, values=()):
        """Run a statement.

        Parameters
        ----------
        statement : str
            With ``%s`` or ``%(name)s`` for the values.
        values : sequence or dict

        Returns
        -------
        list of dict
            Its rows; empty where it returns none.
        """
        prefix, self._prefix = self._prefix, ""
        return _run(self._cursor, prefix + statement, values)


class Database:
    """Statements and transactions on one connection that is made anew when it breaks.

    Parameters
    ----------
    database : str or callable
        As of `resolve`; asked again at each reconnect, since the addresses of tunnels change.
    patience_s : float, s
        How long a statement is tried again while the database, once reached, cannot be.

    Notes
    -----
    At first contact a server that refuses or cannot be found is reported at once.
    """

    def __init__(self, database, patience_s=PATIENCE_S):
        self.database, self.patience_s = database, patience_s
        self._reset()

    def _reset(self):
        self._connection, self._dsn, self._reached = None, None, False
        self._lock = threading.RLock()
        _databases.add(self)

    def __getstate__(self):
        return {"database": self.database, "patience_s": self.patience_s}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    def __deepcopy__(self, memo):
        return type(self)(self.database, self.patience_s)

    def __repr__(self):
        with contextlib.suppress(ValueError):
            dsn = self._dsn if self._dsn or callable(self.database) else resolve(self.database)
            if dsn:
                return f"<{type(self).__name__}: {described(dsn)}>"
        return f"<{type(self).__name__}>"

    def query(self, statement, values=(), patience_s=None):
        """Run one statement, or several with semicolons between, as a transaction of one round trip.

        Parameters
        ----------
        statement : str
        values : sequence or dict
        patience_s : float, optional, s
            Of this call.

        Returns
        -------
        list of dict
            Rows of the last statement.

        Raises
        ------
        OSError
            If the database cannot be reached, refuses the role, or is full, after `patience_s`.
        ValueError
            If it has not what the statement needs.
        """
        return self._persist(lambda cursor: _run(cursor, statement, values), patience_s)

    def transaction(self, function, patience_s=None):
        """Run a function in a transaction, all of it again where the connection breaks.

        Parameters
        ----------
        function : callable
            Gets a `Transaction`. It may run several times, also after a commit whose answer was lost: its statements
            must find out what is done already.
        patience_s : float, optional, s

        Returns
        -------
        object
            What the function returns.

        Raises
        ------
        OSError, ValueError
            As of `query`.
        """

        def whole(cursor):
            result = function(Transaction(cursor))
            cursor.execute("COMMIT")
            return result

        return self._persist(whole, patience_s)

    def close(self):
        """Close the connection; the next statement opens another."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(psycopg2.Error):
                    self._connection.close()
            self._connection = None

    def _persist(self, work, patience_s):
        patience_s = self.patience_s if patience_s is None else patience_s
        started, noted_at, pause_s = time.monotonic(), None, 0.05
        with self._lock:
            while True:
                try:
                    with self._connected().cursor() as cursor:
                        return work(cursor)
                except psycopg2.Error as error:
                    # some errors of a broken line have the class of a wrong statement, as "lost synchronization"
                    is_broken = self._connection is not None and self._connection.closed
                    self._leave_transaction()
                    may_pass = is_broken or isinstance(error, _PASSING)
                    waited_s = time.monotonic() - started
                    if not may_pass or waited_s >= patience_s or (not self._reached and not _is_starting(error)):
                        raise self._in_words(error, waited_s) from None
                    if waited_s > _LONGEST_PAUSE_S and (noted_at is None or waited_s > noted_at + _BETWEEN_NOTES_S):
                        noted_at = waited_s
                        print(f"waiting for the database: {self._in_words(error, waited_s)}", file=sys.stderr)
                except BaseException:
                    self._leave_transaction()
                    raise
                time.sleep(pause_s * _RANDOM.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _leave_transaction(self):
        """After an error: end the transaction, or drop the connection where that is not possible."""
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = None
            return
        try:
            connection.cursor().execute("ROLLBACK")
        except psycopg2.Error:
            self.close()

    def _connected(self):
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is None:
            self._dsn = self._address()
            self._connection = psycopg2.connect(**_parameters(self._dsn))
            self._connection.autocommit = True
            self._reached = True
        return self._connection

    def _address(self):
        try:
            return resolve(self.database)
        except Exception as error:
            if not self._reached:
                raise
            # whoever knows the tunnel's new address may not know it yet
            failed = psycopg2.OperationalError(f"no address: {type(error).__name__}: {error}")
        raise failed

    def _in_words(self, error, waited_s):
        kind, what = _explained(error, extensions.parse_dsn(self._dsn).get("user"))
        waited = f" (tried for {waited_s:.0f} s)" if waited_s > 1 else ""
        return kind(f"{described(self._dsn)}: {self.without_password(what)}{waited}")

    def without_password(self, text):
        """A text to be printed or stored, without the password of the connection.

        Parameters
        ----------
        text : str

        Returns
        -------
        str
        """
        parts = extensions.parse_dsn(self._dsn) if self._dsn else {}
        password = parts.get("password")
        if password:
            around = r"\b" if len(password) < 4 else ""  # a short one is part of many a word
            for form in {password, quote(password, safe=""), quote(password)}:
                text = re.sub(rf"{around}{re.escape(form)}{around}", "***", text)
        return text


_databases = weakref.WeakSet()


def _forget_connections():
    """In a forked process: the lines are the parent's, and so may be the locks that its other threads held."""
    for database in list(_databases):
        database._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)


def _parameters(dsn):
    """Connection parameters: those of the DSN over timeouts that notice a dead line or a stuck lock."""
    parameters = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "application_name": "hcreg",
        "client_encoding": "utf8",
        **extensions.parse_dsn(dsn),
    }
    settings = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{STATEMENT_TIMEOUT_S // 2}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    }
    own = " ".join(f"-c {name}={value}" for name, value in settings.items())
    parameters["options"] = f"{own} {parameters.get('options', '')}".strip()
    return parameters


def _run(cursor, statement, values):
    cursor.execute(statement, values or None)
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def _is_starting(error):
    # it is there, but starting, stopping or told to end this very connection
    return any(words in str(error) for words in ("the database system is", "terminating connection"))


def _explained(error, user):
    """The kind of error to raise, and what happened with what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, errors.InsufficientPrivilege):
        return PermissionError, (
            f"the role may not do that ({text}). Let the database's owner run CREATE SCHEMA hcreg AUTHORIZATION "
            f"{user or 'ROLE'}, or, where another role made its tables, connect as that one."
        )
    if isinstance(error, errors.DiskFull):
        return (lambda words: OSError(errno.ENOSPC, words)), f"the database's disk is full ({text}). Free space on it."
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return PermissionError, (
            f"the database takes no writes ({text}). Name the primary server, not a replica; some services also refuse "
            "writes when their disk is full."
        )
    if isinstance(error, (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName)):
        return (
            ValueError,
            f"a table of hcreg is missing or of another version ({text}). Restore it, or name another schema.",
        )
    for words, kind, advice in _CONNECTING:
        if words in text:
            return kind, f"{advice} ({text})"
    if isinstance(error, _PASSING):
        return ConnectionError, f"cannot be reached or broke off ({text}). Check the server, the tunnel and the DSN."
    return ValueError, f"refused a statement ({text})"


_CONNECTING = (
    (
        "password authentication failed",
        PermissionError,
        "the password is wrong or missing. Check the DSN, the environment variable or ~/.pgpass",
    ),
    ("no password supplied", PermissionError, "a password is needed. Put it in the environment variable or ~/.pgpass"),
    (
        "no pg_hba.conf entry",
        PermissionError,
        "the server does not let this role in from here. Try sslmode=require, or ask its owner",
    ),
    ("permission denied for database", PermissionError, "the role may not connect to this database. Ask its owner"),
    ("not permitted to log in", PermissionError, "the role may not log in. Let its owner run ALTER ROLE ... LOGIN"),
    ('FATAL: role "', PermissionError, "the server has no such role. Check the user of the DSN"),
    ('FATAL: database "', ValueError, "the server has no such database. Make it with createdb, or check the DSN"),
    ("could not translate host name", ConnectionError, "there is no host of that name. Check the DSN and the network"),
    ("Connection refused", ConnectionError, "nothing answers there. Does the server run, and the tunnel to it?"),
    ("No such file or directory", ConnectionError, "no server has its socket there. Does it run?"),
    ("timeout expired", ConnectionError, "no answer in time. Check the address, the firewall and the tunnel"),
    ("too many connections for", ConnectionError, "all connections of the role are taken. Ask its owner for more"),
    (
        "too many clients",
        ConnectionError,
        "all its connections are taken. Raise max_connections, or start fewer workers",
    ),
)
