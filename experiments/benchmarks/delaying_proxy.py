"""A far network on loopback: a proxy that holds back what goes through it, and cuts it off on demand."""

import asyncio
import contextlib
import socket
import struct
import threading

CHUNK_BYTES = 2**16
FORWARD, BACKWARD = "forward", "backward"


class DelayingProxy:
    """Pass TCP connections on to a server, every chunk half a round trip later, in a thread of its own.

    Chunks keep their order and do not wait for one another, as on a long line: a delay costs time, not throughput.
    Opening a connection costs the round trip that the network's handshake would.

    Parameters
    ----------
    host : str
    port : int
        Of the server.
    round_trip_ms : float
        Added to every request with its answer.

    Attributes
    ----------
    port : int
        Where to connect, on 127.0.0.1.
    round_trip_ms : float
        May be changed while connections are open.
    refuse : bool
        Whether new connections are closed at once, as a tunnel does whose far end is gone.
    num_connections, num_open : int
        Accepted since the beginning, those refused not counted; open now.
    num_bytes : dict of str to int
        Passed ``"forward"``, to the server, and ``"backward"``.
    num_round_trips : int
        How often the direction turned from forward to backward: the answers that somebody waited for.

    Examples
    --------
    >>> with DelayingProxy("127.0.0.1", 5432, round_trip_ms=150) as proxy:
    ...     proxy.num_connections
    0
    """

    def __init__(self, host, port, round_trip_ms=150.0):
        if not round_trip_ms >= 0:
            raise ValueError(f"round_trip_ms must be at least 0. Received: {round_trip_ms}")
        self._target = (host, port)
        self.round_trip_ms = round_trip_ms
        self.refuse = False
        self.num_connections = self.num_round_trips = 0
        self.num_bytes = {FORWARD: 0, BACKWARD: 0}
        self._open = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="delaying proxy", daemon=True)
        self._thread.start()
        started.wait()

    @property
    def num_open(self):
        return len(self._open)

    def cut(self):
        """Cut all connections at once, what is under way with them; both ends see a reset.

        Returns
        -------
        int
            How many there were.
        """
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def close(self):
        """Cut all connections and listen no more."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _run(self, started):
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    async def _end(self):
        self._server.close()
        await self._cut()

    async def _cut(self):
        links = list(self._open)
        for task in links:
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        return len(links)

    async def _accept(self, reader, writer):
        if self.refuse:
            _reset(writer)
            return
        self.num_connections += 1
        task = asyncio.current_task()
        self._open.add(task)
        try:
            await self._link(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)  # the server is away, an end is gone, or we were told to cut
        finally:
            self._open.discard(task)
            writer.close()

    async def _link(self, reader, writer):
        await asyncio.sleep(self.round_trip_ms / 1000)
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        link = _Link()
        pumps = [
            asyncio.create_task(self._pump(reader, server_writer, FORWARD, link)),
            asyncio.create_task(self._pump(server_reader, writer, BACKWARD, link)),
        ]
        try:
            # a half-closed connection still passes the other way; an error ends both
            await asyncio.gather(*pumps)
        except BaseException:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _reset(server_writer)
            raise
        finally:
            server_writer.close()

    async def _pump(self, reader, writer, direction, link):
        queue = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(queue, writer, direction, link))
        try:
            while True:
                data = await reader.read(CHUNK_BYTES)
                queue.put_nowait((self._loop.time() + self.round_trip_ms / 2000, data))
                if not data or delivery.done():
                    break
            await delivery
        finally:
            delivery.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await delivery

    async def _deliver(self, queue, writer, direction, link):
        while True:
            due, data = await queue.get()
            # the loop wakes a clock tick early: a delay shall be at least what was asked
            while (left := due - self._loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                writer.write_eof()
                return
            self.num_bytes[direction] += len(data)
            if direction == BACKWARD and link.last == FORWARD:
                self.num_round_trips += 1
            link.last = direction
            writer.write(data)
            await writer.drain()


def _reset(writer):
    """End a connection with a reset, not with an orderly end: as when a network fails."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Link:
    """Direction of what last went through one connection."""

    last = None
