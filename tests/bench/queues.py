"""Claim and completion alone, without a worker or a POST: ours, the well-known recipe, and PgQueuer's."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Protocol
from uuid import uuid4

import psycopg
from bench.pgqueuer_peer import ENTRYPOINT, connected
from bench.pgqueuer_peer import Peer as PgQueuerPeer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import EntrypointExecutionParameter, Queries

from daemon.low_water import LowWater
from sql.jobs import claim_jobs
from sql.migrate import migrate
from sql.session import Session
from sql.settling import complete_jobs
from sql.version import __version__

OUTCOME = {"status": 200, "event_outcome": "queued", "detail": None, "posts": 1, "jobs": 1}
PAYLOAD = "agent_vault.job_payload('GMAIL_NEW_GMAIL_MESSAGE', gen_random_uuid(), now())"


class Queue(Protocol):
    """One connection's calls."""

    async def insert(self, count: int) -> None:
        """Queue so many in one commit."""

    async def claim(self, limit: int) -> Sequence[Any]:
        """Take up to so many."""

    async def complete(self, claimed: Sequence[Any]) -> None:
        """End them as done."""


class Kind(Protocol):
    """A queue's tables, and how to fill and open them."""

    name: str
    label: str

    async def install(self, dsn: str) -> None:
        """Make the tables."""

    def seed(self, database: psycopg.Connection, queued: int, done: int) -> None:
        """Add rows as they are after so much work."""

    def opened(self, dsn: str) -> contextlib.AbstractAsyncContextManager[Queue]:
        """Open it."""


class OurQueue:
    """Through the functions that the daemon calls, and above its mark: one claim in five seconds looks everywhere."""

    def __init__(self, session: Session, database: psycopg.AsyncConnection) -> None:
        self._session = session
        self._database = database
        self._low_water = LowWater()

    async def insert(self, count: int) -> None:
        """Insert as any producer does."""
        await self._database.execute(
            "insert into public.jobs (type, payload, learning_id)"
            f" select 'GMAIL_NEW_GMAIL_MESSAGE', {PAYLOAD}, gen_random_uuid() from generate_series(1, %s)",
            [count],
        )

    async def claim(self, limit: int) -> Sequence[Any]:
        """Lease them."""
        run_after = self._low_water.of("default")
        claimed = await claim_jobs(self._session, "default", "bench/1", limit, 60, run_after=run_after)
        self._low_water.claimed("default", claimed)
        return claimed

    async def complete(self, claimed: Sequence[Any]) -> None:
        """End them."""
        done = await complete_jobs(self._session, claimed, OUTCOME, 0)
        assert len(done) == len(claimed)


class Ours:
    """Agent Vault."""

    name = "Agent Vault"
    label = f"Agent Vault {__version__}"

    async def install(self, dsn: str) -> None:
        """Make the schema."""
        migrate(dsn)

    def seed(self, database: psycopg.Connection, queued: int, done: int) -> None:
        """Add rows without waking anyone."""
        database.execute("set session_replication_role = replica")
        database.execute(
            "insert into public.jobs (type, payload, learning_id, run_at, created_at)"
            f" select 'GMAIL_NEW_GMAIL_MESSAGE', (select {PAYLOAD}), gen_random_uuid(), at, at"
            " from (select now() - (%s - n) * interval '1 ms' as at from generate_series(1, %s) n) s",
            [queued, queued],
        )
        database.execute(
            "insert into public.jobs (type, payload, learning_id, run_at, created_at, status, locked_at, locked_by,"
            " attempts, claims, fenced, delivered_at, finished_at, outcome)"
            f" select 'GMAIL_NEW_GMAIL_MESSAGE', (select {PAYLOAD}), gen_random_uuid(), at, at, 'done', at, 'bench/1',"
            " 1, 1, true, at, at, %s"
            " from (select now() - (86400000 + %s - n) * interval '1 ms' as at from generate_series(1, %s) n) s",
            [psycopg.types.json.Jsonb(OUTCOME), done, done],
        )
        database.execute("reset session_replication_role")

    @contextlib.asynccontextmanager
    async def opened(self, dsn: str) -> AsyncIterator[Queue]:
        """Open the session of a daemon, and a producer."""
        session = Session(dsn, name="bench")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database:
            yield OurQueue(session, database)
        await session.close()


class RecipeQueue:
    """`for update skip locked` in one statement."""

    def __init__(self, database: psycopg.AsyncConnection, producer: psycopg.AsyncConnection) -> None:
        self._database = database
        self._producer = producer

    async def insert(self, count: int) -> None:
        """Insert them."""
        await self._producer.execute("insert into recipe (body) select 'x' from generate_series(1, %s)", [count])

    async def claim(self, limit: int) -> Sequence[Any]:
        """Take them."""
        cursor = await self._database.execute(
            "update recipe set status = 'processing', taken_at = now() where id = any(array(select id from recipe"
            " where status = 'queued' order by id limit %s for update skip locked)) returning id",
            [limit],
        )
        return [row[0] for row in await cursor.fetchall()]

    async def complete(self, claimed: Sequence[Any]) -> None:
        """End them."""
        await self._database.execute(
            "update recipe set status = 'done', done_at = now() where id = any(%s)", [list(claimed)]
        )


class Recipe:
    """One table with a partial index, as every article has it."""

    name = "skip locked, the recipe"
    label = name

    async def install(self, dsn: str) -> None:
        """Make the table."""
        with psycopg.connect(dsn, autocommit=True) as database:
            database.execute(
                "create table recipe (id bigserial primary key, body text not null, status text not null"
                " default 'queued', taken_at timestamptz, done_at timestamptz)"
            )
            database.execute("create index on recipe (id) where status = 'queued'")

    def seed(self, database: psycopg.Connection, queued: int, done: int) -> None:
        """Add rows, the done ones first."""
        for status, count in (("done", done), ("queued", queued)):
            database.execute(
                "insert into recipe (body, status) select 'x', %s from generate_series(1, %s)", [status, count]
            )

    @contextlib.asynccontextmanager
    async def opened(self, dsn: str) -> AsyncIterator[Queue]:
        """Open a worker's connection and a producer's."""
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as producer,
        ):
            yield RecipeQueue(database, producer)


class PgQueuerQueue:
    """Through PgQueuer's own queries."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._me = uuid4()

    async def insert(self, count: int) -> None:
        """Enqueue them."""
        await self._queries.enqueue([ENTRYPOINT] * count, [b"x"] * count, [0] * count)

    async def claim(self, limit: int) -> Sequence[Any]:
        """Dequeue them."""
        entrypoints = {ENTRYPOINT: EntrypointExecutionParameter(concurrency_limit=0)}
        return await self._queries.dequeue(limit, entrypoints, self._me, None, timedelta(seconds=30))

    async def complete(self, claimed: Sequence[Any]) -> None:
        """Move them into the log."""
        await self._queries.log_jobs([(job, "successful", None) for job in claimed])


class PgQueuer:
    """PgQueuer; what is done stands in its log, already counted."""

    name = "PgQueuer"
    label = f"PgQueuer {version('pgqueuer')}"

    async def install(self, dsn: str) -> None:
        """Make its tables."""
        await PgQueuerPeer().install(dsn)

    def seed(self, database: psycopg.Connection, queued: int, done: int) -> None:
        """Add rows without waking anyone."""
        database.execute("set session_replication_role = replica")
        database.execute(
            "insert into pgqueuer (priority, status, entrypoint, payload)"
            " select 0, 'queued', %s, 'x' from generate_series(1, %s)",
            [ENTRYPOINT, queued],
        )
        database.execute(
            "insert into pgqueuer_log (job_id, status, priority, entrypoint, aggregated)"
            " select -n, 'successful', 0, %s, true from generate_series(1, %s) n",
            [ENTRYPOINT, done],
        )
        database.execute("reset session_replication_role")

    @contextlib.asynccontextmanager
    async def opened(self, dsn: str) -> AsyncIterator[Queue]:
        """Open its pool."""
        async with connected(dsn) as pool:
            yield PgQueuerQueue(Queries(AsyncpgPoolDriver(pool)))


KINDS: list[Kind] = [Ours(), PgQueuer(), Recipe()]
