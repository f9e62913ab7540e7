"""Notice that the machine slept, or that this process stood still, from what its clocks say."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

TICK_S = 1.0
SLEPT_S = 3.0

log = structlog.get_logger()


class Moment(NamedTuple):
    """One instant by both clocks: the monotonic one stops while a Mac sleeps, the wall clock can be set."""

    wall_s: float
    monotonic_s: float

    @classmethod
    def now(cls) -> "Moment":
        """Look at both clocks."""
        return cls(time.time(), time.monotonic())

    def age_s(self, now: "Moment") -> float:
        """Return the seconds since this moment by the clock that says more: neither may hide a sleep."""
        return max(now.wall_s - self.wall_s, now.monotonic_s - self.monotonic_s)


class SleepWatch:
    """Compares the clocks once a second, and whenever somebody needs to know."""

    def __init__(self, clock: Callable[[], Moment] = Moment.now) -> None:
        """Begin to compare; nobody is told yet."""
        self._clock = clock
        self._last = clock()
        self._told: list[Callable[[], None]] = []

    def tell(self, hear: Callable[[], None]) -> None:
        """Call this after every sleep."""
        self._told.append(hear)

    def look(self) -> None:
        """Tell at once of a sleep since the last look.

        The wall clock ran ahead (the machine slept), or this look comes too late (SIGSTOP leaves both clocks running).
        """
        now, last = self._clock(), self._last
        self._last = now
        lost_s = last.age_s(now) - TICK_S
        if lost_s >= SLEPT_S:
            log.info("slept", seconds=round(lost_s, 1))
            for hear in self._told:
                hear()

    async def watch(self) -> None:
        """Look once a second; only cancelling ends it."""
        while True:
            await asyncio.sleep(TICK_S)
            self.look()
