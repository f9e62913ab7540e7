"""The web application: routes, and what they need while it runs; no logic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import web, web_response

from sql.session import Session
from vault import api
from vault.health import Health
from vault.housekeeping import Housekeeping
from vault.inbox import Inbox
from vault.keys import CLOCK, HEALTH, INBOX, JOBS, LEARNINGS, SETTINGS
from vault.settings import VaultSettings
from vault.webhook import receive

PREFIXES = ("", "/agent-vault")  # existing installs know the second

# The header that else names the versions of Python and aiohttp. Not a signal of the application: what is no HTTP is
# answered without one.
web_response.SERVER_SOFTWARE = "agent-vault"  # type: ignore[attr-defined]


def make_app(settings: VaultSettings, now: Callable[[], float] = time.time) -> web.Application:
    """Build the vault's application, with its clock in unix seconds; nothing is opened before it starts."""
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[CLOCK] = now
    for prefix in PREFIXES:
        app.router.add_post(f"{prefix}/composio/webhook", receive)
        app.router.add_post(f"{prefix}/jobs/next", api.guarded(api.next_job))
        app.router.add_post(f"{prefix}/jobs/ack", api.guarded(api.acknowledge))
        app.router.add_get(f"{prefix}/health", api.health)
        app.router.add_get(f"{prefix}/learnings/get", api.guarded(api.get_learning))
        app.router.add_get(f"{prefix}/learnings/list", api.guarded(api.list_learnings))
        app.router.add_get(f"{prefix}/learnings/search", api.guarded(api.search_learnings))
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.cleanup_ctx.append(run_parts)
    return app


async def run_parts(app: web.Application) -> AsyncIterator[None]:
    """Open the connections and run the writer, the health check and the upkeep; end them after the last request."""
    dsn = app[SETTINGS].database_url.get_secret_value()
    sessions = {name: Session(dsn, name=f"agent-vault {name}") for name in ("writer", "jobs", "learnings", "health")}
    app[INBOX] = Inbox(sessions["writer"])
    app[HEALTH] = Health(sessions["health"])
    app[JOBS] = sessions["jobs"]
    app[LEARNINGS] = sessions["learnings"]
    async with asyncio.TaskGroup() as parts:
        running = [
            parts.create_task(app[INBOX].write(), name="inbox"),
            parts.create_task(app[HEALTH].watch(), name="health"),
            parts.create_task(sessions["writer"].warm(), name="warm-up"),
            parts.create_task(Housekeeping(sessions["jobs"], app[SETTINGS]).run(), name="housekeeping"),
        ]
        yield
        for part in running:
            part.cancel()
    for session in sessions.values():
        await session.close()


async def live(_request: web.Request) -> web.Response:
    """`GET /livez`: the process answers."""
    return web.json_response({"ok": True})


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: deliveries can be stored, as of the latest look."""
    is_ready = request.app[HEALTH].ready
    return web.json_response({"ok": is_ready}, status=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
