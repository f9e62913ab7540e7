"""Which commits wake the daemons at once, and that no wake-up is lost when they do not."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest
from deliveries import Commits
from ear import Ear
from programs import until

from sql.learnings import NewEvent, record_events
from sql.session import Session
from vault import inbox
from vault.inbox import Inbox
from vault.wakes import AHEAD, EVERY_S, QUIET_S, Wakes

DEFAULT = ("agent_vault_default", "")
MAIL = ("agent_vault_mail", "")


def event(name: str, queue: str = "default") -> NewEvent:
    """Return an event to store."""
    return NewEvent(name, "SLUG", None, queue, "a learning", b"{}", as_json=True)


@pytest.fixture
def ear(dsn: str) -> Iterator[Ear]:
    """An ear for both queues."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield Ear(connection)


def spend(wakes: Wakes, queue: str, now: float) -> None:
    """Wake so often that the next does not come at once."""
    while wakes.at_once([queue], now):
        wakes.woke([queue], now)


def test_a_steady_pace_wakes_at_once() -> None:
    """Events that come 40 a second, or 20 together after a rest, are all woken for in their own commit."""
    wakes = Wakes()
    for number in range(500):
        assert wakes.at_once(["default"], 100 + number * EVERY_S)
        wakes.woke(["default"], 100 + number * EVERY_S)
    for _ in range(AHEAD):
        assert wakes.at_once(["default"], 200)
        wakes.woke(["default"], 200)


def test_beyond_it_one_wakes_for_several() -> None:
    """Faster than that, one commit in 25 ms wakes, and nobody waits longer for it."""
    wakes = Wakes()
    spend(wakes, "default", 100)
    woken = 0
    for milliseconds in range(1, 1001):
        now = 100 + milliseconds / 1000
        wakes.owed.add("default")
        due_s = wakes.due_s(now)
        assert due_s is not None
        assert due_s <= EVERY_S
        if wakes.at_once(["default"], now):
            wakes.woke(["default"], now)
            woken += 1
    assert 1 / EVERY_S == pytest.approx(woken, abs=1)


def test_a_quiet_queue_is_woken_at_once() -> None:
    """A queue that had no wake-up for a while does not wait for what the others have spent."""
    wakes = Wakes()
    spend(wakes, "default", 100)
    assert not wakes.at_once(["default"], 100)
    assert wakes.at_once(["default", "mail"], 100)
    wakes.woke(["mail"], 100)
    spend(wakes, "default", 100 + QUIET_S / 2)
    assert not wakes.at_once(["mail"], 100 + QUIET_S / 2)


def test_many_quiet_queues_put_off_no_wake_up() -> None:
    """Sixty queues with an event now and then are all woken at once, and what is owed after them waits no longer."""
    wakes = Wakes()
    for number in range(60 * 60):
        now = 100 + number / 180
        if wakes.at_once([f"queue_{number % 60}"], now):
            wakes.woke([f"queue_{number % 60}"], now)
    wakes.owed.add("default")
    due_s = wakes.due_s(now)
    assert due_s is not None
    assert due_s <= 2 * EVERY_S


def test_nobody_owed_is_never_due() -> None:
    """Without a debt there is no timer."""
    wakes = Wakes()
    assert wakes.due_s(100) is None
    wakes.owed.add("default")
    assert 0 == wakes.due_s(100)
    wakes.failed(100, 1)
    assert 1 == wakes.due_s(100)
    wakes.woke(["default"], 100)
    assert wakes.due_s(100) is None


async def test_a_quiet_batch_wakes_nobody(session: Session, database: psycopg.Connection, ear: Ear) -> None:
    """With None it is left to the caller; in the same transaction, what others insert afterwards wakes again."""
    await record_events(session, [event("msg_1")], wake=None)
    assert [] == ear.heard()
    await record_events(session, [event("msg_2")], wake=["mail"])
    assert [DEFAULT, MAIL] == sorted(ear.heard())
    await record_events(session, [], wake=["mail"])
    assert [MAIL] == ear.heard()
    database.execute("alter table agent_learnings add constraint no_bad check (event_id <> 'bad')")
    (bad, good) = await record_events(session, [event("bad"), event("msg_3")], wake=None)
    assert (True, None) == (bad.refused is not None, good.refused)
    assert [] == ear.heard()
    with database.transaction():
        database.execute(
            "select agent_vault.record_batch('{msg_4}', array[gen_random_uuid()], '{x}', '{x}', '{default}', '{x}',"
            " array['{}']::bytea[], '{t}', '{0}', null)"
        )
        database.execute("insert into jobs (type, queue) values ('chat', 'mail')")
    assert [MAIL] == ear.heard()


async def test_the_last_of_a_burst_is_woken_for(session: Session, ear: Ear) -> None:
    """When no further commit comes, those that woke nobody are made good for."""
    box = Inbox(session)
    spend(box._wakes, "default", time.monotonic() + 2)  # none at once for a while
    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(box.write())
        await box.store(event("msg_1"))
        assert {"default"} == box._wakes.owed
        assert [] == ear.heard()
        await until(lambda: not box._wakes.owed, "the wake-up")
        writer.cancel()
    assert [DEFAULT] == ear.heard()


async def test_the_end_wakes_whom_it_owes(session: Session, ear: Ear) -> None:
    """A vault that stops leaves nobody to the daemon's own look."""
    box = Inbox(session)
    await box.wake_owed()
    assert [] == ear.heard()
    box._wakes.owed.add("mail")
    await box.wake_owed()
    assert [MAIL] == ear.heard()


async def test_the_next_commit_wakes_for_all(session: Session, ear: Ear) -> None:
    """A commit that wakes does so for the queues of those before it too."""
    box = Inbox(session)
    box._wakes.owed.add("mail")
    box._wakes.failed(time.monotonic(), 3600)  # no wake-up of its own
    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(box.write())
        await box.store(event("msg_1"))
        writer.cancel()
    assert [DEFAULT, MAIL] == sorted(ear.heard())
    assert set() == box._wakes.owed


async def test_a_failed_wake_is_tried_again(session: Session, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks at the wake-up costs a moment."""
    monkeypatch.setattr(inbox, "WAKE_S", 0.05)
    tries = 0

    async def fail_once(*args: object, **options: object) -> object:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise psycopg.OperationalError("gone")
        return await record_events(*args, **options)

    monkeypatch.setattr(inbox, "record_events", fail_once)
    box = Inbox(session)
    box._wakes.owed.add("mail")
    writer = asyncio.create_task(box.write())
    await until(lambda: not box._wakes.owed, "the wake-up")
    writer.cancel()
    assert 2 == tries
    assert [MAIL] == ear.heard()


async def test_an_unknown_commit_is_woken_for(session: Session, ear: Ear, commits: Commits, dsn: str) -> None:
    """A commit that woke nobody and whose answer was lost is owed its wake-up, though its repetition adds no row."""
    box = Inbox(session)
    spend(box._wakes, "default", time.monotonic() + 2)  # none at once for a while
    writer = asyncio.create_task(box.write())
    with commits.held():
        storing = box.store(event("msg_1"))
        backend = await commits.waiting()
        assert {"default"} == box._wakes.owed
        assert [] == ear.heard()
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s)", [backend])
    assert "msg_1" == (await storing).event_id
    await until(lambda: not box._wakes.owed, "the wake-up")
    writer.cancel()
    assert [DEFAULT] == ear.heard()
