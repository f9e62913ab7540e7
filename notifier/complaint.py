"""Say a lasting trouble when it begins, and then ever more seldom: a Mac may be without a network all night."""

import asyncio

import psycopg
import structlog

from sql.connecting import explain

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0

log = structlog.get_logger()


class Complaint:
    """One trouble at a time, until `over()`."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.said = False
        self._next: float = 0.0
        self._last: float = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._what: object = None

    def __call__(self, event: str, **facts: object) -> None:
        """Log the event as an error, or keep quiet."""
        now, what = asyncio.get_running_loop().time(), (event, facts.get("error"), facts.get("remedy"))
        if not self.said or what != self._what:  # another cause needs another remedy
            self._next, self._pause_s = (
                (min(self._next, self._last + FIRST_PAUSE_S) if self.said else now),
                FIRST_PAUSE_S,
            )
        if now < self._next:
            return
        self._what, self._last = what, now
        self.said, self._next = True, now + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
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
