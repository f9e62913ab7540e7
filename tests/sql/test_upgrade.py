"""From earlier releases: what was delivered is old news, what is open goes on, rights are those of a fresh install."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from catalog import read_all, read_schema

from sql.migrate import latest, migrate, migrations, read_version, routines, script

CLAIM = """create function agent_vault.claim_jobs(
  p_queue text, p_worker text, p_limit int, p_lease_s double precision, p_run_after timestamptz default null,
  p_busy boolean default false, p_not_after timestamptz default null
) returns table (
  id uuid, type text, queue text, wake_text text, trigger_name text, learning_id uuid,
  attempts int, max_attempts int, claims int, run_at timestamptz, lapses int
) language plpgsql as 'begin end'"""

# an event whose job is done, one whose job waits, one whose job failed, one that never got one, and a note
ROWS = """
insert into agent_learnings (learning, event_id, queue, queued_at) values
  ('done', 'msg_1', 'mail', now()), ('queued', 'msg_2', null, now()), ('failed', 'msg_3', 'mail', now()),
  ('unqueued', 'msg_4', 'mail', null), ('note', null, null, null);
insert into jobs (type, status, learning_id)
select 'X', l.learning, l.id from agent_learnings l where l.queued_at is not null
"""
SEEN = "select learning, queue, handled_at is not null, handled_how from agent_learnings order by learning"


def paste(dsn: str) -> None:
    """Run the script as an SQL editor does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script())


def apply_first(count: int, connection: psycopg.Connection) -> None:
    """Apply the first migrations, as the release did whose schema had this version."""
    for migration in migrations()[:count]:
        connection.execute(migration.text)
        connection.execute("insert into agent_vault.migrations values (%s, %s)", [migration.version, migration.name])


@pytest.fixture
def version_3(project: str) -> str:
    """A database that an earlier release migrated, with a few rows."""
    with psycopg.connect(project) as connection:
        apply_first(3, connection)
        connection.execute(CLAIM)
        connection.execute(ROWS)
    return project


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_what_was_delivered_is_not_new(version_3: str, upgrade: Callable[[str], object]) -> None:
    """Whatever has a job that is not done, or none, is still for the agent to handle; every event has a queue."""
    upgrade(version_3)
    with psycopg.connect(version_3, autocommit=True) as connection:
        assert latest() == read_version(connection)
        assert [
            ("done", "mail", True, None),
            ("failed", "mail", False, None),
            ("note", None, False, None),
            ("queued", "default", False, None),
            ("unqueued", "mail", False, None),
        ] == connection.execute(SEEN).fetchall()


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_it_happens_once(version_3: str, upgrade: Callable[[str], object]) -> None:
    """What is delivered after the upgrade is the agent's to handle, however often the schema is migrated."""
    upgrade(version_3)
    with psycopg.connect(version_3, autocommit=True) as connection:
        connection.execute("update jobs set status = 'done'")
        before = read_all(connection)
        migrate(version_3)
        paste(version_3)
        assert before == read_all(connection)


def test_upgraded_and_fresh_end_alike(version_3: str, supabase: Callable[[], str]) -> None:
    """An upgraded schema is that of a fresh database, and claims say whether a job was sent before."""
    fresh = supabase()
    migrate(fresh)
    migrate(version_3)
    with psycopg.connect(fresh) as one, psycopg.connect(version_3, autocommit=True) as other:
        assert read_schema(one) == read_schema(other)
        claimed = other.execute("select type, sent_before from agent_vault.claim_jobs('default', 'mac', 9, 60)")
        assert [("X", False)] == claimed.fetchall()


def ends_like_a_fresh_one(dsn: str, fresh: str, upgrade: Callable[[str], object]) -> None:
    """Upgrade a database, and compare it with a fresh one; no job may be touched."""
    jobs = "select * from jobs order by id"
    migrate(fresh)
    with psycopg.connect(dsn) as connection:
        before = connection.execute(jobs).fetchall()
    upgrade(dsn)
    with psycopg.connect(fresh) as one, psycopg.connect(dsn) as other:
        assert read_schema(one) == read_schema(other)
        assert before == other.execute(jobs).fetchall()


@pytest.fixture
def version_4(project: str) -> str:
    """A database of the release before the roles: its helpers run as whoever calls, and an API key was let in."""
    with psycopg.connect(project) as connection:
        apply_first(4, connection)
        connection.execute(routines())
        connection.execute("alter function agent_vault.lock_jobs(uuid[]) security invoker")
        connection.execute("drop function agent_vault.own_jobs(uuid[])")
        connection.execute("grant usage on schema agent_vault to anon")
        connection.execute("grant execute on all functions in schema agent_vault to anon")
        connection.execute(ROWS)
    return project


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_the_release_before_the_roles_ends_like_a_fresh_one(
    version_4: str, supabase: Callable[[], str], upgrade: Callable[[str], object]
) -> None:
    """Roles, functions, privileges and tables are those of a fresh database, and no row is touched."""
    ends_like_a_fresh_one(version_4, supabase(), upgrade)


# what the release before the low-water mark had under names that are taken now, or gone
BEFORE_THE_MARK = """
create function agent_vault.lease_jobs(
  p_queue text, p_worker text, p_limit int, p_lease_s double precision, p_fenced boolean, p_run_after timestamptz,
  p_busy boolean
) returns uuid[] language plpgsql as 'begin return null; end';
create function agent_vault.pulse(p_queues text[])
returns table (database_time timestamptz, work_waits boolean, next_due_ms double precision)
language plpgsql as 'begin end';
create trigger agent_vault_requeued before update on public.jobs
for each row when (new.run_at < now()) execute function agent_vault.keep_claimable();
create trigger agent_vault_leased before insert or update on public.jobs
for each row when (new.lease_until is null) execute function agent_vault.keep_claimable();
create trigger agent_vault_finished before insert or update on public.jobs
for each row when (new.finished_at is null) execute function agent_vault.keep_claimable();
"""


@pytest.fixture
def version_5(project: str) -> str:
    """A database of the release before the low-water mark."""
    with psycopg.connect(project) as connection:
        apply_first(5, connection)
        connection.execute(routines())
        connection.execute("drop function agent_vault.pulse")
        connection.execute("drop trigger agent_vault_entered on jobs; drop trigger agent_vault_moved on jobs")
        connection.execute(BEFORE_THE_MARK)
        connection.execute(ROWS)
    return project


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_the_release_before_the_mark_ends_like_a_fresh_one(
    version_5: str, supabase: Callable[[], str], upgrade: Callable[[str], object]
) -> None:
    """Functions, triggers and tables are those of a fresh database, and no row is touched."""
    ends_like_a_fresh_one(version_5, supabase(), upgrade)


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_a_delivery_that_is_under_way_ends_first(version_5: str, upgrade: Callable[[str], object]) -> None:
    """It has stored its event when the upgrade begins, and stores its job while that waits."""
    waits = (
        "select count(*) from pg_locks where not granted and locktype = 'relation'"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    with psycopg.connect(version_5) as delivery, psycopg.connect(version_5, autocommit=True) as other:
        delivery.execute("insert into agent_learnings (learning) values ('under way')")
        with ThreadPoolExecutor(1) as pool:
            upgrading = pool.submit(upgrade, version_5)
            while other.execute(waits).fetchone() == (0,):
                assert not upgrading.done()
                time.sleep(0.02)
            delivery.execute("insert into jobs (type) values ('under way')")
            delivery.commit()
            upgrading.result(60)
        assert latest() == read_version(other)
        assert (1,) == other.execute("select count(*) from jobs where type = 'under way'").fetchone()


# what a daemon of the release before calls, of which each job has its claim: with no word of when that was made
BEFORE_THE_TIMES = {
    "hold_jobs": ("uuid[], int[]", None),
    "complete_job": ("uuid, int, jsonb, double precision", "complete_job(%(id)s, 1, '{}', 0)"),
    "complete_jobs": ("uuid[], int[], jsonb, double precision", "complete_jobs(array[%(id)s], '{1}', '{}', 0)"),
    "complete_jobs_each": (
        "uuid[], int[], jsonb[], double precision[]",
        "complete_jobs_each(array[%(id)s], '{1}', array['{}'::jsonb], '{0}')",
    ),
    "drop_jobs": ("uuid[], int[], jsonb", "drop_jobs(array[%(id)s], '{1}', '{}')"),
    "fail_job": ("uuid, int, text, jsonb", "fail_job(%(id)s, 1, '400', '{}')"),
    "fail_jobs": ("uuid[], int[], text, jsonb", "fail_jobs(array[%(id)s], '{1}', '400', '{}')"),
    "retry_job": ("uuid, int, double precision, text, jsonb", "retry_job(%(id)s, 1, 0, '500', '{}')"),
    "retry_jobs": ("uuid[], int[], double precision, text, jsonb", "retry_jobs(array[%(id)s], '{1}', 0, '', '{}')"),
    "release_job": ("uuid, int, double precision, text", "release_job(%(id)s, 1, 0, 'away')"),
    "release_jobs": ("uuid[], int[], double precision, text", "release_jobs(array[%(id)s], '{1}', 0, 'away')"),
    "await_handling": (
        "uuid[], int[], jsonb, double precision, double precision",
        "await_handling(array[%(id)s], '{1}', '{}', 0, 60)",
    ),
}


@pytest.fixture
def version_7(project: str) -> str:
    """A database of the release whose claims waited for the disk, and had a number alone."""
    with psycopg.connect(project) as connection:
        apply_first(7, connection)
        connection.execute(routines())
        connection.execute("drop function agent_vault.claim_jobs")
        connection.execute(CLAIM.replace("lapses int", "lapses int, sent_before boolean"))
        for name, (arguments, _) in BEFORE_THE_TIMES.items():
            connection.execute(f"drop function agent_vault.{name}")
            connection.execute(
                f"create function agent_vault.{name}({arguments}) returns int language plpgsql as 'begin end'"
            )
        connection.execute(ROWS)
    return project


@pytest.mark.parametrize("upgrade", [migrate, paste])
def test_the_release_before_the_times_ends_like_a_fresh_one(
    version_7: str, supabase: Callable[[], str], upgrade: Callable[[str], object]
) -> None:
    """Functions and tables are those of a fresh database, and no row is touched."""
    ends_like_a_fresh_one(version_7, supabase(), upgrade)


def test_its_daemons_go_on(version_7: str) -> None:
    """What they claimed before and after the upgrade they settle as before, by every call that they know."""
    with psycopg.connect(version_7, autocommit=True) as daemon:
        migrate(version_7)
        for _, call in BEFORE_THE_TIMES.values():
            if call:
                daemon.execute("delete from jobs")
                daemon.execute("insert into jobs (type) values ('X')")
                (job_id,) = daemon.execute(
                    "select id from agent_vault.claim_jobs('default', 'mac/1', 1, 60)"
                ).fetchone()
                assert 1 == len(daemon.execute(f"select * from agent_vault.{call}", {"id": job_id}).fetchall())
                ended = "select status <> 'processing' or awaits_handling from jobs"
                assert (True,) == daemon.execute(ended).fetchone()
