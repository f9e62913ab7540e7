"""Completions that go out together: what each of them is to hear, whatever becomes of the others."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from daemons import counts, insert, row
from programs import until
from structlog.testing import capture_logs

from daemon.completing import Completing
from daemon.leases import Leases
from daemon.until_heard import UntilHeard
from sql import jobs
from sql.session import Session

REFUSING = """
create function refuse() returns trigger language plpgsql as
$$ begin if new.type = 'POISON' and new.status = 'done' then raise exception 'not this one'; end if; return new; end $$;
create trigger refusing before update on public.jobs for each row execute function refuse()
"""


Ending = asyncio.Task[list[jobs.Job]]


class Gate(Session):
    """A session whose completions wait until it is open, and of which the first `failures` find no database."""

    def __init__(self, dsn: str, failures: int = 0) -> None:
        """Begin open."""
        super().__init__(dsn, name="test")
        self.open = asyncio.Event()
        self.open.set()
        self.failures = failures
        self.calls: Counter[str] = Counter()

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Count it by the name of its function, wait, and fail or do it."""
        self.calls[query.split("agent_vault.")[1].split("(", maxsplit=1)[0]] += 1
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise psycopg.OperationalError("no route to host")
        return await super().fetch(query, arguments)


class Held:
    """Jobs under the leases of a worker, and what completes them."""

    def __init__(self, session: Session, held: Sequence[jobs.Job], *, patience_s: float = 60) -> None:
        """Hold these jobs."""
        leases = Leases(session, "me", lease_s=60, slots=len(held))
        for job in held:
            leases.hold(job)
        self.complete = Completing(session, leases, UntilHeard(leases, patience_s=patience_s))

    async def end(self, job: jobs.Job) -> list[jobs.Job]:
        """Complete one as its digest does, with an outcome of its own."""
        return await self.complete([job], {"of": str(job.id)}, asyncio.get_running_loop().time())


async def claim(session: Session) -> list[jobs.Job]:
    """Claim all there is."""
    return await jobs.claim_jobs(session, "default", "me", 100, 60)


async def end_together(held: Held, gate: Gate, claimed: Sequence[jobs.Job]) -> "dict[UUID, Ending]":
    """Complete the first, and while its statement is under way all the others."""
    gate.open.clear()
    first = asyncio.create_task(held.end(claimed[0]))
    await until(lambda: gate.calls["complete_jobs_each"] == 1)
    others = [asyncio.create_task(held.end(job)) for job in claimed[1:]]
    await asyncio.sleep(0)
    gate.open.set()
    return dict(zip([job.id for job in claimed], [first, *others], strict=True))


@pytest.fixture
async def gate(dsn: str) -> Any:
    """The session of what is tested."""
    one = Gate(dsn)
    yield one
    await one.close()


async def test_a_lone_completion_goes_at_once(session: Session, database: psycopg.Connection, gate: Gate) -> None:
    """It waits for no other: one statement, and its outcome and time are in the row."""
    (job_id,) = insert(database)
    claimed = await claim(session)
    assert claimed == await Held(gate, claimed).end(claimed[0])
    assert {"complete_jobs_each": 1} == gate.calls
    done = row(database, job_id)
    assert ("done", {"of": str(job_id)}) == (done["status"], done["outcome"])
    assert done["locked_at"] < done["delivered_at"] <= done["finished_at"]


async def test_those_that_come_meanwhile_go_together(
    session: Session, database: psycopg.Connection, gate: Gate
) -> None:
    """Fifty completions are two statements, and each row has its own outcome."""
    insert(database, 50)
    claimed = await claim(session)
    ends = await end_together(Held(gate, claimed), gate, claimed)
    assert [[job] for job in claimed] == await asyncio.gather(*ends.values())
    assert {"complete_jobs_each": 2} == gate.calls
    assert 50 == len(database.execute("select from public.jobs where outcome ->> 'of' = id::text").fetchall())


async def test_where_many_came_the_next_waits_for_more(
    session: Session, database: psycopg.Connection, gate: Gate
) -> None:
    """After a statement of many a lone completion takes along what comes in a moment; after it, none is waited for."""
    insert(database, 10)
    claimed = await claim(session)
    held = Held(gate, claimed)
    await asyncio.gather(*(await end_together(held, gate, claimed[:7])).values())
    first = asyncio.create_task(held.end(claimed[7]))
    await asyncio.sleep(0)
    assert {"complete_jobs_each": 2} == gate.calls
    await asyncio.gather(first, held.end(claimed[8]))
    assert {"complete_jobs_each": 3} == gate.calls
    last = asyncio.create_task(held.end(claimed[9]))
    await asyncio.sleep(0)
    assert {"complete_jobs_each": 4} == gate.calls
    await last
    assert {"done": 10} == counts(database)


async def test_a_stale_one_fails_no_neighbour(session: Session, database: psycopg.Connection, gate: Gate) -> None:
    """It is left out, told with its late answer, and the others are done."""
    insert(database, 5)
    claimed = await claim(session)
    database.execute("update public.jobs set claims = claims + 1 where id = %s", [claimed[3].id])
    with capture_logs() as lines:
        ends = await end_together(Held(gate, claimed), gate, claimed)
        await asyncio.gather(*ends.values())
    assert [] == ends[claimed[3].id].result()
    assert {"done": 4, "processing": 1} == counts(database)
    assert [("lease_lost", claimed[3].id)] == [(line["event"], line["job_id"]) for line in lines]
    assert {"of": str(claimed[3].id)} == lines[0]["late_answer"]


async def test_a_refused_one_holds_up_no_neighbour(session: Session, database: psycopg.Connection, gate: Gate) -> None:
    """The database takes it never: the others, and those that come later, are done while it is still being tried."""
    insert(database, 4)
    (bad,) = insert(database, type="POISON")
    claimed = await claim(session)
    database.execute(REFUSING)
    held = Held(gate, claimed)
    *early, late = [job for job in claimed if job.id != bad]
    poison = next(job for job in claimed if job.id == bad)
    with capture_logs():
        ends = await end_together(held, gate, [early[0], poison, *early[1:]])
        refused = ends.pop(bad)
        await asyncio.gather(*ends.values())
        assert [late] == await held.end(late)
        assert not refused.done()
        refused.cancel()
    assert {"done": 4, "processing": 1} == counts(database)


async def test_all_are_said_again_when_the_database_is_back(
    dsn: str, session: Session, database: psycopg.Connection
) -> None:
    """An outage under a batch costs nothing, and each is told of its end."""
    insert(database, 5)
    claimed = await claim(session)
    gate = Gate(dsn, failures=9)
    with capture_logs():
        ends = await end_together(Held(gate, claimed), gate, claimed)
        assert [[job] for job in claimed] == await asyncio.gather(*ends.values())
    await gate.close()
    assert {"done": 5} == counts(database)


async def test_one_that_is_cancelled_takes_no_other_along(
    session: Session, database: psycopg.Connection, gate: Gate
) -> None:
    """Whoever was to say it for the others is gone: they say it themselves."""
    insert(database, 4)
    claimed = await claim(session)
    held = Held(gate, claimed)
    gate.open.clear()
    first = asyncio.create_task(held.end(claimed[0]))
    await until(lambda: gate.calls["complete_jobs_each"] == 1)
    leader, *others = [asyncio.create_task(held.end(job)) for job in claimed[1:]]
    await asyncio.sleep(0)
    leader.cancel()
    gate.open.set()
    assert [[claimed[0]], [claimed[2]], [claimed[3]]] == await asyncio.gather(first, *others)
    assert {"done": 3, "processing": 1} == counts(database)
