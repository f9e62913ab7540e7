"""The leases of a running daemon: renewed while it holds a job, and given up when another took it."""

import asyncio
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
import queue_calls
from daemons import QUIET, become, counts, daemon, insert, row
from gateways import FakeGateway
from programs import Program, until
from structlog.testing import capture_logs

from daemon.leases import Leases
from notifier.sleep import Moment
from sql import jobs
from sql.session import Session

pytestmark = pytest.mark.faults

STEAL = "update public.jobs set claims = claims + 1, locked_by = 'another', lease_until = now() + interval '1 hour'"


async def claim(session: Session, count: int) -> list[jobs.Job]:
    """Claim so many jobs."""
    return await jobs.claim_jobs(session, "default", "me", count, 60)


async def test_room_is_what_is_not_held(session: Session, database: psycopg.Connection) -> None:
    """It tells how many more can be held; what is set aside takes no place, and is renewed all the same."""
    insert(database, 2)
    leases = Leases(session, "me", lease_s=60, slots=2)
    assert (2, True) == (leases.room(), leases.are_idle)
    first, second = await claim(session, 2)
    leases.hold(first)
    assert (1, False) == (leases.room(), leases.are_idle)
    leases.hold(second)
    assert 0 == leases.room()
    leases.set_aside(first)
    assert 1 == leases.room()
    leases.drop(second)
    assert (2, True) == (leases.room(), leases.are_idle)
    assert [first.id] == leases.ids


async def test_dropping_an_older_claim_keeps_the_newer(session: Session, database: psycopg.Connection) -> None:
    """A job that was claimed again here is held under its new claim, whatever the old delivery does."""
    insert(database)
    leases = Leases(session, "me", lease_s=60, slots=1)
    (old,) = await claim(session, 1)
    await queue_calls.release_job(session, old, 0, "again")
    (new,) = await claim(session, 1)
    leases.hold(old)
    leases.hold(new)
    leases.drop(old)
    with capture_logs() as lines:
        await leases._extend()
    assert [] == lines
    assert [new] == [held.job for held in leases._held.values()]


async def test_what_is_settled_while_it_is_renewed_was_not_lost(session: Session, database: psycopg.Connection) -> None:
    """The renewal finds the job done, and it is no longer held by then: no alarm."""
    insert(database)
    leases = Leases(session, "me", lease_s=60, slots=1)
    (job,) = await claim(session, 1)
    leases.hold(job)

    async def settle() -> None:
        await queue_calls.complete_job(session, job, {}, 0)
        leases.drop(job)

    with capture_logs() as lines:
        await asyncio.gather(settle(), leases._extend())
    assert [] == lines


async def test_a_lost_lease_makes_room(session: Session, database: psycopg.Connection) -> None:
    """The place of a job that another worker took is free at once."""
    insert(database)
    leases = Leases(session, "me", lease_s=60, slots=1)
    (job,) = await claim(session, 1)
    leases.hold(job)
    database.execute(STEAL)
    with capture_logs() as lines:
        await leases._extend()
    assert [("lease_lost", job.id)] == [(line["event"], line["job_id"]) for line in lines]
    assert 1 == leases.room()


async def test_renewal_outlives_the_database(session: Session, database: psycopg.Connection) -> None:
    """A failed renewal is a line, and the next one mends it."""
    insert(database)
    leases = Leases(session, "me", lease_s=0.15, slots=1)
    (job,) = await claim(session, 1)
    leases.hold(job)
    database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test'",
    )
    database.execute("update public.jobs set lease_until = now() - interval '1 hour'")
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as tasks:
            renewal = tasks.create_task(leases.renew())
            await until(lambda: database.execute("select 1 from public.jobs where lease_until > now()").fetchall())
            renewal.cancel()
    assert "leases_not_renewed" == lines[0]["event"]


class Clock:
    """The moment that leases see, to be moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        """Stand still."""
        self.now = Moment.now()
        patch.setattr(Moment, "now", lambda: self.now)

    def move(self, *, wall_s: float = 0, monotonic_s: float = 0) -> None:
        """Let time pass by either clock."""
        self.now = Moment(self.now.wall_s + wall_s, self.now.monotonic_s + monotonic_s)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A hand on the clocks."""
    return Clock(monkeypatch)


class Counting(Session):
    """A session that counts its statements, and finds no database for the first `away` of them."""

    def __init__(self, dsn: str, away: int = 0) -> None:
        """Count from nothing."""
        super().__init__(dsn, name="test")
        self.statements = 0
        self.away = away

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Count, and fail or do it."""
        self.statements += 1
        if self.statements <= self.away:
            raise psycopg.OperationalError("no route to host")
        return await super().fetch(query, arguments)


@pytest.mark.parametrize(
    ("expected", "passes"),
    [(0, {"wall_s": 39, "monotonic_s": 39}), (1, {"wall_s": 60}), (1, {"monotonic_s": 40})],
    ids=["it holds", "slept through it", "stood still"],
)
async def test_a_lease_that_ran_out_by_any_clock_is_extended_first(
    dsn: str, session: Session, database: psycopg.Connection, moment: Clock, expected: int, passes: dict[str, float]
) -> None:
    """Before a job goes out its lease is sure to hold; while it is young that costs no statement."""
    insert(database)
    (job,) = await claim(session, 1)
    counting = Counting(dsn)
    leases = Leases(counting, "me", lease_s=60, slots=1)
    leases.hold(job)
    moment.move(**passes)
    await leases.assure(job)
    assert expected == counting.statements
    await counting.close()


async def test_after_a_sleep_no_lease_is_trusted(
    dsn: str, session: Session, database: psycopg.Connection, moment: Clock
) -> None:
    """All of them are extended in one call, and a job that another took meanwhile is lost."""
    insert(database, 2)
    kept, stolen = await claim(session, 2)
    counting = Counting(dsn, away=2)
    leases = Leases(counting, "me", lease_s=60, slots=2)
    for job in (kept, stolen):
        leases.hold(job)
    moment.move(wall_s=5, monotonic_s=0.1)
    leases.doubt()
    database.execute(f"{STEAL} where id = %s", [stolen.id])
    moment.move(monotonic_s=0.1)
    with capture_logs() as lines:
        await leases.assure(kept)
        with pytest.raises(jobs.LeaseLostError):
            await leases.assure(stolen)
    assert 3 == counting.statements
    assert ["leases_not_renewed", "lease_lost"] == [line["event"] for line in lines]
    await counting.close()


async def test_a_job_that_must_be_alone_leaves_no_room(session: Session, database: psycopg.Connection) -> None:
    """Whatever places there are: nothing is claimed beside it."""
    insert(database, lapses=1)
    leases = Leases(session, "me", lease_s=60, slots=4)
    (suspect,) = await claim(session, 4)
    leases.hold(suspect)
    assert 0 == leases.room()
    leases.drop(suspect)
    assert 4 == leases.room()


async def test_a_worker_that_stood_still_cannot_complete(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """SIGSTOP beyond the lease, and another takes over: the late answer is logged, and stored nowhere."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, lease_s=2, name="first") as first:
        await until(lambda: fake.posts)
        first.process.send_signal(signal.SIGSTOP)
        async with daemon(dsn, fake.url, tmp_path, name="second") as second:
            await second.event("job_claimed", job_id=str(job_id))
            fake.held.set()
            await second.event("job_delivered", job_id=str(job_id))
        done = row(database, job_id)
        first.process.send_signal(signal.SIGCONT)
        late = await until(lambda: next((one for one in first.events if one.get("late_answer")), None), "a late answer")
    assert ("lease_lost", 200) == (late["event"], late["late_answer"]["status"])
    assert done == row(database, job_id)
    assert (2, "done") == (done["claims"], done["status"])
    assert "second" == done["locked_by"].split("/")[0]


async def test_a_killed_daemons_jobs_run_elsewhere(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """With default settings: the other daemon's timer fires when the dead one's lease ends, after a minute."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, name="first") as first:
        await until(lambda: fake.posts)
        async with daemon(dsn, fake.url, tmp_path, name="second") as second:
            await first.stop(signal.SIGKILL)
            lapses = row(database, job_id)["lease_until"]
            fake.held.set()
            await until(lambda: "job_delivered" in second.text, "the takeover", 120)
    done = row(database, job_id)
    assert timedelta(0) < done["locked_at"] - lapses
    assert (2, 2, 1) == (done["attempts"], done["claims"], done["lapses"])


async def test_a_job_that_kills_its_worker_ends_as_a_dead_letter(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Every daemon that sends it dies of it: it fails after its attempts, and all its neighbours are delivered."""
    insert(database, 5)
    (poison,) = insert(database, payload={"text": "poison"}, max_attempts=3)
    fake.held = KillsAtPoison(fake)
    deaths = 0
    while row(database, poison)["status"] != "failed":
        async with daemon(dsn, fake.url, tmp_path, concurrency=3) as program:
            fake.held.victim = program
            await until(lambda: program.process.returncode is not None or counts(database)["failed"])
            deaths += program.process.returncode is not None
    async with daemon(dsn, fake.url, tmp_path) as program:
        await become(database, program, done=5, failed=1)
    failed = row(database, poison)
    assert (3, 3, 3) == (deaths, failed["attempts"], failed["lapses"])
    assert {"reason": "lapsed"} == failed["outcome"]
    assert (
        max(attempts for (attempts,) in database.execute("select attempts from public.jobs where status = 'done'")) <= 2
    )


class KillsAtPoison(asyncio.Event):
    """An event at which the gateway stops; whoever sent the poison dies there."""

    def __init__(self, fake: FakeGateway) -> None:
        """Look at what the gateway got."""
        super().__init__()
        self._fake = fake
        self.victim: Program | None = None

    async def wait(self) -> Literal[True]:
        """Kill, or let it through."""
        if self._fake.posts[-1] == "poison" and self.victim:
            self.victim.process.kill()
            await self.victim.process.wait()
        return True


async def test_a_slow_gateway_does_not_cost_the_lease(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """While the gateway holds its answer beyond the lease, the lease moves on and one claim is enough."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, lease_s=2, concurrency=1) as program:
        await until(lambda: fake.posts)
        beyond = row(database, job_id)["lease_until"] + timedelta(seconds=2)
        await until(lambda: row(database, job_id)["lease_until"] > beyond, "a lease that outlives itself")
        fake.held.set()
        await become(database, program, done=1)
    done = row(database, job_id)
    assert (1, 1, 1) == (done["attempts"], done["claims"], len(fake.posts))


async def test_a_late_answer_to_a_stolen_lease_is_not_stored(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Another worker has the job: what this one hears afterwards changes nothing, and it says so."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await until(lambda: fake.posts)
        database.execute(STEAL)
        stolen = row(database, job_id)
        fake.held.set()
        await program.event("lease_lost", job_id=str(job_id))
        (other_id,) = insert(database)
        await program.event("job_delivered", job_id=str(other_id))
    assert stolen == row(database, job_id)
    assert "job_failed" not in program.text


async def test_a_stolen_lease_is_noticed_while_the_gateway_is_slow(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The renewal sees it before the answer comes, and the place goes to the next job."""
    fake.held.clear()
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, lease_s=1, concurrency=1) as program:
        await until(lambda: fake.posts)
        database.execute(STEAL)
        await program.event("lease_lost", job_id=str(job_id))
        insert(database, text="next")
        await until(lambda: "next 0" in fake.posts)
