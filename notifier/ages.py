"""Times, and spans of time, as people write and read them: 2026-01-31T08:00Z, 2h, 3 days."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {
    "w": ("week", 604_800),
    "d": ("day", 86_400),
    "h": ("hour", 3_600),
    "m": ("minute", 60),
    "s": ("second", 1),
}
_LONGEST_S: Final = 100 * 366 * 86_400.0
_AGE: Final = re.compile(r"([0-9]{1,6})([wdhms])")
AGE_MUST: Final = "a number and one of s, m, h, d and w, as in 90s, 2h or 3d"


def parse_age(text: str) -> float:
    """Return the seconds of an age such as 2h. Raises ValueError."""
    parts = _AGE.fullmatch(text.strip().lower())
    if parts is None:
        raise ValueError(f"{text!r} is no age: write {AGE_MUST}")
    seconds = float(int(parts[1]) * _UNITS[parts[2]][1])
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return seconds


def parse_moment(text: str) -> datetime | timedelta:
    """Return a time, which without an offset is UTC, or an age. Raises ValueError."""
    try:
        return timedelta(seconds=parse_age(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write it as in 2026-01-31T08:00Z, or as an age, {AGE_MUST}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def say_age(seconds: float) -> str:
    """Return an age in the largest unit of which there is one, less weeks: 3 days, 1 hour, 0 seconds."""
    for letter in "dhm":
        name, unit_s = _UNITS[letter]
        if seconds >= unit_s:
            return _plural(int(seconds // unit_s), name)
    return _plural(max(int(seconds), 0), "second")


def _plural(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
