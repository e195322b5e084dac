"""The far network of the benchmarks: late by at least what was asked, whole and in order, cut when told."""

import contextlib
import socket
import threading
import time

import pytest

from experiments.benchmarks.delaying_proxy import DelayingProxy


@pytest.fixture
def echo():
    """Port of a server that sends back what it gets, and ends when told that there is no more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"the end")

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def connected(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def received(connection, num_bytes):
    data = b""
    while len(data) < num_bytes and (chunk := connection.recv(65536)):
        data += chunk
    return data


def ask_in_vain(proxy):
    """Connect and wait for a word; the reset may come at either."""
    with connected(proxy) as connection:
        connection.recv(1)


@pytest.mark.parametrize("round_trip_ms", [0, 60])
def test_every_request_and_the_first_connection_wait_a_round_trip(echo, round_trip_ms):
    with DelayingProxy("127.0.0.1", echo, round_trip_ms) as proxy:
        begin = time.monotonic()
        with connected(proxy) as connection:
            for number in range(3):
                connection.sendall(b"%d" % number)
                assert received(connection, 1) == b"%d" % number
        # one to connect, three to ask
        assert time.monotonic() - begin >= 4 * round_trip_ms / 1000
        assert proxy.num_round_trips == 3


def test_a_delay_costs_time_and_not_throughput(echo):
    sent = bytes(range(256)) * 4 * 4096  # 4 MiB, 64 chunks: one after another they would take 6.4 s
    with DelayingProxy("127.0.0.1", echo, round_trip_ms=100) as proxy, connected(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        assert received(connection, len(sent)) == sent
        sender.join()
        assert proxy.num_bytes == {"forward": len(sent), "backward": len(sent)}
        assert (proxy.num_connections, proxy.num_open) == (1, 1)


def test_the_end_of_one_direction_passes_without_the_other(echo):
    with DelayingProxy("127.0.0.1", echo, round_trip_ms=20) as proxy, connected(proxy) as connection:
        connection.sendall(b"last words, ")
        connection.shutdown(socket.SHUT_WR)
        assert received(connection, 100) == b"last words, the end"


def test_cut_resets_what_is_open_and_new_connections_work(echo):
    with DelayingProxy("127.0.0.1", echo, round_trip_ms=20) as proxy:
        with connected(proxy) as first, connected(proxy) as second:
            for connection in (first, second):
                connection.sendall(b"x")
                assert received(connection, 1) == b"x"
            second.sendall(b"under way")
            assert proxy.cut() == 2
            for connection in (first, second):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
        assert (proxy.num_open, proxy.cut()) == (0, 0)
        with connected(proxy) as third:
            third.sendall(b"y")
            assert received(third, 1) == b"y"
        assert proxy.num_connections == 3


def test_refuse_turns_new_connections_away_and_keeps_old_ones(echo):
    with DelayingProxy("127.0.0.1", echo, round_trip_ms=0) as proxy, connected(proxy) as old:
        old.sendall(b"x")
        assert received(old, 1) == b"x"
        proxy.refuse = True
        with pytest.raises(ConnectionResetError):
            ask_in_vain(proxy)
        assert proxy.num_connections == 1
        old.sendall(b"y")
        assert received(old, 1) == b"y"
        proxy.refuse = False
        with connected(proxy) as new:
            new.sendall(b"z")
            assert received(new, 1) == b"z"


def test_a_server_that_is_away_looks_like_a_lost_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with DelayingProxy("127.0.0.1", port, round_trip_ms=0) as proxy:
        with pytest.raises(ConnectionResetError):
            ask_in_vain(proxy)
        assert proxy.cut() == 0


def test_closed_it_listens_no_more(echo):
    proxy = DelayingProxy("127.0.0.1", echo, round_trip_ms=0)
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        proxy.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.close()


def test_a_round_trip_is_not_negative():
    with pytest.raises(ValueError, match=r"round_trip_ms must be at least 0. Received: -1"):
        DelayingProxy("127.0.0.1", 5432, round_trip_ms=-1)
