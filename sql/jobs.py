"""The queue as seen from Python: claims, their leases, and what waits. How claims end is in settling.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sql.line import Statements
from sql.session import Session

Outcome = dict[str, Any]


class LeaseLostError(Exception):
    """The claim that this call shows is over: another worker has the job, or a person settled it."""

    def __init__(self, job_id: UUID, claims: int) -> None:
        """Remember which claim of which job."""
        super().__init__(f"lease lost: claim {claims} of job {job_id} is over")
        self.job_id = job_id
        self.claims = claims


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; `claims` and `claimed_at` are the fence that settling it must show: this claim's number and time.

    `sent_at` is when the gateway took it last, where it was not handled then.
    """

    id: UUID
    type: str
    queue: str
    wake_text: str | None
    trigger_name: str | None
    learning_id: UUID | None
    attempts: int
    max_attempts: int
    claims: int
    run_at: datetime
    lapses: int = 0
    claimed_at: datetime | None = None
    sent_at: datetime | None = None

    @property
    def sent_before(self) -> bool:
        """Tell whether the gateway took it once, and it was not handled."""
        return self.sent_at is not None

    @property
    def alone(self) -> bool:
        """Tell whether its worker must hold nothing beside it: another worker fell silent with it."""
        return self.lapses > 0


@dataclass(frozen=True, slots=True)
class Pulse:
    """The database's answer to a heartbeat; `next_due_ms` is None when nothing is queued or leased.

    `suspect_queue` is one whose next job must be alone with its worker. `shared` says that each of the queues is
    served by another daemon that lives too.
    """

    database_time: datetime
    work_waits: bool
    next_due_ms: float | None
    suspect_queue: str | None = None
    shared: bool = False


async def claim_jobs(  # noqa: PLR0913 - one call, one statement
    session: Session,
    queue: str,
    worker: str,
    limit: int,
    lease_s: float,
    *,
    run_after: datetime | None = None,
    busy: bool = False,
    not_after: datetime | None = None,
) -> list[Job]:
    """Lease up to `limit` due jobs of a queue, the longest due first.

    Where `run_after` is given, only those that are due from then on, and no lapsed lease is returned before. One that
    lapsed before comes alone, and only to a worker that holds no other (`busy`). A call that comes to the database
    after `not_after`, by its clock, claims nothing.
    """
    rows = await session.fetch(
        "select id, type, queue, wake_text, trigger_name, learning_id, attempts, max_attempts, claims, run_at, lapses,"
        " claimed_at, sent_at"
        " from agent_vault.claim_jobs(%s, %s, %s, %s, %s, %s, %s)",
        [queue, worker, limit, lease_s, run_after, busy, not_after],
    )
    return [Job(*row) for row in rows]


async def release_unheld(session: Session, worker: str, held: Sequence[UUID]) -> list[UUID]:
    """Give back what a worker claimed and never heard of; `held` are the jobs that it knows of."""
    rows = await session.fetch("select * from agent_vault.release_unheld(%s, %s)", [worker, list(held)])
    return [row[0] for row in rows]


async def extend_jobs(session: Session, worker: str, jobs: Sequence[Job], lease_s: float) -> set[UUID]:
    """Extend the leases of these jobs and return the ids of those that are still held."""
    rows = await session.fetch(
        "select * from agent_vault.extend_jobs(%s, %s, %s, %s)",
        [worker, [job.id for job in jobs], [job.claims for job in jobs], lease_s],
    )
    return {row[0] for row in rows}


async def requeue_job(session: Session, job_id: UUID) -> bool:
    """Queue a failed job again with all its attempts; False when it is not failed."""
    return bool((await session.fetch("select agent_vault.requeue_job(%s)", [job_id]))[0][0])


async def pulse(session: Statements, queues: Sequence[str], *, run_after: datetime | None = None) -> Pulse:
    """Ask for the database's time and for what waits in these queues.

    Where `run_after` is given, only jobs that are due from then on count, and no leases.
    """
    rows = await session.fetch(
        "select database_time, work_waits, next_due_ms from agent_vault.pulse(%s, %s)", [list(queues), run_after]
    )
    return Pulse(*rows[0])
