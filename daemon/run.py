"""The daemon's life: wire its parts, work until SIGTERM, leave in order."""

import asyncio
import signal
import uuid

import structlog

from daemon.gateway import Gateway
from daemon.settings import DaemonSettings
from daemon.worker import Worker
from notifier.listener import Listener
from notifier.readiness import Readiness
from notifier.waker import Waker
from sql.session import Session

LEAVE_S = 20.0  # a POST ends within 10 s; the promise is 30 s, and a cancelled statement may take 10 s more

log = structlog.get_logger()


async def run(settings: DaemonSettings) -> None:
    """Deliver until SIGTERM or SIGINT; nothing else ends it."""
    stop = asyncio.Event()
    waker = Waker(poll_s=settings.poll_s)
    _stop_on_signals(stop, waker)
    identity = f"{settings.name}/{uuid.uuid4().hex[:8]}"
    dsn = settings.database_url.get_secret_value()
    session = Session(dsn, name=f"agent-daemon {settings.name}")
    listener = Listener(dsn, settings.queues, waker, name=f"agent-daemon {settings.name}", pulse_s=settings.pulse_s)
    token = settings.hook_token.get_secret_value()
    async with Gateway(settings.gateway_url, settings.hooks_path, token) as gateway:
        worker = Worker(
            session,
            gateway,
            waker,
            stop,
            identity=identity,
            queues=settings.queues,
            lease_s=settings.lease_s,
            concurrency=settings.concurrency,
        )
        log.info("daemon_started", identity=identity, queues=list(settings.queues), gateway=settings.gateway_url)
        await _live(worker, listener, stop)
    await session.close()
    log.info("daemon_stopped", identity=identity)


async def _live(worker: Worker, listener: Listener, stop: asyncio.Event) -> None:
    """Run the parts together; when the worker has left, the rest ends."""
    readiness = Readiness.from_environment()
    async with asyncio.TaskGroup() as parts:
        company = [
            parts.create_task(listener.run(), name="listener"),
            parts.create_task(worker.leases.renew(), name="renewal"),
        ]
        working = parts.create_task(worker.run(), name="worker")
        readiness.ready()  # before the database: whoever starts this must not wait for a network
        await stop.wait()
        readiness.stopping()
        await asyncio.wait([working], timeout=LEAVE_S)
        for task in (working, *company):
            task.cancel()


def _stop_on_signals(stop: asyncio.Event, waker: Waker) -> None:
    def end(name: str) -> None:
        log.info("stopping", signal=name)
        stop.set()
        waker.ring("stop")

    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, end, one.name)
