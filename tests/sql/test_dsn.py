"""What check_dsn says of a connection string."""

import re

import pytest

from sql.dsn import DsnError, check_dsn

CANARY = "canary7"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:canary7@host:5432/database",
        "postgres://user:p%40ss@[fe80::1]:5432/database?sslmode=require",
        "postgresql://postgres.abcd:pa[1]ss@aws-0-eu-west-1.pooler.supabase.com:5432/postgres",
        "host=/run/postgresql dbname=database user=me",
        "service=vault",
        "host=@abstract dbname=database",
        "host=one,two port=5432,5433 dbname=database",
    ],
)
def test_usable(dsn: str) -> None:
    """What libpq takes is returned as it is."""
    assert dsn == check_dsn(dsn)


def test_white_space_around_it_is_left_out() -> None:
    """A final newline, which libpq would take into the database's name, goes."""
    assert "postgresql://host/database" == check_dsn(" postgresql://host/database\n")


@pytest.mark.parametrize(
    ("dsn", "reason", "remedy"),
    [
        ("", "is empty", "write it as postgresql://"),
        (" \n", "is empty", "write it as postgresql://"),
        ("psql postgresql://user:canary7@host/database", "begins with the command psql", "leave out that word"),
        ("https://canary7.supabase.co", "web address", "copy the one that looks like postgresql://"),
        ("postgresql://canary7:[YOUR-PASSWORD]@host:5432/postgres", "placeholder", "put the real value"),
        ("postgresql://canary7:<password>@host:5432/postgres", "placeholder", "put the real value"),
        ("postgresql://canary7:...@host:5432/postgres", "placeholder", "put the real value"),
        ("postgresql://postgres.[project-ref]:canary7@host/postgres", "placeholder", "put the real value"),
        ("postgresql://user:canary7%zz@host/database", "does not parse", "percent-encode"),
        ("'postgresql://user:canary7@host/database'", "does not parse", "without quotes"),
        ("postgresql+asyncpg://user:canary7@host/database", "does not parse", "write it as postgresql://"),
        ("postgresql://user:pass@canary7@host:5432/database", "torn at a character of its password", "@ is %40"),
        ("postgresql://user:canary7/word@host:5432/database", "torn at a character of its password", "/ is %2F"),
        ("postgresql://user@host:canary7/database", "torn at a character of its password", "percent-encode"),
        (CANARY, "does not parse", "write it as postgresql://"),
    ],
)
def test_refused(dsn: str, reason: str, remedy: str) -> None:
    """Each mistake has its reason and remedy, and none of the string is repeated."""
    with pytest.raises(DsnError, match=f"{re.escape(reason)}.*{re.escape(remedy)}") as caught:
        check_dsn(dsn)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
