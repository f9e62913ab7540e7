"""The daemon's loop: claim, deliver, settle."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog

from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pause import Pause
from daemon.settlement import Settlement
from daemon.wording import wake_text
from notifier.complaint import Complaint, one_line
from notifier.waker import Waker
from sql import jobs
from sql.jobs import Job
from sql.migrate import SchemaTooOldError, require_version
from sql.session import Session

AWAY_MS = 1_000.0
TAKEN_MS = 100.0

log = structlog.get_logger()


class Worker:
    """One daemon at work, until its stop is set."""

    def __init__(  # noqa: PLR0913 - its parts, wired by daemon/run.py
        self,
        session: Session,
        gateway: Gateway,
        waker: Waker,
        stop: asyncio.Event,
        *,
        identity: str,
        queues: Sequence[str],
        lease_s: float,
        concurrency: int,
    ) -> None:
        """Take the parts; `identity` is what stands in locked_by."""
        self._session = session
        self._gateway = gateway
        self._waker = waker
        self._stop = stop
        self._identity = identity
        self._queues = deque(queues)
        self._lease_s = lease_s
        self._schema_fits = False
        self._failures = 0
        self._complain = Complaint()
        self.leases = Leases(session, identity, lease_s=lease_s, slots=concurrency)
        self._pause = Pause(gateway, stop)
        self._settlement = Settlement(session, self._pause, gateway, lease_s=lease_s)

    async def run(self) -> None:
        """Claim and deliver until the stop; then finish or release what is held."""
        async with asyncio.TaskGroup() as deliveries:
            while not self._stop.is_set():
                self._waker.clear()  # before the claim: a wake-up during it must survive
                room = await self.leases.room()  # one slow agent run must not hold up the next event
                await self._pause.opened()
                held = await self._claim(room)
                for job in held:
                    deliveries.create_task(self._deliver(job), name=f"deliver {job.id}")
                if not held and not self._stop.is_set():
                    await self._waker.wait()

    async def _claim(self, room: int) -> list[Job]:
        """Claim from each queue in turn; nothing when the database is away, whose return rings the waker."""
        held: list[Job] = []
        self._queues.rotate(-1)  # a queue that is always full must not starve the others
        try:
            await self._check_schema()
            for queue in self._queues:
                if room > len(held) and not self._stop.is_set():
                    held += await self._claim_from(queue, room - len(held))
            if not held and not self._stop.is_set():
                self._expect(await jobs.next_due_ms(self._session, self._queues))
        except (psycopg.Error, SchemaTooOldError) as error:
            self._away(error)
        else:
            self._back()
        return held

    async def _check_schema(self) -> None:
        """Claim nothing before the schema is one that this program knows; looked at once, for it only gets newer."""
        if not self._schema_fits:
            await require_version(self._session)
            self._schema_fits = True

    def _away(self, error: Exception) -> None:
        """Try again: at once, for a new connection mends what ailed only the old one, and then once a second."""
        self._failures += 1
        again = self._failures > 1
        if again and self._waker.listening:  # else the listener has said it
            self._complain("database_away", error=one_line(error))
        self._waker.due_in(AWAY_MS if again else 0)

    def _back(self) -> None:
        self._failures = 0
        if self._complain.over():
            log.info("database_back")

    def _expect(self, due_ms: float | None) -> None:
        """Set the timer; what is due and yet was not claimed is in another daemon's hands for a moment."""
        self._waker.due_in(due_ms if due_ms is None else max(due_ms, TAKEN_MS))

    async def _claim_from(self, queue: str, room: int) -> list[Job]:
        claimed = await jobs.claim_jobs(self._session, queue, self._identity, room, self._lease_s)
        for job in claimed:
            self.leases.hold(job)
            log.info("job_claimed", job_id=job.id, type=job.type, queue=queue, attempt=job.attempts)
        return claimed

    async def _deliver(self, job: Job) -> None:
        """Send one job and settle it; no fault of one job reaches another."""
        try:
            text = wake_text(job)
            if text is None:
                await self._settlement.fail(job, "payload.text is missing: there is nothing to say", {})
                return
            answer = await self._gateway.wake(text, stop=self._stop)
            await self._settlement.settle(job, answer)
        except Exception:
            # ours is the fault: the lease lapses, counted, and the next claim takes this job alone
            log.exception("delivery_crashed", **_name(job))
        finally:
            self.leases.drop(job)


def _name(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "queue": job.queue}
