"""The vault's upkeep of its database, bit by bit: events that got no job are queued, and what is old is deleted.

What waits where nobody looks is told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import psycopg
import structlog

from notifier.complaint import Complaint, one_line
from sql.housekeeping import find_unserved, prune_jobs, prune_learnings, sweep_learnings
from sql.session import Session
from vault.settings import VaultSettings
from vault.unserved import AFTER_S, Unserved

EVERY_S = 60.0
PAUSE_S = 1.0  # between two batches, so that whoever shares the connection gets a turn
SWEEP_BATCH = 100
PRUNE_BATCH = 500

Task = Callable[[], Awaitable[bool]]

log = structlog.get_logger()


class Housekeeping:
    """Goes round every minute, and at once where a batch was full; several vaults do not get into each other's way."""

    def __init__(self, session: Session, settings: VaultSettings, is_ready: Callable[[], bool] = lambda: True) -> None:
        """Work over this session, which others may share: each statement is a small one.

        While the database is not ready, of which others complain, there is nothing to do.
        """
        self._is_ready = is_ready
        self._session = session
        self._settings = settings
        self._complain = Complaint()
        self._unserved = Unserved()
        self._failed = False

    async def run(self) -> None:
        """Go round again and again; only cancelling ends it."""
        while True:
            is_over = self._is_ready() and not await self.go_round()
            await asyncio.sleep(EVERY_S if is_over else PAUSE_S)

    async def go_round(self) -> bool:
        """Do one batch of each task; return whether one was full, so that there may be more."""
        chosen, session, self._failed = self._settings, self._session, False
        tasks: list[Task] = [self._sweep, self._look_for_unserved]
        if days := chosen.prune_jobs_after_days:
            tasks.append(partial(_prune, "done", partial(prune_jobs, session, "done", days, PRUNE_BATCH)))
        if days := chosen.prune_failed_after_days:
            tasks.append(partial(_prune, "failed", partial(prune_jobs, session, "failed", days, PRUNE_BATCH)))
        if days := chosen.prune_learnings_after_days:
            tasks.append(partial(_prune, "learnings", partial(prune_learnings, session, days, PRUNE_BATCH)))
        again = any([await self._try(task) for task in tasks])  # a list, so that a full one does not end the round
        if not self._failed:
            self._complain.over()
        return again

    async def _sweep(self) -> bool:
        swept = await sweep_learnings(self._session, SWEEP_BATCH)
        if swept.refused:
            log.warning("learnings_refused", count=swept.refused, error=swept.error)
        if swept.queued:
            log.info("learnings_queued", count=swept.queued)
        return swept.queued + swept.refused >= SWEEP_BATCH

    async def _look_for_unserved(self) -> bool:
        self._unserved.tell(await find_unserved(self._session, AFTER_S), asyncio.get_running_loop().time())
        return False

    async def _try(self, task: Task) -> bool:
        """Do one task; one that fails neither ends the others nor the vault.

        A connection that died while nobody used it shows at the next statement: that one is made again.
        """
        try:
            try:
                return await task()
            except psycopg.OperationalError:
                return await task()
        except psycopg.Error as error:
            self._failed = True
            self._complain("housekeeping_failed", error=one_line(error))
            return False


async def _prune(what: str, pruning: Callable[[], Awaitable[int]]) -> bool:
    count = await pruning()
    if count:
        log.info("pruned", what=what, count=count)
    return count >= PRUNE_BATCH
