"""The spool's thread: many requests, one sync of the disk, each acknowledged after it; no timer."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog

from notifier.complaint import Complaint, one_line
from sql.learnings import NewEvent
from vault.room import Room
from vault.spool import Kept, Spool
from vault.spool_file import SpoolError, SpoolFullError
from vault.spool_folder import SpoolFolder

BATCH = 500
BATCH_BYTES = 16 * 1024 * 1024
PROBE_S = 2.0
REMEDY = "free disk space, raise VAULT_SPOOL_MAX_BYTES, or bring the database back"

log = structlog.get_logger()
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Spooled:
    """An event that is on this machine's disk, with the id that its learning will have."""

    event_id: str
    learning_id: UUID


@dataclass(slots=True)
class _Waiting:
    """A delivery and the request that waits for the disk."""

    kept: Kept
    stored: asyncio.Future[Spooled] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Spooler:
    """Keeps deliveries in the spool and hands them out again; every touch of the disk is in its one thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Take the spool's folder and the bytes that a file in it may take."""
        self._folder = SpoolFolder(folder, max_bytes)
        self._thread = ThreadPoolExecutor(1, "spool")
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._room = Room()
        self._complain = Complaint()
        self.accepts = False
        self.news = asyncio.Event()

    async def open(self) -> None:
        """Open the files; a full disk is no reason not to start. Raises SettingsError."""
        try:
            await self._run(self._folder.open)
        except SpoolError as error:
            self._unready(error)
        else:
            self._ready()

    async def keep(self, event: NewEvent, received_at: float) -> Spooled:
        """Return when the event is on the disk; received_at is in unix seconds. Raises SpoolError."""
        waiting = _Waiting(Kept(event, received_at))
        if not self._room.take(len(event.body)):
            raise SpoolError(f"{self._room} for the disk")
        self._queue.put_nowait(waiting)
        return await waiting.stored

    async def write(self) -> None:
        """Keep batch after batch; only cancelling ends it."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and not _is_full(batch):
                batch.append(self._queue.get_nowait())
            try:
                await self._append(batch)
            finally:
                for one in batch:
                    self._room.leave(len(one.kept.event.body))

    async def watch(self) -> None:
        """While the spool takes nothing, try whether it does again; only cancelling ends it."""
        while True:
            await asyncio.sleep(PROBE_S)
            if not self.accepts:
                await self._probe()

    async def next_batch(self, *, rows: int, body_bytes: int) -> tuple[Spool, list[Kept]] | None:
        """Return the longest waiting of one file, and the file; None when nothing waits. Raises SpoolError."""
        return await self._run(lambda: self._folder.next_batch(rows=rows, body_bytes=body_bytes))

    async def settle(self, spool: Spool, batch: Sequence[Kept], refused: Mapping[str, str]) -> None:
        """Take out of a file what Postgres has, and set aside what it refuses. Raises SpoolError."""
        await self._run(lambda: self._folder.settle(spool, batch, refused))

    async def pass_over(self, spool: Spool, batch: Sequence[Kept]) -> None:
        """Come back to these only after all that wait behind them."""
        await self._run(lambda: spool.pass_over(batch))

    async def adopt(self) -> None:
        """Take over the files of processes that are gone. Raises OSError."""
        await self._run(self._folder.adopt)

    async def close(self) -> None:
        """Close the files, after what the thread is at."""
        await self._run(self._folder.close)
        self._thread.shutdown()

    async def _append(self, batch: list[_Waiting]) -> None:
        """Keep the batch; where it does not go in as a whole, one by one."""
        try:
            await self._run(lambda: self._folder.append([one.kept for one in batch]))
        except SpoolError as error:
            if len(batch) > 1:
                for one in batch:
                    await self._append([one])
                return
            self._unready(error)
            _refuse(batch[0], error)
        else:
            self._ready()
            self.news.set()
            for one in batch:
                _answer(one)

    async def _probe(self) -> None:
        try:
            await self._run(self._folder.probe)
        except SpoolError as error:
            self._unready(error)
        else:
            self._ready()

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _ready(self) -> None:
        self.accepts = True
        if self._complain.over():
            log.info("spool_back")

    def _unready(self, error: SpoolError) -> None:
        self.accepts = False
        full = isinstance(error, SpoolFullError)
        if full:
            self._complain("spool_full", error=one_line(error), remedy=REMEDY)
        else:
            self._complain("spool_failed", error=one_line(error))


def _is_full(batch: list[_Waiting]) -> bool:
    return len(batch) >= BATCH or sum(len(one.kept.event.body) for one in batch) >= BATCH_BYTES


def _answer(one: _Waiting) -> None:
    if not one.stored.done():  # its client may have gone
        event = one.kept.event
        one.stored.set_result(Spooled(event.event_id, event.learning_id))


def _refuse(one: _Waiting, error: SpoolError) -> None:
    if not one.stored.done():
        one.stored.set_exception(SpoolError(one_line(error)))
