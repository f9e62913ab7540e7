"""What becomes of a job after the gateway's answer, in the database and in the log."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from daemons import become, daemon, insert, row
from gateways import FakeGateway
from structlog.testing import capture_logs

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.leases import Leases
from daemon.pause import Pause
from daemon.plan import Digest, Routed
from daemon.routes import DEFAULT, Route
from daemon.settlement import Settlement
from notifier import backoff
from sql import jobs
from sql.session import Session


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance that always gives the most it may."""
    monkeypatch.setattr(backoff.random, "uniform", lambda _least, most: most)


class WellGateway(Gateway):
    """A gateway that passes each probe, and is asked nothing else."""

    async def probe(self) -> Answer:
        """Answer as one that is well."""
        return Answer(Verdict.ACCEPTED, 400, "text required")


class UnwellGateway(Gateway):
    """A server that answers everything with 400."""

    async def probe(self) -> Answer:
        """Answer as another server does."""
        return Answer(Verdict.MISCONFIGURED, 400, "no")


async def settle(session: Session, job: jobs.Job, answer: Answer, *, patience_s: float = 60) -> None:
    """Settle a held job."""
    await settle_all(session, [job], answer, patience_s=patience_s)


async def settle_all(
    session: Session, held: Sequence[jobs.Job], answer: Answer, *, route: Route = DEFAULT, patience_s: float = 60
) -> list[float]:
    """Settle held jobs that went out together; return for how many seconds a job is awaited."""
    expected: list[float] = []
    gateway = WellGateway("http://127.0.0.1:18789", "/hooks", "token")
    settlement = holding(session, held, gateway, expected.append, patience_s=patience_s)
    await settlement.settle(Digest(tuple(Routed(job, route) for job in held)), answer)
    return expected


def holding(
    session: Session,
    held: Sequence[jobs.Job],
    gateway: Gateway,
    expect: Callable[[float], None] = lambda _: None,
    *,
    patience_s: float = 60,
) -> Settlement:
    """A settlement whose leases are these jobs'."""
    leases = Leases(session, "me", lease_s=60, slots=len(held))
    for job in held:
        leases.hold(job)
    return Settlement(session, leases, Pause(gateway, asyncio.Event()), gateway, expect, patience_s=patience_s)


async def claim(session: Session) -> jobs.Job:
    """Claim one job."""
    (job,) = await jobs.claim_jobs(session, "default", "me", 1, 60)
    return job


@pytest.mark.usefixtures("longest")
@pytest.mark.parametrize(("attempts", "delay_s"), [(1, 5), (2, 10), (3, 20), (8, 600)])
async def test_a_failed_turn_waits_longer_each_time(
    session: Session, database: psycopg.Connection, attempts: int, delay_s: int
) -> None:
    """The retry is a row with a later run_at: five seconds at most at first, ten minutes in the end."""
    (job_id,) = insert(database, attempts=attempts - 1, max_attempts=10)
    await settle(session, await claim(session), Answer(Verdict.FAILED, 500, "no"))
    waiting = row(database, job_id)
    assert ("queued", attempts, "500: no") == (waiting["status"], waiting["attempts"], waiting["last_error"])
    assert timedelta(seconds=delay_s) == waiting["run_at"] - waiting["updated_at"]


async def test_a_failed_turn_waits_as_long_as_the_gateway_says(session: Session, database: psycopg.Connection) -> None:
    """Retry-After is the least."""
    (job_id,) = insert(database)
    await settle(session, await claim(session), Answer(Verdict.FAILED, 500, "no", retry_after_s=900))
    waiting = row(database, job_id)
    assert timedelta(seconds=900) == waiting["run_at"] - waiting["updated_at"]


@pytest.mark.parametrize("status", [None, 503, 401, 429])
async def test_an_absent_gateway_spends_nothing(
    session: Session, database: psycopg.Connection, status: int | None
) -> None:
    """The job is due at once, whatever Retry-After says: the pause knows when the gateway is back."""
    (job_id,) = insert(database, attempts=2)
    verdict = Verdict.MISCONFIGURED if status in {401, 429} else Verdict.UNAVAILABLE
    await settle(session, await claim(session), Answer(verdict, status, "no", retry_after_s=60))
    waiting = row(database, job_id)
    assert ("queued", 2, None) == (waiting["status"], waiting["attempts"], waiting["locked_by"])
    assert waiting["run_at"] == waiting["updated_at"]
    assert "http://127.0.0.1:18789" in waiting["last_error"]


class Unreachable(Session):
    """A session whose first two statements find no database."""

    failures = 0

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Fail, and then work."""
        if self.failures < 2:
            self.failures += 1
            raise psycopg.OperationalError("no route to host")
        return await super().fetch(query, arguments)


async def test_a_database_that_is_away_is_told_later(dsn: str, session: Session, database: psycopg.Connection) -> None:
    """The gateway has the event: its answer is said again until it is heard, with the time it was given."""
    (job_id,) = insert(database)
    job = await claim(session)
    away = Unreachable(dsn, name="test")
    with capture_logs() as lines:
        await settle(away, job, Answer(Verdict.ACCEPTED, 200))
    await away.close()
    assert ["job_not_settled", "job_delivered"] == [line["event"] for line in lines]
    done = row(database, job_id)
    assert "done" == done["status"]
    assert done["locked_at"] < done["delivered_at"] < done["finished_at"]


async def test_a_database_that_refuses_the_call_gets_the_job_back(
    session: Session, database: psycopg.Connection
) -> None:
    """What no waiting mends is given up, in a line: the lease lapses and the job goes on from there."""
    (job_id,) = insert(database)
    job = await claim(session)
    database.execute("alter function agent_vault.complete_jobs_each rename to gone")
    with capture_logs() as lines:
        await settle(session, job, Answer(Verdict.ACCEPTED, 200), patience_s=0.1)
    assert [("job_not_settled", job_id), ("job_given_up", job_id)] == [
        (line["event"], line["job_id"]) for line in lines
    ]
    assert "processing" == row(database, job_id)["status"]


async def test_a_lost_lease_is_a_line_and_no_error(session: Session, database: psycopg.Connection) -> None:
    """Another has the job: none of the ways to settle it raises or is tried again."""
    (job_id,) = insert(database)
    job = await claim(session)
    database.execute("update public.jobs set claims = claims + 1")
    before = row(database, job_id)
    with capture_logs() as lines:
        for verdict in Verdict:
            await settle(session, job, Answer(verdict, 200, "x"))
    assert len(Verdict) == [line["event"] for line in lines].count("lease_lost")
    assert before == row(database, job_id)


async def test_accepted_is_done_with_the_outcome(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The row tells what the gateway said, and when."""
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        await program.event("job_delivered", job_id=str(job_id), learning_id=None)
    done = row(database, job_id)
    assert {
        "status": 200, "event_outcome": "queued", "detail": None, "posts": 1, "jobs": 1,
        "session": "agent:main:main", "wake": f"{job_id}/1",
    } == done["outcome"]  # fmt: skip
    assert ("done", None, None) == (done["status"], done["last_error"], done["lease_until"])
    assert done["locked_at"] <= done["delivered_at"] <= done["finished_at"]


@pytest.mark.parametrize("status", [400, 413])
async def test_a_refused_payload_is_a_dead_letter(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, status: int
) -> None:
    """It fails for good at the first answer, which is kept; the next job goes on."""
    fake.answers = [(status, '{"ok":false,"error":"not this one"}')]
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        await program.event("job_failed", job_id=str(job_id), error=f"{status}: not this one")
        insert(database)
        await become(database, program, failed=1, done=1)
    failed = row(database, job_id)
    assert (1, f"{status}: not this one") == (failed["attempts"], failed["last_error"])
    assert (status, "not this one") == (failed["outcome"]["status"], failed["outcome"]["detail"])
    assert failed["finished_at"]


async def test_a_refused_route_fails_no_event(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """What the gateway refuses of a route is a person's to mend: said with the remedy, nothing spent, tried again."""
    fake.answers = [(400, '{"ok":false,"error":"agentId is required when multiple agents are configured"}')]
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        refused = await program.event("route_refused", route="*")
        await program.event("job_released", job_id=str(job_id))
        waiting = row(database, job_id)
        assert ("queued", 0, timedelta(seconds=30)) == (
            waiting["status"], waiting["attempts"], waiting["run_at"] - waiting["updated_at"],
        )  # fmt: skip
        database.execute("update public.jobs set run_at = now()")
        await program.event("job_delivered", job_id=str(job_id), attempt=1)
    assert "agentId is required when multiple agents are configured): correct [[routes]]" in refused["remedy"]
    assert "gateway_paused" not in program.text


@pytest.mark.parametrize(("retry_after_s", "delay_s"), [(None, 0), (15.0, 15)])
async def test_a_postponed_job_spends_nothing(
    session: Session, database: psycopg.Connection, retry_after_s: float | None, delay_s: int
) -> None:
    """Our own stop gives it back at once, a crowded gateway later; neither pauses deliveries."""
    (job_id,) = insert(database, attempts=2)
    with capture_logs() as lines:
        await settle(session, await claim(session), Answer(Verdict.POSTPONED, detail="no", retry_after_s=retry_after_s))
    waiting = row(database, job_id)
    assert ("queued", 2, "no") == (waiting["status"], waiting["attempts"], waiting["last_error"])
    assert timedelta(seconds=delay_s) == waiting["run_at"] - waiting["updated_at"]
    assert ["job_released"] == [line["event"] for line in lines]


async def test_a_failed_turn_is_tried_again_by_itself(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A 500 counts its attempt and comes back at its run_at, which it was given later."""
    fake.answers = [(500, "hook failed")]
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, poll_s=0, pulse_s=300) as program:
        retried = await program.event("job_retried", job_id=str(job_id), attempt=1)
        await program.event("job_delivered", job_id=str(job_id), attempt=2)
    done = row(database, job_id)
    assert ("done", 2, 2, None) == (done["status"], done["attempts"], done["claims"], done["last_error"])
    assert timedelta(seconds=retried["delay_s"]) < done["run_at"] - done["created_at"]
    assert done["run_at"] <= done["locked_at"]


async def test_a_turn_that_always_fails_becomes_a_dead_letter(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """After max_attempts the job is failed, with the last error; the pause is not touched."""
    fake.answers = [(500, "hook failed")] * 3
    (job_id,) = insert(database, max_attempts=3)
    async with daemon(dsn, fake.url, tmp_path) as program:
        for attempt in (1, 2):
            await program.event("job_retried", attempt=attempt)
            database.execute("update public.jobs set run_at = now() where run_at > now()")
        await program.event("job_failed", job_id=str(job_id), attempt=3)
    failed = row(database, job_id)
    assert ("failed", 3, "500: hook failed") == (failed["status"], failed["attempts"], failed["last_error"])
    assert 3 == len(fake.posts)
    assert "gateway_paused" not in program.text


REFUSING = """
create function refuse() returns trigger language plpgsql as
$$ begin if new.type = 'POISON' and new.status = 'done' then raise exception 'not this one'; end if; return new; end $$;
create trigger refusing before update on public.jobs for each row execute function refuse()
"""


async def test_a_job_that_the_database_refuses_fails_no_neighbour(
    session: Session, database: psycopg.Connection
) -> None:
    """Of a digest that cannot be completed in one call each job is completed alone."""
    good, (bad,) = insert(database, 3), insert(database, 1, type="POISON")
    held = await jobs.claim_jobs(session, "default", "me", 10, 60)
    database.execute(REFUSING)
    with capture_logs() as lines:
        await settle_all(session, held, Answer(Verdict.ACCEPTED, 200), patience_s=0.1)
    assert {str(job_id): "done" for job_id in good} | {str(bad): "processing"} == dict(
        database.execute("select id::text, status from public.jobs").fetchall()
    )
    assert [bad] == [line["job_id"] for line in lines if line["event"] == "job_given_up"]


async def test_a_stale_job_of_a_digest_is_skipped(session: Session, database: psycopg.Connection) -> None:
    """Each verdict settles the neighbours, and tells of the one that is another's."""
    for verdict in Verdict:
        insert(database, 3)
        held = await jobs.claim_jobs(session, "default", "me", 10, 60)
        database.execute("update public.jobs set claims = claims + 1 where id = %s", [held[1].id])
        with capture_logs() as lines:
            await settle_all(session, held, Answer(verdict, 200, "x"))
        assert [held[1].id] == [line["job_id"] for line in lines if line["event"] == "lease_lost"]
        rest = [row(database, job.id)["status"] for job in (held[0], held[2])]
        assert "processing" not in rest
        database.execute("delete from public.jobs")


async def test_a_coalesced_wake_stands_for_its_jobs(session: Session, database: psycopg.Connection) -> None:
    """It collapsed into the last one, which says the same: the jobs are done, and the row tells how."""
    insert(database, 3)
    held = await jobs.claim_jobs(session, "default", "me", 10, 60)
    await settle_all(session, held, Answer(Verdict.ACCEPTED, 200, event_outcome="coalesced"))
    query = "select status, outcome ->> 'event_outcome' from public.jobs"
    assert [("done", "coalesced")] * 3 == database.execute(query).fetchall()


async def test_a_refused_digest_fails_no_event(session: Session, database: psycopg.Connection) -> None:
    """It may be too large for this gateway: its jobs go out again, in smaller ones, and nothing is spent."""
    insert(database, 3)
    await settle_all(session, await jobs.claim_jobs(session, "default", "me", 10, 60), Answer(Verdict.REJECTED, 413))
    assert {("queued", 0)} == set(database.execute("select status, attempts from public.jobs").fetchall())


@pytest.mark.parametrize(
    ("gateway", "verdict"), [(WellGateway, Verdict.REJECTED), (UnwellGateway, Verdict.MISCONFIGURED)]
)
async def test_only_a_gateway_that_is_well_tells_of_a_digest(
    session: Session, database: psycopg.Connection, gateway: type[Gateway], verdict: Verdict
) -> None:
    """Where it refuses the probe too, that counts: the digest was not too large for it."""
    insert(database, 3)
    held = await jobs.claim_jobs(session, "default", "me", 10, 60)
    settlement = holding(session, held, gateway("http://127.0.0.1:18789", "/hooks", "token"))
    digest = Digest(tuple(Routed(job, DEFAULT) for job in held))
    assert verdict is await settlement.settle(digest, Answer(Verdict.REJECTED, 400, "no"))


async def test_what_must_be_handled_stays_leased(session: Session, database: psycopg.Connection) -> None:
    """The gateway's 2xx does not end it: its lease ends with the agent's time, and the watch is told."""
    (job_id,) = insert(database, learning_id=uuid.uuid4())
    (own,) = insert(database)
    held = await jobs.claim_jobs(session, "default", "me", 10, 60)
    route = Route(complete_when="handled", handle_within_s=600)
    with capture_logs() as lines:
        expected = await settle_all(session, held, Answer(Verdict.ACCEPTED, 200), route=route)
    waiting = row(database, job_id)
    assert ("processing", True) == (waiting["status"], waiting["awaits_handling"])
    assert timedelta(seconds=600) == waiting["lease_until"] - waiting["updated_at"]
    assert "done" == row(database, own)["status"]  # no event: there is nothing to be read
    assert [600] == expected
    assert {"job_awaits_handling", "job_delivered"} == {line["event"] for line in lines}
