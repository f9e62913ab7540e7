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
LIMIT_S = 60.0

Toward = Literal["server", "client"]


@dataclass(eq=False, slots=True)
class Stall:
    """A point in one direction of one connection at which its bytes wait: whichever connection comes to it first.

    That is after so many bytes, or at bytes that hold a mark. With `answers` the mark itself passes, and what comes
    back after it waits.
    """

    toward: Toward
    after_bytes: int = 0
    at: bytes = b""
    answers: bool = False
    link: "Link | None" = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _tails: dict["Link", bytes] = field(default_factory=dict)

    def passing(self, link: "Link", chunk: bytes, toward: Toward) -> int:
        """Return how many bytes of a connection's next chunk pass."""
        if self.link is None and toward == self.toward and not self.released.is_set():
            return self._look(link, chunk)
        held = self._held_direction() if self.link is link and not self.released.is_set() else None
        return 0 if held == toward else len(chunk)

    async def comes(self) -> None:
        """Wait until it is reached."""
        await asyncio.wait_for(self.reached.wait(), LIMIT_S)

    def release(self) -> None:
        """Let everything through, also what waited."""
        self.released.set()

    def _held_direction(self) -> Toward:
        return "client" if self.answers else self.toward

    def _look(self, link: "Link", chunk: bytes) -> int:
        passing = self._until_mark(link, chunk) if self.at else min(len(chunk), self.after_bytes)
        if not self.at:
            self.after_bytes -= passing
        if passing < len(chunk):
            self.link = link
            self.reached.set()
            return len(chunk) if self.answers else passing
        return passing

    def _until_mark(self, link: "Link", chunk: bytes) -> int:
        # a mark may lie across two chunks; then the second alone is held
        seen = self._tails.get(link, b"") + chunk
        self._tails[link] = seen[-len(self.at) :]
        return 0 if self.at in seen else len(chunk)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, *, dead: bool) -> None:
        self.proxy = proxy
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.dead = dead
        self.bytes = {"server": 0, "client": 0}
        self.statements = 0  # libpq sends each in one piece

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
        for stall in list(self.proxy.stalls):
            passing = stall.passing(self, chunk, toward)
            if passing < len(chunk):
                await self._send(chunk[:passing], sink, toward)
                chunk = chunk[passing:]
                await stall.released.wait()
        await self._send(chunk, sink, toward)

    async def _send(self, chunk: bytes, sink: asyncio.StreamWriter, toward: Toward) -> None:
        if chunk and not self.dead:
            self.bytes[toward] += len(chunk)
            self.statements += toward == "server"
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

    def stall(self, toward: Toward, *, after_bytes: int = 0, at: bytes = b"", answers: bool = False) -> Stall:
        """Hold back one direction of whichever connection comes first to this point; see Stall."""
        one = Stall(toward, after_bytes, at, answers)
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
