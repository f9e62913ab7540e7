"""One `wait()` for the daemon: a notification, a due job, a lapsing lease, a lost listener's poll, or the end."""

import asyncio


class Waker:
    """A bell that rings for any reason; a ring between `clear()` and `wait()` is kept."""

    def __init__(self, *, poll_s: float) -> None:
        """Poll every poll_s seconds while nobody listens; 0 never polls."""
        self.poll_s = poll_s
        self._rung = asyncio.Event()
        self._reasons: set[str] = set()
        self._due_at: float | None = None
        self._retry_at: float | None = None
        self._remind_at: float | None = None
        self._look_at: float | None = None
        self.suspect_queue: str | None = None  # its next job goes only to an idle worker
        self._listening = False

    @property
    def listening(self) -> bool:
        """Whether notifications are heard; while they are not, `wait()` polls."""
        return self._listening

    @listening.setter
    def listening(self, listening: bool) -> None:
        self._listening = listening
        self._rung.set()  # the waiting task must begin, or end, its poll; no reason, so it goes on waiting

    def clear(self) -> frozenset[str]:
        """Forget the rings so far and return their reasons; called before the claim, so that one during it survives."""
        reasons = frozenset(self._reasons)
        self._rung.clear()
        self._reasons.clear()
        return reasons

    def ring(self, reason: str) -> None:
        """Wake the waiting task, or the next one to wait."""
        self._reasons.add(reason)
        self._rung.set()

    def due_in(self, milliseconds: float | None) -> None:
        """Ring by itself after this time, at which a job is due or a lease lapses; None: nothing is under way."""
        now = asyncio.get_running_loop().time()
        self._due_at = None if milliseconds is None else now + milliseconds / 1000
        self._look_at = None  # this is what a look is for
        self._rung.set()  # the waiting task must look at its clock anew; no reason, so it goes on waiting

    def remind_in(self, seconds: float | None) -> None:
        """Ring by itself after this time, at which what was claimed before is to go out; None: nothing is."""
        self._remind_at = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._rung.set()

    def look_in(self, seconds: float) -> None:
        """Ring by itself after this time, to look when anything is due; before, whatever else rings may say so."""
        self._look_at = asyncio.get_running_loop().time() + seconds
        self._rung.set()

    def back_off(self, seconds: float) -> None:
        """Ring by itself after this time, whatever is due, and do not poll before: the last look failed."""
        self._retry_at = asyncio.get_running_loop().time() + seconds
        self._rung.set()

    async def wait(self) -> frozenset[str]:
        """Return why there may be work now."""
        while not self._reasons:
            self._rung.clear()
            try:
                async with asyncio.timeout(self._timeout_s()):
                    await self._rung.wait()
            except TimeoutError:
                self.ring(self._overdue())
        return frozenset(self._reasons)

    def _timeout_s(self) -> float | None:
        """Return the seconds until the next ring of our own, or None."""
        now = asyncio.get_running_loop().time()
        rings = (self._due_at, self._retry_at, self._remind_at, self._look_at)
        times = [max(0.0, at - now) for at in rings if at is not None]
        if not self._listening and self.poll_s and self._retry_at is None:
            times.append(self.poll_s)
        return min(times, default=None)

    def _overdue(self) -> str:
        """Name what the time ran out for."""
        now = asyncio.get_running_loop().time()
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            return "retry"
        if self._due_at is not None and self._due_at <= now:
            self._due_at = None
            return "due"
        if self._remind_at is not None and self._remind_at <= now:
            self._remind_at = None
            return "reminded"
        if self._look_at is not None and self._look_at <= now:
            self._look_at = None
            return "look"
        return "poll"
