"""The roles of least privilege: what each may do, wherever the schema is, and what nobody may."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import servers
from catalog import read_all
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sql import migrate as migrating
from sql.migrate import migrate

KINDS = ("server", "daemon", "operator")
FUNCTIONS = """
    select p.proname from pg_proc p
    where p.pronamespace in ('agent_vault'::regnamespace, 'public'::regnamespace)
      and has_schema_privilege(%(role)s, p.pronamespace, 'usage')
      and has_function_privilege(%(role)s, p.oid, 'execute')
"""
RELATIONS = """
    select c.oid::regclass::text from pg_class c
    where c.relkind in ('r', 'v', 'm', 'S', 'p', 'f')
      and c.relnamespace in ('agent_vault'::regnamespace, 'public'::regnamespace)
      and (c.relkind = 'S' and has_sequence_privilege(%(role)s, c.oid, 'usage, select, update')
        or c.relkind <> 'S'
          and (has_table_privilege(%(role)s, c.oid, 'select, insert, update, delete, truncate, references, trigger')
            or has_any_column_privilege(%(role)s, c.oid, 'select, insert, update, references')))
"""
# what a function that only others of ours call is: no role but service_role has it
INSIDE = {
    "return_lapsed",
    "hold_jobs",
    "lock_jobs",
    "insert_events",
    "answer_known",
    "queue_learnings",
    "account_document",
    "body_is_apart",
}
SETTLING = {"complete_job", "complete_jobs_each", "fail_jobs", "retry_jobs", "release_jobs", "await_handling"}
MAY: dict[str, set[str]] = {
    "server": {
        *("schema_version", "record_events", "sweep_learnings", "prune_jobs", "prune_learnings", "claim_next_job"),
        "find_unserved",
    },
    "daemon": {"schema_version", "claim_jobs", "keep_name", "list_events", "read_event", "handle_events", *SETTLING},
    "operator": {"schema_version", "list_jobs", "requeue_jobs", "cancel_job", "replay_learnings"},
}
MAY_NOT: dict[str, set[str]] = {
    "server": {"claim_jobs", "take_name", "replay_learnings", "cancel_job", "list_jobs"},
    "daemon": {
        "claim_next_job",
        "record_events",
        "get_learning",
        "search_learnings",
        "prune_jobs",
        "requeue_job",
        "find_unserved",
    },
    "operator": {"claim_jobs", "get_learning", "read_event", "record_events", "prune_jobs", "complete_jobs"},
}


def role_of(dsn: str, kind: str) -> str:
    """The name of a role, as it is for a short name of a database."""
    return f"vault_{kind}_{conninfo_to_dict(dsn)['dbname']}"


def reached(dsn: str, role: str) -> tuple[set[str], set[str]]:
    """The functions and the relations that a role may use in any way."""
    with psycopg.connect(dsn) as connection:
        found = [connection.execute(query, {"role": role}).fetchall() for query in (FUNCTIONS, RELATIONS)]
    return {name for (name,) in found[0]}, {name for (name,) in found[1]}


@pytest.mark.parametrize("install", ["blank_dsn", "project", "old_install"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_role_may_what_its_programs_call(request: pytest.FixtureRequest, install: str, kind: str) -> None:
    """On a plain server, on Supabase and over an adopted install: functions, and not one table or sequence."""
    dsn = request.getfixturevalue(install)
    migrate(dsn)
    functions, relations = reached(dsn, role_of(dsn, kind))
    assert set() == relations
    assert MAY[kind] <= functions
    assert set() == functions & (MAY_NOT[kind] | INSIDE | {"grant_daemon", "revoke_daemon"})


@pytest.mark.parametrize("install", ["blank_dsn", "project"])
def test_no_role_has_more_than_a_role_needs(request: pytest.FixtureRequest, install: str) -> None:
    """None of them can log in, bypasses row level security, makes roles or is in another role."""
    dsn = request.getfixturevalue(install)
    migrate(dsn)
    query = """
        select rolname, rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
          or exists (select from pg_auth_members m where m.member = r.oid)
        from pg_roles r where rolname = any(%s)"""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(query, [[role_of(dsn, kind) for kind in KINDS]]).fetchall()
    assert {role_of(dsn, kind): False for kind in KINDS} == dict(found)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_roles_open_nothing_to_the_public_keys(project: str, api: Callable[..., Any], role: str) -> None:
    """Whoever comes with a public key reaches no function and no table, and can become none of the roles."""
    migrate(project)
    assert (set(), set()) == reached(project, role)
    for kind in KINDS:
        with psycopg.connect(project) as connection:
            member = connection.execute("select pg_has_role(%s, %s, 'member')", [role, role_of(project, kind)])
            assert (False,) == member.fetchone()
    with api(project, role) as call, pytest.raises(psycopg.errors.InsufficientPrivilege):
        call.execute("select agent_vault.session_queues()")


def test_every_function_runs_as_its_owner_with_a_fixed_search_path(database: psycopg.Connection) -> None:
    """Nobody's schema comes between a function of ours and the catalog, nor the caller's temporary one before it."""
    wrong = database.execute(
        "select p.oid::regprocedure from pg_proc p"
        " where p.pronamespace in ('agent_vault'::regnamespace, 'public'::regnamespace)"
        " and (not p.prosecdef or not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false))"
        " and p.oid <> 'agent_vault.job_payload'::regproc"  # becomes part of the function that calls it
    )
    assert [] == wrong.fetchall()


def test_no_function_without_sequential_scans_compiles_its_plans(database: psycopg.Connection) -> None:
    """Before 18 a scan that is switched off counts as so dear that the server would compile each plan, for 0.3 s."""
    wrong = database.execute(
        "select p.oid::regprocedure from pg_proc p where p.pronamespace in ('agent_vault'::regnamespace,"
        " 'public'::regnamespace) and p.proconfig @> '{enable_seqscan=off}' and not p.proconfig @> '{jit=off}'"
    )
    assert [] == wrong.fetchall()


def test_every_table_has_row_level_security(database: psycopg.Connection) -> None:
    """A table that somebody grants by mistake shows no row to a role without a policy."""
    bare = database.execute(
        "select c.oid::regclass from pg_class c where c.relkind in ('r', 'p') and not c.relrowsecurity"
        " and c.relnamespace in ('agent_vault'::regnamespace, 'public'::regnamespace)"
    )
    assert [] == bare.fetchall()


def test_no_function_builds_a_statement(database: psycopg.Connection) -> None:
    """Not one of them runs text, so no input can become a statement."""
    built = database.execute(
        r"select p.oid::regprocedure from pg_proc p where p.pronamespace in ('agent_vault'::regnamespace,"
        r" 'public'::regnamespace) and regexp_replace(p.prosrc, '--[^\n]*', '', 'g') ~* '\m(execute|format)\M'"
    )
    assert [] == built.fetchall()
    told = re.findall(r"pg_notify\((.*)\)\n", migrating.routines())
    assert told
    assert {"''"} == {call.rpartition(", ")[2] for call in told}


def test_what_was_granted_since_is_taken_from_the_roles(project: str) -> None:
    """A right that somebody added is gone after the next migrate."""
    migrate(project)
    role = role_of(project, "daemon")
    before = reached(project, role)
    with psycopg.connect(project) as connection:
        connection.execute(sql.SQL("grant all on jobs, agent_vault.logins to {}").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("grant execute on all functions in schema agent_vault to {}").format(sql.Identifier(role))
        )
    assert before != reached(project, role)
    assert [] == migrate(project).notices
    assert before == reached(project, role)


def test_a_role_that_bypasses_row_level_security_gets_nothing(blank_dsn: str) -> None:
    """One that somebody made so is named in a warning, and stays outside."""
    role = role_of(blank_dsn, "server")
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} bypassrls").format(sql.Identifier(role)))
    (warning,) = migrate(blank_dsn).notices
    assert f"the role {role} may more than it should" in warning
    assert (set(), set()) == reached(blank_dsn, role)


@pytest.fixture
def modest(blank_dsn: str) -> Iterator[str]:
    """The DSN of an owner who may not make roles."""
    name = f"modest_{conninfo_to_dict(blank_dsn)['dbname']}"
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        admin.execute(f"create role {name} login password 'secret'")
        admin.execute(f"alter database {conninfo_to_dict(blank_dsn)['dbname']} owner to {name}")
        admin.execute(f"alter schema public owner to {name}")
        yield make_conninfo(blank_dsn, user=name, password="secret")
        admin.execute(f"drop owned by {name}")
        admin.execute(f"alter database {conninfo_to_dict(blank_dsn)['dbname']} owner to current_user")
        admin.execute(f"drop role {name}")


def test_an_owner_who_may_not_make_roles_is_told(modest: str, blank_dsn: str) -> None:
    """Everything else is there; once somebody made the roles, the next migrate fills them."""
    (warning,) = migrate(modest).notices
    for kind in KINDS:
        assert role_of(modest, kind) in warning
    assert "may not create roles" in warning
    with psycopg.connect(modest) as connection:
        assert [] == connection.execute("select * from agent_vault.claim_jobs('default', 'one/1', 1, 60)").fetchall()
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        for kind in KINDS:
            admin.execute(sql.SQL("create role {}").format(sql.Identifier(role_of(modest, kind))))
    assert [] == migrate(modest).notices
    assert MAY["daemon"] <= reached(modest, role_of(modest, "daemon"))[0]


def test_twice_changes_nothing(project: str) -> None:
    """Neither a right nor a row, and no word is said."""
    migrate(project)
    with psycopg.connect(project) as connection:
        before = read_all(connection)
    assert [] == migrate(project).notices
    with psycopg.connect(project) as connection:
        assert before == read_all(connection)


def test_a_long_name_of_a_database_fits(server_dsn: str) -> None:
    """The server would cut the name of a role, and two databases would share it."""
    name = "a" * 63
    with psycopg.connect(server_dsn, autocommit=True, client_encoding="utf8") as admin:
        admin.execute(f"create database {name} template template0 encoding 'UTF8'")
        dsn = make_conninfo(server_dsn, dbname=name)
        try:
            assert [] == migrate(dsn).notices
            with psycopg.connect(dsn) as connection:
                row = connection.execute("select agent_vault.role_name('operator')").fetchone()
            role = row[0]
            assert "vault_operator_" + "0" * 32 == re.sub(r"(?<=_)[0-9a-f]{32}$", "0" * 32, role)
            assert MAY["operator"] <= reached(dsn, role)[0]
        finally:
            admin.execute(f"drop database {name} with (force)")
            servers.drop_roles(admin, name)
            servers.drop_roles(admin, role.rpartition("_")[2])
