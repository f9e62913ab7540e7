"""From a webhook sent to the gateway's receipt, side by side with the bare calls that it cannot avoid.

Bare is what any such queue has to do, with nothing kept from one to the next: an insert with a notify, a LISTEN that
hears it, and a POST to the same gateway.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psycopg
import servers
from gateways import TOKEN, FakeGateway, gateway
from programs import run, until

from sql.migrate import migrate
from vault.sender import sample_messages, send

ROUNDS = 3
EVENTS = 340
GAP_S = 0.05
SECRET = "a-secret-of-the-bench"

Trigger = Callable[[], Awaitable[None]]


async def receipts_ms(fake: FakeGateway, trigger: Trigger, events: int) -> list[float]:
    """Trigger events twenty times a second, and return the milliseconds until each one's wake."""
    took = []
    for _ in range(events):
        before = len(fake.wakes)
        began = time.perf_counter()
        await trigger()
        await until(lambda: len(fake.wakes) > before)  # noqa: B023 - awaited before the next round
        took.append((fake.received[-1] - began) * 1000)
        await asyncio.sleep(max(0.0, GAP_S - (time.perf_counter() - began)))
    return took


async def bare(dsn: str, fake: FakeGateway, events: int) -> list[float]:
    """Measure an insert with a notify, a LISTEN and a POST, over connections that are open already."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as writer,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        await writer.execute("create unlogged table if not exists bare (body text)")
        await listener.execute("listen bare")

        async def post() -> None:
            async for _ in listener.notifies():
                async with client.post(f"{fake.url}/hooks/wake", json={"text": "bare", "mode": "now"}) as answer:
                    await answer.read()

        async def trigger() -> None:
            await writer.execute(
                "with made as (insert into bare values ('x') returning 1) select pg_notify('bare', '')"
            )

        posting = asyncio.create_task(post(), name="bare")
        try:
            return await receipts_ms(fake, trigger, events)
        finally:
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)


async def ours(url: str, fake: FakeGateway, events: int) -> list[float]:
    """Measure a signed webhook through the vault and the daemon, both running as processes."""

    async def trigger() -> None:
        await send(url, SECRET, sample_messages("GMAIL_NEW_GMAIL_MESSAGE", 1, time.time()))

    return await receipts_ms(fake, trigger, events)


async def measure(dsn: str, events: int) -> list[tuple[list[float], list[float]]]:
    """Alternate the two, and return each round's times, bare first."""
    with tempfile.TemporaryDirectory() as home:
        async with gateway() as fake:
            vault = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0"}
            daemon = {"DATABASE_URL": dsn, "OPENCLAW_HOOK_TOKEN": TOKEN, "GATEWAY_HTTP_URL": fake.url}
            async with (
                run("vault", "serve", env=vault, home=Path(home)) as serving,
                run("daemon", "run", env=daemon, home=Path(home)) as working,
            ):
                port = (await serving.event("vault_listening"))["port"]
                await working.event("listener_up")
                url = f"http://127.0.0.1:{port}/composio/webhook"
                await ours(url, fake, 20)  # warm
                return [(await bare(dsn, fake, events), await ours(url, fake, events)) for _ in range(ROUNDS)]


def table(rounds: list[tuple[list[float], list[float]]]) -> str:
    """Write the table: medians over the rounds, each ratio taken within its round."""
    rows = []
    for name, at in (("p50", 50), ("p99", 99)):
        pairs = [(percentile(floor, at), percentile(own, at)) for floor, own in rounds]
        floor, own = (statistics.median(one) for one in zip(*pairs, strict=True))
        ratio = statistics.median(own / floor for floor, own in pairs)
        rows.append(f"| {name} | {floor:.1f} | {own:.1f} | {ratio:.2f} |")
    return "\n".join(
        [
            "From sending to the gateway's receipt, in milliseconds, at most 20 events a second: medians of",
            f"{len(rounds)} rounds of {len(rounds[0][0])}, the ratio within each round.",
            "*Bare* is an insert with a notify, a LISTEN and a POST over open connections; *ours* is a signed webhook",
            "over HTTP, verified, stored as a learning and a job in one commit, claimed under a lease and POSTed.",
            "",
            "| | bare | ours | ratio |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def percentile(values: list[float], at: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[at - 1]


def bench(*, quick: bool) -> str:
    """Measure, and return what the page says of it."""
    with servers.server() as server_dsn, servers.database(server_dsn) as dsn:
        migrate(dsn)
        return table(asyncio.run(measure(dsn, 40 if quick else EVENTS)))
