"""The Postgres server that the tests run on: embedded by default, a container, or a DSN."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from vault.embedded import EmbeddedPostgres


def choice() -> str:
    """What TEST_DATABASE asks for: embedded, container, or a DSN."""
    return os.environ.get("TEST_DATABASE", "embedded")


@contextlib.contextmanager
def embedded() -> Iterator[str]:
    """Run an embedded server without fsync, which no test here relies on, for the length of the block."""
    # beside the system's temporary folder: a path below pytest's is too long for a socket on macOS
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-test-"))
    version = int(os.environ.get("TEST_POSTGRES_VERSION", "18"))
    server = EmbeddedPostgres(folder / "pg", version=version, settings={"fsync": "off", "max_connections": "200"})
    try:
        server.start()
        yield server.dsn
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def container() -> Iterator[str]:
    """Run a server in a container; without an engine the tests that need it are skipped with the reason."""
    from docker.errors import DockerException
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.docker_client import DockerClient

    image = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:17")
    try:
        DockerClient().client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine to run {image}: {error}")
    one = PostgresContainer(image, driver=None).with_command("postgres -c max_connections=200 -c fsync=off")
    with one as running:
        yield running.get_connection_url()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Give the superuser's DSN of the server that TEST_DATABASE names."""
    asked = choice()
    if asked == "embedded":
        with embedded() as dsn:
            yield dsn
    elif asked == "container":
        with container() as dsn:
            yield dsn
    else:
        yield asked


@contextlib.contextmanager
def database(server_dsn: str, *, template: str = "template0", encoding: str = "encoding 'UTF8'") -> Iterator[str]:
    """Make a database from a template and drop it at the end, whoever is still connected, and its roles with it."""
    name = f"av_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True, client_encoding="utf8") as admin:
        make = sql.SQL("create database {} template {} " + encoding)
        admin.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield make_conninfo(server_dsn, dbname=name)
    finally:
        with psycopg.connect(server_dsn, autocommit=True, client_encoding="utf8") as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
            drop_roles(admin, name)


def drop_roles(admin: psycopg.Connection, database: str) -> None:
    """Drop the roles that are named for a database, and the logins that have them."""
    named = [f"vault_{kind}_{database}" for kind in ("server", "daemon", "operator")]
    found = admin.execute(
        "select member::regrole::text, member in (select oid from pg_roles where rolcreaterole) from pg_auth_members"
        " where roleid = any(select oid from pg_roles where rolname = any(%(named)s))"
        " union select quote_ident(rolname), false from pg_roles where rolname = any(%(named)s) order by 1",
        {"named": named},
    ).fetchall()
    for role, is_migrator in found:
        if not is_migrator:  # it made them, and was therefore given them
            admin.execute(f"drop role {role}".encode())
