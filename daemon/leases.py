"""The jobs that this daemon holds: at most so many at once, each lease renewed while it lives."""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import structlog

from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from notifier.sleep import Moment
from sql import jobs
from sql.jobs import Job, LeaseLostError
from sql.session import Session

if TYPE_CHECKING:
    from uuid import UUID

RENEWALS_A_LEASE = 3
OLD = 2 / 3  # two renewals failed: what is sent now would be answered near the end of the lease
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Held:
    """A job, and the moment from which its lease runs: before the call that renewed it was sent."""

    job: Job
    since: Moment


class Leases:
    """The held jobs, by id.

    One that is set aside (an agent run, which may take long) is renewed as the others and is in nobody's way.
    """

    def __init__(
        self, session: Session, worker: str, *, lease_s: float, slots: int, renew_s: float | None = None
    ) -> None:
        """Hold at most `slots` jobs, each for lease_s seconds beyond its last renewal, which comes every renew_s."""
        self._session = session
        self._worker = worker
        self._lease_s = lease_s
        self._renew_s = renew_s or lease_s / RENEWALS_A_LEASE
        self._slots = slots
        self._held: dict[UUID, _Held] = {}
        self._near: set[UUID] = set()  # all but those that are set aside
        self._alone: set[UUID] = set()  # those of them that must be alone
        self._doubted = asyncio.Event()  # wakes the renewal
        self._doubted_at = -math.inf
        self._extending = asyncio.Lock()
        self._complain = Complaint()

    @property
    def ids(self) -> "list[UUID]":
        """The ids of the held jobs."""
        return list(self._held)

    @property
    def jobs(self) -> list[Job]:
        """The held jobs."""
        return [held.job for held in self._held.values()]

    @property
    def are_idle(self) -> bool:
        """Tell whether nothing is held but what is set aside."""
        return not self._near

    def room(self, ahead: int = 0) -> int:
        """Return how many more jobs can be held, with so many ahead; one that must be alone leaves no room."""
        return 0 if self._alone else self._slots + ahead - len(self._near)

    def hold(self, job: Job, since: Moment | None = None) -> None:
        """Renew this job's lease from now on; it runs since its claim was sent."""
        self._held[job.id] = _Held(job, since or Moment.now())
        self._near.add(job.id)
        if job.alone:
            self._alone.add(job.id)
        else:
            self._alone.discard(job.id)  # as an older claim of it was

    def set_aside(self, job: Job) -> None:
        """Let others be held beside it, whatever becomes of it."""
        if self.holds(job):
            self._near.discard(job.id)
            self._alone.discard(job.id)

    def drop(self, job: Job) -> None:
        """Renew it no more; a newer claim of the same job stays held."""
        if self.holds(job):
            self.set_aside(job)
            del self._held[job.id]

    def doubt(self) -> None:
        """Trust no lease until it was extended: the machine slept."""
        self._doubted_at = Moment.now().monotonic_s
        self._doubted.set()

    async def assure(self, job: Job) -> None:
        """Return when the job's lease holds: at once, unless it is old or doubted. Raises LeaseLostError.

        While the database is away this waits: a job whose lease may be another's must be neither sent nor settled.
        """
        failures = 0
        while self._is_doubtful(job, Moment.now()):
            try:
                await self._extend()
            except psycopg.Error as error:
                failures += 1
                self._not_renewed(error)
                await _back_off(failures)
        if not self.holds(job):
            raise LeaseLostError(job.id, job.claims)

    def holds(self, job: Job) -> bool:
        """Tell whether this very claim is held, as far as is known."""
        held = self._held.get(job.id)
        return held is not None and held.job is job

    async def hold_on(self, claimed: Sequence[Job]) -> list[Job]:
        """Assure the jobs' leases, and return those that hold."""
        now = Moment.now()
        if not any(self._is_doubtful(job, now) for job in claimed):
            return [job for job in claimed if self.holds(job)]
        held = []
        for job in claimed:
            with contextlib.suppress(LeaseLostError):
                await self.assure(job)
                held.append(job)
        return held

    async def renew(self) -> None:
        """Renew what is held, in time and after every sleep; only cancelling ends it."""
        failures = 0
        while True:
            await (_back_off(failures) if failures else self._due())
            try:
                await self._extend()
            except psycopg.Error as error:
                failures += 1
                self._not_renewed(error)
            else:
                failures = 0

    async def _due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._renew_s):
                await self._doubted.wait()
        self._doubted.clear()

    def _is_doubtful(self, job: Job, now: Moment) -> bool:
        held = self._held.get(job.id)
        if held is None or held.job is not job:
            return False
        is_old = held.since.age_s(now) >= self._lease_s * OLD
        return is_old or held.since.monotonic_s <= self._doubted_at

    async def _extend(self) -> None:
        """Extend all leases at once, and drop what another worker has by now."""
        async with self._extending:
            now = Moment.now()
            held = list(self._held.values())
            if held:
                kept = await jobs.extend_jobs(self._session, self._worker, [one.job for one in held], self._lease_s)
                self._sort_out(held, kept, now)
        self._complain.over()

    def _sort_out(self, held: list[_Held], kept: "set[UUID]", now: Moment) -> None:
        for one in held:
            if one.job.id in kept:
                one.since = now
            # one that was settled meanwhile is not held any more, and was not lost
            elif self.holds(one.job):
                log.warning("lease_lost", job_id=one.job.id, queue=one.job.queue, attempt=one.job.attempts)
                self.drop(one.job)

    def _not_renewed(self, error: psycopg.Error) -> None:
        self._complain("leases_not_renewed", held=len(self._held), error=one_line(error))


async def _back_off(failures: int) -> None:
    await asyncio.sleep(full_jitter_s(failures, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S))
