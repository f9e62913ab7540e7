"""What a daemon and a vault cost that have nothing to do: processor time, memory, statements."""

import asyncio
import tempfile
from pathlib import Path

import psutil
import servers
from bench import ours
from bench.sink import sink
from bench.stage import Running, Site, module, server
from bench.wire import wire

from sql.migrate import migrate

SECONDS = 120.0
QUICK_S = 10.0
START_S = 3.0
ABOUT = """\
A daemon and a vault that have nothing to do, over {seconds:g} s: default settings, the daemon's pacing off. What a
Python of this version has resident with the libraries of either, and nothing else, stands beside it.

| | of a core | resident | statements a minute |
|---|---|---|---|
{rows}"""
BARE = {
    "psycopg + aiohttp's client, imported": "import asyncio, aiohttp, psycopg",
    "psycopg + aiohttp's server, imported": "import asyncio, aiohttp.web, psycopg",
}


async def watch(running: Running, seconds: float) -> tuple[float, float]:
    """Return a process's share of a core, and its resident MiB."""
    one = psutil.Process(running.process.pid)
    began = one.cpu_times()
    await asyncio.sleep(seconds)
    ended = one.cpu_times()
    used_s = ended.user + ended.system - began.user - began.system
    return used_s / seconds, one.memory_info().rss / 2**20


async def measure(dsn: str, home: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Watch both at once, each through a wire that counts its statements."""
    async with sink(home) as gateway:
        site = Site(dsn, gateway.url, home)
        async with (
            wire(site) as (daemon_site, daemon_count),
            wire(site) as (vault_site, vault_count),
            ours.daemon(daemon_site) as daemon,
            ours.serving(vault_site) as (vault, _),
        ):
            await asyncio.sleep(START_S)
            counts = (daemon_count, vault_count)
            before = [await count() for count in counts]
            watched = await asyncio.gather(watch(daemon, seconds), watch(vault, seconds))
            after = [await count() for count in counts]
    found = {}
    for name, (share, mib), then, now in zip(("daemon", "vault"), watched, before, after, strict=True):
        found[name] = {"share": share, "mib": mib, "statements": (now - then) * 60 / seconds}
    return found


async def imported(code: str, home: Path) -> float:
    """Return what a bare interpreter has resident after some imports, in MiB."""
    script = home / "bench_imports.py"
    script.write_text(f"{code}\nprint('there', flush=True)\nasyncio.run(asyncio.sleep(60))\n")
    async with module("bench_imports", home=home, env={"PYTHONPATH": str(home)}) as running:
        await running.line("there")
        return float(psutil.Process(running.process.pid).memory_info().rss / 2**20)


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure, and write the table."""
    seconds = QUICK_S if quick else SECONDS
    with server() as server_dsn, servers.database(server_dsn) as dsn, tempfile.TemporaryDirectory() as folder:
        migrate(dsn)
        home = Path(folder)
        found = asyncio.run(measure(dsn, home, seconds))
        bare = {name: asyncio.run(imported(code, home)) for name, code in BARE.items()}
    rows = [
        f"| {name} | {one['share']:.2%} | {one['mib']:.0f} MiB | {one['statements']:.0f} |"
        for name, one in found.items()
    ]
    rows += [f"| {name} | | {mib:.0f} MiB | |" for name, mib in bare.items()]
    return ABOUT.format(seconds=seconds, rows="\n".join(rows)), {"programs": found, "bare": bare}
