"""What becomes of jobs after the gateway's answer."""

import asyncio
from collections.abc import Callable, Container, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from daemon.answers import Answer, Verdict
from daemon.completing import Completing
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pause import Pause
from daemon.plan import Deferred, Digest
from daemon.until_heard import UntilHeard, facts
from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint
from sql import settling
from sql.jobs import Job, Outcome
from sql.session import Session

if TYPE_CHECKING:
    from uuid import UUID

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 600.0
ROUTE_RETRY_S = 30.0

log = structlog.get_logger()


class Settlement:
    """Ends the claims of one daemon."""

    def __init__(  # noqa: PLR0913 - its parts, wired by the worker
        self,
        session: Session,
        leases: Leases,
        pause: Pause,
        gateway: Gateway,
        expect: Callable[[float], None],
        *,
        patience_s: float,
    ) -> None:
        """Settle over this session; `expect` is told for how many seconds a job awaits handling."""
        self._session = session
        self._until_heard = UntilHeard(leases, patience_s=patience_s)
        self._completing = Completing(session, leases, self._until_heard)
        self._pause = pause
        self._gateway = gateway
        self._expect = expect
        self._complain = Complaint()

    @property
    def is_paused(self) -> bool:
        """Whether the latest answers say that nothing is to be sent."""
        return self._pause.is_closed

    async def settle(self, digest: Digest, answer: Answer) -> Verdict:
        """Do with its jobs as the gateway's answer says, or the probe after it, and return which verdict that was."""
        answered_at = asyncio.get_running_loop().time()
        if answer.blames_the_job and (unwell := await self._gateway_is_unwell()):
            answer = unwell
        outcome = _outcome(digest, answer)
        match answer.verdict:
            case Verdict.ACCEPTED:
                self._pause.trust()
                self._complain.over()
                await self._complete(digest, outcome, answered_at)
                await self._await_handling(digest, outcome, answered_at)
            case Verdict.REJECTED if len(digest.items) > 1:
                await self.release(digest.jobs, f"{answer.status}: {answer.detail}: goes out in smaller digests")
            case Verdict.REJECTED:
                await self.fail(digest.jobs, f"{answer.status}: {answer.detail}", outcome)
            case Verdict.FAILED:
                await self._retry(digest.jobs, answer, outcome)
            case Verdict.ROUTE_REFUSED:
                remedy = self._gateway.remedy(answer)
                self._complain("route_refused", route=digest.route.type, detail=answer.detail, remedy=remedy)
                await self.release(digest.jobs, remedy, ROUTE_RETRY_S)
            case Verdict.POSTPONED:
                await self.release(digest.jobs, answer.detail, answer.retry_after_s or 0)
            case Verdict.MISCONFIGURED | Verdict.UNAVAILABLE:
                # no delay, whatever Retry-After says: the pause's probe knows better when the gateway is back
                self._pause.close(answer)
                await self.release(digest.jobs, self._gateway.remedy(answer))
        return answer.verdict

    async def drop(self, digest: Digest) -> None:
        """End jobs as their route says, without a word to the gateway."""
        outcome = {"reason": "dropped", "route": digest.route.type}

        async def complete(held: Sequence[Job]) -> Container["UUID"]:
            return await settling.drop_jobs(self._session, held, outcome)

        for job in await self._until_heard(digest.jobs, complete):
            log.info("job_dropped", **facts(job), route=digest.route.type)

    async def fail(self, failed: Sequence[Job], error: str, outcome: Outcome) -> None:
        """Make them dead letters."""

        async def fail(held: Sequence[Job]) -> Container["UUID"]:
            return await settling.fail_jobs(self._session, held, error, outcome)

        for job in await self._until_heard(failed, fail, outcome):
            log.error("job_failed", **facts(job), error=error)

    async def release(
        self, released: Sequence[Job], reason: str, delay_s: float = 0, event: str = "job_released"
    ) -> None:
        """Give them back untried, due delay_s seconds from now."""

        async def release(held: Sequence[Job]) -> Container["UUID"]:
            return await settling.release_jobs(self._session, held, delay_s, reason)

        for job in await self._until_heard(released, release):
            log.info(event, **facts(job), reason=reason, delay_s=round(delay_s, 3))

    async def defer(self, deferred: Sequence[Deferred]) -> None:
        """Put jobs off, all of a time and reason in one call."""
        for (delay_s, reason), together in groupby(deferred, lambda one: (one.delay_s, one.reason)):
            await self.release([one.job for one in together], reason, delay_s, "job_deferred")

    async def _gateway_is_unwell(self) -> Answer | None:
        """Probe the gateway, and return its answer if that is not the one of a gateway that is well.

        What answers everything so, another server on its port or a gateway that is broken, would use up every event.
        """
        answer = await self._gateway.probe()
        return None if answer.verdict is Verdict.ACCEPTED else answer

    async def _complete(self, digest: Digest, outcome: Outcome, answered_at: float) -> None:
        done = [item.job for item in digest.items if not item.awaits_handling]
        for job in await self._completing(done, outcome, answered_at) if done else ():
            log.info("job_delivered", **facts(job), **outcome)

    async def _await_handling(self, digest: Digest, outcome: Outcome, answered_at: float) -> None:
        awaiting = [item for item in digest.items if item.awaits_handling]
        for within_s, items in groupby(awaiting, lambda item: item.route.told_again_s):
            await self._leave([item.job for item in items], outcome, answered_at, within_s)

    async def _leave(self, left: Sequence[Job], outcome: Outcome, answered_at: float, within_s: float) -> None:
        """Leave jobs to the agent, under a lease that ends with its time."""
        handled: dict[UUID, bool] = {}

        async def leave(held: Sequence[Job]) -> Container["UUID"]:
            since_s = _since_s(answered_at)
            handled.update(await settling.await_handling(self._session, held, outcome, since_s, within_s))
            return handled

        for job in await self._until_heard(left, leave, outcome):
            log.info("job_delivered" if handled[job.id] else "job_awaits_handling", **facts(job), **outcome)
        self._expect(within_s)

    async def _retry(self, retried: Sequence[Job], answer: Answer, outcome: Outcome) -> None:
        backoff_s = full_jitter_s(max(job.attempts for job in retried), first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S)
        delay_s = max(backoff_s, answer.retry_after_s or 0)
        error = answer.detail if answer.status is None else f"{answer.status}: {answer.detail}"
        statuses: dict[UUID, str] = {}

        async def retry(held: Sequence[Job]) -> Container["UUID"]:
            statuses.update(await settling.retry_jobs(self._session, held, delay_s, error, outcome))
            return statuses

        for job in await self._until_heard(retried, retry, outcome):
            if statuses[job.id] == "failed":
                log.error("job_failed", **facts(job), error=error)
            else:
                log.warning("job_retried", **facts(job), error=error, delay_s=round(delay_s, 3))


def _since_s(then: float) -> float:
    return asyncio.get_running_loop().time() - then


def _outcome(digest: Digest, answer: Answer) -> Outcome:
    """Say what is kept of the answer; `session` and `wake` tell the next run what it may find pending."""
    outcome = {
        "status": answer.status,
        "event_outcome": answer.event_outcome,
        "detail": answer.detail or None,
        "posts": answer.posts,
        "jobs": len(digest.items),
    }
    if digest.takes_slot:
        outcome |= {"session": digest.route.session, "wake": digest.key}
    if digest.route.action == "agent":
        outcome |= {"run_id": answer.run_id, "completion": answer.completion}
    return outcome
