"""A slow network before a database, in a process of its own: each way takes so many seconds."""

import asyncio
import sys

from bench.loops import run
from faults.proxy import proxy


async def relay(dsn: str, delay_s: float) -> None:
    """Relay until the process is ended."""
    async with proxy(dsn) as one:
        one.delay_s = delay_s
        print("wire", one.dsn, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(relay(sys.argv[1], float(sys.argv[2])))
