"""The vault's life: listen, answer until SIGTERM, finish what was accepted."""

import asyncio
import errno
import gc
import os
import traceback
from functools import partial
from typing import cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from notifier.complaint import one_line
from notifier.ending import when_told_to_end
from notifier.readiness import Readiness
from vault.app import is_ready, make_app
from vault.express import Express
from vault.gate import Gate, allow_files
from vault.keys import CIRCUIT, DIRECT, HEALTH, SETTINGS
from vault.settings import VaultSettings

LEAVE_S = 20.0
BODIES = 8  # as many of the largest may be under way at once, and as many smaller ones as weigh the same
BACKLOG = 128  # also how many are let in at once, before the gate can close any

log = structlog.get_logger()


class ListenError(Exception):
    """The vault cannot listen where it should; the message says why and what to do."""


class AccessLog(AbstractAccessLogger):
    """One event a request, but for webhooks, which have their own outcome, and probes, which say nothing new."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log without the query, which may hold what somebody searched for."""
        if not request.raw_path.partition("?")[0].endswith(("/composio/webhook", "/livez", "/readyz", "/health")):
            facts = {"method": request.method, "path": request.path[:200], "status": response.status}
            log.info("http_request", **facts, ms=round(time * 1000, 1))


class ServerLog:
    """What aiohttp says of requests that it cannot read or that fail, less what they hold: its errors quote them."""

    def debug(self, *_words: object, **_facts: object) -> None:
        """Say nothing: clients that go away are none of our outcomes."""

    def exception(self, _words: str, *_values: object, exc_info: BaseException) -> None:
        """Log the kind of the error, and where it is ours, the place."""
        kind = type(exc_info).__name__
        if isinstance(exc_info, HttpProcessingError | ConnectionError):
            log.warning("http_refused", reason=kind)
        else:
            log.error("http_failed", error=kind, place="".join(traceback.format_tb(exc_info.__traceback__)))


async def serve(settings: VaultSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ListenError, SettingsError, and SchemaTooOldError where the schema is known to be.
    """
    stop = asyncio.Event()
    when_told_to_end(lambda _name: stop.set())
    app = make_app(settings)
    runner = web.AppRunner(app, shutdown_timeout=LEAVE_S)
    await runner.setup()
    try:
        await app[HEALTH].look(refuse_old_schema=True)
        if not app[HEALTH].ready:
            app[CIRCUIT].trip()
        allow_files(settings.max_connections)
        gc.freeze()  # the program itself is not garbage: no collection need look at it again
        listening = await _listen(runner, app)
        port = listening.sockets[0].getsockname()[1]
        readiness = Readiness.from_environment()
        readiness.ready()
        log.info("vault_listening", host=settings.host, port=port, ready=is_ready(app))
        await stop.wait()
        readiness.stopping()
        log.info("stopping")
        listening.close()
    finally:
        await runner.cleanup()
    log.info("vault_stopped")


async def _listen(runner: web.AppRunner, app: web.Application) -> asyncio.Server:
    settings = app[SETTINGS]
    gate = Gate(settings.max_connections, BODIES * settings.max_body_bytes)
    connection = partial(
        Express,
        cast("web.Server", runner.server),
        gate,
        settings.header_timeout_s,
        app[DIRECT],
        access_log_class=AccessLog,
        access_log=log,
        logger=ServerLog(),
        auto_decompress=False,  # what is signed is the body as it was sent
    )
    try:
        return await asyncio.get_running_loop().create_server(connection, settings.host, settings.port, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # the second is of a name that dns cannot hold
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number).lower() if number is not None and number in errno.errorcode else one_line(error)
        raise ListenError(
            f"cannot listen on {settings.host}:{settings.port} ({reason}): "
            "set VAULT_HOST and VAULT_PORT to an address and port of this machine that are free"
        ) from error
