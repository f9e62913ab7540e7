"""What became of events at the agent: list them, read one, acknowledge them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from sql.session import Session


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event without its contents; `type` is a stranger's word and must be cleaned before anybody reads it.

    `state` is that of its newest job: queued, processing, awaiting (sent, and not handled yet), done, failed or None.
    """

    id: UUID
    received_at: datetime
    type: str | None
    queue: str
    handled_at: datetime | None
    handled_how: str | None
    state: str | None


@dataclass(frozen=True, slots=True)
class HandledEvent:
    """What the database knows of an id that was handled: whether it found it, its learning, and the jobs it ended."""

    id: UUID
    found: bool
    learning_id: UUID | None
    ended: tuple[UUID, ...]


async def list_events(
    session: Session, queues: Sequence[str], *, since: datetime, new: bool, limit: int
) -> list[ListedEvent]:
    """Return the events of these queues since a time, the newest first; `new` leaves out what is handled."""
    rows = await session.fetch(
        "select id, received_at, type, queue, handled_at, handled_how, state"
        " from agent_vault.list_events(%s, %s, %s, %s)",
        [list(queues), since, new, limit],
    )
    return [ListedEvent(*row) for row in rows]


async def read_event(session: Session, event_id: UUID, queues: Sequence[str] | None = None) -> msgspec.Raw | None:
    """Return an event, by its learning's id or a job's, as the JSON that the database made, or None.

    It counts as read from then on. Without `queues` it is looked for in all of them. A body that the database could
    not hold as JSON is in it as `raw_text`, with U+FFFD for what is not UTF-8.
    """
    rows = await session.fetch(
        "select agent_vault.read_event(%s, %s)", [event_id, None if queues is None else list(queues)]
    )
    return _with_text(rows[0][0]) if rows else None


def _with_text(event: msgspec.Raw) -> msgspec.Raw:
    document = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
    body = document.pop("raw_base64", None)
    if body is None:
        return event
    text = base64.b64decode(msgspec.json.decode(body, type=str)).decode(errors="replace")
    return msgspec.Raw(msgspec.json.encode({**document, "raw_text": text}))


async def acknowledge_events(
    session: Session, event_ids: Sequence[UUID], queues: Sequence[str] | None = None
) -> list[HandledEvent]:
    """Say that the agent has dealt with these events; answer for each id, once."""
    rows = await session.fetch(
        "select id, found, learning_id, ended from agent_vault.handle_events(%s, 'acknowledged', %s)",
        [list(event_ids), None if queues is None else list(queues)],
    )
    return [HandledEvent(id_, found, learning_id, tuple(ended)) for id_, found, learning_id, ended in rows]
