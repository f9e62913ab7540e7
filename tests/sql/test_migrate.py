"""Migrating: once or twenty times at once, from Python or as a pasted script, and the check of the version."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
from catalog import read_all, read_schema

from sql.line import Line
from sql.migrate import Migrated, SchemaTooOldError, latest, migrate, migrations, read_version, require_version, script

AT_ONCE = 20


def paste(dsn: str, text: str) -> None:
    """Send a script as an SQL editor does: in one message."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text)


def version_is(connection: psycopg.Connection, version: int) -> None:
    """Make the database one that another release migrated."""
    connection.execute("update agent_vault.migrations set version = %s where version = %s", [version, latest()])


def test_a_fresh_database_gets_the_schema(blank_dsn: str) -> None:
    """What is new lives in agent_vault; public holds two tables and two functions, with the old signatures."""
    assert Migrated(None, latest(), []) == migrate(blank_dsn)
    with psycopg.connect(blank_dsn) as connection:
        tables = connection.execute(
            "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        )
        assert {("agent_learnings",), ("jobs",)} == set(tables.fetchall())
        functions = connection.execute(
            "select proname, pg_get_function_arguments(oid), pg_get_function_result(oid), prosecdef"
            " from pg_proc where pronamespace = 'public'::regnamespace"
        )
        assert {
            ("claim_next_job", "p_worker_id text", "SETOF jobs", True),
            ("complete_job", "p_job_id uuid, p_status text, p_last_error text DEFAULT NULL::text", "void", True),
        } == set(functions.fetchall())


def test_twice_changes_nothing(blank_dsn: str) -> None:
    """The second migrate, and the script over it, leave every row and every catalog entry as they were."""
    migrate(blank_dsn)
    with psycopg.connect(blank_dsn, autocommit=True) as connection:
        connection.execute("insert into jobs (type, status) values ('a', 'queued'), ('b', 'processing'), ('c', 'done')")
        connection.execute("insert into agent_learnings (learning, event_id) values ('one', 'msg_1'), ('two', null)")
        before = read_all(connection)
        assert latest() == migrate(blank_dsn).before
        assert before == read_all(connection)
        paste(blank_dsn, script())
        assert before == read_all(connection)


def test_twenty_at_once(blank_dsn: str) -> None:
    """One of twenty migrates applies, the others wait for it and find nothing to do."""
    together = Barrier(AT_ONCE)

    def one(_: int) -> int | None:
        together.wait(30)
        return migrate(blank_dsn).before

    with ThreadPoolExecutor(AT_ONCE) as threads:
        before = list(threads.map(one, range(AT_ONCE)))
    assert [None] == [version for version in before if version is None]
    assert {None, latest()} == set(before)


def test_a_failure_leaves_nothing_behind(blank_dsn: str) -> None:
    """All of it is one transaction: a table that cannot be adopted leaves the database as it was."""
    with psycopg.connect(blank_dsn, autocommit=True) as connection:
        connection.execute("create table jobs (id uuid primary key, queue int)")
        before = read_all(connection)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            migrate(blank_dsn)
        assert before == read_all(connection)


def test_the_script_gives_what_migrate_gives(supabase: Callable[[], str]) -> None:
    """Pasted as a role that is no superuser, once and twice, the script makes the schema that migrate makes."""
    migrated, pasted = supabase(), supabase()
    migrate(migrated)
    paste(pasted, script())
    with psycopg.connect(migrated) as one, psycopg.connect(pasted, autocommit=True) as other:
        assert read_schema(one) == read_schema(other)
        before = read_all(other)
        paste(pasted, script())
        assert before == read_all(other)
        assert latest() == migrate(pasted).before
        assert before == read_all(other)


def test_the_script_asks_for_the_same_lock(dsn: str) -> None:
    """A script that is pasted while a migrate runs waits for it."""
    with psycopg.connect(dsn) as migrating, psycopg.connect(dsn, autocommit=True) as pasting:
        lock = next(line for line in script().splitlines() if "pg_advisory_xact_lock" in line)
        migrating.execute(lock)
        pasting.execute("set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            pasting.execute(script())


@pytest.mark.parametrize("keep_anon", [True, False])
def test_the_script_keeps_anon_when_asked(
    project: str, api: Callable[..., psycopg.Connection], *, keep_anon: bool
) -> None:
    """The pasted script treats the public key as migrate does."""
    paste(project, script(keep_anon=keep_anon))
    with api(project, "anon") as call:
        if keep_anon:
            assert [] == call.execute("select * from claim_next_job(p_worker_id => 'old')").fetchall()
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                call.execute("select * from claim_next_job(p_worker_id => 'old')")


def test_a_newer_database_refuses_the_script(project: str) -> None:
    """A script that lies around puts no old functions into a newer schema."""
    migrate(project)
    with psycopg.connect(project, autocommit=True) as connection:
        version_is(connection, latest() + 1)
        connection.execute("drop trigger agent_vault_inserted on jobs")  # what the script would put back
        before = read_all(connection)
        with pytest.raises(psycopg.errors.RaiseException, match=f"newer than this script .version {latest()}."):
            paste(project, script())
        assert before == read_all(connection)


def test_a_newer_database_is_left_alone(dsn: str, database: psycopg.Connection) -> None:
    """An old release's migrate says which version it found and changes nothing."""
    version_is(database, latest() + 1)
    database.execute("drop trigger agent_vault_inserted on jobs")
    before = read_all(database)
    done = migrate(dsn)
    assert (latest() + 1, latest() + 1) == (done.before, done.after)
    assert before == read_all(database)


def test_changed_functions_are_replaced(dsn: str, database: psycopg.Connection) -> None:
    """A release that changes only functions puts them in without a new migration."""
    migrate(dsn)  # this copy has roles of its own from now on
    before = read_all(database)
    database.execute("drop trigger agent_vault_inserted on jobs")
    database.execute(
        "update agent_vault.migrations set functions_digest = 'of another release' where version = %s", [latest()]
    )
    migrate(dsn)
    assert before == read_all(database)


async def test_the_version_is_checked(dsn: str, blank_dsn: str, database: psycopg.Connection) -> None:
    """No schema and an older one are refused with the command that mends it; this one and a newer are fine."""
    async with await psycopg.AsyncConnection.connect(blank_dsn, autocommit=True) as blank:
        with pytest.raises(SchemaTooOldError, match=r"no agent_vault schema.*run agent-vault migrate") as none:
            await require_version(Line(blank, deadline_s=30))
        assert (None, latest()) == (none.value.found, none.value.needed)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as ours:
        assert latest() == await require_version(Line(ours, deadline_s=30))
        version_is(database, latest() + 1)
        assert latest() + 1 == await require_version(Line(ours, deadline_s=30))
        database.execute("delete from agent_vault.migrations where version >= %s", [latest()])
        with pytest.raises(
            SchemaTooOldError, match=f"schema version {migrations()[-2].version}.*run agent-vault migrate"
        ) as old:
            await require_version(Line(ours, deadline_s=30))
        assert (migrations()[-2].version, latest()) == (old.value.found, old.value.needed)


def test_the_version_is_read(dsn: str, blank_dsn: str) -> None:
    """A database without our schema has no version."""
    with psycopg.connect(blank_dsn) as blank, psycopg.connect(dsn) as ours:
        assert (None, latest()) == (read_version(blank), read_version(ours))


def test_documents_are_compressed_as_the_server_does_it_best(database: psycopg.Connection) -> None:
    """With lz4, where it was built with it, and else as it is set up."""
    has_lz4, method = database.execute(
        "select 'lz4' = any(s.enumvals), a.attcompression::text from pg_settings s, pg_attribute a"
        " where s.name = 'default_toast_compression'"
        " and a.attrelid = 'public.agent_learnings'::regclass and a.attname = 'metadata'"
    ).fetchone()
    assert ("l" if has_lz4 else "") == method
