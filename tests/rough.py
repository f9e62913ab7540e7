"""Workers that do with their jobs whatever chance says, at the same time, and a ledger of what they were told."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar
from uuid import UUID

import psycopg
import queue_calls

from sql import jobs
from sql.session import Session

LEASE_S = 0.15
CLOCKS_S = 0.01  # the database's clock and ours may differ so much within a lease
QUEUE = "default"

Claim = tuple[UUID, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A settlement that the database took, and when it was sent."""

    claim: Claim
    how: str
    sent_at: float


@dataclass(slots=True)
class Hold:
    """A span of time in which a worker may believe that a job is its own."""

    claim: Claim
    begin: float
    end: float


@dataclass(slots=True)
class Ledger:
    """What all workers together were told by the database, in the order of one clock."""

    handed_out: dict[Claim, float] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)
    unknown: set[Claim] = field(default_factory=set)
    holds: dict[Claim, list[Hold]] = field(default_factory=lambda: defaultdict(list))
    seen: Counter[str] = field(default_factory=Counter)

    def hold(self, claim: Claim, sent_at: float) -> None:
        """Note a lease, counted from before the database was asked for it."""
        self.holds[claim].append(Hold(claim, time.monotonic(), sent_at + LEASE_S))

    def let_go(self, claim: Claim, moment: float) -> None:
        """Note that a worker believes in a claim no more."""
        for hold in self.holds[claim]:
            hold.end = min(hold.end, moment)

    def doubles(self) -> list[Claim]:
        """The claims that were settled more than once."""
        return [claim for claim, times in Counter(one.claim for one in self.accepted).items() if times > 1]

    def stale(self) -> list[Accepted]:
        """What was accepted of a claim although a newer one had been handed out before it was even sent."""
        return [
            one
            for one in self.accepted
            for (job_id, claims), handed_out_at in self.handed_out.items()
            if job_id == one.claim[0] and claims > one.claim[1] and handed_out_at < one.sent_at
        ]

    def late(self) -> list[Accepted]:
        """What was accepted over a lease that had lapsed before it was even sent."""
        ends = {claim: max(hold.begin for hold in holds) + LEASE_S for claim, holds in self.holds.items()}
        return [one for one in self.accepted if one.sent_at > ends[one.claim] + CLOCKS_S]

    def overlaps(self) -> Iterator[tuple[Hold, Hold]]:
        """Two claims of one job that were believed in at once."""
        spans = [hold for holds in self.holds.values() for hold in holds if hold.begin < hold.end]
        spans.sort(key=lambda hold: (hold.claim[0], hold.begin))
        for one, other in pairwise(spans):
            if one.claim[0] == other.claim[0] and one.claim != other.claim and other.begin < one.end - CLOCKS_S:
                yield one, other


class RoughWorker:
    """One worker; it has two sessions, so that two calls about one job can race."""

    def __init__(self, dsn: str, number: int, ledger: Ledger) -> None:
        """Take a number, which is also the seed of its chance."""
        self.number = number
        self.ledger = ledger
        self.chance = random.Random(number)
        self.sessions = [Session(dsn, name=f"rough{number}") for _ in range(2)]
        self.runs = 0
        self.held: list[jobs.Job] = []

    @property
    def name(self) -> str:
        """What stands in locked_by."""
        return f"rough{self.number}/{self.runs}"

    async def work(self, stop: asyncio.Event) -> None:
        """Claim, and treat what is held in any order and way."""
        try:
            while not stop.is_set():
                await self.claim()
                if not self.held:
                    await asyncio.sleep(0.002)
                self.chance.shuffle(self.held)
                while self.held and self.chance.random() < 0.8:
                    await self.treat(self.held.pop())
        finally:
            await asyncio.gather(*(session.close() for session in self.sessions))

    async def claim(self) -> None:
        """Claim some, and now and then lose the answer."""
        sent_at, busy = time.monotonic(), bool(self.held)
        claim = jobs.claim_jobs(self.sessions[0], QUEUE, self.name, self.chance.randint(1, 5), LEASE_S, busy=busy)
        got = await (self.cut_off(claim) if self.chance.random() < 0.05 else claim)
        if got is None:
            given_back = await jobs.release_unheld(self.sessions[0], self.name, [job.id for job in self.held])
            self.ledger.seen["given back unheld"] += len(given_back)
            return
        assert (len(got) == 1 and not busy) or not any(job.alone for job in got)
        for job in got:
            assert (job.id, job.claims) not in self.ledger.handed_out
            self.ledger.handed_out[job.id, job.claims] = time.monotonic()
            self.ledger.hold((job.id, job.claims), sent_at)
            self.ledger.seen["claimed after a lapse"] += job.lapses > 0
        self.held += got

    async def treat(self, job: jobs.Job) -> None:
        """Do one of the things that a worker, or its machine, may do."""
        ways = {self.settle: 10, self.race: 3, self.linger: 3, self.extend: 4, self.die: 1, self.hang_up: 1}
        (way,) = self.chance.choices(list(ways), list(ways.values()))
        await way(job)

    async def settle(self, job: jobs.Job, how: str | None = None, session: int = 0) -> None:
        """End the claim in some way, and note whether the database took it."""
        how = how or self.chance.choices(["complete", "fail", "retry", "release"], [3, 1, 4, 4])[0]
        sent_at = time.monotonic()
        self.ledger.let_go((job.id, job.claims), sent_at)
        try:
            await self.call(job, how, self.sessions[session])
        except jobs.LeaseLostError:
            self.ledger.seen["refused"] += 1
        else:
            self.ledger.seen[how] += 1
            self.ledger.accepted.append(Accepted((job.id, job.claims), how, sent_at))

    def call(self, job: jobs.Job, how: str, session: Session) -> Awaitable[object]:
        """The call that settles so."""
        delay_s = self.chance.choice([0, 0, 0.05])
        calls = {
            "complete": lambda: queue_calls.complete_job(session, job, {"status": 200}, 0),
            "fail": lambda: queue_calls.fail_job(session, job, "400", {"status": 400}),
            "retry": lambda: queue_calls.retry_job(session, job, delay_s, "500", {"status": 500}),
            "release": lambda: queue_calls.release_job(session, job, delay_s, "away"),
        }
        return calls[how]()

    async def race(self, job: jobs.Job) -> None:
        """End the claim in two ways at once."""
        one, other = self.chance.sample(["complete", "retry", "release", "fail"], 2)
        await asyncio.gather(self.settle(job, one, 0), self.settle(job, other, 1))

    async def linger(self, job: jobs.Job) -> None:
        """Be slow, until about the end of the lease, and go on as if nothing were."""
        await asyncio.sleep(LEASE_S * self.chance.uniform(0.95, 1.1))
        await (self.extend(job) if self.chance.random() < 0.5 else self.settle(job))

    async def extend(self, job: jobs.Job) -> None:
        """Extend the lease, and keep the job where that is granted."""
        sent_at = time.monotonic()
        if job.id in await jobs.extend_jobs(self.sessions[0], self.name, [job], LEASE_S):
            late = sent_at > max(hold.end for hold in self.ledger.holds[job.id, job.claims])
            self.ledger.seen["revived" if late else "extended"] += 1
            self.ledger.hold((job.id, job.claims), sent_at)
            self.held.append(job)
        else:
            self.ledger.seen["not extended"] += 1

    async def die(self, job: jobs.Job) -> None:
        """Be killed with all that is held, and start again."""
        for one in [job, *self.held]:
            self.ledger.let_go((one.id, one.claims), time.monotonic())
        self.held.clear()
        self.runs += 1
        self.ledger.seen["died"] += 1

    async def hang_up(self, job: jobs.Job) -> None:
        """End the claim and lose the connection, so that nobody knows whether it is over."""
        claim = (job.id, job.claims)
        self.ledger.let_go(claim, time.monotonic())
        self.ledger.unknown.add(claim)
        try:
            await self.cut_off(self.call(job, self.chance.choice(["complete", "retry"]), self.sessions[0]))
        except jobs.LeaseLostError:
            self.ledger.unknown.discard(claim)

    async def cut_off(self, call: Awaitable[T]) -> T | None:
        """Make a call over a connection that breaks at about the same time; None when its answer was lost."""
        delay_s = self.chance.uniform(0, 0.004)
        timer = asyncio.get_running_loop().call_later(delay_s, self.sessions[0].cut)
        try:
            return await call
        except psycopg.OperationalError:
            self.ledger.seen["hung up"] += 1
            return None
        finally:
            timer.cancel()


async def insert_jobs(dsn: str, stop: asyncio.Event, open_jobs: int) -> int:
    """Be the vault: keep a few jobs open, so that what one worker loses another claims at once; return how many."""
    session = Session(dsn, name="vault")
    query = (
        "insert into public.jobs (type, max_attempts) select 'X', 3 + n %% 10"
        " from generate_series(1, %s - (select count(*) from public.jobs where status in ('queued', 'processing'))) n"
        " returning id"
    )
    count = 0
    try:
        while not stop.is_set():
            count += len(await session.fetch(query, [open_jobs]))
            await asyncio.sleep(0.005)
    finally:
        await session.close()
    return count


async def requeue_failed(dsn: str, stop: asyncio.Event) -> None:
    """Be the person who gives every failed job another chance."""
    session = Session(dsn, name="person")
    try:
        while not stop.is_set():
            failed = await session.fetch("select id from public.jobs where status = 'failed' limit 2")
            for (job_id,) in failed:
                await jobs.requeue_job(session, job_id)
            await asyncio.sleep(0.05)
    finally:
        await session.close()
