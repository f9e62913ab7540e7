"""The names of daemons as a model: who has which, by the pulse and by the session's lock."""

from dataclasses import dataclass, field
from datetime import datetime

SILENCE_S = 15.0


@dataclass(slots=True)
class Holder:
    """The run that has a name, and whether its own session holds the name's lock."""

    worker: str
    locked: bool
    seen_at: datetime


@dataclass(slots=True)
class Names:
    """Who has each name, and whose session holds the lock of each."""

    holders: dict[str, Holder] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)

    def silence_left_s(self, daemon: str, now: datetime) -> float:
        """How long the name's holder may stay silent until it is taken for dead; below zero it is."""
        if daemon not in self.holders:
            return -1.0
        return (self.holders[daemon].seen_at - now).total_seconds() + SILENCE_S

    def take(self, daemon: str, worker: str, now: datetime, *, listens: bool) -> bool:
        """Take a name that is free, one's own, or of a run that is dead."""
        free = self.locks.get(daemon) in {None, worker} if listens else daemon not in self.locks
        before = self.holders.get(daemon)
        is_dead = before is None or (before.locked and free) or self.silence_left_s(daemon, now) < 0
        if not is_dead and before.worker != worker:
            return False
        # without a session of its own, a run's listening session may hold the lock for it
        kept = bool(before) and not listens and not free and before.locked and before.worker == worker
        self.holders[daemon] = Holder(worker, (listens and free) or kept, now)
        if listens and free:
            self.locks[daemon] = worker
        return True

    def keep(self, daemon: str, worker: str, now: datetime, *, listens: bool) -> bool:
        """Give a pulse, and try the lock where a dead session had it; False when another run has the name, or none."""
        holder = self.holders.get(daemon)
        if holder is None or holder.worker != worker:
            return False
        holder.seen_at = now
        if listens and not holder.locked and self.locks.get(daemon) in {None, worker}:
            self.locks[daemon], holder.locked = worker, True
        return True

    def leave(self, daemon: str, worker: str) -> None:
        """Give a name back; the lock stays until the session ends."""
        holder = self.holders.get(daemon)
        if holder is not None and holder.worker == worker:
            del self.holders[daemon]

    def revoke(self, daemon: str) -> None:
        """Take a name away, whoever has it."""
        self.holders.pop(daemon, None)

    def end(self, daemon: str, worker: str) -> None:
        """Lose the lock with the session."""
        if self.locks.get(daemon) == worker:
            del self.locks[daemon]
