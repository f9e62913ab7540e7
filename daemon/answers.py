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
# The gateway keeps the end of a run for 300 s, and until then gives it again to the same call (OpenClaw 2026.9).
REPLAY_S = 310.0
CROWDED_S = 15.0
MAX_UPTIME_MS = 1e15  # 30,000 years; JSON knows larger numbers, which no float holds


class Verdict(Enum):
    """What a client does about an answer."""

    ACCEPTED = "accepted"  # complete the job
    REJECTED = "rejected"  # this payload is wrong: fail the job for good
    MISCONFIGURED = "misconfigured"  # pause deliveries and say the remedy; spends no attempt
    UNAVAILABLE = "unavailable"  # starting, draining or away: retry; spends no attempt
    FAILED = "failed"  # a hook or a turn failed: spends an attempt, retry later
    ROUTE_REFUSED = "route refused"  # the route or openclaw.json is wrong: say the remedy, try later; spends no attempt
    POSTPONED = "postponed"  # nothing is wrong, but not now: release, due after retry_after_s; spends no attempt


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway's answer to one call, after its short retries.

    `detail` is at most 300 printable characters on one line, never with the token; `posts` counts the tries;
    `event_outcome` is the gateway's `queued` or `coalesced`, and `completion` says how an agent's run ended: `ok`,
    `error`, `skipped`. `may_be_taken` says that the gateway may have it though nobody heard so.
    """

    verdict: Verdict
    status: int | None = None
    detail: str = ""
    retry_after_s: float | None = None
    event_outcome: str | None = None
    posts: int = 1
    run_id: str | None = None
    completion: str | None = None
    may_be_taken: bool = False

    @property
    def blames_the_job(self) -> bool:
        """Whether it would cost the job an attempt, or all, though it may be the answer to anything."""
        is_refusal = self.verdict in {Verdict.REJECTED, Verdict.FAILED}
        return is_refusal and self.status is not None and self.completion is None


_VERDICTS = {
    **dict.fromkeys((400, 413, 422), Verdict.REJECTED),
    **dict.fromkeys((401, 403, 404, 405, 407, 410, 429), Verdict.MISCONFIGURED),
    **dict.fromkeys((408, 409, 425, 502, 503, 504), Verdict.UNAVAILABLE),
}
# How a 400 begins that speaks of what a route sets, or openclaw.json; any other is about the text (OpenClaw 2026.9.6).
_OF_THE_ROUTE = (
    "unknown agentid", "agentid", "sessionkey", "sessionmode", "channel", "to must", "accountid", "model", "thinking",
    "timeoutseconds", "waitforcompletion", "hooks.",
)  # fmt: skip
_NO_ADMISSION = "admission timeout"
_HOPELESS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, aiohttp.ClientSSLError)
_VERDICTS_BY_CLASS = {2: Verdict.ACCEPTED, 3: Verdict.MISCONFIGURED}


def verdict_of(status: int) -> Verdict:
    """Judge an HTTP status; an undocumented one spends an attempt, as it may be the job's fault."""
    return _VERDICTS.get(status) or _VERDICTS_BY_CLASS.get(status // 100, Verdict.FAILED)


def answered(status: int, body: bytes, retry_after: str | None, *, token: str, now: datetime) -> Answer:
    """Turn a whole HTTP answer into an `Answer`; the gateway's errors are often plain text."""
    text = body.decode(errors="replace")
    fields = _json_object(text)
    completion = _completion(fields, token)
    verdict = _judge(status, fields, _error_text(fields) or text, completion)
    outcome, run_id = fields.get("eventOutcome"), fields.get("runId")
    answer = Answer(
        verdict,
        status,
        detail="" if verdict is Verdict.ACCEPTED else excerpt(_error_text(fields) or text, token),
        retry_after_s=retry_after_s(retry_after, now),
        event_outcome=excerpt(outcome, token) if isinstance(outcome, str) else None,
        run_id=excerpt(run_id, token) if isinstance(run_id, str) else None,
        completion=completion,
    )
    return _with_patience(answer)


def _judge(status: int, fields: dict[str, Any], error: str, completion: str | None) -> Verdict:
    verdict, error = verdict_of(status), error.lower()
    if verdict is Verdict.ACCEPTED and fields.get("ok") is not True:
        return Verdict.MISCONFIGURED  # some other server, which would swallow every event with its 200
    if verdict is Verdict.ACCEPTED and completion not in {None, "ok"}:
        return Verdict.FAILED
    if status == HTTPStatus.BAD_REQUEST and error.lstrip().startswith(_OF_THE_ROUTE):
        return Verdict.ROUTE_REFUSED
    if status == HTTPStatus.SERVICE_UNAVAILABLE and _NO_ADMISSION in error:
        return Verdict.POSTPONED  # the gateway is well: its lanes, or the session's earlier run, are busy
    return verdict


def _with_patience(answer: Answer) -> Answer:
    """Say when a retry can have another answer at the earliest."""
    if answer.verdict is Verdict.FAILED and answer.completion is not None:
        detail = f"the agent's run ended with {answer.completion}"
        return replace(answer, detail=detail, retry_after_s=max(REPLAY_S, answer.retry_after_s or 0))
    if answer.verdict is Verdict.POSTPONED:
        return replace(answer, retry_after_s=max(CROWDED_S, answer.retry_after_s or 0))
    return answer


def unanswered(error: Exception, *, token: str, awaited_s: float | None = None) -> Answer:
    """Turn a transport's error into an `Answer`: away, unless no retry can heal it (the URL, TLS).

    Where the end of a run was awaited for `awaited_s` seconds, a time-out is that run's fault and spends an attempt:
    else one that hangs would be begun for ever.
    """
    is_late = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
    if is_late and awaited_s is not None:
        return Answer(Verdict.FAILED, detail=f"no completion within {awaited_s:g} s", may_be_taken=True)
    verdict = Verdict.MISCONFIGURED if isinstance(error, _HOPELESS) else Verdict.UNAVAILABLE
    was_sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)
    return Answer(verdict, detail=excerpt(_in_words(error), token), may_be_taken=was_sent)


def hung_up() -> Answer:
    """Return what is known of a call that this daemon gave up because it stops."""
    return Answer(Verdict.POSTPONED, detail="the daemon stops")


def held_back(reason: str) -> Answer:
    """Return what there is to say of a call that was not made."""
    return Answer(Verdict.POSTPONED, detail=reason, posts=0)


def uptime_s(body: bytes) -> float | None:
    """Read the age of the gateway's process, in seconds, off the answer to `/readyz`."""
    uptime_ms = _json_object(body.decode(errors="replace")).get("uptimeMs")
    if isinstance(uptime_ms, bool) or not isinstance(uptime_ms, int | float) or not 0 <= uptime_ms < MAX_UPTIME_MS:
        return None
    return uptime_ms / 1000


def _in_words(error: Exception) -> str:
    number = error.os_error.errno if isinstance(error, aiohttp.ClientConnectorError) else None
    if number is not None and number in errno.errorcode:  # aiohttp's own words speak of ssl also where there is none
        return os.strerror(number).lower()
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def probed(answer: Answer) -> Answer:
    """Judge the answer to an empty wake: `text required` is said only after token and path were right."""
    if answer.verdict in {Verdict.ACCEPTED, Verdict.FAILED}:
        return replace(answer, verdict=Verdict.MISCONFIGURED)
    if answer.verdict not in {Verdict.REJECTED, Verdict.ROUTE_REFUSED}:
        return answer
    right = answer.status == HTTPStatus.BAD_REQUEST and "text required" in answer.detail.lower()
    return replace(answer, verdict=Verdict.ACCEPTED if right else Verdict.MISCONFIGURED)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read Retry-After, seconds or an HTTP date (RFC 9110, 10.2.3), as 0 to 3600 seconds from `now`."""
    if header is None:
        return None
    value = header.strip()
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
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:DETAIL_CHARS]


def _completion(fields: dict[str, Any], token: str) -> str | None:
    """Return how a run ended; an end without a status is one that we do not understand."""
    completion = fields.get("completion")
    if not isinstance(completion, dict):
        return None
    status = completion.get("status")
    return excerpt(status, token) if isinstance(status, str) else "no status"


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
