"""The places of wakes on their way to the gateway, and what was claimed ahead of them."""

from collections import deque
from collections.abc import Callable

from daemon.plan import Digest
from sql.jobs import Job

AHEAD_S = 0.25
MOST_AHEAD = 20  # for each place


class Places:
    """At most so many wakes at once; the others wait in their order."""

    def __init__(self, places: int, now_s: Callable[[], float]) -> None:
        """Begin with all of them free; seconds are those of a monotonic clock."""
        self._free = places
        self._now_s = now_s
        self._waiting: deque[Digest] = deque()
        self._answered_s: deque[float] = deque(maxlen=places * MOST_AHEAD)

    @property
    def ahead(self) -> int:
        """How many wakes are worth claiming ahead: as many as were answered in the last quarter of a second.

        Where the gateway is quick a claim takes many, and where it is not what waits stays in the database, for others.
        """
        now_s = self._now_s()
        while self._answered_s and self._answered_s[0] <= now_s - AHEAD_S:
            self._answered_s.popleft()
        return len(self._answered_s)

    def add(self, digest: Digest) -> None:
        """Let it wait for its place."""
        self._waiting.append(digest)

    def take(self) -> Digest | None:
        """Give a free place to the next, where there are both."""
        if not self._free or not self._waiting:
            return None
        self._free -= 1
        return self._waiting.popleft()

    def give_back(self) -> None:
        """Free a place: the gateway has answered."""
        self._free += 1
        self._answered_s.append(self._now_s())

    def leave(self) -> list[Job]:
        """Give up what waits."""
        jobs = [job for digest in self._waiting for job in digest.jobs]
        self._waiting.clear()
        return jobs
