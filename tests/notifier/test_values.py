"""What a person may write for a number, a switch, a path or a secret, in an environment and in a TOML file."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from notifier.secret import SecretStr
from notifier.values import convert

ON = ("on", "ON", "true", "True", "yes", "t", "Y", "1", 1, True)
OFF = ("off", "Off", "false", "FALSE", "no", "f", "n", "0", 0, False)
NO_SWITCH = ("", "2", " true", "on ", "enable", "null", "1.0", 2, -1, [], {}, None)
WHOLE = (
    ("8080", 8080), (" 8080", 8080), ("8080\n", 8080), ("+80", 80), ("-1", -1), ("080", 80), ("1_000", 1000),
    ("1.0", 1), ("1_000.00 ", 1000), ("1" * 25, int("1" * 25)), (7, 7), (7.0, 7), (10**30, 10**30), (True, 1),
    (False, 0),
)  # fmt: skip
NOT_WHOLE = (
    "", "x", "1.5", "5.", ".0", "1e3", "0x1f", "1__0", "_1", "1_", "1 000", "1,5", "- 1", "nan", "inf", "null", "true",
    "1" * 5000, 1.5, float("nan"), float("inf"), [1], {}, None,
)  # fmt: skip
NUMBERS = (
    ("60", 60.0), (" 1.5 ", 1.5), ("1e2", 100.0), (".5", 0.5), ("5.", 5.0), ("1_0.5", 10.5), ("080", 80.0), (3, 3.0),
    (True, 1.0), (False, 0.0), ("600", 600.0),
)  # fmt: skip
NO_NUMBERS = (
    "", "x", "nan", "inf", "-inf", "1e999", "600.1", "-1", "1__0", "null", "true", float("nan"), 601, [], None,
)  # fmt: skip


def refused(value: Any, kind: Any) -> bool:
    """Tell whether a value is none of a kind."""
    try:
        convert(value, kind)
    except msgspec.ValidationError:
        return True
    return False


def test_switches() -> None:
    """A switch is said in any of the usual words, and in whatever case; nothing is guessed."""
    assert [True] * len(ON) == [convert(value, bool) for value in ON]
    assert [False] * len(OFF) == [convert(value, bool) for value in OFF]
    assert [] == [value for value in NO_SWITCH if not refused(value, bool)]


def test_whole_numbers() -> None:
    """A whole number may have blanks around it, zeros before and after it, and underscores in it."""
    for value, expected in WHOLE:
        found = convert(value, Annotated[int, msgspec.Meta(ge=-1)])
        assert (expected, int) == (found, type(found))
    assert [] == [value for value in NOT_WHOLE if not refused(value, int)]


def test_numbers() -> None:
    """A number may be written as Python writes one; what is none, and what has no end, is in no range."""
    seconds = Annotated[float, msgspec.Meta(ge=0, le=600)]
    for value, expected in NUMBERS:
        found = convert(value, seconds)
        assert (expected, float) == (found, type(found))
    assert [] == [value for value in NO_NUMBERS if not refused(value, seconds)]


@pytest.mark.parametrize("text", ["null", "None", "1", "true", " x "])
def test_a_text_is_a_text(text: str) -> None:
    """Where a text or nothing may stand, no text is nothing, nor anything else."""
    assert text == convert(text, str | None)
    assert Path(text) == convert(text, Path | None)
    found = convert(text, SecretStr | None)
    assert text == found.get_secret_value()
    assert refused("null", Annotated[float | None, "a marker"])


@pytest.mark.parametrize("value", [1, True, ["x"], {"x": "y"}])
def test_no_text(value: Any) -> None:
    """What TOML has as another type is no text, no path and no secret."""
    assert [True] * 3 == [refused(value, kind) for kind in (str, Path, SecretStr)]


def test_a_secret_does_not_show() -> None:
    """However it gets into a line, *** stands for it."""
    secret = SecretStr("canary")
    assert ["***"] * 4 == [str(secret), repr(secret), f"{secret}", f"{secret!r:>3}"]
    assert "canary" not in str((secret, {"token": secret}))
