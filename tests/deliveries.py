"""Signed deliveries to a vault under test, requests byte by byte, and a grip on its commits."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import psycopg
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict
from programs import until
from psycopg import sql
from psycopg.rows import dict_row

from vault.sender import new_webhook_id, sample_body, signed_headers
from vault.signature import Delivery, prove, read_claim

SECRET = "whsec_secret-of-the-tests"
KEY = "edge-key-of-the-tests"
WEBHOOK = "/agent-vault/composio/webhook"
GMAIL = "GMAIL_NEW_GMAIL_MESSAGE"

Answer = tuple[int, dict[str, Any]]
Row = dict[str, Any]


def sample(slug: str = GMAIL) -> bytes:
    """Return the body of a V3 delivery."""
    return sample_body(slug, new_webhook_id(), time.time())


async def deliver(vault: TestClient, body: bytes, webhook_id: str | None = None, secret: str = SECRET) -> Answer:
    """Send a signed delivery; return the status and the answer."""
    headers = signed_headers(secret, webhook_id or new_webhook_id(), int(time.time()), body)
    # a file, for aiohttp warns of bytes above 1 MiB
    async with vault.post(WEBHOOK, data=BytesIO(body), headers=headers) as response:
        return response.status, await response.json()


async def say(port: int, message: bytes) -> bytes:
    """Send these bytes as they are, and return all that comes back until the other end hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(message)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def verify(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes | str], now: float, tolerance_s: float = 300
) -> Delivery:
    """Check a delivery as the vault does, whatever the case of its headers' names; raises SignatureRefused."""
    return prove(read_claim(CIMultiDict(headers), now, tolerance_s), body, secrets)


def rows(database: psycopg.Connection, table: str) -> list[Row]:
    """Return a table of public as it is, the oldest row first."""
    query = sql.SQL("select * from public.{} order by created_at").format(sql.Identifier(table))
    return database.cursor(row_factory=dict_row).execute(query).fetchall()


def stored(database: psycopg.Connection) -> tuple[Row, Row]:
    """Return the only learning and the only job."""
    (learning,), (job,) = rows(database, "agent_learnings"), rows(database, "jobs")
    return learning, job


class Commits:
    """Holds every commit that stores a learning, at its very end: in a trigger deferred until then."""

    def __init__(self, database: psycopg.Connection) -> None:
        self._database = database
        database.execute(
            "create function hold() returns trigger language plpgsql as"
            " $$ begin perform pg_advisory_xact_lock_shared(1); return null; end $$;"
            "create constraint trigger hold after insert on public.agent_learnings deferrable initially deferred"
            " for each row execute function hold()"
        )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let none through within the block."""
        self._database.execute("select pg_advisory_lock(1)")
        try:
            yield
        finally:
            self._database.execute("select pg_advisory_unlock(1)")

    async def waiting(self) -> int:
        """Wait until a commit is held; return its backend's process id."""
        return int(await until(self._waiting, "a held commit"))

    def _waiting(self) -> int | None:
        found = self._database.execute(
            "select l.pid from pg_locks l join pg_database d on d.oid = l.database"
            " where l.locktype = 'advisory' and not l.granted and d.datname = current_database()"
        )
        return next((pid for (pid,) in found), None)


class Switch:
    """Takes a database away from everyone else, and gives it back."""

    def __init__(self, server_dsn: str, name: str) -> None:
        self._server_dsn = server_dsn
        self._name = sql.Identifier(name)
        self._ended = sql.SQL("select pg_terminate_backend(pid) from pg_stat_activity where datname = {}").format(name)

    def off(self) -> None:
        """End all connections and let no new ones in."""
        self._run(sql.SQL("alter database {} allow_connections false").format(self._name), self._ended)

    def on(self) -> None:
        """Let connections in again."""
        self._run(sql.SQL("alter database {} allow_connections true").format(self._name))

    def restart(self) -> None:
        """End all connections."""
        self._run(self._ended)

    def set(self, setting: str, value: str) -> None:
        """Change a setting for all connections to come, and end those that are there."""
        self._run(
            sql.SQL("alter database {} set {} to {}").format(self._name, sql.Identifier(setting), value), self._ended
        )

    def _run(self, *statements: sql.Composed) -> None:
        with psycopg.connect(self._server_dsn, autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement)
