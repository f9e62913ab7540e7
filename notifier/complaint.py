"""Say a lasting trouble when it begins, and then no more than once in ten seconds."""

import asyncio

import structlog

LOG_EVERY_S = 10.0

log = structlog.get_logger()


class Complaint:
    """One trouble at a time, until `over()`."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.said = False
        self._next: float = 0.0

    def __call__(self, event: str, **facts: object) -> None:
        """Log the event as an error, or keep quiet."""
        now = asyncio.get_running_loop().time()
        if self.said and now < self._next:
            return
        self.said, self._next = True, now + LOG_EVERY_S
        log.error(event, **facts)

    def over(self) -> bool:
        """Forget the trouble; return whether anything had been said of it."""
        was, self.said = self.said, False
        return was


def one_line(error: Exception) -> str:
    """Return an error's text in one line: psycopg's have several."""
    return " ".join(str(error).split()) or type(error).__name__
