"""A claim does not wait for the disk: what a crash of the server forgets of it, and that nobody settles it then."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest
import queue_calls
from faults.postgres import FORGETFUL, CrashablePostgres, crashable

from sql import jobs, old_workers, settling
from sql.jobs import Job, LeaseLostError
from sql.migrate import migrate
from sql.session import Session

pytestmark = pytest.mark.faults

SETTLEMENTS: dict[str, Callable[[Session, Job], Coroutine[Any, Any, Any]]] = {
    "complete_job": lambda session, job: queue_calls.complete_job(session, job, {}, 0),
    "fail_job": lambda session, job: queue_calls.fail_job(session, job, "400", {}),
    "retry_job": lambda session, job: queue_calls.retry_job(session, job, 0, "500", {}),
    "release_job": lambda session, job: queue_calls.release_job(session, job, 0, "away"),
    "complete_jobs": lambda session, job: settling.complete_jobs(session, [job], {}, 0),
    "complete_each": lambda session, job: settling.complete_each(session, [job], [{}], [0]),
    "drop_jobs": lambda session, job: settling.drop_jobs(session, [job], {}),
    "fail_jobs": lambda session, job: settling.fail_jobs(session, [job], "400", {}),
    "retry_jobs": lambda session, job: settling.retry_jobs(session, [job], 0, "500", {}),
    "release_jobs": lambda session, job: settling.release_jobs(session, [job], 0, "away"),
    "await_handling": lambda session, job: settling.await_handling(session, [job], {}, 0, 60),
}
ROW = "select status, claims, attempts, locked_by from public.jobs"


@pytest.fixture(scope="module")
def server() -> Iterator[CrashablePostgres]:
    """A migrated server that is crashed and started again."""
    with crashable(**FORGETFUL) as one:
        migrate(one.dsn)
        yield one


@pytest.fixture
async def calls(server: CrashablePostgres) -> AsyncIterator[Session]:
    """A session over which one job was put in."""
    session = Session(server.dsn, name="test")
    await session.fetch("delete from public.jobs")
    await session.fetch("insert into public.jobs (type) values ('X')")
    yield session
    await session.close()


async def claim(session: Session, worker: str) -> Job:
    """Claim the one job."""
    (job,) = await jobs.claim_jobs(session, "default", worker, 1, 60)
    return job


async def crash(server: CrashablePostgres, session: Session) -> None:
    """Kill the server, start it again, and connect anew."""
    server.kill()
    server.start()
    with pytest.raises(psycopg.OperationalError):
        await session.fetch("select 1")


@pytest.mark.parametrize("next_worker", ["mini/1", "mac/1"])
async def test_a_forgotten_claim_settles_nothing(server: CrashablePostgres, calls: Session, next_worker: str) -> None:
    """Another claim has its number, of another worker or the same; it alone ends the job, by every call there is."""
    forgotten = await claim(calls, "mac/1")
    await crash(server, calls)
    assert [("queued", 0, 0, None)] == await calls.fetch(ROW)
    made_again = await claim(calls, next_worker)
    assert (forgotten.id, forgotten.claims) == (made_again.id, made_again.claims)
    for settle in SETTLEMENTS.values():
        with contextlib.suppress(LeaseLostError):
            assert not await settle(calls, forgotten)
        assert [("processing", 1, 1, next_worker)] == await calls.fetch(ROW)
    assert {made_again.id} == await settling.complete_jobs(calls, [forgotten, made_again], {}, 0)
    assert set() == await settling.complete_jobs(calls, [forgotten], {}, 0)


@pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_what_is_settled_is_not_forgotten(
    server: CrashablePostgres, calls: Session, settle: Callable[[Session, Job], Coroutine[Any, Any, Any]]
) -> None:
    """It waits for the disk, and takes the claim along."""
    await settle(calls, await claim(calls, "mac/1"))
    row = await calls.fetch(ROW)
    await crash(server, calls)
    assert row == await calls.fetch(ROW)


async def test_an_old_workers_claim_is_not_forgotten(server: CrashablePostgres, calls: Session) -> None:
    """It shows nothing when it settles."""
    await old_workers.claim_next_job(calls, "old")
    row = await calls.fetch(ROW)
    await crash(server, calls)
    assert row == await calls.fetch(ROW)


CLAIM = "select * from agent_vault.claim_jobs('default', 'mac/1', 1, 60)"


@pytest.mark.parametrize("server_says", ["on", "remote_apply", "local", "off"])
async def test_a_claim_alone_does_not_wait(dsn: str, database: psycopg.Connection, server_says: str) -> None:
    """The setting is that of its own transaction, and only where it claimed something."""
    database.execute(f"alter database {database.info.dbname} set synchronous_commit = {server_says}")
    database.execute("insert into public.jobs (type) values ('X'), ('Y')")
    setting = "select current_setting('synchronous_commit')"
    with psycopg.connect(dsn) as fresh:
        fresh.execute(CLAIM)
        assert ("off",) == fresh.execute(setting).fetchone()
        fresh.commit()
        assert (server_says,) == fresh.execute(setting).fetchone()
        fresh.execute("select * from public.claim_next_job('old')")
        fresh.execute(CLAIM)
        assert (server_says,) == fresh.execute(setting).fetchone()
