"""One spool file: deliveries on this machine's own disk, for as long as the database is away."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sql.learnings import NewEvent
from vault import spool_file
from vault.spool_file import SpoolError, told, transaction

PROBE_BYTES: Final = 64 * 1024
COMPACT_PAGES: Final = 256
_START: Final = (float("-inf"), 0)

_COLUMNS: Final = "received_at, event_id, type, account, queue, learning, body, as_json"
_INSERT: Final = (
    f"insert into delivery ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own words
    " on conflict (event_id) do nothing"
)
_NEXT: Final = (
    f"select number, {_COLUMNS} from delivery where refused is null and (received_at, number) > (?, ?)"  # noqa: S608 - the same
    " order by received_at, number limit ?"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery in the spool: its event, when it was received in unix seconds, and its place in the file.

    Wall-clock time, alone in this program: the monotonic clock does not outlive a restart of the machine.
    """

    event: NewEvent
    received_at: float
    number: int = 0


class Spool:
    """A file that one thread of one process uses; what `append` took survives a loss of power."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take the file's path, and the bytes that it may take; its journal beside it comes on top."""
        self.path = path
        self._max_bytes = max_bytes
        self._opened: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._moved: list[str] = []  # events that Postgres has, not taken out: the full disk did not let us
        self._after: tuple[float, int] = _START
        self._passed_over = False

    def open(self) -> None:
        """Open the file, or make it. Raises SpoolError."""
        with told(self.path):
            self._connection()

    def append(self, deliveries: Sequence[Kept]) -> None:
        """Keep all of them or none; they are on the disk when it returns. Raises SpoolError."""
        rows = [_row(one) for one in deliveries]
        with told(self.path), transaction(self._connection()) as connection:
            connection.executemany(_INSERT, rows)

    def next_batch(self, *, rows: int, body_bytes: int) -> list[Kept]:
        """Return the longest waiting; none when nothing waits. Raises SpoolError."""
        batch: list[Kept] = []
        with told(self.path), contextlib.closing(self._connection().execute(_NEXT, (*self._after, rows))) as found:
            for row in found:
                batch.append(_kept(row))
                if sum(len(one.event.body) for one in batch) >= body_bytes:
                    break
        if not batch and (self._moved or self._after != _START):
            self._settle_late()
            return self.next_batch(rows=rows, body_bytes=body_bytes)
        return batch

    def pass_over(self, batch: Sequence[Kept]) -> None:
        """Come back to these only after all that wait behind them."""
        self._after = (batch[-1].received_at, batch[-1].number)
        self._passed_over = True

    def settle(self, batch: Sequence[Kept], refused: Mapping[str, str]) -> None:
        """Take out what Postgres has, and set aside what it refuses (by event_id, why). Raises SpoolError.

        What could not be taken out, since even that needs room on the disk, is passed over until there is some.
        """
        self._moved += [one.event.event_id for one in batch if one.event.event_id not in refused]
        if batch:
            self._after = (batch[-1].received_at, batch[-1].number)
        try:
            self._take_out(refused)
        except SpoolError:
            if not self._begin_anew():
                raise
        self._moved.clear()
        if not self._passed_over:
            self._after = _START
        self._compact()

    def probe(self) -> None:
        """Write a little and take it out again. Raises SpoolError."""
        probe_bytes = min(PROBE_BYTES, self._max_bytes // 8)
        with told(self.path):
            with transaction(self._connection()) as connection:
                connection.execute("insert into probe values (zeroblob(?))", (probe_bytes,))
            with transaction(self._connection()) as connection:
                connection.execute("delete from probe")

    def count(self) -> tuple[int, int]:
        """Return how many wait, and how many were refused. Raises SpoolError."""
        with told(self.path):
            found = self._connection().execute("select count(*) - count(refused), count(refused) from delivery")
            waiting, refused = found.fetchone()
        return waiting - len(self._moved), refused

    def oldest(self) -> float | None:
        """Return when the longest waiting was received, in unix seconds. Raises SpoolError."""
        with told(self.path):
            found = self._connection().execute("select min(received_at) from delivery where refused is null")
            oldest: float | None = found.fetchone()[0]
        return oldest

    def salvage(self) -> Iterator[Kept]:
        """Return what can still be read of a damaged file, from its beginning and then from its end."""
        for order in ("asc", "desc"):
            query = f"select number, {_COLUMNS} from delivery not indexed order by number {order}"  # noqa: S608 - the same
            with (
                contextlib.suppress(SpoolError),
                told(self.path),
                contextlib.closing(spool_file.connect(self.path)) as connection,
            ):
                yield from map(_kept, connection.execute(query))
                return

    def close(self) -> None:
        """Close the file."""
        connection, self._opened = self._opened, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def delete(self) -> None:
        """Close the file and take it away. Raises SpoolError."""
        self.close()
        with told(self.path):
            spool_file.delete(self.path)

    def move(self, to: Path) -> None:
        """Close the file and give it another name. Raises SpoolError."""
        self.close()
        with told(self.path):
            spool_file.rename(self.path, to)

    def _connection(self) -> sqlite3.Connection:
        if self._opened is not None and self._inode != spool_file.inode(self.path):
            self.close()  # somebody took the file away: what is written to it now would be gone with this process
        if self._opened is None:
            self._opened = spool_file.open_file(self.path, self._max_bytes)
            self._inode = spool_file.inode(self.path)
            self._moved, self._after, self._passed_over = [], _START, False
        return self._opened

    def _take_out(self, refused: Mapping[str, str]) -> None:
        reasons = [(reason, event_id) for event_id, reason in refused.items()]
        with told(self.path), transaction(self._connection()) as connection:
            connection.executemany("delete from delivery where event_id = ?", [(one,) for one in self._moved])
            connection.executemany("update delivery set refused = ? where event_id = ?", reasons)

    def _settle_late(self) -> None:
        """At the end of the file: take out what could not be before, and go back to what was passed over."""
        if self._moved:
            self.settle([], {})
        self._after, self._passed_over = _START, False

    def _begin_anew(self) -> bool:
        """Take the file away where nothing is in it but what Postgres has: that gives a full disk room."""
        with contextlib.suppress(SpoolError):
            if self._moved and self.count() == (0, 0):
                self.delete()
                return True
        return False

    def _compact(self) -> None:
        """Give an empty file's bytes back to the disk; nothing is lost where that does not work."""
        with contextlib.suppress(SpoolError), told(self.path):
            connection = self._connection()
            (pages,) = connection.execute("pragma page_count").fetchone()
            if pages > COMPACT_PAGES and self.count() == (0, 0):
                connection.execute("vacuum")
                connection.execute("pragma wal_checkpoint(truncate)")


def _row(kept: Kept) -> tuple[Any, ...]:
    one = kept.event
    event = (one.event_id, one.type, one.account, one.queue, one.learning, one.body, one.as_json)
    return (kept.received_at, *event)


def _kept(row: Sequence[Any]) -> Kept:
    number, received_at, event_id, kind, account, queue, learning, body, as_json = row
    return Kept(NewEvent(event_id, kind, account, queue, learning, body, bool(as_json)), received_at, number)
