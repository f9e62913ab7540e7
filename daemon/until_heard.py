"""What the database must hear about jobs is said until it is heard."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from daemon.leases import Leases
from notifier.complaint import Complaint, one_line
from sql.jobs import Job, Outcome

if TYPE_CHECKING:
    from uuid import UUID

    Call = Callable[[Sequence[Job]], Awaitable[Container[UUID]]]

log = structlog.get_logger()


class UntilHeard:
    """Makes calls about held jobs, each of which answers whose claims still held."""

    def __init__(self, leases: Leases, *, patience_s: float) -> None:
        """Try what the database refuses while it is well for patience_s seconds, and for ever while it is away."""
        self._leases = leases
        self._patience_s = patience_s
        self._complain = Complaint()

    async def __call__(self, jobs: Sequence[Job], call: "Call", late_answer: Outcome | None = None) -> list[Job]:
        """Make the call and return the jobs that it settled; `late_answer` is told of those that it could not.

        The leases are assured before each try, so that an outage longer than the lease costs nothing. Where the
        database refuses a call for several jobs, each is tried alone: one that it cannot take fails no neighbour.
        """
        settled: list[Job] = []

        async def once() -> None:
            held = await self._leases.hold_on(jobs)
            heard = await call(held) if held else ()
            settled[:] = [job for job in held if job.id in heard]

        tries = AsyncRetrying(
            retry=retry_if_exception_type(psycopg.Error),
            wait=wait_random_exponential(0.1, 5),
            stop=self._is_hopeless if len(jobs) == 1 else _is_refused,
            before_sleep=lambda state: self._not_settled(jobs, state),
            reraise=True,
        )
        try:
            await tries(once)
        except psycopg.Error as error:
            if len(jobs) > 1:
                return await self._each(jobs, call, late_answer)
            # no traceback: the lease now lapses by itself
            log.error("job_given_up", **facts(jobs[0]), error=one_line(error))  # noqa: TRY400
            return []
        self._complain.over()
        tell_lost(jobs, settled, late_answer)
        return settled

    async def _each(self, jobs: Sequence[Job], call: "Call", late_answer: Outcome | None) -> list[Job]:
        async with asyncio.TaskGroup() as calls:
            tasks = [calls.create_task(self([job], call, late_answer), name=f"settle {job.id}") for job in jobs]
        return [job for task in tasks for job in task.result()]

    def _is_hopeless(self, state: RetryCallState) -> bool:
        """Tell whether to give up: never while the database is away, soon when it refuses the call itself."""
        return _is_refused(state) and (state.seconds_since_start or 0) > self._patience_s

    def _not_settled(self, jobs: Sequence[Job], state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Exception):
            self._complain("job_not_settled", **facts(jobs[0]), jobs=len(jobs), error=one_line(error))


def tell_lost(jobs: Sequence[Job], settled: Sequence[Job], late_answer: Outcome | None) -> None:
    """Log which of these jobs were not settled: another worker has them."""
    known = {job.id for job in settled}
    for job in jobs:
        if job.id not in known:
            # what the gateway answered so late is told here and nowhere else
            log.warning("lease_lost", **facts(job), late_answer=late_answer)


def facts(job: Job) -> dict[str, Any]:
    """Name the job in a log line."""
    return {
        "job_id": job.id,
        "learning_id": job.learning_id,
        "type": job.type,
        "queue": job.queue,
        "attempt": job.attempts,
    }


def _is_refused(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
