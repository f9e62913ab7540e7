"""The ends of many claims at once, and what the agent was sent: one short call for each of the database's functions.

A job whose claim is over is left out of the answer and fails no other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from sql.arrays import Documents, Doubles, Integers, Times, Uuids
from sql.jobs import Job, Outcome
from sql.session import Session


@dataclass(frozen=True, slots=True)
class RecentWake:
    """A wake that a daemon of this name delivered `age_s` seconds ago, as the outcomes of its jobs name it."""

    session: str | None
    wake: str
    age_s: float


async def complete_jobs(session: Session, jobs: Sequence[Job], outcome: Outcome, since_delivery_s: float) -> set[UUID]:
    """End jobs as done; return which are."""
    waited_s = _stopwatch()
    rows = await session.fetch(
        "select * from agent_vault.complete_jobs(%s, %s, %s, %s, %s)",
        lambda: [*_claims(jobs), Jsonb(outcome), since_delivery_s + waited_s(), _times(jobs)],
    )
    return {row[0] for row in rows}


async def complete_each(
    session: Session, jobs: Sequence[Job], outcomes: Sequence[Outcome], since_delivery_s: Sequence[float]
) -> set[UUID]:
    """End jobs as done, each with its own outcome and its own age; return which are."""
    waited_s = _stopwatch()
    rows = await session.fetch(
        "select * from agent_vault.complete_jobs_each(%b, %b, %b, %b, %b)",
        lambda: [
            Uuids.of(job.id for job in jobs),
            Integers.of(job.claims for job in jobs),
            Documents.of(outcomes),
            Doubles.of(age_s + waited_s() for age_s in since_delivery_s),
            Times.of(job.claimed_at for job in jobs),
        ],
    )
    return {row[0] for row in rows}


async def drop_jobs(session: Session, jobs: Sequence[Job], outcome: Outcome) -> set[UUID]:
    """End jobs as done that the agent is not to hear of, nor to find among what is new; return which are."""
    rows = await session.fetch(
        "select * from agent_vault.drop_jobs(%s, %s, %s, %s)", [*_claims(jobs), Jsonb(outcome), _times(jobs)]
    )
    return {row[0] for row in rows}


async def release_jobs(session: Session, jobs: Sequence[Job], delay_s: float, reason: str) -> set[UUID]:
    """Give jobs back, their attempts uncounted; return which were."""
    rows = await session.fetch(
        "select * from agent_vault.release_jobs(%s, %s, %s, %s, %s)", [*_claims(jobs), delay_s, reason, _times(jobs)]
    )
    return {row[0] for row in rows}


async def fail_jobs(session: Session, jobs: Sequence[Job], error: str, outcome: Outcome) -> set[UUID]:
    """End jobs as failed, for a reason that no retry mends; return which are."""
    rows = await session.fetch(
        "select * from agent_vault.fail_jobs(%s, %s, %s, %s, %s)", [*_claims(jobs), error, Jsonb(outcome), _times(jobs)]
    )
    return {row[0] for row in rows}


async def retry_jobs(
    session: Session, jobs: Sequence[Job], delay_s: float, error: str, outcome: Outcome
) -> dict[UUID, str]:
    """Put jobs back for a later try, or fail those that have no attempt left; return the new status of each."""
    rows = await session.fetch(
        "select id, status from agent_vault.retry_jobs(%s, %s, %s, %s, %s, %s)",
        [*_claims(jobs), delay_s, error, Jsonb(outcome), _times(jobs)],
    )
    return dict(rows)


async def await_handling(
    session: Session, jobs: Sequence[Job], outcome: Outcome, since_delivery_s: float, within_s: float
) -> dict[UUID, bool]:
    """Leave jobs to the agent, to be sent again when it has not handled them within `within_s` seconds.

    Return for each whether it was handled already, and so is done; the others are nobody's to settle or extend.
    """
    waited_s = _stopwatch()
    rows = await session.fetch(
        "select id, handled from agent_vault.await_handling(%s, %s, %s, %s, %s, %s)",
        lambda: [*_claims(jobs), Jsonb(outcome), since_delivery_s + waited_s(), within_s, _times(jobs)],
    )
    return dict(rows)


async def resend_unhandled(session: Session, daemon: str, queues: Sequence[str], up_s: float) -> int:
    """Queue what a daemon of this name sent, and what is not handled, again at once; return how many.

    Only what it sent more than `up_s` seconds ago: the gateway's process has been running for so long.
    """
    waited_s = _stopwatch()
    rows = await session.fetch(
        "select agent_vault.resend_unhandled(%s, %s, %s)", lambda: [daemon, list(queues), up_s + waited_s()]
    )
    return int(rows[0][0])


async def recent_wakes(session: Session, daemon: str, within_s: float) -> list[RecentWake]:
    """Return the wakes that a daemon of this name delivered in the last `within_s` seconds, in any of its runs."""
    rows = await session.fetch("select session, wake, age_s from agent_vault.recent_wakes(%s, %s)", [daemon, within_s])
    return [RecentWake(*row) for row in rows]


async def failed_unhandled(session: Session, daemon: str, queues: Sequence[str], within_s: float) -> set[UUID]:
    """Return the jobs of this daemon that failed in the last `within_s` seconds because nobody handled them."""
    rows = await session.fetch(
        "select * from agent_vault.failed_unhandled(%s, %s, %s)", [daemon, list(queues), within_s]
    )
    return {row[0] for row in rows}


async def awaiting_until(session: Session, daemon: str, queues: Sequence[str]) -> float | None:
    """Return the milliseconds until the last of this daemon's jobs that await handling is sent again, or None."""
    until_ms: float | None = (await session.fetch("select agent_vault.awaiting_until(%s, %s)", [daemon, list(queues)]))[
        0
    ][0]
    return until_ms


def _stopwatch() -> Callable[[], float]:
    """Return what tells the seconds since now: the session may make a call wait, and ages grow meanwhile."""
    began = time.monotonic()
    return lambda: time.monotonic() - began


def _claims(jobs: Sequence[Job]) -> tuple[list[UUID], list[int]]:
    return [job.id for job in jobs], [job.claims for job in jobs]


def _times(jobs: Sequence[Job]) -> list[datetime | None]:
    """Return when each was claimed: after a crash of the server a number alone may be another claim's."""
    return [job.claimed_at for job in jobs]
