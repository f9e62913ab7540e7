"""The LISTEN connection on a real Postgres: what it hears, and how it comes back."""

import asyncio
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from programs import until
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from notifier.listener import Listener
from notifier.presence import Presence
from notifier.waker import Waker
from sql.migrate import latest, migrate
from sql.names import Identity
from sql.session import Session

pytestmark = pytest.mark.faults

NAME = "listener-test"
Lines = list[dict[str, Any]]


class CountingWaker(Waker):
    """A waker that counts its rings by reason."""

    def __init__(self) -> None:
        """Poll never."""
        super().__init__(poll_s=0)
        self.rings: Counter[str] = Counter()

    def ring(self, reason: str) -> None:
        """Count, and ring."""
        self.rings[reason] += 1
        super().ring(reason)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the listener logs."""
    with capture_logs() as captured:
        yield captured


def said(lines: Lines, event: str) -> list[dict[str, Any]]:
    """The lines of one event."""
    return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def listening(dsn: str, *queues: str, pulse_s: float = 60) -> AsyncIterator[CountingWaker]:
    """Run a listener; its waker tells what happens to it."""
    waker = CountingWaker()
    listener, session = make_listener(dsn, queues or ("default",), waker, pulse_s)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(listener.run())
        try:
            yield waker
        finally:
            running.cancel()
    await session.close()


def make_listener(dsn: str, queues: Sequence[str], waker: Waker, pulse_s: float) -> tuple[Listener, Session]:
    """One with a presence and a second connection of its own."""
    session = Session(dsn, name=NAME)
    presence = Presence(Identity(NAME, uuid.uuid4().hex), queues)
    return Listener(dsn, presence, waker, session, pulse_s=pulse_s), session


def terminate(database: psycopg.Connection) -> int:
    """End the listener's backend from the server's side; return how many there were."""
    cursor = database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
        [f"agent-daemon {NAME} listen"],
    )
    return len(cursor.fetchall())


async def test_it_hears_its_own_queues(dsn: str, database: psycopg.Connection) -> None:
    """An insert rings for the queues that it listens to and for no other."""
    async with listening(dsn, "mail", "default") as waker:
        await until(lambda: waker.listening)
        for queue in ("chat", "mail", "default"):
            database.execute("insert into public.jobs (type, queue) values ('X', %s)", [queue])
        database.execute("select pg_notify('agent_vault_default', '')")
        await until(lambda: waker.rings["notified"] >= 3)
    assert {"listener_up": 1, "notified": 3} == waker.rings


async def test_no_notification_is_lost_to_a_pulse(dsn: str, database: psycopg.Connection) -> None:
    """Hundreds of notifications race with a pulse every millisecond, and each one rings."""
    sent = 400
    async with listening(dsn, pulse_s=0.001) as waker:
        await until(lambda: waker.listening)
        for number in range(sent):
            await asyncio.to_thread(database.execute, "select pg_notify('agent_vault_default', %s)", [str(number)])
        await until(lambda: waker.rings["notified"] >= sent, "the last notification")
    assert sent == waker.rings["notified"]


async def test_a_pulse_tells_of_work_that_nobody_announced(dsn: str, database: psycopg.Connection) -> None:
    """What the triggers did not tell, the next pulse does."""
    database.execute("set session_replication_role = replica")  # the triggers are off: nothing is notified
    async with listening(dsn, pulse_s=0.05) as waker:
        await until(lambda: waker.listening)
        database.execute("insert into public.jobs (type) values ('X')")
        await until(lambda: waker.rings["work_waits"])
    assert 0 == waker.rings["notified"]


async def test_a_pulse_sets_the_timer(dsn: str, database: psycopg.Connection) -> None:
    """A job that is due later rings the waker by itself, with no pulse left to come."""
    database.execute("insert into public.jobs (type, run_at) values ('X', now() + interval '300 ms')")
    async with listening(dsn, pulse_s=300) as waker:
        await until(lambda: waker.rings["listener_up"])
        waker.clear()
        assert {"due"} == await waker.wait()


async def test_it_comes_back_after_its_backend_was_ended(dsn: str, database: psycopg.Connection, lines: Lines) -> None:
    """It says what happened, connects anew, hears again, and rings for what came meanwhile."""
    async with listening(dsn, pulse_s=0.02) as waker:
        for comebacks in (1, 2, 3):
            await until(lambda: waker.listening)
            assert comebacks == waker.rings["listener_up"]
            await two_pulses(database)
            assert 1 == terminate(database)
            await until(lambda: len(said(lines, "listener_lost")) == comebacks)  # noqa: B023 - awaited here
        await until(lambda: waker.listening)
        database.execute("insert into public.jobs (type) values ('X')")
        await until(lambda: waker.rings["notified"])
    assert 4 == waker.rings["listener_up"]


async def two_pulses(database: psycopg.Connection) -> None:
    """Wait until the connection has shown that it lasts."""
    for _ in range(2):
        seen = database.execute("select seen_at from agent_vault.daemons").fetchone()
        await until(lambda: database.execute("select seen_at from agent_vault.daemons").fetchone() != seen)  # noqa: B023


async def test_a_connection_that_is_always_lost_again_is_one_trouble(
    dsn: str, database: psycopg.Connection, lines: Lines
) -> None:
    """A server that takes connections and drops them is asked ever more seldom, and told of once in ten seconds."""
    waker = CountingWaker()
    listener, session = make_listener(dsn, ["default"], waker, 60)
    running = asyncio.ensure_future(listener.run())
    for losses in (1, 2, 3):
        await until(lambda: waker.listening)
        terminate(database)
        await until(lambda: listener._failures == losses)  # noqa: B023 - awaited here
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await session.close()
    assert 1 == len(said(lines, "listener_lost"))


async def test_it_says_when_it_no_longer_listens(dsn: str, server_dsn: str, database: psycopg.Connection) -> None:
    """While it is away the waker knows, and polls."""
    async with listening(dsn) as waker:
        await until(lambda: waker.listening)
        name = sql.Identifier(database.info.dbname)
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("alter database {} allow_connections false").format(name))
            terminate(database)
            await until(lambda: not waker.listening)
            admin.execute(sql.SQL("alter database {} allow_connections true").format(name))
        await until(lambda: waker.listening)


class Wire:
    """A relay between the listener and Postgres that can go dead without a word, as a network does."""

    def __init__(self, dsn: str) -> None:
        """Take where Postgres is."""
        known = conninfo_to_dict(dsn)
        self._host, self._port = str(known.get("host", "127.0.0.1")), int(known.get("port", 5432))
        self.alive = asyncio.Event()
        self.alive.set()
        self.connections = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both ways while the wire lives."""
        self.connections += 1
        if self._host.startswith("/"):
            there, back = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            there, back = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            for one in (back, writer):
                one.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self.alive.wait()
            sink.write(data)
        sink.close()


async def test_it_leaves_a_connection_that_went_dead_in_silence(dsn: str, lines: Lines) -> None:
    """A half-open connection sends no error: the missed pulse is the sign, and a new one is opened."""
    wire = Wire(dsn)
    async with await asyncio.start_server(wire.relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with listening(make_conninfo(dsn, host="127.0.0.1", port=port), pulse_s=0.05) as waker:
            await until(lambda: waker.listening)
            wire.alive.clear()
            await until(lambda: said(lines, "listener_lost"))
            wire.alive.set()
            await until(lambda: waker.rings["listener_up"] == 2)
        assert 2 <= wire.connections


async def test_it_waits_for_a_database_that_is_not_there_yet(server_dsn: str, template: str, lines: Lines) -> None:
    """No server, then no such database: it goes on, says so once in ten seconds, and comes up by itself."""
    name = f"av_{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(server_dsn, autocommit=True))
        async with listening(make_conninfo(server_dsn, dbname=name)) as waker:
            await until(lambda: said(lines, "listener_lost"))
            admin.execute(sql.SQL("create database {} template {}").format(*map(sql.Identifier, (name, template))))
            stack.callback(admin.execute, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
            await until(lambda: waker.listening)
    assert 1 == len(said(lines, "listener_up"))
    assert "the server has no such database" in said(lines, "listener_lost")[0]["error"]


async def test_a_refused_port_is_said_once_in_ten_seconds(lines: Lines, free_port: Callable[[], int]) -> None:
    """Many tries make one line."""
    dsn = f"postgresql://user@127.0.0.1:{free_port()}/none"
    waker = CountingWaker()
    listener, _ = make_listener(dsn, ["default"], waker, 60)
    running = asyncio.ensure_future(listener.run())
    await until(lambda: listener._failures >= 4, "the fourth try")
    running.cancel()
    assert [1] == [line["failures"] for line in lines]
    assert not waker.rings


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds a port on which nobody listens."""

    def find() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return int(one.getsockname()[1])

    return find


async def test_a_host_that_cannot_be_is_an_error_like_others(lines: Lines) -> None:
    """Python's own error of such a name must not end the daemon."""
    async with listening("postgresql://user@a..b/none"):
        await until(lambda: said(lines, "listener_lost"))
    assert "a host that cannot be" in lines[0]["error"]


async def test_an_older_schema_is_waited_for(blank_dsn: str, lines: Lines) -> None:
    """It names the command that mends it, and listens once that was run."""
    async with listening(blank_dsn) as waker:
        await until(lambda: said(lines, "schema_too_old"))
        assert "run agent-vault migrate" in lines[0]["error"]
        assert not waker.listening
        migrate(blank_dsn)
        await until(lambda: waker.listening)


async def test_a_newer_schema_is_accepted_and_said_once(dsn: str, database: psycopg.Connection, lines: Lines) -> None:
    """The vault may be upgraded first: its schema serves this program too, over every reconnect."""
    database.execute("insert into agent_vault.migrations (version, name) values (999, '0999_later')")
    async with listening(dsn) as waker:
        await until(lambda: waker.listening)
        terminate(database)
        await until(lambda: waker.rings["listener_up"] == 2)
    assert [(999, latest())] == [(line["found"], line["known"]) for line in said(lines, "schema_newer")]
