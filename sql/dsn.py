"""What is wrong with a Postgres connection string, as far as that shows without a network."""

import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from sql import supabase

# Supabase's [YOUR-PASSWORD] and a manual's <password>: a word in brackets. An IPv6 host has a colon between them.
_PLACEHOLDER = re.compile(
    r"\[[a-z][a-z _-]*\]|<[a-z][a-z _-]*>|\{[a-z_][\w .-]*\}|(?:^|[:/@=])\.\.\."
    r"|user:password@host\b|:PASSWORD@|[.]REF(?=[:@.])|-REGION[.]"  # those of a manual, this project's too
    r"|[.:/@=]your[-_ ]?(?:db[-_ ]?|database[-_ ]?)?(?:password|host|user|project[-_ ]?ref)\b",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    r"(?:export|set)\s|\$env:|DATABASE_URL\s*[=:]|[a-z_]\w*\s*=\s*['\"]?postgres(?:ql)?://", re.IGNORECASE
)
_URI = re.compile(r"postgres(?:ql)?://")
_BARE_IPV6 = re.compile(r"[0-9a-f]*:[0-9a-f]*:[0-9a-f:]*", re.IGNORECASE)
_QUOTES = "'\"`“”‘’„«»"  # noqa: RUF001 - word processors make them
_SHAPE = "postgresql://user:password@host:5432/database"
_ENCODE = "percent-encode what is not a letter or a digit"
_TORN = (
    f"the connection string is torn at a character of its password: {_ENCODE} there "
    "(@ is %40, / is %2F, # is %23, ? is %3F, % is %25)"
)

# what other programs add to a connection string for themselves; any other name may be a piece of the password
_FOREIGN = frozenset(
    {
        *("pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "schema"),
        *("sslaccept", "sslidentity", "supa", "workaround", "uselibpqcompat", "pool_size", "pool_mode"),
        *("prepared_statements", "prepare", "preparethreshold", "currentschema", "search_path", "statement_timeout"),
    }
)
MOST_PORT = 65_535
_UNKNOWN = re.compile(r'invalid (?:uri query parameter:|connection option) "(\w+)"')


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
    return _wrapped(dsn) or _no_string(dsn) or _unfilled(dsn) or _unprintable(dsn) or _torn(dsn) or _unusable(dsn)


def _wrapped(dsn: str) -> str | None:
    """Say what was copied along with the string."""
    if re.match(r"psql\s", dsn):
        return "the connection string begins with the command psql: leave out that word and any quotes"
    if _ASSIGNMENT.match(dsn):
        return "the connection string begins with an assignment: leave out the name, the equals sign and any quotes"
    if dsn[0] in _QUOTES or (_URI.match(dsn) and dsn[-1] in _QUOTES):
        return "the connection string stands in quotes: leave them out"
    return None


def _no_string(dsn: str) -> str | None:
    """Say what the text is in place of a connection string."""
    if re.match(r"https?://", dsn, re.IGNORECASE):
        return (
            f"this is a web address, no connection string: copy the one that looks like {_SHAPE} "
            "(supabase: Connect, Session pooler)"
        )
    if supabase.is_api_key(dsn):
        return (
            f"this is an API key, no connection string: copy the one that looks like {_SHAPE} "
            "(supabase: Connect, Session pooler)"
        )
    return None


def _unfilled(dsn: str) -> str | None:
    if _PLACEHOLDER.search(dsn):
        return (
            "a placeholder is left in the connection string: put the real value there (brackets that belong "
            "to a password are written %5B %5D, < > %3C %3E, { } %7B %7D, a dot %2E)"
        )
    return None


def _unprintable(dsn: str) -> str | None:
    """Say that something is in it that nobody sees; between key=value pairs, white space has its place."""
    seen = dsn if _URI.match(dsn) else "".join(dsn.split())
    if any(char.isspace() or not char.isprintable() for char in seen):
        return (
            "a space, a line break or a character that cannot be shown is in the connection string: copy it again, "
            "in one line (a space that belongs to a password is written %20)"
        )
    return None


def _torn(dsn: str) -> str | None:
    """Say that libpq would take a piece of the password for a host or a database, which are resolved and shown."""
    scheme = _URI.match(dsn)
    if not scheme:
        return None
    # libpq: what stands before the first @ is user and password, unless a slash comes first
    authority, _, path = dsn[scheme.end() :].partition("/")
    place = authority.partition("@")[2] or authority
    hosts = place.partition("?")[0]
    if "@" in hosts or "@" in path.partition("?")[0]:
        return _TORN
    if _BARE_IPV6.fullmatch(hosts):
        return "an ipv6 address is written in brackets in a connection string: [address]:5432"
    return None


def _unusable(dsn: str) -> str | None:
    # An exception of libpq quotes the string, so none may become the cause or the context of ours.
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    except ProgrammingError as error:
        return _unparsed(" ".join(str(error).split()).lower(), dsn)
    except UnicodeError:
        return f"the connection string is no text once its percent signs are decoded: {_ENCODE} in the password"
    ports = [port for port in parts.get("port", "").split(",") if port]
    hosts = parts.get("host", "").split(",")
    # the first character aside: there it means an abstract socket
    if any("@" in host[1:] for host in hosts) or not all(port.isdecimal() for port in ports):
        return _TORN
    if any(not 0 < int(port) <= MOST_PORT for port in ports):
        return f"the port is no number from 1 to {MOST_PORT}: it is 5432 unless your server says otherwise"
    return supabase.mistake(parts)


def _unparsed(said: str, dsn: str) -> str:
    """Say what libpq did not like."""
    if "percent-encoded" in said or "forbidden value" in said:
        return f"a % in the connection string begins no code: write %25 for it, and {_ENCODE} in the password"
    if dsn.count("@") > 1:
        return _TORN
    if found := _UNKNOWN.search(said):
        name = f"the parameter {found[1]}" if found[1] in _FOREIGN else "a parameter"
        return f"the connection string has {name} that is another program's and that libpq does not know: leave it out"
    return f"the connection string does not parse: write it as {_SHAPE}, without quotes, and {_ENCODE} in the password"
