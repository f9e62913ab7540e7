"""The sender does what Composio does: its deliveries verify and parse, and its failures say what to do."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from deliveries import verify

from vault import sender
from vault.composio import parse
from vault.sender import Message, SendFailed, raw_messages, sample_body, sample_messages, send, signed_headers

SECRET = "whsec_test"
NOW = 1767225600.25
PATH = "/agent-vault/composio/webhook"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve(aiohttp_server: Callable[[web.Application], Awaitable[TestServer]]) -> Serve:
    """Return a way to serve one handler at the webhook's path, answering its URL."""

    async def start(handler: Handler) -> str:
        app = web.Application(client_max_size=8 * 1024**2)
        app.router.add_post(PATH, handler)
        return str((await aiohttp_server(app)).make_url(PATH))

    return start


async def verified(request: web.Request) -> web.Response:
    """Answer like the vault for what is signed."""
    body = await request.read()
    delivery = verify(request.headers, body, [SECRET], time.time())
    return web.json_response({"ok": True, "learning_id": delivery.webhook_id, "body_bytes": len(body)})


async def nothing_to_say(_request: web.Request) -> web.Response:
    """Answer with what is no object."""
    return web.Response(status=503, text="[busy]")


async def redirect(_request: web.Request) -> web.Response:
    """Answer with another address."""
    return web.Response(status=302, headers={"location": "http://127.0.0.1:9/"})


async def hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("slug", "key"),
    [
        ("GMAIL_NEW_GMAIL_MESSAGE", "message_text"),
        ("GITHUB_COMMIT_EVENT", "author"),
        ("SLACK_RECEIVE_MESSAGE", "channel"),
        ("ONE_DRIVE_FILE_CREATED", "message"),
    ],
)
def test_sample_body(slug: str, key: str) -> None:
    """A sample is a V3 delivery with the trigger's own fields."""
    body = sample_body(slug, "msg_1", NOW, user_id="user-7")
    event = parse(body)
    assert (event.slug, event.user_id) == (slug, "user-7")
    envelope = json.loads(body)
    assert (envelope["id"], envelope["timestamp"]) == ("msg_1", "2026-01-01T00:00:00.250Z")
    assert key in envelope["data"]


def test_signed_headers() -> None:
    """The headers are those of Composio's first attempt, and the signature is good."""
    headers = signed_headers(SECRET, "msg_1", 1767225600, b"body")
    assert verify(headers, b"body", [SECRET], NOW).attempt == 1
    assert headers["x-composio-webhook-version"] == "V3"
    assert headers["content-type"] == "application/json"


def test_each_message_has_its_own_id() -> None:
    """A sample's id is in its body too; a raw body is not touched."""
    samples = sample_messages("X_Y", 3, NOW)
    assert [json.loads(message.body)["id"] for message in samples] == [one.webhook_id for one in samples]
    raw = raw_messages(b"\xff", 3)
    assert [message.body for message in raw] == [b"\xff"] * 3
    assert len({message.webhook_id for message in samples + raw}) == 6
    assert all(message.webhook_id.startswith("msg_") for message in samples + raw)


async def test_send(serve: Serve) -> None:
    """Every delivery is sent, verifies, and gives a receipt in order."""
    messages = sample_messages("GMAIL_NEW_GMAIL_MESSAGE", 3, NOW)
    receipts = await send(await serve(verified), SECRET, messages)
    assert [message.webhook_id for message in messages] == [receipt.webhook_id for receipt in receipts]
    for receipt in receipts:
        assert receipt.status == 200
        assert receipt.answer is not None
        assert receipt.webhook_id == receipt.answer["learning_id"]
        assert receipt.ms > 0


async def test_a_large_body(serve: Serve) -> None:
    """A newsletter of 3 MB arrives whole."""
    [receipt] = await send(await serve(verified), SECRET, raw_messages(b"x" * 3_000_000, 1))
    assert receipt.answer is not None
    assert receipt.answer["body_bytes"] == 3_000_000


@pytest.mark.parametrize(("status", "handler"), [(503, nothing_to_say), (302, redirect)])
async def test_other_answers(serve: Serve, status: int, handler: Handler) -> None:
    """An answer that is no 200 and no object is a receipt all the same, and a redirect is not followed."""
    [receipt] = await send(await serve(handler), SECRET, [Message("msg_1", b"{}")])
    assert (receipt.status, receipt.answer) == (status, None)


async def failure(url: str) -> str:
    """Return the message of a send that fails."""
    with pytest.raises(SendFailed) as caught:
        await send(url, SECRET, [Message("msg_1", b"{}")])
    return str(caught.value)


async def test_nothing_listens() -> None:
    """A closed port is named, with what to start."""
    with socket.socket() as bound:  # bound but not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}{PATH}"
        assert await failure(url) == f"nothing listens at {url}: start the vault (agent-vault up, or serve)"


@pytest.mark.parametrize("url", ["", "vault", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/"])
async def test_no_address(url: str) -> None:
    """What is no http address is said so."""
    assert await failure(url) == f"{url} is no address: give one like http://127.0.0.1:8080/path"


async def test_hang_up(serve: Serve) -> None:
    """A vault that breaks off is told from one that is not there."""
    assert "broke off before it answered" in await failure(await serve(hang_up))


async def test_no_tls(serve: Serve) -> None:
    """An https address of a plain server is said so."""
    assert "no tls with https://" in await failure((await serve(verified)).replace("http:", "https:"))


async def test_no_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that does not answer in time is said so."""
    done = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await done.wait()
        return web.Response()

    monkeypatch.setattr(sender, "_TIMEOUT_S", 0.05)
    message = await failure(await serve(wait))
    done.set()
    assert message.startswith("no answer from http://127.0.0.1")
