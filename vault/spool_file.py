"""A spool's SQLite file: how it is opened, so that what is committed survives a loss of power, and how it fails."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 4096
BUSY_S: Final = 5.0  # a person may look into the file meanwhile
_FULL_DISK: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# the journal goes before its file: a new file of the same name must not meet it
_FILES: Final = ("-wal", "-shm", "")

# With WAL and synchronous=full each commit syncs the journal once (https://www.sqlite.org/pragma.html#pragma_synchronous).
# fullfsync: a plain fsync of macOS stops at the drive's cache; elsewhere it says nothing.
_PRAGMAS: Final = (
    f"page_size = {PAGE_BYTES}",
    "journal_mode = wal",
    "synchronous = full",
    "fullfsync = 1",
    "checkpoint_fullfsync = 1",
    "wal_autocheckpoint = 256",
    f"journal_size_limit = {256 * PAGE_BYTES}",
    "secure_delete = off",
    "temp_store = memory",
)

_TABLES: Final = """
create table if not exists delivery (
  number integer primary key, received_at real not null, event_id text not null unique, type text not null,
  account text, queue text not null, learning text not null, body blob not null, as_json int not null, refused text);
create index if not exists delivery_waiting on delivery (received_at) where refused is null;
create table if not exists probe (body blob);
"""

# A damaged name would else have an empty table made beside the full one.
_FOREIGN: Final = (
    "select 1 from sqlite_schema"
    " where name not in ('delivery', 'delivery_waiting', 'probe') and name not like 'sqlite%'"
)
COLUMNS: Final = "received_at, event_id, type, account, queue, learning, body, as_json"


class SpoolError(Exception):
    """The spool cannot be read or written now; what was not kept was not acknowledged."""


class SpoolFullError(SpoolError):
    """The spool has all the bytes that it may have, or the disk is full."""


class SpoolBrokenError(SpoolError):
    """The file is no spool, or a damaged one."""


_KINDS: Final[dict[int, type[SpoolError]]] = {
    sqlite3.SQLITE_FULL: SpoolFullError,
    sqlite3.SQLITE_CORRUPT: SpoolBrokenError,
    sqlite3.SQLITE_NOTADB: SpoolBrokenError,
    sqlite3.SQLITE_READONLY: SpoolBrokenError,  # the header says so: the system let us open it to write
    sqlite3.SQLITE_TOOBIG: SpoolBrokenError,  # a length that nobody wrote
}


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell in our own errors what SQLite and the system say of a file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF != sqlite3.SQLITE_READONLY:
            code &= 0xFF  # the rest is detail
        raise _KINDS.get(code, SpoolError)(f"{path}: {error}") from error
    except OSError as error:
        kind = SpoolFullError if error.errno in _FULL_DISK else SpoolError
        raise kind(f"{path}: {(error.strerror or type(error).__name__).lower()}") from error
    except UnicodeEncodeError as error:  # of what is to be kept, not of the file
        raise SpoolError(f"{path}: a text that is no unicode: {error.reason}") from error
    except ValueError as error:  # a damaged name, which the sqlite3 module fails to put into its message
        raise SpoolBrokenError(f"{path}: unreadable ({type(error).__name__})") from error


def connect(path: Path) -> sqlite3.Connection:
    """Open a file as it is, or make it. Raises sqlite3.Error, OSError."""
    if not path.exists():
        delete(path)
    # SQLite would leave the mode to the umask; its side files take that of this one
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


def open_file(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Open a file to be written, with its tables; it never takes more bytes.

    Raises SpoolBrokenError for tables that are not ours, sqlite3.Error, OSError.
    """
    connection = connect(path)
    try:
        _set_up(connection, max_bytes)
        sync_folder(path.parent)
    except sqlite3.Error as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:  # another format, or other columns
            raise SpoolBrokenError(f"{path}: {error}") from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, max_bytes: int) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"pragma {pragma}")
    connection.executescript(_TABLES)
    if connection.execute(_FOREIGN).fetchone() is not None:
        raise SpoolBrokenError("it has tables that are not a spool's")
    connection.execute(f"select {COLUMNS}, refused from delivery limit 0")  # noqa: S608 - our own words
    connection.execute(f"pragma max_page_count = {max(1, max_bytes // PAGE_BYTES)}")


def inode(path: Path) -> int | None:
    """Return what tells this file from another of the same name, or None where there is none. Raises OSError."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what the block does, all of it or nothing; it is on the disk then. Raises sqlite3.Error."""
    connection.execute("begin immediate")
    try:
        yield connection
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("rollback")
        raise


def delete(path: Path) -> None:
    """Take a closed file away, and its journal."""
    for side in _FILES:
        path.with_name(path.name + side).unlink(missing_ok=True)


def rename(path: Path, to: Path) -> None:
    """Give a closed file another name, and its journal, which SQLite finds by it."""
    for side in _FILES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(to.with_name(to.name + side))


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk: a synced file without its name is lost all the same."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
