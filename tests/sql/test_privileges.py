"""Who may do what: nobody but service_role and the owner, after every migrate."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sql.migrate import migrate, script

Call = Callable[[str, str], Any]

FUNCTIONS = """
  select p.oid::regprocedure::text from pg_proc p
  where (p.pronamespace = 'agent_vault'::regnamespace
      or p.pronamespace = 'public'::regnamespace and p.proname in ('claim_next_job', 'complete_job'))
    and has_function_privilege(%(role)s, p.oid, 'execute')
"""
TABLES = """
  select c.oid::regclass::text from pg_class c
  where c.relkind in ('r', 'v', 'm', 'S', 'p')
    and c.relnamespace in ('agent_vault'::regnamespace, 'public'::regnamespace)
    and (has_table_privilege(%(role)s, c.oid, 'select, insert, update, delete, truncate, references, trigger')
      or c.relkind <> 'S' and has_any_column_privilege(%(role)s, c.oid, 'select, insert, update, references'))
"""
OLD_FUNCTIONS = {"claim_next_job(text)", "complete_job(uuid,text,text)"}
WARNING = "WARNING: anon keeps execute on claim_next_job and complete_job: anyone with the public key can take jobs"


def allowed(dsn: str, role: str) -> tuple[set[str], set[str]]:
    """The functions and the tables that a role may use in any way."""
    with psycopg.connect(dsn) as connection:
        found = [connection.execute(query, {"role": role}).fetchall() for query in (FUNCTIONS, TABLES)]
    return {name for (name,) in found[0]}, {name for (name,) in found[1]}


@pytest.fixture
def stranger(server_dsn: str) -> Iterator[str]:
    """A role that nobody granted anything, which therefore has what public has."""
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute("create role stranger_of_this_test")
        try:
            yield "stranger_of_this_test"
        finally:
            admin.execute("drop role stranger_of_this_test")


@pytest.mark.parametrize("install", ["project", "old_install"])
@pytest.mark.parametrize("role", ["anon", "authenticated", "stranger"])
def test_the_public_may_do_nothing(request: pytest.FixtureRequest, install: str, role: str, stranger: str) -> None:
    """No table and no function of ours is open to the public key, fresh or adopted, nor the schema."""
    dsn = request.getfixturevalue(install)
    name = stranger if role == "stranger" else role
    for _ in range(2):
        migrate(dsn)
        assert (set(), set()) == allowed(dsn, name)
    with psycopg.connect(dsn) as connection:
        schema = connection.execute("select has_schema_privilege(%s, 'agent_vault', 'usage, create')", [name])
        assert (False,) == schema.fetchone()


@pytest.mark.parametrize(
    "statement",
    [
        "select * from claim_next_job(p_worker_id => 'anybody')",
        "select complete_job(p_job_id => gen_random_uuid(), p_status => 'done')",
        "select * from jobs",
        "select * from agent_learnings",
        "insert into jobs (type) values ('chat')",
        "insert into agent_learnings (learning) values ('believe me')",
        "update jobs set payload = '{}'",
        "delete from agent_learnings",
        "select * from agent_vault.claim_jobs('default', 'anybody', 1, 60)",
        "select agent_vault.schema_version()",
        "select * from agent_vault.migrations",
    ],
)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_public_key_is_refused(old_install: str, api: Call, role: str, statement: str) -> None:
    """Each thing that a thief of the public key would try is refused, not merely empty."""
    migrate(old_install)
    with api(old_install, role) as call, pytest.raises(psycopg.errors.InsufficientPrivilege):
        call.execute(statement)


def test_what_was_granted_since_is_taken_back(project: str) -> None:
    """Every migrate puts the privileges right, also those that somebody granted after the last one."""
    migrate(project)
    with psycopg.connect(project) as connection:
        connection.execute("grant all on jobs, agent_learnings to anon, public")
        connection.execute("grant execute on all functions in schema agent_vault, public to authenticated, public")
        connection.execute("create policy open on jobs to anon using (true)")
        connection.execute("create policy wide on agent_learnings using (true)")
    notices = migrate(project).notices
    assert [
        "NOTICE: replaced the policy open on jobs",
        "NOTICE: replaced the policy wide on agent_learnings",
    ] == sorted(notices)
    assert [(set(), set())] * 2 == [allowed(project, role) for role in ("anon", "authenticated")]


def test_a_policy_for_a_role_of_the_owners_stays(project: str) -> None:
    """What the owner grants to a role that is no API key's is the owner's business."""
    migrate(project)
    with psycopg.connect(project) as connection:
        connection.execute("create policy reports on jobs to current_user using (true)")
    migrate(project)
    with psycopg.connect(project) as connection:
        kept = connection.execute("select polname from pg_policy where polrelid = 'jobs'::regclass order by 1")
        assert [("agent_vault_service",), ("reports",)] == kept.fetchall()


def with_migrate(dsn: str) -> None:
    """Migrate from Python."""
    migrate(dsn)


def with_script(dsn: str) -> None:
    """Paste the script."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script())


@pytest.mark.parametrize("install", [with_migrate, with_script])
def test_the_revoke_is_in_the_same_transaction(
    project: str, monkeypatch: pytest.MonkeyPatch, install: Callable[[str], None]
) -> None:
    """There is no moment in which the functions exist and anybody may call them: without the revoke, none is made."""
    monkeypatch.setattr("sql.migrate.privileges", lambda: "select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        install(project)
    with psycopg.connect(project) as connection:
        found = connection.execute("select count(*) from pg_proc where proname in ('claim_next_job', 'claim_jobs')")
        assert (0,) == found.fetchone()


@pytest.mark.parametrize("install", ["project", "old_install"])
def test_service_role_may_what_it_needs(request: pytest.FixtureRequest, install: str, api: Call) -> None:
    """The service key reads, inserts and updates both tables and calls every function, row level security or not."""
    dsn = request.getfixturevalue(install)
    migrate(dsn)
    functions, tables = allowed(dsn, "service_role")
    assert {"jobs", "agent_learnings"} == tables
    with psycopg.connect(dsn) as connection:
        ours = connection.execute(
            "select oid::regprocedure from pg_proc where pronamespace = 'agent_vault'::regnamespace"
        )
        assert OLD_FUNCTIONS | {name for (name,) in ours.fetchall()} == functions
    with api(dsn, "service_role") as call:
        call.execute("insert into jobs (type, payload, status) values ('mine', '{}', 'queued')")
        call.execute("update jobs set run_at = '2025-01-01' where type = 'mine'")
        claimed = call.execute("select type from agent_vault.claim_jobs('default', 'one', 1, 60)").fetchall()
        assert [("mine",)] == claimed


def test_row_level_security_lets_service_role_in(project: str, server_dsn: str) -> None:
    """Where service_role does not bypass row level security, its policy lets it see and write every row."""
    migrate(project)
    with psycopg.connect(make_conninfo(server_dsn, dbname=conninfo_to_dict(project)["dbname"])) as admin:
        admin.execute("alter role service_role nobypassrls")  # rolled back below: the role is the whole server's
        admin.execute("set local role service_role")
        for table, column in (("jobs", "type"), ("agent_learnings", "learning")):
            admin.execute(f"insert into {table} ({column}) values ('mine')")
            assert [("mine",)] == admin.execute(f"update {table} set {column} = 'mine' returning {column}").fetchall()
        admin.rollback()


def test_keep_anon_keeps_an_old_worker(old_install: str, api: Call) -> None:
    """With keep_anon the two old functions work for the public key, and nothing else does; the caller is warned."""
    assert WARNING in migrate(old_install, keep_anon=True).notices
    assert (OLD_FUNCTIONS, set()) == allowed(old_install, "anon")
    assert (set(), set()) == allowed(old_install, "authenticated")
    with api(old_install, "anon") as call:
        (job_id,) = call.execute("select id from claim_next_job(p_worker_id => 'mac')").fetchone()
        call.execute("select complete_job(p_job_id => %s, p_status => 'done')", [job_id])
    with psycopg.connect(old_install) as connection:
        assert ("done",) == connection.execute("select status from jobs where id = %s", [job_id]).fetchone()
    assert [] == migrate(old_install).notices
    assert (set(), set()) == allowed(old_install, "anon")


def test_keep_anon_on_a_plain_server(blank_dsn: str, stranger: str) -> None:
    """Where there is no role anon, keep_anon opens nothing and warns of nothing."""
    assert [] == migrate(blank_dsn, keep_anon=True).notices
    assert (set(), set()) == allowed(blank_dsn, stranger)
