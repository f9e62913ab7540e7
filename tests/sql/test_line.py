"""A connection's end: whoever waits for it is told at once, and what was asked of it is asked of no other."""

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest
from programs import until

from sql.line import Connection, DatabaseSilentError, Line, connect
from sql.session import Session

pytestmark = [pytest.mark.database, pytest.mark.faults]

ENDLESS = "select pg_sleep(3600)"
BUSY = "select count(*) from pg_stat_activity where application_name = 'line' and state = 'active'"


async def busy(database: psycopg.Connection) -> None:
    """Wait until the server works on the statement."""
    await until(lambda: database.execute(BUSY).fetchone() == (1,))


@pytest.fixture
async def connection(dsn: str) -> Connection:
    """A connection."""
    return await connect(dsn, name="line")


async def test_what_takes_too_long_is_broken_off(connection: Connection) -> None:
    """The deadline ends the statement and the connection with it."""
    with pytest.raises(DatabaseSilentError, match=r"within 0\.1 s"):
        await Line(connection, deadline_s=0.1).fetch(ENDLESS)
    assert connection.closed


async def test_a_cancelled_statement_ends_its_connection(connection: Connection, database: psycopg.Connection) -> None:
    """The server is not asked to cancel, and nobody waits for it."""
    running = asyncio.create_task(Line(connection, deadline_s=300).fetch(ENDLESS))
    await busy(database)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert connection.closed
    assert (1,) == database.execute(BUSY).fetchone()


async def test_who_is_cancelled_while_it_connects(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that loses the cancelling, as psycopg 3.2 may on Python 3.11, leaves neither a task nor a connection."""
    made: list[Connection] = []
    begun = asyncio.Event()
    inner = Connection.connect

    async def deaf(*arguments: Any, **keywords: Any) -> Connection:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        made.append(await inner(*arguments, **keywords))
        return made[0]

    monkeypatch.setattr(Connection, "connect", deaf)
    running = asyncio.create_task(connect(dsn, name="line"))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert made[0].closed


async def test_a_cut_tells_who_waits(dsn: str, database: psycopg.Connection) -> None:
    """The statement under way fails without a word of a deadline, and the session's next one has a new connection."""
    session = Session(dsn, name="line", deadline_s=300)
    running = asyncio.create_task(session.fetch(ENDLESS))
    await busy(database)
    session.cut()
    with pytest.raises(psycopg.OperationalError, match="broken off") as caught:
        await running
    assert not isinstance(caught.value, DatabaseSilentError)
    assert [(1,)] == await session.fetch("select 1")
    await session.close()


async def test_a_cut_between_statements_is_noticed(dsn: str) -> None:
    """What nobody waits for is closed, and the next statement has a new connection."""
    session = Session(dsn, name="line")
    (first,) = await session.fetch("select pg_backend_pid()")
    session.cut()
    (second,) = await session.fetch("select pg_backend_pid()")
    assert first != second
    await session.close()


async def test_a_large_statement_waits_for_the_socket(connection: Connection) -> None:
    """What the socket does not take at once is sent as it takes it, and an error leaves the connection whole."""
    line = Line(connection, deadline_s=300)
    assert [(50_000_000,)] == await line.fetch("select length(%s)", ["x" * 50_000_000])
    with pytest.raises(psycopg.errors.DivisionByZero):
        await line.fetch("select 1 / 0")
    assert [(1,)] == await line.fetch("select 1")
    await connection.close()
