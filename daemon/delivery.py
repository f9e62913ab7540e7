"""The way of one digest: its leases assured, its POST, its answer settled."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from daemon import answers
from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.plan import Digest, Ended
from daemon.settlement import Settlement
from daemon.templates import agent_message
from daemon.wording import text_of
from notifier.sleep import SleepWatch
from sql.jobs import Job, LeaseLostError

NOTHING_TO_SAY = "payload.text is missing: there is nothing to say"

log = structlog.get_logger()


class Delivery:
    """Delivers digests, each by itself: one slow answer holds up no other."""

    def __init__(  # noqa: PLR0913 - its parts, wired by the worker
        self,
        gateway: Gateway,
        leases: Leases,
        settlement: Settlement,
        *,
        sleep: SleepWatch,
        stop: asyncio.Event,
        answered: Callable[[Digest], None],
    ) -> None:
        """Take the parts; `answered` hears when a digest is no longer on its way to the gateway."""
        self._gateway = gateway
        self._leases = leases
        self._settlement = settlement
        self._sleep = sleep
        self._stop = stop
        self._answered = answered

    async def deliver(self, digest: Digest) -> Ended:
        """Send it and settle its jobs; tell what became of it."""
        try:
            if len(digest.items) > 1:  # a lone one is looked at right before its POST
                digest = await self._without_lost(digest)
            answer = await self._send(digest)
        except LeaseLostError:
            answer = None
            for job in digest.jobs:
                log.info("job_not_sent", job_id=job.id, queue=job.queue, reason="its lease is another worker's by now")
        except Exception:
            self._answered(digest)
            raise
        self._answered(digest)  # but not where this is cancelled: then nothing is to go out any more
        if answer is None:
            return Ended(pending=False)
        verdict = await self._settlement.settle(digest, answer)
        return Ended(_is_pending(digest, answer), verdict is Verdict.REJECTED)

    async def _send(self, digest: Digest) -> Answer | None:
        """Do as its route says; None means that no answer is to be settled. Raises LeaseLostError."""
        match digest.route.action:
            case "drop":
                await self._settlement.drop(digest)
                return None
            case "agent":
                text = agent_message(digest.route.message, digest.jobs[0])
            case "wake":
                text = text_of(digest.jobs)
        if text is None:
            await self._settlement.fail(digest.jobs, NOTHING_TO_SAY, {})
            return None
        return await self._post(digest, text)

    async def _post(self, digest: Digest, text: str) -> Answer:
        async def assure() -> None:
            await self._hold_on(digest)

        if digest.route.action == "agent":
            (job,) = digest.jobs
            # what is sent again is another run: the gateway would answer with the one that it remembers
            key = str(job.id) if job.sent_at is None else f"{job.id}/{job.sent_at.timestamp():.6f}"
            return await self._gateway.agent(digest.route, text, key, stop=self._stop, assure=assure)
        if self._stop.is_set():
            return answers.held_back("the daemon stops")
        if self._settlement.is_paused:  # by the answer to one that went out before
            return answers.held_back("the gateway takes no wakes")
        return await self._gateway.wake(text, route=digest.route, stop=self._stop, assure=assure)

    async def _without_lost(self, digest: Digest) -> Digest:
        """Return the digest of those whose leases hold. Raises LeaseLostError when nothing is left."""
        held = await self._hold_on(digest)
        if len(held) == len(digest.items):
            return digest
        return replace(digest, items=tuple(item for item in digest.items if self._leases.holds(item.job)))

    async def _hold_on(self, digest: Digest) -> list[Job]:
        """Wait until the leases hold, whatever the clocks did since the last look at them; return those that do.

        Raises LeaseLostError when none does.
        """
        self._sleep.look()
        held = await self._leases.hold_on(digest.jobs)
        if not held:
            raise LeaseLostError(digest.jobs[0].id, digest.jobs[0].claims)
        return held


def _is_pending(digest: Digest, answer: Answer) -> bool:
    """Tell whether the gateway has, or may have, an event of it in the session; a run that failed is announced too."""
    if digest.takes_slot and answer.verdict is Verdict.ACCEPTED:
        return True
    return answer.may_be_taken or answer.completion not in {None, "ok"}
