"""What ``--database`` of ``hcreg tune`` and ``hcreg trials`` stands for; a password is never printed."""

import os
import re
import sys
from pathlib import Path

from hcreg.tuning.database import DATABASE_VARIABLE

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WITHOUT_PASSWORD = (
    "note: the password in --database can be read by everyone on this machine, in the list of processes, and stays in "
    "the shell's history. Put the DSN into an environment variable and give its name (--database NAME, or set "
    f"{DATABASE_VARIABLE}), or leave the password out and keep it in ~/.pgpass."
)


def database_of(given, folder, *, may_make=False):
    """The database that an option names.

    Parameters
    ----------
    given : str or None
        As of the option.
    folder : path-like
        Where the embedded server is, should nothing else be named.
    may_make : bool
        Whether the embedded server may be made there, or must exist.

    Returns
    -------
    str or callable
        For ``database=`` of `hcreg.tuning`.

    Raises
    ------
    ValueError
        If the option stands for nothing that there is, or nothing was named and there is no embedded server.
    """
    if given is None:
        if DATABASE_VARIABLE in os.environ:
            return DATABASE_VARIABLE
        if not may_make and not Path(folder).is_dir():
            raise ValueError(
                "there is no database to look into: neither --database nor the environment variable "
                f"{DATABASE_VARIABLE} is given, and {folder} holds no embedded server. Start a search with hcreg tune, "
                "call this from the folder it was started in, or name its database."
            )
        return _embedded(folder)
    if "://" in given or "=" in given:
        if holds_password(given):
            print(_WITHOUT_PASSWORD, file=sys.stderr)
        return given
    if given in os.environ:
        return given
    if Path(given).is_dir():
        return _embedded(given)
    # anything else may be a mistyped DSN with a password in it: only what looks like a plain name is repeated
    is_plain = _VARIABLE_NAME.fullmatch(given) or re.fullmatch(r"[\w./-]+", given)
    raise ValueError(
        "--database takes the name of an environment variable that is set to a DSN, a DSN such as "
        "postgresql://user@host/name, or the folder of an embedded server. "
        + (f"There is no variable or folder {given!r}." if is_plain else "What was given is none of them.")
    )


def _embedded(folder):
    from hcreg.tuning.server import embedded_database

    return embedded_database(folder)


def holds_password(given):
    """Whether an option holds a password, or may.

    Parameters
    ----------
    given : str
        As of the option.

    Returns
    -------
    bool
    """
    from hcreg.tuning.libpq import extensions, psycopg2

    if "://" not in given and "=" not in given:
        return False
    try:
        return "password" in extensions.parse_dsn(given)
    except psycopg2.ProgrammingError:
        return True  # what it is cannot be told; whoever opens it says that it is no DSN
