"""Requests byte by byte against the vault as a process: what is refused, and that its answer tells nothing."""

import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import psycopg
import pytest
from deliveries import SECRET, WEBHOOK, rows, sample, say
from strangers import CLOSING, HEADS, both_parsers
from strangers import request as delivery

from vault.sender import signed_headers

BODY = sample()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKS = "Transfer-Encoding: chunked"
CANARY = b"canary7f3a"
CRLF = b"\r\n"


def signed(*more: str, body: bytes = BODY, **changed: str) -> bytes:
    """Return a delivery signed for BODY with more header lines and another body on the wire."""
    return delivery(BODY, *more, **changed)[: -len(BODY)] + body


def without_date(answer: bytes) -> bytes:
    """Return an answer less what the clock puts in."""
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


def head_lines(answer: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and values of an answer's headers."""
    lines = answer.partition(CRLF * 2)[0].split(CRLF)[1:]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def ambiguous() -> dict[str, bytes]:
    """Return requests that two parsers may read differently, by name; signed now, for a signature lasts minutes."""
    return {
        "both lengths": signed(LENGTH, CHUNKS, body=CHUNKED),
        "both lengths, the other way": signed(CHUNKS, LENGTH, body=CHUNKED),
        "two lengths": signed(LENGTH, "Content-Length: 0"),
        "one length twice": signed(LENGTH, LENGTH),
        "a list of lengths": signed(f"{LENGTH}, {len(BODY)}"),
        "length with a sign": signed(f"Content-Length: +{len(BODY)}"),
        "length below zero": signed("Content-Length: -1"),
        "length in hex": signed(f"Content-Length: {len(BODY):#x}"),
        "length that overflows": signed("Content-Length: " + "9" * 30),
        "length beyond integers": signed("Content-Length: " + "9" * 5000),
        "length that is empty": signed("Content-Length:"),
        "space before the colon": signed(f"Content-Length : {len(BODY)}"),
        "folded line": signed("X-More: a", " b"),
        "folded first line": signed("\tX-More: a"),
        "nul in a value": signed("X-More: a\0b"),
        "nul in a name": signed("X\0More: a"),
        "bare carriage return": signed("X-More: a\rb"),
        "bare line feed": signed("X-More: a\nX-Other: b"),
        "only line feeds": delivery(BODY).replace(b"\r\n", b"\n"),
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
        "no host": delivery(BODY).replace(b"Host: x\r\n", b""),
        "too many headers": signed(*(f"X-{n}: a" for n in range(200))),
        "a long header": signed("X-More: " + "a" * 9000),
        "space in the address": b"GET /livez /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "tab after the method": b"GET\t/livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "nul in the address": b"GET /livez\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "raw bytes in the address": b"GET /\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "lower case": b"get /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "address without a slash": signed(target=WEBHOOK[1:]),
    }


# Where aiohttp's parser in Python has another answer: it counts without end, hangs up on what it cannot count, and
# takes `get` for GET. None of it is a delivery that another parser would read otherwise.
IN_PYTHON = {
    "length that overflows": b"413", "length beyond integers": b"", "chunk that overflows": b"408",
    "raw bytes in the address": b"404", "lower case": b"200",
}  # fmt: skip
VERSIONS = [
    "HTTP/1.2", "HTTP/3.0", "HTTP/1.10", "HTTP/01.1", "HTTP/2", "HTTP/1", "http/1.1", "HTTP/0.9", "HTTP/2.0", "",
]  # fmt: skip
UNKNOWN = [
    f"/{WEBHOOK}", f"{WEBHOOK}/", f"{WEBHOOK};x", f"{WEBHOOK}#x", WEBHOOK.upper(), f"http://x{WEBHOOK}",
    WEBHOOK.replace("/composio/", "/composio%2f"), WEBHOOK.replace("webhook", "%77ebhook"),
    WEBHOOK.replace("/composio/", "/./composio/"), WEBHOOK.replace("/composio/", "/x/../composio/"),
    "/", "/%", "/%ff%00", "/.env", "/agent-vault", "/jobs", f"/{CANARY.decode()}", "/livez",
]  # fmt: skip


@both_parsers
async def test_ambiguous_requests(port: int, database: psycopg.Connection, request: pytest.FixtureRequest) -> None:
    """What another parser could take for another request is refused, ends the connection and stores nothing."""
    others = IN_PYTHON if "python" in request.node.name else {}
    for name, sent in ambiguous().items():
        answer = await say(port, sent)
        assert (name, others.get(name, b"400")) == (name, answer[9:12])
        assert (name, bool(answer)) == (name, answer.count(b"HTTP/1.") == 1)
        if name not in others:
            assert answer.endswith(b'\r\n\r\n{"error":"bad request"}')
    assert [] == rows(database, "agent_learnings")


@both_parsers
async def test_versions(port: int, database: psycopg.Connection) -> None:
    """HTTP is 1.0 or 1.1; whatever else it is, the refusal is one of two."""
    for version in VERSIONS:
        answer = await say(port, signed(version=version).replace(b" \r\n", b"\r\n", 1))
        assert (version, True) == (version, answer[9:12] in {b"400", b"505"})
    assert [] == rows(database, "agent_learnings")
    for version in ("HTTP/1.0", "HTTP/1.1"):
        assert b" 200 OK\r\n" in await say(port, delivery(None, CLOSING, version=version))


async def test_answers_of_connections_that_stay_and_that_end(port: int, database: psycopg.Connection) -> None:
    """Two deliveries in one piece get two answers, alike but for what ends the connection."""
    pieces = (await say(port, delivery(None) + delivery(None, CLOSING))).split(b"HTTP/1.1 ")[1:]
    stays, ends = (dict(head_lines(piece)) for piece in pieces)
    assert {b"Connection": b"close"} == {name: ends[name] for name in ends.keys() - stays.keys()}
    for headers in (stays, ends):
        assert (b"agent-vault", b"application/json; charset=utf-8") == (headers[b"Server"], headers[b"Content-Type"])
        assert datetime.now(UTC) - parsedate_to_datetime(headers[b"Date"].decode()) < timedelta(minutes=1)
    lengths = [len(piece.partition(CRLF * 2)[2]) for piece in pieces]
    assert lengths == [int(headers[b"Content-Length"]) for headers in (stays, ends)]
    assert 2 == len(rows(database, "jobs"))


async def test_unknown_addresses(port: int) -> None:
    """An address is good as it is spelt and no other way, and nobody learns which methods it has."""
    answers = {without_date(await say(port, delivery(BODY, CLOSING, target=target))) for target in UNKNOWN}
    for method in ("GET", "PUT", "OPTIONS", "TRACE", "PROPFIND"):
        head = f"{method} {WEBHOOK} HTTP/1.1\r\nHost: x\r\n{CLOSING}\r\n\r\n"
        answers.add(without_date(await say(port, head.encode())))
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b'\r\n\r\n{"error":"not found"}')


@both_parsers
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
    assert answer.endswith(b'\r\n\r\n{"error":"invalid signature"}')
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
        ("Expect: \x80", 417),
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
