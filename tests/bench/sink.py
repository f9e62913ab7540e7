"""The stand-in gateway of the bench: a process that answers at once and keeps when each wake came.

Times are `time.perf_counter`'s, whose clock all processes of a machine share. Whoever measures opens a connection to
the tap, writes a number and a line's end, reads `ready`, and after so many wakes one line with their times.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.loops import run
from bench.stage import module

OK = b'{"ok":true,"mode":"now","eventOutcome":"queued"}'
WAIT_S = 600.0


class Receipts:
    """Counts wakes for whoever waits for so many."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.due = 0
        self.there = asyncio.Event()

    def came(self) -> None:
        """Keep the time of a wake."""
        now = time.perf_counter()
        if self.due:
            self.times.append(now)
            if len(self.times) == self.due:
                self.there.set()

    async def tap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one who measures."""
        while asked := await reader.readline():
            self.times, self.due = [], int(asked)
            self.there.clear()
            writer.write(b"ready\n")
            await self.there.wait()
            writer.write(json.dumps(self.times).encode() + b"\n")
            self.due = 0
        writer.close()


class Hooks(asyncio.Protocol):
    """One connection of a client: requests one after the other, each with a Content-Length."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            whole = end + 4 + int(length or 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /readyz"):
            status, answer = b"200 OK", b'{"ready":true,"failing":[],"uptimeMs":3600000}'
        elif b'"text"' in body:
            self._receipts.came()
            status, answer = b"200 OK", OK
        else:  # a probe
            status, answer = b"400 Bad Request", b"text required"
        closes = b"connection: close" in head
        kept = b"close" if closes else b"keep-alive"
        self._transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s"
            % (status, len(answer), kept, answer)
        )
        if closes:
            self._transport.close()


async def serve() -> None:
    """Serve until the process is ended."""
    receipts = Receipts()
    hooks = await asyncio.get_running_loop().create_server(lambda: Hooks(receipts), "127.0.0.1", 0, backlog=1024)
    tap = await asyncio.start_server(receipts.tap, "127.0.0.1", 0)
    ports = [one.sockets[0].getsockname()[1] for one in (hooks, tap)]
    print("ports", *ports, flush=True)
    await asyncio.Event().wait()


class Sink:
    """The running gateway, as the one who measures sees it."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._reader = reader
        self._writer = writer

    async def expect(self, count: int) -> None:
        """Begin to count."""
        self._writer.write(b"%d\n" % count)
        await self._reader.readline()

    async def receipts(self) -> list[float]:
        """Return the times of the wakes that were expected, once all are there."""
        return [float(one) for one in json.loads(await asyncio.wait_for(self._reader.readline(), WAIT_S))]


@contextlib.asynccontextmanager
async def sink(home: Path) -> AsyncIterator[Sink]:
    """Run one."""
    async with module("bench.sink", home=home) as running:
        _, port, tap = (await running.line("ports")).split()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(tap), limit=64 * 1024 * 1024)
        try:
            yield Sink(int(port), reader, writer)
        finally:
            writer.close()


if __name__ == "__main__":
    run(serve())
