"""Claims as the tables grow, and while a transaction is held open elsewhere."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import psycopg
import servers
from bench.contest import Rounds, told
from bench.figures import median, ratio, shown
from bench.queues import KINDS, Kind, Queue
from bench.stage import percentile, server

SIZES = [(0, 0), (20_000, 100_000), (200_000, 1_000_000), (1_000_000, 5_000_000)]
QUICK_SIZES = SIZES[:2]
ROUNDS = 3
CLAIMS = 340
BATCH = 10
RATE = 200
STEP_S = 0.02
ABOUT = """\
Milliseconds for a claim of {batch} jobs, with so many queued and so many done before: medians of {rounds} alternating
rounds of {claims} claims, each claim completed before the next one; the ratio is to the same queue's empty table
within each round. No worker and no POST: each queue's own statements on one connection, with `synchronous_commit`
off for all of them, since no disk knows how large a table is. Agent Vault claims as its daemon does, above what it
claimed before, and once in five seconds everywhere.

{sizes}

### While a transaction is held open

{rate} jobs a second, claimed up to {batch} at a time as they come, before and while another session keeps a snapshot
open for {held_s:g} s (its last {look_s:g} s are counted): what dies meanwhile cannot be vacuumed.

{held}"""


async def claims_ms(queue: Queue, count: int, *, insert: bool) -> list[float]:
    """Claim and complete so many batches; return each claim's milliseconds."""
    took = []
    for _ in range(count):
        if insert:
            await queue.insert(BATCH)
        began = time.perf_counter()
        claimed = await queue.claim(BATCH)
        took.append((time.perf_counter() - began) * 1000)
        assert len(claimed) == BATCH
        await queue.complete(claimed)
    return took


@contextlib.contextmanager
def seeded(kind: Kind, server_dsn: str, size: tuple[int, int]) -> Iterator[str]:
    """Make a database with so much in it."""
    with servers.database(server_dsn) as dsn:
        asyncio.run(kind.install(dsn))
        with psycopg.connect(dsn, autocommit=True) as database:
            name = database.info.dbname
            database.execute(f'alter database "{name}" set synchronous_commit = off'.encode())
        with psycopg.connect(dsn, autocommit=True) as database:
            if any(size):
                kind.seed(database, *size)
                database.execute("vacuum analyze")
        yield dsn


async def sized_round(kind: Kind, dsn: str, size: tuple[int, int], claims: int) -> dict[str, float]:
    """Measure one queue at one size once."""
    async with kind.opened(dsn) as queue:
        await claims_ms(queue, 10, insert=not any(size))
        ms = await claims_ms(queue, claims, insert=not any(size))
        return {"p50": percentile(ms, 50), "p99": percentile(ms, 99)}


def grow(kind: Kind, server_dsn: str, sizes: list[tuple[int, int]], rounds: int, claims: int) -> Rounds:
    """Measure one queue at each size, alternating; a round's figures go by size."""
    found: Rounds = []
    with contextlib.ExitStack() as stack:
        dsns = {size: stack.enter_context(seeded(kind, server_dsn, size)) for size in sizes}
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute("checkpoint")
        for _ in range(rounds):
            one = {}
            for size, dsn in dsns.items():
                one[named(size)] = asyncio.run(sized_round(kind, dsn, size, claims))
                told("growth", f"{kind.name} {named(size)}", one[named(size)])
            found.append(one)
    return found


def named(size: tuple[int, int]) -> str:
    """Name a size as tables do."""
    return "empty" if not any(size) else f"{size[0]:,} queued, {size[1]:,} done"


class Flow:
    """Jobs that come at a steady rate, and one that claims them as they come."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._there = asyncio.Event()
        self.looks = False
        self.done = 0
        self.ms: list[float] = []

    async def produce(self) -> None:
        """Insert in small steps, and catch up when the machine was late."""
        began, put = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - began) * RATE) - put
            if due:
                await self._queue.insert(due)
                put += due
                self._there.set()
            await asyncio.sleep(STEP_S)

    async def consume(self) -> None:
        """Claim, complete, and wait where there is nothing."""
        while True:
            self._there.clear()
            began = time.perf_counter()
            claimed = await self._queue.claim(BATCH)
            if not claimed:
                await self._there.wait()
                continue
            if self.looks:
                self.ms.append((time.perf_counter() - began) * 1000)
                self.done += len(claimed)
            await self._queue.complete(claimed)

    async def look(self, seconds: float) -> tuple[float, float]:
        """Return the jobs a second and the claims' p99 over so long."""
        self.ms, self.done, self.looks = [], 0, True
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        self.looks = False
        return self.done / (time.perf_counter() - began), percentile(self.ms, 99)


async def hold(kind: Kind, dsn: str, held_s: float, look_s: float) -> dict[str, float]:
    """Measure one queue before and while a snapshot is held."""
    async with (
        kind.opened(dsn) as queue,
        await psycopg.AsyncConnection.connect(dsn) as holder,
        asyncio.TaskGroup() as tasks,
    ):
        flow = Flow(queue)
        running = [tasks.create_task(flow.produce(), name="produce"), tasks.create_task(flow.consume(), name="consume")]
        await asyncio.sleep(1)
        rate, p99 = await flow.look(look_s)
        await holder.execute("set transaction isolation level repeatable read")
        await holder.execute("select pg_current_xact_id()")
        await asyncio.sleep(held_s - look_s)
        held_rate, held_p99 = await flow.look(look_s)
        for task in running:
            task.cancel()
        await holder.rollback()
    return {"rate": rate, "p99": p99, "held_rate": held_rate, "held_p99": held_p99}


def sizes_table(kinds: list[Kind], sizes: list[tuple[int, int]], found: dict[str, Rounds]) -> str:
    """Write a row for each queue and size."""
    rows = ["| | rows | p50, ms | p99, ms | ratio of p99 |", "|---|---|---|---|---|"]
    for kind in kinds:
        for size in map(named, sizes):
            rounds = found[kind.name]
            cells = (shown(median(rounds, size, "p50")), shown(median(rounds, size, "p99")))
            rows.append(
                f"| {kind.label} | {size} | {' | '.join(cells)} | {ratio(rounds, size, named(sizes[0]), 'p99'):.2f} |"
            )
    return "\n".join(rows)


def held_table(kinds: list[Kind], found: dict[str, dict[str, float]]) -> str:
    """Write a row for each queue."""
    rows = ["| | jobs/s | jobs/s, held | loss | p99, ms | p99, ms, held |", "|---|---|---|---|---|---|"]
    for kind in kinds:
        one = found[kind.name]
        loss = max(0.0, 1 - one["held_rate"] / one["rate"])
        cells = [shown(one["rate"]), shown(one["held_rate"]), f"{loss:.0%}", shown(one["p99"]), shown(one["held_p99"])]
        rows.append(f"| {kind.label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure, and write both tables."""
    sizes, rounds, claims = (QUICK_SIZES, 1, 100) if quick else (SIZES, ROUNDS, CLAIMS)
    held_s, look_s = (6.0, 2.0) if quick else (180.0, 30.0)
    grown, held = {}, {}
    with server() as server_dsn:
        for kind in KINDS:
            grown[kind.name] = grow(kind, server_dsn, sizes, rounds, claims)
            with seeded(kind, server_dsn, sizes[0]) as dsn:
                held[kind.name] = asyncio.run(hold(kind, dsn, held_s, look_s))
                told("growth", f"{kind.name}, a transaction held", held[kind.name])
    text = ABOUT.format(
        batch=BATCH,
        rounds=rounds,
        claims=claims,
        sizes=sizes_table(KINDS, sizes, grown),
        rate=RATE,
        held_s=held_s,
        look_s=look_s,
        held=held_table(KINDS, held),
    )
    return text, {"sizes": sizes, "grown": grown, "held": held}
