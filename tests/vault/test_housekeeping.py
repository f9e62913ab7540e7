"""The vault's upkeep: by itself, bit by bit, and in nobody's way."""

import asyncio
from collections.abc import Callable

import letters
import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import KEY, Switch
from programs import until
from pytest_aiohttp import AiohttpClient
from structlog.testing import capture_logs

from sql.housekeeping import UnservedQueue
from sql.session import Session
from vault import housekeeping
from vault.app import make_app
from vault.housekeeping import Housekeeping
from vault.keys import HEALTH
from vault.settings import VaultSettings
from vault.unserved import Unserved

Configure = Callable[..., VaultSettings]


def count(database: psycopg.Connection, table: str = "jobs") -> int:
    """How many rows there are."""
    return int(database.execute(f"select count(*) from public.{table}").fetchone()[0])


async def test_the_vault_queues_and_prunes_by_itself(
    session: Session, database: psycopg.Connection, configure: Configure, aiohttp_client: AiohttpClient
) -> None:
    """Nobody has to ask: an event without a job gets one, and what is old goes."""
    (refused,) = await letters.record_refused(session, database, letters.event(1))
    old = letters.dead(database, status="done", finished_at="31 days")
    await aiohttp_client(make_app(configure()))
    await until(lambda: letters.jobs_of(database, refused), "a job for the event")
    await until(lambda: letters.job(database, old) is None, "the end of the old job")


async def test_it_goes_round_again(
    session: Session,
    database: psycopg.Connection,
    configure: Configure,
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes to be later is found too."""
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.05)
    await aiohttp_client(make_app(configure()))
    for name in (1, 2):
        (refused,) = await letters.record_refused(session, database, letters.event(name))
        await until(lambda refused=refused: letters.jobs_of(database, refused), "a job for the event")


async def test_it_waits_a_minute_between_rounds(session: Session, configure: Configure) -> None:
    """And less only where a batch was full."""
    waits: list[float] = []
    rounds = iter([True, True, False, False])

    class Ended(Exception):
        """The end of the test."""

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise Ended

    async def go_round() -> bool:
        return next(rounds)

    keeper = Housekeeping(session, configure())
    keeper.go_round = go_round
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        with pytest.raises(Ended):
            await keeper.run()
    assert [1, 1, 60, 60] == waits


@pytest.mark.parametrize(
    ("expected", "settings"),
    [
        ({"done": 1, "failed": 1, "learnings": 1}, {}),
        ({"done": 2, "failed": 1, "learnings": 1}, {"prune_jobs_after_days": 0}),
        ({"done": 1, "failed": 0, "learnings": 1}, {"prune_failed_after_days": 90}),
        ({"done": 1, "failed": 1, "learnings": 0}, {"prune_learnings_after_days": 7}),
        ({"done": 2, "failed": 1, "learnings": 1}, {"prune_jobs_after_days": 999}),
    ],
)
async def test_what_is_pruned_is_set(
    session: Session,
    database: psycopg.Connection,
    configure: Configure,
    expected: dict[str, int],
    settings: dict[str, int],
) -> None:
    """Done jobs after thirty days unless set otherwise; dead letters and events not at all unless set."""
    letters.dead(database, status="done", finished_at="99 days")
    letters.dead(database, finished_at="99 days")
    (event,) = await letters.record(session, letters.event(1))
    letters.age(database, "agent_learnings", event, "99 days")
    database.execute("update public.jobs set status = 'done' where learning_id = %s", [event])
    await Housekeeping(session, configure(**settings)).go_round()
    left = {status: database.execute("select count(*) from public.jobs where status = %s", [status]).fetchone()[0]
            for status in ("done", "failed")}  # fmt: skip
    assert expected == {**left, "learnings": count(database, "agent_learnings")}


async def test_more_than_a_batch(
    session: Session, database: psycopg.Connection, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round takes one batch of each and says that there is more, until there is none; what was done is logged."""
    monkeypatch.setattr(housekeeping, "PRUNE_BATCH", 2)
    monkeypatch.setattr(housekeeping, "SWEEP_BATCH", 2)
    for _ in range(3):
        letters.dead(database, status="done", finished_at="31 days")
    await letters.record_refused(session, database, *(letters.event(name) for name in range(5)))
    keeper = Housekeeping(session, configure())
    with capture_logs() as logs:
        assert [True, True, False, False] == [await keeper.go_round() for _ in range(4)]
    assert [
        ("learnings_queued", 2), ("pruned", 2), ("learnings_queued", 2), ("pruned", 1), ("learnings_queued", 1),
    ] == [(log["event"], log["count"]) for log in logs]  # fmt: skip


async def test_a_refused_row_is_told_once(
    session: Session, database: psycopg.Connection, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no reason to go round again at once for ever, and the line says why and quotes no event."""
    monkeypatch.setattr(housekeeping, "SWEEP_BATCH", 1)
    await letters.record_refused(session, database, letters.event(1))
    letters.refuse(database)
    keeper = Housekeeping(session, configure())
    with capture_logs() as logs:
        assert [True, False, False] == [await keeper.go_round() for _ in range(3)]
    (log,) = logs
    assert ("learnings_refused", "warning", 1) == (log["event"], log["log_level"], log["count"])
    assert "no_such_jobs" in log["error"]
    assert "canary" not in str(log)


async def test_a_queue_that_nobody_serves_is_told(
    session: Session, database: psycopg.Connection, configure: Configure
) -> None:
    """With its name, how many wait and what to look at; once, until ten minutes are over."""
    letters.dead(database, status="queued", finished_at=None, queue="wrok", run_at="1 hour", created_at="1 hour")
    letters.dead(database, status="queued", finished_at=None, queue="mail", run_at="1 minute", created_at="1 minute")
    keeper = Housekeeping(session, configure())
    with capture_logs() as logs:
        for _ in range(3):
            await keeper.go_round()
    (log,) = logs
    assert ("queue_not_served", "warning", "wrok", 1) == tuple(log[k] for k in ("event", "log_level", "queue", "count"))
    assert "is a daemon with DAEMON_QUEUES=wrok running?" in log["remedy"]
    assert 3600 <= log["oldest_s"] < 3600 + 600


def test_how_often_a_queue_is_told() -> None:
    """At once, again after ten minutes, and as new when it was served in between."""
    unserved = Unserved()
    queue = UnservedQueue("wrok", 1, 301.0)
    told = []
    for now, found in [(0, [queue]), (599, [queue]), (600, [queue]), (660, []), (720, [queue])]:
        with capture_logs() as logs:
            unserved.tell(found, now)
        told.append(len(logs))
    assert [1, 0, 1, 0, 1] == told


async def test_a_task_that_fails_ends_no_other(
    session: Session, database: psycopg.Connection, configure: Configure
) -> None:
    """A table of the owner's that refers to a job keeps it, which is told; events get their jobs all the same."""
    old = letters.dead(database, status="done", finished_at="31 days")
    database.execute("create table notes (job_id uuid references public.jobs)")
    database.execute("insert into notes values (%s)", [old])
    (refused,) = await letters.record_refused(session, database, letters.event(1))
    with capture_logs() as logs:
        assert not await Housekeeping(session, configure()).go_round()
    assert ["learnings_queued", "housekeeping_failed"] == [log["event"] for log in logs]
    assert 1 == len(letters.jobs_of(database, refused))


async def test_the_database_away(
    session: Session,
    database: psycopg.Connection,
    configure: Configure,
    switch: Switch,
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The upkeep outlives it, says nothing that is said already, and goes on when it is back."""
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.05)
    monkeypatch.setattr(housekeeping, "PAUSE_S", 0.05)
    (refused,) = await letters.record_refused(session, database, letters.event(1))
    switch.off()
    with capture_logs() as logs:
        vault = await aiohttp_client(make_app(configure()))
        for _ in range(2):
            await vault.app[HEALTH].look()
    assert {"database_away"} == {log["event"] for log in logs}
    switch.on()

    def has_job() -> bool:
        with psycopg.connect(configure().database_url.get_secret_value(), autocommit=True) as fresh:
            return bool(letters.jobs_of(fresh, refused))

    await until(has_job, "a job for the event")


async def test_four_connections_at_most(vault: TestClient, database: psycopg.Connection) -> None:
    """The upkeep brings none of its own."""

    def names() -> set[str]:
        rows = database.execute("select application_name from pg_stat_activity where datname = current_database()"
                                " and application_name like 'agent-vault%'")  # fmt: skip
        return {name for (name,) in rows.fetchall()}

    async with vault.get("/learnings/list", headers={"Authorization": f"Bearer {KEY}"}) as response:
        assert 200 == response.status
    four = {f"agent-vault {name}" for name in ("writer", "jobs", "learnings", "health")}
    await until(lambda: four == names(), "the four")
