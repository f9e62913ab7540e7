"""What the tests of the daemon share: a gateway."""

from collections.abc import AsyncIterator

import pytest
from gateways import FakeGateway, gateway


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    """A gateway that accepts everything until told otherwise."""
    async with gateway() as one:
        yield one
