"""Queues in which events wait and that no daemon serves: a name that is mistyped somewhere, or a Mac that sleeps."""

import math
from collections.abc import Sequence
from typing import Final

import structlog

from sql.housekeeping import UnservedQueue

AFTER_S: Final = 300.0
AGAIN_S: Final = 600.0

log = structlog.get_logger()


class Unserved:
    """Says it of a queue at once, and while it lasts every ten minutes."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said_at: dict[str, float] = {}

    def tell(self, found: Sequence[UnservedQueue], now: float) -> None:
        """Log those of which it is time to, at `now` on the monotonic clock; the others are forgotten."""
        self._said_at = {one.queue: self._said_at.get(one.queue, -math.inf) for one in found}
        for one in found:
            if now - self._said_at[one.queue] >= AGAIN_S:
                self._said_at[one.queue] = now
                facts = {"queue": one.queue, "count": one.count, "oldest_s": round(one.oldest_s)}
                log.warning("queue_not_served", **facts, remedy=remedy(one.queue))


def remedy(queue: str) -> str:
    """Say what may be the matter; a Mac that sleeps is an ordinary one."""
    return (
        f"nobody claims from queue {queue}: is a daemon with DAEMON_QUEUES={queue} running? "
        "(one that sleeps goes on when it wakes; [[queues]] of the vault's file say which event goes there)"
    )
