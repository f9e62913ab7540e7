"""How many wakes the gateway has pending in one session, as far as its client can know."""

import math
from dataclasses import dataclass

HEARTBEAT_S = 1_800.0  # OpenClaw's default; a wake for the next heartbeat waits for that long
UNANSWERED_S = 2.0  # what is on its way may end unsent: nobody waits for long on its account


@dataclass(slots=True)
class _Wake:
    """A wake that takes a slot: since its answer, for so many seconds; without one it is on its way."""

    answered_s: float | None = None
    lasts_s: float = 0.0

    def frees_at_s(self, now_s: float) -> float:
        return now_s + UNANSWERED_S if self.answered_s is None else self.answered_s + self.lasts_s


class Slots:
    """The pending slots of one gateway session.

    A wake takes one from the moment it is sent. The gateway does not tell when an agent's turn took it up, so it counts
    as taken up `window_s` seconds after the gateway's answer: while something is pending, a turn begins every 30 s.
    """

    def __init__(self, budget: float, window_s: float) -> None:
        """Keep at most `budget` pending; infinity keeps no count."""
        self._budget = budget
        self.counts = not math.isinf(budget)
        self._window_s = window_s
        self._wakes: dict[str, _Wake] = {}

    def room(self, now_s: float, spare: int = 0) -> float:
        """Return how many more may be sent now, when `spare` slots are kept."""
        self._forget_taken_up(now_s)
        return max(self._budget - spare - len(self._wakes), 0)

    def free_at_s(self, now_s: float, spare: int = 0, ahead: int = 0) -> float:
        """Return when to look for room again, with `spare` slots kept, if `ahead` others take theirs before.

        At the latest in a window, for another wake may free what waits for a heartbeat.
        """
        self._forget_taken_up(now_s)
        too_many = len(self._wakes) - (self._budget - spare) + ahead + 1
        if too_many <= 0:
            return now_s
        latest_s = now_s + self._window_s
        times = sorted(min(wake.frees_at_s(now_s), latest_s) for wake in self._wakes.values())
        return times[int(too_many) - 1] if too_many <= len(times) else latest_s

    @property
    def wait_for_a_turn(self) -> bool:
        """Tell whether wakes for the next heartbeat are pending, which any other would take along."""
        return any(wake.lasts_s > self._window_s for wake in self._wakes.values())

    def take(self, wake: str) -> None:
        """Count a wake that is on its way."""
        if self.counts:
            self._wakes[wake] = _Wake()

    def settle(self, wake: str, now_s: float, *, pending: bool, deferred: bool = False) -> None:
        """Count it from its answer on, or no more; `deferred` says that it waits for the agent's next heartbeat."""
        self._wakes.pop(wake, None)
        if not pending or not self.counts:
            return
        if not deferred:  # the turn that it starts takes up all that is pending
            for other in self._wakes.values():
                if other.answered_s is not None and other.frees_at_s(now_s) > now_s + self._window_s:
                    other.answered_s, other.lasts_s = now_s, self._window_s
        self._wakes[wake] = _Wake(now_s, HEARTBEAT_S if deferred else self._window_s)

    def remember(self, wake: str, now_s: float, age_s: float) -> None:
        """Count a wake that an earlier run sent."""
        if self.counts:
            self._wakes[wake] = _Wake(now_s - age_s, self._window_s)

    def forget_before(self, began_s: float) -> None:
        """Forget what the gateway took before its process began: it is lost."""
        self._wakes = {
            key: wake for key, wake in self._wakes.items() if wake.answered_s is None or wake.answered_s >= began_s
        }

    def _forget_taken_up(self, now_s: float) -> None:
        self._wakes = {key: wake for key, wake in self._wakes.items() if wake.frees_at_s(now_s) > now_s}
