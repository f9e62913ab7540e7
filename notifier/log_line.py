"""One event as one line: pure functions from fields to text, which no value can break."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Final
from uuid import UUID

HIDDEN: Final = "***"
NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
SECRET_KEY: Final = re.compile(
    r"token|secret|passw|dsn|conninfo|authorization|cookie|credential|api_?key", re.IGNORECASE
)
SECRET_TEXT: Final = re.compile(
    r"""(://[^/\s:@"]*:)(?!password@)[^/\s@"]+(?=@)|(password=|bearer )[^\s"'\\]+""", re.IGNORECASE
)  # the password of a URL (not the word itself, as in an example), of a connection string, and a bearer token
SECRET_MARKS: Final = ("://", "password=", "bearer ")  # one of them is in all that SECRET_TEXT finds, in lower case


def hide_keys(fields: Mapping[str, object], depth: int = 3) -> dict[str, object]:
    """Blank the values whose key names a secret, also in dicts within, `depth` levels down."""
    return {
        key: HIDDEN if _names_secret(text(key)) else _hidden(value, depth) if isinstance(value, dict) else value
        for key, value in fields.items()
    }


def hide_text(line: str) -> str:
    """Blank what has the shape of a password or a bearer token anywhere in a finished line."""
    lowered = line.lower()
    if not any(mark in lowered for mark in SECRET_MARKS):  # as in most lines: looking is far quicker than the pattern
        return line
    return SECRET_TEXT.sub(lambda found: (found[1] or found[2]) + HIDDEN, line)


def as_json(fields: Mapping[str, object]) -> str:
    """Render strict ASCII JSON, `time`, `level` and `event` first; what JSON cannot say becomes text."""
    ordered = {"time": None, "level": None, "event": None, **fields}
    ordered["event"] = text(ordered["event"])
    line = _dumped(ordered) or _dumped({text(key): _sayable(value) for key, value in ordered.items()})
    if line.isascii():
        return line
    # Escaped as it is, half a surrogate pair would be JSON that strict readers refuse: it becomes '?'.
    return NOT_ASCII.sub(lambda run: json.dumps(run[0].encode("utf-8", "replace").decode())[1:-1], line)


def as_shown(fields: Mapping[str, object]) -> dict[str, object]:
    """Make every value safe for a terminal: control characters are spelled out, line breaks stay."""
    return {key: _shown(value) for key, value in fields.items()}


def text(value: object) -> str:
    """Return text as it is and the repr of all else, even of what has none."""
    if isinstance(value, str):
        return value
    with suppress(Exception):
        return repr(value)
    return f"<{type(value).__name__} without a repr>"


def plain(value: object) -> object:
    """Return the JSON that a person would write for a value that JSON has no form for."""
    match value:
        case UUID() | PurePath() | Decimal() | timedelta():
            return str(value)
        case date() | time():
            return value.isoformat()
        case Enum():
            return value.value
        case set() | frozenset():
            return list(value)
        case bytes() | bytearray():
            return value.decode("utf-8", "backslashreplace")
    return text(value)


def _hidden(value: dict[str, object], depth: int) -> object:
    if not depth:
        return value
    with suppress(Exception):  # a dict that another thread fills meanwhile
        return hide_keys(value, depth - 1)
    return HIDDEN


@lru_cache(maxsize=1024)  # the keys of our lines are few, and each line has a dozen
def _names_secret(key: str) -> bool:
    return SECRET_KEY.search(key) is not None


def _dumped(value: object) -> str:
    # A cycle, NaN, a key that is no text, a mapping that raises: whatever it is, the caller's work goes on.
    with suppress(Exception):
        return _JSON.encode(value)
    return ""


_JSON: Final = json.JSONEncoder(default=plain, allow_nan=False, ensure_ascii=False)


def _sayable(value: object) -> object:
    return value if _dumped(value) else text(value)


def _shown(value: object) -> str:
    with suppress(Exception):
        value = plain(value)
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text(value))
