"""What the tests of the notifier share: a clock of their own."""

import asyncio

import pytest
from clocks import Clock


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for what waits within one loop: minutes take no time and come out exact."""
    one = Clock()
    one.drive(asyncio.get_running_loop(), monkeypatch)
    return one
