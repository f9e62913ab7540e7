"""The daemon's loop: claim, deliver, settle."""

import asyncio
import functools
from collections import deque
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog

from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pause import Pause
from daemon.settlement import Settlement
from daemon.wording import wake_text
from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from notifier.presence import Presence
from notifier.sleep import Moment, SleepWatch
from notifier.waker import Waker
from sql import jobs
from sql.jobs import Job, LeaseLostError
from sql.migrate import SchemaTooOldError, require_version
from sql.names import NameTakenError
from sql.session import Session

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
TAKEN_MS = 100.0
SUSPECT_MS = 1_000.0
CLAIM_S = 4.0  # less than the statement's deadline: what comes later than this is given up, and must take nothing

log = structlog.get_logger()


class Worker:
    """One daemon at work, until its stop is set."""

    def __init__(  # noqa: PLR0913 - its parts, wired by daemon/run.py
        self,
        session: Session,
        gateway: Gateway,
        waker: Waker,
        stop: asyncio.Event,
        presence: Presence,
        *,
        sleep: SleepWatch,
        lease_s: float,
        renew_s: float | None = None,
        concurrency: int,
    ) -> None:
        """Take the parts; what the presence says of this daemon stands in locked_by."""
        self._session = session
        self._gateway = gateway
        self._waker = waker
        self._stop = stop
        self._presence = presence
        self._identity = presence.identity.worker
        self._queues = deque(presence.queues)
        self._lease_s = lease_s
        self._schema_fits = False
        self._claim_unheard = False
        self._wants_idle = False
        self._database_time: tuple[datetime, Moment] | None = None
        self._failures = 0
        self._complain = Complaint()
        self.leases = Leases(session, self._identity, lease_s=lease_s, slots=concurrency, renew_s=renew_s)
        self._sleep = sleep
        sleep.tell(self.leases.doubt)
        sleep.tell(lambda: waker.ring("slept"))
        self._pause = Pause(gateway, stop)
        self._settlement = Settlement(session, self.leases, self._pause, gateway, patience_s=lease_s)

    async def run(self) -> None:
        """Claim and deliver until the stop; then finish or release what is held."""
        async with asyncio.TaskGroup() as deliveries:
            while not self._stop.is_set():
                self._waker.clear()  # before the claim: a wake-up during it must survive
                room = await self.leases.room()  # one slow agent run must not hold up the next event
                if self._waker.suspect_queue is not None:  # its turn has come, and it must be alone
                    room = await self.leases.idle()
                await self._pause.opened()
                held = await self._claim(room)
                for job in held:
                    deliveries.create_task(self._deliver(job), name=f"deliver {job.id}")
                if not held and not self._stop.is_set():
                    await self._waker.wait()

    async def _claim(self, room: int) -> list[Job]:
        """Claim from each queue in turn; nothing when the database is away, whose return rings the waker."""
        held: list[Job] = []
        if not self._presence.tried:
            return held
        self._take_turns()
        try:
            await self._make_sure()
            for queue in self._queues:
                if room > len(held) and not any(job.alone for job in held) and not self._stop.is_set():
                    held += await self._claim_from(queue, room - len(held))
            if not held and not self._stop.is_set():
                self._expect(await jobs.pulse(self._session, self._queues))
        except (psycopg.Error, SchemaTooOldError, NameTakenError) as error:
            self._away(error)
        else:
            self._back()
        return held

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
        if self._claim_unheard:
            for job_id in await jobs.release_unheld(self._session, self._identity, self.leases.ids):
                log.info("job_released", job_id=job_id, reason="the answer to its claim was lost")
            self._claim_unheard = False

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

    def _expect(self, pulse: jobs.Pulse) -> None:
        """Set the timer.

        What is due and yet was not claimed is in another daemon's hands for a moment, or waits until this one is idle.
        """
        self._database_time = (pulse.database_time, Moment.now())
        self._wants_idle = pulse.work_waits and bool(self.leases.ids)
        least_ms = SUSPECT_MS if self._wants_idle else TAKEN_MS
        self._waker.due_in(None if pulse.next_due_ms is None else max(pulse.next_due_ms, least_ms))

    async def _claim_from(self, queue: str, room: int) -> list[Job]:
        since, busy = Moment.now(), bool(self.leases.ids)
        self._claim_unheard = True
        claimed = await jobs.claim_jobs(
            self._session, queue, self._identity, room, self._lease_s, busy=busy, not_after=self._not_after(since)
        )
        self._claim_unheard = False
        for job in claimed:
            self.leases.hold(job, since)
            log.info("job_claimed", job_id=job.id, type=job.type, queue=queue, attempt=job.attempts)
        return claimed

    def _not_after(self, now: Moment) -> datetime | None:
        """Return when a claim that is sent now has come too late, by the database's clock as far as it is known."""
        if self._database_time is None:
            return None
        then, since = self._database_time
        return then + timedelta(seconds=since.age_s(now) + CLAIM_S)

    async def _deliver(self, job: Job) -> None:
        """Send one job and settle it; no fault of one job reaches another."""
        try:
            text = wake_text(job)
            if text is None:
                await self._settlement.fail(job, "payload.text is missing: there is nothing to say", {})
                return
            answer = await self._gateway.wake(text, stop=self._stop, assure=functools.partial(self._assure, job))
            await self._settlement.settle(job, answer)
        except LeaseLostError:
            log.info("job_not_sent", **_name(job), reason="its lease is another worker's by now")
        except Exception:
            # ours is the fault: the lease lapses, counted, and the next claim takes this job alone
            log.exception("delivery_crashed", **_name(job))
        finally:
            self.leases.drop(job)
            if self._wants_idle and not self.leases.ids:
                self._waker.ring("idle")

    async def _assure(self, job: Job) -> None:
        """Wait until the job's lease holds, whatever the clocks did since the last look at them."""
        self._sleep.look()
        await self.leases.assure(job)


def _name(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "queue": job.queue}
