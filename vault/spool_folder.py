"""The folder of spool files: one for each process, under a lock that ends with it."""

import contextlib
import errno
import fcntl
import itertools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from notifier.complaint import one_line
from notifier.configuration import SettingsError
from vault.spool import Kept, Spool
from vault.spool_file import SpoolBrokenError, SpoolError, sync_folder

_NAME: Final = re.compile(r"spool-([0-9]{1,9})\.sqlite")
_PASSING: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.ENOMEM}

SAVE_ROWS: Final = 20

log = structlog.get_logger()


@dataclass(slots=True)
class _Held:
    """A spool file and the descriptor of its lock."""

    number: int
    spool: Spool
    lock_fd: int


class SpoolFolder:
    """This process's own spool file, and those of processes that are gone, to be emptied."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take the folder, which is made at need, and the bytes that each file may take."""
        self.path = path
        self._max_bytes = max_bytes
        self._own: _Held | None = None
        self._adopted: list[_Held] = []

    def open(self) -> None:
        """Take a file of its own and adopt what is left over; again does no harm.

        Raises SettingsError for a folder that cannot be used, and SpoolError where that passes by itself.
        """
        try:
            own = self._claim()
            self._open_spool(own.spool)
            self.adopt()
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            if error.errno in _PASSING:
                raise SpoolError(f"{self.path}: {reason}") from error
            raise SettingsError(
                f"VAULT_SPOOL_DIR: cannot use {self.path} ({reason}): name a folder that this user may write to"
            ) from error

    def append(self, deliveries: list[Kept]) -> None:
        """Keep all of them or none, in this process's own file. Raises SpoolError."""
        own = self._mine()
        try:
            own.append(deliveries)
        except SpoolBrokenError:
            self._replace(own)
            own.append(deliveries)

    def probe(self) -> None:
        """Try to write. Raises SpoolError."""
        self._mine().probe()

    def next_batch(self, *, rows: int, body_bytes: int) -> tuple[Spool, list[Kept]] | None:
        """Return the longest waiting deliveries of one file, and the file. Raises SpoolError."""
        for spool in self._oldest_first():
            try:
                batch = spool.next_batch(rows=rows, body_bytes=body_bytes)
            except SpoolBrokenError:
                self._replace(spool)
                batch = spool.next_batch(rows=rows, body_bytes=body_bytes)
            if batch:
                return spool, batch
        self._let_go()
        return None

    def adopt(self) -> None:
        """Take over the files whose processes are gone and that still hold deliveries.

        Raises OSError, and SpoolError where a file cannot be read now.
        """
        held = {one.number for one in self._held()}
        for path in sorted(self.path.glob("spool-*.sqlite")):
            match = _NAME.fullmatch(path.name)
            number = int(match[1]) if match else 0
            if match and number not in held and (lock_fd := self._lock(number)) is not None:
                self._adopted.append(_Held(number, Spool(path, self._max_bytes), lock_fd))
                self._open_spool(self._adopted[-1].spool)
        self._let_go()

    def close(self) -> None:
        """Close all files and give up their locks."""
        for one in self._held():
            one.spool.close()
            os.close(one.lock_fd)
        self._own, self._adopted = None, []

    def _claim(self) -> _Held:
        """Make the folder and take the first file that nobody has."""
        if self._own is not None:
            return self._own
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(self.path.parent)
        numbers = itertools.count(1)
        while (lock_fd := self._lock(number := next(numbers))) is None:
            pass
        self._own = _Held(number, Spool(self.path / f"spool-{number}.sqlite", self._max_bytes), lock_fd)
        return self._own

    def _lock(self, number: int) -> int | None:
        # A file of its own, which nobody ever deletes: closing any descriptor of the spool itself would drop SQLite's
        # locks on it, and a deleted lock can be held by one while another makes it anew.
        lock_fd = os.open(self.path / f"spool-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            return None
        except BaseException:
            os.close(lock_fd)
            raise
        return lock_fd

    def _open_spool(self, spool: Spool) -> None:
        """Open a file, whatever is in it; say what it holds."""
        try:
            spool.open()
            waiting, refused = spool.count()
        except SpoolBrokenError:
            self._replace(spool)
            waiting, refused = spool.count()
        if waiting:
            log.info("spool_adopted", file=str(spool.path), waiting=waiting, refused=refused)

    def _replace(self, spool: Spool) -> None:
        """Move a damaged file aside and begin a new one, with what can still be read of the old."""
        broken = Spool(spool.path.with_name(f"{spool.path.name}.broken-{time.time_ns()}"), self._max_bytes)
        spool.move(broken.path)
        try:
            spool.open()
            rows = broken.salvage()
            while some := list(itertools.islice(rows, SAVE_ROWS)):
                spool.append(some)
        except SpoolError:  # the disk is full: all as it was, for another time
            spool.delete()
            broken.move(spool.path)
            raise
        waiting, _refused = spool.count()
        log.error("spool_broken", file=str(broken.path), saved=waiting, remedy="see what sqlite3 .recover finds in it")

    def _mine(self) -> Spool:
        try:
            if self._own is None:
                self.open()
            return self._claim().spool
        except (OSError, SettingsError) as error:
            raise SpoolError(one_line(error)) from error

    def _held(self) -> list[_Held]:
        return ([self._own] if self._own else []) + self._adopted

    def _oldest_first(self) -> list[Spool]:
        spools = [one.spool for one in self._held()]
        if len(spools) == 1:
            return spools
        return sorted(spools, key=_age)

    def _let_go(self) -> None:
        """Give up the adopted files in which nothing waits; the empty ones go."""
        for one in list(self._adopted):
            waiting, refused = one.spool.count()
            if not waiting:
                if refused:
                    one.spool.close()
                else:
                    one.spool.delete()
                os.close(one.lock_fd)
                self._adopted.remove(one)


def _age(spool: Spool) -> float:
    with contextlib.suppress(SpoolBrokenError):  # told when it is read
        return spool.oldest() or float("inf")
    return float("-inf")
