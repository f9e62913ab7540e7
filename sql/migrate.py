"""Bring the schema up to date, in one transaction under an advisory lock; say which version it has.

A short file of our own: the migration libraries that fit (yoyo, sqitch) keep one record a step and know
nothing of functions that are replaced as a whole, of privileges that must be taken back every time, or of a
script to paste.
"""

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from sql.connecting import ConnectError
from sql.line import CONNECT_S, Statements

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# any fixed number that no other program locks: the bytes of "agentvlt"
ADVISORY_LOCK = int.from_bytes(b"agentvlt", "big")
LOCK_TIMEOUT_MS = 15_000

# a script that lies around must not put old functions into a newer schema
_GUARD = """do $$
begin
  if to_regclass('agent_vault.migrations') is not null then
    if (select max(version) from agent_vault.migrations) > {version} then
      raise exception 'the database is newer than this script (version {version}): nothing was changed';
    end if;
  end if;
end
$$;"""
# in the order in which a delivery takes them: one after the other they would meet those that wait for the second
_LOCK: Final = """do $$
begin
  if to_regclass('public.agent_learnings') is not null and to_regclass('public.jobs') is not null then
    lock table public.agent_learnings, public.jobs in access exclusive mode;
  end if;
end
$$;"""


class SchemaTooOldError(Exception):
    """The database's schema is older than this program needs; `found` is None where there is none at all."""

    def __init__(self, found: int | None, needed: int) -> None:
        """Name both versions and the command that mends it."""
        has = "no agent_vault schema" if found is None else f"schema version {found}"
        super().__init__(f"the database has {has}, this program needs {needed}: run agent-vault migrate")
        self.found = found
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of sql/migrations."""

    version: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """How many jobs have a status that is not final, and the age of the oldest."""

    status: str
    count: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migrate did: the version before (None: no schema) and after, what the database said, what is open."""

    before: int | None
    after: int
    notices: list[str] = field(default_factory=list)
    open_jobs: list[OpenJobs] = field(default_factory=list)


def _read(folder: str) -> list[tuple[str, str]]:
    """Return the name and text of each .sql file of a folder of this package, in order of name."""
    root: Traversable = files("sql").joinpath(folder)
    found = sorted((f.name, f.read_text("utf-8")) for f in root.iterdir() if f.name.endswith(".sql"))
    return [(name.removesuffix(".sql"), text) for name, text in found]


def migrations() -> list[Migration]:
    """Return all migrations, the oldest first."""
    return [Migration(int(name[:4]), name, text) for name, text in _read("migrations")]


@cache  # asked for at every pulse, also when no file can be opened
def latest() -> int:
    """Return the schema version that this code is made for."""
    return migrations()[-1].version


def routines() -> str:
    """Return the SQL of all functions and triggers, which are replaced as a whole."""
    # a function in SQL is checked when it is made, and may call one that comes later in the alphabet
    texts = ["set local check_function_bodies = off;", *(text for _, text in _read("functions"))]
    return "\n".join([*texts, files("sql").joinpath("triggers.sql").read_text("utf-8")])


def privileges() -> str:
    """Return the SQL that takes back and grants privileges, and makes the roles that have some."""
    return "\n".join(files("sql").joinpath(f"{name}.sql").read_text("utf-8") for name in ("privileges", "roles"))


def digest() -> str:
    """Return the fingerprint of the functions and triggers."""
    return sha256(routines().encode()).hexdigest()


def read_version(connection: psycopg.Connection) -> int | None:
    """Return the schema's version, or None where there is no schema of ours."""
    row = connection.execute("select to_regclass('agent_vault.migrations') is not null").fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute("select max(version) from agent_vault.migrations").fetchone()
    return row[0] if row else None


SCHEMA_VERSION = "select agent_vault.schema_version()"
NO_SCHEMA = (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName)


async def require_version(session: Statements) -> int:
    """Return the schema's version; a newer one than this code knows is fine.

    Raises SchemaTooOldError when `agent-vault migrate` must run first, and psycopg.Error.
    """
    try:
        ((found,),) = await session.fetch(SCHEMA_VERSION)
    except NO_SCHEMA:
        found = None
    return new_enough(found)


def new_enough(found: int | None) -> int:
    """Return a schema's version. Raises SchemaTooOldError."""
    if found is None or found < latest():
        raise SchemaTooOldError(found, latest())
    return found


@retry(
    retry=retry_if_exception_type(psycopg.errors.DeadlockDetected),  # with the programs that go on meanwhile
    wait=wait_random(0, 1),
    stop=stop_after_attempt(5),
    reraise=True,
)
def migrate(dsn: str, *, keep_anon: bool = False) -> Migrated:
    """Apply what is missing and put the privileges right; safe to run at any time, by many at once.

    Raises ConnectError, and psycopg.Error where the database refuses.
    """
    notices: list[str] = []
    with connect(dsn, name="agent-vault migrate") as connection:
        connection.add_notice_handler(
            lambda notice: notices.append(f"{notice.severity_nonlocalized}: {notice.message_primary}")
        )
        connection.execute("select pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        connection.execute("select set_config('lock_timeout', %s, true)", [str(LOCK_TIMEOUT_MS)])
        connection.execute("set local client_min_messages = notice")
        before = read_version(connection)
        if before is not None and before > latest():
            return Migrated(before, before)
        _apply(connection, before)
        # a warning of the migrations stays; "already exists, skipping" and the like say nothing
        notices[:] = [notice for notice in notices if not notice.startswith("NOTICE")]
        connection.execute("select set_config('agent_vault.keep_anon', %s, true)", ["on" if keep_anon else "off"])
        connection.execute(privileges().encode())
        connection.commit()  # the count may take its time, and needs none of the locks
        rows = connection.execute("select status, jobs, oldest_s from agent_vault.count_open()").fetchall()
    return Migrated(before, latest(), notices, [OpenJobs(*row) for row in rows])


def connect(dsn: str, *, name: str) -> psycopg.Connection:
    """Open the owner's connection, which begins transactions, under an application_name; raises ConnectError."""
    try:
        patient: dict[str, Any] = {"connect_timeout": int(CONNECT_S), **conninfo_to_dict(dsn)}
        dsn = make_conninfo(**patient)
        return psycopg.connect(dsn, prepare_threshold=None, application_name=name, client_encoding="utf8")
    except (psycopg.Error, UnicodeError) as error:
        failure = ConnectError.of(error, dsn)
    raise failure  # out here, for an error of psycopg quotes the string and must not become the context of ours


def _apply(connection: psycopg.Connection, before: int | None) -> None:
    """Run the migrations after version `before`, and the functions where they changed."""
    missing = [migration for migration in migrations() if migration.version > (before or 0)]
    if missing:
        connection.execute(_LOCK)
    for migration in missing:
        connection.execute(migration.text.encode())
        connection.execute(
            "insert into agent_vault.migrations (version, name) values (%s, %s) on conflict do nothing",
            [migration.version, migration.name],
        )
    row = connection.execute(
        "select functions_digest from agent_vault.migrations where version = %s", [latest()]
    ).fetchone()
    if row is None or row[0] != digest():
        connection.execute(routines().encode())
        connection.execute(
            "update agent_vault.migrations set functions_digest = %s where version = %s", [digest(), latest()]
        )


def script(*, keep_anon: bool = False) -> str:
    """Return all of it as one SQL script to paste into an SQL editor; it may be run again."""
    known = ", ".join(f"({m.version}, '{m.name}')" for m in migrations())
    parts = [
        f"-- agent-vault schema version {latest()}, made by: agent-vault migrate --print",
        "begin;",
        f"select pg_advisory_xact_lock({ADVISORY_LOCK});",
        f"set local lock_timeout = '{LOCK_TIMEOUT_MS}ms';",
        f"set local agent_vault.keep_anon = {'on' if keep_anon else 'off'};",
        _GUARD.format(version=latest()),
        _LOCK,
        *(m.text for m in migrations()),
        routines(),
        f"insert into agent_vault.migrations (version, name) values {known} on conflict do nothing;",  # noqa: S608 - ours
        f"update agent_vault.migrations set functions_digest = '{digest()}' where version = {latest()};",  # noqa: S608
        privileges(),
        "commit;",
    ]
    return "\n".join(parts) + "\n"
