"""An existing install is adopted in place: nothing is lost, nothing is queued anew, its worker keeps working."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from catalog import read_all, read_schema

from sql.migrate import migrate, script

JOB = "00000000-0000-4000-8000-00000000000{}"
CLAIM = "select id from agent_vault.claim_jobs('default', 'new', 10, 60)"
OLD_JOB = "id, type, payload, status, locked_at, locked_by, attempts, last_error, created_at, updated_at"
OLD_LEARNING = (
    "id, created_at, updated_at, project, learning, category, kind, visibility, source, tags, importance,"
    " confidence, metadata"
)

Call = Callable[[str, str], Any]


def old_rows(dsn: str) -> list[tuple[Any, ...]]:
    """Everything that the old install knows."""
    with psycopg.connect(dsn) as connection:
        jobs = connection.execute(f"select {OLD_JOB} from jobs order by id").fetchall()
        learnings = connection.execute(f"select {OLD_LEARNING} from agent_learnings order by id").fetchall()
    return [*jobs, *learnings]


def paste(dsn: str) -> None:
    """Adopt with the script, as a role that is no superuser."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script())


def without_primary_key(dsn: str) -> None:
    """Make the variant of the old install whose learnings have none, and no defaults either."""
    with psycopg.connect(dsn) as connection:
        connection.execute("alter table agent_learnings drop constraint agent_learnings_pkey")
        connection.execute("alter table agent_learnings alter column id drop not null")
        for column in ("id", "created_at", "updated_at"):
            connection.execute(f"alter table agent_learnings alter column {column} drop default")


@pytest.mark.parametrize("adopt", [migrate, paste])
@pytest.mark.parametrize("prepare", [lambda _: None, without_primary_key], ids=["as_is", "no_primary_key"])
def test_adopted_and_fresh_end_alike(
    supabase: Callable[[], str], old_install: str, adopt: Callable[[str], object], prepare: Callable[[str], None]
) -> None:
    """An adopted install has the schema of a fresh one, whichever way it was adopted, and again changes nothing."""
    fresh = supabase()
    migrate(fresh)
    prepare(old_install)
    adopt(old_install)
    with psycopg.connect(fresh) as one, psycopg.connect(old_install, autocommit=True) as other:
        assert read_schema(one) == read_schema(other)
        before = read_all(other)
        adopt(old_install)
        assert before == read_all(other)


@pytest.mark.parametrize("adopt", [migrate, paste])
def test_no_row_is_lost_or_queued_anew(old_install: str, adopt: Callable[[str], object]) -> None:
    """Every old column of every row stays as it was, in every status, and the user's own columns too."""
    before = old_rows(old_install)
    assert (6, 3) == (len([row for row in before if len(row) == 10]), len([row for row in before if len(row) == 13]))
    adopt(old_install)
    assert before == old_rows(old_install)
    with psycopg.connect(old_install) as connection:
        new = connection.execute("select count(*), count(event_id), count(queued_at) from agent_learnings").fetchone()
    assert (3, 0, 0) == new


def test_only_what_was_queued_is_claimed(old_install: str) -> None:
    """The first claim after the adoption gives the two queued jobs, the oldest first, and the next nothing."""
    migrate(old_install)
    with psycopg.connect(old_install, autocommit=True) as connection:
        claimed = [[str(row[0]) for row in connection.execute(CLAIM).fetchall()] for _ in range(2)]
    assert [[JOB.format(2), JOB.format(1)], []] == claimed


def test_a_job_under_way_gets_a_lease(old_install: str) -> None:
    """Adopted processing jobs have fifteen minutes from the adoption, and all others no lease."""
    migrate(old_install)
    with psycopg.connect(old_install) as connection:
        leases = connection.execute(
            "select j.id::text, j.lease_until - m.applied_at from jobs j, agent_vault.migrations m"
            " where m.version = 1 and j.lease_until is not null order by j.id"
        ).fetchall()
    assert [(JOB.format(number), timedelta(minutes=15)) for number in (3, 4)] == leases


def test_the_old_worker_ends_what_it_held(old_install: str, api: Call) -> None:
    """A worker that claimed before the adoption completes after it, also when its lease lapsed meanwhile."""
    migrate(old_install)
    with psycopg.connect(old_install, autocommit=True) as connection:
        connection.execute("update jobs set lease_until = now() - interval '1 s' where status = 'processing'")
        connection.execute("select agent_vault.return_lapsed('default')")
        with api(old_install, "service_role") as call:
            call.execute("select complete_job(p_job_id => %s, p_status => 'done')", [JOB.format(3)])
        ended = connection.execute("select status from jobs where id = %s", [JOB.format(3)]).fetchone()
    assert ("done",) == ended


def test_a_job_of_a_dead_worker_comes_back(old_install: str, api: Call) -> None:
    """When the adopted lease lapses, the old claim hands the job out again."""
    migrate(old_install)
    with psycopg.connect(old_install, autocommit=True) as connection:
        connection.execute("update jobs set status = 'done' where status = 'queued'")
        connection.execute("update jobs set lease_until = now() - interval '1 s' where id = %s", [JOB.format(3)])
    with api(old_install, "service_role") as call:
        claimed = call.execute("select id, status, attempts from claim_next_job(p_worker_id => 'mac')").fetchall()
    assert [(UUID(JOB.format(3)), "processing", 3)] == claimed


def test_policies_and_grants_are_replaced(old_install: str, api: Call) -> None:
    """What let the public key in is gone with the adoption, and the old policy is named in the notices."""
    with api(old_install, "anon") as call:
        claimed = call.execute("select type from claim_next_job(p_worker_id => 'anybody')").fetchall()
        assert [("chat",)] == claimed
        call.rollback()
    notices = migrate(old_install).notices
    assert ['NOTICE: replaced the policy "Service role can manage jobs" on jobs'] == notices
    with psycopg.connect(old_install) as connection:
        policies = connection.execute("select polname from pg_policy order by polname").fetchall()
    assert [("agent_vault_service",)] * 2 == policies
    with api(old_install, "anon") as call, pytest.raises(psycopg.errors.InsufficientPrivilege):
        call.execute("select * from claim_next_job(p_worker_id => 'anybody')")


def test_learnings_that_share_an_id_stay_and_are_told(old_install: str) -> None:
    """A table that cannot have a primary key is adopted without one, and the warning reaches the caller."""
    without_primary_key(old_install)
    with psycopg.connect(old_install) as connection:
        connection.execute("insert into agent_learnings (id, learning) select id, 'twin' from agent_learnings limit 1")
    before = old_rows(old_install)
    warning, _ = migrate(old_install).notices
    assert (
        "WARNING: public.agent_learnings has rows without an id of their own: it keeps a plain index on id" == warning
    )
    assert before == old_rows(old_install)
    with psycopg.connect(old_install) as connection:
        index = connection.execute("select to_regclass('public.agent_learnings_id') is not null").fetchone()
    assert (True,) == index
