"""An encrypted connection does not end the process where TensorFlow was loaded first."""

import subprocess
import sys
from pathlib import Path

import pytest

import hcreg

# A server that agrees to TLS and then hangs up: far enough for the client to set TLS up, where it would crash.
SCRIPT = """
import socket, threading
import tensorflow
from hcreg.tuning.database import Database

listener = socket.create_server(("127.0.0.1", 0))
def answer():
    line, _ = listener.accept()
    line.recv(8)
    line.sendall(b"S")
    line.recv(4096)
    line.close()
threading.Thread(target=answer, daemon=True).start()
try:
    Database(f"host=127.0.0.1 port={listener.getsockname()[1]} user=x dbname=x sslmode=require").query("SELECT 1")
except ConnectionError as error:
    print("refused in words:", error)
"""


@pytest.mark.slow
def test_tls_after_tensorflow_does_not_crash():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(hcreg.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert "refused in words: database 'x' of role 'x' at 127.0.0.1:" in done.stdout


def test_nothing_of_hcreg_imports_psycopg2_past_it():
    root = Path(hcreg.__file__).parent
    for path in root.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if line.strip().startswith(("import psycopg2", "from psycopg2"))]
        assert not found or path.name == "libpq.py", path
