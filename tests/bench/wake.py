"""From an enqueue to the gateway's receipt, one event at a time: ours, the floor of bare libraries, and the peers."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.contest import Contestant, Rounds, installed, names, told
from bench.figures import table
from bench.floor import Floor, SameSteps
from bench.ours import Ours
from bench.peers import peers
from bench.sink import Sink, sink
from bench.stage import Site, percentile, server
from bench.wire import wire

ROUNDS = 3
EVENTS = 340
GAP_S = 0.05
WARM = 10
CONCURRENCY = 10
FAR_MS = 40
FAR_EVENTS = 40
FAR_GAP_S = 0.3  # else the end of one event's work fetches the next one, and what is measured is no wake
HEADINGS = {"p50": "p50, ms", "p99": "p99, ms"}
ABOUT = """\
From the enqueue to the gateway's receipt, in milliseconds, at most {gap:.0f} events a second, one at a time: medians
of {rounds} alternating rounds of {events} events, ratios to the floor within each round. *{floor}* is an
insert with a notify in one durable commit, a LISTEN and a POST over open connections. *{ours}* is a signed 2 KB
webhook over an open HTTP connection, verified, stored as a learning and a job in one commit, claimed under a lease,
POSTed and completed; pacing is off. *{steps}* is these steps and nothing else, on uvloop and with prepared
statements: a bare server that verifies and inserts two narrow rows by one statement, and a worker that claims by
another before it POSTs. The peers' event is a call of their own enqueue. Each worker is a process with room for ten
jobs; all POST to the same gateway.

{near}

### With {far_ms} ms to the database and back

From the commit to the receipt, where only the worker is {far_ms} ms away, and has nothing else to do: medians of
{far_rounds} rounds of {far_events} events.

{far}"""


async def waits_ms(
    gateway: Sink, enqueue: Callable[[], Awaitable[None]], events: int, gap_s: float
) -> list[tuple[float, float]]:
    """Enqueue once in a gap; return for each the milliseconds to its receipt, from the call and from the commit."""
    took = []
    for _ in range(events):
        await gateway.expect(1)
        began = time.perf_counter()
        await enqueue()
        committed = time.perf_counter()
        (came,) = await gateway.receipts()
        took.append(((came - began) * 1000, (came - committed) * 1000))
        await asyncio.sleep(max(0.0, gap_s - (time.perf_counter() - began)))
    return took


async def one_round(
    one: Contestant, site: Site, gateway: Sink, events: int, round_trip_ms: float
) -> list[tuple[float, float]]:
    """Measure one of them once, its worker and producer started for it and warm."""
    async with contextlib.AsyncExitStack() as stack:
        worker_site = (await stack.enter_async_context(wire(site, round_trip_ms)))[0] if round_trip_ms else site
        await stack.enter_async_context(one.worker(worker_site, CONCURRENCY))
        enqueue = await stack.enter_async_context(one.producer(site))
        await waits_ms(gateway, enqueue, WARM, GAP_S)
        return await waits_ms(gateway, enqueue, events, FAR_GAP_S if round_trip_ms else GAP_S)


async def measure(contestants: list[Contestant], rounds: int, events: int, round_trip_ms: float) -> Rounds:
    """Alternate them, and return each round's percentiles by name."""
    found: Rounds = []
    with server() as server_dsn, tempfile.TemporaryDirectory() as home:
        async with (
            sink(Path(home)) as gateway,
            installed(contestants, server_dsn, gateway.url, Path(home)) as sites,
        ):
            for _ in range(rounds):
                figures = {}
                for one in contestants:
                    took = await one_round(one, sites[one.name], gateway, events, round_trip_ms)
                    ms = [committed if round_trip_ms else called for called, committed in took]
                    figures[one.name] = {"p50": percentile(ms, 50), "p99": percentile(ms, 99)}
                    told("wake", one.name, figures[one.name])
                found.append(figures)
    return found


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure near and far, and write both tables."""
    contestants: list[Contestant] = [Floor(), SameSteps(), Ours(), *peers()]
    rounds, events, far_events = (2, 25, 5) if quick else (ROUNDS, EVENTS, FAR_EVENTS)
    near = asyncio.run(measure(contestants, rounds, events, 0))
    away = asyncio.run(measure(contestants, 1 if quick else rounds, far_events, FAR_MS))
    text = ABOUT.format(
        gap=1 / GAP_S,
        rounds=rounds,
        events=events,
        floor=Floor.name,
        steps=SameSteps.name,
        ours=Ours.name,
        near=table(names(contestants), near, HEADINGS, floor=Floor.name),
        far_ms=FAR_MS,
        far_rounds=len(away),
        far_events=far_events,
        far=table(names(contestants), away, HEADINGS, floor=Floor.name),
    )
    return text, {"near": near, "far": away}
