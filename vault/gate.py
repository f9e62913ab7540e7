"""How many connections are open, and which goes when there is no room: whoever keeps the vault waiting the longest."""

import contextlib
import resource
from typing import Protocol

import structlog

from notifier.complaint import Complaint

SPARE_FILES = 300  # what the event loop takes at once before any of it can be closed, Postgres, the spool, the log

log = structlog.get_logger()


class Waiting(Protocol):
    """A connection whose request has not come yet."""

    def drop(self) -> None:
        """Close it at once."""


class Gate:
    """Lets every newcomer in; the memory and the files that strangers can hold have an end all the same."""

    def __init__(self, most: int, most_bytes: int) -> None:
        """Take how many connections there may be, and how many bytes of bodies that are still coming."""
        self._most = most
        self._most_bytes = most_bytes
        self._inside: set[Waiting] = set()
        self._waiting: dict[Waiting, None] = {}  # the longest wait first
        self._bytes: dict[Waiting, int] = {}
        self._complain = Complaint()

    def enter(self, one: Waiting) -> None:
        """Let a new connection in, and another one go if need be."""
        self._inside.add(one)
        self._waiting[one] = None
        if len(self._inside) > self._most:
            self._complain("connections_full", limit=self._most)
            self._drop(next(iter(self._waiting)))
        elif 2 * len(self._inside) < self._most:
            self._complain.over()

    def wait(self, one: Waiting) -> None:
        """Take one that was answered for one that waits, after those that wait longer."""
        if one in self._inside:
            self._waiting.pop(one, None)
            self._waiting[one] = None

    def hold(self, one: Waiting, more_bytes: int) -> None:
        """Count what came of its body; drops the one that began the longest ago when these are too many in all."""
        self._bytes[one] = self._bytes.get(one, 0) + more_bytes
        while sum(self._bytes.values()) > self._most_bytes:
            self._complain("bodies_full", limit_bytes=self._most_bytes)
            self._drop(next(iter(self._bytes)))

    def whole(self, one: Waiting) -> None:
        """Keep one whose request is all there until it is answered, whoever else comes."""
        self._waiting.pop(one, None)
        self._bytes.pop(one, None)

    def leave(self, one: Waiting) -> None:
        """Forget a connection that is closed."""
        self._inside.discard(one)
        self.whole(one)

    def _drop(self, one: Waiting) -> None:
        self.leave(one)
        one.drop()


def allow_files(connections: int) -> None:
    """Raise this process's own limit of open files, 256 on macOS, as far as that many connections need."""
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(ValueError, OSError):  # a system's own limit below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
