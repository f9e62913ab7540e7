"""An installation to be crashed: a Postgres, a vault, a daemon, a gateway, and a steady load that keeps count."""

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psycopg
from daemons import environment, free_port
from deliveries import SECRET, WEBHOOK
from faults.proxy import Proxy, proxy
from gateways import FakeGateway, gateway
from programs import Program, run, until

from vault.sender import new_webhook_id, sample_body, signed_headers

SLUG = "GMAIL_NEW_GMAIL_MESSAGE"
GAP_S = 0.05
AGAIN_S = 0.2
LATEST_S = 120.0
MORE = 20
LEARNING = re.compile(r"Learning ([0-9a-f-]{36})")


@dataclass(slots=True)
class Load:
    """Deliveries as Composio sends them: each is sent again, with a new signature, until it is answered with 2xx."""

    url: str
    accepted: dict[str, str] = field(default_factory=dict)
    spooled: int = 0
    sent: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send a new delivery every 50 ms until `stop()`, and then wait for the last answer."""
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout) as client, asyncio.TaskGroup() as deliveries:
            while not self._over.is_set():
                deliveries.create_task(self._deliver(client))
                self.sent += 1
                await asyncio.sleep(GAP_S)

    def stop(self) -> None:
        """Begin no new delivery."""
        self._over.set()

    async def _deliver(self, client: aiohttp.ClientSession) -> None:
        webhook_id = new_webhook_id()
        body = sample_body(SLUG, webhook_id, time.time())
        while webhook_id not in self.accepted:
            headers = signed_headers(SECRET, webhook_id, int(time.time()), body)
            try:
                async with client.post(self.url, data=body, headers=headers) as answer:
                    if answer.status == 200:
                        told = await answer.json()
                        self.accepted[webhook_id] = told["learning_id"]
                        self.spooled += bool(told.get("spooled"))
                        return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(AGAIN_S)


class Installation:
    """The parts by name; each can be killed and started again, and each network between them broken."""

    def __init__(self, dsn: str, home: Path, fake: FakeGateway, vault_wire: Proxy, daemon_wire: Proxy) -> None:
        self.dsn = dsn
        self.fake = fake
        self.vault_wire = vault_wire
        self.daemon_wire = daemon_wire
        self.port = free_port()
        self.load = Load(f"http://127.0.0.1:{self.port}{WEBHOOK}")
        self.daemon_settings: dict[str, object] = {"lease_s": 3}
        self._home = home
        self._running: dict[str, AsyncExitStack] = {}
        self.programs: dict[str, Program] = {}
        self._daemons: list[Program] = []

    async def start(self, name: str) -> Program:
        """Start the vault or the daemon."""
        if name == "vault":
            env = {
                "DATABASE_URL": self.vault_wire.dsn,
                "COMPOSIO_WEBHOOK_SECRET": SECRET,
                "VAULT_PORT": str(self.port),
                "VAULT_SPOOL_DIR": str(self._home / "spool"),
            }
            running = run("vault", "serve", env=env, home=self._home)
        else:
            env = environment(self.daemon_wire.dsn, self.fake.url, **self.daemon_settings)
            running = run("daemon", "run", env=env, home=self._home)
        stack = self._running[name] = AsyncExitStack()
        program = self.programs[name] = await stack.enter_async_context(running)
        if name == "daemon":
            self._daemons.append(program)
        await program.event("vault_listening" if name == "vault" else "daemon_started")
        return program

    async def kill(self, name: str) -> None:
        """Kill -9."""
        self.programs[name].process.kill()
        await self._running.pop(name).aclose()

    async def close(self) -> None:
        """End what runs."""
        for stack in self._running.values():
            await stack.aclose()

    @property
    def told(self) -> Counter[str]:
        """How often the agent was told of each learning."""
        return Counter(found[1] for text in self.fake.wakes if (found := LEARNING.search(text)))

    @property
    def claimed(self) -> Counter[str]:
        """How often the daemons say that they claimed each job: a crash of Postgres may forget that they did."""
        lines = (line for program in self._daemons for line in program.lines if b'"job_claimed"' in line)
        return Counter(json.loads(line)["job_id"] for line in lines if line.endswith(b"}\n"))

    async def account(self) -> "Account":
        """Go on under load for a while, end it, wait until all that was accepted has arrived, and count."""
        accepted = len(self.load.accepted)
        await until(lambda: len(self.load.accepted) >= accepted + MORE, "deliveries after the crash", LATEST_S)
        self.load.stop()
        await until(lambda: len(self.load.accepted) == self.load.sent, "an answer to every delivery", LATEST_S)
        await until(lambda: not self.missing(), f"{len(self.missing())} accepted events", LATEST_S)
        await until(self._is_settled, "the last settlement", LATEST_S)
        return Account.of(self)

    def missing(self) -> set[str]:
        """Return the learnings that were answered with 2xx and did not reach the agent."""
        return set(self.load.accepted.values()) - self.told.keys()

    def _is_settled(self) -> bool:
        with psycopg.connect(self.dsn) as connection:
            return not connection.execute("select from public.jobs where status <> 'done'").fetchall()


@dataclass(frozen=True, slots=True)
class Account:
    """What became of everything: each webhook-id that was answered with 2xx, and each repetition with its reason."""

    accepted: int
    spooled: int
    rows: int
    told: int
    repeated: int
    unexplained: tuple[str, ...]

    @classmethod
    def of(cls, whole: Installation) -> "Account":
        """Count; a repetition is explained where its job was claimed more than once.

        A killed daemon may not have said so, and a killed Postgres may have forgotten it.
        """
        query = (
            "select l.event_id, l.id::text, j.id::text, j.claims"
            " from public.agent_learnings l left join public.jobs j on j.learning_id = l.id"
        )
        with psycopg.connect(whole.dsn) as connection:
            rows = connection.execute(query).fetchall()
        assert {event_id: learning for event_id, learning, _, _ in rows} == whole.load.accepted
        assert len(rows) == len({job for _, _, job, _ in rows} - {None}) == len(whole.load.accepted)
        told, claimed = whole.told, whole.claimed
        unexplained = tuple(learning for _, learning, job, claims in rows if told[learning] > max(claims, claimed[job]))
        repeated = sum(times - 1 for times in told.values())
        return cls(len(whole.load.accepted), whole.load.spooled, len(rows), len(told), repeated, unexplained)


@contextlib.asynccontextmanager
async def installation(dsn: str, home: Path) -> AsyncIterator[Installation]:
    """Run one over a migrated database, with a steady load."""
    async with gateway() as fake, proxy(dsn) as vault_wire, proxy(dsn) as daemon_wire:
        whole = Installation(dsn, home, fake, vault_wire, daemon_wire)
        try:
            await whole.start("vault")
            await whole.start("daemon")
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(whole.load.run())
                await until(lambda: len(fake.wakes) >= 3, "the first wakes")
                yield whole
                loading.cancel()
        finally:
            await whole.close()
