"""The daemon as a process: what wakes it, and how its jobs go side by side."""

import asyncio
import signal
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from daemons import QUIET, become, counts, daemon, idle, insert, row
from gateways import TOKEN, FakeGateway, HoldsTheFirst, gateway
from programs import until

from daemon.gateway import Gateway
from daemon.gathering import DIGEST_SLOTS
from daemon.pacing import SLOTS, Pacer
from daemon.places import MOST_AHEAD
from daemon.plan import Plan
from daemon.routes import choose_route
from daemon.worker import Worker
from notifier.presence import Presence
from notifier.sleep import SleepWatch
from notifier.waker import Waker
from sql.jobs import Job
from sql.migrate import latest, routines
from sql.names import Identity
from sql.session import Session

COUNTED_OLD_SCHEMA = """
create sequence public.looks;
create or replace function agent_vault.schema_version() returns int language sql security definer as
$$ select (nextval('public.looks') * 0)::int $$
"""
PULSE_REFUSED_TO_THE_LISTENER = """
create or replace function agent_vault.keep_name(p_daemon text, p_worker text, p_queues text[], p_listens boolean)
returns table (
  database_time timestamptz, work_waits boolean, next_due_ms double precision, suspect_queue text, has_name boolean,
  shared boolean
)
language plpgsql as $$
begin
  raise exception 'nobody may listen';
end
$$
"""


def at_start(query: str) -> list[tuple[Any, ...]] | None:
    """Answer what a daemon asks before its first claim; None is for any other query."""
    if "schema_version" in query:
        return [(latest(),)]
    if "recent_wakes" in query:
        return []
    if "awaiting" in query:
        return [(None,)]
    return None


class EmptyHanded(Session):
    """A session that finds no job; something happens during its first claim, and the daemon ends after the second."""

    def __init__(self, during: Callable[[], None], stop: asyncio.Event) -> None:
        """Take what happens, and the daemon's end."""
        super().__init__("", name="test")
        self.claims = 0
        self._during = during
        self._stop = stop

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Answer a claim with nothing, and a pulse with nothing due."""
        del arguments
        if (known := at_start(query)) is not None:
            return known
        if "claim_jobs" not in query:
            return [(datetime.now(UTC), False, None)]
        self.claims += 1
        if self.claims == 1:
            self._during()
        else:
            self._stop.set()
        return []


BEGIN = ["look", "claim", "look"]


class Recorded(Session):
    """A session that finds no job, and remembers in which order it was asked.

    A notification comes during the first claim, and the look that follows on it says whether work waits.
    """

    def __init__(self, waker: Waker, *, work_waits: bool) -> None:
        """Take what hears the notification, and what that look says."""
        super().__init__("", name="test")
        self.asked: list[str] = []
        self._waker = waker
        self._work_waits = work_waits

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Answer a claim with nothing."""
        del arguments
        if (known := at_start(query)) is not None:
            return known
        if "claim_jobs" in query:
            self.asked.append("claim")
            if self.asked.count("claim") == 1:
                self._waker.ring("notified")
            return []
        self.asked.append("look")
        return [(datetime.now(UTC), self._work_waits and [*BEGIN, "look"] == self.asked, None)]


@pytest.mark.parametrize(
    ("shares", "work_waits", "then"),
    [(False, False, ["claim", "look"]), (True, False, ["look"]), (True, True, ["look", "claim", "look"])],
    ids=["alone", "taken by another", "left by another"],
)
async def test_who_came_late_looks_before_it_claims(*, shares: bool, work_waits: bool, then: list[str]) -> None:
    """Where others serve its queue too: one of them gets the job, and the rest of the herd claims nothing."""
    stop, waker = asyncio.Event(), Waker(poll_s=0)
    waker.listening = True
    session = Recorded(waker, work_waits=work_waits)
    presence = Presence(Identity("me", "1"), ["default"])
    presence.taken = presence.tried = True
    presence.shares = shares
    pacer = Pacer(lambda kind: choose_route((), kind))
    gateway = Gateway("http://127.0.0.1:18789", "/hooks", "token")
    worker = Worker(session, gateway, waker, stop, presence, pacer=pacer, sleep=SleepWatch(), lease_s=60, concurrency=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(), name="worker")
        await until(lambda: len(session.asked) >= len(BEGIN + then), "all that it asks")
        stop.set()
        waker.ring("stop")
    assert [*BEGIN, *then] == session.asked


@pytest.mark.usefixtures("clock")
async def test_a_ring_during_the_claim_makes_another() -> None:
    """What was inserted just after the claim looked is found at once, with neither poll nor timer."""
    stop, waker = asyncio.Event(), Waker(poll_s=0)
    session = EmptyHanded(lambda: waker.ring("notified"), stop)
    gateway = Gateway("http://127.0.0.1:18789", "/hooks", "token")
    presence = Presence(Identity("me", "1"), ["default"])
    presence.taken = presence.tried = True
    pacer = Pacer(lambda kind: choose_route((), kind))
    await Worker(
        session, gateway, waker, stop, presence, pacer=pacer, sleep=SleepWatch(), lease_s=60, concurrency=1
    ).run()
    assert 2 == session.claims


def claimed() -> tuple[Any, ...]:
    """An event as a claim answers it."""
    now = datetime.now(UTC)
    return (uuid.uuid4(), "CHAT", "default", None, "CHAT", uuid.uuid4(), 1, 5, 1, now, 0, now, None)


class Handing(Session):
    """A session that hands out two jobs a claim."""

    def __init__(self) -> None:
        """Nothing is opened."""
        super().__init__("", name="test")

    async def fetch(self, query: str, arguments: Sequence[Any] = (), **_: object) -> list[tuple[Any, ...]]:
        """Answer a claim."""
        del arguments
        if (known := at_start(query)) is not None:
            return known
        if "claim_jobs" not in query:
            return [(datetime.now(UTC), False, None)]
        return [claimed(), claimed()]


class Crashing(Pacer):
    """A pacer with a fault, which shows at the second claim."""

    plans = 0

    def plan(self, jobs: Sequence[Job], now_s: float) -> Plan:
        """Plan, or crash."""
        self.plans += bool(jobs)
        if jobs and self.plans == 2:
            raise RuntimeError("a fault of ours")
        return super().plan(jobs, now_s)


async def crash(worker: Worker) -> None:
    """Run it until its fault shows."""
    with pytest.raises(ExceptionGroup):
        await worker.run()


async def test_a_crash_leaves_nothing_held(fake: FakeGateway) -> None:
    """Neither leases, which would be renewed for ever, nor slots, for what was on no way to the gateway yet."""
    fake.held.clear()
    presence = Presence(Identity("me", "1"), ["default"])
    presence.taken = presence.tried = True
    pacer, waker = Crashing(lambda kind: choose_route((), kind)), Waker(poll_s=0)
    async with Gateway(fake.url, "/hooks", TOKEN) as posting:
        parts = (Handing(), posting, waker, asyncio.Event(), presence)
        worker = Worker(*parts, pacer=pacer, sleep=SleepWatch(), lease_s=60, concurrency=1)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(crash(worker))
            await until(lambda: fake.posts, "the first wake is on its way, and the second waits for its place")
            waker.ring("notified")
            await working
    assert [] == worker.leases.jobs
    plan = pacer.plan([Job(*claimed()) for _ in range(20)], asyncio.get_running_loop().time())
    assert SLOTS - DIGEST_SLOTS - 1 == len(plan.digests)  # less the one that was sent, which may have been taken


async def test_a_notification_alone_wakes_it(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A plain insert is delivered with every poll off; the producer's own text goes out as it is."""
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        (job_id,) = insert(database, payload={"text": "  Please look at 'this'\n\U0001f514 "})
        delivered = await program.event("job_delivered", job_id=str(job_id))
    assert ["  Please look at 'this'\n\U0001f514 "] == fake.wakes
    assert ("CHAT", "default", 1, 200, "queued") == tuple(
        delivered[key] for key in ("type", "queue", "attempt", "status", "event_outcome")
    )
    done = row(database, job_id)
    assert ("done", 1, 1, None) == (done["status"], done["attempts"], done["claims"], done["lease_until"])


async def test_the_timer_alone_wakes_it_for_a_due_job(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A job for later that nobody announces is delivered when it is due, and not before."""
    database.execute("set session_replication_role = replica")  # the triggers are off: nothing is notified
    (job_id,) = insert(database)
    database.execute("update public.jobs set run_at = now() + interval '2 s'")
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await program.event("job_delivered", job_id=str(job_id))
    done = row(database, job_id)
    assert done["run_at"] <= done["locked_at"]


async def test_it_looks_for_what_is_due_later_after_a_claim_of_all_there_is(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """What nobody announced is not forgotten for the event that came after it: a moment later it is looked for."""
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await program.event("listener_up")
        insert(database, text="first")
        await until(lambda: counts(database) == {"done": 1})
        database.execute("set session_replication_role = replica")  # the triggers are off: nothing is notified
        (later_id,) = insert(database, text="later", run_at=datetime.now(UTC) + timedelta(seconds=4))
        database.execute("set session_replication_role = origin")
        (now_id,) = insert(database, text="now")
        await program.event("job_delivered", job_id=str(now_id))
        assert "queued" == row(database, later_id)["status"]
        await program.event("job_delivered", job_id=str(later_id))
    assert row(database, later_id)["run_at"] <= row(database, later_id)["locked_at"]


async def test_the_timer_alone_wakes_it_for_a_lapsing_lease(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The job of a worker that died is taken over when its lease ends, its attempt counted."""
    (job_id,) = insert(database, status="processing", locked_by="dead", claims=1, attempts=1)
    database.execute("update public.jobs set lease_until = now() + interval '2 s'")
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await program.event("job_delivered", job_id=str(job_id))
    done = row(database, job_id)
    assert ("done", 2, 2) == (done["status"], done["attempts"], done["claims"])


async def test_a_pulse_wakes_it_for_a_lease_that_was_cut_short(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A person shortens a dead worker's lease: no notification tells of it, the next pulse does."""
    async with daemon(dsn, fake.url, tmp_path, poll_s=0, pulse_s=0.2) as program:
        await idle(program)
        (job_id,) = insert(database, status="processing", locked_by="dead", claims=1, attempts=1)
        database.execute("update public.jobs set lease_until = now()")
        await program.event("job_delivered", job_id=str(job_id))


async def test_it_claims_nothing_from_an_older_schema(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Until agent-vault migrate has run, jobs stay as they are; then they are delivered."""
    (job_id,) = insert(database)
    database.execute(COUNTED_OLD_SCHEMA)
    async with daemon(dsn, fake.url, tmp_path, poll_s=0.1) as program:
        told = await program.event("schema_too_old")
        await until(lambda: database.execute("select last_value from public.looks").fetchone() >= (4,), "four looks")
        assert "run agent-vault migrate" in told["error"]
        assert ("queued", 0) == (row(database, job_id)["status"], row(database, job_id)["claims"])
        database.execute(routines())
        await program.event("job_delivered", job_id=str(job_id))


async def test_it_polls_where_it_cannot_listen(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Where the listener never comes up, jobs are delivered all the same."""
    database.execute(PULSE_REFUSED_TO_THE_LISTENER)
    async with daemon(dsn, fake.url, tmp_path, poll_s=0.2) as program:
        await program.event("listener_lost")
        for _ in range(2):
            (job_id,) = insert(database)
            await program.event("job_delivered", job_id=str(job_id))
    assert "listener_up" not in program.text


async def test_two_503s_are_one_claim_and_one_attempt(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A gateway that restarts is asked three times within one claim, and nothing is counted twice."""
    fake.answers = [(503, "starting"), (503, "starting")]
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        delivered = await program.event("job_delivered")
    done = row(database, job_id)
    assert (3, 3, 1) == (len(fake.posts), delivered["posts"], len(fake.wakes))
    assert ("done", 1, 1) == (done["status"], done["attempts"], done["claims"])


async def test_one_slow_wake_holds_up_no_other(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """While the gateway thinks about one job the other place serves all the rest."""
    fake.held = HoldsTheFirst()
    async with daemon(dsn, fake.url, tmp_path, concurrency=2) as program:
        (slow,) = insert(database, text="slow")
        await until(lambda: fake.posts)
        insert(database, 20)
        await become(database, program, processing=1, done=20)
        assert "processing" == row(database, slow)["status"]
        fake.held.set()
        await become(database, program, done=21)


async def test_no_more_is_claimed_than_there_is_room_for(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """What waits for a place stays queued, where another daemon can take it."""
    fake.held.clear()
    insert(database, 5)
    async with daemon(dsn, fake.url, tmp_path, concurrency=2) as program:
        await until(lambda: len(fake.posts) == 2)
        await become(database, program, processing=2, queued=3)
        fake.held.set()
        await become(database, program, done=5)


async def test_jobs_go_out_in_their_order(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """One at a time, the longest due first."""
    third, first, second = insert(database, 3)
    for job_id, age_s in ((first, 30), (second, 20), (third, 10)):
        database.execute("update public.jobs set run_at = now() - %s where id = %s", [timedelta(seconds=age_s), job_id])
    async with daemon(dsn, fake.url, tmp_path, concurrency=1) as program:
        await become(database, program, done=3)
    assert ["hello 1", "hello 2", "hello 0"] == fake.wakes


async def test_a_full_queue_starves_no_other(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The queues take turns, also when one of them always has more than there is room for."""
    insert(database, 40, text="mail", queue="mail")
    insert(database, 1, text="chat", queue="chat")
    async with daemon(dsn, fake.url, tmp_path, concurrency=1, queues="mail,chat") as program:
        await become(database, program, done=41)
    assert "chat 0" in fake.wakes[:3]


async def test_two_daemons_share_a_queue(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Each event goes to one of them, once, and both have their part."""
    fake.held.clear()
    insert(database, 2)
    async with (
        daemon(dsn, fake.url, tmp_path, concurrency=1, name="one") as one,
        daemon(dsn, fake.url, tmp_path, concurrency=1, name="two") as two,
    ):
        await until(lambda: len(fake.posts) == 2, "one job for each")
        fake.held.set()
        insert(database, 60, text="more")
        await become(database, one, done=62)
    assert (62, 62) == (len(fake.wakes), len(set(fake.wakes)))
    claimed = [[line["job_id"] for line in each.events if line["event"] == "job_claimed"] for each in (one, two)]
    assert all(claimed)
    assert 62 == len({*claimed[0], *claimed[1]}) == len(claimed[0]) + len(claimed[1])


async def test_queues_separate_two_daemons(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Each takes its own queue's jobs and leaves the others; a queue without a daemon waits."""
    async with gateway() as other:
        for queue in ("mail", "chat", "nobody"):
            insert(database, 10, text=queue, queue=queue)
        async with (
            daemon(dsn, fake.url, tmp_path, queues="mail", name="mail") as mail,
            daemon(dsn, other.url, tmp_path, queues="chat", name="chat"),
        ):
            await become(database, mail, done=20, queued=10)
    assert {"mail"} == {text.split()[0] for text in fake.wakes}
    assert {"chat"} == {text.split()[0] for text in other.wakes}


async def test_it_mends_a_connection_that_was_ended_while_idle(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A pooler that drops an idle connection makes no outage: the next claim just opens another."""
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        insert(database)
        await become(database, program, done=1)
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'agent-daemon test'"
        )
        insert(database)
        await become(database, program, done=2)
    assert "database_away" not in program.text


class HoldsAfter(asyncio.Event):
    """An event that the first `count` who come need not wait for."""

    def __init__(self, count: int) -> None:
        """Begin with nobody there."""
        super().__init__()
        self._left = count

    async def wait(self) -> Literal[True]:
        """Hold all but the first."""
        self._left -= 1
        return True if self._left >= 0 else await super().wait()


async def test_what_was_claimed_ahead_is_given_back_at_the_end(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A quick gateway stops answering in the middle of a burst: what is unsent goes back at once, untried."""
    fake.held = HoldsAfter(150)
    insert(database, 400)
    async with daemon(dsn, fake.url, tmp_path, concurrency=3, **QUIET) as program:
        await until(lambda: len(fake.posts) == 153, "three that wait for their answers")
        await until(lambda: counts(database)["done"] == 150, "the completions of the others")
        assert 3 <= counts(database)["processing"] <= 3 + 3 * MOST_AHEAD
        program.process.send_signal(signal.SIGTERM)
        await until(lambda: counts(database)["processing"] == 3, "the return of what is unsent")
        fake.held.set()
        assert 0 == await program.ended()
    assert {"done": 153, "queued": 247} == counts(database)
    assert 153 == len(fake.wakes)
    assert [(0,)] == database.execute("select distinct attempts from public.jobs where status = 'queued'").fetchall()
