"""Connections of somebody who means no good: held open, dripping, or in the wrong form."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable

import pytest
from aiohttp import http_parser
from deliveries import SECRET, WEBHOOK, sample

from vault.sender import new_webhook_id, signed_headers

CLOSING = "Connection: close"
HEADS = ("webhook-id", "webhook-timestamp", "webhook-signature")

# a platform for which aiohttp has no wheel gets its parser in Python, which differs from the one in C
IN_PYTHON = {"AIOHTTP_NO_EXTENSIONS": "1", "VAULT_BODY_TIMEOUT_S": "2"}
HAS_C = http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
both_parsers = pytest.mark.parametrize(
    "port", [*([{}] * HAS_C), IN_PYTHON], indirect=True, ids=[*["c"] * HAS_C, "python"]
)

Stranger = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(body: bytes | None = None, *more: str, target: str = WEBHOOK, version: str = "HTTP/1.1") -> bytes:
    """Return a signed delivery byte by byte, with more header lines if there are any."""
    body = sample() if body is None else body
    headers = signed_headers(SECRET, new_webhook_id(), int(time.time()), body)
    lines = [f"POST {target} {version}", "Host: x", *(f"{name}: {value}" for name, value in headers.items()), *more]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in more):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def connections(port: int, count: int, first: bytes = b"") -> AsyncIterator[list[Stranger]]:
    """Hold so many connections open, each of which has said this much."""
    strangers: list[Stranger] = []
    try:
        for _ in range(count):
            strangers.append(await asyncio.open_connection("127.0.0.1", port))
            strangers[-1][1].write(first)
        yield strangers
    finally:
        for _, writer in strangers:
            writer.transport.abort()


async def drip(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    """Send piece after piece, with a little time between two, until the other end hangs up."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)  # not a wait for anything: slowness is what is tested


async def hung_up(reader: asyncio.StreamReader) -> bytes:
    """Wait until the other end hangs up, and return what it said."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 60)
    return b""
