"""The vault as a process, under clients that are slow, many or silent: an honest delivery gets in all the same."""

import asyncio
import itertools
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from deliveries import KEY, SECRET, Commits, rows, sample, say
from programs import Program, run, until
from strangers import CLOSING, connections, drip, hung_up, request

Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Start:
    """Run a vault with settings of the test's own."""
    config = tmp_path / "vault.toml"
    config.touch()
    usual = {
        "DATABASE_URL": dsn,
        "COMPOSIO_WEBHOOK_SECRET": SECRET,
        "AGENT_EDGE_KEY": KEY,
        "VAULT_PORT": "0",
        "VAULT_CONFIG": str(config),
    }

    def vault(**settings: Any) -> AbstractAsyncContextManager[Program]:
        env = usual | {f"VAULT_{name.upper()}": str(value) for name, value in settings.items()}
        return run("vault", "serve", env=env, home=tmp_path)

    return vault


async def port_of(program: Program) -> int:
    """Return the port on which it listens."""
    return int((await program.event("vault_listening"))["port"])


async def deliver(port: int) -> bytes:
    """Send an honest delivery on a connection of its own, and return the line of its answer."""
    return (await say(port, request(None, CLOSING))).partition(b"\r\n")[0]


@pytest.fixture
def many_files() -> AsyncIterator[None]:
    """Let this process hold as many connections as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"this system lets a process open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "first", [b"", b"POST /agent-vault/compo", request(b"x" * 9)[:-3]], ids=["silent", "head", "body"]
)
@pytest.mark.usefixtures("many_files")
async def test_two_thousand_connections(start: Start, first: bytes) -> None:
    """Who holds 2,000 connections open, wherever in a request, keeps no honest delivery out, now or later."""
    async with start(header_timeout_s=600, body_timeout_s=600) as program:
        port = await port_of(program)
        async with connections(port, 2000, first):
            answers = [await deliver(port) for _ in range(5)]
            assert [b"HTTP/1.1 200 OK"] * 5 == answers
            assert len(psutil.Process(program.process.pid).net_connections()) < 600
            await program.event("connections_full", limit=500)
        assert 0 == await program.stop()


async def test_who_is_answered_stays(start: Start, database: psycopg.Connection) -> None:
    """A delivery that waits for its commit is not closed for any number of newcomers."""
    commits = Commits(database)
    async with start(max_connections=10) as program:
        port = await port_of(program)
        with commits.held():
            honest = asyncio.create_task(deliver(port))
            await commits.waiting()
            async with connections(port, 50) as strangers:
                await hung_up(strangers[0][0])
                assert not honest.done()
        assert b"HTTP/1.1 200 OK" == await honest


async def test_the_oldest_goes_first(start: Start) -> None:
    """Of those who keep it waiting, the one goes that has done so the longest; an answer begins a new wait."""
    async with start(max_connections=10) as program:
        port = await port_of(program)
        async with connections(port, 10) as strangers:
            first, second = strangers[:2]
            first[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 200 OK\r\n" == await first[0].readline()
            async with connections(port, 1):
                assert b"" == await hung_up(second[0])
                first[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                await first[0].readuntil(b"HTTP/1.1 200 OK\r\n")


async def test_dripping_head(start: Start) -> None:
    """A head that comes byte by byte is not waited for, on the first request or on a later one."""
    head = (b"%c" % byte for byte in itertools.cycle(b"X-More: x\r\n"))
    async with start(header_timeout_s=0.5) as program:
        port = await port_of(program)
        for before in (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"):
            async with connections(port, 1, before) as ((reader, writer),):
                dripping = asyncio.create_task(drip(writer, itertools.chain([b"GET / HTTP/1.1\r\n"], head)))
                assert bool(before) == (await hung_up(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
                await dripping
        assert b"HTTP/1.1 200 OK" == await deliver(port)


async def test_silent_connection(start: Start) -> None:
    """A connection on which nothing is said is closed."""
    async with start(header_timeout_s=0.2) as program, connections(await port_of(program), 1) as ((reader, _),):
        assert b"" == await hung_up(reader)


async def test_kept_alive(start: Start) -> None:
    """A connection that was answered may rest for longer than a head may take, as those of proxies do."""
    async with start(header_timeout_s=0.2) as program, connections(await port_of(program), 2) as (kept, silent):
        for _ in range(2):
            kept[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await kept[0].readuntil(b'{"ok": true}')
            await hung_up(silent[0])  # by now a head would be late


@pytest.mark.parametrize("how", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_dripping_body(start: Start, database: psycopg.Connection, how: str) -> None:
    """A body that comes byte by byte is given up after its time, and nothing is stored."""
    piece = b"1\r\nx\r\n" if how.endswith("chunked") else b"x"
    async with start(body_timeout_s=0.5) as program:
        port = await port_of(program)
        async with connections(port, 1, request(b"", how)) as ((reader, writer),):
            dripping = asyncio.create_task(drip(writer, itertools.repeat(piece)))
            assert (await hung_up(reader)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            await dripping
        await program.event("webhook_refused", reason="request_timeout")
        assert [] == rows(database, "agent_learnings")


async def test_bodies_under_way_have_a_limit_in_all(start: Start) -> None:
    """Bodies that never end fill no memory: the one that began first is dropped, and an honest delivery gets in."""
    limit = 100_000
    body = request(b"x" * limit)[:-1]
    async with start(max_body_bytes=limit) as program:
        port = await port_of(program)
        async with connections(port, 12, body) as strangers:
            await asyncio.gather(*(hung_up(reader) for reader, _ in strangers[:4]))
            await program.event("bodies_full", limit_bytes=8 * limit)
            assert b"HTTP/1.1 200 OK" == await deliver(port)


async def test_answers_that_nobody_reads(start: Start) -> None:
    """Who sends requests and reads no answer neither fills the memory nor keeps anybody out."""
    async with start(max_connections=10) as program:
        port = await port_of(program)
        process = psutil.Process(program.process.pid)
        before = process.memory_info().rss
        async with connections(port, 5) as strangers:
            asks = [
                asyncio.create_task(drip(writer, [b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 600_000]))
                for _, writer in strangers
            ]
            await until(
                lambda: all(writer.transport.get_write_buffer_size() for _, writer in strangers), "full buffers"
            )
            async with connections(port, 10):
                assert b"HTTP/1.1 200 OK" == await deliver(port)
            assert process.memory_info().rss - before < 64 * 1024 * 1024
            for ask in asks:
                ask.cancel()


async def test_memory_of_a_large_body(start: Start, database: psycopg.Connection) -> None:
    """A body costs less than four times its size while it is stored."""
    size = 8 * 1024 * 1024
    body = sample().replace(b'"data":{', b'"data":{"x":"%s",' % (b"x" * size))
    async with start() as program:
        port = await port_of(program)
        assert b"HTTP/1.1 200 OK" == await deliver(port)
        status = Path(f"/proc/{program.process.pid}/status")
        if not status.exists():
            pytest.skip("only Linux tells the most memory that a process had")
        before = peak(status)
        answer = await say(port, request(body, CLOSING))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(rows(database, "jobs")) == 2
        assert peak(status) - before < 4 * size


def peak(status: Path) -> int:
    """Return the most memory that a process ever had, in bytes."""
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
