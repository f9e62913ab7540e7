"""Running the real programs as processes, and reading their logs."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

LIMIT_S = 60.0  # generous: a busy two-core machine must not fail a test

Event = dict[str, Any]


async def until(condition: Callable[[], Any], what: str = "the condition", limit_s: float = LIMIT_S) -> Any:
    """Wait until the condition gives something true, and return that; awaitable conditions are awaited."""
    deadline = time.monotonic() + limit_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {limit_s} s")
        await asyncio.sleep(0.02)


class Program:
    """A running program of ours; its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._reader = asyncio.create_task(self._read(), name="reader")

    async def _read(self) -> None:
        while line := await self.process.stdout.readline():
            self.lines.append(line)

    @property
    def events(self) -> list[Event]:
        """Every line as JSON; a line that is none fails the test."""
        return [json.loads(line) for line in self.lines]

    @property
    def text(self) -> str:
        """All lines as they stand."""
        return b"".join(self.lines).decode(errors="replace")

    async def event(self, name: str, **facts: Any) -> Event:
        """Wait for an event with these facts."""

        def found() -> Event | None:
            for event in self.events:
                if event["event"] == name and all(event.get(key) == value for key, value in facts.items()):
                    return event
            return None

        try:
            return await until(found, f"event {name} {facts}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the program said:\n{self.text[-3000:]}") from None

    async def says(self, text: str) -> None:
        """Wait for a text in its output."""
        try:
            await until(lambda: text in self.text, text)
        except AssertionError as error:
            raise AssertionError(f"{error}; the program said:\n{self.text[-3000:]}") from None

    async def ended(self) -> int:
        """Wait for the end, and return the exit status."""
        status = await asyncio.wait_for(self.process.wait(), LIMIT_S)
        await self._reader
        return status

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return the exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        return await self.ended()


@contextlib.asynccontextmanager
async def run(*arguments: str, env: Mapping[str, str], home: Path) -> AsyncIterator[Program]:
    """Run a module of ours with nothing of this machine's settings, and kill it at the end."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        env={**kept, "HOME": str(home), **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=8 * 1024 * 1024,
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            await program.stop(signal.SIGKILL)
        process._transport.close()
