"""Jobs and events as tests of the dead letters need them."""

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from sql.learnings import NewEvent, record_events
from sql.session import Session

BODY = b'{"type": "composio.trigger.message", "data": {"subject": "canary"}}'


def dead(database: psycopg.Connection, **columns: Any) -> UUID:
    """Put in a dead letter that failed a minute ago, with these columns."""
    given = {
        "type": "GMAIL_NEW",
        "status": "failed",
        "payload": '{"text": "canary"}',
        "finished_at": "1 minute",
        "last_error": "500: no",
        **columns,
    }
    (made,) = database.execute(
        f"insert into public.jobs ({', '.join(given)}) values"
        f" ({', '.join('now() - %s::interval' if name.endswith('_at') else '%s' for name in given)}) returning id",
        list(given.values()),
    ).fetchone()
    return made


def job(database: psycopg.Connection, job_id: UUID) -> dict[str, Any] | None:
    """One job as a dictionary."""
    cursor = database.cursor(row_factory=dict_row)
    return cursor.execute("select * from public.jobs where id = %s", [job_id]).fetchone()


def jobs_of(database: psycopg.Connection, learning_id: UUID) -> list[dict[str, Any]]:
    """The jobs of an event, the oldest first."""
    cursor = database.cursor(row_factory=dict_row)
    query = "select * from public.jobs where learning_id = %s order by created_at"
    return cursor.execute(query, [learning_id]).fetchall()


def learning(database: psycopg.Connection, learning_id: UUID) -> dict[str, Any] | None:
    """One learning as a dictionary."""
    cursor = database.cursor(row_factory=dict_row)
    return cursor.execute("select * from public.agent_learnings where id = %s", [learning_id]).fetchone()


def event(name: object, slug: str = "GMAIL_NEW", queue: str = "default") -> NewEvent:
    """A delivery with this webhook-id."""
    return NewEvent(
        event_id=f"msg_{name}",
        type=slug,
        account="ca_1",
        queue=queue,
        learning=f"Composio trigger: {slug} - canary",
        body=BODY,
        as_json=True,
    )


async def record(session: Session, *events: NewEvent) -> list[UUID]:
    """Record events and return the ids of their learnings."""
    return [one.learning_id for one in await record_events(session, events)]


def refuse(database: psycopg.Connection, slug: str = "%") -> None:
    """Let the database refuse new jobs of these types, those that are there aside."""
    database.execute(f"alter table public.jobs add constraint no_such_jobs check (type not like '{slug}') not valid")


def allow(database: psycopg.Connection) -> None:
    """Take that back."""
    database.execute("alter table public.jobs drop constraint no_such_jobs")


async def record_refused(session: Session, database: psycopg.Connection, *events: NewEvent) -> list[UUID]:
    """Record events whose jobs the database refuses."""
    refuse(database)
    made = await record(session, *events)
    allow(database)
    # a vault that runs may have swept in between, and would wait for a minute
    database.execute("update public.agent_learnings set sweep_at = null where id = any(%s)", [made])
    return made


def age(database: psycopg.Connection, table: str, row_id: UUID, interval: str) -> None:
    """Make a job or an event older: that ended, or came, so long ago."""
    column = "finished_at" if table == "jobs" else "created_at"
    database.execute(f"update public.{table} set {column} = now() - %s::interval where id = %s", [interval, row_id])
