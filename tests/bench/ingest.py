"""Signed webhooks over many connections, each stored before its answer, and how many a second that makes."""

import asyncio
import json
import tempfile
from pathlib import Path

from bench.contest import Contestant, Rounds, installed, names, told
from bench.figures import table
from bench.floor import OneInsert, VerifyOnly
from bench.ours import Ours
from bench.peers import receivers
from bench.stage import Site, output, server

ROUNDS = 3
CONNECTIONS = 64
SECONDS = 6.0
HEADINGS = {"rate": "webhooks/s", "p99": "p99, ms"}
ABOUT = """\
Signed 2 KB webhooks over {connections} connections that stay open, each connection sending its next as soon as the last
one is answered: answers with 2xx a second, and milliseconds from sending to the answer. One server process each;
medians of {rounds} alternating rounds of {seconds:g} s, ratios within each round to a server that only verifies the
signature. All others have committed before they answer: {ours} an audit row and a job, *{insert}* the
same two rows (psycopg's pool), the peers a job with the body in it, by their own enqueue behind the same aiohttp
server.

{table}"""


async def one_round(one: Contestant, site: Site, seconds: float) -> dict[str, float]:
    """Load one server that was started for it."""
    async with one.receiver(site) as port:
        said = json.loads(await output("bench.load", str(port), str(CONNECTIONS), str(seconds), home=site.home))
        refused = {status: times for status, times in said["statuses"].items() if not status.startswith("2")}
        if refused:
            raise AssertionError(f"{one.name} answered {refused}")
        return {figure: said[figure] for figure in ("rate", "p50", "p99")}


async def measure(contestants: list[Contestant], rounds: int, seconds: float) -> Rounds:
    """Alternate them."""
    found: Rounds = []
    with server() as server_dsn, tempfile.TemporaryDirectory() as home:
        async with installed(contestants, server_dsn, "", Path(home)) as sites:
            for _ in range(rounds):
                figures = {}
                for one in contestants:
                    figures[one.name] = await one_round(one, sites[one.name], seconds)
                    told("ingest", one.name, figures[one.name])
                found.append(figures)
    return found


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure, and write the table."""
    contestants: list[Contestant] = [VerifyOnly(), Ours(), OneInsert(), *receivers()]
    rounds, seconds = (1, 1.5) if quick else (ROUNDS, SECONDS)
    found = asyncio.run(measure(contestants, rounds, seconds))
    text = ABOUT.format(
        connections=CONNECTIONS,
        rounds=rounds,
        seconds=seconds,
        ours=Ours.name,
        insert=OneInsert.name,
        table=table(names(contestants), found, HEADINGS, floor=VerifyOnly.name),
    )
    return text, {"rounds": found}
