"""The sweeper and the pruning, through the typed calls."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import letters
import psycopg
import pytest
from catalog import read_rows
from ear import Ear

from sql.housekeeping import Swept, find_unserved, prune_jobs, prune_learnings, sweep_learnings
from sql.learnings import record_events
from sql.migrate import migrate, script
from sql.names import Identity, leave_name, take_name
from sql.session import Session

OLD_INSTALL = Path(__file__).with_name("old_install.sql").read_text("utf-8")
LOCK = "select pg_advisory_lock(hashtextextended('agent_vault.prune', 0))"


def gone(database: psycopg.Connection, *ids: UUID) -> list[bool]:
    """Which of these events are no more."""
    return [letters.learning(database, one) is None for one in ids]


async def test_an_event_without_a_job_gets_one(session: Session, database: psycopg.Connection, ear: Ear) -> None:
    """Its job is the one that it would have had, in its queue; once it has it, the sweeper leaves it alone."""
    (refused,) = await letters.record_refused(session, database, letters.event(1, queue="mail"))
    (whole,) = await letters.record(session, letters.event(2, queue="mail"))
    assert [] == letters.jobs_of(database, refused)
    ear.heard()
    assert Swept(1, 0, None) == await sweep_learnings(session, 10)
    assert [("agent_vault_mail", "")] == ear.heard()
    (job,), (like,) = letters.jobs_of(database, refused), letters.jobs_of(database, whole)
    row = letters.learning(database, refused)
    assert row["queued_at"] == job["created_at"]
    same = ("type", "queue", "status", "attempts", "replay")
    assert [like[name] for name in same] == [job[name] for name in same]
    own = {"learning_id": str(refused), "timestamp": job["payload"]["timestamp"]}
    assert like["payload"] | own == job["payload"]
    (written,) = database.execute("select %s::timestamptz", [job["payload"]["timestamp"]]).fetchone()
    assert row["created_at"] == written
    assert Swept(0, 0, None) == await sweep_learnings(session, 10)


async def test_an_event_that_had_its_job_gets_no_other(session: Session, database: psycopg.Connection) -> None:
    """Whoever asks for more than a sweep finds, is refused."""
    (learning_id,) = await letters.record(session, letters.event(1))
    with pytest.raises(psycopg.errors.IntegrityError):
        database.execute("select agent_vault.queue_learnings(%s, false)", [[learning_id]])
    assert 1 == len(letters.jobs_of(database, learning_id))


async def test_an_event_of_before_is_replayed_in_its_queue(session: Session, database: psycopg.Connection) -> None:
    """The migration that brings the queue of an event takes it from its job."""
    (learning_id,) = await letters.record(session, letters.event(1, queue="work"))
    database.execute("update agent_learnings set queue = null")
    database.execute(script())
    database.execute("select agent_vault.replay_learnings(%s)", [[learning_id]])
    assert ["work", "work"] == [job["queue"] for job in letters.jobs_of(database, learning_id)]


async def test_a_sweep_takes_no_more_than_its_batch(session: Session, database: psycopg.Connection) -> None:
    """The oldest first, the rest at the next call."""
    made = await letters.record_refused(session, database, *(letters.event(name) for name in range(5)))
    assert Swept(3, 0, None) == await sweep_learnings(session, 3)
    assert [1, 1, 1, 0, 0] == [len(letters.jobs_of(database, one)) for one in made]
    assert Swept(2, 0, None) == await sweep_learnings(session, 3)


@pytest.mark.parametrize("learnings", [500])
async def test_adopting_an_old_install_queues_nothing(project: str, learnings: int) -> None:
    """Old learnings have no job of ours, and none is made for them by the migration or by any sweep."""
    with psycopg.connect(project, autocommit=True) as database:
        database.execute(OLD_INSTALL)
        database.execute(
            "insert into agent_learnings (created_at, learning, category, source, metadata)"
            " select now() - n * interval '1 minute', 'Composio trigger', 'composio_trigger', 'composio_webhook',"
            """ '{"trigger_name": "GMAIL_NEW", "raw_payload": {}}' from generate_series(1, %s) n""",
            [learnings],
        )
        before = database.execute("select count(*), array_agg(status order by id) from jobs").fetchone()
        migrate(project)
        session = Session(project, name="test")
        try:
            for _ in range(3):
                assert Swept(0, 0, None) == await sweep_learnings(session, 100)
        finally:
            await session.close()
        assert before == database.execute("select count(*), array_agg(status order by id) from jobs").fetchone()


async def test_an_event_whose_job_was_pruned_stays_without(session: Session, database: psycopg.Connection) -> None:
    """It was queued once: no sweep queues it again."""
    (learning_id,) = await letters.record(session, letters.event(1))
    database.execute("delete from public.jobs")
    assert Swept(0, 0, None) == await sweep_learnings(session, 10)
    assert [] == letters.jobs_of(database, learning_id)


async def test_a_row_that_is_refused_again_blocks_no_other(session: Session, database: psycopg.Connection) -> None:
    """The others get their jobs in the same call, it is told why, and it is not tried again at once."""
    good, bad, late = await letters.record_refused(
        session, database, letters.event(1), letters.event(2, "GITHUB_PUSH"), letters.event(3)
    )
    letters.refuse(database, "GITHUB%")
    swept = await sweep_learnings(session, 10)
    assert (2, 1) == (swept.queued, swept.refused)
    assert swept.error.startswith("23514: ")
    assert "no_such_jobs" in swept.error
    assert [1, 0, 1] == [len(letters.jobs_of(database, one)) for one in (good, bad, late)]
    assert Swept(0, 0, None) == await sweep_learnings(session, 10)


async def test_a_full_batch_of_refused_rows_blocks_no_other(session: Session, database: psycopg.Connection) -> None:
    """Even where every row of a batch is refused, the next call comes to those behind."""
    await letters.record_refused(session, database, *(letters.event(name, "GITHUB_PUSH") for name in range(3)))
    (good,) = await letters.record_refused(session, database, letters.event("good"))
    letters.refuse(database, "GITHUB%")
    assert (0, 3) == ((swept := await sweep_learnings(session, 3)).queued, swept.refused)
    assert Swept(1, 0, None) == await sweep_learnings(session, 3)
    assert 1 == len(letters.jobs_of(database, good))


@pytest.mark.parametrize(("age", "wait"), [("1 second", "1 minute"), ("2 hours", "2 hours"), ("3 days", "1 day")])
async def test_a_refused_row_waits_as_long_as_it_is_old(
    session: Session, database: psycopg.Connection, age: str, wait: str
) -> None:
    """A minute at the least and a day at the most; then it is tried again, and gets its job when that is allowed."""
    (bad,) = await letters.record_refused(session, database, letters.event(1))
    letters.age(database, "agent_learnings", bad, age)
    letters.refuse(database)
    assert 1 == (await sweep_learnings(session, 10)).refused
    row = database.execute(
        "select sweep_at > now() + %(wait)s::interval - interval '30 s' and sweep_at < now() + %(wait)s::interval"
        " + interval '1 h' from agent_learnings",
        {"wait": wait},
    )
    assert (True,) == row.fetchone()
    letters.allow(database)
    assert Swept(0, 0, None) == await sweep_learnings(session, 10)
    database.execute("update agent_learnings set sweep_at = now()")
    assert Swept(1, 0, None) == await sweep_learnings(session, 10)
    assert letters.learning(database, bad)["sweep_at"] is None


async def test_a_trigger_that_drops_jobs_in_silence_is_a_refusal(
    session: Session, database: psycopg.Connection
) -> None:
    """A job that never came to be does not count as queued."""
    (learning_id,) = await letters.record_refused(session, database, letters.event(1))
    database.execute(
        "create function drop_it() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger drop_it before insert on public.jobs for each row execute function drop_it()"
    )
    assert (0, 1) == ((swept := await sweep_learnings(session, 10)).queued, swept.refused)
    assert letters.learning(database, learning_id)["queued_at"] is None


async def test_two_sweeps_at_once_double_nothing(dsn: str, session: Session, database: psycopg.Connection) -> None:
    """What one vault has in hand, another passes over without waiting."""
    await letters.record_refused(session, database, *(letters.event(name) for name in range(4)))
    with psycopg.connect(dsn) as other:
        assert (2,) == other.execute("select queued from agent_vault.sweep_learnings(2)").fetchone()
        assert Swept(2, 0, None) == await sweep_learnings(session, 10)
    counts = database.execute("select count(*), count(distinct learning_id) from public.jobs").fetchone()
    assert (4, 4) == counts


async def test_a_sweep_reads_only_what_it_sweeps(session: Session, dsn: str, database: psycopg.Connection) -> None:
    """Beside any number of other rows, an index of its own leads to the few."""
    await letters.record_refused(session, database, letters.event(1))
    database.execute("insert into agent_learnings (learning) select 'x' from generate_series(1, 3000)")
    database.execute(
        "insert into agent_learnings (learning, event_id, queued_at) select 'x', n::text, now()"
        " from generate_series(1, 3000) n"
    )
    database.execute("analyze public.agent_learnings")
    with psycopg.connect(dsn) as fresh:
        fresh.execute("select agent_vault.sweep_learnings(100)")
        seq, fetched = fresh.execute(
            "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'agent_learnings'"
        ).fetchone()
    assert 0 == seq
    assert 10 > fetched


async def test_old_done_jobs_are_pruned(session: Session, database: psycopg.Connection) -> None:
    """The longest done first, a batch at a time; what is open, failed or younger stays."""
    old = [letters.dead(database, status="done", finished_at=f"{days} days") for days in (33, 32, 31)]
    kept = [
        letters.dead(database, status="done", finished_at="29 days"),
        letters.dead(database, finished_at="99 days"),
        letters.dead(database, status="queued", finished_at=None, created_at="99 days"),
        letters.dead(database, status="processing", finished_at=None, created_at="99 days"),
    ]
    assert 2 == await prune_jobs(session, "done", 30, 2)
    assert [True, True, False] == [letters.job(database, one) is None for one in old]
    assert [1, 0] == [await prune_jobs(session, "done", 30, 2) for _ in range(2)]
    assert all(letters.job(database, one) for one in kept)
    assert 1 == await prune_jobs(session, "failed", 30, 2)


async def test_adopted_finished_jobs_are_as_old_as_their_last_change(old_install: str) -> None:
    """They know no end of their own, and are pruned all the same."""
    migrate(old_install)
    session = Session(old_install, name="test")
    try:
        assert 1 == await prune_jobs(session, "done", 30, 10)
        assert 1 == await prune_jobs(session, "failed", 30, 10)
    finally:
        await session.close()
    with psycopg.connect(old_install) as connection:
        assert (4,) == connection.execute("select count(*) from jobs").fetchone()


async def test_old_events_are_pruned_when_their_jobs_are_done(session: Session, database: psycopg.Connection) -> None:
    """An event stays as long as it has an open job, a dead letter or none yet; so does what is young or no event."""
    names = ("done", "pruned", "queued", "processing", "failed", "young", "replayed")
    made = dict(zip(names, await letters.record(session, *(letters.event(name) for name in names)), strict=True))
    for name, learning_id in made.items():
        letters.age(database, "agent_learnings", learning_id, "6 days" if name == "young" else "8 days")
        status = name if name in {"queued", "processing", "failed"} else "done"
        database.execute("update public.jobs set status = %s where learning_id = %s", [status, learning_id])
    database.execute("delete from public.jobs where learning_id = %s", [made["pruned"]])
    database.execute("select agent_vault.replay_learnings(%s)", [[made["replayed"]]])
    (unqueued,) = await letters.record_refused(session, database, letters.event("unqueued"))
    letters.age(database, "agent_learnings", unqueued, "8 days")
    database.execute("insert into agent_learnings (created_at, learning) values (now() - interval '8 days', 'fact')")
    assert 2 == await prune_learnings(session, 7, 100)
    assert [True, True, False, False, False, False, False] == gone(database, *made.values())
    assert [False] == gone(database, unqueued)
    assert 1 == database.execute("select count(*) from agent_learnings where event_id is null").fetchone()[0]
    assert 0 == await prune_learnings(session, 7, 100)


async def test_events_are_pruned_in_batches(session: Session, database: psycopg.Connection) -> None:
    """The oldest first, no more at once than asked for."""
    made = await letters.record(session, *(letters.event(name) for name in range(3)))
    for days, learning_id in zip((10, 9, 8), made, strict=True):
        letters.age(database, "agent_learnings", learning_id, f"{days} days")
    database.execute("update public.jobs set status = 'done'")
    assert 2 == await prune_learnings(session, 7, 2)
    assert [True, True, False] == gone(database, *made)


async def test_events_that_stay_do_not_hold_up_the_others(session: Session, database: psycopg.Connection) -> None:
    """Old events with dead letters fill no batch."""
    kept, old = await letters.record(session, letters.event(1), letters.event(2))
    for learning_id, status, age in ((kept, "failed", "10 days"), (old, "done", "9 days")):
        letters.age(database, "agent_learnings", learning_id, age)
        database.execute("update public.jobs set status = %s where learning_id = %s", [status, learning_id])
    assert 1 == await prune_learnings(session, 7, 1)
    assert [False, True] == gone(database, kept, old)


async def test_a_pruned_event_that_comes_again_is_a_new_one(session: Session, database: psycopg.Connection) -> None:
    """Why events are kept for longer than Composio tries."""
    one = letters.event(1)
    (learning_id,) = await letters.record(session, one)
    letters.age(database, "agent_learnings", learning_id, "8 days")
    database.execute("update public.jobs set status = 'done'")
    assert 1 == await prune_learnings(session, 7, 100)
    (again,) = await record_events(session, [one])
    assert (learning_id, False) == (again.learning_id, again.duplicate)


@pytest.mark.parametrize(
    "call",
    [
        lambda session: prune_jobs(session, "done", 0, 10),
        lambda session: prune_jobs(session, "queued", 30, 10),
        lambda session: prune_learnings(session, 6, 10),
        lambda session: prune_learnings(session, 0, 10),
    ],
)
async def test_the_database_keeps_the_least(
    session: Session, database: psycopg.Connection, call: Callable[[Session], object]
) -> None:
    """Nobody who calls the functions can prune open jobs, or what is too young."""
    before = read_rows(database)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        await call(session)
    assert before == read_rows(database)


async def test_several_vaults_prune_in_turns(session: Session, database: psycopg.Connection) -> None:
    """While one prunes, another is answered at once that nothing was to do."""
    letters.dead(database, status="done", finished_at="99 days")
    database.execute(LOCK)
    assert 0 == await prune_jobs(session, "done", 30, 10)
    assert 0 == await prune_learnings(session, 7, 10)
    database.execute("select pg_advisory_unlock_all()")
    assert 1 == await prune_jobs(session, "done", 30, 10)


async def test_a_row_that_another_holds_is_passed_over(
    dsn: str, session: Session, database: psycopg.Connection
) -> None:
    """A person who looks at a row for update does not hold up the pruning."""
    held, free = (letters.dead(database, status="done", finished_at="99 days") for _ in range(2))
    with psycopg.connect(dsn) as other:
        other.execute("select from public.jobs where id = %s for update", [held])
        assert 1 == await prune_jobs(session, "done", 30, 10)
    assert [False, True] == [letters.job(database, one) is None for one in (held, free)]


@pytest.mark.parametrize(
    ("call", "table"),
    [("prune_jobs('done', 30, 500)", "jobs"), ("prune_learnings(7, 500)", "agent_learnings")],
)
def test_a_pruning_that_finds_nothing_reads_next_to_nothing(
    dsn: str, database: psycopg.Connection, call: str, table: str
) -> None:
    """An index leads to what is old: thousands of younger rows, and old ones that stay, are not looked at."""
    database.execute("insert into jobs (type, status, learning_id) select 'X', 'done', gen_random_uuid()"
                     " from generate_series(1, 3000)")  # fmt: skip
    database.execute("insert into jobs (type, status, finished_at) select 'X', 'failed', '2020-01-01'"
                     " from generate_series(1, 3000)")  # fmt: skip
    database.execute("insert into agent_learnings (learning, created_at) select 'fact', '2020-01-01'"
                     " from generate_series(1, 3000)")  # fmt: skip
    database.execute("insert into agent_learnings (learning, event_id, queued_at) select 'x', n::text, now()"
                     " from generate_series(1, 3000) n")  # fmt: skip
    database.execute("analyze public.jobs, public.agent_learnings")
    with psycopg.connect(dsn) as fresh:
        fresh.execute(f"select agent_vault.{call}")
        read = fresh.execute(
            "select pg_stat_get_xact_numscans(%(table)s::regclass),"
            " (select sum(pg_stat_get_xact_tuples_returned(indexrelid)) < 10 from pg_index"
            " where indrelid = %(table)s::regclass)",
            {"table": table},
        ).fetchone()
    assert (0, True) == read


def wait(database: psycopg.Connection, queue: str, *ages: str) -> None:
    """Put jobs into a queue that have been due for so long."""
    for age in ages:
        database.execute(
            "insert into public.jobs (type, queue, run_at, created_at)"
            " values ('X', %(queue)s, now() - %(age)s::interval, now() - %(age)s::interval)",
            {"queue": queue, "age": age},
        )


async def unserved(session: Session, after_s: float = 300) -> dict[str, int]:
    """Of each queue that nobody serves, how many jobs are due."""
    return {one.queue: one.count for one in await find_unserved(session, after_s)}


async def test_a_queue_that_no_daemon_serves(session: Session, database: psycopg.Connection) -> None:
    """Only one in which a job has been due for so long, and only while no daemon that lives has it."""
    wait(database, "wrok", "2 hours", "1 minute", "-1 hour")
    wait(database, "mail", "1 hour")
    wait(database, "news", "1 minute")
    wait(database, "ever", "-1 hour")
    database.execute("insert into public.jobs (type, queue, status) values ('X', 'lost', 'failed')")
    assert {"mail": 1, "wrok": 2} == await unserved(session)
    (wrok,) = [one for one in await find_unserved(session, 300) if one.queue == "wrok"]
    assert 7200 <= wrok.oldest_s < 7200 + 600
    one = Identity("mac", "1", 15)
    await take_name(session, one, ["default", "mail"], listens=False)
    assert {"wrok": 2} == await unserved(session)
    database.execute("update agent_vault.daemons set seen_at = now() - interval '1 minute'")
    assert {"mail": 1, "wrok": 2} == await unserved(session)
    await take_name(session, one, ["wrok"], listens=False)
    assert {"mail": 1} == await unserved(session)
    await leave_name(session, one)
    assert {"mail": 1, "news": 1, "wrok": 2} == await unserved(session, 30)


async def test_more_than_are_counted(session: Session, database: psycopg.Connection) -> None:
    """A queue with more than a thousand says a thousand; a time that is none breaks nothing."""
    database.execute("insert into public.jobs (type, queue) select 'X', 'a' from generate_series(1, 1002)")
    database.execute(
        "insert into public.jobs (type, queue, run_at, created_at) values ('X', 'b', '-infinity', '-infinity')"
    )
    assert {"a": 1000} == await unserved(session, 0)
