"""Job pairs at every phase of each other's way, with all polls off: each wake must survive the claim that it meets."""

import asyncio
import random
import tempfile
from pathlib import Path

import psycopg
import servers
from daemons import QUIET, counts, daemon, idle, insert
from faults.proxy import proxy
from gateways import gateway
from programs import until

from sql.migrate import migrate

PAIRS = {0: 2500, 40: 400, 150: 150}
QUICK = {0: 200, 40: 40, 150: 20}


async def run(dsn: str, round_trip_ms: int, pairs: int) -> None:
    """Deliver so many pairs; a lost wake is never delivered and ends the run with an error."""
    with tempfile.TemporaryDirectory() as home, psycopg.connect(dsn, autocommit=True) as database:
        database.execute("truncate public.jobs")
        async with (
            gateway() as fake,
            proxy(dsn) as wire,
            daemon(wire.dsn, fake.url, Path(home), **QUIET) as program,
        ):
            await idle(program)
            wire.delay_s = round_trip_ms / 2000
            for pair in range(pairs):
                insert(database)
                await asyncio.sleep(random.uniform(0, 0.01 + 3 * round_trip_ms / 1000))
                insert(database)
                await until(lambda: counts(database)["done"] == 2 * (pair + 1), "the second job of a pair")  # noqa: B023


def bench(*, quick: bool) -> str:
    """Run them all, and say how many there were."""
    rows = []
    with servers.server() as server_dsn, servers.database(server_dsn) as dsn:
        migrate(dsn)
        for round_trip_ms, pairs in (QUICK if quick else PAIRS).items():
            asyncio.run(run(dsn, round_trip_ms, pairs))
            rows.append(f"| {round_trip_ms} ms | {pairs} | {pairs} |")
    return "\n".join(
        [
            "Two jobs, the second at a random moment of the first one's way, with every poll off, over a network with",
            "this round trip; delivered is what was woken for by a notification alone.",
            "",
            "| round trip | pairs | delivered |",
            "|---|---|---|",
            *rows,
        ]
    )
