"""Logins of one daemon each: what one can do with another's jobs, names and queues, which is nothing."""

import uuid
from collections.abc import Callable
from typing import Any

import letters
import psycopg
import pytest
from catalog import read_rows
from handling import claim, send
from psycopg.conninfo import conninfo_to_dict

from sql import logins
from sql.logins import Kind, LoginError, grant, grant_daemon, login_dsn, revoke, revoke_daemon
from sql.migrate import migrate
from sql.session import Session

RIGHT = "agent_vault."
OF_ANOTHER = "%(jobs)s, %(claims)s"
ONE = "%(job)s, %(claim)s"
NAME, QUEUES = "'mini', array['mail']", "'mac_NN', array['default']"
# of each function that such a login may execute, calls that would reach what is not its own
HOSTILE: dict[str, list[str]] = {
    "schema_version": [],
    "pulse": ["array['default']", "array['mail', 'default']", "array[null]"],
    "take_name": [
        "'mini', 'mini/2', array['mail'], false, 0",
        "'mac_NN', 'mac_NN/1', array['default'], false, 15",
        "null, 'mini/2', null, false, 0",
    ],
    "keep_name": ["'mini', 'mini/1', array['mail'], false", "'mac_NN', 'mac_NN/1', array['default'], false"],
    "leave_name": ["'mini', 'mini/1'"],
    "claim_jobs": [
        "'default', 'mac_NN/1', 10, 60",
        "'mail', 'mini/1', 10, 60",
        "'mail', null, 10, 60",
        "null, 'mac_NN/1', 10, 60",
    ],
    "release_unheld": ["'mini/1', '{}'", "null, '{}'"],
    "extend_jobs": [f"'mini/1', {OF_ANOTHER}, 6000", f"'mac_NN/1', {OF_ANOTHER}, 6000", f"null, {OF_ANOTHER}, 6000"],
    "complete_job": [f"{ONE}, '{{}}', 0", f"{ONE}, '{{}}', 0, %(time)s"],
    "complete_jobs": [f"{OF_ANOTHER}, '{{}}', 0", f"{OF_ANOTHER}, null, null"],
    "complete_jobs_each": [f"{OF_ANOTHER}, array['{{}}'::jsonb], '{{0}}', %(times)s", f"{OF_ANOTHER}, null, null"],
    "fail_job": [f"{ONE}, 'no', '{{}}'"],
    "fail_jobs": [f"{OF_ANOTHER}, 'no', '{{}}'"],
    "retry_job": [f"{ONE}, 0, 'no', '{{}}'"],
    "retry_jobs": [f"{OF_ANOTHER}, 0, 'no', '{{}}'"],
    "release_job": [f"{ONE}, 0, 'no'"],
    "release_jobs": [f"{OF_ANOTHER}, 0, 'no'"],
    "await_handling": [
        f"{OF_ANOTHER}, '{{}}', 0, 1e9",
        f"{OF_ANOTHER}, '{{}}', 0, 1e9, %(times)s",
        "%(jobs)s, %(before)s, '{}', 0, 1e9",
    ],
    "drop_jobs": [f"{OF_ANOTHER}, '{{}}'"],
    "failed_unhandled": ["'mini', array['mail'], 1e6", "'mac_NN', array['default'], 1e6", "null, null, 1e6"],
    "awaiting_until": ["'mini', array['mail']", "'mac_NN', array['default']", "null, null"],
    "resend_unhandled": ["'mini', array['mail'], -1", "'mac_NN', array['default'], -1", "'mini', null, -1"],
    "recent_wakes": ["'mini', 1e6", "null, 1e6"],
    "list_events": ["array['default'], '-infinity', false, 10", "array['default'], '-infinity', true, 10"],
    "read_event": [f"{one}{queues}" for one in ("%(job)s", "%(learning)s") for queues in ("", ", array['default']")],
    "handle_event": [
        f"{one}, 'acknowledged'{queues}" for one in ("%(job)s", "%(learning)s") for queues in ("", ", '{default}'")
    ],
    "handle_events": [
        f"{many}, 'acknowledged'{queues}" for many in ("%(jobs)s", "%(learnings)s") for queues in ("", ", '{default}'")
    ],
}
SHADOWED = ("text", "uuid", "jsonb", "timestamptz", "tid", "bytea", "name", "regclass", "regproc")
EMPTY = {"handle_event": (False, None, []), "handle_events": (False, None, [])}


@pytest.fixture
def name() -> str:
    """The name of a daemon and its login, which no other test has on this server."""
    return f"mac_{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=["blank_dsn", "project"])
def owner(request: pytest.FixtureRequest) -> str:
    """The DSN of a database's owner, a superuser or as on Supabase; the schema is in it."""
    dsn: str = request.getfixturevalue(request.param)
    migrate(dsn)
    return dsn


async def foreign_jobs(owner: str) -> dict[str, Any]:
    """Jobs of another queue in every state, and what their claims show."""
    session = Session(owner, name="test")
    try:
        await letters.record(session, *(letters.event(number) for number in range(2)))
        await send(session, worker="mini/1", queue="default")
        await letters.record(session, *(letters.event(number) for number in range(2, 4)))
        (done, _) = await claim(session, worker="mini/1", queue="default")
        await session.fetch(
            "select agent_vault.complete_jobs(%s, %s, '{}', 0)", [[done.id], [done.claims]]
        )  # and one is left in its worker's hands
        await letters.record(session, *(letters.event(number) for number in range(4, 6)))
        rows = await session.fetch("select id, claims, learning_id, locked_at from public.jobs order by status, id")
        jobs, claims, learnings, times = ([row[place] for row in rows] for place in range(4))
        (held,) = await session.fetch(
            "select id, claims, locked_at from public.jobs where status = 'processing' and not awaits_handling"
        )
        await session.fetch("select agent_vault.take_name('mini', 'mini/1', '{mail}', false, 1e6)")
        return {
            "jobs": jobs,
            "claims": claims,
            "before": [one - 1 for one in claims],
            "learnings": learnings,
            "learning": learnings[0],
            "job": held[0],
            "claim": held[1],
            "time": held[2],
            "times": times,
        }
    finally:
        await session.close()


def functions_of(connection: psycopg.Connection) -> set[str]:
    """The functions that the session's login may execute."""
    rows = connection.execute(
        "select p.proname from pg_proc p"
        " where p.pronamespace in (select oid from pg_namespace where nspname in ('agent_vault', 'public'))"
        " and has_function_privilege(p.oid, 'execute')"
    )
    return {one for (one,) in rows.fetchall()}


async def test_it_can_do_nothing_with_what_is_not_its_own(owner: str, name: str) -> None:
    """Each call that it may make, with another's queue, name, job or event, is refused or finds nothing."""
    granted = grant_daemon(owner, name, ["mail"])
    given = await foreign_jobs(owner)
    with psycopg.connect(owner, autocommit=True) as admin:
        before = read_rows(admin)
        with psycopg.connect(granted.dsn, autocommit=True) as login:
            assert set(HOSTILE) == functions_of(login)
            for function, calls in HOSTILE.items():
                for arguments in calls:
                    query = f"select * from agent_vault.{function}({arguments.replace('mac_NN', name)})"
                    assert [] == outcome(login, function, query, given), query
                    assert before == read_rows(admin), query
    revoke_daemon(owner, name)


def outcome(login: psycopg.Connection, function: str, query: str, given: dict[str, Any]) -> list[Any]:
    """What a call gave away: nothing where it was refused, or where it says that there is no such thing."""
    try:
        rows = login.execute(query, given).fetchall()
    except psycopg.Error as error:
        if error.sqlstate in {"42501", "JB001"}:
            return []
        raise
    return [row for row in rows if row[-3:] != EMPTY.get(function)]


async def test_nor_with_a_job_of_another_in_its_own_queue(owner: str, name: str) -> None:
    """A neighbour's claims in a queue that both serve are the neighbour's to settle."""
    granted = grant_daemon(owner, name, ["default"])
    given = await foreign_jobs(owner)
    with psycopg.connect(owner, autocommit=True) as admin, psycopg.connect(granted.dsn, autocommit=True) as login:
        before = read_rows(admin)
        for function in (
            *("extend_jobs", "complete_jobs", "fail_jobs", "retry_jobs", "release_jobs"),
            *("complete_job", "fail_job", "retry_job", "release_job", "await_handling"),
        ):
            for arguments in HOSTILE[function]:
                query = f"select * from agent_vault.{function}({arguments.replace('mac_NN', name)})"
                assert [] == outcome(login, function, query, given), query
                assert before == read_rows(admin), query
    revoke_daemon(owner, name)


def test_it_reaches_no_table_and_no_other_function(owner: str, name: str) -> None:
    """As that login: every relation of ours refuses every kind of access, and every function but its own."""
    granted = grant_daemon(owner, name, ["mail"])
    user, database = (str(conninfo_to_dict(owner)[part]) for part in ("user", "dbname"))
    with psycopg.connect(owner) as admin:
        relations = admin.execute(
            "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname in ('agent_vault', 'public') and c.relkind in ('r', 'v', 'm', 'p', 'f')"
        ).fetchall()
        functions = admin.execute(
            "select n.nspname || '.' || p.proname, p.proname,"
            " array_to_string(array(select 'null::' || format_type(t, null) from unnest(p.proargtypes) t), ', ')"
            " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('agent_vault', 'public')"
        ).fetchall()
    assert {"public.jobs", "public.agent_learnings", "agent_vault.logins"} <= {one for (one,) in relations}
    statements = [
        statement.format(one)
        for (one,) in relations
        for statement in (
            *("select from {}", "delete from {}", "truncate {}", "insert into {} default values"),
            *(
                "do $$ begin lock table {} in access share mode; end $$",
                "create trigger t before insert on {} execute function now()",
            ),
        )
    ]
    statements += [
        f"select {called}({arguments})"
        for called, plain, arguments in functions
        if plain not in HOSTILE or called == "public.complete_job"
    ]
    statements += [
        "create table public.mine ()",
        "create schema mine",
        "create role mine",
        "create table agent_vault.m ()",
    ]
    statements += [
        statement.format(become)
        for become in ("server", "operator")
        for statement in ("set role vault_{}_" + database, "grant vault_{}_" + database + " to current_user")
    ]
    statements += [f"set role {user}", f"set session authorization {user}", "alter role current_user createrole"]
    with psycopg.connect(granted.dsn, autocommit=True) as login:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(statement)
    revoke_daemon(owner, name)


async def test_it_works_in_its_own_queues(owner: str, name: str) -> None:
    """It claims, extends, settles, lists, reads and acknowledges as before."""
    granted = grant_daemon(owner, name, ["mail", "news"])
    session = Session(owner, name="test")
    learnings = await letters.record(session, *(letters.event(number, queue="mail") for number in range(2)))
    await session.close()
    ours = Session(granted.dsn, name="test")
    first, second = await claim(ours, worker=f"{name}/1", queue="mail")
    ids, claims = [first.id], [first.claims]
    fenced = [f"{name}/1", ids, claims]
    assert [(first.id,)] == await ours.fetch("select * from agent_vault.extend_jobs(%s, %s, %s, 60)", fenced)
    assert [(first.id,)] == await ours.fetch("select agent_vault.complete_jobs(%s, %s, '{}', 0)", [ids, claims])
    assert [(first.id,)] == await ours.fetch("select agent_vault.complete_jobs(%s, %s, '{}', 0)", [ids, claims])
    assert 2 == len(await ours.fetch("select * from agent_vault.list_events(null, '-infinity', true, 10)"))
    for one in learnings:
        rows = await ours.fetch("select found, learning_id from agent_vault.handle_event(%s, 'acknowledged')", [one])
        assert [(True, one)] == rows
    assert [] == await ours.fetch(
        "select agent_vault.complete_jobs(%s, %s, '{}', 0)", [[second.id], [second.claims]]
    )  # acknowledged, so its claim is over
    await ours.close()
    revoke_daemon(owner, name)


async def test_what_is_revoked_is_over(owner: str, name: str) -> None:
    """Its session ends, its role is gone, and its jobs are due again: what it held untried, what it sent counted."""
    granted = grant_daemon(owner, name, ["mail"])
    session = Session(owner, name="test")
    await letters.record(session, letters.event(1, queue="mail"))
    ours = Session(granted.dsn, name="test")
    await send(ours, worker=f"{name}/1", queue="mail")
    await letters.record(session, letters.event(2, queue="mail"))
    await claim(ours, worker=f"{name}/1", queue="mail")
    with psycopg.connect(granted.dsn, autocommit=True) as open_one:
        open_one.execute("create temporary table of_its_own ()")
        assert 2 == revoke_daemon(owner, name)
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("select 1")
    rows = await session.fetch(
        "select status, attempts, locked_by, run_at <= now(), awaits_handling from public.jobs order by created_at"
    )
    assert [("queued", 1, None, True, False), ("queued", 0, None, True, False)] == rows
    assert [(None,)] == await session.fetch("select to_regrole(%s)::text", [name])
    assert [] == await session.fetch("select * from agent_vault.logins")
    with pytest.raises(psycopg.OperationalError):
        await ours.fetch("select 1")
    with pytest.raises(LoginError, match=f"no daemon named {name} has a login: none was granted"):
        revoke_daemon(owner, name)
    await session.close()


def password_of(server_dsn: str, name: str) -> str:
    """What the server keeps of a role's password, which is a hash."""
    with psycopg.connect(server_dsn, client_encoding="utf8") as admin:
        (kept,) = admin.execute("select rolpassword from pg_authid where rolname = %s", [name]).fetchone()
    assert kept.startswith("SCRAM-SHA-256$")
    return kept


def test_granted_again_it_has_another_password_and_other_queues(owner: str, server_dsn: str, name: str) -> None:
    """The old password opens nothing any more, nor does the login the old queues."""
    old, first = grant_daemon(owner, name, ["mail"]), password_of(server_dsn, name)
    new, second = grant_daemon(owner, name, ["news"]), password_of(server_dsn, name)
    assert first != second
    assert conninfo_to_dict(old.dsn)["password"] != conninfo_to_dict(new.dsn)["password"]
    assert (True, False) == (old.is_new, new.is_new)
    with psycopg.connect(new.dsn) as login:
        login.execute("select agent_vault.pulse('{news}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="news alone: set DAEMON_QUEUES to these"):
            login.execute("select agent_vault.pulse('{mail}')")
    revoke_daemon(owner, name)


def test_a_role_of_somebody_elses_is_left_alone(owner: str) -> None:
    """Neither granted nor revoked: it would get another password, or be dropped."""
    user = str(conninfo_to_dict(owner)["user"])
    with pytest.raises(LoginError, match=f"a role named {user} is there already"):
        grant_daemon(owner, user, ["mail"])
    with pytest.raises(LoginError, match=f"no daemon named {user} has a login"):
        revoke_daemon(owner, user)


@pytest.mark.parametrize("kind", ["server", "operator"])
def test_a_vaults_and_an_operators_login(owner: str, server_dsn: str, name: str, kind: Kind) -> None:
    """It may do what its role may and no more, has another password when granted again, and ends with its sessions."""
    first, hashed = grant(owner, kind, name), password_of(server_dsn, name)
    granted = grant(owner, kind, name)
    assert (True, False) == (first.is_new, granted.is_new)
    assert hashed != password_of(server_dsn, name)
    with psycopg.connect(granted.dsn, autocommit=True) as login:
        assert login.execute("select agent_vault.schema_version()").fetchone()
        for forbidden in ("select from public.jobs", "select * from agent_vault.claim_jobs('mail', 'a/1', 1, 60)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(forbidden)
        revoke(owner, kind, name)
        with pytest.raises(psycopg.OperationalError):
            login.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(granted.dsn)
    with pytest.raises(LoginError, match=f"no {kind} named {name} has a login: none was granted"):
        revoke(owner, kind, name)


def attempt(login: psycopg.Connection, query: str) -> str:
    """Run a statement; return what the database has against it."""
    try:
        login.execute(query)
    except psycopg.Error as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("kind", "plain"), [("daemon", "pulse"), ("server", "find_unserved"), ("operator", "list_jobs")]
)
async def test_a_type_of_its_own_runs_nothing_as_the_owner(owner: str, name: str, kind: str, plain: str) -> None:
    """A temporary type by the name of one of the catalog's is not what a function means: its check is code."""
    granted = grant_daemon(owner, name, ["mail"]) if kind == "daemon" else grant(owner, kind, name)
    with psycopg.connect(granted.dsn, autocommit=True) as login:
        functions = login.execute(
            "select p.proname, format('%I.%I(%s)', n.nspname, p.proname, concat_ws(', ', variadic array_fill("
            "'null'::text, array[p.pronargs]))) from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('agent_vault', 'public') and has_function_privilege(p.oid, 'execute')"
        ).fetchall()
        login.execute(
            "create function pg_temp.evil() returns boolean language plpgsql as $$ begin"
            " if current_user <> session_user then raise exception 'it ran as %', current_user; end if;"
            " return true; end $$"
        )
        for one in SHADOWED:
            login.execute(f"create domain pg_temp.{one} as pg_catalog.{one} check (pg_temp.evil())")
        said = {function: attempt(login, f"select count(*) from {call}") for function, call in functions}
    assert [] == [(function, error) for function, error in said.items() if "it ran as" in error]
    assert "" == said[plain]


def test_a_login_is_of_one_kind(owner: str, name: str) -> None:
    """What was granted as one kind is neither granted nor revoked as another."""
    grant(owner, "server", name)
    for refused in (
        lambda: grant(owner, "operator", name),
        lambda: grant_daemon(owner, name, ["mail"]),
        lambda: revoke(owner, "operator", name),
        lambda: revoke_daemon(owner, name),
    ):
        with pytest.raises(LoginError, match=f"{name} (is there already|has a login)"):
            refused()
    revoke(owner, "server", name)


def test_a_login_that_somebody_made_stays(owner: str, name: str) -> None:
    """A role that was given a vault's rights by hand is nobody's to drop."""
    with psycopg.connect(owner, autocommit=True) as admin:
        (group,) = admin.execute("select agent_vault.role_name('server')").fetchone()
        admin.execute(f"create role {name} login in role {group}")
        with pytest.raises(LoginError, match=f"no server named {name} has a login"):
            revoke(owner, "server", name)
        with pytest.raises(LoginError, match=f"a role named {name} is there already"):
            grant(owner, "server", name)
        admin.execute(f"drop role {name}")


def test_without_the_roles_it_says_what_to_do(blank_dsn: str, name: str) -> None:
    """Where migrate could not make them, nothing is granted."""
    migrate(blank_dsn)
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        group = f"vault_daemon_{conninfo_to_dict(blank_dsn)['dbname']}"
        admin.execute(f"alter role {group} rename to {group}_of_old")
        try:
            with pytest.raises(LoginError, match=f"no role {group}: run agent-vault migrate as a role that may"):
                grant_daemon(blank_dsn, name, ["mail"])
        finally:
            admin.execute(f"alter role {group}_of_old rename to {group}")


def test_the_password_is_nowhere_but_in_the_string(owner: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gets a hash, which its log may show, and the text of the grant shows no string."""
    monkeypatch.setattr(logins, "token_urlsafe", lambda _: "canary")
    granted = grant_daemon(owner, name, ["mail"])
    assert "canary" in granted.dsn
    assert "canary" not in repr(granted)
    with psycopg.connect(owner) as connection:
        texts = connection.execute("select query from pg_stat_activity where query is not null").fetchall()
    assert not [text for (text,) in texts if "canary" in text]
    revoke_daemon(owner, name)


class Info:
    """What psycopg knows of a connection."""

    def __init__(self, parameters: dict[str, str], **parts: Any) -> None:
        """Take it as it would say it."""
        self.get_parameters: Callable[[], dict[str, str]] = lambda: parameters
        self.user, self.host, self.port, self.dbname = (parts[key] for key in ("user", "host", "port", "dbname"))


@pytest.mark.parametrize(
    ("expected", "parts", "parameters"),
    [
        (
            "postgresql://mac.abcd:p%40ss@aws-0-eu-central-1.pooler.supabase.com:5432/postgres?sslmode=require",
            {"user": "postgres.abcd", "host": "aws-0-eu-central-1.pooler.supabase.com", "dbname": "postgres"},
            {"sslmode": "require", "passfile": "/home/me/.pgpass", "sslkey": "/home/me/key"},
        ),
        (
            "postgresql://mac:p%40ss@db.abcd.supabase.co:5432/a%2Fb",
            {"host": "db.abcd.supabase.co", "dbname": "a/b"},
            {},
        ),
        ("postgresql://mac:p%40ss@10.0.0.7:5432/vault", {"user": "jo.doe", "host": "10.0.0.7"}, {}),
        ("postgresql://mac:p%40ss@[::1]:5432/vault", {"host": "::1"}, {"options": "-c search_path=mine"}),
        (
            "postgresql://mac:p%40ss@a.pooler.supabase.com:5432/vault?options=reference%3Dabcd",
            {"host": "a.pooler.supabase.com"},
            {"options": "reference=abcd"},
        ),
        ("postgresql://mac:p%40ss@:5432/vault?host=%2Frun%2Fpg", {"host": "/run/pg"}, {}),
    ],
)
def test_the_string_of_a_login(expected: str, parts: dict[str, Any], parameters: dict[str, str]) -> None:
    """It leads where the owner's does, has the project at Supabase's pooler, and nothing else of the owner's."""
    info: Any = Info(parameters, **{"user": "postgres", "port": 5432, "dbname": "vault", **parts})
    assert expected == login_dsn(info, "mac", "p@ss")
    assert {"user", "password"} < set(conninfo_to_dict(expected))
