"""The daemon's loop: claim, plan, deliver."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from daemon.claiming import Claiming
from daemon.delivery import Delivery
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pacing import Pacer
from daemon.pause import Pause
from daemon.places import Places
from daemon.plan import Deferred, Digest, Ended
from daemon.settlement import Settlement
from daemon.watch import GatewayWatch
from notifier.presence import Presence
from notifier.sleep import SleepWatch
from notifier.waker import Waker
from sql.jobs import Job
from sql.session import Session

SHARE = 2  # of what may be claimed ahead: a claim for less can wait

log = structlog.get_logger()


class Worker:
    """One daemon at work, until its stop is set."""

    def __init__(  # noqa: PLR0913 - its parts, wired by daemon/run.py
        self,
        session: Session,
        gateway: Gateway,
        waker: Waker,
        stop: asyncio.Event,
        presence: Presence,
        *,
        pacer: Pacer,
        sleep: SleepWatch,
        lease_s: float,
        renew_s: float | None = None,
        concurrency: int,
    ) -> None:
        """Take the parts, and make those that only this one needs."""
        self._waker = waker
        self._stop = stop
        self._pacer = pacer
        self._wants_room = False
        self._concurrency = concurrency
        worker = presence.identity.worker
        self.leases = Leases(session, worker, lease_s=lease_s, slots=pacer.most or concurrency, renew_s=renew_s)
        sleep.tell(self.leases.doubt)
        sleep.tell(lambda: waker.ring("slept"))
        self._pause = Pause(gateway, stop)
        self.watch = GatewayWatch(session, gateway, presence, pacer, waker)
        self._claiming = Claiming(
            session, waker, stop, presence, self.leases, pacer=pacer, watch=self.watch, lease_s=lease_s
        )
        self._settlement = Settlement(session, self.leases, self._pause, gateway, self.watch.expect, patience_s=lease_s)
        self._delivery = Delivery(
            gateway, self.leases, self._settlement, sleep=sleep, stop=stop, answered=self._answered
        )

    async def run(self) -> None:
        """Claim and deliver until the stop; then finish or release what is held."""
        self._places = Places(self._concurrency, time.monotonic)
        try:
            async with asyncio.TaskGroup() as self._deliveries:
                await self._work()
                unsent = [job for digest in self._places.leave() for job in digest.jobs]
                await self._settlement.release([*self._pacer.leave(), *unsent], "the daemon stops")
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Hold nothing any more. After a crash the leases lapse, counted: a job may have been its cause."""
        now_s = asyncio.get_running_loop().time()
        for digest in self._places.leave():
            self._pacer.ended(digest, now_s, Ended(pending=False))
        self._pacer.leave()
        self._let_go(self.leases.jobs)

    async def _work(self) -> None:
        while not self._stop.is_set():
            self._claiming.woken(self._waker.clear())  # before the claim: a wake-up during it must survive
            if closed_by := await self._pause.opened():
                await self.watch.look_again(closed_by)  # what a restart lost is sent again before what is new
            held = await self._claiming.claim(self._room())
            self._send(held)
            if held:
                await asyncio.sleep(0)  # what goes out goes first
            if not held and not self._stop.is_set():
                await self._waker.wait()

    def _room(self) -> int:
        """Return how many may be claimed; whose turn it is to be alone waits until the others have ended."""
        must_be_idle = self._waker.suspect_queue is not None and not self.leases.are_idle
        room = 0 if must_be_idle else self._useful_room()
        self._wants_room = room < 1
        return room

    def _useful_room(self) -> int:
        """Return how many can be held beside what is, or 0 while that is too few to claim them for themselves."""
        ahead = self._places.ahead if self._pacer.most is None else 0
        room = self.leases.room(ahead)
        return room if room > ahead // SHARE else 0

    def _send(self, claimed: Sequence[Job]) -> None:
        """Start what may go out now and put off the rest; one slow delivery must not hold up the next event."""
        now_s = asyncio.get_running_loop().time()
        plan = self._pacer.plan(claimed, now_s)
        for digest in plan.digests:
            if digest.route.action == "wake":
                self._places.add(digest)
            else:  # a run may take long, and is in nobody's way
                if digest.route.action == "agent":
                    self.leases.set_aside(digest.jobs[0])
                self._start(self._deliver(digest), f"deliver {digest.key}")
        self._fill_places()
        if plan.deferred:
            self._start(self._defer(plan.deferred), "defer")
        asyncio.get_running_loop().call_soon(_tell, claimed)  # when the deliveries have begun: words take their time
        self._waker.remind_in(self._pacer.due_s(now_s))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._deliveries.create_task(work, name=name)

    def _fill_places(self) -> None:
        while digest := self._places.take():
            self._start(self._deliver(digest), f"deliver {digest.key}")

    def _answered(self, digest: Digest) -> None:
        if digest.route.action == "wake":
            self._places.give_back()
            self._fill_places()
            self._tell_of_room()

    async def _deliver(self, digest: Digest) -> None:
        """Deliver one digest; no fault of it reaches another."""
        ended = Ended(pending=True)
        try:
            ended = await self._delivery.deliver(digest)
        except Exception:
            # ours is the fault: the lease lapses, counted, and the next claim takes each of these jobs alone
            log.exception("delivery_crashed", job_id=digest.jobs[0].id, jobs=len(digest.jobs))
        finally:
            self._pacer.ended(digest, asyncio.get_running_loop().time(), ended)
            self._let_go(digest.jobs)

    async def _defer(self, deferred: Sequence[Deferred]) -> None:
        try:
            await self._settlement.defer(deferred)
        finally:
            self._let_go([one.job for one in deferred])

    def _let_go(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.leases.drop(job)
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        has_room = self._wants_room and self._useful_room() > 0
        if has_room or (self._claiming.wants_idle and self.leases.are_idle):
            self._wants_room = False  # said once
            self._waker.ring("room")


def _tell(claimed: Sequence[Job]) -> None:
    for job in claimed:
        log.info("job_claimed", job_id=job.id, type=job.type, queue=job.queue, attempt=job.attempts)
