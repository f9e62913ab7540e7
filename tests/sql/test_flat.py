"""What keeps the queue flat: a call reads the rows that it is about, however many there are.

Whatever the planner believes of them; and a claim need not walk over what is done.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from handling import claim, run_out

from sql import jobs
from sql.session import Session

BATCH = 20
MANY = 1_000
# of each call its arguments, and how many rows it may read of the tables for one of the batch
CALLS: dict[str, tuple[str, Callable[[list[uuid.UUID]], list[Any]], int]] = {
    "claim": ("claim_jobs('default', 'mac/1', 20, 60)", lambda _: [], 2),
    "claim above a mark": ("claim_jobs('default', 'mac/1', 20, 60, now() - interval '1 minute')", lambda _: [], 2),
    "complete": ("complete_jobs(%s, array_fill(1, '{20}'), '{}', 0)", lambda ids: [ids], 2),
    "fail": ("fail_jobs(%s, array_fill(1, '{20}'), 'no', '{}')", lambda ids: [ids], 2),
    "retry": ("retry_jobs(%s, array_fill(1, '{20}'), 0, 'no', '{}')", lambda ids: [ids], 2),
    "release": ("release_jobs(%s, array_fill(1, '{20}'), 0, 'no')", lambda ids: [ids], 2),
    "extend": ("extend_jobs('mac/1', %s, array_fill(1, '{20}'), 60)", lambda ids: [ids], 2),
    "list queued": ("list_jobs('queued', null, 'default', null, null, null, 20)", lambda _: [], 2),
    "list done": ("list_jobs('done', null, null, null, null, null, 20)", lambda _: [], 2),
    "list events": ("list_events('{default}', '-infinity', true, 20)", lambda _: [], 3),
}
# what a daemon calls for every job; each is planned once a session
HOT = {
    *("claim_jobs", "complete_jobs_each", "extend_jobs", "fail_jobs", "retry_jobs", "release_jobs"),
    *("await_handling", "pulse", "keep_name", "hold_jobs", "own_jobs", "lock_jobs"),
}
READS = (
    "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) from pg_stat_xact_user_tables"
    " where relname in ('jobs', 'agent_learnings')"
)


def insert_events(database: psycopg.Connection, count: int, queue: str) -> None:
    """Put in as many events, each with its job."""
    database.execute(
        "with event as ("
        " insert into agent_learnings (id, learning, event_id, queue, queued_at)"
        " select gen_random_uuid(), 'x', gen_random_uuid(), %(queue)s, now() from generate_series(1, %(count)s)"
        " returning id)"
        " insert into public.jobs (type, queue, learning_id, payload)"
        " select 'X', %(queue)s, id, '{\"text\": \"x\"}' from event",
        {"queue": queue, "count": count},
    )


def rows_read(database: psycopg.Connection, query: str, arguments: list[Any]) -> int:
    """How many rows of the two tables a call reads; nothing of it lasts."""
    with database.transaction(force_rollback=True):
        (before,) = database.execute(READS).fetchone()
        database.execute(f"select * from agent_vault.{query}", arguments).fetchall()
        (after,) = database.execute(READS).fetchone()
    return int(after - before)


@pytest.fixture
def warm(database: psycopg.Connection) -> psycopg.Connection:
    """A session that has planned every call while the tables were empty; no statistics are made by the way."""
    for table in ("jobs", "agent_learnings"):
        database.execute(f"alter table public.{table} set (autovacuum_enabled = off)")
    for query, arguments, _ in CALLS.values():
        for _ in range(7):  # after five a plan may be kept
            rows_read(database, query, arguments([uuid.uuid4()] * BATCH))
    return database


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
async def test_a_batch_reads_twice_its_rows(session: Session, warm: psycopg.Connection, statistics: str) -> None:
    """Among a thousand that are done, and as many that wait in this queue and in another."""
    insert_events(warm, MANY, "default")
    if statistics == "stale":  # of a time when everything waited
        warm.execute("vacuum analyze")
    warm.execute("update agent_learnings set handled_at = now(), handled_how = 'read'")
    warm.execute("update public.jobs set status = 'done', finished_at = now(), claims = 1")
    insert_events(warm, MANY, "mail")
    insert_events(warm, MANY, "default")
    if statistics == "fresh":
        warm.execute("vacuum analyze")
    held = [job.id for job in await claim(session, BATCH)]
    for query, arguments, each in CALLS.values():
        assert each * BATCH >= rows_read(warm, query, arguments(held)) >= BATCH, query


@pytest.mark.parametrize("statistics", ["none", "stale", "fresh"])
async def test_a_pulse_reads_no_more_than_it_tells(session: Session, warm: psycopg.Connection, statistics: str) -> None:
    """The next job and the next lease of each queue, and one job more to see a suspect; above a mark the jobs alone."""
    insert_events(warm, MANY, "default")
    await claim(session, BATCH)
    if statistics == "stale":
        warm.execute("vacuum analyze")
    insert_events(warm, MANY, "mail")
    if statistics == "fresh":
        warm.execute("vacuum analyze")
    assert 3 >= rows_read(warm, "pulse('{default,mail,none}')", [])
    assert 2 >= rows_read(warm, "pulse('{default,mail,none}', now() - interval '1 hour')", [])
    assert 5 >= rows_read(warm, "keep_name('mac', 'mac/1', '{default,mail}', false)", [])


def test_looking_for_unserved_queues_counts_to_a_thousand(warm: psycopg.Connection) -> None:
    """And steps over what else waits in them."""
    for queue, count in (("default", 2 * MANY), ("mail", MANY // 2)):
        insert_events(warm, count, queue)
    assert MANY + MANY // 2 + 4 >= rows_read(warm, "find_unserved(0)", []) >= MANY


def due_since(database: psycopg.Connection, ago: timedelta) -> tuple[uuid.UUID, datetime]:
    """Put in a job that has been due for so long, and whose insert began then; its id, and when that was."""
    return database.execute(
        "insert into public.jobs (type, run_at) values ('X', now() - %s) returning id, run_at", [ago]
    ).fetchone()


def test_what_is_hot_is_planned_once(database: psycopg.Connection) -> None:
    """To plan a statement takes longer than to run it, and a plan for these arguments would be no better."""
    once = "select proname from pg_proc where proconfig @> '{plan_cache_mode=force_generic_plan}'"
    assert {name for (name,) in database.execute(once)} >= HOT


async def test_above_a_mark_is_what_is_due_since(session: Session, database: psycopg.Connection) -> None:
    """What came late is left to a claim without one, and so says the pulse; the mark itself is above."""
    late, _ = due_since(database, timedelta(minutes=2))
    first, mark = due_since(database, timedelta(minutes=1))
    assert [first] == [job.id for job in await jobs.claim_jobs(session, "default", "mac/1", 9, 60, run_after=mark)]
    assert not (await jobs.pulse(session, ["default"], run_after=mark)).work_waits
    assert (await jobs.pulse(session, ["default"])).work_waits
    assert [late] == [job.id for job in await jobs.claim_jobs(session, "default", "mac/1", 9, 60)]


async def test_above_a_mark_no_lease_is_looked_at(session: Session, database: psycopg.Connection) -> None:
    """A lapsed one waits for a claim without one, of which the pulse speaks."""
    job_id, mark = due_since(database, timedelta(minutes=1))
    await claim(session)
    run_out(database)
    assert [] == await jobs.claim_jobs(session, "default", "mac/1", 9, 60, run_after=mark)
    assert (None, True) == (
        (await jobs.pulse(session, ["default"], run_after=mark)).next_due_ms,
        (await jobs.pulse(session, ["default"])).work_waits,
    )
    assert [job_id] == [job.id for job in await jobs.claim_jobs(session, "default", "mac/1", 9, 60)]


async def test_a_job_due_for_ever_can_be_claimed(session: Session, database: psycopg.Connection) -> None:
    """Somebody set it to -infinity, which Python has no time for."""
    job_id, _ = due_since(database, timedelta())
    database.execute("update public.jobs set run_at = '-infinity'")
    (job,) = await jobs.claim_jobs(session, "default", "mac/1", 1, 60)
    assert (job_id, datetime(1970, 1, 1, tzinfo=UTC)) == (job.id, job.run_at)
