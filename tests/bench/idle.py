"""What a daemon costs that has nothing to do: processor time, memory, statements."""

import asyncio
import tempfile
from pathlib import Path

import psutil
import servers
from daemons import daemon, idle
from faults.proxy import proxy
from gateways import gateway

from sql.migrate import migrate

SECONDS = 120.0
QUICK_S = 20.0


async def measure(dsn: str, seconds: float) -> tuple[float, float, float]:
    """Return its share of a core, its resident bytes, and the statements that it ran in a minute."""
    with tempfile.TemporaryDirectory() as home:
        async with gateway() as fake, proxy(dsn) as wire, daemon(wire.dsn, fake.url, Path(home)) as program:
            await idle(program)
            process = psutil.Process(program.process.pid)
            await asyncio.sleep(6)  # its start is over
            began, statements = process.cpu_times(), sum(link.statements for link in wire.links)
            await asyncio.sleep(seconds)
            ended, more = process.cpu_times(), sum(link.statements for link in wire.links)
            used_s = ended.user + ended.system - began.user - began.system
            return used_s / seconds, process.memory_info().rss, (more - statements) * 60 / seconds


def bench(*, quick: bool) -> str:
    """Measure, and write the table."""
    seconds = QUICK_S if quick else SECONDS
    with servers.server() as server_dsn, servers.database(server_dsn) as dsn:
        migrate(dsn)
        share, rss_bytes, statements = asyncio.run(measure(dsn, seconds))
    return "\n".join(
        [
            f"A daemon that has nothing to do, over {seconds:g} s: default settings, with pacing off.",
            "",
            "| of a core | resident | statements a minute |",
            "|---|---|---|",
            f"| {share:.2%} | {rss_bytes / 2**20:.0f} MiB | {statements:.0f} |",
        ]
    )
