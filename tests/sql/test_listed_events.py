"""What the agent is shown of events: the new ones without their contents, and one whole, which is then read."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import letters
import msgspec
import psycopg
import pytest
import servers
from handling import claim, events, handled, run_out, send
from queue_calls import handle_event

from sql import settling
from sql.events import ListedEvent, list_events, read_event
from sql.learnings import NewEvent
from sql.migrate import migrate
from sql.session import Session

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 2_000


async def listed(session: Session, *, new: bool = True, **how: Any) -> list[ListedEvent]:
    """The events of the default queue."""
    asked = {"queues": ["default"], "since": SINCE, "limit": 20} | how
    return await list_events(session, asked["queues"], since=asked["since"], new=new, limit=asked["limit"])


async def test_new_is_what_nobody_handled(session: Session) -> None:
    """The newest first; what was read or acknowledged is only among all of them, with how and when."""
    first, second, third, fourth = await events(session, 4)
    assert [fourth, third, second, first] == [one.id for one in await listed(session)]
    await handle_event(session, second, "read")
    await handle_event(session, third, "acknowledged")
    assert [fourth, first] == [one.id for one in await listed(session)]
    shown = await listed(session, new=False)
    assert [(fourth, None), (third, "acknowledged"), (second, "read"), (first, None)] == [
        (one.id, one.handled_how) for one in shown
    ]
    assert [False, True, True, False] == [one.handled_at is not None for one in shown]


@pytest.mark.parametrize("new", [True, False])
async def test_choices(session: Session, database: psycopg.Connection, *, new: bool) -> None:
    """Of some queues, each once, since a time, and no more than asked for."""
    (mail,) = await events(session, queue="mail")
    first, second = await events(session, 2)
    database.execute("update agent_learnings set created_at = created_at - interval '1 day' where id = %s", [first])
    yesterday = datetime.now(UTC) - timedelta(hours=12)
    cases: list[tuple[list[uuid.UUID], dict[str, Any]]] = [
        ([second, first], {}),
        ([mail], {"queues": ["mail"]}),
        ([second, mail, first], {"queues": ["mail", "default", "mail"]}),
        ([], {"queues": []}),
        ([second], {"since": yesterday}),
        ([second], {"limit": 1}),
        ([second, mail], {"queues": ["mail", "default"], "limit": 2}),
    ]
    for expected, asked in cases:
        assert expected == [one.id for one in await listed(session, new=new, **asked)], asked


async def test_the_state_is_that_of_the_newest_job(session: Session, database: psycopg.Connection) -> None:
    """Whether it waits, is under way, was sent, is done or failed, or has no job any more."""

    async def state() -> str | None:
        (one,) = await listed(session)
        assert ("GMAIL_NEW", "default") == (one.type, one.queue)
        return one.state

    await events(session)
    assert "queued" == await state()
    (job,) = await claim(session)
    assert "processing" == await state()
    await settling.await_handling(session, [job], {}, 0, 900)
    assert "awaiting" == await state()
    database.execute("update public.jobs set max_attempts = 1")
    run_out(database)
    await claim(session)
    assert "failed" == await state()
    database.execute("delete from public.jobs")
    assert await state() is None


async def test_what_is_sent_is_new(session: Session) -> None:
    """However often a person looked before, the agent finds what it was woken for."""
    (learning,) = await events(session)
    await read_event(session, learning)
    assert [] == await listed(session)
    await settling.complete_jobs(session, await claim(session), {}, 0)
    assert [learning] == [one.id for one in await listed(session)]


async def test_only_events_are_listed(session: Session, database: psycopg.Connection) -> None:
    """What an agent noted for itself is no event."""
    database.execute("insert into agent_learnings (learning, queue) values ('note', 'default')")
    assert [] == await listed(session) == await listed(session, new=False)


async def test_one_event_is_read(session: Session, database: psycopg.Connection) -> None:
    """It comes whole, by its own id or its job's, and counts as read; what is not there marks nothing."""
    (learning,) = await events(session)
    (job,) = await send(session)
    found = msgspec.json.decode(await read_event(session, job.id, ["default"]))
    assert (str(learning), "read", msgspec.json.decode(letters.BODY)) == (
        found["id"],
        found["handled_how"],
        found["metadata"]["raw_payload"],
    )
    assert "read" == handled(database, learning)
    assert "done" == letters.job(database, job.id)["status"]
    assert await read_event(session, uuid.uuid4()) is None


UNFIT: dict[str, tuple[bytes, str]] = {
    "escaped_nul": (b'{"data": {"subject": "a\\u0000b"}}', '{"data": {"subject": "a\\u0000b"}}'),
    "nul": (b'{"data": \x00}', '{"data": \x00}'),
    "not_utf8": (b'{"data": "\xff\xc3\xa9"}', '{"data": "\ufffd\u00e9"}'),
    "absurd_exponent": (b'{"data": 1E200000}', '{"data": 1E200000}'),
    "empty": (b"", ""),
}
HIDDEN: dict[str, NewEvent] = {
    "by_type": msgspec.structs.replace(
        letters.event(1, "composio.connected_account.expired"), body=b'{"data": {"token": "canary\\u0000"}}'
    ),
    "by_body": msgspec.structs.replace(
        letters.event(1), body=b'{"type": "Composio.Connected_Account.expired", "t": "canary"}', as_json=False
    ),
}


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_body_that_jsonb_cannot_hold_is_read_as_text(session: Session, unfit: str) -> None:
    """The agent has it whole all the same."""
    body, text = UNFIT[unfit]
    (learning,) = await letters.record(session, msgspec.structs.replace(letters.event(1), body=body))
    found = msgspec.json.decode(await read_event(session, learning, ["default"]))
    assert (text, False, "read") == (found["raw_text"], "raw_payload" in found["metadata"], found["handled_how"])
    assert "raw_base64" not in found


@pytest.mark.parametrize("hidden", HIDDEN)
async def test_what_is_hidden_of_an_account_stays_so(session: Session, hidden: str) -> None:
    """What speaks of a connected account may hold its tokens."""
    (learning,) = await letters.record(session, HIDDEN[hidden])
    event = bytes(await read_event(session, learning, ["default"]))
    assert b"raw_text" not in event
    assert b"canary" not in event.replace(b"- canary", b"")  # the letter's own summary


async def test_what_jsonb_holds_is_not_there_twice(session: Session) -> None:
    """Nor is there a text where there was no delivery."""
    (learning,) = await events(session)
    assert "raw_text" not in msgspec.json.decode(await read_event(session, learning))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_of_another_encoding(server_dsn: str, encoding: str) -> None:
    """What such a database cannot hold as jsonb is read as the text that came."""
    made = f"encoding '{encoding}' locale_provider libc lc_collate 'C' lc_ctype 'C'"
    body = '{"data": "\u20ac \\u0000"}'
    with servers.database(server_dsn, encoding=made) as dsn:
        migrate(dsn)
        session = Session(dsn, name="test")
        (learning,) = await letters.record(session, msgspec.structs.replace(letters.event(1), body=body.encode()))
        found = msgspec.json.decode(await read_event(session, learning))
        await session.close()
    assert body == found["raw_text"]


async def test_a_note_is_read_too(session: Session, database: psycopg.Connection) -> None:
    """A learning that is no event, and has no queue, is everybody's of the queue default."""
    (note,) = database.execute("insert into agent_learnings (learning) values ('note') returning id").fetchone()
    assert await read_event(session, note, ["mail"]) is None
    assert "note" == msgspec.json.decode(await read_event(session, note, ["default"]))["learning"]


READS = (
    "select sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables"
    " where schemaname = 'public' and relname in ('jobs', 'agent_learnings')"
)
BOUNDED: dict[str, tuple[str, Callable[[uuid.UUID], list[Any]]]] = {
    "list": ("select * from agent_vault.list_events('{default,mail}', '-infinity', true, 20)", lambda _: []),
    "handle": ("select * from agent_vault.handle_event(%s, 'acknowledged')", lambda one: [one]),
    "handle many": ("select * from agent_vault.handle_events(%s, 'acknowledged')", lambda one: [[one]]),
    "read": ("select agent_vault.read_event(%s)", lambda one: [one]),
    "claim": ("select * from agent_vault.claim_jobs('default', 'mac/1', 1, 60)", lambda _: []),
    "await": ("select * from agent_vault.await_handling(array[%s], '{1}', '{}', 0, 60)", lambda one: [one]),
    "complete": ("select * from agent_vault.complete_jobs(array[%s], '{1}', '{}', 0)", lambda one: [one]),
    "retry": ("select * from agent_vault.retry_jobs(array[%s], '{1}', 0, '', '{}')", lambda one: [one]),
    "fail": ("select * from agent_vault.fail_jobs(array[%s], '{1}', '', '{}')", lambda one: [one]),
    "release": ("select * from agent_vault.release_jobs(array[%s], '{1}', 0, '')", lambda one: [one]),
    "resend": ("select agent_vault.resend_unhandled('mac', '{default}', 0)", lambda _: []),
    "until": ("select agent_vault.awaiting_until('mac', '{default}')", lambda _: []),
    "wakes": ("select * from agent_vault.recent_wakes('mac', 60)", lambda _: []),
}


def fill(database: psycopg.Connection) -> None:
    """Put many events in, each with its job, in two queues by turns; no statistics are made by the way."""
    database.execute("alter table public.jobs set (autovacuum_enabled = off)")
    database.execute("alter table public.agent_learnings set (autovacuum_enabled = off)")
    database.execute(
        "insert into agent_learnings (id, learning, event_id, queue, queued_at, created_at)"
        " select gen_random_uuid(), 'x', 'e' || i, (array['mail', 'default'])[i %% 2 + 1], now(),"
        " now() - i * interval '1 hour'"
        " from generate_series(1, %s) i",
        [MANY],
    )
    database.execute(
        "insert into public.jobs (type, learning_id, run_at, created_at)"
        " select 'X', id, created_at, created_at from agent_learnings"
    )


def rows_read(database: psycopg.Connection, query: str, arguments: list[Any]) -> int:
    """How many rows of the two tables a query reads; nothing of it lasts."""
    with database.transaction(force_rollback=True):
        (before,) = database.execute(READS).fetchone()
        database.execute(query, arguments).fetchall()
        (after,) = database.execute(READS).fetchone()
    return int(after - before)


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
async def test_no_call_reads_the_tables(session: Session, database: psycopg.Connection, statistics: str) -> None:
    """However many rows there are, and whatever the planner believes, a call reads those that it is about.

    All but a few events are handled, all but a few jobs are done.
    """
    fill(database)
    if statistics == "stale":
        database.execute("analyze")
    database.execute("update agent_learnings set handled_at = now(), handled_how = 'read'")
    database.execute("update public.jobs set status = 'done', finished_at = created_at")
    if statistics == "fresh":
        database.execute("vacuum analyze")
    await events(session, 3)
    (job,) = await claim(session, limit=1)
    for name, (query, arguments) in BOUNDED.items():
        assert 40 > rows_read(database, query, arguments(job.id)), name


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
async def test_a_queue_is_listed_at_once(database: psycopg.Connection, statistics: str) -> None:
    """The newest of a queue are neither looked for among those of another nor found by sorting all that it has."""
    fill(database)
    if statistics == "stale":  # of a time when a page would have held the queue
        database.execute("update agent_learnings set queue = 'other' where queue = 'mail' and event_id not like 'e1__'")
        database.execute("vacuum analyze")
        database.execute("update agent_learnings set queue = 'mail' where queue = 'other'")
    if statistics == "fresh":
        database.execute("vacuum analyze")
    for _ in range(10):  # after five the planner may take a plan that knows neither queue nor limit
        assert 80 > rows_read(database, "select * from agent_vault.list_events('{mail}', '-infinity', true, 20)", [])


@pytest.mark.parametrize("status", ["queued", "processing", "done", "failed"])
async def test_a_job_takes_its_event_into_another_queue(
    session: Session, database: psycopg.Connection, status: str
) -> None:
    """Moved by hand, as when nobody serves its queue, it is listed, read and acknowledged where it is then."""
    moved, stays = await events(session, 2)
    database.execute("update public.jobs set status = %s where learning_id = %s", [status, moved])
    database.execute("update public.jobs set queue = 'mail' where learning_id = %s", [moved])
    assert [stays] == [one.id for one in await listed(session)]
    assert [moved] == [one.id for one in await listed(session, queues=["mail"])]
    assert (await handle_event(session, moved, "acknowledged", ["mail"])).found
    assert [] == await listed(session, queues=["mail"])
