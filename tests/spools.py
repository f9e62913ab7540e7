"""Spool files of the tests' own making, and a look into those of a running vault."""

import contextlib
import fcntl
import sqlite3
import time
from pathlib import Path

from sql.learnings import NewEvent
from vault.spool import Kept, Spool
from vault.spool_file import PAGE_BYTES

MAX_BYTES = 64 * 1024 * 1024


def kept(event_id: str, body: bytes = b"{}", age_s: float = 0.0) -> Kept:
    """A delivery that was received so long ago."""
    return Kept(NewEvent(event_id, "SLUG", None, "default", "a learning", body, as_json=True), time.time() - age_s)


def fill(folder: Path, *deliveries: Kept, number: int = 1) -> None:
    """Leave a file behind as a process does that was killed: its lock went with it."""
    folder.mkdir(exist_ok=True)
    with (folder / f"spool-{number}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool = Spool(folder / f"spool-{number}.sqlite", MAX_BYTES)
        spool.append(deliveries)
        spool.close()


def empty_index(path: Path, name: str, leaf: int = 10) -> None:
    """Damage a closed file: an index of it has no entries any more, or a table, whose leaves are of kind 13."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("select rootpage from sqlite_schema where name = ?", (name,)).fetchall()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(bytes([leaf, 0, 0, 0, 0, *PAGE_BYTES.to_bytes(2, "big"), 0]))  # the header of an empty leaf


def look(folder: Path, query: str) -> list[tuple[object, ...]]:
    """Read all files of a folder as a person does, from beside the vault."""
    found = []
    for path in sorted(folder.glob("spool-*.sqlite")):
        while path.exists():  # a vault may take it away meanwhile
            with contextlib.suppress(sqlite3.OperationalError):
                found += _read(path, query)
                break
    return found


def _read(path: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def waiting(folder: Path) -> list[str]:
    """The ids of what waits in a folder, in order of receipt."""
    return [str(event_id) for (event_id,) in look(folder, "select event_id from delivery where refused is null"
                                                          " order by received_at, number")]  # fmt: skip
