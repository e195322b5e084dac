"""The laboratory's server: passwords asked for, the same port over restarts, data kept, nothing left behind."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psycopg2
import pytest

from experiments.benchmarks.delaying_proxy import DelayingProxy
from experiments.benchmarks.postgres_server import PostgresServer
from hcreg.tuning.server_programs import installations

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def server():
    with PostgresServer(settings={"max_connections": "12", "fsync": "off"}) as server:
        yield server


@pytest.mark.parametrize("version", [16, 18])
def test_it_runs_the_version_that_is_asked_for(version):
    if version not in installations():
        pytest.skip(f"the wheel has no PostgreSQL {version}")
    with PostgresServer(version, {"fsync": "off"}) as server:
        assert server.sql("SHOW server_version_num")[0][0].startswith(str(version))
        assert repr(server) == f"PostgresServer(version={version}, port={server.port})"
        folder = server.folder
    assert not folder.exists()
    server.remove()


def test_passwords_are_asked_for(server):
    server.sql("CREATE ROLE ada LOGIN PASSWORD 'p@ss/word'", "CREATE DATABASE lab OWNER ada")
    connection = psycopg2.connect(server.dsn("ada", "p@ss/word", "lab"))
    assert connection.info.dsn_parameters["host"] == "127.0.0.1"
    connection.close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(server.dsn("ada", "wrong", "lab"))
    rules = server.sql("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert rules == [("scram-sha-256",)]
    assert server.sql("SHOW listen_addresses") == [("127.0.0.1",)]
    assert server.sql("SHOW max_connections") == [("12",)]
    assert stat.S_IMODE((server.folder / "data").stat().st_mode) == 0o700


def test_stopped_restarted_and_killed_it_keeps_port_and_data(server):
    server.sql("CREATE TABLE kept (number int)", "INSERT INTO kept VALUES (1)")
    port = server.port
    server.stop()
    assert server.processes() == []
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(server.dsn())
    server.start()
    server.restart()
    server.sql("INSERT INTO kept VALUES (2)")
    assert len(server.processes()) > 3
    server.kill()
    assert server.processes() == []
    server.start()
    assert server.sql("SELECT number FROM kept ORDER BY number") == [(1,), (2,)]
    assert "not properly shut down" in server.log()
    assert server.port == port


def test_it_is_reached_through_a_far_network(server):
    with DelayingProxy("127.0.0.1", server.port, round_trip_ms=20) as proxy:
        connection = psycopg2.connect(server.dsn(port=proxy.port))
        before = proxy.num_round_trips
        with connection.cursor() as cursor:
            begin = time.monotonic()
            cursor.execute("SELECT 6 * 7")  # BEGIN and it: two round trips
            assert time.monotonic() - begin >= 0.04
            assert cursor.fetchone() == (42,)
            assert proxy.num_round_trips - before == 2
            proxy.cut()
            with pytest.raises(psycopg2.OperationalError):
                cursor.execute("SELECT 1")
        connection.close()


def test_a_server_that_does_not_start_says_why(server):
    server.stop()
    server.settings["shared_buffers"] = "much"
    with pytest.raises(OSError, match=r'(?s)did not start.*invalid value for parameter "shared_buffers": "much"'):
        server.start()
    del server.settings["shared_buffers"]
    server.start()


def test_a_killed_benchmark_leaves_no_server():
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from experiments.benchmarks.postgres_server import PostgresServer
        server = PostgresServer()
        print(server.dsn(), server.folder, flush=True)
        sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(ROOT)]
    benchmark = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    dsn, folder = benchmark.stdout.readline().split()
    psycopg2.connect(dsn).close()
    os.kill(benchmark.pid, signal.SIGKILL)
    benchmark.communicate()
    end = time.monotonic() + 30
    while True:
        try:
            psycopg2.connect(dsn).close()
        except psycopg2.OperationalError as error:
            if "refused" in str(error):
                break
        assert time.monotonic() < end
        time.sleep(0.05)
    subprocess.run(["rm", "-r", folder], check=True)
