"""Sends a vault signed deliveries as Composio does, to try an installation without a mail or a commit."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final
from uuid import uuid4

import aiohttp
import msgspec

from vault.signature import sign

_TIMEOUT_S: Final = 30.0

_GMAIL: Final[dict[str, Any]] = {
    "attachment_list": [],
    "label_ids": ["UNREAD", "INBOX"],
    "message_id": "19b4f0c2a1d3e5f7",
    "message_text": "Hi,\n\nthe invoice for May is ready. Can you pay it by Friday?\n\nAnn",
    "payload": {"mimeType": "text/plain", "headers": [{"name": "Subject", "value": "Invoice 42"}]},
    "preview": {"subject": "Invoice 42", "body": "Hi, the invoice for May is ready."},
    "sender": "Ann <ann@example.com>",
    "subject": "Invoice 42",
    "thread_id": "19b4f0c2a1d3e5f7",
    "to": "me@example.com",
}
_GITHUB: Final[dict[str, Any]] = {
    "author": "octocat",
    "id": "7638417db6d59f3c431d3e1f261cc637155684cd",
    "message": "Fix typo in README",
    "url": "https://github.com/octocat/Hello-World/commit/7638417db6d59f3c431d3e1f261cc637155684cd",
}
_SLACK: Final[dict[str, Any]] = {
    "bot_id": None,
    "channel": "C024BE91L",
    "channel_type": "channel",
    "team_id": "T061EG9R6",
    "text": "The build on main is green again.",
    "ts": "1767225570.000200",
    "user": "U2147483697",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery to send: its id and its raw body."""

    webhook_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the vault answered: the HTTP status, its JSON object if any, and after how many milliseconds."""

    webhook_id: str
    status: int
    answer: dict[str, Any] | None
    ms: float


class SendFailed(Exception):
    """A delivery got no answer; the message names the address and says what to do."""


def new_webhook_id() -> str:
    """Return a fresh delivery id in Composio's form."""
    return f"msg_{uuid4()}"


def sample_body(slug: str, webhook_id: str, now: float, user_id: str = "user-123") -> bytes:
    """Build the V3 body of a trigger's event at `now` in unix seconds."""
    sent_at = _iso(now)
    envelope = {
        "id": webhook_id,
        "timestamp": sent_at,
        "type": "composio.trigger.message",
        "metadata": {
            "log_id": "log_TpxVOLXYnwXZ",
            "trigger_slug": slug,
            "trigger_id": "ti_JZFoTyYKbzhB",
            "connected_account_id": "ca_cATYssZ5RrSc",
            "auth_config_id": "ac_aCYTppZ5RsRc",
            "user_id": user_id,
        },
        "data": _sample_data(slug, sent_at),
    }
    return msgspec.json.encode(envelope)


def signed_headers(secret: bytes | str, webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of a first attempt at `timestamp_s` in unix seconds."""
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": sign(secret, webhook_id, timestamp_s, body),
        "x-composio-webhook-version": "V3",
        "x-composio-delivery-attempt": "1",
    }


def sample_messages(slug: str, count: int, now: float) -> list[Message]:
    """Build `count` deliveries of a trigger's sample event, each with its own id."""
    ids = [new_webhook_id() for _ in range(count)]
    return [Message(webhook_id, sample_body(slug, webhook_id, now)) for webhook_id in ids]


def raw_messages(body: bytes, count: int) -> list[Message]:
    """Build `count` deliveries of one body as it is, each with its own id."""
    return [Message(new_webhook_id(), body) for _ in range(count)]


async def send(url: str, secret: bytes | str, messages: Iterable[Message]) -> list[Receipt]:
    """POST the deliveries one after the other; raise SendFailed at the first without an answer."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [await _send_one(session, url, secret, message) for message in messages]


async def _send_one(
    session: aiohttp.ClientSession,
    url: str,
    secret: bytes | str,
    message: Message,
) -> Receipt:
    headers = signed_headers(secret, message.webhook_id, int(time.time()), message.body)
    started = time.monotonic()
    status, answer = await _post(session, url, message.body, headers)
    return Receipt(message.webhook_id, status, _json_object(answer), (time.monotonic() - started) * 1000)


async def _post(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
) -> tuple[int, bytes]:
    # A file, for aiohttp warns of bytes above 1 MiB. A redirect is shown: following one turns POST into GET.
    request = session.post(url, data=BytesIO(body), headers=headers, allow_redirects=False)
    try:
        async with request as response:
            return response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SendFailed(_remedy(url, error)) from error


def _remedy(url: str, error: Exception) -> str:
    """Return what to do about it; aiohttp's time-outs and TLS errors are also its connection errors."""
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return f"{url} is no address: give one like http://127.0.0.1:8080/path"
        case TimeoutError():
            return f"no answer from {url} within {_TIMEOUT_S:.0f} s: look at the vault's log"
        case aiohttp.ClientSSLError():
            return f"no tls with {url}: check its certificate, or give its http address"
        case aiohttp.ClientConnectorDNSError():
            return f"nobody knows the name in {url}: check its spelling"
        case aiohttp.ClientConnectorError():
            return f"nothing listens at {url}: start the vault (agent-vault up, or serve)"
        case _:
            return f"{url} broke off before it answered: look at the vault's log"


def _json_object(answer: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _sample_data(slug: str, sent_at: str) -> dict[str, Any]:
    if slug == "GMAIL_NEW_GMAIL_MESSAGE":
        return {**_GMAIL, "message_timestamp": sent_at}
    if slug == "GITHUB_COMMIT_EVENT":
        return {**_GITHUB, "timestamp": sent_at}
    if slug == "SLACK_RECEIVE_MESSAGE":
        return _SLACK
    return {"id": "sample-1", "message": f"A sample event of {slug}", "timestamp": sent_at}


def _iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
