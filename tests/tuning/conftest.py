"""PostgreSQL servers for the tests: an embedded one with a fresh database for each test, and others on 127.0.0.1."""

import contextlib
import itertools
import os
import secrets
import tempfile
from urllib.parse import quote, urlsplit

import pytest


def pytest_collection_modifyitems(items):
    """Tests that use a server are marked `postgres`."""
    for item in items:
        if {"postgres_server", "database", "tcp_server", "make_tcp_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def postgres_server():
    """A callable that gives the DSN of the tests' server: HCREG_TEST_DATABASE where set, else an embedded one."""
    named = os.environ.get("HCREG_TEST_DATABASE")
    if named:
        yield lambda: named
        return
    from hcreg.tuning import server

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hcreg-tests-") as folder:
        patch.setitem(server.SETTINGS, "fsync", "off")  # no power cut worth guarding against
        with server.embedded_database(folder) as database:
            yield database


_numbers = itertools.count(1)


@pytest.fixture
def database(postgres_server):
    """DSN of a fresh, empty database, dropped after the test with whoever is still connected."""
    name = f"hcreg_test_{os.getpid()}_{secrets.token_hex(3)}_{next(_numbers)}"
    server = postgres_server()
    with _superuser(server) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    yield _with_database(server, name)
    with _superuser(postgres_server()) as cursor:
        # since PostgreSQL 13 there is DROP DATABASE ... WITH (FORCE); the tests' server may be older
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def make_tcp_server():
    """Builder of servers on 127.0.0.1 with passwords (`PostgresServer`), removed after the module's tests."""
    from experiments.benchmarks.postgres_server import PostgresServer

    with contextlib.ExitStack() as stack:

        def make(version=None, **settings):
            return stack.enter_context(PostgresServer(version, {"fsync": "off", **settings}))

        yield make


@pytest.fixture(scope="module")
def tcp_server(make_tcp_server, request):
    """One such server for the module, of the newest version; `indirect` parameters name another, 16 or 18."""
    return make_tcp_server(getattr(request, "param", None))


@contextlib.contextmanager
def _superuser(dsn):
    import psycopg2

    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _with_database(dsn, name):
    """The same server's address with another database."""
    if "://" in dsn:
        parts = urlsplit(dsn)
        return f"{parts.scheme}://{parts.netloc}/{quote(name)}?{parts.query}"
    from psycopg2.extensions import make_dsn

    return make_dsn(dsn, dbname=name)
