"""Logins for one machine or person each: made with a password that is told once, and ended with all that they hold."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any, Literal
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from sql import supabase
from sql.migrate import SchemaTooOldError, connect, latest, read_version

Kind = Literal["server", "operator"]

PASSWORD_BYTES = 24
END_MS = 5_000  # for each session of a revoked login

# of a connection string, what says how to reach the database and nothing of who does
_PASSED_ON = ("sslmode", "sslrootcert", "channel_binding")


class LoginError(Exception):
    """A login cannot be granted or revoked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A login, and the only copy of its connection string."""

    name: str
    queues: tuple[str, ...]
    is_new: bool
    dsn: str = field(repr=False)


def grant_daemon(dsn: str, name: str, queues: Sequence[str]) -> Granted:
    """Make a login for the daemon of this name, or give one that there is these queues and another password.

    Raises LoginError, SchemaTooOldError, ConnectError, and psycopg.Error where the database refuses.
    """
    with _administer(dsn, "grant") as connection:
        granted = _grant(connection, "daemon", name, tuple(queues))
        connection.execute("select agent_vault.grant_daemon(%s, %s)", [name, list(queues)])
        return granted


def grant(dsn: str, kind: Kind, name: str) -> Granted:
    """Make a login for a vault or an operator, or give one that there is another password; raises as grant_daemon."""
    with _administer(dsn, "grant") as connection:
        return _grant(connection, kind, name, ())


def revoke_daemon(dsn: str, name: str) -> int:
    """End a daemon's login and its sessions, and give back what it holds; return how many jobs that were.

    Raises LoginError, SchemaTooOldError, ConnectError, and psycopg.Error where the database refuses.
    """
    with _administer(dsn, "revoke") as connection:
        group = _group(connection, "daemon")
        _check_granted(connection, "daemon", name, group)
        has_role = _is_login(connection, "daemon", name, group)
        if has_role:
            _shut_out(connection, name)
        row = connection.execute("select agent_vault.revoke_daemon(%s)", [name]).fetchone()
        if has_role:
            _drop(connection, name)
        return row[0] if row else 0


def revoke(dsn: str, kind: Kind, name: str) -> None:
    """End the login of a vault or an operator, and its sessions; raises as revoke_daemon."""
    with _administer(dsn, "revoke") as connection:
        _check_granted(connection, kind, name, _group(connection, kind))
        _shut_out(connection, name)
        _drop(connection, name)


@contextlib.contextmanager
def _administer(dsn: str, what: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with connect(dsn, name=f"agent-vault {what}") as connection:
        found = read_version(connection)
        if found is None or found < latest():
            raise SchemaTooOldError(found, latest())
        yield connection


def _grant(connection: psycopg.Connection, kind: str, name: str, queues: tuple[str, ...]) -> Granted:
    password = token_urlsafe(PASSWORD_BYTES)
    group = _group(connection, kind)
    is_new = not _is_role(connection, name)
    if is_new:
        _check_may_create(connection)
    elif not _is_login(connection, kind, name, group):
        raise LoginError(f"a role named {name} is there already, and no {kind}'s of this vault: choose another name")
    # hashed here, so that the password is in no log of the server's
    hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    role = sql.Identifier(name)
    statement = sql.SQL("create role {} login password {}" if is_new else "alter role {} login password {}")
    connection.execute(statement.format(role, sql.Literal(hashed)))
    connection.execute(sql.SQL("comment on role {} is {}").format(role, sql.Literal(_mark(connection, kind))))
    connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), role))
    return Granted(name, queues, is_new, login_dsn(connection.info, name, password))


def _shut_out(connection: psycopg.Connection, name: str) -> None:
    """Let no session of a login begin, and end those that there are; this commits."""
    role = sql.Identifier(name)
    connection.execute(sql.SQL("alter role {} nologin").format(role))
    # only who has a role may end its sessions and drop what it owns
    connection.execute(sql.SQL("grant {} to current_user").format(role))
    connection.commit()  # no session begins from here on
    connection.execute("select pg_terminate_backend(pid, %s) from pg_stat_activity where usename = %s", [END_MS, name])


def _drop(connection: psycopg.Connection, name: str) -> None:
    role = sql.Identifier(name)
    connection.execute(sql.SQL("drop owned by {}").format(role))
    connection.execute(sql.SQL("drop role {}").format(role))


def login_dsn(info: psycopg.ConnectionInfo, name: str, password: str) -> str:
    """Return the connection string of a login to the database that a connection leads to.

    Supabase's pooler knows the project by what follows the user's name.
    """
    given = info.get_parameters()
    user, names = name, list(_PASSED_ON)
    if supabase.is_pooler(info.host):
        _, dot, project = info.user.rpartition(".")
        # a user without a project has it in the options
        user, names = name + dot + project if dot else name, [*_PASSED_ON, "options"]
    is_socket = info.host.startswith(("/", "@"))
    host = "" if is_socket else f"[{info.host}]" if ":" in info.host else info.host
    passed_on = {key: given[key] for key in names if given.get(key)}
    query = urlencode({**({"host": info.host} if is_socket else {}), **passed_on}, quote_via=quote)
    place = f"{host}:{info.port}/{quote(info.dbname, safe='')}"
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{place}" + (query and f"?{query}")


def _group(connection: psycopg.Connection, kind: str) -> str:
    """Return the role that every login of a kind has."""
    row = connection.execute("select r, to_regrole(quote_ident(r)) is null from agent_vault.role_name(%s) r", [kind])
    group, is_missing = row.fetchone() or ("", True)
    if is_missing:
        raise LoginError(f"there is no role {group}: run agent-vault migrate as a role that may create roles")
    return str(group)


def _mark(connection: psycopg.Connection, kind: str) -> str:
    """Return the comment on a role that says that it was granted here: what anybody else made is not ours to drop."""
    row = connection.execute("select current_database()").fetchone()  # a pooler may know it by another name
    return f"made by agent-vault grant {kind} in the database {row[0] if row else ''}"


def _is_role(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("select from pg_roles where rolname = %s", [name]).fetchone() is not None


def _is_login(connection: psycopg.Connection, kind: str, name: str, group: str) -> bool:
    """Tell whether a role is one that was granted here."""
    return name in _logins(connection, kind, group)


def _logins(connection: psycopg.Connection, kind: str, group: str) -> list[str]:
    """Return the logins of a kind that were granted here; a daemon's is known by its queues."""
    found = connection.execute(
        "select r.rolname from pg_roles r join pg_auth_members m on m.member = r.oid"
        " where m.roleid = to_regrole(quote_ident(%s)) and case when %s = 'daemon'"
        " then exists (select from agent_vault.logins l where l.name = r.rolname)"
        " else shobj_description(r.oid, 'pg_authid') = %s end"
        " order by 1",
        [group, kind, _mark(connection, kind)],
    )
    return [name for (name,) in found.fetchall()]


def _check_may_create(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "select rolname from pg_roles where rolname = current_user and (rolsuper or rolcreaterole)"
    )
    if row.fetchone() is None:
        raise LoginError(
            "the user of DATABASE_URL may not create roles: run it as one that may (on Supabase the role postgres)"
        )


def _check_granted(connection: psycopg.Connection, kind: str, name: str, group: str) -> None:
    known = set(_logins(connection, kind, group))
    if kind == "daemon":  # its role may be gone already
        known |= {one for (one,) in connection.execute("select name from agent_vault.logins").fetchall()}
    if name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "none was granted"
        raise LoginError(f"no {kind} named {name} has a login: {there}")
