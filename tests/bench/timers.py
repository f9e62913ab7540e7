"""How exactly a daemon's timer fires: for jobs that are due later, and for leases that another daemon let lapse."""

import asyncio
import random
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import servers
from daemons import counts, daemon, idle, insert
from gateways import gateway
from programs import until

from sql.migrate import migrate

TIMES = 10
QUICK = 2
LATENESS = "select extract(epoch from locked_at - {}) * 1000 from public.jobs"


async def due(database: psycopg.Connection) -> float:
    """Put a job in for later; return by how many milliseconds its claim came after its time."""
    insert(database, run_at=datetime.now(UTC) + timedelta(seconds=random.uniform(1, 9)))
    await until(lambda: counts(database)["done"], "the delivery")
    return float(database.execute(LATENESS.format("run_at")).fetchone()[0])


async def lapsing(database: psycopg.Connection) -> float:
    """Let a dead daemon hold a job, whose lease no notification tells of."""
    lease = f"interval '{random.uniform(6, 12):.3f} s'"
    insert(database, status="processing", locked_by="dead/1", claims=1, attempts=1, fenced=True)
    (lapses,) = database.execute(
        f"update public.jobs set lease_until = now() + {lease} returning lease_until"
    ).fetchone()
    await until(lambda: counts(database)["done"], "the takeover")
    (locked_at,) = database.execute("select locked_at from public.jobs").fetchone()
    return (locked_at - lapses).total_seconds() * 1000


async def measure(dsn: str, times: int) -> list[tuple[str, list[float]]]:
    """Measure both, so many times, with one idle daemon."""
    found: list[tuple[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as home, psycopg.connect(dsn, autocommit=True) as database:
        async with gateway() as fake, daemon(dsn, fake.url, Path(home)) as program:
            await idle(program)
            for name, one in (("a job that is due later", due), ("a lease of another daemon that lapses", lapsing)):
                late_ms = []
                for _ in range(times):
                    database.execute("truncate public.jobs")
                    late_ms.append(await one(database))
                found.append((name, sorted(late_ms)))
    return found


def bench(*, quick: bool) -> str:
    """Measure, and write the table."""
    with servers.server() as server_dsn, servers.database(server_dsn) as dsn:
        migrate(dsn)
        found = asyncio.run(measure(dsn, QUICK if quick else TIMES))
    rows = [f"| {name} | {late[0]:.0f} | {statistics.median(late):.0f} | {late[-1]:.0f} |" for name, late in found]
    return "\n".join(
        [
            "Milliseconds from the time that a row names to its claim, without pacing.",
            "",
            "| | least | median | most |",
            "|---|---|---|---|",
            *rows,
        ]
    )
