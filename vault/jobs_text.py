"""A job as a person reads it on a terminal: a line of a list, or a page of its own."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from notifier.ages import say_age
from notifier.terminal import printable
from sql.dead_letters import Found

EXAMPLES = 3


class Job(msgspec.Struct, frozen=True):
    """What the database shows of a job. Times stay as they are written: one may be infinity."""

    id: str
    type: str
    queue: str
    status: str
    replay: bool
    learning_id: str | None
    attempts: int
    max_attempts: int
    claims: int
    lapses: int
    created_at: str
    updated_at: str
    run_at: str
    locked_at: str | None
    locked_by: str | None
    lease_until: str | None
    awaits_handling: bool
    delivered_at: str | None
    finished_at: str | None
    outcome: msgspec.Raw
    last_error: str | None
    payload: msgspec.Raw = msgspec.Raw(b"")


def read(document: msgspec.Raw) -> Job:
    """Read what the database answered."""
    return msgspec.json.decode(document, type=Job)


def line(job: Job, now: datetime) -> str:
    """Return a line of a list."""
    facts = [job.id, (" " if job.finished_at else ", ").join(_state(job, now)), job.type, job.queue]
    facts += [f"attempt {job.attempts} of {job.max_attempts}", *(["replay"] if job.replay else [])]
    return printable("  ".join([*facts, job.last_error or ""]).rstrip())


def page(job: Job, now: datetime) -> Iterator[str]:
    """Return all that is known of a job, a line each; what it does not have is left out."""
    facts: dict[str, object] = {
        "job": job.id,
        "type": job.type,
        "queue": job.queue,
        "status": "{} ({})".format(*_state(job, now)),
        "replay": "yes" if job.replay else None,
        "learning": job.learning_id,
        "attempts": f"{job.attempts} of {job.max_attempts}",
        "claims": job.claims,
        "lapses": job.lapses,
        "worker": job.locked_by,
        "created": job.created_at,
        "due": job.run_at,
        "claimed": job.locked_at,
        "lease until": job.lease_until,
        "delivered": job.delivered_at,
        "finished": job.finished_at,
        "changed": job.updated_at,
        "outcome": _json(job.outcome),
        "last error": job.last_error,
        "payload": _json(job.payload),
    }
    for name, value in facts.items():
        if value is not None:
            yield printable(f"{name:<12}{value}")


def examples(found: Sequence[Found], now: datetime) -> Iterator[str]:
    """Return the first few of many, a line each, and how many more there are."""
    for one in found[:EXAMPLES]:
        age = f"{say_age((now - one.at).total_seconds())} ago"
        yield printable("  ".join(["", str(one.id), age, one.type, one.queue, one.error or ""]).rstrip())
    if len(found) > EXAMPLES:
        yield f"  and {len(found) - EXAMPLES} more"


def _state(job: Job, now: datetime) -> tuple[str, str]:
    """Return what a job is and since when; what awaits handling is under way in the agent's hands alone."""
    if job.awaits_handling:
        return "awaits handling", f"sent {_ago(job.delivered_at or job.created_at, now)}"
    if job.finished_at is None:
        return job.status, f"came {_ago(job.created_at, now)}"
    return job.status, _ago(job.finished_at, now)


def _ago(written: str, now: datetime) -> str:
    try:
        return f"{say_age((now - datetime.fromisoformat(written)).total_seconds())} ago"
    except ValueError:
        return written


def _json(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text in {"", "null"} else text
