"""Agent Vault as it is installed: the vault and the daemon as their own processes, with pacing off."""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import psycopg
from bench.load import SECRET, body, sending
from bench.stage import Running, Site, module
from daemons import environment

from sql.migrate import migrate
from sql.version import __version__
from vault.settings import load
from vault.webhook import read_event

FILL = """
select count(*) from agent_vault.record_events(%s::text[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[],
  %s::bytea[], %s::boolean[], %s::double precision[])
"""
CHUNK = 500


class Ours:
    """The programs of this repository."""

    name = "Agent Vault"
    version = __version__

    async def install(self, dsn: str) -> None:
        """Make the schema."""
        migrate(dsn)

    @contextlib.asynccontextmanager
    async def worker(self, site: Site, concurrency: int) -> AsyncIterator[None]:
        """Run a daemon."""
        async with daemon(site, concurrency=concurrency, name=f"bench-{uuid.uuid4().hex[:8]}"):
            yield

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Run a vault, and send it a signed webhook a call over a connection that stays open."""
        async with vault(site) as port, sending(port) as enqueue:
            yield enqueue

    async def fill(self, site: Site, count: int) -> None:
        """Queue so many events in one commit."""
        settings = load(database_url=site.dsn, composio_webhook_secrets=(SECRET,))
        async with await psycopg.AsyncConnection.connect(site.dsn) as connection:
            for at in range(0, count, CHUNK):
                ids = [f"msg_fill_{time.time_ns()}_{number}" for number in range(at, min(at + CHUNK, count))]
                events = [read_event(one, body(one), settings) for one in ids]
                columns = [[getattr(event, name) for event in events] for name in COLUMNS]
                await connection.execute(FILL, [*columns, [0.0] * len(events)])

    def receiver(self, site: Site) -> contextlib.AbstractAsyncContextManager[int]:
        """Run a vault; gives its port."""
        return vault(site)


COLUMNS = ("event_id", "learning_id", "type", "account", "queue", "learning", "body", "as_json")


@contextlib.asynccontextmanager
async def daemon(site: Site, **settings: object) -> AsyncIterator[Running]:
    """Run a daemon that listens."""
    env = environment(site.dsn, site.gateway_url, token="x", **settings)
    async with module("daemon", "run", env=env, home=site.home) as running:
        await running.line("listener_up")
        yield running


@contextlib.asynccontextmanager
async def vault(site: Site, env: Mapping[str, str] | None = None) -> AsyncIterator[int]:
    """Run a vault; gives its port."""
    async with serving(site, env) as (_, port):
        yield port


@contextlib.asynccontextmanager
async def serving(site: Site, env: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Running, int]]:
    """Run a vault; gives the process and its port."""
    settings = {"DATABASE_URL": site.dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0", **(env or {})}
    async with module("vault", "serve", env=settings, home=site.home) as running:
        yield running, json.loads(await running.line("vault_listening"))["port"]
