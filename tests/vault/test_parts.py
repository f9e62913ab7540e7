"""What works in the background begins anew after a crash."""

import asyncio

import pytest
from structlog.testing import capture_logs

from vault import parts
from vault.parts import keep_running


async def test_a_crash_is_told_and_the_part_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each crash is one line with its traceback; a part that comes to its end is left at that."""
    monkeypatch.setattr(parts, "FIRST_S", 0.01)
    crashes = [TypeError("one"), ValueError("two")]

    async def work() -> None:
        if crashes:
            raise crashes.pop(0)

    with capture_logs() as logs:
        await keep_running("drain", work)
    assert [("part_crashed", "drain", True)] * 2 == [(log["event"], log["part"], log["exc_info"]) for log in logs]


async def test_cancelling_ends_a_part() -> None:
    """A part that is cancelled does not begin anew."""
    part = asyncio.create_task(keep_running("drain", asyncio.Event().wait))
    await asyncio.sleep(0)
    part.cancel()
    with pytest.raises(asyncio.CancelledError):
        await part
