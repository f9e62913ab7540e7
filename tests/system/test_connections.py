"""How many connections the programs keep, and that a vault and migrate need none of their own behind a pooler."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import daemons
import psycopg
import pytest
from deliveries import KEY, SECRET, rows, sample
from faults.pooler import pooler
from gateways import gateway
from programs import Program, run, until
from psycopg.conninfo import make_conninfo

from sql.migrate import latest
from vault.sender import new_webhook_id, signed_headers

pytestmark = pytest.mark.faults

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
WEBHOOK = "/composio/webhook"


class Census:
    """Counts a program's backends while it works: the most that there ever were at once."""

    def __init__(self, database: psycopg.Connection, program: str) -> None:
        self._database = database
        self._program = f"{program} %"
        self._ended: list[int] = []
        self.most = 0

    def backends(self) -> list[int]:
        """Return the process ids of the backends, less those that were told to end."""
        query = (
            "select pid from pg_stat_activity where datname = current_database()"
            " and application_name like %s and pid <> all(%s)"
        )
        return [pid for (pid,) in self._database.execute(query, [self._program, self._ended]).fetchall()]

    def end_all(self) -> int:
        """End each of them from the server's side."""
        ending = self.backends()
        self._ended += ending
        self._database.execute("select pg_terminate_backend(pid) from unnest(%s) as pid", [ending])
        return len(ending)

    async def take(self) -> None:
        """Count again and again."""
        while True:
            self.most = max(self.most, len(self.backends()))
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def counted(database: psycopg.Connection, program: str) -> AsyncIterator[Census]:
    """Count a program's backends for the length of the block."""
    census = Census(database, program)
    counting = asyncio.create_task(census.take())
    try:
        yield census
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


@contextlib.asynccontextmanager
async def vault(dsn: str, home: Path) -> AsyncIterator[tuple[Program, aiohttp.ClientSession]]:
    """A vault that runs, and a client of it."""
    config = home / "vault.toml"
    config.touch()
    keys = {"COMPOSIO_WEBHOOK_SECRET": SECRET, "AGENT_EDGE_KEY": KEY}
    env = {"DATABASE_URL": dsn, "VAULT_PORT": "0", "VAULT_CONFIG": str(config), **keys}
    async with run("vault", "serve", env=env, home=home) as program:
        port = (await program.event("vault_listening"))["port"]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield program, client


async def deliver(client: aiohttp.ClientSession) -> int:
    """Send one delivery; return the status."""
    body = sample()
    headers = signed_headers(SECRET, new_webhook_id(), int(time.time()), body)
    async with client.post(WEBHOOK, data=body, headers=headers) as response:
        await response.read()
        return response.status


async def work_off(client: aiohttp.ClientSession) -> int:
    """Take a job and acknowledge it, as an older worker does; return the last status."""
    async with client.post("/jobs/next", json={"agentId": "test"}, headers=AUTHORIZED) as response:
        if response.status != 200:
            return response.status
        job = (await response.json())["job"]
    async with client.post("/jobs/ack", json={"jobId": job["id"], "status": "done"}, headers=AUTHORIZED) as response:
        return response.status


async def look(client: aiohttp.ClientSession, path: str) -> int:
    """Ask for something; return the status."""
    async with client.get(path, headers=AUTHORIZED) as response:
        await response.read()
        return response.status


Call = Callable[[aiohttp.ClientSession], Awaitable[int]]
CALLS: list[Call] = [
    deliver,
    deliver,
    work_off,
    lambda client: look(client, "/learnings/list"),
    lambda client: look(client, "/learnings/search?q=gmail"),
    lambda client: look(client, "/readyz"),
    lambda client: look(client, "/health"),
]


async def load(client: aiohttp.ClientSession, rounds: int) -> set[int]:
    """Make calls of every kind, many at once; return the statuses that came."""
    return set(await asyncio.gather(*(call(client) for _ in range(rounds) for call in CALLS)))


async def test_a_vault_keeps_four_connections(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """Under deliveries, both kinds of API calls and probes at once, and after it lost all of them."""
    async with counted(database, "agent-vault") as census, vault(dsn, tmp_path) as (program, client):
        assert await load(client, 20) <= {200, 204}
        await until(lambda: len(census.backends()) == 4, "four connections")
        assert 4 == census.end_all()
        await until(lambda: answered(client), "answers again")
        assert await load(client, 20) <= {200, 204}
        await until(lambda: len(census.backends()) == 4, "four connections")
        assert 0 == await program.stop()
    assert 4 == census.most


async def answered(client: aiohttp.ClientSession) -> bool:
    """Tell whether every kind of call is answered."""
    return await load(client, 1) <= {200, 204}


async def test_a_daemon_keeps_two_connections(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """Under deliveries, and after it lost both in the midst of them."""
    async with (
        gateway() as openclaw,
        counted(database, "agent-daemon") as census,
        daemons.daemon(dsn, openclaw.url, tmp_path) as program,
    ):
        await daemons.idle(program)
        daemons.insert(database, 12)
        await daemons.become(database, program, done=12)
        await until(lambda: len(census.backends()) == 2, "two connections")
        openclaw.held.clear()
        daemons.insert(database, 4)
        await until(lambda: len(openclaw.posts) > 12, "a delivery under way")
        assert 2 == census.end_all()
        openclaw.held.set()
        await daemons.become(database, program, done=16)
        await until(lambda: len(census.backends()) == 2, "two connections")
        assert 0 == await program.stop()
    assert 2 == census.most


async def test_a_daemon_tells_why_it_cannot_connect_and_tries_again(
    dsn: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    """A login that is refused is no end: the reason is logged without the string, and it works once it is let in."""
    user, password = f"quincy_{database.info.backend_pid}", "wq7zKv0bJx"
    login = make_conninfo(dsn, user=user, password=password)
    async with gateway() as openclaw, daemons.daemon(login, openclaw.url, tmp_path) as program:
        lost = await program.event("listener_lost")
        try:
            database.execute(f"create role {user} superuser login password '{password}'")
            await daemons.idle(program)
            assert 0 == await program.stop()
        finally:
            database.execute(f"drop role {user}")
    assert lost["error"].startswith("the database refused the login: check user and password (")
    assert [] == [secret for secret in ("quincy", password) if secret in program.text]


@pytest.fixture(params=[1, 2], ids=["pool of 1", "pool of 2"])
def blank_pooled(request: pytest.FixtureRequest, blank_dsn: str) -> Iterator[str]:
    """An empty database behind a transaction pooler."""
    with pooler(blank_dsn, "transaction", pool=request.param) as through:
        yield through


@pytest.fixture(params=[1, 2], ids=["pool of 1", "pool of 2"])
def pooled(request: pytest.FixtureRequest, dsn: str) -> Iterator[str]:
    """A migrated database behind a transaction pooler."""
    with pooler(dsn, "transaction", pool=request.param) as through:
        yield through


async def migrated(dsn: str, home: Path) -> tuple[int, str]:
    """Run `agent-vault migrate`; return its exit status and what it said."""
    async with run("vault", "migrate", env={"DATABASE_URL": dsn}, home=home) as program:
        return await program.ended(), program.text


async def test_migrate_through_a_transaction_pooler(blank_pooled: str, blank_dsn: str, tmp_path: Path) -> None:
    """A first time, four at once and a last time: one makes the schema, and no lock or setting is left behind."""
    fresh = (0, f"schema version {latest()} (was: no schema of ours)\n")
    again = (0, f"schema version {latest()} (up to date already)\n")
    at_once = await asyncio.gather(*(migrated(blank_pooled, tmp_path) for _ in range(4)))
    assert sorted([fresh, again, again, again]) == sorted(at_once)
    assert again == await migrated(blank_pooled, tmp_path)
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        locks = admin.execute(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
            " where l.locktype = 'advisory' and d.datname = current_database()"
        )
        assert (0,) == locks.fetchone()
    with psycopg.connect(blank_pooled, autocommit=True, prepare_threshold=None) as next_client:
        kept = next_client.execute(
            "select current_setting('lock_timeout'), coalesce(current_setting('agent_vault.keep_anon', true), '')"
        )
        assert ("0", "") == kept.fetchone()


async def test_a_vault_behind_a_transaction_pooler(pooled: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """Its four sessions share what connections there are; deliveries and both kinds of API calls are answered."""
    async with vault(pooled, tmp_path) as (program, client):
        assert await load(client, 20) <= {200, 204}
        await until(lambda: drained(client), "every job done")
        assert 0 == await program.stop()
    assert [] == [event for event in program.events if event["level"] in {"error", "critical"}]
    assert (40, 40) == (len(rows(database, "agent_learnings")), len(rows(database, "jobs")))
    assert {"done"} == {job["status"] for job in rows(database, "jobs")}


async def drained(client: aiohttp.ClientSession) -> bool:
    """Work a job off; tell whether none was left."""
    return await work_off(client) == 204


async def test_a_pooled_vault_leaves_nothing_to_the_next_client(pooled: str, tmp_path: Path) -> None:
    """A client that gets the vault's own backend finds no prepared statement and no setting of the vault's there."""
    async with vault(pooled, tmp_path) as (program, client):
        assert await load(client, 5) <= {200, 204}
        assert 0 == await program.stop()
    with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as next_client:
        assert (0,) == next_client.execute("select count(*) from pg_prepared_statements").fetchone()
        changed = next_client.execute(
            "select name from pg_settings where source = 'session' and name <> all(%s)",
            [["application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"]],
        ).fetchall()
        assert [] == changed
