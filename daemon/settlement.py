"""What becomes of a job after the gateway's answer: one call on the database, tried until it is heard."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pause import Pause
from notifier.backoff import full_jitter_s
from notifier.complaint import Complaint, one_line
from sql import jobs
from sql.jobs import Job, LeaseLostError
from sql.session import Session

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 600.0
REFUSED_ROUTE_S = 30.0

log = structlog.get_logger()


class Settlement:
    """Ends the claims of one daemon."""

    def __init__(self, session: Session, leases: Leases, pause: Pause, gateway: Gateway, *, patience_s: float) -> None:
        """Settle over this session; what the database refuses while it is well is tried for patience_s seconds."""
        self._session = session
        self._leases = leases
        self._pause = pause
        self._gateway = gateway
        self._patience_s = patience_s
        self._complain = Complaint()

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
            case Verdict.ROUTE_REFUSED:
                remedy = self._gateway.remedy(answer)
                log.error("route_refused", **_facts(job), status=answer.status, detail=answer.detail, remedy=remedy)
                await self.release(job, remedy, REFUSED_ROUTE_S)
            case Verdict.POSTPONED:
                await self.release(job, answer.detail, answer.retry_after_s or 0)

    async def fail(self, job: Job, error: str, outcome: jobs.Outcome) -> None:
        """Make it a dead letter."""
        if await self._say(job, lambda: jobs.fail_job(self._session, job, error, outcome), outcome):
            log.error("job_failed", **_facts(job), error=error)

    async def release(self, job: Job, reason: str, delay_s: float = 0) -> None:
        """Give it back untried, due in delay_s seconds."""
        if await self._say(job, lambda: jobs.release_job(self._session, job, delay_s, reason)):
            log.info("job_released", **_facts(job), reason=reason)

    async def _deliver(self, job: Job, outcome: jobs.Outcome, answered_at: float) -> None:
        def complete() -> Awaitable[None]:
            since_s = asyncio.get_running_loop().time() - answered_at
            return jobs.complete_job(self._session, job, outcome, since_s)

        if await self._say(job, complete, outcome):
            log.info("job_delivered", **_facts(job), **outcome)

    async def _retry(self, job: Job, answer: Answer, outcome: jobs.Outcome) -> None:
        backoff_s = full_jitter_s(job.attempts, first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S)
        delay_s = max(backoff_s, answer.retry_after_s or 0)
        error = f"{answer.status}: {answer.detail}"
        statuses: list[str] = []

        async def retry() -> None:
            statuses.append(await jobs.retry_job(self._session, job, delay_s, error, outcome))

        if await self._say(job, retry, outcome):
            if statuses[-1] == "failed":
                log.error("job_failed", **_facts(job), error=error)
            else:
                log.warning("job_retried", **_facts(job), error=error, delay_s=round(delay_s, 3))

    async def _say(self, job: Job, call: Callable[[], Awaitable[Any]], outcome: jobs.Outcome | None = None) -> bool:
        """Make the call until the database hears it, for as long as it is away; False: it was not heard.

        The lease is assured first, so that an outage longer than the lease costs nothing.
        """
        tries = AsyncRetrying(
            retry=retry_if_exception_type(psycopg.Error),
            wait=wait_random_exponential(0.1, 5),
            stop=self._is_hopeless,
            before_sleep=lambda state: self._not_settled(job, state),
            reraise=True,
        )

        async def once() -> None:
            await self._leases.assure(job)
            await call()

        try:
            await tries(once)
        except LeaseLostError:
            # what the gateway answered so late is told here and nowhere else: the job is another worker's
            log.warning("lease_lost", **_facts(job), late_answer=outcome)
        except psycopg.Error as error:
            # no traceback: the lease now lapses by itself
            log.error("job_given_up", **_facts(job), error=one_line(error))  # noqa: TRY400
        else:
            self._complain.over()
            return True
        return False

    def _is_hopeless(self, state: RetryCallState) -> bool:
        """Tell whether to give up: never while the database is away, soon when it refuses the call itself."""
        error = state.outcome.exception() if state.outcome else None
        is_away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return not is_away and (state.seconds_since_start or 0) > self._patience_s

    def _not_settled(self, job: Job, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Exception):
            self._complain("job_not_settled", **_facts(job), error=one_line(error))


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
