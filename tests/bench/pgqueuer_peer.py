"""PgQueuer: on asyncpg's pool and uvloop, as its documentation has it for throughput; all its tables logged."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

import asyncpg
from bench.floor import POOL, WAKE, receiving, serve
from bench.loops import run
from bench.stage import LISTENING, Site, peer_worker
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from psycopg.conninfo import conninfo_to_dict

BATCH = 100
NAMES = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
ENTRYPOINT = "post"
TEXT = str(WAKE["text"]).encode()


def connected(dsn: str) -> contextlib.AbstractAsyncContextManager[asyncpg.Pool]:
    """Open its pool."""
    known = conninfo_to_dict(dsn)
    place = {name: known.get(key) for key, name in NAMES.items()}
    return asyncpg.create_pool(**place, min_size=POOL, max_size=POOL)


class Peer:
    """PgQueuer."""

    name = "PgQueuer"
    version = version("pgqueuer")

    async def install(self, dsn: str) -> None:
        """Make its tables."""
        async with connected(dsn) as pool:
            await Queries(AsyncpgPoolDriver(pool)).install()

    def worker(self, site: Site, concurrency: int) -> contextlib.AbstractAsyncContextManager[None]:
        """Run its worker."""
        return peer_worker("bench.pgqueuer_peer", site, concurrency)

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Enqueue one job a call."""
        async with connected(site.dsn) as pool:
            queries = Queries(AsyncpgPoolDriver(pool))

            async def enqueue() -> None:
                await queries.enqueue(ENTRYPOINT, TEXT)

            yield enqueue

    async def fill(self, site: Site, count: int) -> None:
        """Enqueue so many in one call."""
        async with connected(site.dsn) as pool:
            await Queries(AsyncpgPoolDriver(pool)).enqueue([ENTRYPOINT] * count, [TEXT] * count, [0] * count)

    def receiver(self, site: Site) -> contextlib.AbstractAsyncContextManager[int]:
        """Run a server that enqueues each webhook."""
        return receiving(site, "bench.pgqueuer_peer", "serve", site.dsn)


async def work(dsn: str, url: str, concurrency: int) -> None:
    """Work until the process is ended."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with connected(dsn) as pool, aiohttp.ClientSession(connector=connector) as client:
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint(ENTRYPOINT)
        async def post(job: Job) -> None:
            body = {"text": (job.payload or b"").decode(), "mode": "now"}
            async with client.post(f"{url}/hooks/wake", json=body, headers={"Authorization": "Bearer x"}) as answer:
                await answer.read()

        working = asyncio.create_task(queue.run(batch_size=BATCH), name="work")
        async with pool.acquire() as connection:
            while not await connection.fetchval(LISTENING):
                await asyncio.sleep(0.05)
        print("ready", flush=True)
        await working


async def receive(dsn: str) -> None:
    """Serve until the process is ended."""
    async with connected(dsn) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def store(_webhook_id: str, content: bytes) -> None:
            await queries.enqueue(ENTRYPOINT, content)

        await serve(store)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", dsn, url, concurrency]:
            run(work(dsn, url, int(concurrency)))
        case ["serve", dsn]:
            run(receive(dsn))
