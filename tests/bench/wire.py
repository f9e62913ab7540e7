"""A network before a database, in a process of its own: each way takes so many seconds, and statements are counted.

On SIGUSR1 it says how many statements have come through so far.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from bench.loops import run
from bench.stage import Site, module
from faults.proxy import Link, Proxy, proxy


async def relay(dsn: str, delay_s: float) -> None:
    """Relay until the process is ended."""
    async with proxy(dsn) as one:
        one.delay_s = delay_s
        seen: set[Link] = set()
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
        print("wire", one.dsn, flush=True)
        told = 0
        while True:
            await asked.wait()
            asked.clear()
            told += 1
            print(f"told {told}:", statements(one, seen), flush=True)


def statements(one: Proxy, seen: set[Link]) -> int:
    """Count the statements of all connections, those that are gone too if they were counted before."""
    seen.update(one.links)
    return sum(link.statements for link in seen)


@asynccontextmanager
async def wire(site: Site, round_trip_ms: float = 0) -> AsyncIterator[tuple[Site, Callable[[], Awaitable[int]]]]:
    """Run one; gives the site as seen through it, and a call that counts statements."""
    async with module("bench.wire", site.dsn, str(round_trip_ms / 2000), home=site.home) as running:
        through = replace(site, dsn=(await running.line("wire ")).removeprefix("wire ").strip())
        told = 0

        async def count() -> int:
            nonlocal told
            told += 1
            os.kill(running.process.pid, signal.SIGUSR1)
            return int((await running.line(f"told {told}:")).split()[2])

        yield through, count


if __name__ == "__main__":
    run(relay(sys.argv[1], float(sys.argv[2])))
