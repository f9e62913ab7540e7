"""The folder of spool files: one for each process, under a lock that ends with it."""

import errno
import fcntl
import itertools
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from notifier.complaint import Complaint, one_line
from notifier.configuration import SettingsError
from notifier.sources import why
from vault import salvage
from vault.spool import Kept, Spool
from vault.spool_file import SpoolBrokenError, SpoolError, sync_folder

_NAME: Final = re.compile(rf"spool-([0-9]{{1,9}})\.sqlite({salvage.UNFINISHED})?")
_PASSING: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.ENOMEM}

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
        self._complain = Complaint(time.monotonic)
        self._failed = False

    def open(self) -> None:
        """Take a file of its own and adopt what is left over; again does no harm.

        Raises SettingsError for a folder that cannot be used, and SpoolError where that passes by itself.
        """
        try:
            own = self._claim()
            self._open_spool(own.spool)
            self.adopt()
        except OSError as error:
            if error.errno in _PASSING:
                raise SpoolError(f"{self.path}: {why(error)}") from error
            raise SettingsError(_unusable(self.path, error)) from error

    def append(self, deliveries: list[Kept]) -> None:
        """Keep all of them or none, in this process's own file. Raises SpoolError."""
        own = self._mine()
        try:
            own.append(deliveries)
        except SpoolBrokenError:
            salvage.replace(own, self._max_bytes)
            own.append(deliveries)

    def probe(self) -> None:
        """Try to write. Raises SpoolError."""
        self._mine().probe()

    def next_batch(self, *, rows: int, body_bytes: int) -> tuple[Spool, list[Kept]] | None:
        """Return the longest waiting deliveries of one file, and the file.

        A file that cannot be read holds up none of the others. Raises SpoolError where that is this process's own.
        """
        failure: SpoolError | None = None
        for spool in self._oldest_first():
            try:
                batch = self._next_batch(spool, rows, body_bytes)
            except SpoolError as error:
                if self._own is not None and spool is self._own.spool:
                    failure = error
                else:
                    self._fail(error)
            else:
                if batch:
                    return spool, batch
        self._let_go()
        if failure is not None:
            raise failure
        return None

    def settle(self, spool: Spool, batch: Sequence[Kept], refused: Mapping[str, str]) -> None:
        """Take out of a file what Postgres has, and set aside what it refuses. Raises SpoolError."""
        try:
            spool.settle(batch, refused)
        except SpoolBrokenError:
            # what is saved of the batch comes again, and its ids make one row of both
            salvage.replace(spool, self._max_bytes)

    def adopt(self) -> None:
        """Take over the files whose processes are gone and that still hold deliveries; complain of one that fails.

        What is left of a damaged one, whose process ended before it had saved all, is saved too. Raises OSError.
        """
        self._failed = False
        held = {one.number for one in self._held()}
        found = {int(match[1]) for path in self.path.glob("spool-*.sqlite*") if (match := _NAME.fullmatch(path.name))}
        for number in sorted(found - held):
            try:
                self._take_over(number)
            except (SpoolError, OSError) as error:
                self._fail(error)
        for one in self._held():
            try:
                salvage.finish(one.spool, self._max_bytes)
            except SpoolError as error:
                self._fail(error)
        self._let_go()
        if not self._failed:
            self._complain.over()

    def close(self) -> None:
        """Close all files and give up their locks."""
        for one in self._held():
            one.spool.close()
            os.close(one.lock_fd)
        self._own, self._adopted = None, []

    def _take_over(self, number: int) -> None:
        """Hold a file that nobody has, where it opens. Raises OSError, SpoolError."""
        if (lock_fd := self._lock(number)) is None:
            return
        one = _Held(number, self._file(number), lock_fd)
        try:
            self._open_spool(one.spool)
        except BaseException:
            one.spool.close()
            os.close(lock_fd)
            raise
        self._adopted.append(one)

    def _claim(self) -> _Held:
        """Make the folder and take the first file that nobody has."""
        if self._own is not None:
            return self._own
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(self.path.parent)
        numbers = itertools.count(1)
        while (lock_fd := self._lock(number := next(numbers))) is None:
            pass
        self._own = _Held(number, self._file(number), lock_fd)
        return self._own

    def _file(self, number: int) -> Spool:
        return Spool(self.path / f"spool-{number}.sqlite", self._max_bytes)

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
            salvage.replace(spool, self._max_bytes)
            waiting, refused = spool.count()
        if waiting:
            log.info("spool_adopted", file=str(spool.path), waiting=waiting, refused=refused)

    def _next_batch(self, spool: Spool, rows: int, body_bytes: int) -> list[Kept]:
        try:
            return spool.next_batch(rows=rows, body_bytes=body_bytes)
        except SpoolBrokenError:
            salvage.replace(spool, self._max_bytes)
            return spool.next_batch(rows=rows, body_bytes=body_bytes)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._complain("spool_failed", error=one_line(error))

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
            try:
                done = self._is_done(one.spool)
            except SpoolError as error:
                self._fail(error)
            else:
                if done:
                    os.close(one.lock_fd)
                    self._adopted.remove(one)

    def _is_done(self, spool: Spool) -> bool:
        """Close a file in which nothing waits, and delete it when it is empty; tell whether that is done."""
        try:
            waiting, refused = spool.count()
            if not waiting and not refused:
                spool.check()
        except SpoolBrokenError:
            salvage.replace(spool, self._max_bytes)
            return False
        if waiting:
            return False
        if refused:
            spool.close()
        else:
            spool.delete()
        return True


def find_fault(path: Path) -> str | None:
    """Return why files cannot be made in a spool's folder, or where that would be made; None where they can.

    It leaves nothing there, neither a file nor a folder that would be another user's than the vault's.
    """
    try:
        there = next(one for one in (path, *path.parents) if one.exists())
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return _unusable(path, error)


def _unusable(path: Path, error: OSError) -> str:
    return f"VAULT_SPOOL_DIR: cannot use {path} ({why(error)}): name a folder that this user may write to"


def _age(spool: Spool) -> float:
    """Return when the longest waiting was received; a damaged file comes first, one that cannot be read last."""
    try:
        oldest = spool.oldest()
    except SpoolBrokenError:  # told when it is read
        return float("-inf")
    except SpoolError:
        return float("inf")
    return oldest if isinstance(oldest, float) else float("inf")
