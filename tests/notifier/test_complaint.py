"""A lasting trouble is said when it begins, and then not too often."""

import asyncio

import psycopg
import pytest
from clocks import Clock
from structlog.testing import capture_logs

from notifier.complaint import Complaint, one_line


async def test_a_lasting_trouble_is_said_ever_more_seldom(clock: Clock) -> None:
    """Failures ten times a second are a line at once, after 10, 20, 40, … seconds, and then every ten minutes."""
    complain = Complaint()
    said_at = []
    with capture_logs() as lines:
        while clock.now < 2400:
            complain("database_away", error="refused")
            if len(lines) > len(said_at):
                said_at.append(round(clock.now))
            await asyncio.sleep(0.1)
    assert {"event": "database_away", "error": "refused", "log_level": "error"} == lines[-1]
    assert [0, 10, 30, 70, 150, 310, 630, 1230, 1830] == said_at


async def test_another_cause_does_not_wait_for_the_long_pause(clock: Clock) -> None:
    """Ten seconds after the last line is soon enough for it, and no sooner."""
    complain = Complaint()
    said_at = []
    with capture_logs() as lines:
        while clock.now < 200:
            complain("database_away", error="refused" if clock.now < 72 else "the login is refused")
            if len(lines) > len(said_at):
                said_at.append(round(clock.now))
            await asyncio.sleep(0.1)
    assert [0, 10, 30, 70, 80, 90, 110, 150] == said_at


async def test_a_new_trouble_is_said_at_once() -> None:
    """What was over and comes again does not wait for the ten seconds of the last one."""
    complain = Complaint()
    with capture_logs() as lines:
        complain("database_away")
        assert complain.over()
        complain("database_away")
    assert 2 == len(lines)


async def test_over_tells_whether_there_was_something() -> None:
    """Only a trouble that was said is worth a line at its end, and only one."""
    complain = Complaint()
    assert not complain.over()
    with capture_logs():
        complain("database_away")
    assert [True, False] == [complain.over(), complain.over()]


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("division by zero at the gate", psycopg.DataError("division by zero\n\tat the gate\n")),
        ("no pg_hba entry for user *** in ***", psycopg.OperationalError('no pg_hba entry\nfor user "ann" in "mail"')),
        ("TimeoutError", TimeoutError()),
    ],
)
def test_an_error_becomes_one_line(expected: str, error: Exception) -> None:
    """Never several, and never none; one of a connection quotes nothing of its string."""
    assert expected == one_line(error)
