"""One event as one line: pure functions from fields to text, which no value can break."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from types import NoneType
from typing import Final
from uuid import UUID

import msgspec

SIMPLE: Final = frozenset({str, int, bool, NoneType, UUID})  # what msgspec says as plain() and json do
RENDERED: Final = frozenset({"exc_info", "stack_info"})  # what structlog's processors make text of
HIDDEN: Final = "***"
NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
SECRET_KEY: Final = re.compile(
    r"token|secret|passw|dsn|conninfo|authorization|cookie|credential|api_?key", re.IGNORECASE
)
SECRET_TEXT: Final = re.compile(
    r"""(://[^/\s:@"]*:)(?!password@)[^/\s@"]+(?=@)|(password=|bearer )[^\s"'\\]+""", re.IGNORECASE
)  # the password of a URL (not the word itself, as in an example), of a connection string, and a bearer token
SECRET_MARKS: Final = ("://", "password=", "bearer ")  # how it begins, which hardly any line has
SECRET_BYTES: Final = tuple(mark.encode() for mark in SECRET_MARKS)


def hide_keys(fields: Mapping[str, object], depth: int = 3) -> dict[str, object]:
    """Blank the values whose key names a secret, also in dicts within, `depth` levels down."""
    return {
        key: HIDDEN if _names_secret(key) else _without_secrets(value, depth) if isinstance(value, dict) else value
        for key, value in fields.items()
    }


def hide_text(line: str) -> str:
    """Blank what has the shape of a password or a bearer token anywhere in a finished line."""
    folded = line.lower()
    if line.isascii() and not any(mark in folded for mark in SECRET_MARKS):
        return line
    return SECRET_TEXT.sub(lambda found: (found[1] or found[2]) + HIDDEN, line)


def quickly(fields: Mapping[str, object]) -> bytes:
    """Render what nearly all events are made of: simple values, ASCII, nothing that may be secret; b"" for the rest.

    The line is that of `hide_text(as_json(hide_keys(fields)))`.
    """
    if not _are_harmless(tuple(fields)) or type(fields.get("event")) is not str:
        return b""
    for value in fields.values():  # loops, since a generator costs more than what it looks at
        if type(value) not in SIMPLE and not (type(value) is float and math.isfinite(value)):
            return b""
    try:
        line = msgspec.json.encode(_ordered(fields))
    except Exception:  # noqa: BLE001 - half a surrogate pair, an integer that is too long: whatever it is, it is not quick
        return b""
    folded = line.lower()
    for mark in SECRET_BYTES:
        if mark in folded:
            return b""
    return line if line.isascii() else b""


def as_json(fields: Mapping[str, object]) -> str:
    """Render strict ASCII JSON, `time`, `level` and `event` first; what JSON cannot say becomes text."""
    ordered = _ordered(fields)
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
        case date() | time():
            return value.isoformat()
        case Enum():
            return value.value
        case UUID() | PurePath() | Decimal() | timedelta():
            return str(value)
        case set() | frozenset():
            return list(value)
        case bytes() | bytearray():
            return value.decode("utf-8", "backslashreplace")
    return text(value)


def _without_secrets(value: dict[str, object], depth: int) -> object:
    if not depth:
        return value
    with suppress(Exception):  # a dict that another thread fills meanwhile
        return hide_keys(value, depth - 1)
    return HIDDEN


@lru_cache(1024)
def _names_secret(key: object) -> bool:
    return SECRET_KEY.search(text(key)) is not None


@lru_cache(1024)
def _are_harmless(keys: tuple[object, ...]) -> bool:
    return all(isinstance(key, str) and key not in RENDERED and not _names_secret(key) for key in keys)


def _ordered(fields: Mapping[str, object]) -> dict[str, object]:
    return {"time": None, "level": None, "event": None, **fields}


def _dumped(value: object) -> str:
    # A cycle, NaN, a key that is no text, a mapping that raises: whatever it is, the caller's work goes on.
    with suppress(Exception):
        return json.dumps(value, default=plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return ""


def _sayable(value: object) -> object:
    return value if _dumped(value) else text(value)


def _shown(value: object) -> str:
    with suppress(Exception):
        value = ",".join(map(text, value)) if isinstance(value, list | tuple) else plain(value)
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text(value))
