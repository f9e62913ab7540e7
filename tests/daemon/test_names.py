"""A daemon and its name: who follows whom, and what becomes of the leases."""

import signal
from pathlib import Path

import psycopg
import pytest
from daemons import become, daemon, idle, insert, row
from faults.pooler import pooler
from faults.proxy import proxy
from gateways import FakeGateway
from programs import until

from sql import jobs, names
from sql.names import Identity, NameTakenError
from sql.session import Session

pytestmark = pytest.mark.faults

AGED = "update agent_vault.daemons set seen_at = seen_at - interval '1 minute'"


def identity(run: str) -> Identity:
    """One run of the daemon called mac."""
    return Identity("mac", run)


async def test_a_killed_daemon_gets_its_jobs_back_at_once(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The next run under the same name need not wait for the leases of the last; their attempts are counted."""
    fake.held.clear()
    insert(database, 2)
    async with daemon(dsn, fake.url, tmp_path, lease_s=3600, poll_s=0) as first:
        await until(lambda: len(fake.posts) == 2)
        await first.stop(signal.SIGKILL)
    fake.held.set()
    async with daemon(dsn, fake.url, tmp_path, lease_s=3600, poll_s=0) as second:
        await become(database, second, done=2)
    assert [(2, 2)] * 2 == database.execute("select attempts, claims from public.jobs").fetchall()


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_killed_daemon_is_followed_behind_a_pooler(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, mode: str
) -> None:
    """A session pooler ends the dead one's session; in transaction mode its silence tells."""
    fake.held.clear()
    (job_id,) = insert(database)
    with pooler(dsn, mode) as through:
        async with daemon(through, fake.url, tmp_path, lease_s=3600) as first:
            await until(lambda: fake.posts)
            await first.stop(signal.SIGKILL)
        fake.held.set()
        async with daemon(through, fake.url, tmp_path, lease_s=3600) as second:
            await second.event("job_delivered", job_id=str(job_id))
    assert ("name_taken" in second.text) == (mode == "transaction")


async def test_a_second_daemon_of_a_name_waits_for_the_first(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """It says so with the remedy, claims nothing, and takes over when the first has ended."""
    async with daemon(dsn, fake.url, tmp_path) as first:
        await idle(first)
        async with daemon(dsn, fake.url, tmp_path) as second:
            taken = await second.event("name_taken")
            assert "set DAEMON_NAME on one of the two" in taken["error"]
            insert(database, 5)
            await become(database, first, done=5)
            assert "job_claimed" not in second.text
            await first.stop()
            await idle(second)
            insert(database)
            await become(database, second, done=6)


async def test_a_daemon_that_fell_silent_loses_its_name(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Its connection hangs for ever, as after a loss of power: the server keeps its session, and yet it is dead."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with proxy(dsn) as wire, daemon(wire.dsn, fake.url, tmp_path, lease_s=3600) as first:
        await idle(first)
        await until(lambda: fake.posts)
        first.process.send_signal(signal.SIGSTOP)
        wire.blackhole()
        database.execute(AGED)
        fake.held.set()
        async with daemon(dsn, fake.url, tmp_path, lease_s=3600) as second:
            await second.event("job_delivered", job_id=str(job_id))
    assert 2 == row(database, job_id)["claims"]


async def test_a_name_is_taken_kept_and_left(dsn: str, session: Session) -> None:
    """Whoever has it keeps it with each pulse; it is free again once it is left."""
    other = Session(dsn, name="other")
    await names.take_name(session, identity("one"), ["default"], listens=True)
    await names.take_name(session, identity("one"), ["default"], listens=True)
    with pytest.raises(NameTakenError, match="another running daemon is named mac: set DAEMON_NAME"):
        await names.take_name(other, identity("two"), ["default"], listens=True)
    with pytest.raises(NameTakenError):
        await names.take_name(other, identity("two"), ["default"], listens=False)
    assert not (await names.keep_name(session, identity("one"), ["default"], listens=True)).work_waits
    await names.leave_name(other, identity("two"))  # not its own to leave
    with pytest.raises(NameTakenError):
        await names.keep_name(other, identity("two"), ["default"], listens=True)
    await names.leave_name(session, identity("one"))
    await session.close()
    await until(lambda: _takes(other, identity("two")), "the end of the first session")
    await other.close()


async def test_a_second_connection_does_not_weaken_the_name(dsn: str, session: Session) -> None:
    """The worker's connection may come after the listener's: the lock still tells of the death at once."""
    other = Session(dsn, name="other")
    await names.take_name(session, identity("one"), ["default"], listens=True)
    await names.take_name(other, identity("one"), ["default"], listens=False)
    with pytest.raises(NameTakenError):
        await names.take_name(other, identity("two"), ["default"], listens=True)
    await session.close()
    await until(lambda: _takes(other, identity("two")), "the end of the first session")
    await other.close()


async def _takes(session: Session, one: Identity) -> bool:
    try:
        await names.take_name(session, one, ["default"], listens=True)
    except NameTakenError:
        return False
    return True


async def test_a_lock_that_a_dead_connection_held_is_taken_later(dsn: str, session: Session) -> None:
    """After a half-open loss the next pulses try again, so that a death shows at once as before."""
    dead, other = Session(dsn, name="dead"), Session(dsn, name="other")
    await names.take_name(dead, identity("one"), ["default"], listens=True)
    await names.take_name(session, identity("one"), ["default"], listens=True)
    await dead.close()

    async def has_lock() -> bool:
        await names.keep_name(session, identity("one"), ["default"], listens=True)
        return bool((await other.fetch("select locked from agent_vault.daemons"))[0][0])

    await until(has_lock, "the lock")
    await session.close()
    await until(lambda: _takes(other, identity("two")), "the end of the session")
    await other.close()


async def test_a_pollers_name_is_its_own_until_it_is_silent(session: Session, database: psycopg.Connection) -> None:
    """Without a session of its own only its pulses say that it lives."""
    await names.take_name(session, identity("one"), ["default"], listens=False)
    for listens in (False, True):
        with pytest.raises(NameTakenError):
            await names.take_name(session, identity("two"), ["default"], listens=listens)
    database.execute(AGED)
    await names.take_name(session, identity("two"), ["default"], listens=False)
    with pytest.raises(NameTakenError):
        await names.keep_name(session, identity("one"), ["default"], listens=True)


async def test_only_the_leases_of_an_earlier_run_end(session: Session, database: psycopg.Connection) -> None:
    """Those of other daemons and this run's own go on, and so do those of workers without a fence."""
    insert(database, 4)
    for worker in ("mac/old", "mac/new", "mac2/old"):
        await jobs.claim_jobs(session, "default", worker, 1, 60)
    database.execute("select public.claim_next_job('mac')")
    await names.take_name(session, identity("new"), ["default"], listens=True)
    lapsed = database.execute("select locked_by from public.jobs where lease_until < now()").fetchall()
    assert [("mac/old",)] == lapsed
