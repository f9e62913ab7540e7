"""Logins for one machine each: made with a password that is told once, and ended with all that they hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_urlsafe
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from sql import supabase
from sql.migrate import SchemaTooOldError, connect, latest, read_version

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
    password = token_urlsafe(PASSWORD_BYTES)
    with connect(dsn, name="agent-vault grant") as connection:
        _check_version(connection)
        group = _group(connection)
        is_new = not _is_role(connection, name)
        if is_new:
            _check_may_create(connection)
        elif not _is_login(connection, name, group):
            raise LoginError(
                f"a role named {name} is there already, and no daemon's of this vault: choose another name"
            )
        # hashed here, so that the password is in no log of the server's
        hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("create role {} login password {}" if is_new else "alter role {} login password {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Literal(hashed)))
        connection.execute("select agent_vault.grant_daemon(%s, %s)", [name, list(queues)])
        connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(name)))
        return Granted(name, tuple(queues), is_new, login_dsn(connection.info, name, password))


def revoke_daemon(dsn: str, name: str) -> int:
    """End a daemon's login and its sessions, and give back what it holds; return how many jobs that were.

    Raises LoginError, SchemaTooOldError, ConnectError, and psycopg.Error where the database refuses.
    """
    with connect(dsn, name="agent-vault revoke") as connection:
        _check_version(connection)
        _check_granted(connection, name)
        has_role = _is_login(connection, name, _group(connection))
        role = sql.Identifier(name)
        if has_role:
            connection.execute(sql.SQL("alter role {} nologin").format(role))
            # only who has a role may end its sessions and drop what it owns
            connection.execute(sql.SQL("grant {} to current_user").format(role))
            connection.commit()  # no session begins from here on
            connection.execute(
                "select pg_terminate_backend(pid, %s) from pg_stat_activity where usename = %s", [END_MS, name]
            )
        row = connection.execute("select agent_vault.revoke_daemon(%s)", [name]).fetchone()
        if has_role:
            connection.execute(sql.SQL("drop owned by {}").format(role))
            connection.execute(sql.SQL("drop role {}").format(role))
        return row[0] if row else 0


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


def _check_version(connection: psycopg.Connection) -> None:
    found = read_version(connection)
    if found is None or found < latest():
        raise SchemaTooOldError(found, latest())


def _group(connection: psycopg.Connection) -> str:
    """Return the role that every daemon's login has."""
    row = connection.execute("select r, to_regrole(quote_ident(r)) is null from agent_vault.role_name('daemon') r")
    group, is_missing = row.fetchone() or ("", True)
    if is_missing:
        raise LoginError(f"there is no role {group}: run agent-vault migrate as a role that may create roles")
    return str(group)


def _is_role(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("select from pg_roles where rolname = %s", [name]).fetchone() is not None


def _is_login(connection: psycopg.Connection, name: str, group: str) -> bool:
    """Tell whether a role is one that was granted here."""
    found = connection.execute(
        "select from agent_vault.logins l"
        " join pg_roles r on r.rolname = l.name join pg_auth_members m on m.member = r.oid"
        " where l.name = %s and m.roleid = to_regrole(quote_ident(%s))",
        [name, group],
    )
    return found.fetchone() is not None


def _check_may_create(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "select rolname from pg_roles where rolname = current_user and (rolsuper or rolcreaterole)"
    )
    if row.fetchone() is None:
        raise LoginError(
            "the user of DATABASE_URL may not create roles: run it as one that may (on Supabase the role postgres)"
        )


def _check_granted(connection: psycopg.Connection, name: str) -> None:
    known = [known for (known,) in connection.execute("select name from agent_vault.logins order by name").fetchall()]
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "none was granted"
        raise LoginError(f"no daemon named {name} has a login: {there}")
