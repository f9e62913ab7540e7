"""What the clocks tell of a sleep."""

import pytest
from structlog.testing import capture_logs

from notifier.sleep import Moment, SleepWatch


class Clocks:
    """Both clocks, set by hand."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.wall_s, self.monotonic_s = 1_000_000.0, 50.0

    def __call__(self) -> Moment:
        """Look at them."""
        return Moment(self.wall_s, self.monotonic_s)


@pytest.mark.parametrize(
    ("expected", "wall_s", "monotonic_s"),
    [
        ([], 1.0, 1.0),
        ([], 3.9, 3.9),
        ([599.0], 600.0, 1.0),
        ([4.0], 5.0, 5.0),
        ([], -3600.0, 1.0),
        ([4.0], -3600.0, 5.0),
    ],
    ids=["a tick", "a late tick", "the machine slept", "the process stood still", "clock set back", "both"],
)
def test_a_sleep_is_told_from_a_tick(expected: list[float], wall_s: float, monotonic_s: float) -> None:
    """The wall clock ran ahead of the monotonic one, or a tick came three seconds late; whoever asked is told."""
    clocks = Clocks()
    watch, told = SleepWatch(clocks), []
    watch.tell(lambda: told.append("one"))
    watch.tell(lambda: told.append("two"))
    clocks.wall_s += wall_s
    clocks.monotonic_s += monotonic_s
    with capture_logs() as lines:
        watch.look()
        watch.look()  # it is told once
    assert expected == [line["seconds"] for line in lines]
    assert ["one", "two"] * len(expected) == told


def test_age_is_that_of_the_clock_that_says_more() -> None:
    """Neither a sleep, which stops the monotonic clock, nor a clock that was set back makes a lease look young."""
    assert 600 == Moment(0, 0).age_s(Moment(600, 1))
    assert 60 == Moment(7200, 0).age_s(Moment(3600, 60))
