"""The places of wakes on their way to the gateway, and what was claimed ahead of them."""

import math
from collections import deque
from collections.abc import Callable

from daemon.plan import Digest

AHEAD_S = 0.25
LEAST_S = 0.001  # nobody answers sooner
MOST_AHEAD = 20  # for each place


class Places:
    """At most so many wakes at once; the others wait in their order."""

    def __init__(self, places: int, now_s: Callable[[], float]) -> None:
        """Begin with all of them free; seconds are those of a monotonic clock."""
        self._free = self._places = places
        self._now_s = now_s
        self._waiting: deque[Digest] = deque()
        self._answered_s: deque[float] = deque(maxlen=places * MOST_AHEAD)
        self._busy_since_s = 0.0

    @property
    def ahead(self) -> int:
        """How many wakes are worth claiming ahead: as many as are answered in a quarter of a second, at its last pace.

        Where the gateway is quick a claim takes many, and where it is not what waits stays in the database, for others.
        """
        now_s = self._now_s()
        answered, busy_s = self._lately(now_s), now_s - self._busy_since_s
        if busy_s < AHEAD_S:  # a burst has just begun
            answered = math.floor(answered * AHEAD_S / max(busy_s, LEAST_S))
        return min(answered, self._places * MOST_AHEAD)

    def add(self, digest: Digest) -> None:
        """Let it wait for its place."""
        self._waiting.append(digest)

    def take(self) -> Digest | None:
        """Give a free place to the next, where there are both."""
        if not self._free or not self._waiting:
            return None
        if self._free == self._places and not self._lately(now_s := self._now_s()):
            self._busy_since_s = now_s
        self._free -= 1
        return self._waiting.popleft()

    def give_back(self) -> None:
        """Free a place: the gateway has answered."""
        self._free += 1
        self._answered_s.append(self._now_s())

    def leave(self) -> list[Digest]:
        """Give up what waits."""
        digests = list(self._waiting)
        self._waiting.clear()
        return digests

    def _lately(self, now_s: float) -> int:
        """Return how many were answered in the last quarter of a second."""
        while self._answered_s and self._answered_s[0] <= now_s - AHEAD_S:
            self._answered_s.popleft()
        return len(self._answered_s)
