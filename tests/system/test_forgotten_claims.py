"""A crash of Postgres that forgets a claim, whose event is at the gateway by then: it goes out again, and ends once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest
import queue_calls
from daemons import QUIET, daemon, idle, insert, row
from faults.postgres import FORGETFUL, CrashablePostgres, crashable
from faults.proxy import proxy
from gateways import FakeGateway, gateway
from programs import Program, until

from sql import jobs
from sql.migrate import migrate
from sql.session import Session

pytestmark = pytest.mark.faults

ENDED = {"job_delivered", "job_retried", "job_failed", "job_released"}


class HoldsEach(asyncio.Event):
    """Holds whoever comes, each until it is let go by its number."""

    def __init__(self) -> None:
        """Begin with nobody there."""
        super().__init__()
        self._gates: list[asyncio.Event] = []

    async def wait(self) -> Literal[True]:
        """Hold."""
        self._gates.append(asyncio.Event())
        return await self._gates[-1].wait()

    def let(self, number: int) -> None:
        """Let one go."""
        self._gates[number].set()

    def set(self) -> None:
        """Let all go."""
        for gate in self._gates:
            gate.set()


@pytest.fixture
def server() -> Iterator[CrashablePostgres]:
    """A migrated server that is crashed and started again."""
    with crashable(**FORGETFUL) as one:
        migrate(one.dsn)
        yield one


def ends(program: Program) -> list[str]:
    """What the daemon says of the ends of jobs."""
    return [event["event"] for event in program.events if event["event"] in ENDED]


async def test_by_the_same_daemon(server: CrashablePostgres, tmp_path: Path) -> None:
    """It has two deliveries of one claim number under way, and the first one's late answer changes nothing."""
    async with gateway() as fake, daemon(server.dsn, fake.url, tmp_path, **QUIET) as program:
        job_id = await lose_the_claim(server, fake, program)
        server.start()
        await until(lambda: len(fake.posts) == 2, "the second POST")
        fake.answers = [(500, "late")]
        fake.held.let(0)
        await program.event("lease_lost", job_id=str(job_id))
        assert [] == ends(program)
        with psycopg.connect(server.dsn, autocommit=True) as database:
            assert "processing" == row(database, job_id)["status"]
            fake.held.let(1)
            await program.event("job_delivered", job_id=str(job_id))
            done = row(database, job_id)
    assert ("done", 1, 1, 200) == (done["status"], done["claims"], done["attempts"], done["outcome"]["status"])
    assert ["job_delivered"] == ends(program)


async def test_by_another_worker(server: CrashablePostgres, tmp_path: Path) -> None:
    """The daemon that comes back has nothing to say about the claim that has its number."""
    async with (
        proxy(server.dsn) as wire,
        gateway() as fake,
        daemon(wire.dsn, fake.url, tmp_path, **QUIET) as program,
    ):
        job_id = await lose_the_claim(server, fake, program)
        wire.refuse()
        server.start()
        other = Session(server.dsn, name="test")
        (job,) = await jobs.claim_jobs(other, "default", "mini/1", 1, 60)
        assert (job_id, 1) == (job.id, job.claims)
        fake.answers = [(500, "late")]
        wire.heal()
        fake.held.set()
        await program.event("lease_lost", job_id=str(job_id))
        await queue_calls.complete_job(other, job, {"by": "mini"}, 0)
        await other.close()
        assert [] == ends(program)
        with psycopg.connect(server.dsn, autocommit=True) as database:
            done = row(database, job_id)
    assert ("done", 1, {"by": "mini"}) == (done["status"], done["claims"], done["outcome"])


async def lose_the_claim(server: CrashablePostgres, fake: FakeGateway, program: Program) -> object:
    """Kill the server once the gateway has the event of a fresh claim; return the job's id."""
    fake.held = HoldsEach()
    await idle(program)
    with psycopg.connect(server.dsn, autocommit=True) as database:
        (job_id,) = insert(database)
    await until(lambda: fake.posts, "the first POST")
    server.kill()
    return job_id
