"""How long the next try waits."""

import pytest

from notifier import backoff
from notifier.backoff import full_jitter_s

FIRST_TO_SIXTH = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance that always gives the most it may."""
    monkeypatch.setattr(backoff.random, "uniform", lambda _least, most: most)


@pytest.mark.usefixtures("longest")
def test_the_bound_doubles_up_to_the_cap() -> None:
    """Each failure after the first doubles it."""
    assert FIRST_TO_SIXTH == [full_jitter_s(failures, first_s=0.1, cap_s=1) for failures in range(1, 7)]


@pytest.mark.usefixtures("longest")
@pytest.mark.parametrize("failures", [0, 10**6])
def test_any_number_of_failures_has_a_bound(failures: int) -> None:
    """Neither none nor a month of them overflows."""
    assert 0 < full_jitter_s(failures, first_s=0.1, cap_s=5) <= 5


def test_the_jitter_is_full() -> None:
    """Waits are spread from nothing to the bound, so that returning clients do not come together."""
    waits = sorted(full_jitter_s(3, first_s=1, cap_s=60) for _ in range(1000))
    assert 0 <= waits[0] < 1
    assert 3 < waits[-1] <= 4
