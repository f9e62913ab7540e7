"""The way of one delivery, stage by stage; each time is that of the row or event of the process that did it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sql.session import Session

STAGES = ("accepted", "notified", "claimed", "delivered", "done")

_WAY = """select l.created_at, j.locked_at, j.delivered_at, j.finished_at, j.status, j.last_error
from public.agent_learnings l left join public.jobs j on j.learning_id = l.id
where l.id = %s order by j.created_at limit 1"""


@dataclass(frozen=True, slots=True)
class Way:
    """What the rows and the daemon's events tell of a delivery so far."""

    times: dict[str, datetime | None]
    status: str | None
    last_error: str | None

    def missing(self) -> str | None:
        """Return the first stage that the delivery did not reach, or None."""
        reached = {**self.times, "done": self.times["done"] if self.status == "done" else None}
        return next((stage for stage in STAGES if reached[stage] is None), None)

    def lines(self) -> list[str]:
        """Return a line for each stage that was reached: milliseconds since the first, and since the one before."""
        first = before = self.times["accepted"]
        shown = []
        for stage in STAGES:
            at = self.times[stage]
            if at is None or first is None or before is None:
                continue
            since, step = ((at - past).total_seconds() * 1000 for past in (first, before))
            shown.append(f"{stage:<10} {since:>8.1f} ms  {f'+{step:.1f}':>8}  {_SOURCES[stage]}")
            before = at
        return shown


_SOURCES = {
    "accepted": "the vault stored the learning and the job, and answered 200",
    "notified": "the daemon heard the trigger's notification",
    "claimed": "the daemon leased the job",
    "delivered": "the gateway took the wake",
    "done": "the daemon completed the job",
}


async def look(session: Session, learning_id: UUID, queue: str, events: list[dict[str, Any]]) -> Way:
    """Read how far a delivery has come from its rows and from the daemon's events."""
    rows = await session.fetch(_WAY, [learning_id])
    accepted, claimed, delivered, done, status, error = rows[0] if rows else (None,) * 6
    times = {
        "accepted": accepted,
        "notified": _notified(events, queue, accepted),
        "claimed": claimed,
        "delivered": delivered,
        "done": done,
    }
    return Way(times, status, error)


def _notified(events: list[dict[str, Any]], queue: str, since: datetime | None) -> datetime | None:
    """Return when the daemon first heard of its queue after the row was made."""
    for event in events:
        if event.get("event") == "notified" and event.get("queue") == queue and since is not None:
            heard = datetime.fromisoformat(event["time"])
            if heard >= since:
                return heard
    return None
