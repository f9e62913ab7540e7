"""A full queue: how many jobs a second are POSTed, ten at a time, to a gateway that answers at once."""

import asyncio
import json
import tempfile
from pathlib import Path

from bench.contest import Contestant, Rounds, installed, names, told
from bench.figures import table
from bench.ours import Ours
from bench.peers import peers
from bench.sink import Sink, sink
from bench.stage import Site, output, server

ROUNDS = 5
JOBS = 5000
CONCURRENCY = 10
CEILING = "one aiohttp client"
HEADINGS = {"rate": "jobs/s"}
ABOUT = """\
{jobs:,} jobs put in by one commit before a worker that is idle, {concurrency} at a time, each a POST to a gateway that
answers at once: jobs a second between the first receipt and the last, medians of {rounds} alternating rounds, ratios
within each round to a client that only POSTs. Pacing is off.

{table}"""


async def one_round(one: Contestant, site: Site, gateway: Sink, jobs: int) -> float:
    """Fill the queue before an idle worker, and return its jobs a second from the first receipt to the last."""
    async with one.worker(site, CONCURRENCY):
        await gateway.expect(jobs)
        await one.fill(site, jobs)
        times = await gateway.receipts()
        return (jobs - 1) / (times[-1] - times[0])


async def ceiling(site: Site, gateway: Sink, jobs: int) -> float:
    """Return the POSTs a second of one aiohttp client."""
    await gateway.expect(jobs)
    said = await output("bench.floor", "post", gateway.url, str(jobs), str(CONCURRENCY), home=site.home)
    await gateway.receipts()
    return float(json.loads(said)["rate"])


async def measure(contestants: list[Contestant], rounds: int, jobs: int) -> Rounds:
    """Alternate them."""
    found: Rounds = []
    with server() as server_dsn, tempfile.TemporaryDirectory() as home:
        async with (
            sink(Path(home)) as gateway,
            installed(contestants, server_dsn, gateway.url, Path(home)) as sites,
        ):
            for _ in range(rounds):
                figures = {CEILING: {"rate": await ceiling(sites[Ours.name], gateway, jobs)}}
                for one in contestants:
                    figures[one.name] = {"rate": await one_round(one, sites[one.name], gateway, jobs)}
                for name, one_figures in figures.items():
                    told("drain", name, one_figures)
                found.append(figures)
    return found


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure, and write the table."""
    contestants: list[Contestant] = [Ours(), *peers()]
    rounds, jobs = (1, 500) if quick else (ROUNDS, JOBS)
    found = asyncio.run(measure(contestants, rounds, jobs))
    labels = {CEILING: f"{CEILING}, {CONCURRENCY} POSTs at a time"} | names(contestants)
    text = ABOUT.format(
        jobs=jobs, concurrency=CONCURRENCY, rounds=rounds, table=table(labels, found, HEADINGS, floor=CEILING)
    )
    return text, {"rounds": found}
