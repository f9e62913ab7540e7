"""The names of daemons as seen from Python: each belongs to one run at a time, and a pulse keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from sql.jobs import Pulse
from sql.line import Statements

DAEMONS_LOGIN = "take the connection string that agent-vault grant daemon printed"


class NameTakenError(Exception):
    """Another daemon that lives has the name."""

    def __init__(self, daemon: str) -> None:
        """Name it, and the remedy."""
        super().__init__(
            f"another running daemon is named {daemon}: set DAEMON_NAME on one of the two, or end the other"
        )
        self.daemon = daemon


def may_be_no_daemon(error: Exception) -> bool:
    """Tell whether the database refused a call as to the login of a vault or of an operator; ours say what to do."""
    return isinstance(error, psycopg.errors.InsufficientPrivilege) and "denied" in (error.diag.message_primary or "")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which daemon, and which run of it; `worker` is what stands in locked_by.

    Without a pulse for `silence_s` seconds it is taken for dead.
    """

    daemon: str
    run: str
    silence_s: float = 15.0

    @property
    def worker(self) -> str:
        """Return both in one text."""
        return f"{self.daemon}/{self.run}"


async def take_name(session: Statements, identity: Identity, queues: Sequence[str], *, listens: bool) -> None:
    """Take the name, and end the leases of its earlier runs. Raises NameTakenError.

    `listens` says that the session is this daemon's own for as long as it is open, as a pooler's may not be.
    """
    rows = await session.fetch(
        "select agent_vault.take_name(%s, %s, %s, %s, %s)",
        [identity.daemon, identity.worker, list(queues), listens, identity.silence_s],
    )
    if not rows[0][0]:
        raise NameTakenError(identity.daemon)


async def keep_name(session: Statements, identity: Identity, queues: Sequence[str], *, listens: bool) -> Pulse:
    """Say that this daemon lives, and hear what waits for it. Raises NameTakenError."""
    rows = await session.fetch(
        "select database_time, work_waits, next_due_ms, suspect_queue, shared, has_name"
        " from agent_vault.keep_name(%s, %s, %s, %s)",
        [identity.daemon, identity.worker, list(queues), listens],
    )
    *pulse, has_name = rows[0]
    if not has_name:
        raise NameTakenError(identity.daemon)
    return Pulse(*pulse)


async def leave_name(session: Statements, identity: Identity) -> None:
    """Give the name back."""
    await session.fetch("select agent_vault.leave_name(%s, %s)", [identity.daemon, identity.worker])
