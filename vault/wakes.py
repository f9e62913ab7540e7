"""Which commits wake the daemons at once, and whom the vault owes a wake-up for those that did not."""

from collections.abc import Iterable

EVERY_S = 0.025
AHEAD = 20
QUIET_S = 0.25


class Wakes:
    """Every NOTIFY wakes each listening backend of the database: many daemons, and commits end at half their pace.

    So commits that come faster than 40 a second, for longer than a burst of 20, leave it to one of the next ones.
    A queue that nobody woke for a quarter of a second is woken at once, whatever the others have spent.
    """

    def __init__(self) -> None:
        """Begin with nobody to wake."""
        self.owed: set[str] = set()
        self._spent_until = 0.0
        self._not_before = 0.0
        self._woken_at: dict[str, float] = {}

    def at_once(self, queues: Iterable[str], now: float) -> bool:
        """Tell whether a commit with jobs in these queues wakes them itself, at `now` on the monotonic clock."""
        if self._spent_until - now <= AHEAD * EVERY_S:
            return True
        return any(now - self._woken_at.get(queue, 0.0) >= QUIET_S for queue in queues)

    def due_s(self, now: float) -> float | None:
        """Return in how many seconds the owed ones are to be woken though no commit comes; None if nobody is owed."""
        if not self.owed:
            return None
        return max(0.0, self._spent_until - AHEAD * EVERY_S - now, self._not_before - now)

    def woke(self, queues: Iterable[str], now: float) -> None:
        """Count one commit that woke these."""
        # no more in debt than a burst, or many quiet queues would put off what is owed by minutes
        self._spent_until = min(max(self._spent_until, now), now + AHEAD * EVERY_S) + EVERY_S
        for queue in queues:
            self._woken_at[queue] = now
            self.owed.discard(queue)

    def failed(self, now: float, pause_s: float) -> None:
        """Let some time pass before the owed ones are woken."""
        self._not_before = now + pause_s
