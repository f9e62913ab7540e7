"""Many sessions at once: what a model that makes one call at a time cannot see."""

import asyncio
import time

import psycopg
import queue_calls
from programs import until
from rough import QUEUE, Ledger, RoughWorker, insert_jobs, requeue_failed

from sql import jobs
from sql.session import Session

WORKERS = 8
CLAIMS = 500
SPAN_S = 3.0
SEEN = {
    *("complete", "fail", "retry", "release", "refused", "extended", "revived", "not extended"),
    *("died", "hung up", "given back unheld", "claimed after a lapse"),
}


async def work_roughly(dsn: str) -> tuple[Ledger, int]:
    """Let all workers loose for a while, and until everything that may happen has happened; return the jobs' number."""
    ledger, stop, began = Ledger(), asyncio.Event(), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(WORKERS):
            tasks.create_task(RoughWorker(dsn, number, ledger).work(stop), name=f"rough{number}")
        tasks.create_task(requeue_failed(dsn, stop), name="person")
        vault = tasks.create_task(insert_jobs(dsn, stop, open_jobs=WORKERS * 2), name="vault")
        try:
            await until(lambda: len(ledger.handed_out) > CLAIMS and time.monotonic() > began + SPAN_S, "enough claims")
            for one in SEEN:
                await until(lambda: ledger.seen[one], one)  # noqa: B023 - awaited before the next
        finally:
            stop.set()
    return ledger, vault.result()


async def finish(session: Session) -> bool:
    """Be a worker that lives: complete whatever can be claimed; True when no job is left."""
    while claimed := await jobs.claim_jobs(session, QUEUE, "alive/1", 1, 60):
        await queue_calls.complete_job(session, claimed[0], {"status": 200}, 0)
    return not await session.fetch("select from public.jobs where status not in ('done', 'failed')")


async def test_each_claim_settles_once_however_many_race(
    dsn: str, session: Session, database: psycopg.Connection
) -> None:
    """Eight workers claim, end, race, hang, die and hang up: no job is held or ended twice, or lost."""
    ledger, jobs_made = await work_roughly(dsn)
    await until(lambda: finish(session), "the end of every job")
    assert [] == ledger.doubles()
    assert [] == ledger.stale()
    assert [] == ledger.late()
    assert [] == list(ledger.overlaps())
    # what a worker was told is done stays so, under the claim that did it, and nothing else is
    done = "select id, claims from public.jobs where status = 'done' and locked_by <> 'alive/1'"
    completed = {one.claim for one in ledger.accepted if one.how == "complete"}
    assert completed <= set(database.execute(done)) <= completed | ledger.unknown
    assert (jobs_made,) == database.execute("select count(*) from public.jobs").fetchone()
