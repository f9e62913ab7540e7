"""How the daemon comes by its jobs: sure of schema, name and earlier claims, from each queue in turn."""

import asyncio
import random
from collections import deque
from datetime import datetime, timedelta

import psycopg
import structlog

from daemon.leases import Leases
from daemon.low_water import LOOK_AGAIN_MS, LowWater
from daemon.pacing import Pacer
from daemon.watch import GatewayWatch
from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from notifier.presence import Presence
from notifier.sleep import Moment
from notifier.waker import Waker
from sql import jobs, settling
from sql.jobs import Job
from sql.migrate import SchemaTooOldError, require_version
from sql.names import NameTakenError
from sql.session import Session

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
TAKEN_MS = 100.0
SUSPECT_MS = 1_000.0
# longer than a claim of the daemon that goes first takes, and no more than a few milliseconds where that one is busy
GIVE_WAY_S = (0.005, 0.015)
LOOK_S = 0.1  # after a claim that took all: the next notification may come first, and its claim tells more
LOOK = frozenset({"look"})
CLAIM_S = 4.0  # less than the statement's deadline: what comes later than this is given up, and must take nothing

log = structlog.get_logger()


class Claiming:
    """Claims for one daemon, and sets the waker's clock where there is nothing to claim."""

    def __init__(  # noqa: PLR0913 - its parts, wired by the worker
        self,
        session: Session,
        waker: Waker,
        stop: asyncio.Event,
        presence: Presence,
        leases: Leases,
        *,
        pacer: Pacer,
        watch: GatewayWatch,
        lease_s: float,
    ) -> None:
        """Take the parts; what the presence says of this daemon stands in locked_by."""
        self._session = session
        self._waker = waker
        self._stop = stop
        self._presence = presence
        self._identity = presence.identity.worker
        self._queues = deque(presence.queues)
        self._leases = leases
        self._pacer = pacer
        self._watch = watch
        self._lease_s = lease_s
        self._schema_fits = False
        self._wakes_known = False
        self._claim_unheard = False
        self._database_time: tuple[datetime, Moment] | None = None
        self._failures = 0
        self._complain = Complaint()
        self._low_water = LowWater()
        self.wants_idle = False
        self._took_all = False  # the last claim left nothing that is due, as far as it knows
        self._is_to_look = False
        self._came_late = False  # and found nothing
        self._gives_way = False

    def woken(self, reasons: frozenset[str]) -> None:
        """Hear why there may be work, if there is a reason.

        A notification wakes all daemons of a queue, and one of them gets the job. It is likely the one that got the
        last: the others let it go first, and then look before they claim.
        """
        self._gives_way = reasons == {"notified"} and self._came_late and self._presence.shares
        if reasons - LOOK:
            self._took_all = self._gives_way
        self._is_to_look = reasons == LOOK or self._gives_way
        self._low_water.woken(reasons)

    async def claim(self, room: int) -> list[Job]:
        """Claim from each queue in turn; nothing when the database is away, whose return rings the waker."""
        held: list[Job] = []
        if not self._presence.tried or room < 1:
            return held
        if self._took_all and not self._is_to_look:
            self._waker.look_in(LOOK_S)
            return held
        self._take_turns()
        if self._gives_way:
            await asyncio.sleep(random.uniform(*GIVE_WAY_S))  # noqa: S311 - no secret
        try:
            await self._make_sure()
            if not self._took_all or await self._look():
                await self._claim_from_each(room, held)
        except (psycopg.Error, SchemaTooOldError, NameTakenError) as error:
            self._away(error)
        else:
            self._back()
        return held

    async def _claim_from_each(self, room: int, held: list[Job]) -> None:
        for queue in self._queues:
            if room > len(held) and not any(job.alone for job in held) and not self._stop.is_set():
                held += await self._claim_from(queue, room - len(held))
        if not held and not self._stop.is_set():
            await self._look()
        self._came_late = not held
        self._took_all = 0 < len(held) < room

    def _take_turns(self) -> None:
        """Begin with another queue each time, for one that is always full must not starve the others."""
        first, self._waker.suspect_queue = self._waker.suspect_queue, None
        self._queues.rotate(-1 if first is None else -self._queues.index(first))

    async def _make_sure(self) -> None:
        """Look that this program knows the schema, that the name is its own, and that every claim was heard."""
        if not self._schema_fits:
            await require_version(self._session)
            self._schema_fits = True  # looked at once, for it only gets newer
        if not self._presence.taken:
            # where the listener cannot connect, work goes on without it
            await self._presence.take(self._session, listens=False)
        if not self._wakes_known:
            await self._recall()
        if self._claim_unheard:
            for job_id in await jobs.release_unheld(self._session, self._identity, self._leases.ids):
                log.info("job_released", job_id=job_id, reason="the answer to its claim was lost")
            self._claim_unheard = False
        if self._database_time is None:
            await self._look()  # no claim goes out that could not be too late

    async def _recall(self) -> None:
        """Count what an earlier run of this daemon may have left pending in the gateway, and watch over it."""
        daemon, now_s = self._presence.identity.daemon, asyncio.get_running_loop().time()
        wakes = await settling.recent_wakes(self._session, daemon, self._pacer.window_s)
        for wake in wakes:
            if wake.session is not None:
                self._pacer.remember(wake.session, wake.wake, now_s, wake.age_s)
        if wakes:
            await self._watch.forget_lost()
        until_ms = await settling.awaiting_until(self._session, daemon, self._queues)
        if until_ms is not None:
            self._watch.expect(until_ms / 1000)
        self._wakes_known = True

    def _away(self, error: Exception) -> None:
        """Try again: at once, for a new connection mends what ailed only the old one, and then ever later."""
        self._failures += 1
        again = self._failures > 1
        if again and self._waker.listening and not isinstance(error, NameTakenError):  # else others have said it
            self._complain("database_away", error=one_line(error))
        pause_s = full_jitter_s(self._failures, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S) if again else 0
        self._waker.back_off(pause_s)

    def _back(self) -> None:
        self._failures = 0
        if self._complain.over():
            log.info("database_back")

    async def _look(self) -> bool:
        """Set the timer for what is not due yet, and tell whether there is work."""
        run_after = self._low_water.least(self._queues)
        pulse = await jobs.pulse(self._session, self._queues, run_after=run_after)
        self._expect(pulse, within_ms=None if run_after is None else LOOK_AGAIN_MS)
        return pulse.work_waits

    def _expect(self, pulse: jobs.Pulse, *, within_ms: float | None) -> None:
        """Set the timer, to ring within some time where the pulse looked above a mark alone.

        What is due and yet was not claimed is in another daemon's hands for a moment, or waits until this one is idle.
        """
        self._database_time = (pulse.database_time, Moment.now())
        self.wants_idle = pulse.work_waits and not self._leases.are_idle
        least_ms = SUSPECT_MS if self.wants_idle else TAKEN_MS
        due_ms = None if pulse.next_due_ms is None else max(pulse.next_due_ms, least_ms)
        self._waker.due_in(min((ms for ms in (due_ms, within_ms) if ms is not None), default=None))

    async def _claim_from(self, queue: str, room: int) -> list[Job]:
        since, busy = Moment.now(), not self._leases.are_idle
        self._claim_unheard = True
        claimed = await jobs.claim_jobs(
            self._session,
            queue,
            self._identity,
            room,
            self._lease_s,
            run_after=self._low_water.of(queue),
            busy=busy,
            not_after=self._not_after(since),
        )
        self._claim_unheard = False
        self._low_water.claimed(queue, claimed)
        for job in claimed:
            self._leases.hold(job, since)
        return claimed

    def _not_after(self, now: Moment) -> datetime | None:
        """Return when a claim that is sent now has come too late, by the database's clock as far as it is known."""
        if self._database_time is None:
            return None
        then, since = self._database_time
        return then + timedelta(seconds=since.age_s(now) + CLAIM_S)
