"""What the gateway can hold: which jobs go out now, alone or together, and which wait for how long.

Pure: jobs and the time come in, a plan goes out. The gateway keeps 20 pending events a session and drops the oldest
without a word (measured on OpenClaw 2026.9.6), so a client that sends more loses what it was told 200 for.
"""

import math
from collections.abc import Callable, Sequence
from uuid import UUID

from daemon.gathering import MAX_JOBS, Gathering
from daemon.plan import Digest, Ended, Plan, Routed
from daemon.routes import Route
from daemon.slots import Slots
from sql.jobs import Job

SLOTS = 10  # half of what the gateway holds: the other half is for the owner's other hooks
WINDOW_S = 60.0
RUN_WAIT_S = 5.0
LONGEST_RUN_WAIT_S = 60.0
HELD_BACK_S = 600.0


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
        self._sessions: dict[str, Gathering] = {}

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

    def ended(self, digest: Digest, now_s: float, ended: Ended) -> None:
        """Count what went out, and send no more together than the gateway takes."""
        self._runs.end(digest)
        if digest.route.action != "drop":
            session = self._session(digest.route.session)
            session.slots.settle(digest.key, now_s, pending=ended.pending, deferred=digest.route.mode != "now")
            session.learn(len(digest.items), ended)

    def remember(self, session: str, wake: str, now_s: float, age_s: float) -> None:
        """Count a wake of an earlier run."""
        self._session(session).slots.remember(wake, now_s, age_s)

    def gateway_began(self, began_s: float) -> None:
        """Forget what was pending before: it went with the process that the gateway had."""
        for session in self._sessions.values():
            session.slots.forget_before(began_s)

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
        session = self._session(item.route.session)
        if not self._runs.may_start(item.route):
            plan.defer(item, self._runs.wait_s(item.job.id, now_s), "waits for another agent run to end")
        elif not item.route.deliver:
            plan.digests.append(Digest((item,)))
            self._runs.start(plan.digests[-1])
        elif session.go_alone(item, now_s, plan):
            self._runs.start(plan.digests[-1])
        else:
            session.wait_alone(item, now_s, plan)

    def _session(self, name: str) -> Gathering:
        if name not in self._sessions:
            self._sessions[name] = Gathering(Slots(self._slots, self.window_s))
        return self._sessions[name]


class _Runs:
    """The agent runs under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._session_keys: dict[str, str | None] = {}
        self._waiting: dict[UUID, float] = {}  # in their order, with the time at which each is back

    def may_start(self, route: Route) -> bool:
        """Tell whether another may run; the gateway lets those of one session key wait for each other."""
        is_free = route.session_key is None or route.session_key not in self._session_keys.values()
        return is_free and len(self._session_keys) < self._limit

    def wait_s(self, job_id: UUID, now_s: float) -> float:
        """Return when a job should ask again: the later, the further back it is in the line."""
        self._waiting = {key: at for key, at in self._waiting.items() if key == job_id or at + RUN_WAIT_S > now_s}
        place = list(self._waiting).index(job_id) if job_id in self._waiting else len(self._waiting)
        wait_s = min(RUN_WAIT_S * (1 + place // self._limit), LONGEST_RUN_WAIT_S)
        self._waiting[job_id] = now_s + wait_s
        return wait_s

    def start(self, digest: Digest) -> None:
        self._waiting.pop(digest.jobs[0].id, None)
        self._session_keys[digest.key] = digest.route.session_key

    def end(self, digest: Digest) -> None:
        self._session_keys.pop(digest.key, None)
