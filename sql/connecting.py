"""Why no connection could be opened, in words for a person: cause and remedy, nothing of the connection string."""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sql import troubles

_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f:.]*(?:%\w+)?", re.IGNORECASE)
_PREAMBLE = re.compile(
    r"connection (?:failed|is bad): |connection to server (?:at|on socket) \S+(?: \(\S+\))?(?:, port \d+)? failed: "
    r"|\b(?:FATAL|PANIC|ERROR): +"
)
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'|«[^»]*»|»[^«]*«|„[^“]*“|“[^”]*”|`[^`']*[`']")
_SHORT = 3  # a value of so few characters would be found in any word


class ConnectError(psycopg.OperationalError):
    """No connection was opened; the message says why and what to do, and quotes nothing of the connection string.

    Raised without cause or context, whose texts would.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        """Take the message, and the SQLSTATE where the server gave one."""
        super().__init__(message)
        self.sqlstate = sqlstate

    @classmethod
    def of(cls, error: Exception, dsn: str) -> "ConnectError":
        """Translate an error of connecting with this string."""
        return cls(explain(error, dsn), error.sqlstate if isinstance(error, psycopg.Error) else None)


def explain(error: Exception, dsn: str = "") -> str:
    """Return an error's cause and remedy in one line, or else its own line, less all that may be of the string."""
    if isinstance(error, ConnectError):
        return str(error)
    if isinstance(error, TimeoutError):
        return str(troubles.NO_ANSWER)
    if isinstance(error, UnicodeError):  # Python's, of a host name that no resolver takes
        return str(troubles.BAD_HOST)
    # a server's error has its statement and its place in ours in its text, and its reason alone here
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    said = " ".join((primary or str(error)).split())
    # no word of a host's or a user's name may decide
    found = troubles.find(_covered(said), error.sqlstate if isinstance(error, psycopg.Error) else None)
    if found == troubles.UNREACHABLE and _IPV6.search(said) and not _IPV4.search(said):
        found = troubles.ONLY_IPV6
    return str(found) if found else _redacted(said, dsn).lower() or type(error).__name__


def _covered(said: str) -> str:
    return _QUOTED.sub("***", _PREAMBLE.sub("", said))


def _redacted(said: str, dsn: str) -> str:
    """Cover what is quoted, every address, and the string's own words wherever they stand."""
    said = _IPV6.sub("***", _IPV4.sub("***", _covered(said)))
    for word in sorted(_words(dsn), key=len, reverse=True):
        said = re.sub(re.escape(word), "***", said, flags=re.IGNORECASE)
    return said.strip()


def _words(dsn: str) -> set[str]:
    """Return the values of a connection string and their parts, but for what is too short or says nothing."""
    try:
        parts = conninfo_to_dict(dsn)
    except (psycopg.ProgrammingError, UnicodeError):
        return set()
    named = [str(parts.get(name, "")) for name in ("host", "hostaddr", "user", "password", "dbname")]
    words = {word for value in named for word in (value, *re.split(r"[.,]", value))}
    return {word for word in words if len(word) > _SHORT} - {"postgres", "supabase", "pooler"}
