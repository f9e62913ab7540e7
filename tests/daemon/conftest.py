"""What the tests of the daemon share: a gateway, and a clock of their own."""

from collections.abc import AsyncIterator

import pytest
from clocks import clock  # noqa: F401 - a fixture
from gateways import FakeGateway, gateway


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    """A gateway that accepts everything until told otherwise."""
    async with gateway() as one:
        yield one
