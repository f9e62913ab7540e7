"""How a program is told to end: in order at first, and at once by a person who asks again."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Final

SAME_S: Final = 1.0  # one Ctrl-C may come twice: from the terminal, and from a runner that passes it on


def when_told_to_end(end: Callable[[str], None]) -> None:
    """Call `end` with the name of each SIGTERM and SIGINT that comes to the running loop.

    A Ctrl-C a second or more after the first signal ends the process at once instead. What it was at is then as after a
    crash: nothing is lost, and what was under way comes again.
    """
    loop = asyncio.get_running_loop()
    first_at: float | None = None

    def told(number: signal.Signals) -> None:
        nonlocal first_at
        now = loop.time()
        if number == signal.SIGINT and first_at is not None and now - first_at >= SAME_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        first_at = now if first_at is None else first_at
        end(number.name)

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, told, one)


async def stopped_within(stop: asyncio.Event, wait_s: float) -> bool:
    """Wait for so many seconds, or until `stop` is set; return whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stop.wait()
    return stop.is_set()
