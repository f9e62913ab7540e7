"""A TCP proxy before Postgres: slow, swallowing, stalled or resetting, as the test says."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK_BYTES = 64 * 1024

Toward = Literal["server", "client"]


@dataclass(eq=False, slots=True)
class Stall:
    """A point of one direction's stream at which its bytes wait: after so many, or before those that hold a mark."""

    toward: Toward
    after_bytes: int | None = None
    at: bytes | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _tail: bytes = b""

    def passing(self, chunk: bytes) -> int:
        """Return how many bytes of the next chunk still pass."""
        if self.released.is_set():
            return len(chunk)
        if self.reached.is_set():
            return 0
        passing = self._until_mark(chunk) if self.at else self._until_count(chunk)
        if passing < len(chunk):
            self.reached.set()
        return passing

    def release(self) -> None:
        """Let everything through, also what waited."""
        self.released.set()

    def _until_mark(self, chunk: bytes) -> int:
        # a mark may lie across two chunks; then the second alone is held
        seen = self._tail + chunk
        found = seen.find(self.at) >= 0
        self._tail = seen[-len(self.at) :]
        return 0 if found else len(chunk)

    def _until_count(self, chunk: bytes) -> int:
        passing = min(len(chunk), self.after_bytes or 0)
        self.after_bytes = (self.after_bytes or 0) - passing
        return passing


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, *, dead: bool) -> None:
        self.proxy = proxy
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.dead = dead
        self.bytes = {"server": 0, "client": 0}

    async def run(self, from_client: asyncio.StreamReader) -> None:
        """Relay until one end hangs up; a dead link reads on and keeps both sockets open."""
        if self.dead:
            await self._swallow(from_client)
            return
        from_server, self.server = await self.proxy.connect()
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._pump(from_client, self.server, "server"))
            pumps.create_task(self._pump(from_server, self.client, "client"))

    def reset(self) -> None:
        """End it with a RST to the client, at once."""
        with contextlib.suppress(OSError):
            self.client.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.close()

    def close(self) -> None:
        """Hang up at both ends."""
        for end in (self.client, self.server):
            if end is not None:
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, toward: Toward) -> None:
        delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write(delayed, sink, toward))
            while chunk := await _read(source):
                if not self.dead:
                    delayed.put_nowait((asyncio.get_running_loop().time() + self.proxy.delay_s, chunk))
            delayed.put_nowait((asyncio.get_running_loop().time() + self.proxy.delay_s, b""))

    async def _write(
        self, delayed: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter, toward: Toward
    ) -> None:
        while True:
            due, chunk = await delayed.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if not chunk:
                if not self.dead:
                    sink.close()
                return
            await self._forward(chunk, sink, toward)

    async def _forward(self, chunk: bytes, sink: asyncio.StreamWriter, toward: Toward) -> None:
        for stall in [one for one in self.proxy.stalls if one.toward == toward]:
            passing = stall.passing(chunk)
            if passing < len(chunk):
                await self._send(chunk[:passing], sink, toward)
                chunk = chunk[passing:]
                await stall.released.wait()
        await self._send(chunk, sink, toward)

    async def _send(self, chunk: bytes, sink: asyncio.StreamWriter, toward: Toward) -> None:
        if chunk and not self.dead:
            self.bytes[toward] += len(chunk)
            with contextlib.suppress(OSError):
                sink.write(chunk)
                await sink.drain()

    async def _swallow(self, source: asyncio.StreamReader) -> None:
        while await _read(source):
            pass
        await self.proxy.ended.wait()


class Proxy:
    """Relays to a server; every fault is a method or a number that may change at any time."""

    def __init__(self, dsn: str) -> None:
        """Take where the server is; `dsn` leads through the proxy once it runs."""
        known = conninfo_to_dict(dsn)
        self._host, self._port = str(known.get("host", "127.0.0.1")), int(known.get("port", 5432))
        self._upstream = dsn
        self.dsn = ""
        self.delay_s = 0.0
        self.links: list[Link] = []
        self.stalls: list[Stall] = []
        self.ended = asyncio.Event()
        self.accepted = 0
        self._swallows_new = False
        self._refuses = False

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the server behind."""
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)

    def blackhole(self, *, new: bool = True) -> None:
        """Swallow what comes on every open connection, for ever, both ways; sockets stay open.

        With `new`, the connections to come are accepted and swallowed too, until `heal()`.
        """
        self._swallows_new = new
        for link in self.links:
            link.dead = True

    def refuse(self) -> None:
        """Reset every connection, those to come too, until `heal()`."""
        self._refuses = True
        self.reset()

    def heal(self) -> None:
        """Let new connections work; those that were swallowed stay dead, as after a change of networks."""
        self._swallows_new = self._refuses = False

    def reset(self) -> None:
        """Reset the open connections."""
        for link in self.links:
            link.reset()

    def stall(self, toward: Toward, *, after_bytes: int | None = None, at: bytes | None = None) -> Stall:
        """Hold back one direction of all connections: after so many more bytes, or from a mark on."""
        one = Stall(toward, after_bytes=after_bytes, at=at)
        self.stalls.append(one)
        return one

    def release(self) -> None:
        """End all stalls; what waited goes on."""
        for stall in self.stalls:
            stall.release()
        self.stalls.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.accepted += 1
        link = Link(self, writer, dead=self._swallows_new)
        if self._refuses:
            link.reset()
            return
        self.links.append(link)
        try:
            await link.run(reader)
        except* OSError:  # one of its ends is gone
            pass
        finally:
            self.links.remove(link)
            link.close()


@contextlib.asynccontextmanager
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    """Run a proxy before the server of a DSN; the block gets it, and its `dsn` leads through it."""
    one = Proxy(dsn)
    server = await asyncio.start_server(one.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    one.dsn = make_conninfo(dsn, host="127.0.0.1", port=port)
    try:
        yield one
    finally:
        server.close()
        one.ended.set()
        one.release()
        for link in list(one.links):
            link.close()
        await asyncio.wait_for(_gone(one), 30)


async def _gone(one: Proxy) -> None:
    while one.links:
        await asyncio.sleep(0.01)


async def _read(source: asyncio.StreamReader) -> bytes:
    try:
        return await source.read(CHUNK_BYTES)
    except OSError:
        return b""
