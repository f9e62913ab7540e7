"""What the schema does with one job or event at a time, for earlier releases and workers of others."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from queue_model import LEASE_LOST

from sql.events import HandledEvent
from sql.jobs import Job, LeaseLostError, Outcome
from sql.session import Session

How = Literal["read", "acknowledged"]


async def complete_job(session: Session, job: Job, outcome: Outcome, since_delivery_s: float) -> None:
    """End a job as done. Raises LeaseLostError."""
    await _settle(session, job, "select agent_vault.complete_job(%s, %s, %s, %s, %s)", Jsonb(outcome), since_delivery_s)


async def fail_job(session: Session, job: Job, error: str, outcome: Outcome) -> None:
    """End a job as failed, for a reason that no retry mends. Raises LeaseLostError."""
    await _settle(session, job, "select agent_vault.fail_job(%s, %s, %s, %s, %s)", error, Jsonb(outcome))


async def retry_job(session: Session, job: Job, delay_s: float, error: str, outcome: Outcome) -> str:
    """Put a job back for a later try, or fail it when no attempt is left; return its new status.

    Raises LeaseLostError.
    """
    return str(
        await _settle(
            session, job, "select agent_vault.retry_job(%s, %s, %s, %s, %s, %s)", delay_s, error, Jsonb(outcome)
        )
    )


async def release_job(session: Session, job: Job, delay_s: float, reason: str) -> None:
    """Give a job back, its attempt uncounted. Raises LeaseLostError."""
    await _settle(session, job, "select agent_vault.release_job(%s, %s, %s, %s, %s)", delay_s, reason)


async def handle_event(session: Session, event_id: UUID, how: How, queues: Sequence[str] | None = None) -> HandledEvent:
    """Say that the agent read or acknowledged an event, given by its learning's id or a job's."""
    rows = await session.fetch(
        "select found, learning_id, ended from agent_vault.handle_event(%s, %s, %s)",
        [event_id, how, None if queues is None else list(queues)],
    )
    found, learning_id, ended = rows[0]
    return HandledEvent(event_id, found, learning_id, tuple(ended))


async def _settle(session: Session, job: Job, query: str, *arguments: object) -> Any:
    """Call a function that ends a claim, and turn its SQLSTATE into our exception."""
    try:
        rows = await session.fetch(query, [job.id, job.claims, *arguments, job.claimed_at])
    except psycopg.Error as error:
        if error.sqlstate == LEASE_LOST:
            raise LeaseLostError(job.id, job.claims) from error
        raise
    return rows[0][0]
