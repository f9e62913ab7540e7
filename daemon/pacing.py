"""What the gateway can hold: which jobs go out now, alone or together, and which wait for how long.

Pure: jobs and the time come in, a plan goes out. The gateway keeps 20 pending events a session and drops the oldest
without a word (measured on OpenClaw 2026.9.6), so a client that sends more loses what it was told 200 for.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from daemon.routes import Route
from daemon.slots import Slots
from sql.jobs import Job

SLOTS = 10  # half of what the gateway holds: the other half is for the owner's other hooks
WINDOW_S = 60.0
DIGEST_SLOTS = 1
MAX_JOBS = 500  # ids and slugs of so many stay below the gateway's 256 KiB
GATHER_S = 5.0  # the agent's next turn is further away than that
COLLECT_S = 0.25  # what was put off until the same time comes back in more than one claim
RUN_WAIT_S = 5.0
HELD_BACK_S = 600.0


@dataclass(frozen=True, slots=True)
class Routed:
    """A job and its route."""

    job: Job
    route: Route

    @property
    def awaits_handling(self) -> bool:
        """Tell whether the gateway's 2xx is not the end of it; another producer's job has nothing to be read."""
        return self.route.complete_when == "handled" and self.job.learning_id is not None


@dataclass(frozen=True, slots=True)
class Digest:
    """What goes out in one POST: one job, or many that one wake stands for."""

    items: tuple[Routed, ...]

    @property
    def route(self) -> Route:
        """The route by which all go: to the same place, and at once if that is any one's."""
        return next((item.route for item in self.items if item.route.mode == "now"), self.items[0].route)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs alone."""
        return tuple(item.job for item in self.items)

    @property
    def key(self) -> str:
        """What tells it from every other."""
        return f"{self.jobs[0].id}/{self.jobs[0].claims}"

    @property
    def takes_slot(self) -> bool:
        """Tell whether it is to become a pending event; an agent run is when its end is to be announced."""
        return self.route.action == "wake" or (self.route.action == "agent" and self.route.deliver)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A job that goes back into the database, to be claimed again `delay_s` seconds from now."""

    job: Job
    delay_s: float
    reason: str


@dataclass(slots=True)
class Plan:
    """What to do with the jobs that were claimed."""

    digests: list[Digest] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)

    def defer(self, item: Routed, delay_s: float, reason: str) -> None:
        """Put a job off."""
        self.deferred.append(Deferred(item.job, delay_s, reason))


class Pacer:
    """Plans for all sessions of one gateway; seconds are those of a monotonic clock."""

    def __init__(
        self,
        route: Callable[[str], Route],
        *,
        slots: float = SLOTS,
        window_s: float = WINDOW_S,
        agent_runs: int = 2,
        foreign_text: bool = True,
    ) -> None:
        """Keep at most `slots` wakes pending in a session and `agent_runs` agent runs under way."""
        self._route = route
        self._slots = slots
        self.window_s = window_s
        self._foreign_text = foreign_text
        self._runs = _Runs(agent_runs)
        self._sessions: dict[str, _Session] = {}

    def plan(self, jobs: Sequence[Job], now_s: float) -> Plan:
        """Say which go out now and which wait."""
        plan = Plan()
        for session, items in self._sorted(jobs, plan, now_s).items():
            self._session(session).plan(items, now_s, plan)
        for other in self._sessions.values():
            other.close(now_s, plan)
        return plan

    @property
    def most(self) -> int | None:
        """How many jobs are of use at once, where many go out as one; None: as many as can be delivered at once."""
        return None if math.isinf(self._slots) else MAX_JOBS

    def leave(self) -> list[Job]:
        """Return what was to wait a moment for its digest, and now goes back."""
        return [item.job for session in self._sessions.values() for item in session.leave()]

    def due_s(self, now_s: float) -> float | None:
        """Return in how many seconds a plan gives more without new jobs, or None."""
        times = [session.closes_at_s for session in self._sessions.values() if session.closes_at_s is not None]
        return max(min(times) - now_s, 0.0) if times else None

    def ended(self, digest: Digest, now_s: float, *, pending: bool) -> None:
        """Count what went out: `pending` where its session has an event of it now, or may have."""
        self._runs.end(digest)
        if digest.route.action != "drop":
            slots = self._session(digest.route.session).slots
            slots.settle(digest.key, now_s, pending=pending, deferred=digest.route.mode != "now")

    def remember(self, session: str, wake: str, now_s: float, age_s: float) -> None:
        """Count a wake of an earlier run."""
        self._session(session).slots.remember(wake, now_s, age_s)

    def gateway_restarted(self) -> None:
        """Forget what was pending: it went with the gateway's process."""
        for session in self._sessions.values():
            session.slots.clear()

    def _sorted(self, jobs: Sequence[Job], plan: Plan, now_s: float) -> dict[str, list[Routed]]:
        """Return the wakes by session, what was sent before first; see to all others."""
        wakes: dict[str, list[Routed]] = {}
        for job in sorted(jobs, key=lambda job: not job.sent_before):
            item = Routed(job, self._route(job.type))
            if item.route.action == "drop":
                plan.digests.append(Digest((item,)))
            elif job.trigger_name is None and not self._foreign_text:
                plan.defer(item, HELD_BACK_S, "held back: DAEMON_FOREIGN_TEXT is off")
            elif item.route.action == "agent":
                self._plan_run(item, plan, now_s)
            else:
                wakes.setdefault(item.route.session, []).append(item)
        return wakes

    def _plan_run(self, item: Routed, plan: Plan, now_s: float) -> None:
        """Start a run, or put it off; one whose end is announced takes a pending slot of the session where it is."""
        slots = self._session(item.route.session).slots
        if not self._runs.may_start(item.route) or (item.route.deliver and slots.room(now_s, DIGEST_SLOTS) < 1):
            plan.defer(item, RUN_WAIT_S, "waits for another agent run to end")
            return
        digest = Digest((item,))
        self._runs.start(digest)
        if item.route.deliver:
            slots.take(digest.key)
        plan.digests.append(digest)

    def _session(self, name: str) -> "_Session":
        if name not in self._sessions:
            self._sessions[name] = _Session(Slots(self._slots, self.window_s))
        return self._sessions[name]


class _Runs:
    """The agent runs under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._session_keys: dict[str, str | None] = {}

    def may_start(self, route: Route) -> bool:
        """Tell whether another may run; the gateway lets those of one session key wait for each other."""
        is_free = route.session_key is None or route.session_key not in self._session_keys.values()
        return is_free and len(self._session_keys) < self._limit

    def start(self, digest: Digest) -> None:
        self._session_keys[digest.key] = digest.route.session_key

    def end(self, digest: Digest) -> None:
        self._session_keys.pop(digest.key, None)


class _Session:
    """The wakes of one session: alone while there are slots, and beyond that together, in one that is kept free."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._digest_at_s: float | None = None  # when the next digest is due, while something waits for it
        self._collected: list[Routed] = []

    @property
    def closes_at_s(self) -> float | None:
        """When what waits for the digest goes out."""
        return None if self._digest_at_s is None else self._digest_at_s + COLLECT_S

    def plan(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        """See to new jobs; another producer's words are never merged."""
        self._plan_foreign([item for item in items if item.job.trigger_name is None], now_s, plan)
        self._plan_events([item for item in items if item.job.trigger_name is not None], now_s, plan)

    def close(self, now_s: float, plan: Plan) -> None:
        """Send the digest when its time has come."""
        if self.closes_at_s is None or now_s < self.closes_at_s:
            return
        items = self.leave()
        if items and self.slots.room(now_s) < 1:
            self._gather(items, now_s, plan)
        elif items:
            self._send(items[:MAX_JOBS], plan)
            self._gather(items[MAX_JOBS:], now_s, plan)

    def leave(self) -> list[Routed]:
        """Give up what was collected."""
        items, self._collected, self._digest_at_s = self._collected, [], None
        return items

    def _plan_foreign(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        for ahead, item in enumerate(self._alone(items, now_s, plan)):
            delay_s = self.slots.free_at_s(now_s, DIGEST_SLOTS, ahead) - now_s
            plan.defer(item, delay_s, "paced: waits for a pending slot of the gateway")

    def _plan_events(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        if self._digest_at_s is not None or any(item.job.sent_before for item in items):
            self._gather(items, now_s, plan)
            return
        have_waited = [item for item in items if item.job.claims > 1]
        fresh = [item for item in items if item.job.claims == 1]
        if len(have_waited) > self.slots.room(now_s, DIGEST_SLOTS):  # a backlog is told as one, not bit by bit
            self._gather(have_waited, now_s, plan)
            have_waited = []
        self._gather(self._alone(have_waited + fresh, now_s, plan), now_s, plan)

    def _alone(self, items: Iterable[Routed], now_s: float, plan: Plan) -> list[Routed]:
        """Send each by itself while there are slots, and return the rest."""
        rest = []
        for item in items:
            if self.slots.room(now_s, DIGEST_SLOTS) >= 1:
                self._send([item], plan)
            else:
                rest.append(item)
        return rest

    def _gather(self, items: Sequence[Routed], now_s: float, plan: Plan) -> None:
        """Let them wait for the next digest: in the database, unless it is due at once."""
        if not items:
            return
        if self._digest_at_s is None:
            has_waited = all(item.job.claims > 1 for item in items) or any(item.job.sent_before for item in items)
            gathered_at_s = now_s + (0 if has_waited else GATHER_S)
            self._digest_at_s = max(gathered_at_s, self.slots.free_at_s(now_s))
        if self._digest_at_s <= now_s:
            self._collected += items
        else:
            for item in items:
                plan.defer(item, self._digest_at_s - now_s, "paced: goes out with the next digest")

    def _send(self, items: Sequence[Routed], plan: Plan) -> None:
        digest = Digest(tuple(items))
        self.slots.take(digest.key)
        plan.digests.append(digest)
