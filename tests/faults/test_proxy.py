"""The fault tools do what they say, seen from both ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
from programs import until
from psycopg.conninfo import conninfo_to_dict

from faults.pooler import pooler
from faults.postgres import crashable
from faults.proxy import Proxy, proxy

pytestmark = pytest.mark.faults


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1024):
                writer.write(chunk)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def wire() -> AsyncIterator[Proxy]:
    """A proxy before an echo."""
    async with echo() as port, proxy(f"host=127.0.0.1 port={port}") as one:
        yield one


Call = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def call(wire: Proxy) -> AsyncIterator[Call]:
    """Opens connections through the proxy."""
    writers = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int(str(conninfo_to_dict(wire.dsn)["port"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def silent(reader: asyncio.StreamReader) -> bool:
    """Tell that nothing comes, and the connection stays open."""
    try:
        async with asyncio.timeout(0.2):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_it_relays(wire: Proxy, call: Call) -> None:
    """What goes in comes back, and a hang-up goes through."""
    reader, writer = await call()
    writer.write(b"hello")
    assert b"hello" == await reader.readexactly(5)
    writer.write_eof()
    assert b"" == await reader.read()
    await until(lambda: not wire.links)


async def test_it_delays_each_way(wire: Proxy, call: Call) -> None:
    """A round trip takes at least twice the delay, and bytes keep their order."""
    wire.delay_s = 0.1
    reader, writer = await call()
    began = asyncio.get_running_loop().time()
    writer.write(b"one")
    await asyncio.sleep(0)
    writer.write(b"two")
    assert b"onetwo" == await reader.readexactly(6)
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_blackhole_swallows_for_ever(wire: Proxy, call: Call) -> None:
    """Open connections stay open and silent, after the cure too; new ones are silent only until then."""
    old_reader, old_writer = await call()
    await until(lambda: wire.links)
    wire.blackhole()
    new_reader, new_writer = await call()
    for reader, writer in ((old_reader, old_writer), (new_reader, new_writer)):
        writer.write(b"x")
        assert await silent(reader)
    wire.heal()
    old_writer.write(b"x")
    assert await silent(old_reader)
    reader, writer = await call()
    writer.write(b"x")
    assert b"x" == await reader.readexactly(1)


async def test_a_reset_is_an_error_at_the_client(wire: Proxy, call: Call) -> None:
    """The client's read fails; a refusing proxy does that to new connections too."""
    reader, _ = await call()
    await until(lambda: wire.links)
    wire.refuse()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    again, _ = await call()
    with pytest.raises(ConnectionResetError):
        await again.read()


async def test_it_stalls_after_so_many_bytes(wire: Proxy, call: Call) -> None:
    """The first bytes pass, the rest waits for the release."""
    stall = wire.stall("client", after_bytes=3)
    reader, writer = await call()
    writer.write(b"hello")
    assert b"hel" == await reader.readexactly(3)
    await stall.comes()
    assert await silent(reader)
    wire.release()
    assert b"lo" == await reader.readexactly(2)


async def test_it_stalls_at_a_mark(wire: Proxy, call: Call) -> None:
    """The bytes that hold the mark do not arrive, also when it comes in two pieces."""
    stall = wire.stall("server", at=b"mark")
    reader, writer = await call()
    writer.write(b"before")
    assert b"before" == await reader.readexactly(6)
    writer.write(b"ma")
    await reader.readexactly(2)
    writer.write(b"rk")
    await stall.comes()
    assert await silent(reader)
    wire.release()
    assert b"rk" == await reader.readexactly(2)


async def test_it_stalls_the_answers_to_a_mark(wire: Proxy, call: Call) -> None:
    """The marked bytes arrive, what comes back waits, and another connection is not touched."""
    stall = wire.stall("server", at=b"mark", answers=True)
    reader, writer = await call()
    other_reader, other_writer = await call()
    writer.write(b"mark")
    await stall.comes()
    assert await silent(reader)
    other_writer.write(b"mark")
    assert b"mark" == await other_reader.readexactly(4)
    wire.release()
    assert b"mark" == await reader.readexactly(4)


@pytest.mark.parametrize("crash", ["immediate", "kill"])
async def test_a_crashed_server_comes_back_with_what_it_committed(crash: str) -> None:
    """Both ways to crash it break the connections; a start recovers."""
    with crashable() as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("create table kept (x int)")
            getattr(server, crash)()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        server.start()
        with psycopg.connect(server.dsn) as connection:
            assert [] == connection.execute("select x from kept").fetchall()


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_shares_a_connection_only_by_transaction(dsn: str, mode: str) -> None:
    """Two clients have one backend between them in transaction mode, and one each in session mode."""
    with (
        pooler(dsn, mode) as through,
        psycopg.connect(through, autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(through, autocommit=True, prepare_threshold=None) as two,
    ):
        pids = {each.execute("select pg_backend_pid()").fetchone()[0] for each in (one, two)}
    assert {"session": 2, "transaction": 1}[mode] == len(pids)
