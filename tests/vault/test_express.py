"""Webhooks that come in one piece: answered past aiohttp's task, as it would answer them."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import psycopg
import pytest
from aiohttp import web
from deliveries import Commits, rows, sample
from programs import until
from strangers import request
from structlog.testing import capture_logs

from vault import guest, serve, webhook
from vault.app import make_app
from vault.settings import VaultSettings


class Client:
    """One connection to a vault."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def answer(self) -> tuple[bytes, bytes]:
        """Return the next answer's head, less its date, and its body."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 60)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")]
        (length,) = (int(line.partition(b": ")[2]) for line in lines if line.startswith(b"Content-Length: "))
        return b"\r\n".join(lines), await self._reader.readexactly(length)

    async def ask(self, *pieces: bytes) -> tuple[bytes, bytes]:
        """Send a request, with some time between its pieces; return the answer."""
        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(0.05)  # not a wait for anything: two pieces must not become one
        return await self.answer()

    async def hung_up(self) -> bool:
        """Wait until the other end hangs up."""
        return await asyncio.wait_for(self._reader.read(), 60) == b""


class Site:
    """A vault that listens, in this process."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self.runner, self.port = runner, port

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Connect, and wait until the vault has the connection: what is sent before that comes in one piece."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        own = writer.get_extra_info("sockname")
        await until(lambda: any(one.peername == own for one in self.runner.server.connections))
        yield Client(reader, writer)
        writer.transport.abort()


@contextlib.asynccontextmanager
async def listening(settings: VaultSettings) -> AsyncIterator[Site]:
    """Have a vault listen."""
    runner = web.AppRunner(make_app(settings), shutdown_timeout=60)
    await runner.setup()
    server = await serve._listen(runner, runner.app)
    try:
        yield Site(runner, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await runner.cleanup()


@pytest.fixture
async def site(configure: Callable[..., VaultSettings]) -> AsyncIterator[Site]:
    """A vault over the test's database, for small bodies."""
    async with listening(configure(port=0, max_body_bytes=10_000)) as listens:
        yield listens


def fails(*_arguments: Any) -> NoReturn:
    """Stand for what must not be called."""
    raise ValueError("boom")


def connections() -> int:
    """Return how many of aiohttp's tasks there are that wait for requests."""
    return sum("RequestHandler.start" in repr(task.get_coro()) for task in asyncio.all_tasks())


def halves(whole: bytes) -> list[bytes]:
    """Return a request's head and its body."""
    head, end, body = whole.partition(b"\r\n\r\n")
    return [head + end, body]


async def test_each_goes_its_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came in one piece needs no task of aiohttp's, and what did not, or asks for more, has one."""
    whole = request()
    async with site.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(webhook.Receiver, "receive", fails)
            first = await client.ask(whole)
            assert (await client.ask(*halves(request())))[0].startswith(b"HTTP/1.1 500 ")
    assert first[0].startswith(b"HTTP/1.1 200 OK\r\n")
    monkeypatch.setattr(webhook.Receiver, "receive_whole", fails)
    async with site.client() as client:
        assert first == await client.ask(*halves(whole))
    async with site.client() as client:
        assert (await client.ask(request(None, "Connection: close")))[0].startswith(b"HTTP/1.1 200 ")
        assert await client.hung_up()


REFUSED = {
    "empty": lambda: request(b""),
    "forged": lambda: request().replace(b"webhook-signature: v1,", b"webhook-signature: v1,x"),
    "nameless": lambda: request().replace(b"webhook-id", b"webhook-idea"),
    "packed": lambda: request(None, "Content-Encoding: gzip"),
    "large": lambda: request(b'"%s"' % (b"x" * 20_000)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
async def test_both_ways_answer_alike(site: Site, make: Callable[[], bytes]) -> None:
    """A refusal is the same, and the connection stays for the next."""
    sent = make()
    async with site.client() as client:
        quick, slow = await client.ask(sent), await client.ask(*halves(sent))
        assert quick[0].startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 413 ", b"HTTP/1.1 415 "))
        assert (sorted(quick[0].split(b"\r\n")), quick[1]) == (sorted(slow[0].split(b"\r\n")), slow[1])
        assert (await client.ask(request()))[0].startswith(b"HTTP/1.1 200 ")


async def test_in_order(site: Site, database: psycopg.Connection, commits: Commits) -> None:
    """Whatever comes while one is stored waits behind it, in whole and in part, and each is answered once."""
    ids = [f"msg_{number}" for number in range(4)]
    first, second, third, fourth = (request(sample(), f"x-number: {one}") for one in ids)
    async with site.client() as client:
        with commits.held():
            client.writer.write(first)
            await commits.waiting()
            client.writer.write(second + third[:300])
            await asyncio.sleep(0.2)  # not a wait for anything: it must do nothing with them
        answers = [await client.answer(), await client.answer()]
        client.writer.write(third[300:])
        answers.append(await client.answer())
        answers.append(await client.ask(fourth))
    learned = [str(row["id"]).encode() for row in rows(database, "agent_learnings")]
    assert [True] * 4 == [one in body for one, (_, body) in zip(learned, answers, strict=True)]


async def test_who_leaves_has_delivered(site: Site, database: psycopg.Connection, commits: Commits) -> None:
    """A connection that is lost during the commit takes no event along, and leaves no task behind."""
    async with site.client() as client:
        with commits.held():
            client.writer.write(request())
            await commits.waiting()
            assert 1 == connections()
            client.writer.transport.abort()
            await until(lambda: not connections())
    await until(lambda: len(rows(database, "jobs")) == 1)


async def test_the_end_waits_for_what_was_taken(site: Site, commits: Commits) -> None:
    """Who is being stored when the vault ends is answered, and then hung up on; who rests is hung up on at once."""
    async with site.client() as resting, site.client() as client:
        assert (await resting.ask(request()))[0].startswith(b"HTTP/1.1 200 ")
        with commits.held():
            client.writer.write(request())
            await commits.waiting()
            ending = asyncio.create_task(site.runner.cleanup())
            assert await resting.hung_up()
            assert not ending.done()
        assert (await client.answer())[0].startswith(b"HTTP/1.1 200 ")
        assert await client.hung_up()
        await ending


async def test_who_rests_too_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stays idle after its answer is closed in time, and not before."""
    monkeypatch.setattr(guest, "KEPT_ALIVE_S", 4.0)
    async with site.client() as client:
        for _ in range(10):
            assert (await client.ask(request()))[0].startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.5)  # not a wait for anything: longer in all than it may rest
        assert await client.hung_up()


async def test_who_sends_and_never_reads(configure: Callable[..., VaultSettings]) -> None:
    """A connection that goes on sending while its answers are not read is closed in time."""
    async with listening(configure(port=0, header_timeout_s=1)) as site, site.client() as client:
        assert (await client.ask(request()))[0].startswith(b"HTTP/1.1 200 ")
        (connection,) = site.runner.server.connections
        connection.pause_writing()  # as the event loop says when nothing more goes out
        assert (await client.ask(request()))[0].startswith(b"HTTP/1.1 200 ")
        client.writer.write(request())  # to nobody: aiohttp's task waits until more goes out
        assert await client.hung_up()


async def test_lost_with_the_answer(site: Site, commits: Commits) -> None:
    """Who goes away while the answer to one request goes out, and has sent another, leaves no fault behind."""
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["message"]))
    for _ in range(20):
        async with site.client() as client:
            with commits.held():
                client.writer.write(request())
                await commits.waiting()
                client.writer.write(request())
                client.writer.write_eof()
        await until(lambda: not connections())
    gc.collect()
    assert [] == faults


async def test_a_fault_of_ours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong is told with 500, nothing of it leaves the vault, and the connection goes on."""
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(webhook, "read_event", fails)
        async with site.client() as client:
            head, body = await client.ask(request())
    assert (True, b'{"error":"internal server error"}') == (head.startswith(b"HTTP/1.1 500 "), body)
    assert [("http_failed", "ValueError")] == [(log["event"], log["error"]) for log in logs]
