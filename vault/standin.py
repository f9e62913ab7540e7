"""A stand-in for the OpenClaw gateway, for trying things out: it takes wakes as the real one does and shows them."""

import hmac
import json
import secrets
import time
from collections.abc import Callable

from aiohttp import web


class StandInGateway:
    """Answers `/hooks/wake` and `/readyz` on a free port of the loopback, as measured on the real gateway."""

    def __init__(self, woken: Callable[[str], None]) -> None:
        """Call `woken` with the text of each wake."""
        self.token = secrets.token_hex(16)
        self.url = ""
        self._woken = woken
        self._began = time.time()
        app = web.Application()
        app.router.add_post("/hooks/wake", self._wake)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"ready": True, "uptimeMs": round((time.time() - self._began) * 1000)})

    async def _wake(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return web.Response(status=401, text="Unauthorized")
        try:
            text = json.loads(await request.read()).get("text")
        except (ValueError, AttributeError):
            text = None
        if not isinstance(text, str) or not text.strip():
            return web.json_response({"ok": False, "error": "text required"}, status=400)
        self._woken(text)
        return web.json_response({"ok": True, "mode": "now", "eventOutcome": "queued"})
