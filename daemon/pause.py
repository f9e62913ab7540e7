"""While the gateway is away or misconfigured, nothing is claimed: jobs wait in the database, unspent."""

import asyncio

import structlog

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from notifier.complaint import Complaint
from notifier.ending import stopped_within

FIRST_PROBE_S = 0.25
LONGEST_PROBE_S = 2.0  # so that deliveries resume well within five seconds of the cure

log = structlog.get_logger()


class Pause:
    """Open while the gateway takes wakes; closed by an answer that says otherwise, opened by a probe."""

    def __init__(self, gateway: Gateway, stop: asyncio.Event) -> None:
        """Probe this gateway while closed, until stop is set."""
        self._gateway = gateway
        self._stop = stop
        self._answer: Answer | None = None
        self._wait_s = FIRST_PROBE_S
        self._complain = Complaint()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is to be sent."""
        return self._answer is not None

    def close(self, answer: Answer) -> None:
        """Pause, and say why and what to do."""
        self._answer = answer
        self._complain(
            "gateway_paused",
            reason=answer.verdict.value,
            status=answer.status,
            detail=answer.detail,
            remedy=self._gateway.remedy(answer),
        )

    def trust(self) -> None:
        """Begin the next pause with quick probes again: a wake was taken.

        A good probe is not enough for that: a gateway may answer it and yet refuse each wake.
        """
        self._wait_s = FIRST_PROBE_S
        self._complain.over()

    async def opened(self) -> Answer | None:
        """Return when the gateway would take a wake, or when the daemon stops, with the answer that had closed it."""
        closed_by = self._answer
        while self._answer is not None and not await stopped_within(self._stop, self._wait_s):
            self._wait_s = min(self._wait_s * 2, LONGEST_PROBE_S)
            await self._probe()
        return closed_by

    async def _probe(self) -> None:
        answer = await self._gateway.probe()
        if answer.verdict is Verdict.ACCEPTED:
            self._answer = None
            log.info("gateway_resumed")
        elif not self._stop.is_set():
            self.close(answer)
