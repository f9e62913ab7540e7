"""The way of one digest: its leases assured, its POST, its answer settled."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pacing import Digest, Routed
from daemon.settlement import Settlement
from daemon.wording import text_of
from notifier.sleep import SleepWatch
from sql.jobs import LeaseLostError

if TYPE_CHECKING:
    from sql.jobs import Job

NOTHING_TO_SAY = "payload.text is missing: there is nothing to say"

log = structlog.get_logger()


class Delivery:
    """Delivers digests, at most `concurrency` wakes at once; an agent run may take long and holds up none."""

    def __init__(  # noqa: PLR0913 - its parts, wired by the worker
        self,
        gateway: Gateway,
        leases: Leases,
        settlement: Settlement,
        sleep: SleepWatch,
        stop: asyncio.Event,
        *,
        concurrency: int,
    ) -> None:
        """Take the parts."""
        self._gateway = gateway
        self._leases = leases
        self._settlement = settlement
        self._sleep = sleep
        self._stop = stop
        self._places = asyncio.Semaphore(concurrency)

    async def deliver(self, digest: Digest) -> bool:
        """Send it and settle its jobs; tell whether the gateway has it pending now, or may have."""
        try:
            if digest.route.action == "drop":
                await self._settlement.drop(digest)
                return False
            digest = replace(digest, items=tuple(await self._held(digest)))
            text = text_of(digest.jobs)
            if text is None:
                await self._settlement.fail(digest.jobs, NOTHING_TO_SAY, {})
                return False
            answer = await self._send(digest, text)
        except LeaseLostError:
            for job in digest.jobs:
                log.info("job_not_sent", job_id=job.id, queue=job.queue, reason="its lease is another worker's by now")
            return False
        await self._settlement.settle(digest, answer)
        return answer.verdict is Verdict.ACCEPTED or answer.may_be_taken

    async def _send(self, digest: Digest, text: str) -> Answer:
        async def assure() -> None:
            await self._held(digest)

        if digest.route.action == "agent":
            (job,) = digest.jobs
            self._leases.set_aside(job)
            return await self._gateway.agent(digest.route, text, job, stop=self._stop, assure=assure)
        async with self._places:
            route = digest.route
            mode = "now" if digest.is_urgent else "next-heartbeat"
            return await self._gateway.wake(
                text,
                mode=mode,
                agent_id=route.agent_id,
                session_key=route.session_key,
                stop=self._stop,
                assure=assure,
            )

    async def _held(self, digest: Digest) -> list[Routed]:
        """Wait until the leases hold, whatever the clocks did since the last look at them; leave out what is lost.

        Raises LeaseLostError when nothing is left.
        """
        self._sleep.look()
        held: list[Routed] = []
        lost: LeaseLostError | None = None
        for item in digest.items:
            job: Job = item.job
            try:
                await self._leases.assure(job)
            except LeaseLostError as error:
                lost = error
            else:
                held.append(item)
        if lost is not None and not held:
            raise lost
        return held
