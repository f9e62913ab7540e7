"""Signals: the first ends in order, one Ctrl-C may come twice, and only a later one is a person's second."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest
from programs import until

from notifier import ending
from notifier.ending import when_told_to_end


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the program was told by, and `at once` in place of its end."""
    told: list[str] = []
    ours = SimpleNamespace(**vars(signal))  # asyncio needs the module as it is
    ours.signal = lambda number, how: told.append(f"{number.name} {how.name}")
    ours.raise_signal = lambda number: told.append(f"{number.name} at once")
    monkeypatch.setattr(ending, "signal", ours)
    return told


@pytest.mark.parametrize(
    ("same_s", "sent", "then"),
    [
        (60.0, [signal.SIGINT, signal.SIGINT], ["SIGINT", "SIGINT"]),
        (0.0, [signal.SIGINT, signal.SIGINT], ["SIGINT", "SIGINT SIG_DFL", "SIGINT at once", "SIGINT"]),
        (0.0, [signal.SIGTERM, signal.SIGINT], ["SIGTERM", "SIGINT SIG_DFL", "SIGINT at once", "SIGINT"]),
        (0.0, [signal.SIGINT, signal.SIGTERM], ["SIGINT", "SIGTERM"]),
    ],
    ids=["one passed on twice", "two", "after a service manager's", "a service manager's after it"],
)
async def test_the_second_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, told: list[str], same_s: float, sent: list[signal.Signals], then: list[str]
) -> None:
    """It ends the process at once, if it is one."""
    monkeypatch.setattr(ending, "SAME_S", same_s)
    loop = asyncio.get_running_loop()
    when_told_to_end(told.append)
    try:
        for one in sent:
            before = len(told)
            os.kill(os.getpid(), one)
            await until(lambda before=before: len(told) > before, one.name)
        await until(lambda: len(told) >= len(then), "the end")
    finally:
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(one)
    assert then == told
