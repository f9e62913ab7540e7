"""Requests byte by byte against the vault as a process: what two parsers could read differently, and noise."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from deliveries import GMAIL, KEY, SECRET, WEBHOOK, rows, sample, say
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Program, run
from strangers import request

from vault.sender import signed_headers

BODY = sample()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKS = "Transfer-Encoding: chunked"
CLOSING = "Connection: close"
HEADS = ("webhook-id", "webhook-timestamp", "webhook-signature")
CANARY = b"canary7f3a"


@pytest.fixture
async def port(dsn: str, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a vault that runs, of which no request is a fault of its own."""
    config = tmp_path / "vault.toml"
    config.touch()
    env = {
        "DATABASE_URL": dsn,
        "COMPOSIO_WEBHOOK_SECRET": f"another,{SECRET}",
        "AGENT_EDGE_KEY": KEY,
        "VAULT_PORT": "0",
        "VAULT_CONFIG": str(config),
    }
    async with run("vault", "serve", env=env, home=tmp_path) as program:
        yield (await program.event("vault_listening"))["port"]
        await check_faultless(program)


async def check_faultless(program: Program) -> None:
    """Fail where the vault logged a fault of its own, or does not end as it should."""
    assert 0 == await program.stop()
    assert [] == [event for event in program.events if event["event"] in {"http_failed", "uncaught_exception"}]


def signed(*more: str, body: bytes = BODY, **changed: str) -> bytes:
    """Return a delivery signed for BODY with more header lines and another body on the wire."""
    return request(BODY, *more, **changed)[: -len(BODY)] + body


def without_date(answer: bytes) -> bytes:
    """Return an answer less what the clock puts in."""
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


AMBIGUOUS = {
    "both lengths": signed(LENGTH, CHUNKS, body=CHUNKED),
    "both lengths, the other way": signed(CHUNKS, LENGTH, body=CHUNKED),
    "two lengths": signed(LENGTH, "Content-Length: 0"),
    "one length twice": signed(LENGTH, LENGTH),
    "a list of lengths": signed(f"{LENGTH}, {len(BODY)}"),
    "length with a sign": signed(f"Content-Length: +{len(BODY)}"),
    "length below zero": signed("Content-Length: -1"),
    "length in hex": signed(f"Content-Length: {len(BODY):#x}"),
    "length that overflows": signed("Content-Length: " + "9" * 30),
    "length that is empty": signed("Content-Length:"),
    "space before the colon": signed(f"Content-Length : {len(BODY)}"),
    "folded line": signed("X-More: a", " b"),
    "folded first line": signed("\tX-More: a"),
    "nul in a value": signed("X-More: a\0b"),
    "nul in a name": signed("X\0More: a"),
    "bare carriage return": signed("X-More: a\rb"),
    "bare line feed": signed("X-More: a\nX-Other: b"),
    "only line feeds": request(BODY).replace(b"\r\n", b"\n"),
    "no colon": signed("X-More"),
    "no name": signed(": a"),
    "name in brackets": signed("X(More): a"),
    "name beyond ascii": signed("X\xe9: a"),
    "packed chunks": signed("Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "chunks that are none": signed("Transfer-Encoding: xchunked", body=CHUNKED),
    "chunks twice": signed(CHUNKS, CHUNKS, body=CHUNKED),
    "chunks and then identity": signed("Transfer-Encoding: chunked, identity", body=CHUNKED),
    "identity": signed("Transfer-Encoding: identity"),
    "vertical tab": signed("Transfer-Encoding: \x0bchunked", body=CHUNKED),
    "chunks in 1.0": signed(CHUNKS, body=CHUNKED, version="HTTP/1.0"),
    "chunk that overflows": signed(CHUNKS, body=b"FFFFFFFFFFFFFFFFF\r\nx"),
    "chunk below zero": signed(CHUNKS, body=b"-1\r\nx"),
    "chunk in 0x": signed(CHUNKS, body=b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk longer than it says": signed(CHUNKS, body=b"1\r\nxy\r\n0\r\n\r\n"),
    "chunks with line feeds": signed(CHUNKS, body=CHUNKED.replace(b"\r\n", b"\n")),
    "two hosts": signed("Host: y"),
    "no host": request(BODY).replace(b"Host: x\r\n", b""),
    "too many headers": signed(*(f"X-{n}: a" for n in range(200))),
    "a long header": signed("X-More: " + "a" * 9000),
    "space in the address": b"GET /livez /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab after the method": b"GET\t/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "nul in the address": b"GET /livez\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the address": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower case": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "address without a slash": signed(target=WEBHOOK[1:]),
}
VERSIONS = {
    "HTTP/1.2": 400, "HTTP/3.0": 400, "HTTP/1.10": 400, "HTTP/01.1": 400, "HTTP/2": 400, "HTTP/1": 400, "http/1.1": 400,
    "HTTP/0.9": 505, "HTTP/2.0": 505, "": 505,
}  # fmt: skip
UNKNOWN = [
    f"/{WEBHOOK}", f"{WEBHOOK}/", f"{WEBHOOK};x", f"{WEBHOOK}#x", WEBHOOK.upper(), f"http://x{WEBHOOK}",
    WEBHOOK.replace("/composio/", "/composio%2f"), WEBHOOK.replace("webhook", "%77ebhook"),
    WEBHOOK.replace("/composio/", "/./composio/"), WEBHOOK.replace("/composio/", "/x/../composio/"),
    "/", "/%", "/%ff%00", "/.env", "/agent-vault", "/jobs", f"/{CANARY.decode()}", "/livez",
]  # fmt: skip


async def test_ambiguous_requests(port: int, database: psycopg.Connection) -> None:
    """What another parser could take for another request is refused, ends the connection and stores nothing."""
    for name, sent in AMBIGUOUS.items():
        answer = await say(port, sent)
        assert (name, b" 400 Bad Request") == (name, answer.partition(b"\r\n")[0][8:])
        assert (name, 1) == (name, answer.count(b"HTTP/1."))
        assert answer.endswith(b'\r\n\r\n{"error": "bad request"}')
    assert [] == rows(database, "agent_learnings")


async def test_versions(port: int, database: psycopg.Connection) -> None:
    """HTTP is 1.0 or 1.1."""
    for version, status in VERSIONS.items():
        answer = await say(port, signed(version=version).replace(b" \r\n", b"\r\n", 1))
        assert (version, str(status).encode()) == (version, answer[9:12])
    assert [] == rows(database, "agent_learnings")
    for version in ("HTTP/1.0", "HTTP/1.1"):
        assert b" 200 OK\r\n" in await say(port, request(None, CLOSING, version=version))


async def test_unknown_addresses(port: int) -> None:
    """An address is good as it is spelt and no other way, and nobody learns which methods it has."""
    answers = {without_date(await say(port, request(BODY, CLOSING, target=target))) for target in UNKNOWN}
    for method in ("GET", "PUT", "OPTIONS", "TRACE", "PROPFIND"):
        head = f"{method} {WEBHOOK} HTTP/1.1\r\nHost: x\r\n{CLOSING}\r\n\r\n"
        answers.add(without_date(await say(port, head.encode())))
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b'\r\n\r\n{"error": "not found"}')


async def test_one_answer_for_whatever_is_wrong_with_a_signature(port: int, database: psycopg.Connection) -> None:
    """Nobody learns what was wrong, nor sees again what was sent."""
    now = int(time.time())
    good = signed_headers(SECRET, "msg_1", now, BODY)
    wrong = [
        good | {"webhook-id": CANARY.decode()}, good | {"webhook-timestamp": str(now - 400)},
        good | {"webhook-timestamp": str(now + 400)}, good | {"webhook-timestamp": "x"},
        good | {"webhook-signature": "v1,x"},
        good | {"webhook-signature": " ".join([good["webhook-signature"]] * 9)},
        good | {"webhook-signature": good["webhook-signature"] + "\r\nwebhook-signature: " + good["webhook-signature"]},
        signed_headers(CANARY, "msg_1", now, BODY), {}, *({k: v for k, v in good.items() if k != one} for one in HEADS),
    ]  # fmt: skip
    answers = set()
    for headers in wrong:
        lines = [f"POST {WEBHOOK} HTTP/1.1", "Host: x", LENGTH, CLOSING, *(f"{k}: {v}" for k, v in headers.items())]
        answers.add(without_date(await say(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + BODY)))
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert answer.endswith(b'\r\n\r\n{"error": "invalid signature"}')
    assert [] == rows(database, "agent_learnings")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Encoding: gzip", 415),
        ("Content-Encoding: br", 415),
        ("Content-Encoding: identity, gzip", 415),
        ("Content-Encoding: identity\r\nContent-Encoding: gzip", 415),
        ("Content-Encoding: ", 415),
        ("content-encoding: Identity", 200),
        ("Content-Length: 33554433", 413),
        ("webhook-signature: v1,x", 401),
        ("Expect: canary7f3a", 417),
    ],
)
async def test_headers_are_enough_to_be_refused(port: int, line: str, status: int) -> None:
    """Whatever its headers refuse, the body is not waited for; and what is packed stays so."""
    body = BODY if status == 200 else b""
    answer = await say(port, signed(line, CLOSING, body=body) if status != 413 else signed(line, body=body))
    assert str(status).encode() == answer[9:12]
    assert CANARY not in answer


async def test_forwarded_headers_mean_nothing(port: int) -> None:
    """No header names another client: none of X-Forwarded-For and its kin is read."""
    for line in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: ::1", "X-Original-URL: /livez"):
        assert (await say(port, signed(line, "X-HTTP-Method-Override: GET", CLOSING)))[9:12] == b"200"


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


async def test_any_bytes(port: int) -> None:
    """What is no HTTP at all is refused too, or waited for until it hangs up."""

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(min_size=1, max_size=300))
    def refused(noise: bytes) -> None:
        answer = exchange(port, noise.replace(b"\n", b"") + b"\r\n\r\n")
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
