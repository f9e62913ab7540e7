"""Many daemons: what those cost that have nothing to do, what workers of one queue cost each other, and two vaults."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
from bench.contest import Contestant, Rounds, installed, names, told
from bench.figures import median, ratio, shown
from bench.floor import OneInsert
from bench.ingest import CONNECTIONS
from bench.loops import run
from bench.ours import Ours
from bench.peers import peers, receivers
from bench.sink import Sink, sink
from bench.stage import Site, module, output, percentile, server
from bench.wake import CONCURRENCY, GAP_S, WARM, waits_ms
from bench.wire import wire

ROUNDS = 3
EVENTS = 340
SECONDS = 5.0
LISTENERS = 199
WORKERS = 8
SHARED_EVENTS = 200
ALONE, CROWDED = "1 listens", f"{LISTENERS + 1} listen"
ABOUT = """\
Beside one daemon there are {listeners} more sessions that LISTEN as a daemon does, each on its own queue's channel, and
claim when they are woken; they are connections of one process, since {listeners} daemons do not fit into this machine.
All webhooks are for the one real daemon. The same for the bare floor, whose {listeners} listen on other channels too.
Medians of {rounds} alternating rounds; the ratio is to the same without the crowd, within each round.

{crowded}

### Workers of one queue

Statements that all workers of one queue send together for a job, at {rate:.0f} events a second, and the milliseconds to
the receipt ({events} events). What {workers} workers send more than one does is the herd: wake-ups that found nothing.

{shared}

### Vaults on one database

Webhooks a second over {connections} connections in all, medians of {rounds} alternating rounds; beside them as many
bare servers with one INSERT + NOTIFY a request. On {cores} cores, which they share with Postgres and the load.

{vaults}"""


async def listen(dsn: str, count: int) -> None:
    """Listen on so many channels, each over its own connection, and claim when woken."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            await connection.execute(f"listen agent_vault_crowd_{number}".encode())
            tasks.create_task(_claim(connection, number), name=f"listener {number}")
        print("ready", flush=True)


async def _claim(connection: psycopg.AsyncConnection, number: int) -> None:
    async for _ in connection.notifies():
        await connection.execute(
            "select * from agent_vault.claim_jobs(%s, %s, 10, 60)", [f"crowd_{number}", f"crowd_{number}/1"]
        )


@contextlib.asynccontextmanager
async def crowd(site: Site, count: int) -> AsyncIterator[None]:
    """Run so many listeners."""
    async with contextlib.AsyncExitStack() as stack:
        if count:
            running = await stack.enter_async_context(
                module("bench.crowd", "listen", site.dsn, str(count), home=site.home)
            )
            await running.line("ready")
        yield


async def crowded_round(one: Contestant, site: Site, gateway: Sink, events: int, seconds: float) -> dict[str, float]:
    """Measure wake and ingest of one contestant, its worker running."""
    async with one.worker(site, CONCURRENCY):
        async with one.producer(site) as enqueue:
            await waits_ms(gateway, enqueue, WARM, GAP_S)
            ms = [called for called, _ in await waits_ms(gateway, enqueue, events, GAP_S)]
        async with one.receiver(site) as port:
            rate = await load(site, [port], seconds)
    return {"wake": percentile(ms, 99), "rate": rate}


async def load(site: Site, ports: list[int], seconds: float) -> float:
    """Load servers together with so many connections in all, and return the sum of their rates."""
    each = CONNECTIONS // len(ports)
    said = await asyncio.gather(
        *(output("bench.load", str(port), str(each), str(seconds), home=site.home) for port in ports)
    )
    return sum(float(json.loads(one)["rate"]) for one in said)


async def shared(one: Contestant, site: Site, gateway: Sink, workers: int, events: int) -> dict[str, float]:
    """Count what so many workers of one queue send for each job."""
    async with wire(site) as (through, count), contextlib.AsyncExitStack() as stack:
        for _ in range(workers):
            await stack.enter_async_context(one.worker(through, CONCURRENCY))
        enqueue = await stack.enter_async_context(one.producer(site))
        await waits_ms(gateway, enqueue, WARM, GAP_S)
        before = await count()
        ms = [called for called, _ in await waits_ms(gateway, enqueue, events, GAP_S)]
        return {"statements": (await count() - before) / events, "p50": percentile(ms, 50), "p99": percentile(ms, 99)}


async def several(one: Contestant, site: Site, count: int, seconds: float) -> float:
    """Return the webhooks a second of so many servers on one database."""
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(one.receiver(site)) for _ in range(count)]
        return await load(site, ports, seconds)


async def measure_crowd(server_dsn: str, home: Path, rounds: int, events: int, seconds: float) -> dict[str, Rounds]:
    """Alternate with and without the crowd, ours and bare; each contestant's rounds go by who listens."""
    contestants: list[Contestant] = [Ours(), OneInsert()]
    found: dict[str, Rounds] = {one.name: [] for one in contestants}
    async with sink(home) as gateway:
        for _ in range(rounds):
            for one in contestants:
                figures = {}
                for label, listeners in ((ALONE, 0), (CROWDED, LISTENERS)):
                    # a new database each time: the load before leaves jobs behind
                    async with (
                        installed([one], server_dsn, gateway.url, home) as sites,
                        crowd(sites[one.name], listeners),
                    ):
                        figures[label] = await crowded_round(one, sites[one.name], gateway, events, seconds)
                    told("crowd", f"{one.name}, {label}", figures[label])
                found[one.name].append(figures)
    return found


async def measure_shared(
    contestants: list[Contestant], server_dsn: str, home: Path, events: int
) -> dict[str, dict[int, dict[str, float]]]:
    """Measure one worker and several of each."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    async with sink(home) as gateway, installed(contestants, server_dsn, gateway.url, home) as sites:
        for one in contestants:
            found[one.name] = {}
            for workers in (1, WORKERS):
                found[one.name][workers] = await shared(one, sites[one.name], gateway, workers, events)
                told("crowd", f"{one.name}, {workers} workers", found[one.name][workers])
    return found


async def measure_vaults(server_dsn: str, home: Path, rounds: int, seconds: float) -> dict[str, Rounds]:
    """Alternate one server and two on a database, ours and bare."""
    contestants: list[Contestant] = [Ours(), OneInsert()]
    found: dict[str, Rounds] = {one.name: [] for one in contestants}
    async with installed(contestants, server_dsn, "", home) as sites:
        for _ in range(rounds):
            for one in contestants:
                rates = {str(count): {"rate": await several(one, sites[one.name], count, seconds)} for count in (1, 2)}
                told("crowd", f"{one.name}, one server and two", {count: rate["rate"] for count, rate in rates.items()})
                found[one.name].append(rates)
    return found


def crowd_table(found: dict[str, Rounds]) -> str:
    """Write a row for each contestant and crowd."""
    rows = ["| | | wake p99, ms | ratio | webhooks/s | ratio |", "|---|---|---|---|---|---|"]
    for name, rounds in found.items():
        for label in (ALONE, CROWDED):
            cells = [
                cell
                for figure in ("wake", "rate")
                for cell in (shown(median(rounds, label, figure)), f"{ratio(rounds, label, ALONE, figure):.2f}")
            ]
            rows.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def shared_table(found: dict[str, dict[int, dict[str, float]]]) -> str:
    """Write a row for each contestant."""
    heads = ["statements a job, 1 worker", f"{WORKERS} workers", "p50, ms, 1 worker", f"{WORKERS} workers"]
    rows = ["| | " + " | ".join(heads) + " |", "|---|---|---|---|---|"]
    labels = names([Ours(), *peers()])
    for name, by_workers in found.items():
        cells = [shown(one[figure]) for figure in ("statements", "p50") for one in by_workers.values()]
        rows.append(f"| {labels[name]} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def vaults_table(found: dict[str, Rounds]) -> str:
    """Write a row for each contestant."""
    rows = ["| | one | two | ratio |", "|---|---|---|---|"]
    for name, rounds in found.items():
        cells = [shown(median(rounds, count, "rate")) for count in ("1", "2")]
        rows.append(f"| {name} | " + " | ".join(cells) + f" | {ratio(rounds, '2', '1', 'rate'):.2f} |")
    return "\n".join(rows)


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure all three, and write their tables."""
    rounds, events, seconds, shared_events = (1, 20, 1.0, 10) if quick else (ROUNDS, EVENTS, SECONDS, SHARED_EVENTS)
    with server() as server_dsn, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        crowded = asyncio.run(measure_crowd(server_dsn, home, rounds, events, seconds))
        one_queue: list[Contestant] = [Ours(), *(receivers()[:1] if quick else peers())]
        together = asyncio.run(measure_shared(one_queue, server_dsn, home, shared_events))
        vaults = asyncio.run(measure_vaults(server_dsn, home, rounds, seconds))
    text = ABOUT.format(
        listeners=LISTENERS,
        rounds=rounds,
        crowded=crowd_table(crowded),
        rate=1 / GAP_S,
        events=shared_events,
        workers=WORKERS,
        shared=shared_table(together),
        connections=CONNECTIONS,
        cores=os.cpu_count(),
        vaults=vaults_table(vaults),
    )
    return text, {"crowd": crowded, "shared": together, "vaults": vaults}


if __name__ == "__main__":
    run(listen(sys.argv[2], int(sys.argv[3])))
