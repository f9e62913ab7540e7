"""The web application: routes, and what they need while it runs; no logic."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from aiohttp import web, web_response

from notifier.parts import keep_running
from sql.session import Session
from vault import api, cors
from vault.answer import SERVER
from vault.circuit import Circuit
from vault.door import door
from vault.drain import Drain
from vault.failures import Failures
from vault.health import Health
from vault.housekeeping import Housekeeping
from vault.inbox import Inbox
from vault.keys import CIRCUIT, CLOCK, DIRECT, FAILURES, HEALTH, INBOX, JOBS, LEARNINGS, ROUTES, SETTINGS, SPOOLER
from vault.settings import VaultSettings
from vault.spooler import Spooler
from vault.webhook import Receiver

PREFIXES = ("", "/agent-vault")  # existing installs know the second

# The header that else names the versions of Python and aiohttp. Not a signal of the application: what is no HTTP is
# answered without one.
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]


def make_app(settings: VaultSettings, now: Callable[[], float] = time.time) -> web.Application:
    """Build the vault's application, with its clock in unix seconds; nothing is opened before it starts."""
    app = web.Application(middlewares=[door])
    app[SETTINGS] = settings
    app[CLOCK] = now
    app[FAILURES] = Failures()
    app[DIRECT] = dict.fromkeys([("POST", f"{prefix}/composio/webhook") for prefix in PREFIXES], Receiver(app))
    for (method, path), receiver in app[DIRECT].items():
        app.router.add_route(method, path, receiver.receive)
    for prefix in PREFIXES:
        app.router.add_get(f"{prefix}/health", api.health)
        for method, path, handler in api.GUARDED:
            cors.add_route(app.router, method, prefix + path, api.guarded(handler), settings.cors_origins)
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app[ROUTES] = frozenset((one.method, one.resource.canonical) for one in app.router.routes() if one.resource)
    app.cleanup_ctx.append(run_parts)
    return app


async def run_parts(app: web.Application) -> AsyncIterator[None]:
    """Open the connections and the spool and run what works in the background; end it after the last request.

    Raises SettingsError for a spool's folder that cannot be used.
    """
    settings = app[SETTINGS]
    dsn = settings.database_url.get_secret_value()
    sessions = {name: Session(dsn, name=f"agent-vault {name}") for name in ("writer", "jobs", "learnings", "health")}
    app[JOBS] = sessions["jobs"]
    app[LEARNINGS] = sessions["learnings"]
    health = app[HEALTH] = Health(sessions["health"])
    app[CIRCUIT] = Circuit(lambda: health.usable)
    spooler = app[SPOOLER] = Spooler(settings.spool_dir, settings.spool_max_bytes) if settings.spool_dir else None
    app[INBOX] = Inbox(sessions["writer"], app[CIRCUIT], spooler)
    async with contextlib.AsyncExitStack() as opened:
        for session in sessions.values():
            opened.push_async_callback(session.close)
        if spooler is not None:
            opened.push_async_callback(spooler.close)
            await spooler.open()
        async with asyncio.TaskGroup() as parts:
            running = [
                parts.create_task(keep_running(name, work), name=name)
                for name, work in _parts(app, sessions["writer"]).items()
            ]
            yield
            await app[INBOX].wake_owed()
            for part in running:
                part.cancel()


def _parts(app: web.Application, writer: Session) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return what works in the background, by name."""
    health, spooler = app[HEALTH], app[SPOOLER]
    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "inbox": app[INBOX].write,
        "health": health.watch,
        "housekeeping": Housekeeping(app[JOBS], app[SETTINGS], lambda: health.ready).run,
        "warm-up": writer.warm,
    }
    if spooler is not None:
        drain = Drain(writer, spooler, app[CIRCUIT], lambda: health.ready)
        parts |= {"spool": spooler.write, "spool watch": spooler.watch, "drain": drain.run}
    return parts


def is_ready(app: web.Application) -> bool:
    """Tell whether a delivery can be stored, in the database, or in a spool that is emptied by itself in time."""
    health, spooler = app[HEALTH], app[SPOOLER]
    return health.ready or (health.may_record and spooler is not None and spooler.accepts)


async def live(_request: web.Request) -> web.Response:
    """`GET /livez`: the process answers."""
    return web.json_response({"ok": True})


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: deliveries can be stored, as of the latest look."""
    ok = is_ready(request.app)
    return web.json_response({"ok": ok}, status=HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE)
