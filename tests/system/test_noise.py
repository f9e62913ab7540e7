"""Noise of every kind against the vault as a process: refused unless it is signed, and then stored as it is."""

import asyncio
import json
import socket
import time

import psycopg
from deliveries import GMAIL, WEBHOOK, rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import CLOSING, HEADS, both_parsers, request


def exchange(port: int, sent: bytes) -> bytes:
    """Send these bytes, say that there are no more, and return what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        one.sendall(sent)
        answer = b""
        while piece := one.recv(65536):
            answer += piece
        return answer


NOISE = st.binary(max_size=60).filter(lambda value: b"\n" not in value)
VALUE = st.one_of(
    NOISE,
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass").replace(b"\n", b"")),
    st.sampled_from(
        [b"v1,", b"v1, v1,", str(int(time.time())).encode(), b"chunked", b"identity", b"0", b"100-continue"]
    ),
)
NAME = st.one_of(
    st.sampled_from([name.encode() for name in (*HEADS, "Transfer-Encoding", "Content-Encoding", "Expect", "Upgrade")]),
    st.binary(min_size=1, max_size=20),
)


@both_parsers
async def test_any_header_bytes(port: int, database: psycopg.Connection) -> None:
    """Whatever stands in headers and body, the answer is a refusal of theirs, and never a fault of ours."""

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(NAME, VALUE), max_size=6), st.binary(max_size=200))
    def refused(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        lines = [b"POST %s HTTP/1.1" % WEBHOOK.encode(), b"Host: x", b"Connection: close"]
        lines += [name + b": " + value for name, value in headers] + [b"Content-Length: %d" % len(body)]
        answer = exchange(port, b"\r\n".join(lines) + b"\r\n\r\n" + body)
        last = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert last[9:12] in {b"400", b"401", b"413", b"415", b"417"}

    await asyncio.to_thread(refused)
    assert [] == rows(database, "agent_learnings")


@both_parsers
async def test_any_bytes(port: int) -> None:
    """What is no HTTP at all is refused too; empty lines alone may come before a request, and are waited on."""

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.binary(min_size=1, max_size=300)
        .map(lambda noise: noise.replace(b"\n", b""))
        .filter(lambda noise: noise.strip(b"\r"))
    )
    def refused(noise: bytes) -> None:
        answer = exchange(port, noise + b"\r\n\r\n")
        assert answer[9:12] in {b"400", b"404", b"505"}

    await asyncio.to_thread(refused)


async def test_any_signed_body(port: int, database: psycopg.Connection) -> None:
    """Whatever Composio signs is stored byte for byte, and wakes."""
    sent: set[bytes] = set()
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
    known = {"id": "msg_1", "type": "composio.trigger.message", "metadata": {"trigger_slug": GMAIL}, "data": {}}
    shaped = st.builds(lambda name, value: dumps(known | {name: value}), st.sampled_from([*known]), values)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(min_size=1, max_size=300), values.map(dumps), shaped))
    def stored(body: bytes) -> None:
        sent.add(body)
        assert exchange(port, request(body, CLOSING)).startswith(b"HTTP/1.1 200 OK\r\n")

    await asyncio.to_thread(stored)
    found = rows(database, "agent_learnings")
    assert sent == {bytes(row["raw_body"]) for row in found}
    assert {row["id"] for row in found} == {row["learning_id"] for row in rows(database, "jobs")}


def dumps(value: object) -> bytes:
    """Return a value as JSON in the manner of Python: NaN and lone halves of surrogates too."""
    return json.dumps(value).encode()
