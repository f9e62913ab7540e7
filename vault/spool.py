"""One spool file: deliveries on this machine's own disk, for as long as the database is away."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from sql.learnings import NewEvent
from vault import spool_file
from vault.spool_file import COLUMNS, SpoolBrokenError, SpoolError, told, transaction

PROBE_BYTES: Final = 64 * 1024
COMPACT_PAGES: Final = 256
_START: Final = (float("-inf"), 0)

# One that is set aside and comes again is tried again, as what came now: the row may be the damaged one.
_INSERT: Final = (
    f"insert into delivery ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own words
    " on conflict (event_id) do update set refused = null, type = excluded.type, account = excluded.account,"
    " queue = excluded.queue, learning = excluded.learning, body = excluded.body, as_json = excluded.as_json,"
    " received_at = case when received_at between 0 and excluded.received_at then received_at"
    " else excluded.received_at end where delivery.refused is not null"
)
_NEXT: Final = (
    f"select number, {COLUMNS} from delivery where refused is null and (received_at, number) > (?, ?)"  # noqa: S608 - the same
    " order by received_at, number limit ?"
)
_FOREVER_S: Final = 1e11  # no clock says that
_DAMAGED: Final = "damaged in the file: a value of the wrong kind"

log = structlog.get_logger()


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
        self._moved: list[tuple[int, str]] = []  # what Postgres has, not taken out: the full disk did not let us
        self._after: tuple[float, int] = _START
        self._passed_over = False
        self._handed_out = False  # a batch of the file as it is open now
        self._seen_empty = False

    def open(self) -> None:
        """Open the file, or make it. Raises SpoolError."""
        with told(self.path):
            self._connection()

    def append(self, deliveries: Sequence[Kept]) -> None:
        """Keep all of them or none; they are on the disk when it returns. Raises SpoolError."""
        rows = [_row(one) for one in deliveries]
        with told(self.path), transaction(self._connection()) as connection:
            self._seen_empty = False
            connection.executemany(_INSERT, rows)

    def next_batch(self, *, rows: int, body_bytes: int) -> list[Kept]:
        """Return the longest waiting; none when nothing waits. Raises SpoolError."""
        while True:
            batch, damaged = self._look(rows, body_bytes)
            self._set_aside(damaged)
            if batch:
                self._handed_out = True
                return batch
            if self._moved or self._after != _START:
                self._settle_late()
            elif not damaged:
                self._see_empty()
                return []

    def pass_over(self, batch: Sequence[Kept]) -> None:
        """Come back to these only after all that wait behind them."""
        self._after = (batch[-1].received_at, batch[-1].number)
        self._passed_over = True

    def settle(self, batch: Sequence[Kept], refused: Mapping[str, str]) -> None:
        """Take out what Postgres has, and set aside what it refuses (by event_id, why). Raises SpoolError.

        What could not be taken out, since even that needs room on the disk, is passed over until there is some.
        """
        with told(self.path):
            self._connection()
        if batch:
            if not self._handed_out:
                return  # their file was replaced meanwhile: another's rows may have their numbers, and they come again
            self._after = (batch[-1].received_at, batch[-1].number)
        rows = [(one.number, one.event.event_id) for one in batch]
        self._moved += [row for row in rows if row[1] not in refused]
        try:
            self._take_out([(refused[row[1]], *row) for row in rows if row[1] in refused])
        except SpoolBrokenError:
            raise
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

    def check(self) -> None:
        """Make sure that nothing is in the file but what its tables show. Raises SpoolError."""
        with told(self.path):
            (found,) = self._connection().execute("pragma integrity_check(1)").fetchone()
            if found != "ok":
                raise SpoolBrokenError(f"{self.path}: {found}")

    def salvage(self) -> Iterator[Kept]:
        """Return what can still be read of a damaged file, from its beginning and then from its end."""
        for order in ("asc", "desc"):
            query = f"select number, {COLUMNS} from delivery not indexed order by number {order}"  # noqa: S608 - the same
            with (
                contextlib.suppress(SpoolError),
                told(self.path),
                contextlib.closing(spool_file.connect(self.path)) as connection,
            ):
                yield from filter(None, map(_kept, connection.execute(query)))
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
            self._handed_out = self._seen_empty = False
        return self._opened

    def _look(self, rows: int, body_bytes: int) -> tuple[list[Kept], list[int]]:
        """Return the next deliveries, and the numbers of the rows among them that are none."""
        batch: list[Kept] = []
        damaged: list[int] = []
        with told(self.path), contextlib.closing(self._connection().execute(_NEXT, (*self._after, rows))) as found:
            for row in found:
                if (one := _kept(row)) is None:
                    damaged.append(row[0])
                    continue
                batch.append(one)
                if sum(len(one.event.body) for one in batch) >= body_bytes:
                    break
        return batch, damaged

    def _set_aside(self, damaged: Sequence[int]) -> None:
        """Keep damaged rows for a person, out of the others' way."""
        if damaged:
            with told(self.path), transaction(self._connection()) as connection:
                self._change(
                    connection,
                    "update delivery set refused = ? where number = ?",
                    [(_DAMAGED, number) for number in damaged],
                )
        for number in damaged:
            log.error("spool_refused_row", number=number, error=_DAMAGED, file=str(self.path))

    def _see_empty(self) -> None:
        """Make sure, once, that the index misses nothing that waits. Raises SpoolBrokenError."""
        if not self._seen_empty and self.count()[0]:
            raise SpoolBrokenError(f"{self.path}: deliveries wait that its index does not have")
        self._seen_empty = True

    def _take_out(self, refused: Sequence[tuple[str, int, str]]) -> None:
        # by the row's number: a damaged index of event_id would find nothing to delete, and say so of no error
        with told(self.path), transaction(self._connection()) as connection:
            self._change(connection, "delete from delivery where number = ? and +event_id = ?", self._moved)
            self._change(connection, "update delivery set refused = ? where number = ? and +event_id = ?", refused)

    def _change(self, connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Change one row with each; one that is not found is a damage."""
        if rows and connection.executemany(statement, rows).rowcount != len(rows):
            raise SpoolBrokenError(f"{self.path}: a row that was read is not found")

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


def _kept(row: Sequence[Any]) -> Kept | None:
    """Return the row's delivery, or None where a damage left a value of the wrong kind."""
    number, received_at, event_id, kind, account, queue, learning, body, as_json = row
    texts = (event_id, kind, queue, learning, "" if account is None else account)
    if not (isinstance(received_at, float) and 0 <= received_at < _FOREVER_S):
        return None
    if not (all(isinstance(one, str) for one in texts) and isinstance(body, bytes) and isinstance(as_json, int)):
        return None
    return Kept(NewEvent(event_id, kind, account, queue, learning, body, bool(as_json)), received_at, number)
