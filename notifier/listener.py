"""The LISTEN connection: connect, listen, prove that it lives, hear; and again after every loss."""

import asyncio
import contextlib
from collections.abc import Sequence

import psycopg
import structlog
from psycopg import sql

from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from notifier.waker import Waker
from sql import jobs
from sql.migrate import SchemaTooOldError, check_version, latest
from sql.session import connect, deadline

PULSE_DEADLINE_S = 2.5
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0

log = structlog.get_logger()


class Listener:
    """Listens on the channels of some queues and rings the waker, for ever."""

    def __init__(self, dsn: str, queues: Sequence[str], waker: Waker, *, name: str, pulse_s: float) -> None:
        """Take the connection string, the queues, the bell to ring and the seconds between two pulses."""
        self._dsn = dsn
        self._queues = queues
        self._waker = waker
        self._name = name
        self._pulse_s = pulse_s
        self._failures = 0
        self._complain = Complaint()
        self._known = latest()

    async def run(self) -> None:
        """Listen, and come back after every loss; only cancelling ends it."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, SchemaTooOldError) as error:
                self._lost(error)
            await asyncio.sleep(
                full_jitter_s(self._failures, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S) + FIRST_RETRY_S
            )

    async def _listen(self) -> None:
        connection = await connect(self._dsn, name=f"{self._name} listen")
        try:
            with deadline(connection, PULSE_DEADLINE_S):
                await self._subscribe(connection)
            await self._pulse(connection)
            self._up()
            while True:
                await self._hear(connection)
                await self._pulse(connection)
        finally:
            self._waker.listening = False
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _subscribe(self, connection: psycopg.AsyncConnection) -> None:
        found = await check_version(connection)
        if found > self._known:
            log.info("schema_newer", found=found, known=self._known)
            self._known = found  # once is enough: it stays newer
        for queue in self._queues:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(f"agent_vault_{queue}")))

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        """Ring for each notification until the next pulse is due.

        The pulse must come between two `notifies()`: a statement beside a running one hangs. What arrives during
        the pulse is kept by psycopg and comes out of the next call.
        """
        async for heard in connection.notifies(timeout=self._pulse_s):
            queue = heard.channel.removeprefix("agent_vault_")
            log.debug("notified", queue=queue)
            self._waker.ring("notified")

    async def _pulse(self, connection: psycopg.AsyncConnection) -> None:
        with deadline(connection, PULSE_DEADLINE_S):
            pulse = await jobs.pulse(connection, self._queues)
        if pulse.work_waits:
            self._waker.ring("work_waits")
        else:
            self._waker.due_in(pulse.next_due_ms)

    def _up(self) -> None:
        self._failures = 0
        self._complain.over()
        self._waker.listening = True
        log.info("listener_up", queues=list(self._queues), name=self._name)
        self._waker.ring("listener_up")  # whatever came while nobody listened

    def _lost(self, error: Exception) -> None:
        self._failures += 1
        event = "schema_too_old" if isinstance(error, SchemaTooOldError) else "listener_lost"
        self._complain(event, error=one_line(error), failures=self._failures)
