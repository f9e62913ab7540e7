"""What becomes of a job after the gateway's answer: one call on the database, tried until it is heard."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.pause import Pause
from notifier.backoff import full_jitter_s
from notifier.complaint import one_line
from sql import jobs
from sql.jobs import Job, LeaseLostError
from sql.session import Session

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 600.0

log = structlog.get_logger()


class Settlement:
    """Ends the claims of one daemon."""

    def __init__(self, session: Session, pause: Pause, gateway: Gateway, *, lease_s: float) -> None:
        """Settle over this session; give up on a silent database after the lease, which then lapses by itself."""
        self._session = session
        self._pause = pause
        self._gateway = gateway
        self._patience_s = lease_s

    async def settle(self, job: Job, answer: Answer) -> None:
        """Do with the job as the gateway's answer says."""
        answered_at = asyncio.get_running_loop().time()
        outcome = _outcome(answer)
        match answer.verdict:
            case Verdict.ACCEPTED:
                self._pause.trust()
                await self._deliver(job, outcome, answered_at)
            case Verdict.REJECTED:
                await self.fail(job, f"{answer.status}: {answer.detail}", outcome)
            case Verdict.FAILED:
                await self._retry(job, answer, outcome)
            case Verdict.MISCONFIGURED | Verdict.UNAVAILABLE:
                # no delay, whatever Retry-After says: the pause's probe knows better when the gateway is back
                self._pause.close(answer)
                await self.release(job, self._gateway.remedy(answer))

    async def fail(self, job: Job, error: str, outcome: jobs.Outcome) -> None:
        """Make it a dead letter."""
        if await self._say(job, lambda: jobs.fail_job(self._session, job, error, outcome)):
            log.error("job_failed", **_facts(job), error=error)

    async def release(self, job: Job, reason: str) -> None:
        """Give it back untried."""
        if await self._say(job, lambda: jobs.release_job(self._session, job, 0, reason)):
            log.info("job_released", **_facts(job), reason=reason)

    async def _deliver(self, job: Job, outcome: jobs.Outcome, answered_at: float) -> None:
        def complete() -> Awaitable[None]:
            since_s = asyncio.get_running_loop().time() - answered_at
            return jobs.complete_job(self._session, job, outcome, since_s)

        if await self._say(job, complete):
            log.info("job_delivered", **_facts(job), **outcome)

    async def _retry(self, job: Job, answer: Answer, outcome: jobs.Outcome) -> None:
        backoff_s = full_jitter_s(job.attempts, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S)
        delay_s = max(backoff_s, answer.retry_after_s or 0)
        error = f"{answer.status}: {answer.detail}"
        statuses: list[str] = []

        async def retry() -> None:
            statuses.append(await jobs.retry_job(self._session, job, delay_s, error, outcome))

        if await self._say(job, retry):
            if statuses[-1] == "failed":
                log.error("job_failed", **_facts(job), error=error)
            else:
                log.warning("job_retried", **_facts(job), error=error, delay_s=round(delay_s, 3))

    async def _say(self, job: Job, call: Callable[[], Awaitable[Any]]) -> bool:
        """Make the call until the database hears it; False: the claim was over, or the lease ran out meanwhile."""
        tries = AsyncRetrying(
            retry=retry_if_exception_type(psycopg.Error),
            wait=wait_random_exponential(0.1, 5),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        )

        async def once() -> None:
            await call()

        try:
            await tries(once)
        except LeaseLostError:
            log.warning("lease_lost", **_facts(job))
        except psycopg.Error as error:
            # no traceback: the database was away for a whole lease, which now lapses by itself
            log.error("job_not_settled", **_facts(job), error=one_line(error))  # noqa: TRY400
        else:
            return True
        return False


def _outcome(answer: Answer) -> jobs.Outcome:
    return {
        "status": answer.status,
        "event_outcome": answer.event_outcome,
        "detail": answer.detail or None,
        "posts": answer.posts,
    }


def _facts(job: Job) -> dict[str, Any]:
    """Name the job in a log line."""
    return {
        "job_id": job.id,
        "learning_id": job.learning_id,
        "type": job.type,
        "queue": job.queue,
        "attempt": job.attempts,
    }
