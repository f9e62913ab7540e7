"""Procrastinate: its asynchronous worker with LISTEN and concurrency, as its documentation has it for many jobs."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

from bench.floor import POOL, WAKE, receiving, serve
from bench.loops import run
from bench.stage import LISTENING, Site, peer_worker
from procrastinate import App, PsycopgConnector

NAME = "post"


def app_of(dsn: str) -> App:
    """Make its app."""
    return App(connector=PsycopgConnector(conninfo=dsn, min_size=POOL, max_size=POOL))


class Peer:
    """Procrastinate."""

    name = "Procrastinate"
    version = version("procrastinate")

    async def install(self, dsn: str) -> None:
        """Make its schema."""
        async with (app := app_of(dsn)).open_async():
            await app.schema_manager.apply_schema_async()

    def worker(self, site: Site, concurrency: int) -> contextlib.AbstractAsyncContextManager[None]:
        """Run its worker."""
        return peer_worker("bench.procrastinate_peer", site, concurrency)

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Defer one job a call."""
        async with (app := app_of(site.dsn)).open_async():

            async def enqueue() -> None:
                await app.configure_task(NAME).defer_async(text=WAKE["text"])

            yield enqueue

    async def fill(self, site: Site, count: int) -> None:
        """Defer so many in one call."""
        async with (app := app_of(site.dsn)).open_async():
            await app.configure_task(NAME).batch_defer_async(*({"text": WAKE["text"]} for _ in range(count)))

    def receiver(self, site: Site) -> contextlib.AbstractAsyncContextManager[int]:
        """Run a server that defers each webhook."""
        return receiving(site, "bench.procrastinate_peer", "serve", site.dsn)


async def work(dsn: str, url: str, concurrency: int) -> None:
    """Work until the process is ended."""
    import aiohttp

    app = app_of(dsn)
    async with app.open_async(), aiohttp.ClientSession() as client:

        @app.task(name=NAME)
        async def post(text: str) -> None:
            body = {"text": text, "mode": "now"}
            async with client.post(f"{url}/hooks/wake", json=body, headers={"Authorization": "Bearer x"}) as answer:
                await answer.read()

        working = asyncio.create_task(app.run_worker_async(concurrency=concurrency, wait=True), name="work")
        while not (await app.connector.execute_query_one_async(LISTENING))["listening"]:
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await working


async def receive(dsn: str) -> None:
    """Serve until the process is ended."""
    async with (app := app_of(dsn)).open_async():
        job = app.configure_task(NAME)

        async def store(_webhook_id: str, content: bytes) -> None:
            await job.defer_async(text=content.decode())

        await serve(store)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", dsn, url, concurrency]:
            run(work(dsn, url, int(concurrency)))
        case ["serve", dsn]:
            run(receive(dsn))
