"""Events into rows: in batches, once each, and no row that the database refuses fails its neighbours."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from ear import Ear
from msgspec.structs import replace
from psycopg.rows import dict_row

from sql.learnings import NewEvent, Recorded, record_events
from sql.session import Session

GOOD = b'{"type": "composio.trigger.message", "data": {"subject": "Quarterly figures"}}'


def event(name: object, **changes: Any) -> NewEvent:
    """A delivery with this webhook-id."""
    made = NewEvent(
        event_id=f"msg_{name}",
        type="gmail_new_message",
        account="ca_1",
        queue="default",
        learning="Composio trigger: gmail_new_message - {}",
        body=GOOD,
        as_json=True,
    )
    return replace(made, **changes)


def learning(database: psycopg.Connection, one: NewEvent) -> dict[str, Any]:
    """The learning of an event."""
    cursor = database.cursor(row_factory=dict_row)
    found = cursor.execute("select * from agent_learnings where event_id = %s", [one.event_id]).fetchone()
    assert found is not None
    return found


def job(database: psycopg.Connection, one: NewEvent) -> dict[str, Any]:
    """The only job of an event."""
    cursor = database.cursor(row_factory=dict_row)
    (found,) = cursor.execute("select * from jobs where learning_id = %s", [one.learning_id]).fetchall()
    return found


def counts(database: psycopg.Connection) -> tuple[int, int]:
    """How many learnings and jobs there are."""
    row = database.execute("select (select count(*) from agent_learnings), (select count(*) from jobs)").fetchone()
    assert row is not None
    return row


@pytest.fixture
async def sessions(dsn: str) -> AsyncIterator[Callable[[], Session]]:
    """Opens more vaults."""
    async with AsyncExitStack() as stack:

        def new() -> Session:
            one = Session(dsn, name="another vault")
            stack.push_async_callback(one.close)
            return one

        yield new


async def test_an_event_is_a_learning_and_a_job(session: Session, database: psycopg.Connection) -> None:
    """The audit row has the keys that existing agents look for, and the job the payload that existing workers send."""
    one = event(1)
    (answer,) = await record_events(session, [one])
    row, queued = learning(database, one), job(database, one)
    assert Recorded("msg_1", one.learning_id, queued["id"], duplicate=False, refused=None) == answer
    assert (one.learning_id, "composio_trigger", "composio_webhook", 1.0, ["ca_1", "GMAIL_NEW_MESSAGE"]) == (
        row["id"],
        row["category"],
        row["source"],
        row["confidence"],
        row["tags"],
    )
    assert {"received_at", "trigger_name", "connected_account_id", "raw_payload"} == set(row["metadata"])
    assert ("gmail_new_message", "ca_1") == (row["metadata"]["trigger_name"], row["metadata"]["connected_account_id"])
    assert {"subject": "Quarterly figures"} == row["metadata"]["raw_payload"]["data"]
    assert (GOOD, one.learning) == (row["raw_body"], row["learning"])
    assert queued["created_at"] == row["queued_at"]
    assert ("gmail_new_message", "queued", "default") == (queued["type"], queued["status"], queued["queue"])
    assert {"text", "learning_id", "trigger_name", "timestamp"} == set(queued["payload"])
    assert str(one.learning_id) == queued["payload"]["learning_id"]
    assert (
        "New Composio trigger (gmail_new_message). Check latest composio_trigger learnings."
        == (queued["payload"]["text"])
    )


async def test_an_event_without_an_account(session: Session, database: psycopg.Connection) -> None:
    """What a delivery does not say leaves no null behind in tags or metadata."""
    await record_events(session, [one := event(1, account=None, as_json=False)])
    row = learning(database, one)
    assert ["GMAIL_NEW_MESSAGE"] == row["tags"]
    assert {"received_at", "trigger_name"} == set(row["metadata"])


async def test_answers_come_in_the_order_of_the_events(session: Session, database: psycopg.Connection) -> None:
    """Whatever order the rows go in, each answer stands in its event's place, with its event's own rows."""
    batch = [event(name) for name in ("m", "a", "z", "b")]
    answers = await record_events(session, batch)
    assert [one.event_id for one in batch] == [answer.event_id for answer in answers]
    assert [(one.learning_id, job(database, one)["id"]) for one in batch] == [
        (answer.learning_id, answer.job_id) for answer in answers
    ]


async def test_an_empty_batch_is_nothing(session: Session, database: psycopg.Connection) -> None:
    """No events, no rows, no answers."""
    assert [] == await record_events(session, [])
    assert (0, 0) == counts(database)


async def test_a_batch_wakes_each_queue_once(session: Session, ear: Ear) -> None:
    """Many events of two queues are one notification each."""
    await record_events(session, [event(n, queue="mail" if n % 2 else "default") for n in range(10)])
    assert [("agent_vault_default", ""), ("agent_vault_mail", "")] == sorted(ear.heard())


async def test_the_same_event_twice_in_a_batch(session: Session, database: psycopg.Connection) -> None:
    """The first is new, the second its duplicate, with the same rows."""
    first, other, second = await record_events(session, [event(1), event(2), event(1, body=b"{}")])
    assert (2, 2) == counts(database)
    assert [False, False, True] == [first.duplicate, other.duplicate, second.duplicate]
    assert replace(first, duplicate=True) == second
    assert GOOD == learning(database, event(1))["raw_body"]


async def test_the_same_event_again(session: Session, database: psycopg.Connection, ear: Ear) -> None:
    """A delivery that Composio repeats makes no second row, wakes nobody and gets the answer of the first."""
    (first,) = await record_events(session, [event(1)])
    ear.heard()
    again, new = await record_events(session, [event(1), event(2)])
    assert replace(first, duplicate=True) == again
    assert not new.duplicate
    assert (2, 2) == counts(database)
    assert [("agent_vault_default", "")] == ear.heard()
    await record_events(session, [event(1)])
    assert [] == ear.heard()


async def test_a_duplicate_of_a_pruned_job(session: Session, database: psycopg.Connection) -> None:
    """An event whose job is gone is still a duplicate, and is not queued anew."""
    await record_events(session, [event(1)])
    database.execute("delete from jobs")
    (again,) = await record_events(session, [event(1)])
    assert (True, None, event(1).learning_id) == (again.duplicate, again.job_id, again.learning_id)
    assert (1, 0) == counts(database)


async def test_a_replayed_event_answers_its_first_job(session: Session, database: psycopg.Connection) -> None:
    """A second job of the same learning does not change what a duplicate is told, nor how often."""
    (first,) = await record_events(session, [event(1)])
    database.execute(
        "insert into jobs (type, learning_id, created_at) values ('replay', %s, now() + interval '1 min')",
        [first.learning_id],
    )
    assert [replace(first, duplicate=True)] == await record_events(session, [event(1)])


async def test_two_vaults_with_the_same_event(
    dsn: str, sessions: Callable[[], Session], database: psycopg.Connection
) -> None:
    """The second waits until the first commits, and answers duplicate with the first's ids."""
    async with await psycopg.AsyncConnection.connect(dsn) as first:
        cursor = await first.execute(
            "select learning_id, job_id from agent_vault.record_events(array['msg_1'], array[%s]::uuid[], '{x}',"
            " '{ca}', '{default}', '{text}', array[%s]::bytea[], '{t}', '{0}')",
            [event(1).learning_id, GOOD],
        )
        ids = await cursor.fetchone()
        second = asyncio.create_task(record_events(sessions(), [event(0), event(1), event(2)]))
        async with asyncio.timeout(30):
            while not database.execute("select count(*) from pg_locks where not granted").fetchone()[0]:
                await asyncio.sleep(0)  # let the second vault go on
        assert not second.done()
        await first.commit()
        answers = await second
    assert [False, True, False] == [answer.duplicate for answer in answers]
    assert ids == (answers[1].learning_id, answers[1].job_id)
    assert (3, 3) == counts(database)


async def test_the_first_vault_rolls_back(
    dsn: str, sessions: Callable[[], Session], database: psycopg.Connection
) -> None:
    """A vault that waited for another which then failed stores the event itself."""
    async with await psycopg.AsyncConnection.connect(dsn) as first:
        await first.execute("insert into agent_learnings (event_id, learning) values ('msg_1', 'never committed')")
        second = asyncio.create_task(record_events(sessions(), [event(1)]))
        async with asyncio.timeout(30):
            while not database.execute("select count(*) from pg_locks where not granted").fetchone()[0]:
                await asyncio.sleep(0)
        await first.rollback()
        (answer,) = await second
    assert (False, job(database, event(1))["id"]) == (answer.duplicate, answer.job_id)


@pytest.mark.parametrize("refused", [False, True], ids=["as_a_batch", "row_by_row"])
async def test_reversed_batches_do_not_deadlock(
    sessions: Callable[[], Session], database: psycopg.Connection, *, refused: bool
) -> None:
    """Two vaults with the same events in opposite order wait for each other, and never in a ring."""
    vaults = [sessions(), sessions()]
    for turn in range(15):
        batch = [event(f"{turn}_{n:03}") for n in range(60)]
        if refused:
            batch[30] = replace(batch[30], body=b"NaN")
        one, other = await asyncio.gather(record_events(vaults[0], batch), record_events(vaults[1], batch[::-1]))
        assert [event.event_id for event in batch] == [answer.event_id for answer in one]
        assert [event.event_id for event in batch[::-1]] == [answer.event_id for answer in other]
        assert [True] * 60 == [a.duplicate != b.duplicate for a, b in zip(one, other[::-1], strict=True)]
        assert [a.job_id for a in one] == [b.job_id for b in other[::-1]]
    assert (15 * 60, 15 * 60) == counts(database)


UNFIT = {
    "escaped_nul": b'{"data": {"subject": "a\\u0000b"}}',
    "lone_surrogate": b'{"data": {"subject": "\\ud800"}}',
    "not_utf8": b'{"data": {"subject": "\xff"}}',
    "nul_byte": b'{"data": \x00}',
    "absurd_exponent": b'{"data": {"price": 1E200000}}',
    "tiny_exponent": b'{"data": {"price": 1E-200000}}',
    "nan": b'{"data": {"price": NaN}}',
    "nested_too_deep": b"[" * 100_000 + b"]" * 100_000,
    "no_json": b"hello=world",
    "byte_order_mark": b'\xef\xbb\xbf{"data": {}}',
    "empty": b"",
}


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_body_that_jsonb_cannot_hold(session: Session, database: psycopg.Connection, unfit: str) -> None:
    """It is stored as the bytes that came and wakes the agent, and its neighbours have their jsonb as ever."""
    batch = [event(1), event(2, body=UNFIT[unfit]), event(3)]
    answers = await record_events(session, batch)
    assert [(one.event_id, False, None) for one in batch] == [(a.event_id, a.duplicate, a.refused) for a in answers]
    assert [job(database, one)["id"] for one in batch] == [answer.job_id for answer in answers]
    assert [one.body for one in batch] == [learning(database, one)["raw_body"] for one in batch]
    assert [True, False, True] == ["raw_payload" in learning(database, one)["metadata"] for one in batch]
    assert ["queued"] * 3 == [job(database, one)["status"] for one in batch]


async def test_a_body_that_is_not_to_be_json(session: Session, database: psycopg.Connection) -> None:
    """What the vault judged unfit stays bytes, though jsonb could hold it."""
    await record_events(session, [one := event(1, as_json=False)])
    assert GOOD == learning(database, one)["raw_body"]
    assert "raw_payload" not in learning(database, one)["metadata"]


async def test_a_job_that_the_owner_refuses(session: Session, database: psycopg.Connection, ear: Ear) -> None:
    """A check of the user's own on jobs costs the event its job, not its audit row; a sweep may find it."""
    database.execute("alter table jobs add constraint mine check (type <> 'spam')")
    batch = [event(1), event(2, type="spam"), event(3)]
    answers = await record_events(session, batch)
    assert [True, False, True] == [answer.job_id is not None for answer in answers]
    assert [None] * 3 == [answer.refused for answer in answers]
    assert [True, False, True] == [learning(database, one)["queued_at"] is not None for one in batch]
    assert "raw_payload" in learning(database, batch[1])["metadata"]
    assert (3, 2) == counts(database)
    assert [("agent_vault_default", "")] == ear.heard()


async def test_a_job_and_a_body_refused(session: Session, database: psycopg.Connection) -> None:
    """An event whose jsonb and whose job are refused is still stored."""
    database.execute("alter table jobs add constraint mine check (type <> 'spam')")
    (answer,) = await record_events(session, [one := event(1, type="spam", body=b"NaN")])
    assert Recorded(one.event_id, one.learning_id, None, duplicate=False, refused=None) == answer
    assert b"NaN" == learning(database, one)["raw_body"]


BEFORE_INSERT = "create trigger mine before insert on agent_learnings for each row when (new.learning = 'no')"
REFUSALS = {
    "check": ("alter table agent_learnings add constraint mine check (learning <> 'no') not valid", "23514: .*mine"),
    "unique": (
        "create unique index mine on agent_learnings ((1)) where learning = 'no'",
        "23000: .*keeps an event out",
    ),
    "trigger_that_drops": (
        f"{BEFORE_INSERT} execute function drop_it()",
        "23000: .*keeps an event out",
    ),
    "trigger_that_raises": (
        f"{BEFORE_INSERT} execute function refuse_it()",
        "P0001: mine",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_row_that_the_owner_refuses(session: Session, database: psycopg.Connection, refusal: str) -> None:
    """A constraint or trigger of the user's own on agent_learnings refuses one event, loudly; its neighbours go in."""
    database.execute("create function drop_it() returns trigger language plpgsql as 'begin return null; end'")
    database.execute("create function refuse_it() returns trigger language plpgsql as 'begin raise ''mine''; end'")
    database.execute("insert into agent_learnings (learning) values ('no')")
    database.execute(REFUSALS[refusal][0])
    first, refused, last = await record_events(session, [event("b"), event("a", learning="no"), event("c")])
    assert (None, None, False) == (refused.learning_id, refused.job_id, refused.duplicate)
    assert refused.refused is not None
    assert re.match(REFUSALS[refusal][1], refused.refused)
    assert [(None, True), (None, True)] == [(one.refused, one.job_id is not None) for one in (first, last)]
    assert (1 + 2, 2) == counts(database)


@pytest.mark.parametrize("body", [GOOD, b"NaN"], ids=["as_a_batch", "row_by_row"])
async def test_created_at_follows_the_batch(session: Session, database: psycopg.Connection, body: bytes) -> None:
    """No two events of a batch are of the same moment, and the newest first is the last of the batch first."""
    batch = [event(name) for name in ("c", "a", "d", "b")] + [event("0", body=body)]
    await record_events(session, batch)
    rows = database.execute("select event_id, created_at from agent_learnings order by created_at desc").fetchall()
    assert [one.event_id for one in batch[::-1]] == [event_id for event_id, _ in rows]
    assert len(batch) == len({created_at for _, created_at in rows})


async def test_the_age_shifts_the_time_of_receipt(session: Session, database: psycopg.Connection) -> None:
    """An event that waited in the vault was received before it was written, and queued only now."""
    (before,) = database.execute("select clock_timestamp()").fetchone()
    await record_events(session, [event(1), event(2)], ages_s=lambda: [90.0, 0.0])
    (after,) = database.execute("select clock_timestamp()").fetchone()
    old, new = learning(database, event(1)), learning(database, event(2))
    assert before <= old["created_at"] + timedelta(seconds=90) <= after
    assert before <= new["created_at"] <= after
    assert before <= job(database, event(1))["run_at"] <= after
    assert old["created_at"] == datetime.fromisoformat(old["metadata"]["received_at"])


@pytest.mark.parametrize("what", ["expired", "deleted"])
@pytest.mark.parametrize("where", ["state", "data", "params", "connection"])
async def test_a_connected_account_keeps_no_tokens(
    session: Session, database: psycopg.Connection, what: str, where: str
) -> None:
    """Its tokens stay out of metadata, where agents read; of any other event the same keys stay."""
    body = b'{"type": "x", "data": {"id": "ca_1", "state": {"val": {"access_token": "tell-nobody"}}}}'
    body = body.replace(b"state", where.encode())
    expired, other = event(1, type=f"composio.connected_account.{what}", body=body), event(2, body=body)
    await record_events(session, [expired, other])
    assert {"id": "ca_1"} == learning(database, expired)["metadata"]["raw_payload"]["data"]
    assert {"id", where} == set(learning(database, other)["metadata"]["raw_payload"]["data"])
    kept = database.execute("select metadata::text from agent_learnings where event_id = 'msg_1'").fetchone()
    assert "tell-nobody" not in kept[0]


async def test_a_read_only_database_is_nobodys_fault(
    database: psycopg.Connection, sessions: Callable[[], Session]
) -> None:
    """What a whole database refuses is raised, so that the batch comes again; no single event is blamed."""
    database.execute(f"alter database {database.info.dbname} set default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await record_events(sessions(), [event(1)])
    database.execute("set default_transaction_read_only = off")
    database.execute(f"alter database {database.info.dbname} reset default_transaction_read_only")
    assert (0, 0) == counts(database)


async def test_a_thousand_at_once(session: Session, database: psycopg.Connection) -> None:
    """A batch is one statement however many events it has."""
    answers = await record_events(session, [event(n) for n in range(1000)])
    assert [False] * 1000 == [answer.duplicate for answer in answers]
    assert (1000, 1000) == counts(database)


@pytest.mark.parametrize(
    ("server_says", "commits_with"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
async def test_what_is_answered_is_on_the_disk(
    dsn: str, database: psycopg.Connection, server_says: str, commits_with: str
) -> None:
    """A database that does not wait for its disk does so for events; the row-by-row way too, and nothing after it."""
    name = database.info.dbname
    database.execute(f"alter database {name} set synchronous_commit = {server_says}")
    database.execute("create table seen (setting text)")
    database.execute(
        # deferred, it runs as the commit begins: what it sees is what governs the commit
        "create function see() returns trigger language plpgsql security definer as"
        " $$ begin insert into public.seen select current_setting('synchronous_commit'); return null; end $$;"
        "create constraint trigger see after insert on agent_learnings deferrable initially deferred"
        " for each row execute function see();"
        "alter table agent_learnings add constraint no_bad check (event_id <> 'msg_bad')"
    )
    fresh = Session(dsn, name="test")
    try:
        await record_events(fresh, [event(1)])
        await record_events(fresh, [event(2), event("bad")])
        assert [(server_says,)] == await fresh.fetch("select current_setting('synchronous_commit')")
    finally:
        await fresh.close()
    assert [(commits_with,)] * 2 == database.execute("select setting from seen").fetchall()


async def test_new_events_are_not_looked_up(session: Session, database: psycopg.Connection) -> None:
    """A batch of events costs as many rows read as it has, whatever stands in the table and what is known of it."""
    for batch in range(3):
        await record_events(session, [event(batch * 100 + number) for number in range(50)])
    read = "select seq_tup_read from pg_stat_xact_user_tables where relname = 'agent_learnings'"
    with database.transaction():
        database.execute(
            "select agent_vault.record_events(array_agg('x' || n), array_agg(gen_random_uuid()), array_agg('x'::text),"
            " array_agg('x'::text), array_agg('default'::text), array_agg('x'::text), array_agg('{}'::bytea),"
            " array_agg(true), array_agg(0.0::float8)) from generate_series(1, 50) n"
        )
        database.execute(
            "select agent_vault.record_events('{msg_1,msg_2}', array[gen_random_uuid(), gen_random_uuid()], '{x,x}',"
            " '{x,x}', '{default,default}', '{x,x}', array['{}', '{}']::bytea[], '{t,t}', '{0,0}')"
        )
        assert (0,) == database.execute(read).fetchone()
