"""Fixtures that all tests share: one database a test, made from a migrated template."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import servers
from psycopg.conninfo import conninfo_to_dict

from sql.migrate import migrate
from sql.session import Session


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """The superuser's DSN of the test server."""
    with servers.server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template(server_dsn: str) -> Iterator[str]:
    """The name of a migrated database that tests copy."""
    with servers.database(server_dsn) as dsn:
        migrate(dsn)
        yield str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def blank_dsn(server_dsn: str) -> Iterator[str]:
    """A database of this test's own, with nothing in it."""
    with servers.database(server_dsn) as dsn:
        yield dsn


@pytest.fixture
def dsn(server_dsn: str, template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    with servers.database(server_dsn, template=template) as one:
        yield one


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection]:
    """A superuser's autocommit connection to the test's database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def session(dsn: str) -> AsyncIterator[Session]:
    """The programs' own kind of connection to the test's database."""
    one = Session(dsn, name="test")
    yield one
    await one.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a database, so that CI can run just that on another server."""
    for item in items:
        if "server_dsn" in getattr(item, "fixturenames", ()):
            item.add_marker("database")
            item.user_properties.append(("database", "yes"))  # for whoever reads the result file
