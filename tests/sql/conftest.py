"""What the tests of the schema share: databases like Supabase's, an install to adopt, an ear for notifications."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import servers
from ear import Ear
from psycopg.conninfo import conninfo_to_dict, make_conninfo

API_ROLES = {"anon": "noinherit", "authenticated": "noinherit", "service_role": "noinherit bypassrls"}
OLD_INSTALL = Path(__file__).with_name("old_install.sql").read_text("utf-8")


@pytest.fixture
def listen() -> Iterator[Callable[[str], Ear]]:
    """Opens ears to a database."""
    with contextlib.ExitStack() as stack:
        yield lambda dsn: Ear(stack.enter_context(psycopg.connect(dsn, autocommit=True)))


@pytest.fixture
def ear(dsn: str, listen: Callable[[str], Ear]) -> Ear:
    """An ear to the test's migrated database."""
    return listen(dsn)


@pytest.fixture
def supabase(server_dsn: str) -> Iterator[Callable[[], str]]:
    """Makes databases as a Supabase project has them, and gives the DSN of the migrating role, no superuser.

    Roles belong to the whole server: what was not there before is gone after the test.
    """
    migrator = f"migrator_{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(server_dsn, autocommit=True))
        there = {name for (name,) in admin.execute("select rolname from pg_roles").fetchall()}
        for role, options in {**API_ROLES, migrator: "login password 'secret' createrole bypassrls"}.items():
            if role not in there:
                admin.execute(f"create role {role} {options}")
                stack.callback(admin.execute, f"drop role {role}")
        admin.execute(f"grant {', '.join(API_ROLES)} to {migrator}")

        def new_database() -> str:
            dsn = stack.enter_context(servers.database(server_dsn))
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"alter database {conninfo_to_dict(dsn)['dbname']} owner to {migrator}")
                connection.execute(f"grant usage on schema public to {', '.join(API_ROLES)}")
                for kind in ("tables", "sequences", "functions"):
                    connection.execute(
                        f"alter default privileges for role {migrator} in schema public"
                        f" grant all on {kind} to {', '.join(API_ROLES)}"
                    )
            return make_conninfo(dsn, user=migrator, password="secret")

        yield new_database


@pytest.fixture
def project(supabase: Callable[[], str]) -> str:
    """The DSN of an empty Supabase project's migrating role."""
    return supabase()


@pytest.fixture
def old_install(project: str) -> str:
    """A Supabase project that an earlier schema file set up."""
    with psycopg.connect(project) as connection:
        connection.execute(OLD_INSTALL)
    return project


@contextlib.contextmanager
def api_call(dsn: str, role: str) -> Iterator[psycopg.Connection]:
    """Run the block as PostgREST runs a call: in a transaction with the role of the request's key."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"set local role {role}")
        yield connection


@pytest.fixture
def api() -> Callable[[str, str], contextlib.AbstractContextManager[psycopg.Connection]]:
    """Makes calls with the role of an API key."""
    return api_call
