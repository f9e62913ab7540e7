"""What check_dsn says of a connection string."""

import re
import traceback

import pytest
from documented import DOCUMENTED
from psycopg.conninfo import conninfo_to_dict

from sql.dsn import DsnError, check_dsn

REF = "qzjxkvwmyhbtdrfgplcn"
PASSWORD = "Xq7ZkWv9"
POOLER = "aws-0-eu-west-1.pooler.supabase.com"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.Zk3-vQ_x8Wm"
GENERIC = {
    *("postgres", "postgresql", "supabase", "pooler", "user", "host", "password", "database", "project", "your"),
    *("psql", "true", "5432", "pgbouncer", "connection", "limit"),
}


def uri(password: str = PASSWORD, user: str = f"postgres.{REF}", host: str = POOLER, rest: str = "/postgres") -> str:
    """A string as Supabase shows it."""
    return f"postgresql://{user}:{password}@{host}:5432{rest}"


def pieces(dsn: str) -> set[str]:
    """Every four characters in a row of the words of a string, less the words that say nothing."""
    words = set(re.split(r"[^a-z0-9]+", dsn.lower())) - GENERIC
    return {word[at : at + 4] for word in words for at in range(len(word) - 3)}


def told(error: BaseException) -> str:
    """All that a log could show of an exception."""
    chain = [error, error.__cause__, error.__context__]
    return "\n".join([*map(repr, chain), *traceback.format_exception(error)[-1:]]).lower()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:canary7@host:5432/database",
        "postgres://user:p%40ss@[fe80::1]:5432/database?sslmode=require",
        "postgres://user@[fe80::1%25eth0]/database",
        "postgres://user@[2a05:d018::abcd],[::1]/database",
        "host=fe80::1 dbname=database",
        "postgresql://postgres.abcd:pa[1]ss@aws-0-eu-west-1.pooler.supabase.com:5432/postgres",
        "postgresql://postgres.abcd:pass@aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
        "postgresql://postgres:pass@aws-0-eu-west-1.pooler.supabase.com/postgres?options=reference%3Dabcd",
        "postgresql://postgres:pass@db.abcdefghijklmnopqrst.supabase.co:6543/postgres",
        "postgresql://user:pass@host/database?ssl=true",
        "postgresql://user:pa:ss@host/database",
        "postgresql:///database?host=/run/postgresql&user=me@there",
        "host=/run/postgresql dbname=database user=me",
        "host=host\n  password='two words' \t user=me",
        "service=vault",
        "host=@abstract dbname=database",
        "postgresql://%40abstract/database",
        "host=one,two port=5432,5433 dbname=database",
    ],
)
def test_usable(dsn: str) -> None:
    """What libpq takes is returned as it is."""
    assert dsn == check_dsn(dsn)


@pytest.mark.parametrize("password", ["pa#ss", "pa?ss", "#pass", "pass?", "pa#s?s"])
def test_what_libpq_reads_as_it_was_meant(password: str) -> None:
    """A # or ? in a password stays in it: libpq, unlike a browser, ends the password at the @ alone."""
    assert password == conninfo_to_dict(check_dsn(uri(password)))["password"]


def test_white_space_around_it_is_left_out() -> None:
    """A final newline, which libpq would take into the database's name, goes."""
    assert "postgresql://host/database" == check_dsn(" postgresql://host/database\n")


@pytest.mark.parametrize(
    ("dsn", "reason", "remedy"),
    [
        ("", "is empty", "write it as postgresql://"),
        (" \n", "is empty", "write it as postgresql://"),
        # what was copied along
        (f"psql {uri()}", "begins with the command psql", "leave out that word"),
        (f"psql '{uri()}'", "begins with the command psql", "leave out that word and any quotes"),
        (f'psql "{uri()}"', "begins with the command psql", "leave out that word and any quotes"),
        (f"psql -h {POOLER} -U postgres.{REF}", "begins with the command psql", "leave out that word"),
        (f"export DATABASE_URL={uri()}", "begins with an assignment", "leave out the name"),
        (f"export DATABASE_URL='{uri()}'", "begins with an assignment", "any quotes"),
        (f"DATABASE_URL={uri()}", "begins with an assignment", "leave out the name"),
        (f'DATABASE_URL="{uri()}"', "begins with an assignment", "leave out the name"),
        (f"DATABASE_URL: {uri()}", "begins with an assignment", "leave out the name"),
        (f"DIRECT_URL = '{uri()}'", "begins with an assignment", "leave out the name"),
        (f"$env:DATABASE_URL = '{uri()}'", "begins with an assignment", "leave out the name"),
        (f"'{uri()}'", "stands in quotes", "leave them out"),
        (f'"{uri()}"', "stands in quotes", "leave them out"),
        (f"\u201c{uri()}\u201d", "stands in quotes", "leave them out"),
        (f"{uri()}'", "stands in quotes", "leave them out"),
        # another text
        (f"https://{REF}.supabase.co", "web address", "copy the one that looks like postgresql://"),
        (f"https://supabase.com/dashboard/project/{REF}", "web address", "Connect, Session pooler"),
        (JWT, "this is an API key", "copy the one that looks like postgresql://"),
        (f"sb_secret_{PASSWORD}", "this is an API key", "copy the one that looks like postgresql://"),
        (uri(JWT), "the password in the connection string is an API key", "the database's own password"),
        (uri(f"sb_secret_{PASSWORD}_x"), "the password in the connection string is an API key", "Reset database"),
        (uri(f"sb_publishable_{PASSWORD}"), "the password in the connection string is an API key", "own password"),
        (f"host={POOLER} user=postgres.{REF} password={JWT}", "is an API key", "the database's own password"),
        (f"{REF}.supabase.co", "does not parse", "write it as postgresql://"),
        (f"db.{REF}.supabase.co:5432", "does not parse", "write it as postgresql://"),
        (PASSWORD, "does not parse", "write it as postgresql://"),
        (uri().replace("://", "+asyncpg://"), "does not parse", "write it as postgresql://"),
        # placeholders
        (uri("[YOUR-PASSWORD]"), "placeholder", "put the real value"),
        (uri("[YOUR_PASSWORD]"), "placeholder", "put the real value"),
        (uri("YOUR-PASSWORD"), "placeholder", "put the real value"),
        (uri("PASSWORD"), "placeholder", "put the real value"),
        (uri(user="postgres.REF"), "placeholder", "put the real value"),
        (uri("<password>"), "placeholder", "put the real value"),
        (uri("..."), "placeholder", "put the real value"),
        (uri("${DB_PASSWORD}"), "placeholder", "put the real value"),
        (uri(user="postgres.[project-ref]"), "placeholder", "put the real value"),
        (uri("[YOUR-PASSWORD]", host="[fe80::1]"), "placeholder", "put the real value"),
        # characters of a password that mean something else in a URI
        (uri("Xq7Z@kWv9Jt"), "torn at a character of its password", "@ is %40"),
        (uri("@Xq7ZkWv9"), "torn at a character of its password", "@ is %40"),
        (uri("Xq7ZkWv9@"), "torn at a character of its password", "@ is %40"),
        (uri("Xq7Z/kWv9"), "torn at a character of its password", "/ is %2F"),
        (uri("Xq7Z#/kWv9"), "torn at a character of its password", "# is %23"),
        (uri("9753/kWv9"), "torn at a character of its password", "/ is %2F"),
        (uri("Xq7Z@kWv9/JtNb"), "torn at a character of its password", "/ is %2F"),
        (uri("Xq7Z@kWv9?JtNb"), "torn at a character of its password", "? is %3F"),
        (uri("Xq7Z?kWv9/JtNb"), "torn at a character of its password", "/ is %2F"),
        (uri("Xq7Z%kWv9"), "a % in the connection string begins no code", "write %25"),
        (uri("Xq7ZkWv9%"), "a % in the connection string begins no code", "write %25"),
        (uri("Xq7Z%00kWv9"), "a % in the connection string begins no code", "write %25"),
        (uri("Xq7Z%ffkWv9"), "no text once its percent signs are decoded", "percent-encode"),
        (f"postgresql://postgres@{POOLER}:{PASSWORD}/postgres", "torn at a character", "percent-encode"),
        (uri("Xq7Z kWv9"), "a space, a line break", "copy it again"),
        (uri("Xq7Z\nkWv9"), "a space, a line break", "copy it again"),
        (uri("Xq7Z\u200bkWv9"), "a character that cannot be shown", "copy it again"),
        (uri("Xq7Z\0kWv9"), "a character that cannot be shown", "copy it again"),
        (uri("Xq7Z\udcffkWv9"), "a character that cannot be shown", "copy it again"),
        (uri(host="2a05:d018::9b3c"), "an ipv6 address is written in brackets", "[address]:5432"),
        # other programs' parameters
        (uri(rest="/postgres?pgbouncer=true"), "the parameter pgbouncer", "leave it out"),
        (uri(rest="/postgres?sslmode=require&connection_limit=1"), "the parameter connection_limit", "leave it out"),
        (uri(rest=f"/postgres?{PASSWORD}=1"), "has a parameter that", "leave it out"),
        (f"host={POOLER} user=postgres.{REF} pgbouncer=true", "the parameter pgbouncer", "leave it out"),
        # Supabase's own
        (uri(user="postgres"), "the user in the connection string has no project", "postgres.REF"),
        (uri(user="postgres."), "the user in the connection string has no project", "postgres.REF"),
        (f"host={POOLER} user=postgres", "the user in the connection string has no project", "Session pooler"),
        (uri(user="postgres", host=f"{REF}.supabase.co"), "is no database", "Connect, Session pooler"),
    ],
)
def test_refused(dsn: str, reason: str, remedy: str) -> None:
    """Each mistake has its reason and remedy, and nothing that could be logged repeats a part of the string."""
    with pytest.raises(DsnError, match=f"{re.escape(reason)}.*{re.escape(remedy)}") as caught:
        check_dsn(dsn)
    assert caught.value.__context__ is None
    assert [] != [message for message in DOCUMENTED if message in str(caught.value)]
    assert [] == [piece for piece in pieces(dsn) if piece in told(caught.value)]
