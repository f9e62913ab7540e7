"""Ages as people write and read them."""

import pytest

from notifier.ages import parse_age, say_age


@pytest.mark.parametrize(
    ("expected", "text"),
    [(90, "90s"), (300, "5m"), (7_200, "2h"), (259_200, "3d"), (604_800, "1w"), (7_200, " 2H "), (0, "0s")],
)
def test_read(expected: float, text: str) -> None:
    """A number and a unit."""
    assert expected == parse_age(text)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2.5h", "2 h", "2y", "2h3m", "٢h", "9999999s", "999999w"])
def test_not_read(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"no age|hundred years"):
        parse_age(text)


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        ("0 seconds", -5.0), ("0 seconds", 0.9), ("1 second", 1.0), ("59 seconds", 59.9), ("1 minute", 60.0),
        ("59 minutes", 3599.0), ("1 hour", 3600.0), ("23 hours", 86_399.0), ("1 day", 86_400.0), ("30 days", 2.6e6),
    ],
)  # fmt: skip
def test_said(expected: str, seconds: float) -> None:
    """The largest unit of which there is one, rounded down."""
    assert expected == say_age(seconds)
