"""The database's upkeep, a small batch a call: events without a job are queued, and what is old is deleted."""

from dataclasses import dataclass
from typing import Literal

from sql.line import Statements
from sql.session import Session


@dataclass(frozen=True, slots=True)
class Swept:
    """How many events got the job that they never had, how many were refused it again, and why the last of these."""

    queued: int
    refused: int
    error: str | None


@dataclass(frozen=True, slots=True)
class UnservedQueue:
    """A queue in which jobs are due and that no living daemon serves; none beyond 1,000 is counted."""

    queue: str
    count: int
    oldest_s: float


async def sweep_learnings(session: Session, limit: int) -> Swept:
    """Queue up to `limit` events that this vault recorded without a job."""
    rows = await session.fetch("select queued, refused, error from agent_vault.sweep_learnings(%s)", [limit])
    return Swept(*rows[0])


async def prune_jobs(session: Session, status: Literal["done", "failed"], after_days: int, limit: int) -> int:
    """Delete up to `limit` jobs that ended so, so many days ago; return how many."""
    return int((await session.fetch("select agent_vault.prune_jobs(%s, %s, %s)", [status, after_days, limit]))[0][0])


async def prune_learnings(session: Session, after_days: int, limit: int) -> int:
    """Delete up to `limit` events of that age whose jobs are all done; return how many."""
    return int((await session.fetch("select agent_vault.prune_learnings(%s, %s)", [after_days, limit]))[0][0])


async def find_unserved(session: Statements, after_s: float) -> list[UnservedQueue]:
    """Return the queues that no living daemon serves and in which a job has been due for so long."""
    rows = await session.fetch("select queue, jobs, oldest_s from agent_vault.find_unserved(%s)", [after_s])
    return [UnservedQueue(*row) for row in rows]
