"""The low-water mark: claims begin there, and nothing that is due below it is forgotten."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from clocks import Clock
from daemons import QUIET, become, daemon, idle, insert
from gateways import FakeGateway

from daemon.low_water import LASTS_S, LATE, LowWater
from sql.jobs import Job

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def claimed(*seconds: float) -> list[Job]:
    """Jobs that were due so long after noon."""
    due = [NOON + timedelta(seconds=after) for after in seconds]
    return [Job(UUID(int=1), "X", "default", None, None, None, 1, 5, 1, run_at) for run_at in due]


@pytest.mark.usefixtures("clock")
async def test_the_mark_lies_below_what_was_claimed_last() -> None:
    """It rises with the latest of each batch, and stays where nothing was claimed."""
    water = LowWater()
    assert water.of("default") is None
    for seconds, mark in (((1, 9, 3), 9), ((), 9), ((20,), 20)):
        water.claimed("default", claimed(*seconds))
        assert NOON + timedelta(seconds=mark) - LATE == water.of("default")


@pytest.mark.usefixtures("clock")
async def test_a_look_at_many_queues_begins_at_the_lowest_mark() -> None:
    """Where one has none, everywhere."""
    water = LowWater()
    water.claimed("default", claimed(9))
    assert water.least(["default", "mail"]) is None
    water.claimed("mail", claimed(7))
    assert NOON + timedelta(seconds=7) - LATE == water.least(["default", "mail"])


async def test_it_lasts_for_seconds(clock: Clock) -> None:
    """However often it is raised meanwhile."""
    water = LowWater()
    for _ in range(2):
        water.claimed("default", claimed(9))
        clock.now += LASTS_S
        water.claimed("default", claimed(9))
        assert water.of("default") is not None
        clock.now += 1
        assert water.of("default") is None


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("reasons", "is_kept"),
    [({"notified"}, True), ({"notified", "room"}, True), ({"notified", "work_waits"}, False), ({"due"}, False)],
)
async def test_what_sees_everything_forgets_it(reasons: set[str], *, is_kept: bool) -> None:
    """A notification is of something new; the pulse, a timer or a new connection may mean something old."""
    water = LowWater()
    water.claimed("default", claimed(9))
    water.woken(frozenset(reasons))
    assert is_kept == (water.of("default") is not None)


@pytest.mark.parametrize("notified", [True, False])
async def test_what_is_due_below_it_is_delivered(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, *, notified: bool
) -> None:
    """A job of an hour ago comes just after one of now, announced or not, and no pulse is near."""
    async with daemon(dsn, fake.url, tmp_path, **QUIET) as program:
        await idle(program)
        insert(database)
        await become(database, program, done=1)
        if not notified:
            database.execute("set session_replication_role = replica")
        insert(database, run_at=datetime.now(UTC) - timedelta(hours=1))
        await become(database, program, done=2)
