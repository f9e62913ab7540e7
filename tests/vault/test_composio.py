"""What is read off a body: every vector's event, and something for whatever the bytes are."""

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vault import composio
from vault.composio import Event, parse, safe_slug

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))["vectors"]
BODIES = {vector["name"]: base64.b64decode(vector["body_b64"]) for vector in VECTORS}
SIGNED = [vector for vector in VECTORS if vector["expect"]["auth"] == "accept"]
METADATA = {
    "log_id": "log_1",
    "trigger_slug": "GMAIL_NEW_GMAIL_MESSAGE",
    "trigger_id": "ti_1",
    "connected_account_id": "ca_1",
    "user_id": "user-1",
}
EXPIRED = "composio.connected_account.expired"


def as_object(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return a JSON object of these members, some of which may have the same name."""
    return b"{" + b",".join(b'"%s":%s' % pair for pair in pairs) + b"}"


# what may stand where a text should
VALUES = [
    b'"ca_1"', b'"composio.trigger.message"', b'"composio.trigger.disabled"', b'""', b"null", b"1", b"true", b"[]",
    b"NaN", b"{}",
    b'"\\u0000x"', b'"\\ud83d"', b'"' + b"a" * 300 + b'"', b'"\xff"', b'"' + "\U0001f510".encode() * 257 + b'"',
]  # fmt: skip
KEYS = [*(name.encode() for name in METADATA), b"more"]
PAIRS = st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES))
TOP = st.tuples(
    st.sampled_from([b"id", b"type", b"timestamp", b"data", b"metadata", b"more"]),
    st.one_of(st.sampled_from(VALUES), st.lists(PAIRS, max_size=7).map(as_object)),
)


def v3(data: bytes = b"{}", kind: str = "composio.trigger.message", **metadata: Any) -> bytes:
    """Return a V3 body with raw data and some metadata changed."""
    known = json.dumps(METADATA | metadata)
    return b'{"id":"msg_1","type":"%s","metadata":%s,"data":%s}' % (kind.encode(), known.encode(), data)


def v2(data: bytes) -> bytes:
    """Return a V2 body with raw members in its data."""
    return b'{"type":"slack_receive_message","timestamp":"t","data":{"connection_id":"u",%s}}' % data


def ids(event: Event) -> tuple[str | None, ...]:
    """Return the ids in the order in which the tests name them."""
    return (event.connected_account_id, event.user_id)


@pytest.mark.parametrize("vector", SIGNED, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    """Where a vector gives the event, that is what is read; a known shape has a slug."""
    event = parse(BODIES[vector["name"]])
    known = vector["expect"]["parse"] == "ok"
    assert known == (event.slug is not None)
    for name in ("connected_account_id", "user_id"):
        assert vector["expect"].get("event", {}).get(name, getattr(event, name)) == getattr(event, name)
    assert vector["expect"].get("event", {}).get("trigger_slug", event.slug) == event.slug


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("v3_gmail_ok", '{"attachment_list":[{"attachmentId":"ANGj'),
        ("v2_gmail_ok", '{"attachment_list":[{"attachmentId":"ANGj'),
        ("v1_github_ok", '{"author":"octocat","id":"7638'),
        ("not_json", "hello"),
    ],
)
def test_data_text_of_vectors(name: str, start: str) -> None:
    """The text is the raw data, and the body where there is none."""
    assert parse(BODIES[name]).data_text.startswith(start)


def test_trigger_disabled() -> None:
    """The type stands in for the slug, and the ids are in data."""
    event = parse(BODIES["v3_trigger_disabled"])
    assert event.slug == "composio.trigger.disabled"
    assert ids(event) == ("ca_cATYssZ5RrSc", "user-123")
    assert "connection_expired" in event.data_text


def test_connected_account_expired() -> None:
    """The account is data.id, and what is shown of it says why it expired."""
    event = parse(BODIES["v3_connected_account_expired"])
    assert event.slug == EXPIRED
    assert ids(event) == ("ca_a1b2c3d4", "user-123")
    assert "Permanent auth error" in event.data_text
    assert json.loads(event.data_text)["toolkit"] == {"slug": "gmail"}


@pytest.mark.parametrize(
    "body",
    [
        v3(b'{"id":"ca_1","state":{"val":{"access_token":"ya29.hot"}}}', EXPIRED),
        v3(b'{"state":1,"st\\u0061te":{"val":"ya29.hot"},"data":"ya29.hot","params":"ya29.hot"}', EXPIRED),
        v3(b'{"state":{"val":"ya29.hot \\ud83d"}}', EXPIRED),
        v3(b'{"state":"ya29.hot"}', "composio.connected_account.refreshed"),
        v3(b'"ya29.hot"', EXPIRED),
        v3(b'{"state":"ya29.hot"}', "composio.connected_account.expired\\u0000"),
        v3(b'{"state":"ya29.hot"}', EXPIRED).replace(b'"metadata"', b'"meta"'),
        v3(b'{"state":"ya29.hot","n":NaN}', EXPIRED),
        v3(b'{"state":"ya29.hot","connection_id":"u"}', EXPIRED).replace(
            b'"metadata"', b'"timestamp":"t","metadata":1,"x"'
        ),
    ],
)
def test_tokens_of_an_account_are_not_shown(body: bytes) -> None:
    """However an account's event is broken, its state is nowhere in the text."""
    assert b"ya29.hot" in body
    assert "ya29.hot" not in repr(parse(body)) + parse(body).data_text


def test_an_account_with_few_members() -> None:
    """What an account does not have is not in the text, which stays JSON."""
    event = parse(v3(b'{"id": "ca_9","state":{},"status":"EXPIRED"}', EXPIRED))
    assert event.data_text == '{"id":"ca_9","status":"EXPIRED"}'


def test_an_undocumented_event() -> None:
    """Any other composio.* event is known by its type, with the ids of its metadata."""
    event = parse(v3(kind="composio.toolkit.sunset"))
    assert event.slug == "composio.toolkit.sunset"
    assert ids(event) == ("ca_1", "user-1")


@pytest.mark.parametrize("wrong", [None, 7, 10**400, 1.5, True, [], {}, ["ca_1"], {"a": "b"}])
def test_ids_of_another_type(wrong: object) -> None:
    """An id that is no string is None, and the rest is read all the same."""
    event = parse(v3(connected_account_id=wrong, user_id=wrong))
    assert event.slug == "GMAIL_NEW_GMAIL_MESSAGE"
    assert ids(event) == (None, None)


def test_v3_without_a_slug() -> None:
    """A trigger message that does not name its trigger has no slug, and keeps its ids."""
    event = parse(v3(trigger_slug=5))
    assert event.slug is None
    assert ids(event) == ("ca_1", "user-1")


def test_v2_ids() -> None:
    """V2's ids are the nano ids among its data."""
    data = b'"connection_nano_id":"ca_2","user_id":"u2"'
    event = parse(v2(data))
    assert event.slug == "SLACK_RECEIVE_MESSAGE"
    assert ids(event) == ("ca_2", "u2")


def test_v2_hostile_ids() -> None:
    """V2's ids share their object with what a stranger wrote: wrong ones are None."""
    event = parse(v2(b'"connection_nano_id":1e9999,"user_id":"\xff"'))
    assert event.slug == "SLACK_RECEIVE_MESSAGE"
    assert ids(event) == (None, None)


def test_ids_are_bounded_and_free_of_nul() -> None:
    """An id is cut at 256 characters, loses its NULs, and keeps every other character."""
    assert ids(parse(v3(connected_account_id="x" * 300, user_id="a\0b"))) == ("x" * 256, "ab")
    assert ids(parse(v3(connected_account_id="\U0001f510 '\"\n", user_id="\0"))) == ("\U0001f510 '\"\n", "")


def test_an_upper_case_that_grows() -> None:
    """A slug that is longer in upper case is still bounded."""
    assert parse(v2(b'"a":1').replace(b"slack_receive_message", b"\xc3\x9f" * 200)).slug == "S" * 256


@pytest.mark.parametrize(
    "data",
    [
        b'"cut \\ud83d"',
        b'"cut \\ude00 in the middle of it all"',
        b'"\\ud83d\\ud83d\\ude00"',
        b'"\\ud83dA\\uDE00\\uD83D\\uDE00\\ude00"',
        b'"\\\\\\ud83d"',
        b'{"key \\uDBFF":1}',
        b'"\xed\xa0\x80\xff\xc3"',
        b'"\\u0000"',
        b"1e999999",
        b"9" * 5000,
        b'{"a":1,"a":2}',
    ],
)
def test_data_that_postgres_refuses(data: bytes) -> None:
    """Half an emoji, a NUL or a huge number in the data must not cost the event its slug."""
    event = parse(v3(data))
    assert (event.slug, event.user_id) == ("GMAIL_NEW_GMAIL_MESSAGE", "user-1")


@pytest.mark.parametrize(
    "data", [b'"\\\\ud83d"', b'"\\\\\\\\ud83d"', b'"\\ud83d\\ude00"', b'"\\\\\\ud83d\\ude00"', b'"ud83d"']
)
def test_whole_text_is_left_alone(data: bytes) -> None:
    """Beside half an emoji, a whole one and an escaped backslash before 'ud83d' stay as they are."""
    event = parse(v3(b'["\\ud83d",' + data + b"]"))
    assert event.data_text == '["\\ufffd",' + data.decode() + "]"


def test_byte_order_mark() -> None:
    """A byte order mark before the object is forgiven."""
    assert parse(b"\xef\xbb\xbf" + v3()).slug == "GMAIL_NEW_GMAIL_MESSAGE"


def test_duplicate_keys() -> None:
    """The last of two equal keys counts, as in Composio's SDKs and in Postgres."""
    assert parse(v3().replace(b'"id":', b'"data":"first","id":')).data_text == "{}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\xff\xfe{\0}\0",
        b"null",
        b"[]",
        b'"composio."',
        b"NaN",
        b"{}",
        b"{",
        b"\xef\xbb\xbf",
        b'{"type":"composio.trigger.message","metadata":"x","id":"1","data":{}}',
        b'{"type":"composio.trigger.message","metadata":{},"id":"1"}',
        b'{"type":"composio.trigger.message","metadata":{},"data":{}}',
        b'{"type":["composio.trigger.message"],"metadata":{},"id":"1","data":{}}',
        b'{"type":"gmail","timestamp":"t","data":{}}',
        b'{"type":"gmail","timestamp":"t","data":"connection_id"}',
        b'{"type":"gmail","data":{"connection_id":"u"}}',
        b'{"trigger_name":"x","connection_id":"c","trigger_id":"t"}',
        b'{"trigger_name":1,"connection_id":"c","trigger_id":"t","payload":{}}',
        v3(b'{"n":NaN}'),
        v3(b"{}") + b"x",
        v3(b"[" * 100_000 + b"]" * 100_000),
        v2(b'"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        b'{"data":' * 100_000,
        b"[" * 100_000,
        b"\\" * 100_001,
        b'"' + b"\\ud83d" * 10_000,
    ],
)
def test_unknown_shapes(body: bytes) -> None:
    """What is no JSON, no known shape or too deep has no slug, and shows how the body begins."""
    shown = body[:4000].decode(errors="replace").replace("\0", "\ufffd")[:1000]
    assert Event(data_text=shown) == parse(body)


@pytest.mark.parametrize("data", [b'"\0\xff\xed\xa0\x80', b'"\xf0\x9f\x94\x90' * 999, b"\xff" * 5000, b"\0" * 5000])
def test_text_can_be_stored(data: bytes) -> None:
    """The text is at most 1,000 characters that UTF-8 can encode, without NUL."""
    for body in (data, v3(data)):
        text = parse(body).data_text
        assert "\0" not in text
        assert 0 < len(text.encode().decode()) <= 1000


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(TOP, max_size=3), st.lists(PAIRS, max_size=4), st.sampled_from([b"", b"x", b" "]))
def test_the_quick_way_reads_as_the_patient_one(
    more: list[tuple[bytes, bytes]], ids: list[tuple[bytes, bytes]], after: bytes
) -> None:
    """Whatever stands in a message, it is the same event as without the short cut."""
    known = [(name.encode(), b'"%s"' % value.encode()) for name, value in METADATA.items()]
    usual = [
        (b"id", b'"msg_1"'), (b"type", b'"composio.trigger.message"'), (b"metadata", as_object([*known, *ids])),
        (b"data", b"{}"),
    ]  # fmt: skip
    for body in (as_object([*usual, *more]) + after, b"\xef\xbb\xbf" + as_object([*usual[:2], *more])):
        with patch.object(composio, "_MESSAGE_BYTES", -1):
            patient = parse(body)
        assert patient == parse(body)


def test_text_is_cut_between_characters() -> None:
    """The thousandth character is whole, however many bytes each has."""
    assert parse(v3(b'"' + "\U0001f510".encode() * 2000 + b'"')).data_text == '"' + "\U0001f510" * 999


def test_any_bytes() -> None:
    """Whatever byte is flipped in whichever body, something is read."""
    for body in BODIES.values():
        for at in range(len(body)):
            for byte in (0x00, 0x22, 0x5C, 0x7D, 0xFF):
                assert len(parse(body[:at] + bytes([byte]) + body[at + 1 :]).data_text) <= 1000
            assert parse(body[:at]).slug is None


@pytest.mark.parametrize(
    "body",
    [
        v3(b'{"k":[' + b'{"a":1},' * 250_000 + b"0]}"),
        v3(b'"' + b"\\\\" * 1_000_000 + b'\\ud83d"'),
        v3(b'"' + b"\\ud83d" * 333_000 + b'"'),
        v3(b'"' + b"\\ud83d\\ude00" * 166_000 + b'\\ud83d"'),
        v3(user_id="x" * 2_000_000 + "\U0001f510"),
        v3(b'{"k":[' + b'{"a":1},' * 250_000 + b"0]}", EXPIRED),
        v2(b'"k":[' + b"[]," * 666_000 + b"0]"),
        b"\xef\xbb\xbf" + b"[" * 2_000_000,
    ],
    ids=["members", "backslashes", "halves", "emoji", "long id", "account", "v2", "deep"],
)
def test_memory(body: bytes) -> None:
    """A body of 2 MB is read in less than four times its size."""
    tracemalloc.start()
    parse(body)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * len(body)


@pytest.mark.parametrize("slug", ["GMAIL_NEW_GMAIL_MESSAGE", "composio.trigger.disabled", "a", "1-b", "A" * 128])
def test_safe_slug(slug: str) -> None:
    """A slug that is a name stays as it is."""
    assert slug == safe_slug(slug)


@pytest.mark.parametrize(
    "slug", [None, "", "_A", ".A", "-A", "A B", "A\n", "A\0", "\u00c4", "A/B", "A;B", "A" * 129, "\u0661"]
)
def test_unsafe_slug(slug: str | None) -> None:
    """One that could carry words to the agent becomes the job's general type."""
    assert safe_slug(slug) == "composio_trigger"
