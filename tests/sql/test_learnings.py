"""Learnings out again: by id, the newest of a source, and by their words."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
import psycopg
import pytest

from sql.events import read_event
from sql.learnings import (
    EVENT_NAMESPACE,
    NewEvent,
    learning_id_bytes,
    list_learnings,
    record_events,
    search_learnings,
)
from sql.session import Session

START = datetime(2026, 1, 1, tzinfo=UTC)


def insert(database: psycopg.Connection, **columns: Any) -> UUID:
    """Put a learning in, as an agent or an old Edge Function does; each a minute after the last."""
    (number,) = database.execute("select count(*) from agent_learnings").fetchone()
    columns = {"learning": "note", "created_at": START + timedelta(minutes=number), **columns}
    if "metadata" in columns:
        columns["metadata"] = json.dumps(columns["metadata"])
    row = database.execute(
        f"insert into agent_learnings ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))}) returning id",
        list(columns.values()),
    ).fetchone()
    return UUID(str(row[0]))


def read(documents: list[msgspec.Raw]) -> list[dict[str, Any]]:
    """Unfold what the database made."""
    return [msgspec.json.decode(document) for document in documents]


async def ids(session: Session, words: str, limit: int = 10) -> list[UUID]:
    """The learnings that a search finds."""
    return [UUID(row["id"]) for row in read(await search_learnings(session, words, limit=limit))]


async def listed(
    session: Session, *, since: datetime | None = None, source: str | None = None, limit: int = 10
) -> list[UUID]:
    """The learnings that a list holds."""
    found = await list_learnings(session, since=since, source=source, limit=limit)
    return [UUID(row["id"]) for row in read(found)]


@pytest.mark.parametrize("event_id", ["", "msg_0c3130a1", "\u00e9", *(f"msg_{number}" for number in range(300))])
def test_an_events_learning_has_an_id_of_version_5(event_id: str) -> None:
    """It is what every library makes of the namespace and the event's id."""
    assert uuid5(EVENT_NAMESPACE, event_id).bytes == learning_id_bytes(event_id)


async def test_get_gives_one_learning_whole(session: Session, database: psycopg.Connection) -> None:
    """All that the HTTP API shows of a learning, under the names of the columns; an unknown id is None."""
    made = insert(
        database, learning="tea", category="preference", source="agent", tags=["tea"], confidence=0.5, metadata={"a": 1}
    )
    found = await read_event(session, made)
    assert found is not None
    assert {
        "id": str(made),
        "created_at": "2026-01-01T00:00:00+00:00",
        "learning": "tea",
        "category": "preference",
        "kind": None,
        "visibility": None,
        "source": "agent",
        "tags": ["tea"],
        "confidence": 0.5,
        "metadata": {"a": 1},
        "event_id": None,
        "handled_how": "read",
    } == {key: value for key, value in msgspec.json.decode(found).items() if key not in {"updated_at", "handled_at"}}
    assert await read_event(session, uuid4()) is None


async def test_list_gives_the_newest_first(session: Session, database: psycopg.Connection) -> None:
    """Newest first, no more than asked for, since a time that counts as in, and of one source."""
    made = [insert(database, source=source) for source in ("agent", "composio_webhook", "agent", None)]
    assert made[::-1] == await listed(session)
    assert made[:1:-1] == await listed(session, limit=2)
    assert made[:1:-1] == await listed(session, since=START + timedelta(minutes=2))
    assert [made[2], made[0]] == await listed(session, source="agent")
    assert [made[2]] == await listed(session, source="agent", since=START + timedelta(minutes=1), limit=5)
    assert [] == await listed(session, source="nobody")


async def test_search_looks_into_text_and_tags(session: Session, database: psycopg.Connection) -> None:
    """A word in the learning or in a tag is found in any case, the newest first, no more than asked for."""
    text = insert(database, learning="The owner drinks Green Tea.")
    tag = insert(database, tags=["ca_1", "GREEN_TEA"])
    insert(database, learning="coffee")
    assert [text] == await ids(session, "green tea")
    assert [tag, text] == await ids(session, "GrEeN")
    assert [tag] == await ids(session, "green", limit=1)
    assert [] == await ids(session, "cocoa")


@pytest.mark.parametrize(
    "raw_payload",
    [
        {"type": "composio.trigger.message", "data": {"body": "x" * 5000, "subject": "Quarterly figures"}},
        {"trigger_name": "gmail_new_gmail_message", "payload": {"body": "x" * 5000, "subject": "Quarterly figures"}},
    ],
    ids=["V3_and_V2", "V1"],
)
async def test_search_finds_the_subject_of_a_long_mail(
    session: Session, database: psycopg.Connection, raw_payload: dict[str, Any]
) -> None:
    """The subject counts though it stands beyond the learning's 1,000 characters; the mail's text does not."""
    body = json.dumps(raw_payload).encode()
    mail = NewEvent("msg_1", "GMAIL_NEW_GMAIL_MESSAGE", "ca_1", "default", body.decode()[:1000], body, as_json=True)
    assert "Quarterly" not in mail.learning
    await record_events(session, [mail])
    insert(database, metadata={"raw_payload": {"data": {"subject": ["Quarterly", "figures"]}}})
    insert(database, metadata={"raw_payload": "Quarterly figures"})
    assert [mail.learning_id] == await ids(session, "quarterly FIG")


@pytest.mark.parametrize("sign", ["%", "_", "\\", "%%", "\\%", "a_c", "'"])
async def test_signs_are_literal(session: Session, database: psycopg.Connection, sign: str) -> None:
    """A percent sign, an underscore and a backslash stand for themselves."""
    found = [insert(database, learning=f"before {sign} after"), insert(database, tags=[f"x{sign}y"])]
    found.append(insert(database, metadata={"raw_payload": {"data": {"subject": f"re: {sign}"}}}))
    insert(database, learning="abc abbc", tags=["a-c"], metadata={"raw_payload": {"data": {"subject": "abc"}}})
    assert found[::-1] == await ids(session, sign)


async def test_a_big_payload_is_left_out_of_a_list(session: Session, database: psycopg.Connection) -> None:
    """A list and a search leave a raw payload beyond 64 KB out and say so, however well it compresses; get has it."""
    body = json.dumps({"data": {"subject": "Newsletter", "html": "<td>" * 50_000}}).encode()
    big = NewEvent("msg_1", "X", "ca_1", "default", "Newsletter", body, as_json=True)
    small = NewEvent("msg_2", "X", "ca_1", "default", "Newsletter", b'{"data": {}}', as_json=True)
    await record_events(session, [big, small])
    adopted = insert(database, learning="Newsletter", metadata={"raw_payload": {"data": "<td>" * 50_000}})
    for documents in (
        await list_learnings(session, since=None, source=None, limit=5),
        await search_learnings(session, "newsletter", limit=5),
    ):
        rows = read(documents)
        shown = {row["event_id"]: row["metadata"] for row in rows}
        assert [{"raw_payload_omitted": True}] == [row["metadata"] for row in rows if row["id"] == str(adopted)]
        assert (True, "ca_1") == (shown["msg_1"]["raw_payload_omitted"], shown["msg_1"]["connected_account_id"])
        assert "raw_payload" not in shown["msg_1"]
        assert {"data": {}} == shown["msg_2"]["raw_payload"]
    whole = await read_event(session, big.learning_id)
    assert whole is not None
    assert json.loads(body) == msgspec.json.decode(whole)["metadata"]["raw_payload"]


@pytest.mark.parametrize(
    "metadata", [None, "text", [1, 2], 7, {"raw_payload": None}, ["long" * 50_000], "long" * 50_000]
)
async def test_foreign_metadata_breaks_no_list(
    session: Session, database: psycopg.Connection, metadata: object
) -> None:
    """Whatever somebody else put into metadata, lists and searches still answer, and show it."""
    made = insert(database, metadata=metadata)
    (row,) = read(await list_learnings(session, since=None, source=None, limit=5))
    assert (str(made), metadata) == (row["id"], row["metadata"])
    assert [made] == await ids(session, "note")


async def test_a_list_reads_no_more_than_10000(session: Session, database: psycopg.Connection) -> None:
    """However many learnings there are, a source is looked for among the newest, and a row is read by its id."""
    insert(database, source="rare", created_at=datetime(2020, 1, 1, tzinfo=UTC))
    found = insert(database, source="agent", created_at=datetime(2020, 1, 2, tzinfo=UTC))
    database.execute(
        "insert into public.agent_learnings (learning, source, created_at)"
        " select 'x', 'chat', timestamptz '2021-01-01' + i * interval '1 s' from generate_series(1, 9999) i"
    )
    assert ([found], []) == (await listed(session, source="agent"), await listed(session, source="rare"))
