"""The writer: what shares a commit, what is tried again, and that nobody waits for ever."""

import asyncio
from collections import Counter

import psycopg
import pytest
from deliveries import Commits, rows
from structlog.testing import capture_logs

from sql.learnings import NewEvent, Recorded
from sql.session import Session
from vault import inbox
from vault.inbox import Inbox, StorageAwayError


def event(event_id: str, body: bytes = b"{}", kind: str = "SLUG") -> NewEvent:
    """Return an event to store."""
    return NewEvent(event_id, kind, None, "default", "a learning", body, as_json=True)


async def store(session: Session, *events: NewEvent) -> list[Recorded | BaseException]:
    """Let all events wait, then start the writer; return what became of each."""
    box = Inbox(session)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(outcome(box, one)) for one in events]
        await asyncio.sleep(0)  # each is in the queue now
        writer = tasks.create_task(box.write())
        await asyncio.wait(waiting)
        writer.cancel()
    return [one.result() for one in waiting]


async def outcome(box: Inbox, one: NewEvent) -> Recorded | BaseException:
    """Return the answer, or the refusal as a value."""
    try:
        return await box.store(one)
    except StorageAwayError as error:
        return error


def batches(database: psycopg.Connection) -> list[int]:
    """Return how many learnings each commit stored, the oldest commit first."""
    query = "select count(*) from public.agent_learnings group by xmin::text order by min(xmin::text::bigint)"
    return [count for (count,) in database.execute(query)]


def fail(database: psycopg.Connection, sqlstate: str, times: int) -> None:
    """Make the next inserts of learnings fail: a sequence counts them, which no rollback undoes."""
    database.execute(
        "create sequence tries; create function fail() returns trigger language plpgsql as"
        f" $$ begin if nextval('public.tries') <= {times} then raise 'no' using errcode = '{sqlstate}'; end if;"
        " return new; end $$;"
        "create trigger fail before insert on public.agent_learnings for each row execute function fail()"
    )


async def test_fifty_a_commit(session: Session, database: psycopg.Connection) -> None:
    """What waits is committed together, at most fifty at a time, and each gets its own answer."""
    answers = await store(session, *(event(f"msg_{n}") for n in range(120)))
    assert [f"msg_{n}" for n in range(120)] == [answer.event_id for answer in answers]
    assert [50, 50, 20] == batches(database)


async def test_large_bodies_go_in_smaller_batches(
    session: Session, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes no body that would carry it beyond a limit, and one that is beyond it goes alone."""
    monkeypatch.setattr(inbox, "BATCH_BYTES", 100)
    sizes = (60, 60, 60, 99, 1, 300, 1)
    await store(session, *(event(f"msg_{n}", b"1" * size) for n, size in enumerate(sizes)))
    assert [1, 1, 1, 2, 1, 1] == batches(database)


async def test_repeated_in_a_batch(session: Session, database: psycopg.Connection) -> None:
    """The same event several times in one batch is one row; the first to come is no duplicate."""
    answers = await store(session, event("msg_1", b"first"), event("msg_2"), event("msg_1", b"second"), event("msg_1"))
    assert [False, False, True, True] == [answer.duplicate for answer in answers]
    assert {3, 1} == set(Counter(answer.job_id for answer in answers).values())
    assert [b"first", b"{}"] == [row["raw_body"] for row in rows(database, "agent_learnings")]
    assert 2 == len(rows(database, "jobs"))


async def test_refused_rows(session: Session, database: psycopg.Connection) -> None:
    """A row that the database refuses is answered with its reason, and its neighbours are stored."""
    database.execute("alter table public.agent_learnings add constraint no_bad check (event_id <> 'bad')")
    answers = await store(session, event("msg_1"), event("bad"), event("msg_2", b'"\\u0000"'))
    assert [False, True, False] == [answer.refused is not None for answer in answers]
    assert "no_bad" in answers[1].refused
    assert 2 == len(rows(database, "jobs"))


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "57P01"])
async def test_tried_again(session: Session, database: psycopg.Connection, sqlstate: str) -> None:
    """A lost deadlock, and a server that goes down, cost a batch nothing but a moment."""
    fail(database, sqlstate, times=2)
    answers = await store(session, event("msg_1"), event("msg_2"))
    assert [None, None] == [answer.refused for answer in answers]
    assert [2] == batches(database)


async def test_gives_up(session: Session, database: psycopg.Connection) -> None:
    """A trouble that stays is told after five tries, to everyone who waits; then the writer goes on."""
    fail(database, "40P01", times=5)
    with capture_logs() as logs:
        first, second = await store(session, event("msg_1"), event("msg_2"))
        assert isinstance(first, StorageAwayError)
        assert isinstance(second, StorageAwayError)
        assert (5,) == database.execute("select last_value from tries").fetchone()
        assert isinstance((await store(session, event("msg_1")))[0], Recorded)
    assert ["database_away"] == [log["event"] for log in logs]


async def test_says_when_the_database_is_back(session: Session, database: psycopg.Connection) -> None:
    """A lasting trouble is logged once, and its end."""
    fail(database, "25006", times=2)  # read-only: not tried again
    box = Inbox(session)
    with capture_logs() as logs:
        writer = asyncio.create_task(box.write())
        answers = [await outcome(box, event("msg_1")) for _ in range(3)]
        writer.cancel()
    assert [StorageAwayError, StorageAwayError, Recorded] == [type(answer) for answer in answers]
    assert ["database_away", "database_back"] == [log["event"] for log in logs]


async def test_full(session: Session) -> None:
    """Behind a database that hangs a thousand may wait; the next is told at once to come again."""
    box = Inbox(session)
    waiting = [box.store(event(f"msg_{n}")) for n in range(1000)]
    await asyncio.sleep(0)  # each is in the queue now
    with pytest.raises(StorageAwayError, match=r"1000 events of 0\.0 MiB wait for the database"):
        await box.store(event("one more"))
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_that_no_longer_waits(session: Session, commits: Commits, database: psycopg.Connection) -> None:
    """Who leaves during the commit takes no neighbour's answer along, and has delivered."""
    box = Inbox(session)
    gone, stays = (box.store(event(name)) for name in ("msg_1", "msg_2"))
    await asyncio.sleep(0)  # both are in the queue now
    writer = asyncio.create_task(box.write())
    with commits.held():
        await commits.waiting()
        gone.cancel()
    assert "msg_2" == (await stays).event_id
    writer.cancel()
    assert {"msg_1", "msg_2"} == {row["event_id"] for row in rows(database, "agent_learnings")}


async def test_a_large_body_has_its_time(
    session: Session, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for a commit grows with the bytes that it waits for: neither a large one nor its neighbours fail."""
    monkeypatch.setattr(inbox, "COMMIT_S", 0.01)  # 30 MiB take far longer
    small = [event(f"msg_{n}") for n in range(3)]
    large = event("large", b'{"data": "%s"}' % (b"x" * 30 * 1024 * 1024))
    with capture_logs() as logs:
        answers = await store(session, large, *small)
    assert ["large", "msg_0", "msg_1", "msg_2"] == [getattr(one, "event_id", one) for one in answers]
    assert [] == logs  # the circuit stayed closed
    assert [1, 3] == batches(database)


async def test_no_room_for_more_bytes(session: Session) -> None:
    """Behind a database that hangs 8 MiB may wait, and one larger body."""
    box = Inbox(session)
    sizes = (8 * 1024 * 1024 - 10, 30 * 1024 * 1024)
    waiting = [box.store(event(f"msg_{size}", bytes(size))) for size in sizes]
    await asyncio.sleep(0)  # each is in the queue now
    for size in (11, 9 * 1024 * 1024):
        with pytest.raises(StorageAwayError, match=r"2 events of 38\.0 MiB wait for the database"):
            await box.store(event("one more", bytes(size)))
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_was_committed_makes_room(session: Session) -> None:
    """Room that a batch took is there again after it, whether it was stored or not."""
    box = Inbox(session)
    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(box.write())
        for number in range(3):
            await box.store(event(f"msg_{number}", b'"%s"' % (b"x" * 5_000_000)))
        writer.cancel()
    assert (0, 0) == (box._room.events, box._room.all_bytes)
