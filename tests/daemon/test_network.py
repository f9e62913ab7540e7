"""The daemon behind a network that goes dead, stalls or lies: all of it with a real Postgres and a real PgBouncer."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from daemons import QUIET, at_rest, become, counts, daemon, idle, insert, row
from faults.pooler import pooler
from faults.proxy import Proxy, proxy
from gateways import FakeGateway
from programs import until

pytestmark = pytest.mark.faults

STOOD_STILL_S = 5.0  # beyond what a daemon takes for a sleep


@pytest.fixture
async def wire(dsn: str) -> AsyncIterator[Proxy]:
    """The network between the daemon and the database."""
    async with proxy(dsn) as one:
        yield one


@pytest.mark.parametrize("new", [False, True], ids=["until-it-connects-anew", "until-the-network-is-back"])
async def test_a_half_open_connection_is_left(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path, *, new: bool
) -> None:
    """Its open connections swallow everything and send no error: the pulse misses its answer, and it listens anew."""
    async with daemon(wire.dsn, fake.url, tmp_path, poll_s=0) as program:
        await idle(program)
        insert(database)
        await become(database, program, done=1)
        wire.blackhole(new=new)
        insert(database)
        lost = await program.event("listener_lost")
        assert "no answer from the database within 2.5 s" in lost["error"]
        wire.heal()
        await become(database, program, done=2)
    assert [1, 1] == [claims for (claims,) in database.execute("select claims from public.jobs")]


async def test_a_reset_connection_is_opened_anew(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """A network that refuses for a while is no outage for long, and costs a line and no attempt."""
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        wire.refuse()
        await program.event("listener_lost")
        tries = wire.accepted
        await until(lambda: wire.accepted >= tries + 3, "three more tries")
        insert(database)
        wire.heal()
        await become(database, program, done=1)
    assert 1 == program.text.count('"listener_lost"')


@pytest.mark.parametrize("answers", [False, True], ids=["never-arrives", "answer-lost"])
async def test_a_stalled_claim_is_left(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path, *, answers: bool
) -> None:
    """The claim has a deadline; what it took without its worker's knowing is given back, uncounted."""
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        insert(database)
        await become(database, program, done=1)
        await at_rest(database)
        stall = wire.stall("server", at=b"claim_jobs", answers=answers)
        (job_id,) = insert(database)
        await stall.comes()
        await program.event("job_delivered", job_id=str(job_id))
    done = row(database, job_id)
    assert ("done", 1, 2 if answers else 1) == (done["status"], done["attempts"], done["claims"])
    assert 2 == len(fake.wakes)


async def test_a_claim_that_arrives_late_takes_nothing(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """Its worker gave it up and connected anew before it comes to the database: no job is leased to nobody."""
    async with daemon(wire.dsn, fake.url, tmp_path, concurrency=1, **QUIET) as program:
        await idle(program)
        insert(database)
        await become(database, program, done=1)
        accepted, stall = wire.accepted, wire.stall("server", at=b"claim_jobs")
        database.execute("select pg_notify('agent_vault_default', '')")
        await stall.comes()
        await until(lambda: wire.accepted > accepted, "a new connection")
        fake.held.clear()
        insert(database)
        await until(lambda: len(fake.posts) == 2, "a daemon without room for more")
        (job_id,) = insert(database)
        wire.release()
        await until(lambda: stall.link not in wire.links, "the end of the old connection")
        assert ("queued", 0) == (row(database, job_id)["status"], row(database, job_id)["claims"])
        fake.held.set()
        await become(database, program, done=3)


class Slow(asyncio.Event):
    """An event that comes after a while: a gateway that takes its time."""

    async def wait(self) -> Literal[True]:
        """Take a time that differs, so that a daemon with two places always has one in use."""
        await asyncio.sleep(random.uniform(0.1, 0.3))
        return True


async def test_a_suspect_gets_its_turn_in_a_busy_daemon(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Another queue keeps the daemon busy without end: it pauses for the suspect, and the rest of its queue goes on."""
    fake.held = Slow()

    def fed() -> int:
        if counts(database)["queued"] < 20:
            insert(database, 20, queue="chat")
        return len(fake.posts)

    def fed_and_done() -> bool:
        return fed() > 0 and row(database, suspect)["status"] == "done"

    async with daemon(dsn, fake.url, tmp_path, queues="chat,mail", concurrency=2) as program:
        await until(lambda: fed() > 5, "a busy daemon")
        (suspect,) = insert(database, queue="mail", lapses=1)
        insert(database, 3, queue="mail")
        await until(fed_and_done, "the suspect's delivery")
        mail = "select from public.jobs where queue = 'mail' and status <> 'done'"
        await until(lambda: not database.execute(mail).fetchall(), "the others of its queue")
    assert "delivery_crashed" not in program.text


@pytest.mark.parametrize("answers", [False, True], ids=["never-arrives", "answer-lost"])
async def test_a_stalled_completion_is_said_again(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path, *, answers: bool
) -> None:
    """The gateway has the event, and does not get it again."""
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        stall = wire.stall("server", at=b"complete_job", answers=answers)
        (job_id,) = insert(database)
        await stall.comes()
        await program.event("job_delivered", job_id=str(job_id))
    done = row(database, job_id)
    assert ("done", 1, 1) == (done["status"], done["attempts"], done["claims"])
    assert 1 == len(fake.wakes)


async def test_an_outage_longer_than_the_lease_spends_nothing(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """The gateway took the event while the database was away, and its lease ran out: it is revived and completed."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(wire.dsn, fake.url, tmp_path, lease_s=2) as program:
        await until(lambda: fake.posts)
        wire.refuse()
        fake.held.set()
        await program.event("job_not_settled", job_id=str(job_id))
        lapsed = "select from public.jobs where lease_until < now()"
        await until(lambda: database.execute(lapsed).fetchall(), "the end of the lease")
        wire.heal()
        await program.event("job_delivered", job_id=str(job_id))
    done = row(database, job_id)
    assert ("done", 1, 1, 0) == tuple(done[name] for name in ("status", "attempts", "claims", "lapses"))
    assert 1 == len(fake.wakes)


async def test_a_pooler_that_swallows_listen_is_noticed(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """In transaction mode it says so once, with the remedy, and polls; nothing waits for a person."""
    with pooler(dsn, "transaction") as through:
        async with daemon(through, fake.url, tmp_path) as program:
            swallowed = await program.event("notifications_swallowed")
            assert "port 5432" in swallowed["remedy"]
            insert(database, 3)
            await become(database, program, done=3)
            insert(database, 1)
            await become(database, program, done=4)
    assert 1 == program.text.count("notifications_swallowed")
    assert "listener_up" not in program.text


async def test_a_session_pooler_is_as_good_as_a_server(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The nonce comes back, and notifications alone wake it."""
    with pooler(dsn, "session") as through:
        async with daemon(through, fake.url, tmp_path, **QUIET) as program:
            await idle(program)
            insert(database, 3)
            await become(database, program, done=3)
    assert "notifications_swallowed" not in program.text


@pytest.mark.parametrize(("round_trip_ms", "pairs"), [(0, 120), (40, 50), (150, 30)])
async def test_no_wake_is_lost(
    database: psycopg.Connection,
    fake: FakeGateway,
    wire: Proxy,
    tmp_path: Path,
    round_trip_ms: int,
    pairs: int,
) -> None:
    """With every poll off, the second of two jobs comes at any moment of the first one's way, and is delivered."""
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        wire.delay_s = round_trip_ms / 2000
        for pair in range(pairs):
            insert(database)
            # the phase between the two is what is tested, not a time to wait for something
            await asyncio.sleep(random.uniform(0, 0.01 + 3 * wire.delay_s * 2))
            insert(database)
            await become(database, program, done=2 * (pair + 1))


async def test_a_process_that_stood_still_proves_its_connection_at_once(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """After a sleep the connection is dead and the next pulse minutes away: the job is delivered all the same."""
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        program.process.send_signal(signal.SIGSTOP)
        wire.blackhole(new=False)
        insert(database)
        await asyncio.sleep(STOOD_STILL_S)  # the time itself is what happened
        program.process.send_signal(signal.SIGCONT)
        assert (await program.event("slept"))["seconds"] >= 3
        await become(database, program, done=1)


async def test_nothing_is_sent_after_a_sleep_before_the_lease_was_extended(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """It wakes in the middle of its tries, with a lease that nobody took: first the renewal, then the POST."""
    fake.always = (503, "starting")
    (job_id,) = insert(database)
    async with daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program:
        await until(lambda: fake.posts)
        program.process.send_signal(signal.SIGSTOP)
        stall = wire.stall("server", at=b"extend_jobs")
        await asyncio.sleep(STOOD_STILL_S)
        posts, fake.always = len(fake.posts), None
        program.process.send_signal(signal.SIGCONT)
        await stall.comes()
        assert posts == len(fake.posts)
        wire.release()
        await program.event("job_delivered", job_id=str(job_id))
    assert ("done", 1) == (row(database, job_id)["status"], row(database, job_id)["attempts"])


async def test_an_idle_daemon_says_little(
    database: psycopg.Connection, fake: FakeGateway, wire: Proxy, tmp_path: Path
) -> None:
    """Idle, its statements are its pulses: one each five seconds, and not one more."""
    async with daemon(wire.dsn, fake.url, tmp_path) as program:
        await idle(program)
        seen = "select seen_at from agent_vault.daemons"
        # what the start brings along is over with the first pulse after it
        pulse = database.execute(seen).fetchone()
        await until(lambda: database.execute(seen).fetchone() != pulse, "a pulse")
        before = sum(link.statements for link in wire.links)
        for _ in range(3):
            pulse = database.execute(seen).fetchone()
            await until(lambda: database.execute(seen).fetchone() != pulse, "a pulse")  # noqa: B023 - awaited here
        assert 3 == sum(link.statements for link in wire.links) - before
