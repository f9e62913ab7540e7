"""One event as one line, whatever its values."""

import json
from collections import UserString
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.log_line import as_json, as_shown, hide_keys, hide_text, quickly


class Colour(Enum):
    """An enum whose value is text."""

    RED = "red"


class Unspeakable:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError


def _deep() -> object:
    nest: list[object] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


def _cycle() -> object:
    knot: list[object] = []
    knot.append(knot)
    return knot


def _said(value: object) -> object:
    line = as_json({"value": value, "event": "seen", "level": "info", "time": "now"})
    assert line.isascii()
    assert "\n" not in line
    # msgspec is strict: it refuses NaN and half a surrogate pair, which the standard library lets pass.
    fields = msgspec.json.decode(line, type=dict[str, object])
    assert ["time", "level", "event", "value"] == list(fields)
    return fields["value"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (1.5, 1.5),
        (None, None),
        ("12345678-1234-5678-1234-567812345678", UUID("12345678123456781234567812345678")),
        ("2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("0:00:05", timedelta(seconds=5)),
        ("1.10", Decimal("1.10")),
        ("/etc/hosts", Path("/etc/hosts")),
        ("red", Colour.RED),
        ([1], {1}),
        ("ok\\xff", b"ok\xff"),
        ({"red": ["/etc"]}, {"red": [Path("/etc")]}),
        ("ValueError('x')", ValueError("x")),
        ("'x'", UserString("x")),
    ],
)
def test_values_read_as_a_person_would_write_them(said: object, value: object) -> None:
    """A value that JSON has no form for becomes its usual text."""
    assert said == _said(value)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("?", "\ud800"),
        ("a?é\n\x00\x1b\u2028", "a\udcffé\n\x00\x1b\u2028"),
        ("\\ud800 😀", "\\ud800 😀"),
        ("nan", float("nan")),
        ("inf", float("inf")),
        ("[nan, 1]", [float("nan"), 1]),
        ("{(1, 2): 3}", {(1, 2): 3}),
        ("[[...]]", _cycle()),
        ("<Unspeakable without a repr>", Unspeakable()),
        (["<Unspeakable without a repr>"], [Unspeakable()]),
        ("<list without a repr>", _deep()),
        ("<int without a repr>", 10**5000),
    ],
    ids=range(12),
)
def test_no_value_breaks_a_line(said: object, value: object) -> None:
    """Invalid text, cycles, NaN, depth and failing reprs all leave one strict line of JSON."""
    assert said == _said(value)


def test_a_bad_value_leaves_its_neighbours() -> None:
    """Only the value that cannot be said turns into text."""
    fields = msgspec.json.decode(as_json({"event": 7, "bad": float("nan"), "ms": 1.5, "on": Path("/")}))
    assert {"time": None, "level": None, "event": "7", "bad": "nan", "ms": 1.5, "on": "/"} == fields


def test_a_terminal_is_shown_no_control_characters() -> None:
    """Escape sequences are spelled out, and line breaks stay."""
    shown = as_shown(
        {
            "event": "\x1b[2J\ud800é\nnext",
            "bad": Unspeakable(),
            "ms": 1.5,
            "long": 10**5000,
            "queues": ["default", "\x1b"],
        }
    )
    assert {
        "event": "\\x1b[2J\\ud800é\nnext",
        "bad": "<Unspeakable without a repr>",
        "ms": "1.5",
        "long": "<int without a repr>",
        "queues": "default,\\x1b",
    } == shown


def test_values_under_secret_keys_are_blanked() -> None:
    """A secret is known by its key, in any case and in dicts within."""
    fields = {"hook_token": "x", "Headers": {"Authorization": "x", "Host": "y"}, "DSN": None, "queue": "q"}
    expected = {
        "hook_token": "***",
        "Headers": {"Authorization": "***", "Host": "y"},
        "DSN": "***",
        "queue": "q",
    }
    assert expected == hide_keys(fields)


def test_a_cycle_of_dicts_is_walked_no_further() -> None:
    """A dict within itself ends the walk instead of the program."""
    knot: dict[str, object] = {"token": "x"}
    knot["self"] = knot
    hidden = hide_keys({"knot": knot})["knot"]
    assert isinstance(hidden, dict)
    assert "***" == hidden["token"]


@pytest.mark.parametrize(
    ("hidden", "line"),
    [
        ('"postgres://me:***@host/db"', '"postgres://me:hunter2@host/db"'),
        ('"http://host:8080/x"', '"http://host:8080/x"'),
        ('"host=h password=*** port=1"', '"host=h password=hunter2 port=1"'),
        ('"Bearer ***"', '"Bearer hunter2"'),
    ],
)
def test_text_shaped_like_a_secret_is_blanked(hidden: str, line: str) -> None:
    """A password within a message is gone, and the line is as valid as before."""
    assert hidden == hide_text(line)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(["event", "job_id", "ms", "hook_token", "exc_info", "reason", "\ud800"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.uuids() | st.text() | st.binary()
        | st.sampled_from(["Bearer x", "postgresql://u:p@h/d", "PASSWORD=x"]),
    )
)  # fmt: skip
def test_the_quick_way_says_what_the_careful_one_does(fields: dict[str, object]) -> None:
    """A line that is rendered at once is the line that every step would have made of it."""
    if line := quickly(fields):
        assert json.loads(hide_text(as_json(hide_keys(fields)))) == json.loads(line)
        assert list(json.loads(line))[:3] == ["time", "level", "event"]


def test_the_quick_way_is_taken() -> None:
    """An event of every day is simple enough."""
    line = quickly({"event": "job_claimed", "job_id": UUID(int=1), "ms": 1.5, "attempt": 1, "duplicate": False})
    assert line.startswith(b'{"time":null,"level":null,"event":"job_claimed","job_id":"00000000-')
