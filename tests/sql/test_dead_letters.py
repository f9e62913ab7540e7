"""What a person does with jobs, through the typed calls: list, show, retry, cancel, replay."""

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import letters
import msgspec
import psycopg
import pytest
import queue_calls
from ear import Ear

from sql import dead_letters, jobs
from sql.dead_letters import Wanted
from sql.session import Session

NOBODY = uuid.UUID(int=0)
Listed = list[dict[str, Any]]


async def listed(session: Session, status: str = "failed", limit: int = 100, **wanted: Any) -> list[str]:
    """The ids of a list."""
    documents = await dead_letters.list_jobs(session, status, Wanted(**wanted), limit)
    return [msgspec.json.decode(one)["id"] for one in documents]


async def failed(session: Session, **wanted: Any) -> list[uuid.UUID]:
    """The ids of the dead letters that are meant."""
    return [one.id for one in await dead_letters.find_failed(session, Wanted(**wanted), 100)]


async def ago(session: Session, **age: float) -> datetime:
    """A time before the database's now."""
    return await dead_letters.database_time(session) - timedelta(**age)


async def test_a_list_is_of_one_status_the_latest_end_first(session: Session, database: psycopg.Connection) -> None:
    """Dead letters stand apart from what is done, and as many come as were asked for."""
    old, new = (letters.dead(database, finished_at=age) for age in ("3 days", "1 hour"))
    letters.dead(database, status="done")
    assert [str(new), str(old)] == await listed(session)
    assert [str(new)] == await listed(session, limit=1)
    assert 1 == len(await listed(session, "done"))


async def test_open_jobs_are_listed_by_what_comes_next(session: Session, database: psycopg.Connection) -> None:
    """Queued ones by queue and due time, leased ones by queue and lease."""
    due = [letters.dead(database, status="queued", finished_at=None) for _ in range(3)]
    database.execute("update public.jobs set run_at = now() + interval '1 hour' where id = %s", [due[0]])
    database.execute("update public.jobs set queue = 'another' where id = %s", [due[2]])
    assert [str(due[2]), str(due[1]), str(due[0])] == await listed(session, "queued")
    assert [str(due[2])] == await listed(session, "queued", queue="another")
    (held,) = await jobs.claim_jobs(session, "default", "one", 1, 60)
    assert [str(held.id)] == await listed(session, "processing")


@pytest.mark.parametrize(
    ("matches", "glob"),
    [
        (True, "GMAIL_NEW"),
        (True, "gmail_new"),
        (True, "GMAIL_*"),
        (True, "GMAIL?NE?"),
        (True, "*"),
        (False, "GMAIL"),
        (False, "GMAIL%"),
        (False, "GMAILX*"),
        (False, "GMAIL_NE_"),
        (False, ""),
    ],
)
async def test_a_type_is_a_name_or_a_glob(
    session: Session, database: psycopg.Connection, glob: str, *, matches: bool
) -> None:
    """Stars and question marks are wild, in either case, and nothing else is."""
    letters.dead(database)
    assert matches == bool(await listed(session, type=glob)) == bool(await failed(session, type=glob))


async def test_a_wild_character_of_like_stands_for_itself(session: Session, database: psycopg.Connection) -> None:
    """An underscore, a percent sign and a backslash of a glob are themselves."""
    letters.dead(database, type=r"a_b%c\d")
    letters.dead(database, type="aXbXcXd")
    assert 1 == len(await failed(session, type=r"a_b%c\d"))


async def test_dead_letters_are_chosen_by_age_error_and_queue(session: Session, database: psycopg.Connection) -> None:
    """Each choice narrows a list and a retry alike; an error is looked for as it stands, in either case."""
    old = letters.dead(database, finished_at="3 days", last_error="Gateway TIMEOUT (100%)")
    new = letters.dead(database, finished_at="1 hour", queue="work")
    bare = letters.dead(database, finished_at="1 second", last_error=None)
    cases: list[tuple[dict[str, Any], list[uuid.UUID]]] = [
        ({"until": await ago(session, hours=2)}, [old]),
        ({"since": await ago(session, hours=2)}, [new, bare]),
        ({"since": await ago(session, hours=2), "until": await ago(session, minutes=1)}, [new]),
        ({"error": "timeout (100%)"}, [old]),
        ({"error": "timeout%"}, []),
        ({"queue": "work"}, [new]),
        ({}, [old, new, bare]),
    ]
    for wanted, expected in cases:
        assert expected == await failed(session, **wanted)
        assert [str(one) for one in reversed(expected)] == await listed(session, **wanted)


@pytest.mark.parametrize("status", ["failed", "queued", "processing"])
def test_a_list_looks_at_no_more_than_ten_thousand(dsn: str, database: psycopg.Connection, status: str) -> None:
    """However many jobs there are, a list reads a bounded part of them, by an index."""
    database.execute(
        "insert into public.jobs (type, status) select 'X', %s from generate_series(1, 12000)"
        " union all select 'X', 'done' from generate_series(1, 12000)",
        [status],
    )
    database.execute("analyze public.jobs")
    with psycopg.connect(dsn) as fresh:  # whose counters are at zero
        for _ in range(10):  # Postgres thinks of another plan from the sixth time on
            fresh.execute(
                "select count(*) from agent_vault.list_jobs(%s, 'none', null, null, null, 'none', 10)", [status]
            )
        read = fresh.execute(
            "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relid = 'public.jobs'::regclass"
        ).fetchone()
    assert (0, 100_000) == read


async def test_a_job_is_shown_without_its_payload(session: Session, database: psycopg.Connection) -> None:
    """All that a person needs, and a stranger's words only when they are asked for."""
    job_id = letters.dead(database, lapses=2, claims=7, attempts=5, outcome='{"status": 500}', learning_id=NOBODY)
    document = await dead_letters.show_job(session, job_id, with_payload=False)
    shown = msgspec.json.decode(document)
    expected = {
        "id": str(job_id), "type": "GMAIL_NEW", "queue": "default", "status": "failed", "replay": False,
        "learning_id": str(NOBODY), "attempts": 5, "max_attempts": 5, "claims": 7, "lapses": 2,
        "outcome": {"status": 500}, "last_error": "500: no",
    }  # fmt: skip
    assert expected == {name: shown[name] for name in expected}
    columns = database.execute("select array_agg(attname) from pg_attribute where attrelid = 'jobs'::regclass"
                               " and attnum > 0 and attname not in ('payload', 'fenced')").fetchone()[0]  # fmt: skip
    assert set(columns) == set(shown)
    assert b"canary" not in bytes(document)
    asked = await dead_letters.show_job(session, job_id, with_payload=True)
    assert {"text": "canary"} == msgspec.json.decode(asked)["payload"]
    assert await dead_letters.show_job(session, NOBODY, with_payload=True) is None


def test_a_retry_forgets_the_lapses(database: psycopg.Connection) -> None:
    """A job that lapsed and is queued again by a person, with requeue or by hand, is a suspect no more."""
    database.execute("alter table public.jobs disable trigger agent_vault_moved")
    for again in ("select agent_vault.requeue_job(%s)", "update public.jobs set status = 'queued' where id = %s"):
        job_id = letters.dead(database, lapses=3, attempts=5)
        database.execute(again, [job_id])
        # for what is done by hand: requeue_job does not need it
        database.execute("alter table public.jobs enable trigger agent_vault_moved")
        after = letters.job(database, job_id)
        assert ("queued", 0, 0, None) == (after["status"], after["lapses"], after["attempts"], after["finished_at"])


async def test_many_are_retried_once(session: Session, database: psycopg.Connection, ear: Ear) -> None:
    """The same rows are queued with all their attempts, those that are not failed are not counted, a daemon hears."""
    ids = [letters.dead(database, attempts=5) for _ in range(3)]
    done = letters.dead(database, status="done")
    ear.heard()
    assert 3 == await dead_letters.requeue_jobs(session, [*ids, done, NOBODY])
    assert [("agent_vault_default", "")] == ear.heard()
    assert 0 == await dead_letters.requeue_jobs(session, ids)
    assert [("queued", 0, False)] * 3 == [
        (one["status"], one["attempts"], one["replay"]) for one in (letters.job(database, job_id) for job_id in ids)
    ]
    assert "done" == letters.job(database, done)["status"]


async def test_two_retry_the_same_jobs(dsn: str, session: Session, database: psycopg.Connection) -> None:
    """Two people at once, in opposite orders: each job is queued once, and neither loses a deadlock."""
    ids = [letters.dead(database) for _ in range(200)]
    other = Session(dsn, name="other")
    try:
        counts = await asyncio.gather(
            dead_letters.requeue_jobs(session, ids), dead_letters.requeue_jobs(other, ids[::-1])
        )
    finally:
        await other.close()
    assert 200 == sum(counts)


async def test_a_cancelled_job_is_a_dead_letter(session: Session, database: psycopg.Connection) -> None:
    """Cancelling a queued job ends it as failed, with the reason, and no claim finds it."""
    job_id = letters.dead(database, status="queued", finished_at=None)
    assert await dead_letters.cancel_job(session, job_id)
    after = letters.job(database, job_id)
    assert ("failed", {"reason": "cancelled"}, 1) == (after["status"], after["outcome"], after["claims"])
    assert after["finished_at"] is not None
    assert [] == await jobs.claim_jobs(session, "default", "one", 10, 60)
    assert [str(job_id)] == await listed(session, error="cancelled")


async def test_a_cancel_fences_the_worker_out(session: Session, database: psycopg.Connection) -> None:
    """Whatever the worker that holds the job says of it then, gets JB001 and changes nothing."""
    letters.dead(database, status="queued", finished_at=None)
    (job,) = await jobs.claim_jobs(session, "default", "one", 1, 60)
    assert await dead_letters.cancel_job(session, job.id)
    before = letters.job(database, job.id)
    assert (2, None) == (before["claims"], before["lease_until"])
    for late in (
        queue_calls.complete_job(session, job, {}, 0),
        queue_calls.fail_job(session, job, "no", {}),
        queue_calls.retry_job(session, job, 0, "no", {}),
        queue_calls.release_job(session, job, 0, "no"),
    ):
        with pytest.raises(jobs.LeaseLostError):
            await late
    assert set() == await jobs.extend_jobs(session, "one", [job], 60)
    assert before == letters.job(database, job.id)


async def test_a_cancel_fences_an_old_worker_out(session: Session, database: psycopg.Connection) -> None:
    """A worker of an existing install, which shows no claim, does not undo a cancel either."""
    job_id = letters.dead(database, status="queued", finished_at=None)
    database.execute("select claim_next_job('old')")
    assert await dead_letters.cancel_job(session, job_id)
    database.execute("select complete_job(%s, 'done')", [job_id])
    assert "failed" == letters.job(database, job_id)["status"]


async def test_what_was_cancelled_is_retried_by_its_id_alone(session: Session, database: psycopg.Connection) -> None:
    """A retry of many does not bring back what a person ended."""
    cancelled, odd = (letters.dead(database, outcome=given) for given in ('{"reason": "cancelled"}', "[1]"))
    assert [odd] == await failed(session)
    assert await jobs.requeue_job(session, cancelled)


@pytest.mark.parametrize("status", ["done", "failed"])
async def test_what_is_over_is_not_cancelled(session: Session, database: psycopg.Connection, status: str) -> None:
    """A finished job stays as it is, and so does one that is none."""
    job_id = letters.dead(database, status=status)
    before = letters.job(database, job_id)
    assert not await dead_letters.cancel_job(session, job_id)
    assert not await dead_letters.cancel_job(session, NOBODY)
    assert before == letters.job(database, job_id)


async def test_events_are_found_by_the_time_of_their_receipt(session: Session, database: psycopg.Connection) -> None:
    """A span takes its beginning and leaves its end, and a type and a queue narrow it."""
    first, second, third = await letters.record(
        session, letters.event(1), letters.event(2, "GITHUB_PUSH", "work"), letters.event(3)
    )
    for one, interval in ((first, "3 days"), (second, "2 days"), (third, "1 day")):
        letters.age(database, "agent_learnings", one, interval)
    at = [letters.learning(database, one)["created_at"] for one in (first, second, third)]

    async def found(**wanted: Any) -> list[uuid.UUID]:
        span = {"since": at[0], "until": at[2] + timedelta(seconds=1), **wanted}
        return [one.id for one in await dead_letters.find_events(session, Wanted(**span), 100)]

    assert [first, second, third] == await found()
    assert [second] == await found(since=at[1], until=at[2])
    assert [second] == await found(type="GITHUB_*") == await found(queue="work")
    assert [] == await found(type="SLACK_*")


async def test_only_events_are_replayed(session: Session, database: psycopg.Connection) -> None:
    """What an agent or an older install wrote is no event of this vault's."""
    database.execute("insert into agent_learnings (learning, category) values ('old', 'composio_trigger')")
    now = await dead_letters.database_time(session)
    assert [] == await dead_letters.find_events(session, Wanted(since=now - timedelta(days=1), until=now), 100)
    (old,) = database.execute("select id from agent_learnings").fetchone()
    with pytest.raises(psycopg.errors.IntegrityError):
        await dead_letters.replay_learnings(session, [old])


async def test_a_replay_is_a_new_job_of_the_same_shape(session: Session, database: psycopg.Connection) -> None:
    """The second job says what the first says, in the same queue, and that it is a replay; a retry is the same row."""
    (learning_id,) = await letters.record(session, letters.event(1, queue="work"))
    assert 1 == await dead_letters.replay_learnings(session, [learning_id])
    first, second = letters.jobs_of(database, learning_id)
    same = ("type", "payload", "queue", "status", "learning_id", "max_attempts")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert (False, True) == (first["replay"], second["replay"])
    assert first["id"] != second["id"]


async def test_a_replay_is_heard(session: Session, ear: Ear) -> None:
    """A daemon of the event's queue wakes for it."""
    (learning_id,) = await letters.record(session, letters.event(1, queue="mail"))
    ear.heard()
    assert 1 == await dead_letters.replay_learnings(session, [learning_id])
    assert [("agent_vault_mail", "")] == ear.heard()


async def test_a_replay_is_all_or_nothing(session: Session, database: psycopg.Connection) -> None:
    """Where one event is gone, or its job refused, no other gets a second job."""
    made = await letters.record(session, letters.event(1), letters.event(2, "GITHUB_PUSH"))
    with pytest.raises(psycopg.errors.IntegrityError):
        await dead_letters.replay_learnings(session, [*made, NOBODY])
    letters.refuse(database, "GITHUB%")
    with pytest.raises(psycopg.errors.CheckViolation):
        await dead_letters.replay_learnings(session, made)
    assert [1, 1] == [len(letters.jobs_of(database, one)) for one in made]


async def test_a_replay_of_an_event_without_a_job_is_its_job(session: Session, database: psycopg.Connection) -> None:
    """The sweeper finds nothing more to do for it."""
    (learning_id,) = await letters.record_refused(session, database, letters.event(1))
    assert letters.learning(database, learning_id)["queued_at"] is None
    await dead_letters.replay_learnings(session, [learning_id])
    assert letters.learning(database, learning_id)["queued_at"] is not None
    database.execute("select agent_vault.sweep_learnings(10)")
    assert 1 == len(letters.jobs_of(database, learning_id))


@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_foreign_end_gets_its_time(database: psycopg.Connection, status: str) -> None:
    """A plain insert or update that ends a job and names no time leaves one that can be listed and pruned."""
    for job_id in (
        letters.dead(database, status=status, finished_at=None),
        letters.dead(database, status="processing", finished_at=None),
    ):
        database.execute("update public.jobs set status = %s where id = %s", [status, job_id])
        after = letters.job(database, job_id)
        assert after["finished_at"] is not None
        assert after["lease_until"] is None
    job_id = letters.dead(database, status=status, finished_at="3 days")
    database.execute("update public.jobs set last_error = 'another' where id = %s", [job_id])
    age = database.execute("select now() - finished_at > interval '2 days' from jobs where id = %s", [job_id])
    assert (True,) == age.fetchone()


def test_open_jobs_are_counted_by_status(database: psycopg.Connection) -> None:
    """How many wait and are under way, with the age of the oldest, and nothing where there are none."""
    count = "select status, jobs, floor(oldest_s / 3600) from agent_vault.count_open()"
    letters.dead(database)
    assert [] == database.execute(count).fetchall()
    for status, age in (("queued", "3 days"), ("queued", "1 day"), ("processing", "2 hours")):
        letters.dead(database, status=status, finished_at=None, created_at=age)
    assert [("queued", 2, 72), ("processing", 1, 2)] == database.execute(count).fetchall()
