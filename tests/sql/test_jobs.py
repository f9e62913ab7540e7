"""The state machine of the queue, through the typed calls."""

import uuid
from datetime import timedelta

import psycopg
import pytest
import queue_calls
import servers

from sql import jobs
from sql.migrate import migrate
from sql.names import Identity, keep_name, leave_name, take_name
from sql.session import Session


def insert(database: psycopg.Connection, count: int = 1, **columns: object) -> list[uuid.UUID]:
    """Put jobs in as an Edge Function does, a millisecond apart."""
    made = [
        database.execute(
            "insert into public.jobs (type, payload, status) values (%s, %s, 'queued') returning id",
            [f"TYPE_{number}", '{"text": "hello"}'],
        ).fetchone()[0]
        for number in range(count)
    ]
    for name, value in columns.items():
        database.execute(f"update public.jobs set {name} = %s where id = any(%s)", [value, made])
    return made


def row(database: psycopg.Connection, job_id: uuid.UUID) -> dict[str, object]:
    """One job as a dictionary."""
    cursor = database.cursor(row_factory=psycopg.rows.dict_row)
    return cursor.execute("select * from public.jobs where id = %s", [job_id]).fetchone()


def lapse(database: psycopg.Connection, job_id: uuid.UUID) -> None:
    """Let a job's lease run out."""
    database.execute("update public.jobs set lease_until = now() - interval '1 second' where id = %s", [job_id])


async def claim(session: Session, limit: int = 10, worker: str = "one") -> list[jobs.Job]:
    """Claim from the default queue for a minute."""
    return await jobs.claim_jobs(session, "default", worker, limit, 60)


async def test_claims_the_longest_due_first(session: Session, database: psycopg.Connection) -> None:
    """A claim follows run_at, then age, and takes no more than it asked for."""
    made = insert(database, 3)
    database.execute("update public.jobs set run_at = run_at - interval '1 hour' where id = %s", [made[2]])
    assert [made[2], made[0]] == [job.id for job in await claim(session, 2)]
    assert [made[1]] == [job.id for job in await claim(session, 2)]
    assert [] == await claim(session)


async def test_a_claim_is_counted_twice(session: Session, database: psycopg.Connection) -> None:
    """The fence (claims) and the budget (attempts) both rise at a claim; a release takes only the attempt back."""
    (job_id,) = insert(database)
    (job,) = await claim(session)
    assert (1, 1) == (job.claims, job.attempts)
    await queue_calls.release_job(session, job, 0, "the gateway is away")
    (again,) = await claim(session)
    assert (2, 1) == (again.claims, again.attempts)
    assert "processing" == row(database, job_id)["status"]


async def test_complete_keeps_the_outcome_and_the_time_of_delivery(
    session: Session, database: psycopg.Connection
) -> None:
    """A done job shows when it was delivered, by the database's clock, and what the gateway answered."""
    (job_id,) = insert(database)
    (job,) = await claim(session)
    await queue_calls.complete_job(session, job, {"status": 200}, since_delivery_s=2.0)
    done = row(database, job_id)
    assert ("done", {"status": 200}, None) == (done["status"], done["outcome"], done["lease_until"])
    assert timedelta(seconds=2) <= done["finished_at"] - done["delivered_at"] < timedelta(seconds=2.1)


async def test_complete_may_be_said_twice(session: Session, database: psycopg.Connection) -> None:
    """A worker that never heard the first answer may ask again, and changes nothing by it."""
    (job_id,) = insert(database)
    (job,) = await claim(session)
    await queue_calls.complete_job(session, job, {"status": 200}, since_delivery_s=0)
    done = row(database, job_id)
    await queue_calls.complete_job(session, job, {"status": 500}, since_delivery_s=0)
    assert done == row(database, job_id)


@pytest.mark.parametrize("settle", ["complete", "fail", "retry", "release"])
async def test_a_stale_worker_is_fenced_out(session: Session, database: psycopg.Connection, settle: str) -> None:
    """After another worker's claim, every way to settle raises LeaseLostError and changes nothing."""
    (job_id,) = insert(database)
    (stale,) = await claim(session)
    await queue_calls.release_job(session, stale, 0, "shutdown")
    (fresh,) = await claim(session, worker="two")
    before = row(database, job_id)
    calls = {
        "complete": lambda: queue_calls.complete_job(session, stale, {}, 0),
        "fail": lambda: queue_calls.fail_job(session, stale, "no", {}),
        "retry": lambda: queue_calls.retry_job(session, stale, 0, "no", {}),
        "release": lambda: queue_calls.release_job(session, stale, 0, "no"),
    }
    with pytest.raises(jobs.LeaseLostError, match=f"claim 1 of job {job_id}"):
        await calls[settle]()
    assert before == row(database, job_id)
    await queue_calls.complete_job(session, fresh, {}, 0)


async def test_retry_waits_and_fails_when_no_attempt_is_left(session: Session, database: psycopg.Connection) -> None:
    """A retry is a row with a later run_at; the last attempt makes it a dead letter with the error."""
    (job_id,) = insert(database, max_attempts=2)
    (job,) = await claim(session)
    assert "queued" == await queue_calls.retry_job(session, job, 3600, "500: no", {})
    assert [] == await claim(session)
    waiting = row(database, job_id)
    assert timedelta(minutes=59) < waiting["run_at"] - waiting["updated_at"] <= timedelta(hours=1)
    database.execute("update public.jobs set run_at = now()")
    (job,) = await claim(session)
    assert "failed" == await queue_calls.retry_job(session, job, 0, "500: no", {"status": 500})
    failed = row(database, job_id)
    assert ("failed", "500: no", {"status": 500}) == (failed["status"], failed["last_error"], failed["outcome"])


async def test_a_lapsed_lease_goes_to_the_next_claim_counted(session: Session, database: psycopg.Connection) -> None:
    """The job of a dead worker is claimed by another, and the dead one's attempt stays spent."""
    (job_id,) = insert(database)
    await claim(session)
    assert [] == await claim(session, worker="two")
    lapse(database, job_id)
    (job,) = await claim(session, worker="two")
    assert (job_id, 2, 2) == (job.id, job.attempts, job.claims)


async def test_a_lapse_with_no_attempt_left_fails(session: Session, database: psycopg.Connection) -> None:
    """A job that kills its worker every time ends as a dead letter."""
    (job_id,) = insert(database, max_attempts=1)
    await claim(session)
    lapse(database, job_id)
    assert [] == await claim(session)
    failed = row(database, job_id)
    assert ("failed", {"reason": "lapsed"}) == (failed["status"], failed["outcome"])
    assert "lease lapsed" in failed["last_error"]


async def test_a_job_that_lapsed_is_claimed_alone(session: Session, database: psycopg.Connection) -> None:
    """A suspect takes no neighbour along, whether it stands first or further back."""
    first, second, third = insert(database, 3)
    (suspect,) = await claim(session, 1)
    assert first == suspect.id
    lapse(database, first)
    # run_at is the moment of its return, so it stands behind the others now
    assert [second, third] == [job.id for job in await claim(session)]
    assert [first] == [job.id for job in await claim(session)]


async def test_a_lapsed_lease_settles_nothing(session: Session, database: psycopg.Connection) -> None:
    """Nobody took the job, and yet its worker must extend before it may settle; then it may."""
    (job_id,) = insert(database)
    (job,) = await claim(session)
    lapse(database, job_id)
    before = row(database, job_id)
    for settle in (
        queue_calls.complete_job(session, job, {}, 0),
        queue_calls.fail_job(session, job, "no", {}),
        queue_calls.retry_job(session, job, 0, "no", {}),
        queue_calls.release_job(session, job, 0, "no"),
    ):
        with pytest.raises(jobs.LeaseLostError):
            await settle
    assert before == row(database, job_id)
    assert {job_id} == await jobs.extend_jobs(session, "one", [job], 60)
    await queue_calls.complete_job(session, job, {}, 0)
    assert "done" == row(database, job_id)["status"]


async def test_extend_revives_the_last_attempt_too(session: Session, database: psycopg.Connection) -> None:
    """A sleep in the last attempt made it a dead letter by its lapse alone: the worker that lives gets it back."""
    (job_id,) = insert(database, max_attempts=1)
    (job,) = await claim(session)
    lapse(database, job_id)
    assert [] == await claim(session, worker="two")
    assert ("failed", 1) == (row(database, job_id)["status"], row(database, job_id)["lapses"])
    assert {job_id} == await jobs.extend_jobs(session, "one", [job], 60)
    revived = row(database, job_id)
    assert ("processing", 0, None, None) == tuple(
        revived[name] for name in ("status", "lapses", "outcome", "finished_at")
    )


async def test_extend_leaves_a_dead_letter_of_another_kind(session: Session, database: psycopg.Connection) -> None:
    """What failed by the gateway's answer stays failed."""
    insert(database)
    (job,) = await claim(session)
    await queue_calls.fail_job(session, job, "400: text required", {"status": 400})
    assert set() == await jobs.extend_jobs(session, "one", [job], 60)


async def test_a_busy_worker_gets_no_suspect(session: Session, database: psycopg.Connection) -> None:
    """A busy worker passes over it, and its pulse tells that it waits; an idle one gets it, alone."""
    suspect, other, last = insert(database, 3)
    database.execute("update public.jobs set lapses = 1 where id = %s", [suspect])
    one = Identity("one", "1")
    await take_name(session, one, ["default"], listens=True)
    assert [other] == [job.id for job in await jobs.claim_jobs(session, "default", "one", 1, 60, busy=True)]
    assert "default" == (await keep_name(session, one, ["mail", "default"], listens=True)).suspect_queue
    assert [suspect] == [job.id for job in await jobs.claim_jobs(session, "default", "one", 2, 60)]
    assert (await keep_name(session, one, ["mail", "default"], listens=True)).suspect_queue is None
    assert [last] == [job.id for job in await jobs.claim_jobs(session, "default", "one", 2, 60)]


async def test_a_row_that_somebody_locked_does_not_keep_a_name(
    session: Session, database: psycopg.Connection, dsn: str
) -> None:
    """The next run of a daemon begins, and has the leases of the one before but for that one's."""
    forgotten, other = insert(database, 2)
    assert 2 == len(await claim(session, worker="one/1"))
    with psycopg.connect(dsn) as person:
        person.execute("select from public.jobs where id = %s for update", [forgotten])
        await take_name(session, Identity("one", "2"), ["default"], listens=False)
        assert [other] == [job.id for job in await claim(session, worker="one/2")]
    assert "one/1" == row(database, forgotten)["locked_by"]


async def test_a_claim_that_comes_too_late_takes_nothing(session: Session, database: psycopg.Connection) -> None:
    """Its worker has given it up: the job is left to a claim that somebody hears of."""
    (job_id,) = insert(database)
    (now,) = database.execute("select clock_timestamp()").fetchone()
    for late, expected in ((timedelta(seconds=-1), []), (timedelta(minutes=1), [job_id])):
        claimed = await jobs.claim_jobs(session, "default", "one", 1, 60, not_after=now + late)
        assert expected == [job.id for job in claimed]


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
async def test_a_time_that_never_comes_does_not_end_the_pulse(
    session: Session, database: psycopg.Connection, time: str
) -> None:
    """A person may have set it; the pulse is answered all the same."""
    insert(database)
    database.execute("update public.jobs set run_at = %s", [time])
    pulse = await jobs.pulse(session, ["default"])
    assert (time == "-infinity", None if time == "infinity" else 0) == (pulse.work_waits, pulse.next_due_ms)


async def test_a_suspect_stays_one_after_a_release(session: Session, database: psycopg.Connection) -> None:
    """The gateway was away when it was tried alone: the next time it is alone again."""
    suspect, other = insert(database, 2)
    database.execute("update public.jobs set lapses = 1 where id = %s", [suspect])
    (job,) = await claim(session)
    await queue_calls.release_job(session, job, 0, "the gateway is away")
    database.execute("update public.jobs set run_at = now() - interval '1 h' where id = %s", [suspect])
    assert [suspect] == [job.id for job in await claim(session)]
    assert [other] == [job.id for job in await claim(session)]


async def test_what_nobody_knows_of_is_given_back(session: Session, database: psycopg.Connection) -> None:
    """The answer to a claim was lost: its jobs are queued and unspent, those that the worker knows of stay."""
    insert(database, 3)
    (known,) = await claim(session, 1)
    (lost,) = await claim(session, 1)
    (others,) = await claim(session, 1, worker="two")
    assert [lost.id] == await jobs.release_unheld(session, "one", [known.id])
    back = row(database, lost.id)
    assert ("queued", 0, 1, None) == tuple(back[name] for name in ("status", "attempts", "claims", "locked_by"))
    assert {"processing"} == {row(database, job.id)["status"] for job in (known, others)}


async def test_extend_revives_a_lapsed_lease_that_nobody_took(session: Session, database: psycopg.Connection) -> None:
    """A sleep spends nothing: the worker's extend finds its job, also after a sweep queued it again."""
    kept, taken = insert(database, 2)
    mine = await claim(session)
    for job_id in (kept, taken):
        lapse(database, job_id)
    assert [kept] == [job.id for job in await claim(session, 1, worker="two")]
    assert "queued" == row(database, taken)["status"]
    assert {taken} == await jobs.extend_jobs(session, "one", mine, 60)
    await queue_calls.complete_job(session, mine[1], {}, 0)
    assert ("done", 1) == (row(database, taken)["status"], row(database, taken)["attempts"])


async def test_extend_does_not_take_back_what_was_released(session: Session, database: psycopg.Connection) -> None:
    """A released job is nobody's, though its claim number stands."""
    insert(database)
    (job,) = await claim(session)
    await queue_calls.release_job(session, job, 0, "shutdown")
    assert set() == await jobs.extend_jobs(session, "one", [job], 60)


async def test_requeue_gives_a_dead_letter_all_its_attempts(session: Session, database: psycopg.Connection) -> None:
    """A person's second chance: queued, unspent, and fenced against the old claim; only a failed job gets it."""
    (job_id,) = insert(database)
    assert not await jobs.requeue_job(session, job_id)
    (job,) = await claim(session)
    await queue_calls.fail_job(session, job, "400: text required", {"status": 400})
    assert await jobs.requeue_job(session, job_id)
    (again,) = await claim(session)
    assert (1, 2) == (again.attempts, again.claims)


async def test_queues_are_apart(session: Session, database: psycopg.Connection) -> None:
    """A claim takes jobs of its own queue only, and returns lapsed leases of its own queue only."""
    (job_id,) = insert(database, queue="mail")
    assert [] == await claim(session)
    assert [job_id] == [job.id for job in await jobs.claim_jobs(session, "mail", "one", 5, 60)]


async def test_a_bad_queue_name_is_refused(database: psycopg.Connection) -> None:
    """A name that no channel can have is refused by the column, before the notify would fail the insert."""
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("insert into public.jobs (type, queue) values ('X', 'Not A Queue')")


async def test_concurrent_claims_never_share_a_job(dsn: str, database: psycopg.Connection) -> None:
    """Many workers at once get every job once."""
    import asyncio

    made = insert(database, 40)
    sessions = [Session(dsn, name=f"w{number}") for number in range(8)]

    async def drain(session: Session, name: str) -> list[uuid.UUID]:
        got: list[uuid.UUID] = []
        while batch := await jobs.claim_jobs(session, "default", name, 3, 60):
            got += [job.id for job in batch]
        return got

    try:
        taken = await asyncio.gather(*(drain(one, f"w{number}") for number, one in enumerate(sessions)))
    finally:
        await asyncio.gather(*(one.close() for one in sessions))
    assert sorted(made) == sorted(job_id for got in taken for job_id in got)


async def test_a_foreign_update_stays_claimable(database: psycopg.Connection) -> None:
    """A plain update by somebody else neither hides a job behind an old run_at nor locks it for ever."""
    (job_id,) = insert(database)
    database.execute("update public.jobs set run_at = now() - interval '1 day', status = 'failed'")
    database.execute("update public.jobs set status = 'queued'")
    requeued = row(database, job_id)
    assert requeued["run_at"] >= requeued["created_at"]
    database.execute("update public.jobs set status = 'processing'")
    assert row(database, job_id)["lease_until"] is not None


async def test_a_foreign_update_takes_the_job_from_its_worker(session: Session, database: psycopg.Connection) -> None:
    """A person who writes queued into a job that is under way gets it tried anew: its worker no longer has it."""
    (job_id,) = insert(database)
    (job,) = await claim(session)
    database.execute("update public.jobs set status = 'queued'")
    taken = row(database, job_id)
    assert ("queued", None, None) == (taken["status"], taken["lease_until"], taken["locked_by"])
    assert set() == await jobs.extend_jobs(session, "one", [job], 60)
    assert taken == row(database, job_id)


async def test_pulse_tells_what_waits_and_when(session: Session, database: psycopg.Connection) -> None:
    """The heartbeat answers whether work waits, and the time to the next due job or lapsing lease."""
    quiet = await jobs.pulse(session, ["default", "mail"])
    assert (False, None) == (quiet.work_waits, quiet.next_due_ms)
    insert(database)
    assert (await jobs.pulse(session, ["default", "mail"])).work_waits
    assert not (await jobs.pulse(session, ["mail"])).work_waits
    await claim(session)
    leased = await jobs.pulse(session, ["default"])
    assert not leased.work_waits
    assert 50_000 < leased.next_due_ms <= 60_000
    database.execute("update public.jobs set status = 'queued', run_at = now() + interval '5 s'")
    later = await jobs.pulse(session, ["default"])
    assert 3_000 < later.next_due_ms <= 5_000


async def test_a_database_without_an_encoding(server_dsn: str) -> None:
    """SQL_ASCII, which some hosts still make: text arrives as text all the same."""
    without = "encoding 'SQL_ASCII' locale_provider libc lc_collate 'C' lc_ctype 'C'"
    with servers.database(server_dsn, encoding=without) as dsn:
        migrate(dsn)
        session = Session(dsn, name="test")
        try:
            await session.fetch(
                "insert into public.jobs (type, payload) values ('X', %s) returning id", ['{"text": "Grüße"}']
            )
            (job,) = await claim(session)
        finally:
            await session.close()
    assert ("X", "Grüße") == (job.type, job.wake_text)


async def test_a_pulse_tells_whether_all_queues_are_shared(session: Session, database: psycopg.Connection) -> None:
    """With daemons that live, whichever of them serves which queue."""
    one, two, three = (Identity(name, "1", 60) for name in ("one", "two", "three"))

    async def shared() -> bool:
        return (await keep_name(session, one, ["mail", "default"], listens=True)).shared

    await take_name(session, one, ["mail", "default"], listens=True)
    assert not await shared()
    await take_name(session, two, ["default", "news"], listens=False)
    assert not await shared()
    await take_name(session, three, ["mail"], listens=False)
    assert await shared()
    database.execute("update agent_vault.daemons set seen_at = now() - interval '61 s' where name = 'two'")
    assert not await shared()
    await take_name(session, two, ["default"], listens=False)
    assert await shared()
    await leave_name(session, three)
    assert not await shared()
