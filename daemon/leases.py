"""The jobs that this daemon holds: at most so many at once, each lease renewed while it lives."""

import asyncio
from typing import TYPE_CHECKING

import psycopg
import structlog

from notifier.complaint import one_line
from sql import jobs
from sql.jobs import Job
from sql.session import Session

if TYPE_CHECKING:
    from uuid import UUID

RENEWALS_A_LEASE = 3

log = structlog.get_logger()


class Leases:
    """The held jobs, by id."""

    def __init__(self, session: Session, worker: str, *, lease_s: float, slots: int) -> None:
        """Hold at most `slots` jobs, each for lease_s seconds beyond its last renewal."""
        self._session = session
        self._worker = worker
        self._lease_s = lease_s
        self._slots = slots
        self._held: dict[UUID, Job] = {}
        self._freed = asyncio.Event()

    async def room(self) -> int:
        """Wait until another job can be held, and return how many."""
        while len(self._held) >= self._slots:
            self._freed.clear()
            await self._freed.wait()
        return self._slots - len(self._held)

    def hold(self, job: Job) -> None:
        """Renew this job's lease from now on."""
        self._held[job.id] = job

    def drop(self, job: Job) -> None:
        """Renew it no more, and make room; a newer claim of the same job stays held."""
        if self._held.get(job.id) is job:
            del self._held[job.id]
        self._freed.set()

    async def renew(self) -> None:
        """Renew what is held, three times a lease; only cancelling ends it."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)
            try:
                await self._extend()
            except psycopg.Error as error:
                log.warning("leases_not_renewed", held=len(self._held), error=one_line(error))

    async def _extend(self) -> None:
        held = list(self._held.values())
        if not held:
            return
        kept = await jobs.extend_jobs(self._session, self._worker, held, self._lease_s)
        for job in held:
            # one that was settled meanwhile is not held any more, and was not lost
            if job.id not in kept and self._held.get(job.id) is job:
                log.warning("lease_lost", job_id=job.id, queue=job.queue, attempt=job.attempts)
                self.drop(job)
