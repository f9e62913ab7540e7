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
    return _torn(dsn)


def _torn(dsn: str) -> str | None:
    """Say what is wrong with a string that does not come apart as its writer meant it."""
    # An exception of libpq quotes the string, so none may become the cause or the context of ours.
    try:
        parts = conninfo_to_dict(dsn)
    except ProgrammingError:
        return (
            f"the connection string does not parse: write it as {_SHAPE}, without quotes, "
            "and percent-encode what is not a letter or a digit in the password"
        )
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    hosts = str(parts.get("host", "")).split(",")
    # the first character aside: there it means an abstract socket
    if any("@" in host[1:] for host in hosts) or not all(port.isdecimal() for port in ports):
        # such a host is the rest of the password: it must be neither resolved nor shown
        return (
            "the connection string is torn at a character of its password: percent-encode what is not a letter "
            "or a digit there (@ is %40, / is %2F, # is %23)"
        )
    return None
