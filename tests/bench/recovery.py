"""How long each fault keeps an event from the agent, with default settings but for pacing, which is off."""

import asyncio
import random
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import servers
from daemons import counts, daemon, environment, idle, insert
from faults.pooler import pooler
from faults.postgres import crashable
from faults.proxy import Proxy, proxy
from gateways import FakeGateway, gateway
from programs import Program, run, until

from sql.migrate import migrate

TIMES = 3
PULSE_S = 5.0


@dataclass(slots=True)
class Site:
    """A daemon with what is around it."""

    dsn: str
    home: Path
    fake: FakeGateway
    wire: Proxy
    database: psycopg.Connection

    @asynccontextmanager
    async def idle_daemon(self, **settings: object) -> AsyncIterator[Program]:
        """Run one that is idle, at a random moment between two of its pulses."""
        async with daemon(self.wire.dsn, self.fake.url, self.home, **settings) as program:
            await idle(program)
            await asyncio.sleep(random.uniform(0, PULSE_S))
            yield program

    async def delivered_s(self) -> float:
        """Insert a job, and return the seconds until the gateway has it."""
        before, began = len(self.fake.received), time.perf_counter()
        await asyncio.to_thread(insert, self.database)
        await until(lambda: len(self.fake.received) > before, "the delivery", 120)
        return self.fake.received[-1] - began


async def half_open(site: Site) -> float:
    """The open connections swallow everything, new ones work."""
    async with site.idle_daemon():
        site.wire.blackhole(new=False)
        return await site.delivered_s()


async def reset(site: Site) -> float:
    """All connections are reset."""
    async with site.idle_daemon():
        site.wire.reset()
        return await site.delivered_s()


async def network_back(site: Site) -> float:
    """The network swallows everything for a while; measured from its return."""
    async with site.idle_daemon() as program:
        site.wire.blackhole()
        await program.event("listener_lost")
        await asyncio.sleep(random.uniform(5, 15))
        site.wire.heal()
        return await site.delivered_s()


async def stalled(site: Site, call: bytes) -> float:
    """One call of the daemon never arrives."""
    async with site.idle_daemon():
        site.wire.stall("server", at=call)
        done, began = counts(site.database)["done"], time.perf_counter()
        insert(site.database)
        await until(lambda: counts(site.database)["done"] > done, "the completion", 120)
        took_s = time.perf_counter() - began
        site.wire.release()
        return took_s


async def restarted(site: Site) -> float:
    """Kill -9 of a daemon with a job in hand, and a new start of it; measured from the start."""
    site.fake.held.clear()
    async with site.idle_daemon() as program:
        posts = len(site.fake.posts)
        insert(site.database)
        await until(lambda: len(site.fake.posts) > posts)
        await program.stop(signal.SIGKILL)
    site.fake.held.set()
    done, began = counts(site.database)["done"], time.perf_counter()
    async with daemon(site.wire.dsn, site.fake.url, site.home):
        await until(lambda: counts(site.database)["done"] > done, "the takeover", 120)
        return time.perf_counter() - began


async def taken_over(site: Site) -> float:
    """A daemon with a job in hand is killed, while another serves the same queue."""
    site.fake.held.clear()
    async with site.idle_daemon() as program:
        insert(site.database)
        await until(lambda: site.fake.posts)
        async with daemon(site.dsn, site.fake.url, site.home, name="other") as other:
            await idle(other)
            await program.stop(signal.SIGKILL)
            began = time.perf_counter()
            site.fake.held.set()
            await until(lambda: counts(site.database)["done"], "the takeover", 120)
            return time.perf_counter() - began


async def stood_still(site: Site) -> float:
    """Five seconds of SIGSTOP, in which the connections die; measured from SIGCONT."""
    async with site.idle_daemon() as program:
        program.process.send_signal(signal.SIGSTOP)
        site.wire.blackhole(new=False)
        await asyncio.sleep(5)
        program.process.send_signal(signal.SIGCONT)
        return await site.delivered_s()


async def swallowed(site: Site) -> float:
    """A pooler in transaction mode swallows LISTEN; from the start of the daemon until it knows, and polls."""
    with pooler(site.dsn, "transaction") as through:
        began = time.perf_counter()
        async with daemon(through, site.fake.url, site.home) as program:
            await program.event("notifications_swallowed")
            return time.perf_counter() - began


async def missing_database(site: Site) -> float:
    """The database is not there when the daemon starts; measured from the moment it is."""
    name = f"late_{random.randrange(10**9)}"
    dsn = psycopg.conninfo.make_conninfo(site.dsn, dbname=name)
    with psycopg.connect(psycopg.conninfo.make_conninfo(site.dsn, dbname="template1"), autocommit=True) as admin:
        try:
            async with run("daemon", "run", env=environment(dsn, site.fake.url), home=site.home) as program:
                await program.event("listener_lost")
                await asyncio.sleep(random.uniform(5, 15))
                template = psycopg.conninfo.conninfo_to_dict(site.dsn)["dbname"]
                site.database.close()  # a template has no other sessions
                admin.execute(f"create database {name} template {template}")
                began = time.perf_counter()
                site.database = psycopg.connect(site.dsn, autocommit=True)
                await program.event("listener_up")
                return time.perf_counter() - began
        finally:  # it depends on the roles of the first
            admin.execute(f"drop database if exists {name} with (force)")


async def server_restart(_site: Site) -> float:
    """Postgres is killed with all its backends and started again; measured from when it answers."""
    with crashable() as server, tempfile.TemporaryDirectory() as home:
        migrate(server.dsn)
        async with gateway() as fake, daemon(server.dsn, fake.url, Path(home)) as program:
            await idle(program)
            server.kill()
            await program.event("listener_lost")
            await asyncio.to_thread(server.start)
            began = time.perf_counter()
            with psycopg.connect(server.dsn, autocommit=True) as database:
                insert(database)
            await until(lambda: fake.received, "the delivery", 120)
            return fake.received[-1] - began


FAULTS: dict[str, Callable[[Site], Awaitable[float]]] = {
    "the open connections go dead in silence (sleep, NAT, another Wi-Fi)": half_open,
    "the connections are reset": reset,
    "the network is back after 5 to 15 s of silence": network_back,
    "a claim never arrives": lambda site: stalled(site, b"claim_jobs"),
    "a completion never arrives (until it is done)": lambda site: stalled(site, b"complete_job"),
    "the daemon stood still for 5 s and its connections died meanwhile": stood_still,
    "Postgres was killed and is up again": server_restart,
    "the database is there at last (until the daemon listens)": missing_database,
    "a pooler swallows LISTEN (from the daemon's start until it knows)": swallowed,
    "the daemon was killed -9 and starts again": restarted,
    "the daemon was killed -9, another one serves its queue": taken_over,
}


async def measure(dsn: str, fault: Callable[[Site], Awaitable[float]]) -> float:
    """Measure one fault once, in a site of its own."""
    with tempfile.TemporaryDirectory() as home, psycopg.connect(dsn, autocommit=True) as database:
        database.execute("truncate public.jobs")
        async with gateway() as fake, proxy(dsn) as wire:
            return await fault(Site(dsn, Path(home), fake, wire, database))


def bench(*, quick: bool) -> str:
    """Measure them all, and write the table."""
    rows = []
    with servers.server() as server_dsn, servers.database(server_dsn) as dsn:
        migrate(dsn)
        for name, fault in FAULTS.items():
            times = 1 if quick or fault is taken_over else TIMES
            took = sorted(asyncio.run(measure(dsn, fault)) for _ in range(times))
            rows.append(f"| {name} | {times} | {took[0]:.1f} | {statistics.median(took):.1f} | {took[-1]:.1f} |")
    return "\n".join(
        [
            "Seconds until an event that comes with the fault has reached the gateway, without pacing, at random",
            "moments between two pulses.",
            "",
            "| fault | times | least | median | most |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )
