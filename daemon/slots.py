"""How many wakes the gateway has pending in one session, as far as its client can know."""

import math

HEARTBEAT_S = 1_800.0  # OpenClaw's default; a wake for the next heartbeat waits for that long


class Slots:
    """The pending slots of one gateway session.

    A wake takes one from the moment it is sent. The gateway does not tell when an agent's turn took it up, so it counts
    as taken up `window_s` seconds after the gateway's answer: while something is pending, a turn begins every 30 s.
    """

    def __init__(self, budget: float, window_s: float) -> None:
        """Keep at most `budget` pending; infinity keeps no count."""
        self._budget = budget
        self._window_s = window_s
        self._frees_at: dict[str, float] = {}  # infinity while the answer is awaited
        self._deferred: set[str] = set()  # pending until a heartbeat or another wake

    def room(self, now_s: float, spare: int = 0) -> float:
        """Return how many more may be sent now, when `spare` slots are kept."""
        self._forget_taken_up(now_s)
        return max(self._budget - spare - len(self._frees_at), 0)

    def free_at_s(self, now_s: float, spare: int = 0, ahead: int = 0) -> float:
        """Return when there is room again, if `ahead` others take theirs before; never later than a window from now."""
        missing = ahead + 1 - self.room(now_s, spare)
        if missing <= 0:
            return now_s
        latest_s = now_s + self._window_s  # also what is on its way may end unsent
        times = sorted(min(at, latest_s) for at in self._frees_at.values())
        return times[int(missing) - 1] if missing <= len(times) else latest_s

    def take(self, wake: str) -> None:
        """Count a wake that is on its way."""
        self._frees_at[wake] = math.inf

    def settle(self, wake: str, now_s: float, *, pending: bool, deferred: bool = False) -> None:
        """Count it from its answer on, or no more; `deferred` says that it waits for the agent's next heartbeat."""
        self._frees_at.pop(wake, None)
        if pending:
            self._frees_at[wake] = now_s + (HEARTBEAT_S if deferred else self._window_s)
            if deferred:
                self._deferred.add(wake)
            else:
                self._take_along(now_s)

    def remember(self, wake: str, now_s: float, age_s: float) -> None:
        """Count a wake that an earlier run sent."""
        self._frees_at[wake] = now_s + self._window_s - age_s

    def clear(self) -> None:
        """Forget what the gateway took: its process ended, and what was pending with it."""
        self._frees_at = {wake: at for wake, at in self._frees_at.items() if at == math.inf}
        self._deferred.clear()

    def _take_along(self, now_s: float) -> None:
        """Let the turn that a wake starts take up all that is pending."""
        for wake in self._deferred & self._frees_at.keys():
            self._frees_at[wake] = min(self._frees_at[wake], now_s + self._window_s)
        self._deferred.clear()

    def _forget_taken_up(self, now_s: float) -> None:
        self._frees_at = {wake: at for wake, at in self._frees_at.items() if at > now_s}
