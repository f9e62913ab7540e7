"""The real OpenClaw gateway that CI starts: what its model was asked, its configuration, its end and its return."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from programs import until

ASKED = {
    "OPENCLAW_URL": "where it listens",
    "OPENCLAW_HOOK_TOKEN": "its hooks.token",
    "OPENCLAW_PROMPTS": "a JSON-lines file of what its model was asked",
}
STEERED = {
    **ASKED,
    "OPENCLAW_CONTROL": "a command whose verb restart ends it, if it runs, and starts it",
    "OPENCLAW_STATE": "the folder with gateway.pid, its home and, in oc/, its state",
    "OPENCLAW_CLI": "the command openclaw",
}
STOP_S = 90.0
THROTTLED_S = 180.0  # it starts turns at least 30 s apart


def unless_set(variables: dict[str, str]) -> pytest.MarkDecorator:
    """Skip a test where one of these is not set."""
    listed = ", ".join(f"{name} ({what})" for name, what in variables.items())
    missing = not all(os.environ.get(name) for name in variables)
    return pytest.mark.skipif(missing, reason=f"needs a real OpenClaw gateway: set {listed}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to the model, at a time in unix seconds, with all its messages as text."""

    at: float
    text: str


class Prompts:
    """What the model was asked since this was made."""

    def __init__(self, log: Path) -> None:
        """Begin at the end of the log."""
        self._log = log
        self._offset = log.stat().st_size
        self.seen: list[Prompt] = []

    def read(self) -> list[Prompt]:
        """Read on, and return what is new; the last line may still be in the writing."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            lines = [line for line in log if line.endswith(b"\n")]
        self._offset += sum(map(len, lines))
        asked = [json.loads(line) for line in lines]
        new = [Prompt(one["at"], json.dumps(one["messages"], ensure_ascii=False)) for one in asked]
        self.seen += new
        return new

    async def hold(self, texts: Iterable[str], limit_s: float = THROTTLED_S) -> dict[str, float]:
        """Wait until each text stands in a prompt; return when the first of them came."""
        found: dict[str, float] = {}
        missing = set(texts)

        def find(prompts: list[Prompt]) -> bool:
            for prompt in prompts:
                here = {text for text in missing if text in prompt.text}
                found.update(dict.fromkeys(here, prompt.at))
                missing.difference_update(here)
            return not missing

        find(self.seen)
        try:
            await until(lambda: find(self.read()), "the prompts", limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {len(missing)} of {len(missing) + len(found)} never came") from None
        return found


class RealGateway:
    """One that is steered: its hooks' settings, its end, its return."""

    def __init__(self) -> None:
        """Take what CI exports."""
        self.url, self.token = os.environ["OPENCLAW_URL"], os.environ["OPENCLAW_HOOK_TOKEN"]
        self.state = Path(os.environ["OPENCLAW_STATE"])
        self.home = self.state / "home"
        self.env = {"HOME": str(self.home), "OPENCLAW_STATE_DIR": str(self.state / "oc")}
        self.prompts = Prompts(Path(os.environ["OPENCLAW_PROMPTS"]))
        self._config = self.state / "oc/openclaw.json"
        self._original = self._config.read_bytes()

    def set_hooks(self, **changes: Any) -> None:
        """Write openclaw.json with these changes to its hooks; it is read anew within about a second."""
        config = json.loads(self._original)
        config["hooks"].update(changes)
        self._write(json.dumps(config).encode())

    async def correct_hooks(self) -> None:
        """Write openclaw.json as it was found."""
        self._write(self._original)

    async def answers(self, status: int, token: str | None = None) -> float:
        """Wait until a probe, which wakes nobody, gets this status (400: it would take a wake); return when."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        limit = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as session:

            async def has_come() -> bool:
                try:
                    async with session.post(f"{self.url}/hooks/wake", json={}) as response:
                        return response.status == status
                except (aiohttp.ClientError, OSError):
                    return False

            await until(has_come, f"a {status} of the gateway")
        return time.monotonic()

    async def wake(self, text: str) -> None:
        """Wake the agent."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.url}/hooks/wake", json={"text": text}) as response,
        ):
            assert 200 == response.status, await response.text()

    async def stop(self) -> None:
        """End the gateway, not its model: in order, or as service managers do where that takes too long.

        It waits for the runs of its agents, which may never end on a machine that has too much to do.
        """
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(self._pid(), how)
            with contextlib.suppress(AssertionError):
                await until(lambda: not self._runs(), "the gateway's end", STOP_S)
                return
        raise AssertionError("the gateway did not end")

    async def start(self) -> None:
        """Start it, after the end of the one that runs, if one does; return when it is ready."""
        control = await asyncio.create_subprocess_exec(os.environ["OPENCLAW_CONTROL"], "restart")
        assert 0 == await control.wait()

    async def cli(self, *words: str) -> str:
        """Run OpenClaw's own command line beside this gateway and return what it says."""
        process = await asyncio.create_subprocess_exec(
            *shlex.split(os.environ["OPENCLAW_CLI"]),
            *words,
            env={"PATH": os.environ["PATH"], "OPENCLAW_NO_RESPAWN": "1", "NO_COLOR": "1", **self.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return said.decode()

    async def restore(self) -> None:
        """Have it run as it was found."""
        if self._config.read_bytes() != self._original:
            self._write(self._original)
        if self._runs() and not await self._takes_wakes():
            await self.stop()
        if not self._runs():
            await self.start()
        await self.answers(400)

    async def _takes_wakes(self) -> bool:
        """Tell whether it comes to take wakes; one that is about to end does not."""
        try:
            await self.answers(400)
        except AssertionError:
            return False
        return True

    def _write(self, contents: bytes) -> None:
        new = self._config.with_suffix(".new")
        new.write_bytes(contents)
        new.replace(self._config)

    def _pid(self) -> int:
        return int((self.state / "gateway.pid").read_text())

    def _runs(self) -> bool:
        try:
            os.kill(self._pid(), 0)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return True


@pytest.fixture
async def real() -> AsyncIterator[RealGateway]:
    """The real gateway, restored at the end whatever the test did to it."""
    one = RealGateway()
    await one.answers(400)
    try:
        yield one
    finally:
        await one.restore()
