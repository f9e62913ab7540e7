"""`agent-vault up`: everything on one machine, over an embedded Postgres, with the way of one delivery shown."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import psycopg

from sql.migrate import migrate
from sql.session import Session
from vault.children import Child, Event, environment
from vault.data_folder import SAMPLE_QUEUE, SAMPLE_USER, DataFolder
from vault.embedded import EmbeddedError, EmbeddedPostgres
from vault.sender import Message, SendFailed, new_webhook_id, sample_body, send
from vault.standin import StandInGateway
from vault.timeline import Way, look

READY_S = 60.0
STAGE_S = 15.0
RESTART_S = 1.0
SAMPLE_SLUG = "GMAIL_NEW_GMAIL_MESSAGE"
SHOWN = {
    "webhook_accepted": ("type", "learning_id", "job_id", "duplicate", "ms"),
    "webhook_refused": ("reason",),
    "webhook_not_stored": ("error",),
    "job_delivered": ("type", "job_id", "attempt"),
    "job_retried": ("type", "job_id", "error"),
    "job_failed": ("type", "job_id", "error"),
    "gateway_paused": ("remedy",),
    "gateway_resumed": (),
    "listener_lost": ("error",),
}


class UpError(Exception):
    """It could not be brought up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for on the command line; without a gateway a stand-in takes the wakes."""

    data: Path
    port: int
    gateway: str | None
    sample: bool
    check: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Read the command line. Raises UpError."""
        if args.check and args.gateway and not args.sample:
            raise UpError("--check sends a sample that wakes the agent of a real gateway: add --sample to allow it")
        sample = args.sample or args.gateway is None
        return cls(args.data.expanduser().absolute(), args.port, args.gateway, sample, args.check)


def run(plan: Plan) -> int:
    """Bring everything up; return the exit status. Raises UpError, FolderError, EmbeddedError."""
    return asyncio.run(Up(plan, sys.stdout).run())


class Up:
    """The whole installation, from the first start to the last stop."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        """Take the plan and where to show what happens."""
        self._plan = plan
        self._out = out
        self._folder = DataFolder(plan.data)
        self._postgres = EmbeddedPostgres(self._folder.postgres)
        self._standin = StandInGateway(lambda text: self._say("stand-in gateway", f"woken: {text}"))
        self._vault = Child("vault", "vault", ["serve"], self._hear)
        self._daemon = Child("daemon", "daemon", ["run"], self._hear)
        self._ended: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._heard = asyncio.Event()
        self._port = plan.port

    async def run(self) -> int:
        """Bring it all up, show the sample's way, and stay until Ctrl-C; return the exit status."""
        self._stop_on_signals()
        self._folder.claim()
        self._say("up", f"data in {self._folder.path}")
        try:
            status = await self._run_programs()
        finally:
            await self._standin.stop()
            await asyncio.to_thread(self._postgres.stop)
        self._say("up", "stopped")
        return status

    async def _run_programs(self) -> int:
        async with asyncio.TaskGroup() as programs:
            try:
                status, problem = await self._until_stopped(self._live(programs)), None
            except (UpError, SendFailed, EmbeddedError, psycopg.Error) as error:
                status, problem = 1, error  # raised below: here it would cut the programs' end short
            self._stopping.set()
            self._vault.stop()
            self._daemon.stop()
        if problem is not None:
            raise problem
        return status

    async def _until_stopped(self, living: Coroutine[Any, Any, int]) -> int:
        """Run until it returns by itself or a signal ends it."""
        life = asyncio.ensure_future(living)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([life, stopping], return_when=asyncio.FIRST_COMPLETED)
            return life.result() if life.done() else 0
        finally:
            for task in (life, stopping):
                task.cancel()
            await asyncio.gather(life, stopping, return_exceptions=True)

    async def _live(self, programs: asyncio.TaskGroup) -> int:
        await asyncio.to_thread(self._postgres.start, keep_fds=(self._folder.lock_fd,))
        done = await asyncio.to_thread(migrate, self._postgres.dsn)
        self._say("up", f"postgres {self._postgres.version} runs, schema version {done.after}")
        await self._start_vault(programs)
        await self._start_daemon(programs)
        if self._plan.sample:
            way = await self._send_sample()
            if self._plan.check:
                return int(way is None or way.missing() is not None)
        self._say("up", f"ready for deliveries: agent-vault send --to {self._url} --secret-file {self._secret_file}")
        self._say("up", "Ctrl-C ends it")
        await self._stopping.wait()
        return 0

    async def _start_vault(self, programs: asyncio.TaskGroup) -> None:
        self._folder.webhook_secret()
        settings = {
            "DATABASE_URL": self._postgres.dsn,
            "CREDENTIALS_DIRECTORY": str(self._folder.secrets),
            "VAULT_CONFIG": str(self._folder.vault_toml),
            "VAULT_PORT": str(self._port),
        }
        programs.create_task(self._keep(self._vault, settings), name="vault")
        event = await self._first(self._vault, "vault_listening")
        if event is None:
            raise UpError(f"the vault did not start: {self._why(self._vault)}")
        self._port = event["port"]
        self._say("vault", f"listens on http://127.0.0.1:{self._port}")

    async def _start_daemon(self, programs: asyncio.TaskGroup) -> None:
        settings = {
            "DATABASE_URL": self._postgres.dsn,
            "DAEMON_CONFIG": str(self._folder.daemon_toml),
            "DAEMON_NAME": "up",
            "DAEMON_LOG_LEVEL": "debug",
            **await self._gateway_settings(),
        }
        programs.create_task(self._keep(self._daemon, settings), name="daemon")
        if await self._first(self._daemon, "listener_up") is None:
            problem = f"the daemon did not start: {self._why(self._daemon)}"
            if not self._plan.check:
                raise UpError(problem)
            self._say("daemon", problem)  # the check names the stage that this breaks

    async def _gateway_settings(self) -> dict[str, str]:
        """Return where the daemon delivers to; a real gateway's token it finds as it always does."""
        if self._plan.gateway is not None:
            queues = f"default,{SAMPLE_QUEUE}" if self._plan.sample else "default"
            return {"GATEWAY_HTTP_URL": self._plan.gateway, "DAEMON_QUEUES": queues}
        await self._standin.start()
        self._say("stand-in gateway", f"listens on {self._standin.url} in place of OpenClaw")
        return {
            "GATEWAY_HTTP_URL": self._standin.url,
            "OPENCLAW_HOOK_TOKEN": self._standin.token,
            "DAEMON_QUEUES": f"default,{SAMPLE_QUEUE}",
        }

    async def _keep(self, child: Child, settings: dict[str, str]) -> None:
        """Run a program and start it again when it ends by itself, as launchd and systemd do."""
        log = self._folder.logs / f"{child.name}.log"
        while not self._stopping.is_set():
            surroundings = environment(settings)
            await child.start(surroundings, log=log, keep_fds=(self._folder.lock_fd,))
            self._ended.pop(child.name, None)
            ending = await child.listen()
            self._ended[child.name] = ending
            self._heard.set()
            if self._stopping.is_set() or self._plan.check:
                return
            self._say(child.name, f"{ending}: starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_S)

    async def _first(self, child: Child, name: str) -> Event | None:
        """Wait for a program's event; None when it ended or takes too long."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and child.name not in self._ended:
            if found := next((event for event in child.said if event.get("event") == name), None):
                return found
            await self._news()
        return None

    async def _news(self) -> None:
        """Wait a moment, or for the next event."""
        self._heard.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), 0.1)

    async def _send_sample(self) -> Way | None:
        """Send one signed delivery and show its way."""
        webhook_id = new_webhook_id()
        message = Message(webhook_id, sample_body(SAMPLE_SLUG, webhook_id, time.time(), SAMPLE_USER))
        (receipt,) = await send(self._url, self._folder.webhook_secret(), [message])
        if receipt.answer is None or not receipt.answer.get("ok"):
            self._say("up", f"check failed at stage accepted: the vault answered {receipt.status}")
            return None
        session = Session(self._postgres.dsn, name="agent-vault up")
        try:
            way = await self._follow(session, receipt.answer["learning_id"])
        finally:
            await session.close()
        self._say("up", f"the way of {webhook_id} ({SAMPLE_SLUG}), a signed sample:")
        for line in way.lines():
            self._say("", line)
        if (stage := way.missing()) is not None:
            self._say("up", f"check failed at stage {stage}: {self._reason(stage, way)}")
        return way

    async def _follow(self, session: Session, learning_id: Any) -> Way:
        """Look until the delivery is done, or has stood still for too long."""
        deadline = time.monotonic() + STAGE_S
        while True:
            way = await look(session, learning_id, SAMPLE_QUEUE, self._daemon.said)
            if way.missing() is None or time.monotonic() > deadline or "daemon" in self._ended:
                return way
            await self._news()

    def _reason(self, stage: str, way: Way) -> str:
        """Say why a stage was not reached, as far as it can be known."""
        if "daemon" in self._ended:
            return f"the daemon {self._ended['daemon']}; {self._why(self._daemon)}"
        paused = [event for event in self._daemon.said if event.get("event") == "gateway_paused"]
        if stage == "delivered" and paused:
            return str(paused[-1].get("remedy"))
        if stage == "notified":
            return "no notification reached the daemon: the trigger agent_vault_inserted on public.jobs is missing"
        return way.last_error or f"nothing happened for {STAGE_S:.0f} s: see {self._folder.logs}"

    def _why(self, child: Child) -> str:
        """Return the last thing that a program complained of."""
        for event in reversed(child.said):
            if event.get("level") in {"error", "critical"}:
                return str(event.get("error") or event.get("problem") or event.get("event"))
        return f"see {self._folder.logs / child.name}.log"

    def _hear(self, name: str, event: Event) -> None:
        """Show what a person wants to see of a program's events."""
        self._heard.set()
        keys = SHOWN.get(str(event.get("event")))
        if keys is None and event.get("level") in {"error", "critical"}:
            keys = ("error", "problem", "exception")
        if keys is not None:
            facts = " ".join(f"{key}={event[key]}" for key in keys if event.get(key) not in (None, False))
            self._say(name, f"{event['event']} {facts}")

    def _say(self, who: str, what: str) -> None:
        print(f"{who:>16}  {what}", file=self._out, flush=True)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}/agent-vault/composio/webhook"

    @property
    def _secret_file(self) -> Path:
        return self._folder.secrets / "composio_webhook_secret"

    def _stop_on_signals(self) -> None:
        def stop() -> None:
            if self._stopping.is_set():  # asked twice: leave at once, the leashes end the rest
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.raise_signal(signal.SIGINT)
            self._stopping.set()

        for one in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(one, stop)
