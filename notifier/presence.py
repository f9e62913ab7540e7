"""The daemon's presence in the database: its name, taken before anything is claimed and kept by every pulse."""

from collections.abc import Sequence

from notifier.complaint import Complaint
from sql import names
from sql.jobs import Pulse
from sql.line import Statements
from sql.names import Identity, NameTakenError


class Presence:
    """One run of a daemon and its name; two that live never share one."""

    def __init__(self, identity: Identity, queues: Sequence[str]) -> None:
        """Take who this is and the queues that it serves."""
        self.identity = identity
        self.queues = queues
        self.taken = False
        self.tried = False  # the listener's first try is over: it takes the name better than anyone else
        self.shares = False  # each of the queues is served by another daemon that lives too
        self._complain = Complaint()

    async def take(self, session: Statements, *, listens: bool) -> None:
        """Take the name, over the listening connection or another. Raises NameTakenError."""
        try:
            await names.take_name(session, self.identity, self.queues, listens=listens)
        except NameTakenError as error:
            self._lost(error)
            raise
        self.taken = self.tried = True
        self._complain.over()

    async def pulse(self, session: Statements, *, listens: bool) -> Pulse:
        """Keep the name, and hear what waits. Raises NameTakenError when it is another's now."""
        try:
            pulse = await names.keep_name(session, self.identity, self.queues, listens=listens)
        except NameTakenError as error:
            self._lost(error)
            raise
        self.shares = pulse.shared
        return pulse

    async def leave(self, session: Statements) -> None:
        """Give the name back, where it is this daemon's."""
        if self.taken:
            await names.leave_name(session, self.identity)

    def _lost(self, error: NameTakenError) -> None:
        self.taken = False
        self._complain("name_taken", name=self.identity.daemon, error=str(error))
