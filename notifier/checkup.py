"""What both `doctor` commands look at: the settings as they count, and the database from here."""

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import psycopg

from notifier.complaint import one_line
from notifier.configuration import NOTES, label, redacted
from notifier.echo import Echo
from notifier.refusals import Found
from sql.line import Connection, Line, connect
from sql.migrate import SchemaTooOldError, latest, require_version

STATEMENT_S: Final = 10.0
SWALLOWED: Final = (
    "swallowed on the way: a pooler in transaction mode takes LISTEN and forgets it, and a daemon polls instead; "
    "take the session pooler's string, port 5432"
)
_PROVEN: Final = {
    "verify-full": "encrypted, and the server is proven (sslmode=verify-full)",
    "verify-ca": "encrypted; any host of the authority could stand in for the server: say sslmode=verify-full",
}
_UNPROVEN: Final = "encrypted; the server is not proven, so another could stand in for it: say sslmode=verify-full"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, what there is to say of it, and whether it is in order."""

    what: str
    said: str
    ok: bool = True

    def __str__(self) -> str:
        """Tell a person in a line."""
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.what}: {self.said}"


def settings_lines(found: Found) -> Iterator[str]:
    """Give a line for each setting that has a value, a secret's being ***, with where it was found."""
    origins = {label(found.cls, field): f"  ({origin})" for field, origin in found.origins.items()}
    shown = {name: text for name, text in redacted(found.cls, found.right).items() if text}
    width = max(map(len, shown), default=0)
    return (f"{name:{width}}  {text}{origins.get(name.partition('[')[0], '')}" for name, text in shown.items())


def settings_findings(found: Found) -> list[Finding]:
    """Say what is wrong with the settings, and what of them is ignored."""
    return [Finding("setting", line, ok=False) for line in dict.fromkeys((*found.wrong, *found.right.get(NOTES, ())))]


async def examine_database(dsn: str, *, name: str) -> list[Finding]:
    """Look at the database: the way to it, the encryption, the schema and whether notifications arrive."""
    began = time.monotonic()
    async with AsyncExitStack() as opened:
        try:
            connection = await connect(dsn, name=name)
            reached = Finding("database", f"reached in {(time.monotonic() - began) * 1000:.0f} ms")
            opened.push_async_callback(connection.close)
            other = await connect(dsn, name=name)  # a notification proves something only from another connection
            opened.push_async_callback(other.close)
        except psycopg.Error as error:
            return [Finding("database", one_line(error), ok=False)]
        line = Line(connection, deadline_s=STATEMENT_S)
        return [
            reached,
            Finding("encryption", encryption(connection)),
            await _schema(line),
            await _notifications(connection, Line(other, deadline_s=STATEMENT_S)),
        ]


def encryption(connection: Connection) -> str:
    """Say how a connection is protected on its way, as libpq made it."""
    pgconn = connection.pgconn
    if pgconn.ssl_in_use:
        modes = [option.val for option in pgconn.info if option.keyword == b"sslmode"]
        return _PROVEN.get((modes[0] or b"").decode() if modes else "", _UNPROVEN)
    if pgconn.host.startswith((b"/", b"@")) or ip_address(pgconn.hostaddr.decode()).is_loopback:
        return "none, and none is needed: the database is reached without leaving this machine"
    return "NONE: whoever is on the way reads the events, and can change them; the settings allow it"


async def _schema(line: Line) -> Finding:
    try:
        found = await require_version(line)
    except (SchemaTooOldError, psycopg.Error) as error:
        return Finding("schema", one_line(error), ok=False)
    newer = f", newer than this program's {latest()}, which is fine" if found > latest() else ""
    return Finding("schema", f"version {found}{newer}")


async def _notifications(connection: Connection, sender: Line) -> Finding:
    try:
        arrives = await Echo(connection, _ignore).comes_back(sender)
    except psycopg.Error as error:
        return Finding("notifications", one_line(error), ok=False)
    return Finding("notifications", "arrive" if arrives else SWALLOWED, ok=arrives)


def _ignore(_channel: str) -> None:
    """Hear of other channels and do nothing."""
