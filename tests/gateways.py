"""A stand-in for the OpenClaw gateway that tests steer: it answers as told and remembers each wake."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

TOKEN = "hook-token-of-the-tests"


class FakeGateway:
    """Answers POST /hooks/wake; `answers` is what it gives next, then 200 for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.wakes: list[str] = []
        self.received: list[float] = []
        self.posts: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.always: tuple[int, str] | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.probes = 0

    async def wake(self, request: web.Request) -> web.Response:
        """Take a wake or a probe."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, text="Unauthorized")
        text = json.loads(await request.read()).get("text")
        if text is None:
            self.probes += 1
            return (
                web.Response(status=self.always[0]) if self.always else web.Response(status=400, text="text required")
            )
        self.posts.append(text)
        await self.held.wait()
        status, body = self.always or (self.answers.pop(0) if self.answers else (200, ""))
        if status != 200:
            return web.Response(status=status, text=body)
        self.received.append(time.perf_counter())
        self.wakes.append(text)
        return web.json_response({"ok": True, "mode": "now", "eventOutcome": "queued"})


@asynccontextmanager
async def gateway(port: int = 0) -> AsyncIterator[FakeGateway]:
    """Run one on this port; 0 takes a free one."""
    fake = FakeGateway()
    app = web.Application()
    app.router.add_post("/hooks/wake", fake.wake)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.held.set()
        await runner.cleanup()
