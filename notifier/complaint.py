"""Say a lasting trouble when it begins, and then ever more seldom: a Mac may be without a network all night."""

import asyncio
from collections.abc import Callable

import psycopg
import structlog

from sql.connecting import explain

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0

log = structlog.get_logger()


class Complaint:
    """One trouble at a time, until `over()`."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Begin with nothing said; a thread without a loop brings its clock, in seconds."""
        self.said = False
        self._now = now
        self._said_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._cause: object = None

    def __call__(self, event: str, **facts: object) -> None:
        """Log the event as an error, or keep quiet."""
        now = self._now() if self._now else asyncio.get_running_loop().time()
        cause = (event, facts.get("error"), facts.get("remedy"))
        is_new = not self.said or cause != self._cause
        # another cause needs another remedy, and yet there is no more than a line in ten seconds
        if self.said and now - self._said_at < (FIRST_PAUSE_S if is_new else self._pause_s):
            return
        self._pause_s = FIRST_PAUSE_S if is_new else min(self._pause_s * 2, LONGEST_PAUSE_S)
        self.said, self._said_at, self._cause = True, now, cause
        log.error(event, **facts)

    def over(self) -> bool:
        """Forget the trouble; return whether anything had been said of it."""
        was, self.said = self.said, False
        return was


def one_line(error: Exception) -> str:
    """Return an error's text in one line: psycopg's have several, and those of a connection may quote its string."""
    if isinstance(error, psycopg.OperationalError):
        return explain(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return " ".join(error.diag.message_primary.split())
    return " ".join(str(error).split()) or type(error).__name__
