"""What is wrong with a Postgres connection string, as far as that shows without a network."""

import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

# Supabase's [YOUR-PASSWORD] and a manual's <password>: a word in brackets. An IPv6 host has a colon between them.
_PLACEHOLDER = re.compile(r"\[[a-z][a-z _-]*\]|<[a-z][a-z _-]*>|(?:^|[:/@=])\.\.\.", re.IGNORECASE)
_SHAPE = "postgresql://user:password@host:5432/database"


class DsnError(ValueError):
    """The connection string cannot be used; the message says why and what to do, and quotes none of it."""


def check_dsn(text: str) -> str:
    """Return the connection string without surrounding white space; raises DsnError."""
    dsn = text.strip()
    if reason := _wrong(dsn):
        raise DsnError(reason)
    return dsn


def _wrong(dsn: str) -> str | None:
    if not dsn:
        return f"the connection string is empty: write it as {_SHAPE}"
    if dsn.startswith("psql "):
        return "the connection string begins with the command psql: leave out that word and any quotes"
    if re.match(r"https?://", dsn, re.IGNORECASE):
        return f"this is a web address, no connection string: copy the one that looks like {_SHAPE}"
    if _PLACEHOLDER.search(dsn):
        return (
            "a placeholder is left in the connection string: put the real value there "
            "(brackets that belong to a password are written %5B %5D, < > %3C %3E, a dot %2E)"
        )
    if not _parses(dsn):
        return (
            f"the connection string does not parse: write it as {_SHAPE}, without quotes, "
            "and percent-encode what is not a letter or a digit in the password"
        )
    return None


def _parses(dsn: str) -> bool:
    # An exception of libpq quotes the string, so none may become the cause or the context of ours.
    try:
        conninfo_to_dict(dsn)
    except ProgrammingError:
        return False
    return True
