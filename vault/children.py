"""The programs that `agent-vault up` runs, as the processes that they are in production, on a leash."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vault import leash

LINE_BYTES = 1024 * 1024

Event = dict[str, Any]


class Child:
    """One program, its events as they come, and what became of it."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], heard: Callable[[str, Event], None]) -> None:
        """Take the name to show, the module to run with its arguments, and who hears its events."""
        self.name = name
        self._command = [sys.executable, "-I", leash.__file__, sys.executable, "-m", module, *arguments]
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self.said: list[Event] = []

    async def start(self, environment: Mapping[str, str], *, log: Path, keep_fds: Sequence[int]) -> None:
        """Start it; its lines go to the log file, its events to whoever hears them."""
        self.said.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,  # a terminal's Ctrl-C goes to `up` alone, which ends its children in order
            pass_fds=keep_fds,
            limit=LINE_BYTES,
        )
        self._log = log

    async def listen(self) -> str:
        """Pass its events on until it ends; return how it ended."""
        process = self._running()
        stdout = process.stdout
        with self._log.open("ab") as log:
            while stdout and (line := await _line(stdout)):
                log.write(line)
                log.flush()
                event = _event(line)
                self.said.append(event)
                del self.said[:-100]
                self._heard(self.name, event)
        return describe(await process.wait())

    def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process


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
