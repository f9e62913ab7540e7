"""What a person does with jobs: read them, retry and cancel them, and replay events as new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from sql.session import Session


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are meant; None is no limit. `type` is a glob, `error` a part of the last error.

    The times are about the end of a finished job, the beginning of any other, and the receipt of an event.
    """

    type: str | None = None
    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter or an event that a person means; `at` is when it ended, or came."""

    id: UUID
    type: str
    queue: str
    at: datetime
    error: str | None = None


async def database_time(session: Session) -> datetime:
    """Return the time of the database, which owns it."""
    now: datetime = (await session.fetch("select clock_timestamp()"))[0][0]
    return now


async def list_jobs(session: Session, status: str, wanted: Wanted, limit: int) -> list[msgspec.Raw]:
    """Return jobs of one status as JSON documents without payloads, among 10,000 at most."""
    rows = await session.fetch(
        "select agent_vault.list_jobs(%s, %s, %s, %s, %s, %s, %s)",
        [status, wanted.type, wanted.queue, wanted.since, wanted.until, wanted.error, limit],
    )
    return [row[0] for row in rows]


async def show_job(session: Session, job_id: UUID, *, with_payload: bool) -> msgspec.Raw | None:
    """Return one job as a JSON document, or None."""
    rows = await session.fetch("select agent_vault.show_job(%s, %s)", [job_id, with_payload])
    return rows[0][0] if rows else None


async def find_failed(session: Session, wanted: Wanted, limit: int) -> list[Found]:
    """Return the dead letters that are meant, the longest dead first."""
    rows = await session.fetch(
        "select id, type, queue, finished_at, last_error from agent_vault.find_failed(%s, %s, %s, %s, %s, %s)",
        [wanted.type, wanted.queue, wanted.since, wanted.until, wanted.error, limit],
    )
    return [Found(*row) for row in rows]


async def requeue_jobs(session: Session, job_ids: Sequence[UUID]) -> int:
    """Queue failed jobs again with all their attempts; return how many of these were failed."""
    return int((await session.fetch("select agent_vault.requeue_jobs(%s)", [list(job_ids)]))[0][0])


async def cancel_job(session: Session, job_id: UUID) -> bool:
    """End a queued job or one under way as failed, and fence its worker out; False where there is none such."""
    return bool((await session.fetch("select agent_vault.cancel_job(%s)", [job_id]))[0][0])


async def find_events(session: Session, wanted: Wanted, limit: int) -> list[Found]:
    """Return the events that came between `since` and `until`, the oldest first."""
    rows = await session.fetch(
        "select id, type, queue, created_at from agent_vault.find_events(%s, %s, %s, %s, %s)",
        [wanted.since, wanted.until, wanted.type, wanted.queue, limit],
    )
    return [Found(*row) for row in rows]


async def replay_learnings(session: Session, learning_ids: Sequence[UUID]) -> int:
    """Give each of these events a new job, all of them or none; return how many."""
    return int((await session.fetch("select agent_vault.replay_learnings(%s)", [list(learning_ids)]))[0][0])
