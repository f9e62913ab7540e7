"""A stand-in for the OpenClaw gateway that tests steer: it answers as told and remembers what it was sent."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from aiohttp import web

TOKEN = "hook-token-of-the-tests"


class HoldsTheFirst(asyncio.Event):
    """An event that only the first who comes waits for."""

    def __init__(self) -> None:
        """Begin with nobody there."""
        super().__init__()
        self._came = 0

    async def wait(self) -> Literal[True]:
        """Hold the first."""
        self._came += 1
        return await super().wait() if self._came == 1 else True


class FakeGateway:
    """Answers POST /hooks/wake and /hooks/agent; `answers` is what it gives next, then 200 for ever.

    `held` holds up every answer while it is cleared, `completion` is the end of a run that is waited for, and
    `uptime_s` is what /readyz tells; None for a gateway that has no such page.
    """

    def __init__(self) -> None:
        self.url = ""
        self.wakes: list[str] = []
        self.wake_bodies: list[dict[str, Any]] = []
        self.received: list[float] = []
        self.posts: list[str] = []
        self.agent_bodies: list[dict[str, Any]] = []
        self.runs: dict[str | None, str] = {}
        self.completion: dict[str, Any] = {"status": "ok"}
        self.answers: list[tuple[int, str]] = []
        self.always: tuple[int, str] | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.probes = 0
        self._began: float | None = time.monotonic() - 3600

    @property
    def uptime_s(self) -> float | None:
        """How long it has been running, which grows; set it to 0 to begin anew."""
        return None if self._began is None else time.monotonic() - self._began

    @uptime_s.setter
    def uptime_s(self, seconds: float | None) -> None:
        self._began = None if seconds is None else time.monotonic() - seconds

    async def wake(self, request: web.Request) -> web.Response:
        """Take a wake or a probe."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, text="Unauthorized")
        body = json.loads(await request.read())
        text = body.get("text")
        if text is None:
            self.probes += 1
            return (
                web.Response(status=self.always[0]) if self.always else web.Response(status=400, text="text required")
            )
        self.posts.append(text)
        refused = await self._refused()
        if refused:
            return refused
        self.received.append(time.perf_counter())
        self.wakes.append(text)
        self.wake_bodies.append(body)
        return web.json_response({"ok": True, "mode": body.get("mode", "now"), "eventOutcome": "queued"})

    async def agent(self, request: web.Request) -> web.Response:
        """Begin a run for a key, or join the one that it has begun."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, text="Unauthorized")
        body = json.loads(await request.read())
        self.agent_bodies.append(body)
        run_id = self.runs.setdefault(request.headers.get("Idempotency-Key"), f"run-{len(self.runs) + 1}")
        refused = await self._refused()
        if refused:
            return refused
        end = {"completion": self.completion} if body.get("waitForCompletion") else {}
        return web.json_response({"ok": True, "runId": run_id, **end})

    async def ready(self, _request: web.Request) -> web.Response:
        """Say how long it has been running."""
        if self.uptime_s is None:
            return web.Response(status=404, text="Not Found")
        return web.json_response({"ready": True, "failing": [], "uptimeMs": round(self.uptime_s * 1000)})

    async def _refused(self) -> web.Response | None:
        """Hold, and give the next answer unless it is a 200."""
        await self.held.wait()
        status, text = self.always or (self.answers.pop(0) if self.answers else (200, ""))
        return None if status == 200 else web.Response(status=status, text=text)


@asynccontextmanager
async def gateway(port: int = 0) -> AsyncIterator[FakeGateway]:
    """Run one on this port; 0 takes a free one."""
    fake = FakeGateway()
    app = web.Application()
    app.router.add_post("/hooks/wake", fake.wake)
    app.router.add_post("/hooks/agent", fake.agent)
    app.router.add_get("/readyz", fake.ready)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.held.set()
        await runner.cleanup()
