"""Where everything is measured: one Postgres for all, durable as it comes, and processes that log into files."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import servers

from vault.embedded import EmbeddedPostgres

START_S = 60.0
TESTS = Path(__file__).parents[1]
CONNECTIONS = 600
LISTENING = (
    "select count(*) as listening from pg_stat_activity"
    " where datname = current_database() and left(lower(query), 6) = 'listen'"
)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Give the superuser's DSN of the server that TEST_DATABASE names; the embedded one has its defaults.

    BENCH_FSYNC=off takes the disk out of every figure, for all alike.
    """
    if servers.choice() != "embedded":
        with servers.server() as dsn:
            yield dsn
        return
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-bench-"))
    settings = {"max_connections": str(CONNECTIONS), "fsync": os.environ.get("BENCH_FSYNC", "on")}
    one = EmbeddedPostgres(folder / "pg", settings=settings)
    try:
        one.start()
        yield one.dsn
    finally:
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Site:
    """What a contestant works with: its own database, the gateway, and a folder for logs and homes."""

    dsn: str
    gateway_url: str
    home: Path


class Running:
    """A process that runs, whose lines stand in a file: nobody's output is read while something is measured."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    async def line(self, holding: str) -> str:
        """Wait for the first line that holds a text; raise AssertionError with all lines when the process ends."""
        deadline = time.monotonic() + START_S
        while True:
            lines = self.log.read_text().splitlines(keepends=True)
            for line in lines:
                if holding in line and line.endswith("\n"):
                    return line
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.log.name} never said {holding!r}, but:\n{''.join(lines)[-3000:]}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it, in order as far as it will."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def process(
    *command: str, home: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Running]:
    """Run a program with nothing of this machine's settings for the length of the block."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    log = Path(tempfile.mkstemp(prefix=f"{Path(command[-1]).name[:20]}-", suffix=".log", dir=home)[1])
    with log.open("wb") as out:
        one = await asyncio.create_subprocess_exec(
            *command,
            env={**kept, "HOME": str(home), "PYTHONPATH": str(TESTS), **(env or {})},
            cwd=cwd or TESTS.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    running = Running(one, log)
    try:
        yield running
    finally:
        await running.stop()


def module(*arguments: str, home: Path, **more: Mapping[str, str]) -> contextlib.AbstractAsyncContextManager[Running]:
    """Run a Python module."""
    return process(sys.executable, "-m", *arguments, home=home, **more)


async def output(*arguments: str, home: Path) -> str:
    """Run a Python module to its end, and return what it wrote."""
    async with module(*arguments, home=home) as running:
        await running.process.wait()
        said = running.log.read_text()
        if running.process.returncode:
            raise AssertionError(f"{' '.join(arguments[:2])} failed:\n{said[-3000:]}")
        return said


def percentile(values: Sequence[float], at: int) -> float:
    """Return a percentile of at least one value."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * at / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@contextlib.asynccontextmanager
async def peer_worker(name: str, site: Site, concurrency: int) -> AsyncIterator[None]:
    """Run the worker that a peer's module is as a program."""
    async with module(name, "work", site.dsn, site.gateway_url, str(concurrency), home=site.home) as running:
        await running.line("ready")
        yield
