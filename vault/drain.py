"""The way back: what the spool holds goes into Postgres, batch after batch, in order of receipt."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog
from msgspec import structs

from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from sql.learnings import NewEvent, Recorded, record_events
from sql.session import Session
from vault.circuit import Circuit
from vault.spool import Kept, Spool
from vault.spool_file import SpoolError
from vault.spooler import Spooler

BATCH = 50
BATCH_BYTES = 4 * 1024 * 1024  # live requests wait for one batch at most
IDLE_S = 2.0
DEADLINE_S = 10.0
BYTES_A_SECOND = 256 * 1024  # a slow line gets the time that a large body takes on it
SLOW_S = 3.0
HEAVY = ("53200", "XX")  # out of memory, and what else Postgres says where an allocation is too large
AWAY = (psycopg.OperationalError, psycopg.InternalError)  # the second when it is read-only

log = structlog.get_logger()


class Drain:
    """Moves deliveries from the spool to Postgres, over the connection that new ones use too.

    The session serves in turn, so neither starves the other.
    """

    def __init__(self, session: Session, spooler: Spooler, circuit: Circuit, is_back: Callable[[], bool]) -> None:
        """Take the writer's session, and who knows of Postgres's return when nothing here waits for it."""
        self._session = session
        self._spooler = spooler
        self._circuit = circuit
        self._is_back = is_back
        self._complain = Complaint()
        self._failures = 0
        self._trying: tuple[Spool, list[Kept]] | None = None
        self._done: Counter[str] = Counter()
        self._heavy: set[str] = set()  # deliveries by event_id

    async def run(self) -> None:
        """Move what waits, and wait for more; only cancelling ends it."""
        while True:
            try:
                moved = await self._move_once()
            except psycopg.Error as error:
                await self._back_off(error)
            except (SpoolError, OSError) as error:
                self._complain("spool_failed", error=one_line(error))
                self._look_for_postgres()  # a file that fails moves nothing that could tell
                await self._wait()
            else:
                if not moved:
                    await self._rest()

    async def _move_once(self) -> bool:
        """Move one batch; return whether there was any. Raises psycopg.Error, SpoolError."""
        self._spooler.news.clear()  # before the look: what comes during it must be seen
        if not self._circuit.usable:
            return False
        # after a failure one by one: the next one then is about that delivery alone
        rows = 1 if self._failures else BATCH
        found = await self._spooler.next_batch(rows=rows, body_bytes=BATCH_BYTES)
        self._trying = found
        if found is None:
            self._tell()
            return False
        began = time.monotonic()
        answers = await self._record(found[1])
        self._failures = 0
        self._heavy.difference_update(one.event.event_id for one in found[1])
        if time.monotonic() - began < SLOW_S:
            self._circuit.mend()
        await self._settle(*found, answers)
        return True

    async def _record(self, batch: Sequence[Kept]) -> list[Recorded]:
        body_bytes = sum(len(one.event.body) for one in batch)
        deadline_s = DEADLINE_S + body_bytes / BYTES_A_SECOND
        events = [self._eased(one.event) for one in batch]
        return await record_events(self._session, events, ages_s=lambda: _ages_s(batch), deadline_s=deadline_s)

    def _eased(self, event: NewEvent) -> NewEvent:
        """Return the event without its jsonb where that may be what Postgres has no memory for."""
        return structs.replace(event, as_json=False) if event.event_id in self._heavy else event

    async def _settle(self, spool: Spool, batch: Sequence[Kept], answers: Sequence[Recorded]) -> None:
        refused: dict[str, str] = {}
        for one, answer in zip(batch, answers, strict=True):
            if answer.refused is not None:
                refused[answer.event_id] = answer.refused
                log.error("spool_refused_row", **_facts(spool, one), error=answer.refused)
        self._done["refused"] += len(refused)
        self._done["duplicates"] += sum(answer.duplicate for answer in answers)
        self._done["moved"] += len(batch) - len(refused)
        try:
            await self._spooler.settle(spool, batch, refused)
        except SpoolError as error:  # a full disk: they stay until it has room, and are passed over meanwhile
            self._complain("spool_failed", error=one_line(error))
        else:
            self._complain.over()

    def _tell(self) -> None:
        if self._done:
            log.info("spool_drained", **{name: self._done[name] for name in ("moved", "duplicates", "refused")})
            self._done.clear()

    async def _rest(self) -> None:
        """Wait for what comes into the spool; look now and then for files that others left."""
        self._look_for_postgres()
        try:
            async with asyncio.timeout(IDLE_S):
                await self._spooler.news.wait()
        except TimeoutError:
            await self._adopt()

    def _look_for_postgres(self) -> None:
        if not self._circuit.closed and self._is_back():
            self._circuit.mend()

    async def _adopt(self) -> None:
        try:
            await self._spooler.adopt()
        except (SpoolError, OSError) as error:
            self._complain("spool_failed", error=one_line(error))

    async def _back_off(self, error: psycopg.Error) -> None:
        """Give Postgres time; a single delivery that it takes for wrong, and cannot refuse as a row, goes last."""
        is_away = isinstance(error, AWAY) or not self._is_back()
        if is_away:
            self._circuit.trip(one_line(error))
        is_heavy = (error.sqlstate or "").startswith(HEAVY)
        if self._trying is not None and len(self._trying[1]) == 1 and (is_heavy or not is_away):
            spool, (one,) = self._trying
            if is_heavy:
                self._heavy.add(one.event.event_id)
            if not is_away:
                self._complain("spool_not_moved", **_facts(spool, one), error=one_line(error))
            await self._spooler.pass_over(spool, [one])
        await self._wait()

    async def _wait(self) -> None:
        self._failures += 1
        await asyncio.sleep(full_jitter_s(self._failures, first_s=0.1, cap_s=5.0))


def _facts(spool: Spool, one: Kept) -> dict[str, Any]:
    """Return what the log says of a delivery and where it lies."""
    event = one.event
    return {
        "event_id": event.event_id,
        "learning_id": event.learning_id,
        "type": event.type,
        "file": str(spool.path),
    }


def _ages_s(batch: Sequence[Kept]) -> list[float]:
    """Return how old each is by now, in seconds; a clock that went back makes none younger than that."""
    now = time.time()
    return [max(0.0, now - one.received_at) for one in batch]
