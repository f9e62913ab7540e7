"""What works in the background: a fault of ours in one part does not end the others, nor the program."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from notifier.backoff import full_jitter_s

STEADY_S: Final = 60.0
FIRST_S: Final = 0.1
CAP_S: Final = 10.0

log = structlog.get_logger()


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a part to its end; one that crashes is begun anew after a while."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            return await work()
        except Exception:
            log.exception("part_crashed", part=name)
        failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
        await asyncio.sleep(full_jitter_s(failures, first_s=FIRST_S, cap_s=CAP_S))
