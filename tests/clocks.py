"""A clock for tests of what waits."""

import asyncio

import pytest


class Clock:
    """The loop's time, which leaps ahead instead of passing while every task waits."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def drive(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        """Give the loop this time."""
        select = loop._selector.select

        def leap(timeout: float | None) -> list[object]:
            if timeout is None:
                raise AssertionError("every task waits for something that nobody will do")
            self.now += timeout
            return select(0)

        patch.setattr(loop, "time", lambda: self.now)
        patch.setattr(loop._selector, "select", leap)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for what waits within one loop: minutes take no time and come out exact."""
    one = Clock()
    one.drive(asyncio.get_running_loop(), monkeypatch)
    return one
