"""What an answer of the OpenClaw gateway means: pure functions from status, headers and body to a verdict."""

import errno
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import Any

import aiohttp

DETAIL_CHARS = 300
RETRY_AFTER_MAX_S = 3600.0


class Verdict(Enum):
    """What a client does about an answer."""

    ACCEPTED = "accepted"  # complete the job
    REJECTED = "rejected"  # this payload is wrong: fail the job for good
    MISCONFIGURED = "misconfigured"  # pause deliveries and say the remedy; spends no attempt
    UNAVAILABLE = "unavailable"  # starting, draining or away: retry; spends no attempt
    FAILED = "failed"  # a hook or a turn failed: spends an attempt, retry later


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's answer to one call, after its short retries.

    `detail` is at most 300 printable characters on one line, never with the token; `posts` counts the tries,
    and `event_outcome` is the gateway's `queued` or `coalesced`.
    """

    verdict: Verdict
    status: int | None = None
    detail: str = ""
    retry_after_s: float | None = None
    event_outcome: str | None = None
    posts: int = 1


_VERDICTS = {
    **dict.fromkeys((400, 413, 422), Verdict.REJECTED),
    **dict.fromkeys((401, 403, 404, 405, 407, 410, 429), Verdict.MISCONFIGURED),
    **dict.fromkeys((408, 409, 425, 502, 503, 504), Verdict.UNAVAILABLE),
}
_HOPELESS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, aiohttp.ClientSSLError)
_VERDICTS_BY_CLASS = {2: Verdict.ACCEPTED, 3: Verdict.MISCONFIGURED}

_HOOKS_OFF = (
    "no hook at {url}{path} ({status}): set hooks.enabled to true and hooks.path to {path} in openclaw.json, "
    "or set GATEWAY_HTTP_URL to the gateway"
)
_REMEDIES = {
    None: "no answer from {url} ({detail}): start the OpenClaw gateway, or set GATEWAY_HTTP_URL to where it listens",
    401: "hooks token refused by {url} (401): set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json",
    403: "request refused by {url} (403): set GATEWAY_HTTP_URL to the gateway itself, "
    "not to a proxy that adds X-Forwarded-* headers",
    404: _HOOKS_OFF,
    405: _HOOKS_OFF,
    429: "too many refused hooks tokens at {url} (429): "
    "set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json, in every client of this gateway",
}
_UNEXPECTED = "unexpected answer from {url} ({status}): set GATEWAY_HTTP_URL to the OpenClaw gateway itself"


def verdict_of(status: int) -> Verdict:
    """Judge an HTTP status; an undocumented one spends an attempt, as it may be the job's fault."""
    return _VERDICTS.get(status) or _VERDICTS_BY_CLASS.get(status // 100, Verdict.FAILED)


def remedy(answer: Answer, url: str, hooks_path: str) -> str:
    """Say in one line what a person changes to make deliveries flow again."""
    template = _REMEDIES.get(answer.status, _UNEXPECTED)
    return template.format(url=url, path=hooks_path, status=answer.status, detail=answer.detail)


def answered(status: int, body: bytes, retry_after: str | None, *, token: str, now: datetime) -> Answer:
    """Turn a whole HTTP answer into an `Answer`; the gateway's errors are often plain text."""
    text = body.decode(errors="replace")
    fields = _json_object(text)
    verdict = verdict_of(status)
    if verdict is Verdict.ACCEPTED and fields.get("ok") is not True:
        verdict = Verdict.MISCONFIGURED  # some other server, which would swallow every event with its 200
    outcome = fields.get("eventOutcome")
    return Answer(
        verdict,
        status,
        detail="" if verdict is Verdict.ACCEPTED else excerpt(_error_text(fields) or text, token),
        retry_after_s=retry_after_s(retry_after, now),
        event_outcome=excerpt(outcome, token) if isinstance(outcome, str) else None,
    )


def unanswered(error: Exception, *, token: str) -> Answer:
    """Turn a transport's error into an `Answer`: away, unless no retry can heal it (the URL, TLS)."""
    verdict = Verdict.MISCONFIGURED if isinstance(error, _HOPELESS) else Verdict.UNAVAILABLE
    return Answer(verdict, detail=excerpt(_in_words(error), token))


def _in_words(error: Exception) -> str:
    number = error.os_error.errno if isinstance(error, aiohttp.ClientConnectorError) else None
    if number is not None and number in errno.errorcode:  # aiohttp's own words speak of ssl also where there is none
        return os.strerror(number).lower()
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def probed(answer: Answer) -> Answer:
    """Judge the answer to an empty wake: `text required` is said only after token and path were right."""
    if answer.verdict is Verdict.ACCEPTED:
        return replace(answer, verdict=Verdict.MISCONFIGURED)
    if answer.verdict is not Verdict.REJECTED:
        return answer
    right = answer.status == HTTPStatus.BAD_REQUEST and "text required" in answer.detail.lower()
    return replace(answer, verdict=Verdict.ACCEPTED if right else Verdict.MISCONFIGURED)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read Retry-After, seconds or an HTTP date (RFC 9110, 10.2.3), as 0 to 3600 seconds from `now`."""
    value = (header or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)  # an asctime date has no zone and means UTC
    return min(max((aware - now).total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def excerpt(text: str, token: str) -> str:
    """Shorten foreign text to one printable line of at most 300 characters, without the token."""
    if token:
        text = text.replace(token, "[token]")  # first: a cut through the token would leave a part of it
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:DETAIL_CHARS]


def _error_text(fields: dict[str, Any]) -> str | None:
    # The hooks answer {"error": "…"}; a gateway that is restarting {"error": {"message": "…"}}.
    error = fields.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
