"""The micro-batching writer: many requests, one commit, each acknowledged after it."""

import asyncio
from dataclasses import dataclass, field, replace

import psycopg
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random

from notifier.complaint import Complaint, one_line
from sql.learnings import NewEvent, Recorded, record_events
from sql.session import Session

BATCH = 50
BATCH_BYTES = 16 * 1024 * 1024  # a batch stands in memory several times on its way
WAITING = 1000

log = structlog.get_logger()


class StorageAwayError(Exception):
    """The event is not stored, or nobody knows: it must be sent again."""


@dataclass(slots=True)
class _Waiting:
    """An event and the request that waits for its commit."""

    event: NewEvent
    received_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    stored: asyncio.Future[Recorded] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Inbox:
    """Takes events from concurrent requests and commits what is there, again and again: no timer, no delay."""

    def __init__(self, session: Session) -> None:
        """Write over this session, which nobody else uses."""
        self._session = session
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING)
        self._complain = Complaint()

    async def store(self, event: NewEvent) -> Recorded:
        """Return when the event is committed. Raises StorageAwayError."""
        waiting = _Waiting(event)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise StorageAwayError(f"{WAITING} events wait for the database") from None
        return await waiting.stored

    async def write(self) -> None:
        """Commit batch after batch; only cancelling ends it."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and not _is_full(batch):
                batch.append(self._queue.get_nowait())
            await self._commit(batch)

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            recorded: list[Recorded] = await _retried()(self._record, batch)
        except psycopg.Error as error:
            self._complain("database_away", error=one_line(error))
            for waiting in batch:
                _refuse(waiting, error)
        else:
            if self._complain.over():
                log.info("database_back")
            for waiting, answer in zip(batch, recorded, strict=True):
                if not waiting.stored.done():  # its client may have gone
                    waiting.stored.set_result(answer)

    async def _record(self, batch: list[_Waiting]) -> list[Recorded]:
        """Store the batch with the age that each event has by now: a try may come long after the receipt."""
        now = asyncio.get_running_loop().time()
        events = [replace(waiting.event, age_s=now - waiting.received_at) for waiting in batch]
        return await record_events(self._session, events)


def _is_full(batch: list[_Waiting]) -> bool:
    return len(batch) >= BATCH or sum(len(waiting.event.body) for waiting in batch) >= BATCH_BYTES


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.stored.done():
        waiting.stored.set_exception(StorageAwayError(one_line(error)))


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
