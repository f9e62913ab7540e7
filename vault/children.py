"""The programs that `agent-vault up` runs, as the processes that they are in production, on a leash."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vault import leash

LINE_BYTES = 1024 * 1024
READY_S = 60.0
RESTART_S = 1.0
LOOK_S = 1.0

Event = dict[str, Any]


class Child:
    """One program of ours, kept running: its events as they come, and how it ended last."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, heard: Callable[[str, Event], None]) -> None:
        """Take the package to run (and the name to show), its arguments, a log file, and who hears its events."""
        self.name = name
        self.said: deque[Event] = deque(maxlen=200)
        self.ending: str | None = None
        self.stopping = False
        self._came_up = False
        self._command = [sys.executable, "-I", leash.__file__, sys.executable, "-m", name, *arguments]
        self._log = log
        self._heard = heard
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self, settings: Mapping[str, str], *, keep_fds: Sequence[int], again: bool) -> None:
        """Run it until `stop()`; once it came up, start it again when it ends, as launchd and systemd do."""
        while not self.stopping:
            self.ending = None
            status = await self._run(settings, keep_fds)
            self.ending = describe(status)
            if not (again and self._came_up) or self.stopping:
                return
            self._tell({"event": f"{self.ending}: starting it again", "level": "error"})
            await asyncio.sleep(RESTART_S)

    async def first(self, name: str) -> Event | None:
        """Wait for an event; None when the program ended before, or takes too long."""
        deadline = time.monotonic() + READY_S
        while self.ending is None and time.monotonic() < deadline:
            if found := next((event for event in self.said if event.get("event") == name), None):
                self._came_up = True
                return found
            await self.news()
        return None

    async def news(self) -> None:
        """Wait for the program's next event, or a moment."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self._news.wait()

    def complaint(self) -> str:
        """Return the last thing that the program complained of, or where to look."""
        for event in reversed(self.said):
            if event.get("level") in {"error", "critical"}:
                return str(event.get("error") or event.get("problem") or event.get("event"))
        return f"see {self._log}"

    def stop(self) -> None:
        """Ask it to end."""
        self.stopping = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def _run(self, settings: Mapping[str, str], keep_fds: Sequence[int]) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # the leash: it closes when this process ends, however it ends
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(settings),
            start_new_session=True,  # a terminal's Ctrl-C goes to `up` alone, which ends its children in order
            pass_fds=keep_fds,
            limit=LINE_BYTES,
        )
        if self.stopping:  # asked to while it was being started
            self.stop()
        watching = asyncio.create_task(_end_with(self._process))
        try:
            while self._process.stdout and (line := await _line(self._process.stdout)):
                self._keep_line(line)
                self._tell(_event(line))
        finally:
            watching.cancel()
        return await self._process.wait()

    def _keep_line(self, line: bytes) -> None:
        # a full disk must not end what the log is about
        with contextlib.suppress(OSError), self._log.open("ab") as log:
            log.write(line)

    def _tell(self, event: Event) -> None:
        self.said.append(event)
        self._news.set()
        self._heard(self.name, event)


def describe(status: int) -> str:
    """Say how a leashed program ended."""
    number = -status if status < 0 else status - leash.SIGNALLED
    if number > 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(number).name}"
    return f"ended with status {status}"


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment, less what a person has set for another installation, with these settings."""
    foreign = ("VAULT_", "DAEMON_", "PG")
    others = {"DATABASE_URL", "COMPOSIO_WEBHOOK_SECRET", "AGENT_EDGE_KEY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name not in others}
    return {**kept, **settings}


async def _end_with(leashing: asyncio.subprocess.Process) -> None:
    """End what a leash left that was killed itself: it is in the leash's session, and would write on for ever."""
    while leashing.returncode is None:  # noqa: ASYNC110 - its wait() ends with its pipes, which an orphan holds
        await asyncio.sleep(LOOK_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leashing.pid, signal.SIGKILL)


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:  # longer than any event of ours
        return b"\n"


def _event(line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"event": line.decode(errors="replace").strip(), "level": "error"}
