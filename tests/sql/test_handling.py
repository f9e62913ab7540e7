"""Proof of handling: what is sent stays with the agent until it handles it, and is sent again when it does not."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import letters
import psycopg
import pytest
import queue_calls
from handling import SENT, claim, events, handled, run_out, send, state
from programs import until
from queue_calls import handle_event

from sql import dead_letters, jobs, settling
from sql.events import acknowledge_events, read_event
from sql.names import Identity, take_name
from sql.session import Session

WAITING = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def test_what_is_sent_stays_with_the_agent(session: Session, database: psycopg.Connection) -> None:
    """It is leased for the time that the agent has, shows when it was sent, and nobody else gets it."""
    await events(session)
    (job,) = await claim(session)
    assert {job.id: False} == await settling.await_handling(session, [job], SENT, 2, 900)
    row = letters.job(database, job.id)
    assert (("processing", True, None, 1, 0), SENT) == (state(database, job.id), row["outcome"])
    assert timedelta(seconds=899) < row["lease_until"] - row["delivered_at"] - timedelta(seconds=2)
    assert [] == await claim(session, worker="two/1")


async def test_saying_it_twice_is_quiet(session: Session, database: psycopg.Connection) -> None:
    """A worker that never heard the answer may ask again, before and after the agent was there."""
    (learning,) = await events(session)
    (job,) = await send(session)
    before = letters.job(database, job.id)
    assert {job.id: False} == await settling.await_handling(session, [job], {}, 0, 5)
    assert before == letters.job(database, job.id)
    await handle_event(session, learning, "read")
    assert {job.id: True} == await settling.await_handling(session, [job], {}, 0, 5)
    assert ("done", False, "read", 1, 0) == state(database, job.id)


@pytest.mark.parametrize("how", ["read", "acknowledged"])
async def test_the_agent_handles_it(session: Session, database: psycopg.Connection, how: str) -> None:
    """The job is done and says how, the learning is marked, and by the job's id it is the same event."""
    for by_job in (False, True):
        (learning,) = await events(session)
        (job,) = await send(session)
        asked = job.id if by_job else learning
        done = await handle_event(session, asked, how)
        assert (asked, True, learning, (job.id,)) == (done.id, done.found, done.learning_id, done.ended)
        assert ("done", False, how, 1, 0) == state(database, job.id)
        assert SENT | {"handled": how} == letters.job(database, job.id)["outcome"]
        assert how == handled(database, learning)


async def test_the_first_time_counts(session: Session, database: psycopg.Connection) -> None:
    """A second reading changes nothing; an acknowledgement says more than a reading, and stays."""
    (learning,) = await events(session)
    await handle_event(session, learning, "read")
    first = letters.learning(database, learning)
    await handle_event(session, learning, "read")
    assert first == letters.learning(database, learning)
    await handle_event(session, learning, "acknowledged")
    await handle_event(session, learning, "read")
    assert first | {"handled_how": "acknowledged"} == letters.learning(database, learning)


async def test_what_is_not_handled_is_sent_again(session: Session, database: psycopg.Connection) -> None:
    """When the time is over the next claim gets it, at once, counted, and as no suspect; it says that it was sent."""
    await events(session)
    (job,) = await send(session)
    assert not job.sent_before
    run_out(database)
    (again,) = await claim(session, worker="two/1")
    assert (job.id, 2, 0, False, True) == (again.id, again.attempts, again.lapses, again.alone, again.sent_before)
    assert ("processing", False, None, 2, 0) == state(database, job.id)


async def test_it_fails_when_no_attempt_is_left(session: Session, database: psycopg.Connection) -> None:
    """The last sending that nobody handled makes it a dead letter that says so; whoever handles it then ends it."""
    (learning,) = await events(session)
    database.execute("update public.jobs set max_attempts = 2")
    await send(session)
    run_out(database)
    (job,) = await send(session)
    run_out(database)
    assert [] == await claim(session)
    failed = letters.job(database, job.id)
    assert ("failed", "not handled", {"reason": "not handled"}, 0) == tuple(
        failed[name] for name in ("status", "last_error", "outcome", "lapses")
    )
    await handle_event(session, learning, "read")
    done = letters.job(database, job.id)
    assert ("done", None, {"handled": "read"}) == tuple(done[name] for name in ("status", "last_error", "outcome"))


async def test_what_waits_to_be_sent_again_is_ended(session: Session, database: psycopg.Connection) -> None:
    """The agent reads it late, but before the second wake, which is then not needed."""
    (learning,) = await events(session)
    (job,) = await send(session)
    run_out(database)
    database.execute("select agent_vault.return_lapsed('default')")
    assert ("queued", False, None, 1, 0) == state(database, job.id)
    assert (job.id,) == (await handle_event(session, learning, "read")).ended
    assert [] == await claim(session)


async def test_a_look_at_what_was_never_sent_does_not_keep_it(session: Session, database: psycopg.Connection) -> None:
    """A person reads an event while the daemon is away: the agent is woken all the same, and must handle it itself."""
    (learning,) = await events(session)
    assert () == (await handle_event(session, learning, "read")).ended
    assert "read" == handled(database, learning)
    (job,) = await send(session)
    assert (("processing", True, None, 1, 0), None) == (state(database, job.id), handled(database, learning))


async def test_what_is_acknowledged_is_not_sent(session: Session, database: psycopg.Connection) -> None:
    """The agent found it in its list before it was woken for it."""
    (learning,) = await events(session)
    (job_id,) = (await handle_event(session, learning, "acknowledged")).ended
    assert ("done", False, "acknowledged", 0, 0) == state(database, job_id)
    assert [] == await claim(session)


async def test_read_before_the_worker_says_that_it_was_sent(session: Session, database: psycopg.Connection) -> None:
    """The agent is quicker than the worker's word: the job is done with that word."""
    (learning,) = await events(session)
    (job,) = await claim(session)
    assert () == (await handle_event(session, learning, "read")).ended
    assert ("processing", False, None, 1, 0) == state(database, job.id)
    assert {job.id: True} == await settling.await_handling(session, [job], SENT, 0, 900)
    assert {job.id: True} == await settling.await_handling(session, [job], SENT, 0, 900)
    done = letters.job(database, job.id)
    assert ("done", SENT | {"handled": "read"}, None) == (done["status"], done["outcome"], done["lease_until"])


async def test_acknowledged_while_a_worker_has_it(session: Session, database: psycopg.Connection) -> None:
    """It is done, its worker is fenced out, and hears that it is handled where it asks just that."""
    (learning,) = await events(session)
    (job,) = await claim(session)
    assert (job.id,) == (await handle_event(session, learning, "acknowledged")).ended
    before = letters.job(database, job.id)
    assert set() == await jobs.extend_jobs(session, "mac/1", [job], 60)
    assert set() == await settling.complete_jobs(session, [job], {}, 0)
    with pytest.raises(jobs.LeaseLostError):
        await queue_calls.release_job(session, job, 0, "shutdown")
    assert {job.id: True} == await settling.await_handling(session, [job], {}, 0, 900)
    assert before == letters.job(database, job.id)


async def test_the_claim_is_over_once_it_was_sent(session: Session, database: psycopg.Connection) -> None:
    """No late word of the worker reaches what the agent has, neither while it has it nor when it is queued again."""
    await events(session)
    (job,) = await send(session)
    for wait in (lambda: None, lambda: run_out(database), lambda: database.execute(
        "select agent_vault.return_lapsed('default')"
    )):  # fmt: skip
        wait()
        before = letters.job(database, job.id)
        assert set() == await jobs.extend_jobs(session, "mac/1", [job], 60)
        assert [] == await jobs.release_unheld(session, "mac/1", [])
        assert set() == await settling.complete_jobs(session, [job], {}, 0)
        assert set() == await settling.release_jobs(session, [job], 0, "no")
        assert {} == await settling.retry_jobs(session, [job], 0, "no", {})
        with pytest.raises(jobs.LeaseLostError):
            await queue_calls.fail_job(session, job, "no", {})
        assert before == letters.job(database, job.id)
    assert {} == await settling.await_handling(session, [job], {}, 0, 900)


async def test_a_new_run_leaves_it_to_the_agent(session: Session) -> None:
    """The daemon restarts: what it held comes back at once, what it sent stays where it is, and is still its own."""
    await events(session, 2)
    await take_name(session, Identity("mac", "1", 0), ["default"], listens=False)
    await send(session, limit=1)
    (held,) = await claim(session, limit=1)
    await take_name(session, Identity("mac", "2", 0), ["default"], listens=False)
    assert [held.id] == [job.id for job in await claim(session, worker="mac/2")]
    assert 1 == await settling.resend_unhandled(session, "mac", ["default"], 0)
    (again,) = await claim(session, worker="mac/2")
    assert (1, 0, True) == (again.attempts, again.lapses, again.sent_before)


async def test_a_gateway_that_is_older_than_a_wake_still_has_it(session: Session, database: psycopg.Connection) -> None:
    """Only what was sent before its process began is sent again."""
    await events(session, 2)
    (early,), (late,) = await send(session, limit=1), await send(session, limit=1)
    database.execute("update public.jobs set delivered_at = now() - interval '10 minutes' where id = %s", [early.id])
    assert 0 == await settling.resend_unhandled(session, "mac", ["default"], 3600)
    assert 1 == await settling.resend_unhandled(session, "mac", ["default"], 60)
    assert ["queued", "processing"] == [state(database, one.id)[0] for one in (early, late)]


async def test_the_gateway_restarts(session: Session, database: psycopg.Connection) -> None:
    """What this daemon sent and nobody handled is due at once, and nothing else is touched."""
    first, *_ = await events(session, 3)
    await events(session, queue="mail")
    sent = [(await send(session, limit=1))[0].id, (await send(session, limit=1))[0].id]
    (others,) = await send(session, worker="mini/1")
    (mail,) = await send(session, queue="mail")
    await handle_event(session, first, "read")
    assert 0 == await settling.resend_unhandled(session, "mini", ["mail"], 0)
    assert 1 == await settling.resend_unhandled(session, "mac", ["default"], 0)
    assert [("done", False), ("queued", False)] == [state(database, one)[:2] for one in sent]
    assert [("processing", True)] * 2 == [state(database, one.id)[:2] for one in (others, mail)]
    again = letters.job(database, sent[1])
    assert (0, 0, None) == (again["attempts"], again["lapses"], again["lease_until"])
    assert sent[1:] == [job.id for job in await claim(session)]


async def test_a_job_of_another_producer_is_acknowledged(session: Session, database: psycopg.Connection) -> None:
    """It has no event to read, so a reading finds nothing; its acknowledgement ends it."""
    job_id = letters.dead(database, status="queued", finished_at=None, last_error=None)
    await send(session)
    assert not (await handle_event(session, job_id, "read")).found
    assert await read_event(session, job_id) is None
    done = await handle_event(session, job_id, "acknowledged")
    assert (True, None, (job_id,)) == (done.found, done.learning_id, done.ended)
    assert ("done", False, "acknowledged", 1, 0) == state(database, job_id)


async def test_a_replay_must_be_handled_anew(session: Session, database: psycopg.Connection) -> None:
    """What was acknowledged once is new to the agent when a person has it sent again, and both jobs end with it."""
    (learning,) = await events(session)
    await handle_event(session, learning, "acknowledged")
    await dead_letters.replay_learnings(session, [learning])
    (job,) = await send(session)
    assert handled(database, learning) is None
    await dead_letters.replay_learnings(session, [learning])
    (second,) = await send(session)
    assert {job.id, second.id} == set((await handle_event(session, learning, "read")).ended)


async def test_other_dead_letters_stay(session: Session, database: psycopg.Connection) -> None:
    """What the gateway refused, or a person cancelled, is no matter of handling."""
    (learning,) = await events(session)
    (job,) = await claim(session)
    await queue_calls.fail_job(session, job, "400: no", {"status": 400})
    assert () == (await handle_event(session, learning, "acknowledged")).ended
    (other,) = await events(session)
    (job,) = await send(session)
    assert await dead_letters.cancel_job(session, job.id)
    assert ("failed", False, None, 1, 0) == state(database, job.id)
    assert () == (await handle_event(session, other, "acknowledged")).ended


async def test_queues_are_apart(session: Session, database: psycopg.Connection) -> None:
    """A daemon's agent handles what is in the daemon's queues; elsewhere there is no such event."""
    (learning,) = await events(session, queue="mail")
    (job,) = await send(session, queue="mail")
    for one in (learning, job.id):
        assert not (await handle_event(session, one, "acknowledged", ["default"])).found
        assert await read_event(session, one, ["default"]) is None
    assert ("processing", True, None, 1, 0) == state(database, job.id)
    assert (await handle_event(session, job.id, "read", ["default", "mail"])).found


async def test_many_are_acknowledged_at_once(session: Session, database: psycopg.Connection) -> None:
    """Each id is answered once, whether it is an event's, a job's, or nobody's."""
    first, second, third = await events(session, 3)
    sent = await send(session)
    nobody = uuid.uuid4()
    done = await acknowledge_events(session, [first, sent[1].id, nobody, first])
    assert {first: (True, (sent[0].id,)), sent[1].id: (True, (sent[1].id,)), nobody: (False, ())} == {
        one.id: (one.found, one.ended) for one in done
    }
    assert 3 == len(done)
    assert ["acknowledged", "acknowledged", None] == [handled(database, one) for one in (first, second, third)]


@pytest.mark.parametrize("how", ["", "seen", None])
async def test_other_words_are_refused(session: Session, how: str | None) -> None:
    """There are two ways to handle an event."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="say read or acknowledged"):
        await handle_event(session, uuid.uuid4(), how)


async def test_a_person_may_take_it_from_the_agent(session: Session, database: psycopg.Connection) -> None:
    """A plain update to queued, also for later, to done or to failed leaves nothing behind that awaits handling."""
    await events(session)
    for status, run_at in (("queued", "0"), ("done", "0"), ("failed", "0"), ("queued", "1 day")):
        (job,) = await send(session)
        database.execute("update public.jobs set status = %s, run_at = now() + %s::interval", [status, run_at])
        row = letters.job(database, job.id)
        assert (status, False, None) == (row["status"], row["awaits_handling"], row["lease_until"])
        database.execute("update public.jobs set status = 'queued'")


async def test_the_watch_knows_until_when(session: Session, database: psycopg.Connection) -> None:
    """The latest of what this daemon's agent has yet to handle, in these queues; nothing else."""
    assert await settling.awaiting_until(session, "mac", ["default"]) is None
    await events(session, 3)
    await send(session, 300, limit=1)
    await send(session, 600, limit=1)
    await send(session, 900, limit=1, worker="mini/1")
    assert 599_000 < await settling.awaiting_until(session, "mac", ["mail", "default"]) <= 600_000
    assert await settling.awaiting_until(session, "mac", ["mail"]) is None
    run_out(database)
    assert 0 == await settling.awaiting_until(session, "mac", ["default"])
    database.execute("update public.jobs set lease_until = 'infinity'")
    assert await settling.awaiting_until(session, "mac", ["default"]) is None


async def test_recent_wakes(session: Session) -> None:
    """Each wake once, whatever became of its jobs and whichever run sent it; not those of others, nor old ones."""
    await events(session, 6)
    await events(session, queue="mail")

    def wake(name: str) -> dict[str, str]:
        return {"session": "main", "wake": name}

    await send(session, limit=2, outcome=wake("two"))
    await settling.complete_jobs(session, await claim(session, 1), wake("done"), 5)
    await send(session, limit=1, worker="mini/1", outcome=wake("others"))
    await settling.complete_jobs(session, await claim(session, 1), wake("old"), 120)
    await send(session, queue="mail", worker="mac/0", outcome=wake("mail"))
    await settling.release_jobs(session, await claim(session, 1), 0, "away")
    found = {(one.session, one.wake): one.age_s for one in await settling.recent_wakes(session, "mac", 60)}
    assert {("main", "two"), ("main", "done"), ("main", "mail")} == found.keys()
    assert 0 <= found["main", "two"] < 5 <= found["main", "done"] < 60
    await settling.resend_unhandled(session, "mac", ["mail", "default"], 0)
    assert 3 == len(await settling.recent_wakes(session, "mac", 60))
    await claim(session)
    assert 3 == len(await settling.recent_wakes(session, "mac", 60))


async def test_a_stale_job_fails_no_neighbour(session: Session, database: psycopg.Connection) -> None:
    """Each call of many ends those whose claim holds, names them, and leaves the others alone."""
    await events(session, 5)
    claimed = await claim(session)
    stale = claimed[0]
    assert await dead_letters.cancel_job(session, stale.id)
    before = letters.job(database, stale.id)
    done, retried, released, sent = claimed[1:]
    assert {done.id} == await settling.complete_jobs(session, [stale, done], {}, 0)
    assert {done.id} == await settling.complete_jobs(session, [stale, done], {}, 0)
    assert {retried.id: "queued"} == await settling.retry_jobs(session, [stale, retried], 60, "500", {})
    assert {released.id} == await settling.release_jobs(session, [stale, released], 60, "away")
    assert {sent.id: False} == await settling.await_handling(session, [stale, sent], {}, 0, 60)
    assert before == letters.job(database, stale.id)
    statuses = [state(database, job.id)[0] for job in (done, retried, released, sent)]
    assert ["done", "queued", "queued", "processing"] == statuses


async def test_retry_fails_the_last_attempts_among_many(session: Session, database: psycopg.Connection) -> None:
    """The status of each tells what became of it."""
    await events(session, 2)
    one, two = await claim(session)
    database.execute("update public.jobs set max_attempts = 1 where id = %s", [two.id])
    assert {one.id: "queued", two.id: "failed"} == await settling.retry_jobs(session, [one, two], 0, "500", {})


@pytest.mark.parametrize(
    "call", ["handle_events", "await_handling", "complete_jobs", "extend_jobs", "resend_unhandled"]
)
async def test_several_jobs_are_locked_in_the_order_of_their_ids(
    session: Session, dsn: str, database: psycopg.Connection, call: str
) -> None:
    """Whoever waits for one of them has none that comes after it, so that no two wait for each other."""
    learnings = sorted(await events(session, 4))
    for number, learning in enumerate(learnings):  # the first job is that of the last event
        database.execute("update public.jobs set id = %s where learning_id = %s", [uuid.UUID(int=9 - number), learning])
    claimed = sorted(
        await (send if call == "resend_unhandled" else claim)(session), key=lambda job: job.id, reverse=True
    )
    calls = {
        "handle_events": lambda: acknowledge_events(session, learnings),
        "await_handling": lambda: settling.await_handling(session, claimed, SENT, 0, 900),
        "complete_jobs": lambda: settling.complete_jobs(session, claimed, SENT, 0),
        "extend_jobs": lambda: jobs.extend_jobs(session, "mac/1", claimed, 60),
        "resend_unhandled": lambda: settling.resend_unhandled(session, "mac", ["default"], 0),
    }
    lock = "select from public.jobs where id = %s for update nowait"
    with psycopg.connect(dsn) as other:
        other.execute(lock, [claimed[-1].id])
        waiting = asyncio.create_task(calls[call]())
        await until(lambda: database.execute(WAITING).fetchall(), "the call's wait for the first job")
        for job in claimed[:-1]:
            other.execute(lock, [job.id])
    await waiting


async def test_an_event_that_ends_the_gateway_is_not_sent_for_ever(
    session: Session, database: psycopg.Connection
) -> None:
    """A restart counts no attempt, but after many claims it does, and none is left at last."""
    await events(session)
    sendings = 0
    while await send(session, limit=1) and sendings < 100:
        sendings += 1
        database.execute("update public.jobs set delivered_at = now() - interval '1 s'")
        await settling.resend_unhandled(session, "mac", ["default"], 0)
    query = "select status, attempts, outcome from public.jobs"
    assert ("failed", 5, {"reason": "not handled"}) == database.execute(query).fetchone()
    assert 25 < sendings < 40


async def test_a_crowd_is_not_suspected_at_once(session: Session, database: psycopg.Connection) -> None:
    """Jobs that lapsed together come back together; only those that lapse again are claimed alone."""
    await events(session, 30)
    for expected in (30, 30, 1):
        assert expected == len(await claim(session, limit=50))
        run_out(database)


@pytest.mark.parametrize(("of_one", "of_nobody", "expected"), [(0, 12, 1), (11, 1, 11)], ids=["a crowd", "beside one"])
async def test_what_lapses_in_nobodys_hands_comes_back(
    session: Session, database: psycopg.Connection, of_one: int, of_nobody: int, expected: int
) -> None:
    """Jobs that a person put under way, or an old install left so, have no worker; they are suspects then."""
    await events(session, of_one + of_nobody)
    if of_one:
        assert of_one == len(await claim(session, limit=of_one))
    database.execute("update public.jobs set status = 'processing' where status = 'queued'")
    run_out(database)
    assert expected == len(await claim(session, limit=50))
    (lapsed,) = database.execute("select count(*) from public.jobs where locked_by is null and lapses = 1").fetchone()
    assert of_nobody - (not of_one) == lapsed


class Busy:
    """A session that makes every call wait, and keeps what it was called with."""

    async def fetch(self, _query: str, arguments: Callable[[], list[Any]]) -> list[tuple[int]]:
        """Wait, and answer with nothing."""
        await asyncio.sleep(0.2)
        self.arguments = arguments()
        return [(0,)]


async def test_ages_grow_while_a_call_waits() -> None:
    """How long ago the gateway took an event, or began, is told as of the moment when the statement goes out."""
    busy = Busy()
    await settling.resend_unhandled(busy, "mac", ["default"], 5.0)
    assert busy.arguments[-1] >= 5.19
    await settling.complete_jobs(busy, [], SENT, 5.0)
    assert busy.arguments[-2] >= 5.19


async def test_what_is_sent_again_knows_when_it_was_sent(session: Session) -> None:
    """The time is the same for each claim until the gateway takes it again: it tells one sending from another."""
    await events(session)
    (job,) = await send(session)
    assert job.sent_at is None
    await settling.resend_unhandled(session, "mac", ["default"], -1)
    (first,) = await claim(session)
    await queue_calls.release_job(session, first, 0, "the daemon stops")
    (second,) = await claim(session)
    assert first.claims < second.claims
    assert first.sent_at == second.sent_at is not None
