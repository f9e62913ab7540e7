"""Signed 2 KB webhooks over connections that stay open: a process of its own that costs as little as it can.

Each connection sends its next delivery as soon as the last one is answered. What it sends was signed before: the server
and Postgres have the processors for themselves. Whoever outruns that has the rest signed while the answer is under way.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from bench.loops import run
from bench.stage import percentile

SECRET = "a-secret-of-the-bench"
BODY_BYTES = 2048
WARM_S = 0.5
SIGNED_A_SECOND = 6000  # of 2.5 KB each
PATIENCE_S = 10.0


def body(webhook_id: str) -> bytes:
    """Build a Gmail trigger's V3 envelope of about 2 KB."""
    envelope = {
        "id": webhook_id,
        "timestamp": "2026-06-01T12:00:00.000Z",
        "type": "composio.trigger.message",
        "metadata": {
            "log_id": "log_TpxVOLXYnwXZ",
            "trigger_slug": "GMAIL_NEW_GMAIL_MESSAGE",
            "trigger_id": "ti_JZFoTyYKbzhB",
            "connected_account_id": "ca_cATYssZ5RrSc",
            "auth_config_id": "ac_aCYTppZ5RsRc",
            "user_id": "user-123",
        },
        "data": {"message_id": "19b4f0c2a1d3e5f7", "subject": "Invoice 42", "message_text": ""},
    }
    short = BODY_BYTES - len(json.dumps(envelope))
    envelope["data"]["message_text"] = ("lorem ipsum dolor sit amet " * 80)[:short]
    return json.dumps(envelope).encode()


_TEMPLATE = body("%ID%")


def request(port: int) -> bytes:
    """Build a signed request, with an id that nobody has used."""
    webhook_id = f"msg_{uuid.uuid4()}"
    content = _TEMPLATE.replace(b"%ID%", webhook_id.encode())
    now = str(int(time.time()))
    mac = hmac.digest(SECRET.encode(), f"{webhook_id}.{now}.".encode() + content, hashlib.sha256)
    return (
        f"POST /composio/webhook HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"webhook-id: {webhook_id}\r\nwebhook-timestamp: {now}\r\n"
        f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\nx-composio-webhook-version: V3\r\n"
        f"x-composio-delivery-attempt: 1\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content


@contextlib.asynccontextmanager
async def sending(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give a call that sends one, which was signed before, over a connection that stays open; it raises unless 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    following = [request(port)]

    async def send_one() -> None:
        writer.write(following.pop())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        if b" 200 " not in head[:15]:
            raise AssertionError(f"the server answered {head.decode()}")
        following.append(request(port))

    yield send_one
    writer.close()


class Sender(asyncio.Protocol):
    """One connection, one delivery after the other."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._next = load.next_request()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._next)
        self._next = self._load.next_request()

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = self._buffer[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._buffer) < end + 4 + int(length or 0):
            return
        status, self._buffer = self._buffer[9:12].decode(), b""
        self._load.answered(self._began, status)
        if self._load.going:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Count a connection that ended under a delivery, and come again as Composio would."""
        if self._load.going:
            self._load.answered(self._began, "none")
            self._load.again()


class Load:
    """All connections, and what they were answered."""

    def __init__(self, port: int, signed: int) -> None:
        self.port = port
        self._signed = [request(port) for _ in range(signed)]
        self.going = True
        self.counts_from = float("inf")
        self.ms: list[float] = []
        self.statuses: Counter[str] = Counter()
        self._coming: set[asyncio.Task[None]] = set()

    def next_request(self) -> bytes:
        """Return one that nobody has sent."""
        return self._signed.pop() if self._signed else request(self.port)

    def answered(self, began: float, status: str) -> None:
        """Count an answer, once warm."""
        now = time.perf_counter()
        if self.going and began >= self.counts_from:
            self.ms.append((now - began) * 1000)
            self.statuses[status] += 1

    async def connect(self) -> None:
        """Open a connection, which goes on by itself."""
        loop = asyncio.get_running_loop()
        while self.going:
            with contextlib.suppress(OSError):
                await asyncio.wait_for(loop.create_connection(lambda: Sender(self), "127.0.0.1", self.port), PATIENCE_S)
                return
            await asyncio.sleep(0.05)

    def again(self) -> None:
        """Open another connection for one that was lost."""
        task = asyncio.get_running_loop().create_task(self.connect(), name="connect")
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)


async def send(port: int, connections: int, seconds: float) -> None:
    """Send for so long, and print what came of it as JSON."""
    load = Load(port, int(seconds * SIGNED_A_SECOND))
    await asyncio.gather(*(load.connect() for _ in range(connections)))
    await asyncio.sleep(WARM_S)
    load.counts_from = time.perf_counter()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - load.counts_from
    load.going = False
    good = sum(times for status, times in load.statuses.items() if status.startswith("2"))
    ms = load.ms or [PATIENCE_S * 1000]
    told = {"rate": good / took_s, "p50": percentile(ms, 50), "p99": percentile(ms, 99), "statuses": load.statuses}
    print(json.dumps(told))


if __name__ == "__main__":
    run(send(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
