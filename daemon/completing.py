"""Completions go out together: those that come while a statement is under way are the next one."""

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from daemon.leases import Leases
from daemon.until_heard import UntilHeard, tell_lost
from sql import settling
from sql.jobs import Job, Outcome
from sql.session import Session

if TYPE_CHECKING:
    from uuid import UUID

MANY = 5  # of one statement: more come at once
GATHER_S = 0.005


@dataclass(frozen=True, slots=True)
class _Completion:
    """The jobs of one digest, which the gateway took at `answered_s` by the loop's clock."""

    jobs: Sequence[Job]
    outcome: Outcome
    answered_s: float


@dataclass(slots=True, eq=False)
class _Batch:
    """What is said in one statement, and the jobs that it ended; none where it failed."""

    completions: list[_Completion] = field(default_factory=list)
    ended: "set[UUID]" = field(default_factory=set)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Completing:
    """Ends jobs as done, with one statement at a time: a lone one at once, and those that come meanwhile together.

    After a statement of many the next one waits a moment for more. What waits is never more than what is held.
    """

    def __init__(self, session: Session, leases: Leases, until_heard: UntilHeard) -> None:
        """Complete over this session what is held."""
        self._session = session
        self._leases = leases
        self._until_heard = until_heard
        self._open = _Batch()
        self._saying = asyncio.Lock()
        self._were_many = False

    async def __call__(self, jobs: Sequence[Job], outcome: Outcome, answered_s: float) -> list[Job]:
        """Return when the database has heard of these jobs, with those that it ended."""
        one, batch = _Completion(jobs, outcome, answered_s), self._open
        batch.completions.append(one)
        if batch.completions[0] is one:
            await self._say(batch)
        else:
            await batch.is_over.wait()
        if not batch.ended:
            return await self._alone(one)
        settled = [job for job in jobs if job.id in batch.ended]
        tell_lost(jobs, settled, outcome)
        return settled

    async def _say(self, batch: _Batch) -> None:
        """Try once, when its turn has come; where that fails, each goes on by itself and holds up no other."""
        try:
            async with self._saying:
                if self._were_many:
                    await asyncio.sleep(GATHER_S)
                self._open = _Batch()
                self._were_many = len(batch.completions) >= MANY
                batch.ended = await self._complete(batch.completions)
        except psycopg.Error:
            pass  # each will tell, if that fails too
        finally:
            if self._open is batch:
                self._open = _Batch()
            batch.is_over.set()

    async def _complete(self, completions: Sequence[_Completion]) -> "set[UUID]":
        each = [(one, job) for one in completions for job in one.jobs]
        await self._leases.hold_on([job for _, job in each])
        held = [(one, job) for one, job in each if self._leases.holds(job)]
        now_s = asyncio.get_running_loop().time()
        return await settling.complete_each(
            self._session,
            [job for _, job in held],
            [one.outcome for one, _ in held],
            [now_s - one.answered_s for one, _ in held],
        )

    async def _alone(self, one: _Completion) -> list[Job]:
        async def complete(held: Sequence[Job]) -> "Container[UUID]":
            since_s = asyncio.get_running_loop().time() - one.answered_s
            return await settling.complete_jobs(self._session, held, one.outcome, since_s)

        return await self._until_heard(one.jobs, complete, one.outcome)
