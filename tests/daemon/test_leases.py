"""The leases of a running daemon: renewed while it holds a job, and given up when another took it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import psycopg
from daemons import QUIET, become, daemon, insert, row
from gateways import FakeGateway
from programs import until
from structlog.testing import capture_logs

from daemon.leases import Leases
from sql import jobs
from sql.session import Session

STEAL = "update public.jobs set claims = claims + 1, locked_by = 'another', lease_until = now() + interval '1 hour'"


async def claim(session: Session, count: int) -> list[jobs.Job]:
    """Claim so many jobs."""
    return await jobs.claim_jobs(session, "default", "me", count, 60)


async def test_room_waits_for_a_place(session: Session, database: psycopg.Connection) -> None:
    """It tells how many more can be held, and waits when there is none."""
    insert(database, 2)
    leases = Leases(session, "me", lease_s=60, slots=2)
    assert 2 == await leases.room()
    first, second = await claim(session, 2)
    leases.hold(first)
    assert 1 == await leases.room()
    leases.hold(second)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(leases.room())
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        leases.drop(first)
        assert 1 == await waiting


async def test_dropping_an_older_claim_keeps_the_newer(session: Session, database: psycopg.Connection) -> None:
    """A job that was claimed again here is held under its new claim, whatever the old delivery does."""
    insert(database)
    leases = Leases(session, "me", lease_s=60, slots=1)
    (old,) = await claim(session, 1)
    await jobs.release_job(session, old, 0, "again")
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
        await jobs.complete_job(session, job, {}, 0)
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
    assert 1 == await leases.room()


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
