"""The wakes of one session of the gateway: alone while there are slots, and beyond that together, in one kept free."""

from collections.abc import Iterable, Sequence

from daemon.plan import Digest, Ended, Plan, Routed
from daemon.slots import Slots

DIGEST_SLOTS = 1
MAX_JOBS = 500  # ids and slugs of so many stay below the gateway's 256 KiB
GATHER_S = 5.0  # the agent's next turn is further away than that
COLLECT_S = 0.25  # what was put off until the same time comes back in more than one claim
LATE_S = 5.0


class Gathering:
    """What of one session's jobs goes out now, and what waits for how long.

    What waits does so in the database, and comes back as a new claim. Where both wait, words that must go alone and the
    digest take turns at the slots that become free.
    """

    def __init__(self, slots: Slots) -> None:
        """Count in these slots."""
        self.slots = slots
        self.largest = MAX_JOBS
        self._gathered_at_s: float | None = None  # when the next digest has gathered for long enough
        self._back_at_s = 0.0  # when the last that was put off for it is back
        self._collected: list[Routed] = []
        self._collecting_since_s = 0.0
        self._alone_until_s = 0.0  # until then something waits for a slot of its own
        self._digest_went_last = False

    @property
    def closes_at_s(self) -> float | None:
        """When what was collected goes out."""
        return self._collecting_since_s + COLLECT_S if self._collected else None

    def plan(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        """See to new jobs; another producer's words are never merged."""
        words = [item for item in items if item.job.trigger_name is None]
        for ahead, item in enumerate([item for item in words if not self.go_alone(item, now_s, plan)]):
            self.wait_alone(item, now_s, plan, ahead)
        self._plan_events([item for item in items if item.job.trigger_name is not None], now_s, plan)

    def go_alone(self, item: Routed, now_s: float, plan: Plan) -> bool:
        """Send what is never merged, if there is a slot for it."""
        if self.slots.room(now_s, self._spare_of_alone) < 1:
            return False
        self._digest_went_last = False
        self._send([item], plan)
        return True

    def wait_alone(self, item: Routed, now_s: float, plan: Plan, ahead: int = 0) -> None:
        """Put off what is never merged until there is a slot for it, after those ahead."""
        free_at_s = self.slots.free_at_s(now_s, self._spare_of_alone, ahead)
        self._alone_until_s = max(self._alone_until_s, free_at_s + LATE_S)
        plan.defer(item, free_at_s - now_s, "paced: waits for a pending slot of the gateway")

    def close(self, now_s: float, plan: Plan) -> None:
        """Send the digest when its time has come."""
        if self.closes_at_s is None:
            if self._gathered_at_s is not None and now_s > max(self._gathered_at_s, self._back_at_s) + LATE_S:
                self._gathered_at_s = None  # others took what waited, or a person did
        elif now_s >= self.closes_at_s:
            items = self.leave()
            if self.slots.room(now_s, self._spare_of_digest(items, now_s)) >= 1:
                self._digest_went_last = True
                self._send(items[: self.largest], plan)
                items = items[self.largest :]
            self._gather(items, now_s, plan)

    def learn(self, jobs: int, ended: Ended) -> None:
        """Learn how many may go together: half of what was refused, and one more after as many as may were taken."""
        if ended.refused and jobs > 1:
            self.largest = jobs // 2
        elif ended.pending and jobs >= self.largest:
            self.largest = min(self.largest + 1, MAX_JOBS)

    def leave(self) -> list[Routed]:
        """Give up what was collected."""
        items, self._collected, self._gathered_at_s = self._collected, [], None
        return items

    @property
    def _spare_of_alone(self) -> int:
        return 0 if self._digest_went_last or self.slots.wait_for_a_turn else DIGEST_SLOTS

    def _spare_of_digest(self, items: Sequence[Routed], now_s: float) -> int:
        """Return how many slots a digest leaves: to others whose turn it is, and to what is urgent if it is not."""
        is_others_turn = self._digest_went_last and now_s < self._alone_until_s
        is_urgent = any(item.route.mode == "now" for item in items)
        return int(is_others_turn) + int(not is_urgent)

    def _plan_events(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        if not self.slots.counts:
            self._each(items, now_s, plan)
            return
        if self._gathered_at_s is not None or any(item.job.sent_before for item in items):
            self._gather(items, now_s, plan)
            return
        have_waited = [item for item in items if item.job.claims > 1]
        fresh = [item for item in items if item.job.claims == 1]
        if len(have_waited) > self.slots.room(now_s, DIGEST_SLOTS):  # a backlog is told as one, not bit by bit
            self._gather(have_waited, now_s, plan)
            have_waited = []
        self._gather(self._each(have_waited + fresh, now_s, plan), now_s, plan)

    def _each(self, items: Iterable[Routed], now_s: float, plan: Plan) -> list[Routed]:
        """Send each by itself while there are slots, and return the rest."""
        rest = []
        for item in items:
            if self.slots.room(now_s, DIGEST_SLOTS) >= 1:
                self._send([item], plan)
            else:
                rest.append(item)
        return rest

    def _gather(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        """Let them wait for the next digest; what is urgent does not wait for what is not."""
        urgent = [item for item in items if item.route.mode == "now"]
        for group in (urgent, [item for item in items if item.route.mode != "now"]):
            if group:
                self._wait_together(group, now_s, plan)

    def _wait_together(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        if self._gathered_at_s is None:
            has_waited = all(item.job.claims > 1 for item in items) or any(item.job.sent_before for item in items)
            self._gathered_at_s = now_s + (0 if has_waited else GATHER_S)
        # looked at anew each time: slots become free when the gateway refuses, or begins anew
        at_s = max(self._gathered_at_s, self.slots.free_at_s(now_s, self._spare_of_digest(items, now_s)))
        if at_s <= now_s:
            self._collecting_since_s = self._collecting_since_s if self._collected else now_s
            self._collected += items
            return
        self._back_at_s = max(self._back_at_s, at_s)
        for item in items:
            plan.defer(item, at_s - now_s, "paced: goes out with the next digest")

    def _send(self, items: Sequence[Routed], plan: Plan) -> None:
        digest = Digest(tuple(items))
        self.slots.take(digest.key)
        plan.digests.append(digest)
