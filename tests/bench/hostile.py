"""slowhttptest against the vault while honest deliveries go in, beside a bare aiohttp server."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from bench.contest import Contestant, Rounds, installed, names, told
from bench.figures import median, shown
from bench.floor import OneInsert
from bench.load import request
from bench.ours import Ours
from bench.stage import Site, percentile, process, server

ROUNDS = 3
CONNECTIONS = 2000
SECONDS = 20.0
GAP_S = 0.05
PATIENCE_S = 10.0
FILES = 8192
PACE = ("-r", "1000", "-i", "2", "-l", "60", "-p", "60", "-v", "0")
ATTACKS = {"slow headers": ("-H",), "slow body": ("-B", "-t", "POST", "-s", "8192", "-f", "application/json")}
MISSING = "left out: this machine has no slowhttptest (on Debian: apt-get install slowhttptest)."
ABOUT = """\
slowhttptest opens {connections:,} connections, 1,000 a second, and sends a few bytes on each every 2 s. Meanwhile
honest signed webhooks come at {rate:.0f} a second for {seconds:g} s, each over a connection of its own, and wait up to
{patience:.0f} s: how many were answered with 2xx, and the milliseconds from connecting to the answer. Medians of
{rounds} alternating rounds; *{bare}* is a bare aiohttp server.

{table}"""


async def deliver(port: int) -> float | None:
    """Send one webhook over a new connection; return its milliseconds, or None without a 2xx."""
    began = time.perf_counter()
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(port))
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            if head[9:10] == b"2":
                return (time.perf_counter() - began) * 1000
    return None


async def honest(port: int, seconds: float) -> dict[str, float]:
    """Deliver at a steady rate, whatever becomes of the ones before."""
    async with asyncio.TaskGroup() as tasks:
        sent = []
        for _ in range(int(seconds / GAP_S)):
            sent.append(tasks.create_task(deliver(port), name="deliver"))
            await asyncio.sleep(GAP_S)
    ms = [took for task in sent if (took := task.result()) is not None]
    p50, p99 = (percentile(ms, 50), percentile(ms, 99)) if ms else (float("inf"), float("inf"))
    return {"answered": len(ms) / len(sent), "p50": p50, "p99": p99}


async def one_round(one: Contestant, site: Site, attack: str, connections: int, seconds: float) -> dict[str, float]:
    """Attack one server that was started for it, and deliver meanwhile."""
    async with one.receiver(site) as port:
        url = f"http://127.0.0.1:{port}/composio/webhook"
        plain = (
            "slowhttptest",
            *ATTACKS[attack],
            "-u",
            url,
            "-c",
            str(connections),
            "-r",
            "1000",
            "-i",
            "2",
            "-l",
            "60",
        )
        # each of its connections is a file
        command = f"ulimit -n {FILES}; exec {' '.join((*plain, '-p', '60', '-v', '0'))}"
        async with process("/bin/sh", "-c", command, home=site.home):
            await asyncio.sleep(connections / 1000 + 0.5)
            return await honest(port, seconds)


async def measure(contestants: list[Contestant], rounds: int, connections: int, seconds: float) -> dict[str, Rounds]:
    """Alternate the servers; the rounds of each attack go by server."""
    found: dict[str, Rounds] = {attack: [] for attack in ATTACKS}
    with server() as server_dsn, tempfile.TemporaryDirectory() as home:
        async with installed(contestants, server_dsn, "", Path(home)) as sites:
            for _ in range(rounds):
                for attack, its_rounds in found.items():
                    figures = {}
                    for one in contestants:
                        figures[one.name] = await one_round(one, sites[one.name], attack, connections, seconds)
                        told("hostile", f"{one.name}, {attack}", figures[one.name])
                    its_rounds.append(figures)
    return found


def table(labels: dict[str, str], found: dict[str, Rounds]) -> str:
    """Write a row for each attack and server."""
    rows = ["| | | answered | p50, ms | p99, ms |", "|---|---|---|---|---|"]
    for attack, rounds in found.items():
        for name, label in labels.items():
            answered, p50, p99 = (median(rounds, name, figure) for figure in ("answered", "p50", "p99"))
            rows.append(f"| {attack} | {label} | {answered:.1%} | {shown(p50)} | {shown(p99)} |")
    return "\n".join(rows)


def bench(*, quick: bool) -> tuple[str, dict[str, object]] | None:
    """Measure, and write the table; None without slowhttptest."""
    if shutil.which("slowhttptest") is None:
        print(MISSING, flush=True)
        return None
    contestants: list[Contestant] = [OneInsert(), Ours()]
    rounds, connections, seconds = (1, 1000, 2.0) if quick else (ROUNDS, CONNECTIONS, SECONDS)
    found = asyncio.run(measure(contestants, rounds, connections, seconds))
    text = ABOUT.format(
        connections=connections,
        rate=1 / GAP_S,
        seconds=seconds,
        patience=PATIENCE_S,
        rounds=rounds,
        bare=OneInsert.name,
        table=table(names(contestants), found),
    )
    return text, {"attacks": found}
