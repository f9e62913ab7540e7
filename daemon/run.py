"""The daemon's life: wire its parts, work until SIGTERM, leave in order."""

import asyncio
import contextlib
import functools
import math
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import structlog

from daemon.gateway import Gateway
from daemon.pacing import Pacer
from daemon.routes import choose_route
from daemon.settings import DaemonSettings
from daemon.worker import Worker
from notifier.ending import when_told_to_end
from notifier.listener import Listener
from notifier.parts import keep_running
from notifier.presence import Presence
from notifier.readiness import Readiness
from notifier.sleep import SleepWatch
from notifier.waker import Waker
from sql.names import Identity
from sql.session import Session

STATEMENT_S = 5.0  # above the functions' lock_timeout of 4 s, and a lost connection is noticed within 10
RESOLVERS = 32
PULSES_MISSED = 3
LEAST_SILENCE_S = 15.0
LEAVE_S = 20.0  # a POST ends within 10 s; the promise is 30 s
GOODBYE_S = 5.0

log = structlog.get_logger()


async def run(settings: DaemonSettings) -> None:
    """Deliver until SIGTERM or SIGINT; nothing else ends it."""
    stop = asyncio.Event()
    # names are looked up in threads, and without a network each may hang for half a minute: the next must find one free
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(RESOLVERS, "resolver"))
    waker = Waker(poll_s=settings.poll_s)
    when_told_to_end(functools.partial(_stop, stop, waker))
    identity = Identity(settings.name, uuid.uuid4().hex[:8], max(LEAST_SILENCE_S, PULSES_MISSED * settings.pulse_s))
    presence = Presence(identity, settings.queues)
    dsn = settings.database_url.get_secret_value()
    session = Session(dsn, name=f"agent-daemon {settings.name}", deadline_s=STATEMENT_S)
    listener = Listener(dsn, presence, waker, session, pulse_s=settings.pulse_s)
    sleep = SleepWatch()
    sleep.tell(listener.doubt)
    token = settings.hook_token.get_secret_value()
    async with Gateway(settings.gateway_url, settings.hooks_path, token) as gateway:
        worker = Worker(
            session,
            gateway,
            waker,
            stop,
            presence,
            pacer=_pacer(settings),
            sleep=sleep,
            lease_s=settings.lease_s,
            renew_s=settings.renew_s,
            concurrency=settings.concurrency,
        )
        log.info("daemon_started", identity=identity.worker, queues=list(settings.queues), gateway=settings.gateway_url)
        await _live(worker, listener, sleep, stop)
    with contextlib.suppress(psycopg.Error, TimeoutError):  # else it is forgotten after a while
        async with asyncio.timeout(GOODBYE_S):
            await presence.leave(session)
            await session.close()
    log.info("daemon_stopped", identity=identity.worker)


async def _live(worker: Worker, listener: Listener, sleep: SleepWatch, stop: asyncio.Event) -> None:
    """Run the parts together; when the worker has left, the rest ends."""
    readiness = Readiness.from_environment()
    async with asyncio.TaskGroup() as parts:
        company = [
            parts.create_task(keep_running(name, run_part), name=name)
            for name, run_part in {
                "listener": listener.run,
                "renewal": worker.leases.renew,
                "watch": worker.watch.run,
                "sleep": sleep.watch,
            }.items()
        ]
        working = parts.create_task(keep_running("worker", worker.run), name="worker")
        readiness.ready()  # before the database: whoever starts this must not wait for a network
        await stop.wait()
        readiness.stopping()
        await asyncio.wait([working], timeout=LEAVE_S)
        for task in (working, *company):
            task.cancel()


def _pacer(settings: DaemonSettings) -> Pacer:
    return Pacer(
        functools.partial(choose_route, settings.routes),
        slots=settings.gateway_slots if settings.pacing else math.inf,
        window_s=settings.gateway_window_s,
        agent_runs=settings.agent_runs,
        foreign_text=settings.foreign_text,
    )


def _stop(stop: asyncio.Event, waker: Waker, name: str) -> None:
    log.info("stopping", signal=name)
    stop.set()
    waker.ring("stop")
