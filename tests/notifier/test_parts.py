"""What works in the background begins anew after a crash."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from daemons import insert
from gateways import TOKEN, gateway
from programs import until
from structlog.testing import capture_logs

from daemon.run import run
from daemon.settings import DaemonSettings
from daemon.worker import Worker
from notifier import parts
from notifier.listener import Listener
from notifier.parts import keep_running
from notifier.secret import SecretStr


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


@pytest.mark.faults
async def test_no_fault_of_ours_ends_the_daemon(
    dsn: str, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that crashes is told of and begins anew; the daemon goes on delivering, until it is stopped."""
    crashes = {"listener": [RuntimeError("ear")], "worker": [RuntimeError("hand")]}
    for part, owner in (("listener", Listener), ("worker", Worker)):
        monkeypatch.setattr(owner, "run", crashing(crashes[part], owner.run))
    async with gateway() as fake:
        chosen = DaemonSettings(
            database_url=SecretStr(dsn), hook_token=SecretStr(TOKEN), gateway_url=fake.url, name="test"
        )
        with capture_logs() as logs:
            living = asyncio.create_task(run(chosen))
            insert(database)
            await until(lambda: fake.wakes, "the delivery")
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(living, 30)
    assert {"listener", "worker"} == {log["part"] for log in logs if log["event"] == "part_crashed"}


def crashing(errors: list[Exception], work: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Let a part crash at its start, once for each error."""

    async def run_part(self: Any) -> None:
        if errors:
            raise errors.pop()
        await work(self)

    return run_part


async def test_cancelling_ends_a_part() -> None:
    """A part that is cancelled does not begin anew."""
    part = asyncio.create_task(keep_running("drain", asyncio.Event().wait))
    await asyncio.sleep(0)
    part.cancel()
    with pytest.raises(asyncio.CancelledError):
        await part
