"""How much may wait in this process's memory for a disk or a database: so many events, and so many bytes of them."""

from typing import Final

EVENTS: Final = 1000
BYTES: Final = 8 * 1024 * 1024


class Room:
    """Counts the bodies that wait. One that is larger than all the room gets in alone, beside the smaller ones.

    What waits behind it must not be turned away because of it, nor it, for ever, because of them.
    """

    def __init__(self, events: int = EVENTS, most_bytes: int = BYTES) -> None:
        """Take how many events may wait, and how many bytes of bodies."""
        self._most_events = events
        self._most_bytes = most_bytes
        self.events = 0
        self.bytes = 0  # of those that are no larger than the room
        self.large_bytes = 0  # of the one that is

    @property
    def all_bytes(self) -> int:
        """The bytes of all that wait."""
        return self.bytes + self.large_bytes

    def take(self, body_bytes: int) -> bool:
        """Count one more, or return that there is no room for it."""
        is_large = body_bytes > self._most_bytes
        if self.events >= self._most_events:
            return False
        if self.large_bytes if is_large else self.bytes + body_bytes > self._most_bytes:
            return False
        self.events += 1
        if is_large:
            self.large_bytes = body_bytes
        else:
            self.bytes += body_bytes
        return True

    def leave(self, body_bytes: int) -> None:
        """Count one less."""
        self.events -= 1
        if body_bytes > self._most_bytes:
            self.large_bytes = 0
        else:
            self.bytes -= body_bytes

    def __str__(self) -> str:
        """Tell how much waits."""
        return f"{self.events} events of {self.all_bytes / 1024 / 1024:.1f} MiB wait"
