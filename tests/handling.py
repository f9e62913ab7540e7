"""Events on their way to the agent, as the tests of handling need them."""

import uuid
from typing import Any

import letters
import psycopg

from sql import jobs, settling
from sql.jobs import Job
from sql.session import Session

WORKER = "mac/1"
SENT = {"status": 200, "session": "main", "wake": "w1"}


async def events(session: Session, count: int = 1, queue: str = "default") -> list[uuid.UUID]:
    """Record events, and return the ids of their learnings."""
    return await letters.record(session, *(letters.event(uuid.uuid4(), queue=queue) for _ in range(count)))


async def claim(session: Session, limit: int = 10, worker: str = WORKER, queue: str = "default") -> list[Job]:
    """Claim for a minute."""
    return await jobs.claim_jobs(session, queue, worker, limit, 60)


async def send(session: Session, within_s: float = 900, **how: Any) -> list[Job]:
    """Claim what is due, and leave it to the agent."""
    outcome = how.pop("outcome", SENT)
    claimed = await claim(session, **how)
    assert dict.fromkeys((job.id for job in claimed), False) == await settling.await_handling(
        session, claimed, outcome, 0, within_s
    )
    return claimed


def run_out(database: psycopg.Connection) -> None:
    """Let the time that the agent has, and every lease, run out."""
    database.execute("update public.jobs set lease_until = now() - interval '1 s' where status = 'processing'")


def state(database: psycopg.Connection, job_id: uuid.UUID) -> tuple[Any, ...]:
    """What a job is: its status, whether it awaits handling, how it was handled, its attempts and lapses."""
    row = letters.job(database, job_id)
    return row["status"], row["awaits_handling"], (row["outcome"] or {}).get("handled"), row["attempts"], row["lapses"]


def handled(database: psycopg.Connection, learning_id: uuid.UUID) -> str | None:
    """How an event was handled."""
    return letters.learning(database, learning_id)["handled_how"]
