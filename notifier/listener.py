"""The LISTEN connection: connect, listen, prove that it hears and lives; and again after every loss."""

import asyncio
import contextlib

import psycopg
import structlog

from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from notifier.echo import Echo
from notifier.presence import Presence
from notifier.waker import Waker
from sql.jobs import Pulse
from sql.line import DatabaseSilentError, Line, connect
from sql.migrate import SchemaTooOldError, latest, require_version
from sql.names import DAEMONS_LOGIN, NameTakenError, may_be_no_daemon
from sql.session import Session

PULSE_DEADLINE_S = 2.5
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
RECHECK_S = 60.0
CHANNEL = "agent_vault_"
REMEDY = (
    "DATABASE_URL leads to a transaction-mode pooler, which swallows LISTEN, so events are polled for: "
    "set it to a session (on Supabase the session pooler, port 5432 in place of 6543)"
)

log = structlog.get_logger()


class Listener:
    """Listens on the channels of a daemon's queues and rings the waker, for ever."""

    def __init__(self, dsn: str, presence: Presence, waker: Waker, session: Session, *, pulse_s: float) -> None:
        """Take the connection string, whose presence it keeps, the bell, the other connection, and the pulse."""
        self._dsn = dsn
        self._presence = presence
        self._waker = waker
        self._session = session
        self._pulse_s = pulse_s
        self._failures = 0
        self._complain = Complaint()
        self._known = latest()
        self._is_deaf = False
        self._echo: Echo | None = None
        self._doubted = asyncio.Event()

    async def run(self) -> None:
        """Listen, and come back after every loss; only cancelling ends it."""
        while True:
            began = asyncio.get_running_loop().time()
            try:
                if not await self._listen():
                    await self._go_without()
            except (psycopg.Error, OSError, SchemaTooOldError, NameTakenError) as error:
                self._lost(error)
            # a try that took its time, as one that nobody answers does, has waited already
            pause_s = full_jitter_s(self._failures, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S)
            await asyncio.sleep(max(FIRST_RETRY_S, began + pause_s - asyncio.get_running_loop().time()))

    def doubt(self) -> None:
        """Prove at once that the connection lives, and drain what came meanwhile: the machine slept."""
        self._doubted.set()
        if self._echo is not None:
            self._echo.ear.interrupt()

    async def _listen(self) -> bool:
        """Listen until the connection is lost, which raises; False when it cannot hear."""
        connection = await connect(self._dsn, name=f"agent-daemon {self._presence.identity.daemon} listen")
        echo, line = Echo(connection, self._heard), Line(connection, deadline_s=PULSE_DEADLINE_S)
        try:
            await self._check_version(line)
            for queue in self._presence.queues:
                await echo.ear.listen(line, CHANNEL + queue)
            if not await echo.comes_back(self._session):
                return False
            await self._presence.take(line, listens=True)
            self._act_on(await self._presence.pulse(line, listens=True))
            self._up()
            self._echo = echo
            while True:
                # the pulse comes between: a statement while the socket is waited for would hang
                await echo.ear.hear(0 if self._doubted.is_set() else self._pulse_s)
                self._doubted.clear()
                self._act_on(await self._presence.pulse(line, listens=True))
                self._lasts()
        except DatabaseSilentError:
            # the network is gone, and with it the other connection, whose statement would wait far longer
            self._session.cut()
            raise
        finally:
            self._waker.listening, self._echo = False, None
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _check_version(self, line: Line) -> None:
        found = await require_version(line)
        if found > self._known:
            log.info("schema_newer", found=found, known=self._known)
            self._known = found  # once is enough: it stays newer

    def _heard(self, channel: str) -> None:
        log.debug("notified", queue=channel.removeprefix(CHANNEL))
        self._waker.ring("notified")

    def _act_on(self, pulse: Pulse) -> None:
        self._waker.suspect_queue = pulse.suspect_queue
        if pulse.work_waits:
            self._waker.ring("work_waits")
        else:
            self._waker.due_in(pulse.next_due_ms)

    def _lasts(self) -> None:
        """Forget the failures: a connection that is lost again before its first pulse is no end of the trouble."""
        self._failures = 0
        self._complain.over()

    def _up(self) -> None:
        self._is_deaf = False
        self._waker.listening = True
        log.info("listener_up", queues=list(self._presence.queues), name=self._presence.identity.daemon)
        self._waker.ring("listener_up")  # whatever came while nobody listened

    async def _go_without(self) -> None:
        """Keep the pulse over the other connection while the waker polls; look again from time to time."""
        if not self._is_deaf:
            self._is_deaf = True
            log.warning("notifications_swallowed", poll_s=self._waker.poll_s, remedy=REMEDY)
        self._failures = 0
        until = asyncio.get_running_loop().time() + RECHECK_S
        await self._presence.take(self._session, listens=False)
        while asyncio.get_running_loop().time() < until:
            self._act_on(await self._presence.pulse(self._session, listens=False))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pulse_s):
                    await self._doubted.wait()
            self._doubted.clear()

    def _lost(self, error: Exception) -> None:
        self._failures += 1
        if not self._presence.tried:
            self._presence.tried = True
            self._waker.due_in(0)  # the worker waits for this
        if isinstance(error, NameTakenError):
            return  # said by the presence
        event = "schema_too_old" if isinstance(error, SchemaTooOldError) else "listener_lost"
        facts = {"remedy": DAEMONS_LOGIN} if may_be_no_daemon(error) else {}
        self._complain(event, error=one_line(error), failures=self._failures, **facts)
