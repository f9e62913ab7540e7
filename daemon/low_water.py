"""From when on a claim looks: what was due earlier is claimed already, but for what comes late."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sql.jobs import Job

LATE = timedelta(seconds=5)  # what a transaction that inserts jobs may take and have them claimed at once
LASTS_S = 5.0
LOOK_AGAIN_MS = 1_000.0
HINTS = frozenset({"notified", "room", "look"})


class LowWater:
    """A mark for each queue, in the database's time, above which claims look.

    It is forgotten after LASTS_S, and whenever something other than a notification says that there is work. So what is
    due below it, as the pulse sees, is claimed too.
    """

    def __init__(self) -> None:
        """Begin without marks."""
        self._marks: dict[str, datetime] = {}
        self._set_at: dict[str, float] = {}

    def of(self, queue: str) -> datetime | None:
        """Return where to begin, or None to look everywhere."""
        if queue in self._marks and asyncio.get_running_loop().time() > self._set_at[queue] + LASTS_S:
            del self._marks[queue]
        return self._marks.get(queue)

    def least(self, queues: Iterable[str]) -> datetime | None:
        """Return where to begin for all of these queues, or None to look everywhere."""
        marks = [self.of(queue) for queue in queues]
        known = [mark for mark in marks if mark is not None]
        return min(known) if len(known) == len(marks) else None

    def claimed(self, queue: str, jobs: Sequence[Job]) -> None:
        """Raise the mark to what was claimed, for claims go in the order of time."""
        if not jobs:
            return
        if queue not in self._marks:
            self._set_at[queue] = asyncio.get_running_loop().time()
        self._marks[queue] = max(job.run_at for job in jobs) - LATE

    def woken(self, reasons: frozenset[str]) -> None:
        """Forget the marks where it is more than a notification, a free place or a look that woke the worker."""
        if reasons - HINTS:
            self._marks.clear()
