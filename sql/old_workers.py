"""The two calls that existing workers make, for those that reach them over the vault's HTTP API."""

from typing import Any
from uuid import UUID

from sql.session import Session


async def claim_next_job(session: Session, worker: str) -> dict[str, Any] | None:
    """Claim one job of the default queue for 15 minutes, or return None."""
    rows = await session.fetch(
        "select id, type, payload, status, created_at, queue, attempts from public.claim_next_job(p_worker_id => %s)",
        [worker],
    )
    names = ("id", "type", "payload", "status", "created_at", "queue", "attempts")
    return dict(zip(names, rows[0], strict=True)) if rows else None


async def complete_job(session: Session, job_id: UUID, status: str, error: str | None) -> None:
    """End a job that claim_next_job gave; of any other job it changes nothing."""
    await session.fetch(
        "select public.complete_job(p_job_id => %s, p_status => %s, p_last_error => %s)", [job_id, status, error]
    )
