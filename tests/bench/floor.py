"""What bare libraries take for the same work, in processes of their own: nothing kept from one event to the next.

`work` hears a notification and POSTs, `claim` claims a row before it and removes it after it; `verify` is a server
that only checks the signature; `insert` is one that then writes both rows and notifies, in one commit a request;
`post` sends the bodies that `drain` would, ten at a time.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import psycopg
from aiohttp import web
from bench.load import SECRET, sending
from bench.loops import run
from bench.stage import Site, module
from psycopg_pool import AsyncConnectionPool

SCHEMA = """
create table learnings (id bigserial primary key, event_id text unique, body bytea not null);
create table queue (id bigserial primary key, body text not null, status text not null default 'queued');
"""
INSERT = "with made as (insert into queue (body) values (%s) returning id) select pg_notify('floor', '') from made"
BOTH = """
with learned as (insert into learnings (event_id, body) values (%s, %b) on conflict do nothing returning id),
made as (insert into queue (body) select id::text from learned returning id)
select pg_notify('floor', '') from made
"""
CLAIM = """
update queue set status = 'processing'
where id = (select id from queue where status = 'queued' order by id limit 1 for update skip locked)
returning id
"""
COMPLETE = "delete from queue where id = %s"
POOL = 10
WAKE = {"text": "GMAIL_NEW_GMAIL_MESSAGE: a new event, 19b4f0c2a1d3e5f7", "mode": "now"}

Store = Callable[[str, bytes], Awaitable[None]]


class Floor:
    """An insert with a notify, a LISTEN that hears it, and a POST, over connections that are open already."""

    name = "bare psycopg + aiohttp"
    verb = "work"

    async def install(self, dsn: str) -> None:
        """Make the table."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(SCHEMA)

    @contextlib.asynccontextmanager
    async def worker(self, site: Site, concurrency: int) -> AsyncIterator[None]:  # noqa: ARG002 - one at a time
        """Run the listener."""
        async with module("bench.floor", self.verb, site.dsn, site.gateway_url, home=site.home) as running:
            await running.line("ready")
            yield

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Insert a row a call."""
        async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as connection:

            async def enqueue() -> None:
                await connection.execute(INSERT, ["x"])

            yield enqueue


async def work(dsn: str, url: str) -> None:
    """POST once for each notification."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
        aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as client,
    ):
        await listener.execute("listen floor")
        print("ready", flush=True)
        async for _ in listener.notifies():
            async with client.post(f"{url}/hooks/wake", json=WAKE) as answer:
                await answer.read()


async def claim(dsn: str, url: str) -> None:
    """Claim, POST and remove a row for each notification; only the removal waits for the disk."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as claimer,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as completer,
        aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as client,
    ):
        await claimer.execute("set synchronous_commit = off")
        await listener.execute("listen floor")
        print("ready", flush=True)
        async for _ in listener.notifies():
            claimed = await (await claimer.execute(CLAIM)).fetchone()
            if claimed is not None:
                async with client.post(f"{url}/hooks/wake", json=WAKE) as answer:
                    await answer.read()
                await completer.execute(COMPLETE, claimed)


async def post(url: str, count: int, concurrency: int) -> None:
    """POST so many, so many at a time; print the rate."""
    left = iter(range(count))

    async def some(client: aiohttp.ClientSession) -> None:
        for _ in left:
            async with client.post(f"{url}/hooks/wake", json=WAKE) as answer:
                await answer.read()

    async with aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as client:
        began = time.perf_counter()
        await asyncio.gather(*(some(client) for _ in range(concurrency)))
        print(json.dumps({"rate": count / (time.perf_counter() - began)}))


def signed(headers: dict[str, str], content: bytes) -> bool:
    """Check a signature."""
    signed_text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    mac = hmac.digest(SECRET.encode(), signed_text, hashlib.sha256)
    return hmac.compare_digest("v1," + base64.b64encode(mac).decode(), headers["webhook-signature"])


def receiver(store: Store) -> web.Application:
    """Make a server that verifies, stores and answers."""

    async def receive(request: web.Request) -> web.Response:
        content = await request.read()
        if not signed(request.headers, content):
            return web.Response(status=401)
        await store(request.headers["webhook-id"], content)
        return web.json_response({"ok": True})

    app = web.Application()
    app.router.add_post("/composio/webhook", receive)
    return app


async def serve(store: Store) -> None:
    """Serve on a free port, and print it."""
    runner = web.AppRunner(receiver(store), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def verify() -> None:
    """Serve without storing."""

    async def nothing(_webhook_id: str, _content: bytes) -> None:
        """Store nothing."""

    await serve(nothing)


async def insert(dsn: str) -> None:
    """Serve with one commit a request."""
    async with AsyncConnectionPool(dsn, min_size=POOL, max_size=POOL, kwargs={"autocommit": True}) as pool:

        async def store(webhook_id: str, content: bytes) -> None:
            async with pool.connection() as connection:
                await connection.execute(BOTH, [webhook_id, content])

        await serve(store)


@contextlib.asynccontextmanager
async def receiving(site: Site, *arguments: str) -> AsyncIterator[int]:
    """Run one of the servers; gives its port."""
    async with module(*arguments, home=site.home) as running:
        yield int((await running.line("port ")).split()[1])


class OneInsert(Floor):
    """A server that verifies and commits both rows and a NOTIFY a request."""

    name = "one INSERT + NOTIFY a request"

    def receiver(self, site: Site) -> contextlib.AbstractAsyncContextManager[int]:
        """Run the server."""
        return receiving(site, "bench.floor", "insert", site.dsn)


class SameSteps(OneInsert):
    """That server, and a worker that claims before it POSTs: the steps of a queue, and nothing kept from any fault."""

    name = "bare, with HTTP and a claim"
    verb = "claim"

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Run the server, and send it a webhook a call."""
        async with receiving(site, "bench.floor", "insert-fast", site.dsn) as port, sending(port) as enqueue:
            yield enqueue


class VerifyOnly(Floor):
    """A server that only verifies."""

    name = "aiohttp that only verifies"

    def receiver(self, site: Site) -> contextlib.AbstractAsyncContextManager[int]:
        """Run the server."""
        return receiving(site, "bench.floor", "verify")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", dsn, url]:
            asyncio.run(work(dsn, url))
        case ["claim", dsn, url]:
            run(claim(dsn, url))
        case ["post", url, count, concurrency]:
            asyncio.run(post(url, int(count), int(concurrency)))
        case ["verify"]:
            asyncio.run(verify())
        case ["insert", dsn]:
            asyncio.run(insert(dsn))
        case ["insert-fast", dsn]:
            run(insert(dsn))
