"""Whether deliveries go to Postgres at once, or past it."""

from collections.abc import Callable

import structlog

from notifier.complaint import Complaint

log = structlog.get_logger()


class Circuit:
    """Open while Postgres is known to be away, slow or too old: nobody then waits for it to find that out again."""

    def __init__(self, fits: Callable[[], bool] = lambda: True) -> None:
        """Take who knows whether the schema and the login can be used, and says so."""
        self._fits = fits
        self._complain = Complaint()
        self._tripped = False

    @property
    def closed(self) -> bool:
        """Whether a delivery may go to Postgres at once."""
        return self.usable and not self._tripped

    @property
    def usable(self) -> bool:
        """Whether Postgres may be tried at all: not with a schema that is too old, or a login that may not record."""
        return self._fits()

    def trip(self, error: str | None = None) -> None:
        """Open it, and say why, once in a while, where nobody else has."""
        self._tripped = True
        if error is not None and self.usable:
            self._complain("database_away", error=error)

    def mend(self) -> None:
        """Close it."""
        self._tripped = False
        if self._complain.over():
            log.info("database_back")
