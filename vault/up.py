"""`agent-vault up`: everything on one machine, over an embedded Postgres, with the way of one delivery shown."""

import argparse
import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import psycopg

from notifier.configuration import SettingsError
from notifier.ending import when_told_to_end
from sql.migrate import migrate
from vault import sample
from vault.children import Child, Event
from vault.data_folder import SAMPLE_QUEUE, DataFolder
from vault.embedded import EmbeddedError, EmbeddedPostgres, require
from vault.sender import SendFailed
from vault.standin import StandInGateway

STAND_IN = "stand-in gateway"
WEBHOOK = "/agent-vault/composio/webhook"
SHOWN = {
    "webhook_accepted": ("type", "learning_id", "job_id", "spooled", "duplicate", "ms"),
    "spool_drained": ("moved", "refused"),
    "webhook_refused": ("reason",),
    "webhook_not_stored": ("error",),
    "job_delivered": ("type", "job_id", "attempt"),
    "job_retried": ("type", "job_id", "error"),
    "job_failed": ("type", "job_id", "error"),
    "gateway_paused": ("remedy",),
    "gateway_resumed": (),
    "listener_lost": ("error",),
    "database_back": (),
    "vault_ready": (),
}
POSTGRES_CHECK_S = 0.5
INTERRUPTED = 130  # a check that a signal ended has shown nothing
ERROR = ("error", "problem", "exception")


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
        wanted = args.sample or args.gateway is None
        return cls(args.data.expanduser().resolve(), args.port, args.gateway, wanted, args.check)


def run(plan: Plan) -> int:
    """Bring everything up; return the exit status. Raises UpError, FolderError, EmbeddedError."""

    async def live() -> int:
        return await Up(plan, sys.stdout).run()

    return asyncio.run(live())


def _ourselves() -> str:
    """Return how this program was called, for a person to call it again."""
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name != "__main__.py" else f"{shlex.quote(sys.executable)} -m vault"


class Up:
    """The whole installation, from the first start to the last stop."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        """Take the plan and where to show what happens."""
        self._plan = plan
        self._out = out
        self._folder = DataFolder(plan.data)
        self._postgres = EmbeddedPostgres(self._folder.postgres)
        self._standin = StandInGateway(lambda text: self._say(STAND_IN, f"woken: {text}"))
        self._vault = Child("vault", ["serve"], self._folder.logs / "vault.log", self._hear)
        self._daemon = Child("daemon", ["run"], self._folder.logs / "daemon.log", self._hear)
        self._stopping = asyncio.Event()
        self._over = False
        self._url = ""

    async def run(self) -> int:
        """Bring it all up, show the sample's way, and stay until Ctrl-C; return the exit status."""
        require()
        self._folder.claim(lambda: self._say("up", "waits for what an earlier one left to end"))
        when_told_to_end(self._stop)  # one that ends at once leaves the programs to their leashes
        self._say("up", f"data in {self._folder.path}")
        try:
            return await self._run_programs()
        finally:
            await self._standin.stop()
            await asyncio.to_thread(self._postgres.stop)
            self._say("up", "stopped")

    async def _run_programs(self) -> int:
        async with asyncio.TaskGroup() as programs:
            try:
                status, problem = await self._until_stopped(self._live(programs)), None
            except (UpError, SendFailed, EmbeddedError, SettingsError, psycopg.Error, OSError) as error:
                status, problem = 1, error  # raised below: here it would cut the programs' end short
            self._over = True
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
            return life.result() if life.done() else INTERRUPTED * self._plan.check
        finally:
            for task in (life, stopping):
                task.cancel()
            await asyncio.gather(life, stopping, return_exceptions=True)

    async def _live(self, programs: asyncio.TaskGroup) -> int:
        await self._start_postgres(programs)
        await self._start_vault(programs)
        await self._start_daemon(programs)
        if self._plan.sample:
            arrived = await self._send_sample()
            if self._plan.check:
                return int(not arrived)
        base, secret = self._url.removesuffix(WEBHOOK), self._folder.secrets / "composio_webhook_secret"
        queues = f"DAEMON_QUEUES=default,{SAMPLE_QUEUE}"
        self._say("up", f"look around: export {queues} DATABASE_URL={shlex.quote(self._postgres.dsn)}")
        self._say("up", f"send another: {_ourselves()} send --to {base} --secret-file {shlex.quote(str(secret))}")
        self._say("up", "Ctrl-C ends it")
        await self._stopping.wait()
        return 0

    async def _start_postgres(self, programs: asyncio.TaskGroup) -> None:
        await asyncio.to_thread(self._postgres.start, keep_fds=(self._folder.lock_fd,))
        done = await asyncio.to_thread(migrate, self._postgres.dsn)
        programs.create_task(self._keep_postgres(), name="postgres")
        for folder in (one for one in self._postgres.opened if not one.is_relative_to(self._folder.path)):
            self._say("postgres", f"may pass through {folder} now (chmod o+x): it does not run as root")
        self._say("postgres", f"version {self._postgres.version} runs, with schema version {done.after}")

    async def _keep_postgres(self) -> None:
        """Start the database again when it ended by itself."""
        while not self._over:
            if not self._postgres.running:
                self._say("postgres", "ended: starting it again")
                with contextlib.suppress(EmbeddedError):  # its old backends may need a moment to go
                    await asyncio.to_thread(self._postgres.start, keep_fds=(self._folder.lock_fd,))
            await asyncio.sleep(POSTGRES_CHECK_S)

    async def _start_vault(self, programs: asyncio.TaskGroup) -> None:
        self._folder.webhook_secret()
        settings = {
            "DATABASE_URL": self._postgres.dsn,
            "CREDENTIALS_DIRECTORY": str(self._folder.secrets),
            "VAULT_CONFIG": str(self._folder.vault_toml),
            "VAULT_PORT": str(self._plan.port),
            "VAULT_SPOOL_DIR": str(self._folder.spool),
        }
        self._keep(self._vault, settings, programs)
        event = await self._vault.first("vault_listening")
        if event is None:
            raise UpError(f"the vault did not start: {self._other_port(self._vault.complaint())}")
        settings["VAULT_PORT"] = str(event["port"])  # when it is started again it listens where people send to
        self._url = f"http://127.0.0.1:{event['port']}{WEBHOOK}"
        self._say("vault", f"takes deliveries at {self._url}")

    async def _start_daemon(self, programs: asyncio.TaskGroup) -> None:
        settings = {
            "DATABASE_URL": self._postgres.dsn,
            "DAEMON_CONFIG": str(self._folder.daemon_toml),
            "DAEMON_NAME": "up",
            "DAEMON_LOG_LEVEL": "debug",
            "DAEMON_QUEUES": f"default,{SAMPLE_QUEUE}" if self._plan.sample else "default",
            **await self._gateway_settings(),
        }
        self._keep(self._daemon, settings, programs)
        # a check goes on without it, and names the stage that this breaks
        if await self._daemon.first("listener_up") is None and not self._plan.check:
            raise UpError(f"the daemon did not start: {self._daemon.complaint()}")

    async def _gateway_settings(self) -> dict[str, str]:
        """Return where the daemon delivers to; a real gateway's token it finds as it always does."""
        if self._plan.gateway is not None:
            return {"GATEWAY_HTTP_URL": self._plan.gateway}
        await self._standin.start()
        self._say(STAND_IN, f"stands in for OpenClaw at {self._standin.url}")
        return {
            "GATEWAY_HTTP_URL": self._standin.url,
            "OPENCLAW_HOOK_TOKEN": self._standin.token,
            "DAEMON_HOOKS_PATH": "/hooks",
            "OPENCLAW_ENV_FILE": os.devnull,  # the real gateway's settings are not the stand-in's
            "OPENCLAW_CONFIG_PATH": os.devnull,
        }

    def _keep(self, child: Child, settings: dict[str, str], programs: asyncio.TaskGroup) -> None:
        kept = child.keep(settings, keep_fds=(self._folder.lock_fd,), again=not self._plan.check)
        programs.create_task(kept, name=child.name)

    async def _send_sample(self) -> bool:
        """Send the sample and show its way; return whether it arrived."""
        learning_id = await sample.send_sample(self._url, self._folder.webhook_secret(), self._say)
        if learning_id is None:
            return False
        way = await sample.follow(self._postgres.dsn, learning_id, self._daemon, self._daemon.news)
        return sample.show(way, self._daemon, self._say)

    @staticmethod
    def _other_port(complaint: str) -> str:
        """Put our own remedy in place of that of a vault without `up`."""
        problem, _, _ = complaint.partition(": set VAULT_HOST")
        return complaint if problem == complaint else f"{problem}: choose another with --port, 0 takes a free one"

    def _hear(self, name: str, event: Event) -> None:
        """Show what a person wants to see of a program's events."""
        kind = str(event.get("event"))
        keys = SHOWN.get(kind, ERROR if event.get("level") == "error" else None)  # critical: told where it ends us
        if keys is not None:
            facts = [f"{key}={event[key]}" for key in keys if event.get(key) not in (None, False)]
            self._say(name, " ".join([kind, *facts]))

    def _say(self, who: str, what: str) -> None:
        try:
            print(f"{who:>16}  {what}", file=self._out, flush=True)
        except OSError:  # nobody reads any more, or the disk is full: go on in silence
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())

    def _stop(self, _signal: str) -> None:
        self._say("up", "stopping")
        self._stopping.set()
