"""Whether the gateway's process is still the one that took the wakes: what one that ended had pending is lost."""

import asyncio
import math
from uuid import UUID

import psycopg
import structlog
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from daemon.answers import Answer
from daemon.gateway import Gateway
from daemon.pacing import Pacer
from notifier.complaint import Complaint, one_line
from notifier.presence import Presence
from notifier.waker import Waker
from sql import settling
from sql.session import Session

LOOK_S = 5.0
LATE_S = 15.0  # by then a lapsed lease was returned
FAILED_S = 60.0
READY_S = 3.0  # a gateway that starts takes wakes a second or two before it tells its age

REMEDY = "see that the agent runs and has the skill (agent-daemon install-skill), then agent-vault jobs retry"

log = structlog.get_logger()


class GatewayWatch:
    """Looks at the gateway's age while jobs await handling, and has them sent again when it began anew."""

    def __init__(self, session: Session, gateway: Gateway, presence: Presence, pacer: Pacer, waker: Waker) -> None:
        """Take the parts; nothing is looked at before something awaits handling."""
        self._session = session
        self._gateway = gateway
        self._presence = presence
        self._pacer = pacer
        self._waker = waker
        self._first_s = math.inf
        self._until_s = 0.0
        self._told: set[UUID] = set()
        self._looked_s: float | None = None  # when the gateway told its age last; None: it must be compared
        self._awaited = asyncio.Event()
        self._complain = Complaint()

    def expect(self, within_s: float) -> None:
        """Watch for so many seconds from now: a job awaits handling until then."""
        now_s = asyncio.get_running_loop().time()
        self._first_s = min(self._first_s, now_s + within_s)
        self._until_s = max(self._until_s, now_s + within_s + LATE_S)
        self._looked_s = None  # it may have begun anew between its answer and this word of it
        self._awaited.set()

    async def run(self) -> None:
        """Look every few seconds while anything awaits handling; only cancelling ends it."""
        while True:
            await self._awaited.wait()
            await self.look()
            await self._tell_failed()
            await asyncio.sleep(LOOK_S)
            if not self._is_awaited():
                self._awaited.clear()
                self._looked_s, self._first_s = None, math.inf
                self._told.clear()

    async def look_again(self, closed_by: Answer) -> None:
        """Look after the gateway was away, and wait a moment for its age.

        One that tells none is taken for new if nobody had listened there, and else for the one that it was.
        """
        if not self._is_awaited():
            return
        ready = AsyncRetrying(
            retry=retry_if_result(lambda up_s: up_s is None),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(READY_S),
            retry_error_callback=lambda _: None,
        )
        up_s: float | None = await ready(self._gateway.uptime_s)
        if up_s is None and closed_by.status is None and not closed_by.may_be_taken:
            up_s = 0.0
        if up_s is not None:
            await self._compare(up_s)

    async def forget_lost(self) -> None:
        """Count nothing as pending any more that an earlier process of the gateway took."""
        up_s = await self._gateway.uptime_s()
        if up_s is not None:
            self._pacer.gateway_began(asyncio.get_running_loop().time() - up_s)

    async def look(self) -> None:
        """Look once."""
        up_s = await self._gateway.uptime_s()
        if up_s is not None:
            await self._compare(up_s)

    async def _compare(self, up_s: float) -> None:
        """Have jobs sent again that an earlier process of the gateway took."""
        now_s = asyncio.get_running_loop().time()
        # not a matter of clocks, which a person may set: it is younger than the last look at it
        is_new = self._looked_s is not None and up_s < now_s - self._looked_s
        if self._looked_s is not None and not is_new:
            self._looked_s = now_s
            return
        try:
            count = await settling.resend_unhandled(
                self._session, self._presence.identity.daemon, self._presence.queues, up_s
            )
        except psycopg.Error as error:
            self._complain("gateway_restart_unheard", error=one_line(error))
            return
        self._complain.over()
        self._looked_s = now_s
        if is_new or count:
            self._pacer.gateway_began(now_s - up_s)
            log.warning("gateway_restarted", up_s=round(up_s, 1), sent_again=count)
            self._waker.ring("gateway restarted")

    async def _tell_failed(self) -> None:
        """Log what became a dead letter because nobody handled it: the database decides that, in whose claim ever."""
        if asyncio.get_running_loop().time() < self._first_s:
            return
        try:
            failed = await settling.failed_unhandled(
                self._session, self._presence.identity.daemon, self._presence.queues, FAILED_S
            )
        except psycopg.Error:
            return  # others say so; it is asked again
        if new := failed - self._told:
            log.error("events_not_handled", job_ids=sorted(map(str, new)), remedy=REMEDY)
        self._told |= failed

    def _is_awaited(self) -> bool:
        return asyncio.get_running_loop().time() < self._until_s
