"""The micro-batching writer: many requests, one commit, each acknowledged after it."""

import asyncio
import time
from dataclasses import dataclass, field, replace

import psycopg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random

from notifier.complaint import one_line
from sql.learnings import NewEvent, Recorded, record_events
from sql.session import Session
from vault.circuit import Circuit
from vault.spool_file import SpoolError
from vault.spooler import Spooled, Spooler

BATCH = 50
BATCH_BYTES = 16 * 1024 * 1024  # a batch stands in memory several times on its way
WAITING = 1000
COMMIT_S = 3.0  # Composio's patience is not known
DISK_S = 10.0


class StorageAwayError(Exception):
    """The event is not stored, or nobody knows: it must be sent again."""


@dataclass(slots=True)
class _Waiting:
    """An event and the request that waits for its commit."""

    event: NewEvent
    received_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    stored: asyncio.Future[Recorded | StorageAwayError] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Inbox:
    """Takes events from concurrent requests and commits what is there, again and again: no timer, no delay.

    What Postgres does not take in time goes to the spool, where there is one.
    """

    def __init__(self, session: Session, circuit: Circuit | None = None, spooler: Spooler | None = None) -> None:
        """Write over this session, which only the drain of the spool uses too."""
        self._session = session
        self._circuit = circuit or Circuit()
        self._spooler = spooler
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING)

    async def store(self, event: NewEvent) -> Recorded | Spooled:
        """Return when the event is committed, or on this machine's disk. Raises StorageAwayError."""
        waiting = _Waiting(event)
        if self._spooler is None:
            return await self._recorded(waiting)
        if self._circuit.closed:
            try:
                return await self._recorded(waiting)
            except StorageAwayError:
                pass  # it may be committed all the same: its id makes one row of both
        return await self._spooled(waiting, self._spooler)

    async def _recorded(self, waiting: _Waiting) -> Recorded:
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise StorageAwayError(f"{WAITING} events wait for the database") from None
        await asyncio.wait([waiting.stored], timeout=COMMIT_S)
        if not waiting.stored.done():
            waiting.stored.cancel()  # what the writer has not taken up yet, it need not
            self._circuit.trip(f"no commit within {COMMIT_S:.0f} s")
            raise StorageAwayError(f"no commit within {COMMIT_S:.0f} s")
        answer = waiting.stored.result()
        if isinstance(answer, StorageAwayError):
            raise answer
        return answer

    @staticmethod
    async def _spooled(waiting: _Waiting, spooler: Spooler) -> Spooled:
        age_s = asyncio.get_running_loop().time() - waiting.received_at
        try:
            async with asyncio.timeout(DISK_S):
                return await spooler.keep(waiting.event, time.time() - age_s)
        except SpoolError as error:
            raise StorageAwayError(one_line(error)) from error
        except TimeoutError:
            raise StorageAwayError(f"the disk did not take it within {DISK_S:.0f} s") from None

    async def write(self) -> None:
        """Commit batch after batch; only cancelling ends it."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and not _is_full(batch):
                batch.append(self._queue.get_nowait())
            if batch := [waiting for waiting in batch if not waiting.stored.cancelled()]:
                await self._commit(batch)

    async def _commit(self, batch: list[_Waiting]) -> None:
        began = time.monotonic()
        try:
            recorded: list[Recorded] = await _retried()(self._record, batch)
        except psycopg.Error as error:
            self._circuit.trip(one_line(error))
            for waiting in batch:
                _answer(waiting, StorageAwayError(one_line(error)))
        else:
            if time.monotonic() - began < COMMIT_S:
                self._circuit.mend()
            for waiting, answer in zip(batch, recorded, strict=True):
                _answer(waiting, answer)

    async def _record(self, batch: list[_Waiting]) -> list[Recorded]:
        return await record_events(self._session, lambda: _aged(batch))


def _aged(batch: list[_Waiting]) -> list[NewEvent]:
    """Return the events with the age that each has by now: a try may come long after the receipt."""
    now = asyncio.get_running_loop().time()  # one for all, else the last to be read would be the oldest
    return [replace(waiting.event, age_s=now - waiting.received_at) for waiting in batch]


def _is_full(batch: list[_Waiting]) -> bool:
    return len(batch) >= BATCH or sum(len(waiting.event.body) for waiting in batch) >= BATCH_BYTES


def _answer(waiting: _Waiting, answer: Recorded | StorageAwayError) -> None:
    if not waiting.stored.done():  # it may have gone to the spool meanwhile
        waiting.stored.set_result(answer)


def _retried() -> AsyncRetrying:
    """Try a batch again that lost a deadlock or its connection; its events' ids make that safe.

    A database that stays away is left to the sender's retry, and one that hangs has taken long enough already.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_random(0, 0.1),
        stop=stop_after_attempt(5) | stop_after_delay(5),
        reraise=True,
    )
