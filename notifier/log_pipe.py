"""Log lines on their way out: a bounded queue, and the one thread that writes it to a file descriptor."""

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

ROOM_BYTES: Final = 4 * 1024 * 1024
FLUSH_S: Final = 1.0
RETRY_S: Final = 1.0
GATHER_S: Final = 0.005  # waking up for each line of a burst would cost those who log more than the writing does
NO_READER: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.EIO})


class LogPipe:
    """Takes lines at once and writes them when their reader reads; no method raises for the reader's sake."""

    def __init__(self, fd: int, dropped_line: Callable[[int], bytes]) -> None:
        """Write to a copy of `fd`; `dropped_line` says how many lines found no room."""
        # A copy, because a descriptor that someone closes may next be somebody else's socket.
        self._fd = _copied(fd)
        self._dropped_line = dropped_line
        # A destructor can log in the middle of a write, on the same thread: the queue must be the one that
        # may be entered twice (SimpleQueue), and so must the lock.
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._lock = threading.RLock()
        self._queued_bytes = 0
        self._dropped = 0
        self._patience_s = FLUSH_S
        # A daemon thread, because a reader that never reads must not keep the program from ending.
        threading.Thread(target=self._write_batches, name="logs", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Queue a line, or count it as dropped where the reader is 4 MiB behind."""
        with self._lock:
            if self._queued_bytes + len(line) > ROOM_BYTES:
                self._dropped += 1
                return
            self._queued_bytes += len(line)
        self._queue.put(line)

    def flush(self) -> None:
        """Wait a second at most until all that is queued is written; after one wait in vain, wait no more."""
        written = threading.Event()
        self._queue.put(written)
        if not written.wait(self._patience_s):
            self._patience_s = 0.0

    def _write_batches(self) -> None:
        for batch in self._batches():
            self._write_all(batch)
            with self._lock:
                self._queued_bytes -= len(batch)
            if self._queue.empty():
                self._own_up()

    def _batches(self) -> Iterator[bytes]:
        batch = b""
        while True:
            item = self._queue.get()
            if not batch and self._queue.empty() and isinstance(item, bytes):
                time.sleep(GATHER_S)
            line = item if isinstance(item, bytes) else b""
            # PIPE_BUF, because only so much is written in one piece: programs that share a pipe do not cut
            # each other's lines.
            if batch and (len(batch) + len(line) > select.PIPE_BUF or not line):
                yield batch
                batch = b""
            batch += line
            if batch and self._queue.empty():
                yield batch
                batch = b""
            if isinstance(item, threading.Event):
                item.set()

    def _own_up(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._write_all(self._dropped_line(dropped))

    def _write_all(self, batch: bytes) -> None:
        while batch and self._fd >= 0:
            try:
                batch = batch[os.write(self._fd, batch) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError as error:
                self._wait_or_give_up(error)

    def _wait_or_give_up(self, error: OSError) -> None:
        if error.errno in NO_READER:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        else:
            # A full disk, for one: the same bytes again later, so that no line is cut.
            time.sleep(RETRY_S)


def _copied(fd: int) -> int:
    with suppress(OSError):
        return os.dup(fd)
    return -1
