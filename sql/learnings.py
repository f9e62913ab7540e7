"""Events into rows, in batches, and learnings out again."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from sql.arrays import Bodies, Booleans, Doubles, Packed, Texts, Uuids
from sql.line import Statements
from sql.migrate import NO_SCHEMA, new_enough
from sql.session import Session

# fixed for ever: the same webhook-id must give the same learning_id in every answer, on every machine
EVENT_NAMESPACE = UUID("6f1c3f0e-6e1b-5d0a-9f0c-2d9a4b7c8e11")
_NAMESPACE_BYTES = EVENT_NAMESPACE.bytes


_RECORDER = (
    "select agent_vault.schema_version(), exists (select from pg_proc p where p.proname = 'record_batch'"
    " and p.pronamespace = to_regnamespace('agent_vault') and has_function_privilege(p.oid, 'execute'))"
)


class NoRecorderError(Exception):
    """The connection's login may not record events."""

    def __init__(self) -> None:
        """Say what login may."""
        super().__init__(
            "the login in DATABASE_URL may not record events: take one that agent-vault grant server made, or the "
            "owner's of the tables"
        )


class NewEvent(msgspec.Struct, frozen=True):
    """A verified delivery on its way into the database; `as_json`: its body may stand in metadata as jsonb."""

    event_id: str
    type: str
    account: str | None
    queue: str
    learning: str
    body: bytes
    as_json: bool

    @property
    def learning_id(self) -> UUID:
        """The id of the event's learning: made from the event's id alone."""
        return UUID(bytes=learning_id_bytes(self.event_id))


def learning_id_bytes(event_id: str) -> bytes:
    """Return what `uuid5(EVENT_NAMESPACE, event_id)` is in bytes, at a third of its cost.

    The format: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-5
    """
    digest = hashlib.sha1(_NAMESPACE_BYTES + event_id.encode(), usedforsecurity=False).digest()
    version, variant = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    return b"%b%c%c%c%b" % (digest[:6], version, digest[7], variant, digest[9:16])


class Recorded(msgspec.Struct, frozen=True):
    """What became of an event: its rows, whether they were there before, or why the database refused it."""

    event_id: str
    learning_id: UUID | None
    job_id: UUID | None
    duplicate: bool
    refused: str | None


async def require_recorder(session: Statements) -> int:
    """Return the schema's version, where this program can use it and the login may record events.

    Raises SchemaTooOldError, NoRecorderError and psycopg.Error.
    """
    try:
        ((found, may_record),) = await session.fetch(_RECORDER)
    except NO_SCHEMA:
        found, may_record = None, False
    except psycopg.errors.InsufficientPrivilege:
        raise NoRecorderError from None
    version = new_enough(found)
    if not may_record:
        raise NoRecorderError
    return version


async def record_events(
    session: Session,
    events: Sequence[NewEvent],
    *,
    ages_s: Callable[[], Sequence[float]] | None = None,
    wake: Sequence[str] | None = (),
    deadline_s: float | None = None,
) -> list[Recorded]:
    """Store a batch of events in one commit, within the session's deadline or another; answer for each, in order.

    `ages_s` gives the seconds since the receipt of each when the statement goes out: the session may make it wait.
    `wake` are queues whose daemons are woken besides the batch's own; None wakes nobody: the caller owes it to them.
    """
    rows = await session.fetch(
        "select event_id, learning_id, job_id, duplicate, refused"
        " from agent_vault.record_batch(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b)",
        lambda: [
            *_columns(events),
            Doubles.of(ages_s() if ages_s else [0.0] * len(events)),
            None if wake is None else Texts.of(wake),
        ],
        deadline_s=deadline_s,
    )
    return [Recorded(*row) for row in rows]


def _columns(events: Sequence[NewEvent]) -> list[Packed]:
    return [
        Texts.of([event.event_id for event in events]),
        Uuids([learning_id_bytes(event.event_id) for event in events]),
        Texts.of([event.type for event in events]),
        Texts.of([event.account for event in events]),
        Texts.of([event.queue for event in events]),
        Texts.of([event.learning for event in events]),
        Bodies([event.body for event in events]),
        Booleans.of([event.as_json for event in events]),
    ]


async def list_learnings(
    session: Session, *, since: datetime | None, source: str | None, limit: int
) -> list[msgspec.Raw]:
    """Return the newest learnings first."""
    return await _documents(session, "select agent_vault.list_learnings(%s, %s, %s)", [since, source, limit])


async def search_learnings(session: Session, words: str, *, limit: int) -> list[msgspec.Raw]:
    """Return the newest learnings that hold these words, first."""
    return await _documents(session, "select agent_vault.search_learnings(%s, %s)", [words, limit])


async def _documents(session: Session, query: str, arguments: Sequence[Any]) -> list[msgspec.Raw]:
    return [row[0] for row in await session.fetch(query, arguments)]
