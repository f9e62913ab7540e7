"""The micro-batching writer: many requests, one commit, each acknowledged after it."""

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from functools import partial

import psycopg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random

from notifier.complaint import one_line
from sql.learnings import NewEvent, Recorded, record_events
from sql.session import Session
from vault.circuit import Circuit
from vault.room import BYTES, Room
from vault.spool_file import SpoolError
from vault.spooler import Spooled, Spooler
from vault.wakes import Wakes

BATCH = 50
BATCH_BYTES = BYTES  # a batch stands in memory several times on its way
COMMIT_S = 3.0  # Composio's patience is not known
DEADLINE_S = 10.0
BYTES_A_SECOND = 1024 * 1024  # what a commit may be slower by: large bodies take long, on a slow line above all
DISK_S = 10.0
TRY_AGAIN_S = 5.0
WAKE_S = 1.0


class StorageAwayError(Exception):
    """The event is not stored, or nobody knows: it must be sent again."""


@dataclass(slots=True)
class _Waiting:
    """An event that waits for its commit, until it is `left` to the spool or to its sender."""

    event: NewEvent
    received_at: float
    stored: asyncio.Future[Recorded | Spooled]
    patience: asyncio.TimerHandle | None = None
    left: bool = False


class Inbox:
    """Takes events from concurrent requests and commits what is there, again and again: no timer, no delay.

    What Postgres does not take in time goes to the spool, where there is one.
    """

    def __init__(self, session: Session, circuit: Circuit | None = None, spooler: Spooler | None = None) -> None:
        """Write over this session, which only the drain of the spool uses too."""
        self._session = session
        self._circuit = circuit or Circuit()
        self._spooler = spooler
        self._room = Room()
        self._queue: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._wakes = Wakes()
        self._spooling: set[asyncio.Task[Spooled]] = set()  # the loop itself would let go of them

    def store(self, event: NewEvent) -> asyncio.Future[Recorded | Spooled]:
        """Return what is done when the event is committed or refused, or on this machine's disk.

        It has a StorageAwayError where it must be sent again.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.time(), loop.create_future())
        if self._circuit.closed or self._spooler is None:
            self._enqueue(waiting)
        else:
            self._leave(waiting, "the database is away")
        return waiting.stored

    def _enqueue(self, waiting: _Waiting) -> None:
        if not self._room.take(len(waiting.event.body)):
            self._leave(waiting, f"{self._room} for the database")
            return
        self._queue.append(waiting)
        self._news.set()
        all_s = _patience_s(self._room.all_bytes)
        # with a spool nobody waits for the bytes of others
        own_s = all_s if self._spooler is None else _patience_s(len(waiting.event.body))
        # a timer of its own, since asyncio.wait and asyncio.timeout cost several times as much
        waiting.patience = asyncio.get_running_loop().call_later(own_s, self._give_up, waiting, own_s >= all_s)

    def _give_up(self, waiting: _Waiting, is_overdue: bool) -> None:  # noqa: FBT001 - a timer passes no keywords
        """Wait for it no longer; what the writer has not taken up yet, it need not."""
        error = f"no commit within {asyncio.get_running_loop().time() - waiting.received_at:.0f} s"
        if is_overdue and not waiting.stored.done():
            self._circuit.trip(error)
        self._leave(waiting, error)

    def _leave(self, waiting: _Waiting, error: str) -> None:
        """Leave it to the spool, else to its sender. It may be committed all the same: its id makes one row of both."""
        waiting.left = True
        if waiting.stored.done():
            return
        if self._spooler is None:
            waiting.stored.set_exception(StorageAwayError(error))
            return
        task = asyncio.get_running_loop().create_task(_spool(waiting, self._spooler), name="spool one")
        self._spooling.add(task)
        task.add_done_callback(partial(self._spooled, waiting))

    def _spooled(self, waiting: _Waiting, task: asyncio.Task[Spooled]) -> None:
        self._spooling.discard(task)
        if waiting.stored.done() or task.cancelled():
            return
        error = task.exception()
        if error is None:
            waiting.stored.set_result(task.result())
        else:
            waiting.stored.set_exception(error)

    async def write(self) -> None:
        """Commit batch after batch, and wake the daemons that these did not; only cancelling ends it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wakes.due_s(time.monotonic())):
                    await self._news.wait()
            batch = self._next_batch()
            if not batch:
                await self._wake()
            try:
                if waiting := [one for one in batch if not (one.left or one.stored.done())]:
                    await self._commit(waiting)
            finally:
                for one in batch:
                    self._room.leave(len(one.event.body))

    async def wake_owed(self) -> None:
        """Wake whom the latest commits did not: no other commit will."""
        if self._wakes.owed:
            await self._wake()

    def _next_batch(self) -> list[_Waiting]:
        """Take what waits, up to so many events and bytes; a larger one goes alone."""
        batch: list[_Waiting] = []
        room_bytes = BATCH_BYTES
        while self._queue and len(batch) < BATCH:
            room_bytes -= len(self._queue[0].event.body)
            if batch and room_bytes < 0:
                break
            batch.append(self._queue.popleft())
        if not self._queue:
            self._news.clear()
        return batch

    async def _wake(self) -> None:
        """Wake whom the latest commits did not. What fails is tried again; besides, a daemon looks every 5 s."""
        owed = sorted(self._wakes.owed)
        try:
            await record_events(self._session, [], wake=owed, deadline_s=WAKE_S)
        except psycopg.Error:
            self._wakes.failed(time.monotonic(), WAKE_S)
        else:
            self._wakes.woke(owed, time.monotonic())

    async def _commit(self, batch: list[_Waiting]) -> None:
        began = time.monotonic()
        body_bytes = sum(len(one.event.body) for one in batch)
        queues = {one.event.queue for one in batch}
        wake = sorted(self._wakes.owed) if self._wakes.at_once(queues, began) else None
        if wake is None:
            self._wakes.owed |= queues  # before the try: a commit whose answer is lost wakes nobody when it is repeated
        deadline_s = DEADLINE_S + body_bytes / BYTES_A_SECOND
        try:
            recorded = await self._record_surely(batch, wake, deadline_s)
        except psycopg.Error as error:
            self._circuit.trip(one_line(error))
            for waiting in batch:
                if _still_waits(waiting):
                    self._leave(waiting, one_line(error))
        else:
            if wake is not None:
                self._wakes.woke([*wake, *queues], began)
            if time.monotonic() - began < _patience_s(body_bytes):
                self._circuit.mend()
            for waiting, answer in zip(batch, recorded, strict=True):
                if _still_waits(waiting):
                    waiting.stored.set_result(answer)

    async def _record_surely(self, batch: list[_Waiting], wake: list[str] | None, deadline_s: float) -> list[Recorded]:
        began = time.monotonic()
        try:
            return await self._record(batch, wake, deadline_s)  # by itself, for tenacity costs as much as a signature
        except psycopg.OperationalError:
            if time.monotonic() - began > TRY_AGAIN_S:
                raise
        recorded: list[Recorded] = await _retried()(self._record, batch, wake, deadline_s)
        return recorded

    async def _record(self, batch: list[_Waiting], wake: list[str] | None, deadline_s: float) -> list[Recorded]:
        events = [waiting.event for waiting in batch]
        ages_s = partial(_ages_s, batch)
        return await record_events(self._session, events, ages_s=ages_s, wake=wake, deadline_s=deadline_s)


def _patience_s(waiting_bytes: int) -> float:
    """Return how long a commit may take that so many bytes wait for."""
    return COMMIT_S + waiting_bytes / BYTES_A_SECOND


def _ages_s(batch: list[_Waiting]) -> list[float]:
    """Return how old each is by now, in seconds: a try may come long after the receipt."""
    now = asyncio.get_running_loop().time()  # one for all, else the last to be read would be the oldest
    return [now - waiting.received_at for waiting in batch]


def _still_waits(waiting: _Waiting) -> bool:
    """Tell whether anybody waits for its commit still, and end the wait."""
    if waiting.patience is not None:
        waiting.patience.cancel()
    return not (waiting.left or waiting.stored.done())


async def _spool(waiting: _Waiting, spooler: Spooler) -> Spooled:
    age_s = asyncio.get_running_loop().time() - waiting.received_at
    try:
        async with asyncio.timeout(DISK_S):
            return await spooler.keep(waiting.event, time.time() - age_s)
    except SpoolError as error:
        raise StorageAwayError(one_line(error)) from error
    except TimeoutError:
        raise StorageAwayError(f"the disk did not take it within {DISK_S:.0f} s") from None


def _retried() -> AsyncRetrying:
    """Try a batch again that lost a deadlock or its connection; its events' ids make that safe.

    A database that stays away is left to the sender's retry, and one that hangs has taken long enough already.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_random(0, 0.1),
        stop=stop_after_attempt(4) | stop_after_delay(TRY_AGAIN_S),
        reraise=True,
    )
